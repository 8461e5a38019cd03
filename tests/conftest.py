"""Real JPEGs and real tars, small."""

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

Colour = tuple[int, int, int]
Jpeg = Callable[..., bytes]
MakeTar = Callable[..., Path]


def _jpeg(colour: Colour = (200, 30, 30), size: tuple[int, int] = (16, 12)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def jpeg() -> Jpeg:
    """`jpeg(colour, (width, height))` returns the bytes of a plain JPEG."""
    return _jpeg


@pytest.fixture
def make_tar(tmp_path: Path) -> MakeTar:
    """`make_tar([(name, bytes), ...], name, format=...)` writes an uncompressed tar and returns its path."""

    def make(
        members: Sequence[tuple[str, bytes]],
        name: str = "pool.tar",
        *,
        format: int = tarfile.GNU_FORMAT,  # noqa: A002
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w", format=format) as archive:
            for member, content in members:
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    return make
