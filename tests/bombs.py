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


def tiff(tags: dict[int, tuple[int, int, int | bytes]], body: bytes) -> bytes:
    """Return a TIFF of `body` at byte 8 and a directory: tag -> type, count, and value, or what lies elsewhere."""
    entries, beyond = b"", b""
    start = 8 + len(body) + 2 + 12 * len(tags) + 4
    for name, (kind, count, value) in sorted(tags.items()):
        place = start + len(beyond) if isinstance(value, bytes) else value
        beyond += value if isinstance(value, bytes) else b""
        entries += struct.pack("<HHII", name, kind, count, place)
    return b"".join(
        [b"II*\0", struct.pack("<I", 8 + len(body)), body, struct.pack("<H", len(tags)), entries, bytes(4), beyond]
    )


PLAIN = {256: (4, 1, 64), 257: (4, 1, 48), 258: (4, 1, 8), 259: (4, 1, 1), 262: (4, 1, 1), 273: (4, 1, 8)} | {
    277: (4, 1, 1),
    278: (4, 1, 48),
    279: (4, 1, 64 * 48),
}


def many_values(name: int, kind: int, size: int) -> bytes:
    """Return a TIFF whose tag `name` has `size` bytes."""
    return tiff({**PLAIN, name: (kind, size // {1: 1, 3: 2, 4: 4}[kind], bytes(size))}, bytes(64 * 48))


def shared_values(size: int) -> bytes:
    """Return a TIFF of 3,000 tags that all have the same `size` bytes."""
    return tiff({**PLAIN, **dict.fromkeys(range(1000, 4000), (1, size, 8))}, bytes(size))


def strips(count: int) -> bytes:
    """Return a TIFF of `count` strips of one pixel each."""
    places, lengths = struct.pack("<I", 8) * count, struct.pack("<I", 1) * count
    tall: dict[int, tuple[int, int, int | bytes]] = {
        256: (4, 1, 1),
        257: (4, 1, count),
        278: (4, 1, 1),
        273: (4, count, places),
        279: (4, count, lengths),
    }
    return tiff({**PLAIN, **tall}, bytes(64))


def runs(side: int) -> bytes:
    """Return a BMP of runs that are one pixel long."""
    body = (b"\1\5" * side + b"\0\0") * side
    head = struct.pack("<IHHI", 1078 + len(body), 0, 0, 1078)
    return (
        b"BM"
        + head
        + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
        + bytes(1024)
        + body
    )


def low_bits(side: int) -> bytes:
    """Return a PNG with 16 bits a colour, of which only the lower 8 hold anything."""
    row = b"\0" + b"\0\3" * 3 * side
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(row * side, 1)) + chunk(b"IEND", b"")


def broken_chunks(count: int) -> bytes:
    """Return a PNG of texts that claim to go beyond the file, before its pixels."""
    data = encoded(blurred(0), "PNG")
    one = struct.pack(">I", 0xFFFFFFF0) + b"tEXt" + bytes(4) + b"IDAT" + bytes(4)
    return data[:33] + one * count + bytes(3 << 20) + data[33:]


def exif_starts(count: int) -> bytes:
    """Return a PNG whose EXIF begins `count` times."""
    data = encoded(blurred(0), "PNG")
    return data[:33] + chunk(b"eXIf", b"Exif\0\0" * count) + data[33:]


def gif_blocks(count: int) -> bytes:
    """Return a GIF with a comment in `count` pieces of one letter."""
    data = encoded(blurred(0), "GIF")
    at = data.index(b",\0\0\0\0")
    return data[:at] + b"!\xfe" + b"\1a" * count + b"\0" + data[at:]


def hidden_scans(side: int, count: int) -> bytes:
    """Return a progressive JPEG with a mark that has no length before most of its scans."""
    data = scans(side, 70)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + b"\xff\x01\xff\xff" + scan * count + data[-2:]


def precincts(side: int, *, in_tile: bool) -> bytes:
    """Return a JPEG 2000 whose precincts are one pixel each, as it says at its start or in its only tile."""
    size = struct.pack(">HIIIIIIIIH", 0, side, side, 0, 0, side, side, 0, 0, 1) + b"\x07\1\1"
    coding = [b"\xff\x52\0\x0d" + bytes([own, 0, 0, 1, 0, 0, 4, 4, 0, 1]) + b"\0" * own for own in (0, 1)]
    coding = [one[:3] + bytes([len(one) - 2]) + one[4:] for one in coding]
    body = (coding[1] if in_tile else b"") + b"\xff\x93" + bytes(200)
    return b"".join(
        [
            b"\xff\x4f\xff\x51",
            struct.pack(">H", len(size) + 2) + size,
            coding[not in_tile],
            b"\xff\x5c\0\4\x40\x48",
            b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 12 + len(body), 0, 1),
            body + b"\xff\xd9",
        ]
    )


def extents(count: int) -> bytes:
    """Return an AVIF whose picture is put together from the whole file, `count` times."""
    data = encoded(blurred(0), "AVIF")
    at = data.index(b"iloc") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    one = struct.pack(">BBHHHH", 0x44, 0, 1, 1, 0, count) + struct.pack(">II", 0, 0x7FFFFFFF) * count
    made = data[:at] + struct.pack(">I", 12 + len(one)) + b"iloc" + bytes(4) + one + data[at + size :]
    meta = made.index(b"meta") - 4
    long = int.from_bytes(made[meta : meta + 4], "big") + 12 + len(one) - size
    return made[:meta] + struct.pack(">I", long) + made[meta + 4 :] + bytes(1 << 20)


def behind_pixels(count: int) -> bytes:
    """Return a black PNG with `count` megabytes more than its pixels need, packed."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 0, 0, 0, 0))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = b"\x78\x9c" + megabyte * count
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def avif_boxes(items: int = 16, of_each: int = 65_535, sizes: int = 1) -> bytes:
    """Return an AVIF of `items` pictures, each in so many pieces of no bytes, and of as many `sizes`."""
    size = b"ispe" + struct.pack(">III", 0, 64, 64)
    where = b"iloc" + struct.pack(">IHH", 0, 0, items) + struct.pack(">HHH", 2, 0, of_each) * items
    body = bytes(4) + b"infe\x02\0\0\0\0\1\0\0av01" + size * sizes + where
    kinds = b"ftypavif\0\0\0\0avifmif1"
    return struct.pack(">I", len(kinds) + 4) + kinds + struct.pack(">I", len(body) + 8) + b"meta" + body


def repeated_tag(count: int, megabytes: int) -> bytes:
    """Return a TIFF that has one tag, as large as the file, `count` times."""
    size = megabytes << 20
    return b"II*\0" + struct.pack("<IH", 8, count) + struct.pack("<HHII", 700, 12, size // 8, 8) * count + bytes(size)
