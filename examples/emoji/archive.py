"""`images.tar`: written as a stream, the same bytes each time, and whole or not there."""

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path


def write_tar(path: Path, jpegs: Iterable[bytes]) -> None:
    """Write the k-th JPEG as member `<k>.jpg`, k = 0, 1, 2...; one is in memory at a time."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for index, jpeg in enumerate(jpegs):
                    member = tarfile.TarInfo(f"{index}.jpg")  # its owner and time are zero
                    member.size = len(jpeg)
                    tar.addfile(member, io.BytesIO(jpeg))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
