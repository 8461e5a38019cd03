"""Contact sheets of images of a pool, as PNG."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from holotype import files
from holotype.errors import UnreadableImage
from holotype.pool.drawn import PICTURE_MARK
from holotype.pool.images import contact_sheet, decode
from holotype.pool.pool import Pool

_SIDE = 128


def write_sheet(pool: Pool, rows: Iterable[int], path: Path) -> None:
    """Write the images of `rows` as one PNG, marked as drawn here; one that cannot be read leaves a grey cell.

    Raises `OutputError` when it cannot be written.
    """
    images = [_picture(pool, row) for row in rows]
    mark = PngInfo()
    for key, text in PICTURE_MARK.items():
        mark.add_text(key, text)
    files.write(path, lambda file: contact_sheet(images).save(file, "PNG", pnginfo=mark))


def _picture(pool: Pool, row: int) -> Image.Image:
    try:
        return decode(pool.read(row), fit=_SIDE)
    except UnreadableImage:
        return Image.new("RGB", (_SIDE, _SIDE), "grey")
