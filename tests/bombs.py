"""Small files that ask for much: of memory, of time, of a decoder that starts a program."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

from pictures import blurred, encoded
from PIL import Image


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def scans(side: int, count: int) -> bytes:
    """Return a progressive JPEG whose last scan comes `count` times."""
    data = encoded(Image.new("L", (side, side), 90), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def giant_jpeg(width: int, height: int, *, progressive: bool) -> bytes:
    """Return a JPEG that claims a size and holds the data of a small one."""
    data = bytearray(encoded(blurred(0), progressive=progressive))
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def chunks(count: int, kind: bytes) -> bytes:
    """Return a PNG with many chunks."""
    data = encoded(blurred(0), "PNG")
    return data[:33] + chunk(kind, b"a\0b" if kind == b"tEXt" else b"") * count + data[33:]


def frames(count: int) -> bytes:
    """Return a GIF of many frames."""
    data = encoded(Image.new("L", (64, 48)), "GIF")
    first = data.index(b",\0\0\0\0")
    return data[:first] + data[first:-1] * count + b";"


def gif_canvas() -> bytes:
    """Return a GIF of 35 bytes that claims 4 gigapixels."""
    screen = struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\0;"


def webp_canvas() -> bytes:
    """Return a WebP of 34 bytes that claims 268 megapixels."""
    return (
        b"RIFF"
        + struct.pack("<I", 26)
        + b"WEBPVP8X"
        + struct.pack("<I", 10)
        + b"\x02"
        + bytes(3)
        + b"\xff\x3f\0" * 2
        + bytes(4)
    )


def flat(format: str, side: int) -> bytes:  # noqa: A002
    """Return a picture of one value, `side` pixels square: little in a file, much in memory."""
    options: dict[str, dict[str, Any]] = {
        "AVIF": {"speed": 10},
        "PNG": {"compress_level": 1},
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    return encoded(Image.new("F" if format == "TIFF" else "L", (side, side)), format, **options.get(format, {}))


def huge_tile() -> bytes:
    """Return a TIFF of 64 x 48 pixels that lies in one tile of 4 gigapixels."""
    tags = {256: 64, 257: 48, 258: 8, 259: 5, 262: 1, 277: 1, 322: 65520, 323: 65520, 324: 8, 325: 4}
    entries = b"".join(struct.pack("<HHII", name, 4, 1, value) for name, value in tags.items())
    return b"II*\0" + struct.pack("<I", 12) + b"\x80\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def sparse(path: Path, size: int = 40 << 30) -> Path:
    """Make a file of `size` bytes that takes no room on the disk."""
    path.write_bytes(encoded(blurred(0)))
    os.truncate(path, size)
    return path
