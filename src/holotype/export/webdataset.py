"""Images as the shards of a webdataset: tars with the image, the number of its class, and what is known of it."""

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from holotype import files
from holotype.export.images import ExportedImage, ExportedImages
from holotype.export.tables import without_nulls

CLASSES = "classes.txt"  # one a line: line 0 is the class with the number 0
_DIGITS = 9  # of a key: keys are numbers, so they have no dots, and are in order
_BLOCK = tarfile.BLOCKSIZE


def write_webdataset(folder: Path, images: ExportedImages, most_images: int, most_bytes: int) -> None:
    """Fill `folder` with `pool-000000.tar` and so on, in the order of the pool, which says nothing of the classes.

    Each sample is `KEY.jpg` (or as the image's file ends) with the bytes of the image, `KEY.cls` with the number of its
    class and `KEY.json` with what is known of it. The key is a number: the id of the image is in the JSON.

    most_images, most_bytes   of a shard; a sample that is larger alone has a shard of its own

    Raises `OutputError`.
    """
    numbers = {name: number for number, name in enumerate(images.selected.classes)}
    with ExitStack() as stack:
        shard, count, size, shards = _open(stack, folder, 0), 0, 0, 1
        for key, (image, content) in enumerate(images.contents()):
            members = list(_members(image, content, numbers[image.label]))
            more = sum(_BLOCK + -(-len(data) // _BLOCK) * _BLOCK for _, data in members)
            if count and (count == most_images or size + more > most_bytes):
                stack.pop_all().close()
                shard, count, size, shards = _open(stack, folder, shards), 0, 0, shards + 1
            for suffix, data in members:
                info = tarfile.TarInfo(f"{key:0{_DIGITS}}{suffix}")  # of no time and no owner: the same each time
                info.size = len(data)
                shard.addfile(info, io.BytesIO(data))
            count, size = count + 1, size + more
    images.write_left_out(folder)
    files.write(folder / CLASSES, "".join(f"{name}\n" for name in images.selected.classes))


def _open(stack: ExitStack, folder: Path, number: int) -> tarfile.TarFile:
    return stack.enter_context(tarfile.open(folder / f"pool-{number:06}.tar", "w", format=tarfile.USTAR_FORMAT))


def _members(image: ExportedImage, content: bytes, number: int) -> Iterator[tuple[str, bytes]]:
    yield image.suffix, content
    yield ".cls", str(number).encode()
    yield ".json", json.dumps(without_nulls(image.about), ensure_ascii=False).encode(errors="backslashreplace")
