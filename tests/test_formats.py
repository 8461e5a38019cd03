"""Which formats are read, decided by content; and that nothing else reaches a decoder, or starts a program."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import blurred, encoded
from PIL import Image

from holotype.errors import UnreadableImage
from holotype.pool.images import SUFFIXES, decode

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
OTHERS = {
    "eps": EPS,
    "eps with a preview": b"\xc5\xd0\xd3\xc6" + b"\x20\0\0\0" + len(EPS).to_bytes(4, "little") + bytes(20) + EPS,
    "pdf": b"%PDF-1.7\n1 0 obj\n",
    "psd": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\1\0\0\0\1\0\x08\0\3" + bytes(40),
    "fits": b"SIMPLE  =                    T".ljust(2880),
    "wmf": b"\xd7\xcd\xc6\x9a\0\0" + bytes(40),
    "emf": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(40),
    "ppm": encoded(blurred(0), "PPM"),
    "ico": encoded(blurred(0), "ICO"),
    "tga": encoded(blurred(0), "TGA"),
    "pcx": encoded(blurred(0), "PCX"),
    "sgi": encoded(blurred(0), "SGI"),
    "dds": encoded(blurred(0), "DDS"),
    "icns": encoded(blurred(0, (64, 64)), "ICNS"),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "mp4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
}
WATCHED = """
import sys
started = []
sys.addaudithook(lambda event, about: started.append(event) if event in ("subprocess.Popen", "os.system") else None)
from pathlib import Path
from holotype.errors import UnreadableImage
from holotype.pool.images import decode
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        decode(path, fit=64)
        print("decoded", path)
    except UnreadableImage as error:
        assert "not an image: it starts with" in str(error), error
print(started, sorted(name for name in sys.modules if name.startswith("PIL.") and name.endswith("ImagePlugin")))
"""


@pytest.mark.parametrize("name", OTHERS)
def test_another_format_is_refused(name: str) -> None:
    with pytest.raises(UnreadableImage, match=r"not an image: it starts with .*; expected JPEG, PNG, WebP"):
        decode(OTHERS[name])


def test_no_program_is_started_and_no_decoder_loaded(tmp_path: Path) -> None:
    images, programs = tmp_path / "images", tmp_path / "bin"
    images.mkdir()
    programs.mkdir()
    for number, data in enumerate(OTHERS.values()):
        (images / f"{number}.jpg").write_bytes(data)
    for name in ("gs", "gswin64c", "djpeg"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (programs / name).chmod(0o755)
    path = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-c", WATCHED, images], capture_output=True, text=True, env=path, check=True)
    assert done.stdout == "[] []\n"
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("format", ["JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("fit", [None, 48])
def test_what_is_read_whatever_it_is_called(tmp_path: Path, format: str, fit: int | None) -> None:  # noqa: A002
    (tmp_path / "a.jpg").write_bytes(encoded(blurred(2, (128, 96)), format))
    image = decode(tmp_path / "a.jpg", fit=fit)
    assert image.mode == "RGB"
    assert image.width >= 64


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_an_animation_the_first_picture(format: str) -> None:  # noqa: A002
    pictures = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue", "green")]
    data = encoded(pictures[0], format, save_all=True, append_images=pictures[1:])
    red, green, blue = decode(data).getpixel((9, 9))  # type: ignore[misc]
    assert red > 240
    assert green < 15
    assert blue < 15


def test_heic(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(blurred(2, (128, 96))).save(tmp_path / "a.heic")
    assert decode(tmp_path / "a.heic", fit=64).size == (128, 96)
    assert ".heic" not in Image.registered_extensions()


def test_heic_without_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(blurred(2)).save(buffer)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        UnreadableImage, match=r"needs pillow-heif, which is not installed: pip install 'holotype\[heif\]'"
    ):
        decode(buffer.getvalue())


def test_suffixes_of_the_same_formats() -> None:
    assert {".jpg", ".jpeg", ".jpe", ".jfif", ".heic", ".heif", ".tif", ".tiff", ".avif", ".jp2"} <= SUFFIXES
