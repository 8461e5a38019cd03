"""Files made of boxes: JPEG 2000, AVIF and HEIF."""

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from holotype.pool.formats.av1 import largest_frame
from holotype.pool.formats.header import Header, Malformed

_MOST_BOXES = 10_000
_CODESTREAM = b"\xff\x4f\xff\x51"
_JP2_PIXELS = frozenset([b"ihdr", b"bpcc", b"colr", b"pclr", b"cmap", b"cdef"])
_SIZE = re.compile(rb"ispe....(....)(....)", re.DOTALL)
_METADATA = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))(?:Exif|mime)", re.DOTALL)
# How pixels are coded where that names the size of precincts: of one pixel each, they take 500 times its memory.
_PRECINCTS = re.compile(rb"\xff\x52\0[\x0c-\x2d][\x01\x03\x05\x07]|\xff\x53\0[\x09-\x2d].{1,2}\x01", re.DOTALL)
_MOST_SEGMENTS = 10_000  # before the first tile
_FILMS = frozenset([b"avis", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs"])


def _boxes(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield kind, start, start of the content, and end of each box; one that is too long ends where the file does."""
    for _ in range(_MOST_BOXES):
        if at + 8 > stop:
            return
        size, kind, body = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, body = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = stop if size == 0 else at + max(size, body - at)
        yield kind, at, body, min(end, stop)
        at = end


def read_jpeg2000(data: bytes) -> Header:
    """Return the header of a JPEG 2000 file or bare codestream. Raises `Malformed`."""
    start = data.find(_CODESTREAM)
    try:
        if start < 0:
            raise Malformed("a JPEG 2000 without a codestream")
        right, low, left, top, across, down = struct.unpack_from(">6I", data, start + 8)
        (components,) = struct.unpack_from(">H", data, start + 40)
        deep = components == 1 and (data[start + 42] & 0x7F) >= 8
    except (struct.error, IndexError):
        raise Malformed("a JPEG 2000 that ends in its header") from None
    width, height = max(right - left, 0), max(low - top, 0)
    head, claimed = _jp2_head(data, start)
    # a whole picture's coefficients and samples, and a tile's once more; Pillow's copy
    return Header(
        "JPEG2000",
        max(width, claimed[0]),
        max(height, claimed[1]),
        head + data[start:],
        decoding=9 * components + 4,
        finishing=8 if deep else 16,
        held=400 * max(components, 1) * _tiles(width, height, across, down),
        speed=3 / max(components / 3, 1),
        levels=_levels(data, start),
        certain=_PRECINCTS.search(data, start) is None,
    )


def _jp2_head(data: bytes, start: int) -> tuple[bytes, tuple[int, int]]:
    """What stands before the codestream, without metadata, and the size that it claims."""
    kept: list[bytes] = []
    size = (0, 0)
    for kind, at, body, end in _boxes(data, 0, start):
        if kind in (b"jP  ", b"ftyp"):
            kept.append(data[at:end])
        elif kind == b"jp2h":
            if any(piece[4:8] == kind for piece in kept):
                continue  # it has one, and the first counts
            inner = [box for box in _boxes(data, body, end) if box[0] in _JP2_PIXELS]
            for name, _, place, _ in inner:
                if name == b"ihdr" and len(data) >= place + 8:
                    height, width = struct.unpack_from(">II", data, place)
                    size = max(size[0], width), max(size[1], height)
            content = b"".join(data[box[1] : box[3]] for box in inner)
            kept.append((8 + len(content)).to_bytes(4, "big") + b"jp2h" + content)
    return (b"".join([*kept, b"\0\0\0\0jp2c"]) if kept else b""), size


def _tiles(width: int, height: int, across: int, down: int) -> int:
    return min(-(-width // max(across, 1)) * -(-height // max(down, 1)), 65535)


def _levels(data: bytes, start: int) -> int:
    """How often the wavelets halve the picture."""
    at = start + 2
    for _ in range(_MOST_SEGMENTS):
        if data[at : at + 1] != b"\xff" or data[at + 1] == 0x90 or at + 10 > len(data):
            return 0
        if data[at + 1] == 0x52:
            return min(data[at + 9], 32)
        at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    return 0


def read_avif(data: bytes) -> Header:
    """Return the header of an AVIF. Raises `Malformed`.

    Which way up it is, its boxes say, and Pillow gives it as EXIF.
    """
    header, meta = _coded(data, "AVIF")
    try:
        frame = largest_frame(data, meta)
    except (ValueError, IndexError):
        frame = None
    if frame is None:
        return replace(header, certain=False)
    return replace(header, width=max(frame[0], header.width), height=max(frame[1], header.height))


def read_heif(data: bytes) -> Header:
    """Return the header of a HEIF (.heic). Raises `Malformed`. Its decoder goes by the boxes, and turns it upright."""
    return _coded(data, "HEIF")[0]


def _coded(data: bytes, name: str) -> tuple[Header, bytes]:
    """The header by the boxes, and the box that describes the pictures."""
    start, end = next(((body, end) for kind, _, body, end in _boxes(data, 0, len(data)) if kind == b"meta"), (0, 0))
    meta = data[start:end]
    found = list(islice(_SIZE.finditer(meta), _MOST_BOXES + 1))
    if len(found) > _MOST_BOXES:
        raise Malformed(f"a file of {name} with more than {_MOST_BOXES:,} sizes")
    sizes = [(int.from_bytes(one[1], "big"), int.from_bytes(one[2], "big")) for one in found]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(1, 1))
    film = bool(brands(data) & _FILMS)
    if not sizes and not film:
        raise Malformed(f"a file of {name} that does not say how large it is")
    plain = _METADATA.sub(rb"\1skip", meta)
    content = data if plain == meta else b"".join([data[:start], plain, data[end:]])
    return Header(name, width, height, content, decoding=24, speed=10, certain=not film), meta


def brands(data: bytes) -> set[bytes]:
    """Return what kinds of file it says to be: the brands of its first box."""
    end = min(int.from_bytes(data[:4], "big"), len(data), 1024)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))} if data[4:8] == b"ftyp" else set()
