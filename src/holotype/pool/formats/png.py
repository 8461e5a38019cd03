"""PNG: its chunks, without those that are not pixels."""

import re
import struct
import zlib
from contextlib import suppress

from holotype.pool.formats.header import LOW_BITS, Header, Malformed
from holotype.pool.formats.orientation import orientation_of

_MOST_CHUNKS = 200_000
_PIXELS = frozenset([b"PLTE", b"tRNS", b"IDAT", b"IEND"])
_NEXT_PIXELS = re.compile(b"PLTE|IDAT")
_TEXTS = frozenset([b"tEXt", b"zTXt", b"iTXt"])
_LONGEST_TEXT = 1 << 20
_MOST_TEXT = 16 << 20  # of all texts that are looked at
_COLOURS = {0: (1, 4), 2: (4, 0), 3: (1, 4), 4: (4, 16), 6: (4, 16)}  # colour type -> bytes for decoding, finishing
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> values of a pixel
# of an interlaced picture: where the pixels of each pass begin, and how far they are apart, across and down
_PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
_AT_ONCE = 1 << 18  # bytes that are unpacked
_COLOURED = frozenset([2, 6])
_XMP, _RAW_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"


def read_png(data: bytes) -> Header:
    """Return the header of a PNG, or of the first picture of an animated one. Raises `Malformed`."""
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise Malformed("a PNG that does not begin with its header")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    kept, exif, texts = [data[:33]], b"", dict[bytes, bytes]()
    transparent, looked_at = False, 0
    run = at = 33  # what lies between `run` and `at` is kept, and not copied yet
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            break
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4], "big")
        if kind in _PIXELS:
            transparent |= kind == b"tRNS"
        else:
            kept.append(data[run:at])
            if kind == b"eXIf":
                exif = exif or data[at + 8 : end - 4]
            elif kind in _TEXTS and looked_at < _MOST_TEXT:
                looked_at += _LONGEST_TEXT
                texts |= _text(kind, data[at + 8 : min(end - 4, at + 8 + _LONGEST_TEXT)])
            run = end = _end_of_metadata(data, at, end)
        at = end
        if kind == b"IEND":
            break
    else:
        raise Malformed(f"a PNG with more than {_MOST_CHUNKS:,} chunks")
    kept.append(data[run:at])
    decoding, finishing = _COLOURS.get(colour, (4, 16))
    if depth == 16:
        decoding = 2 * decoding + (LOW_BITS if colour in _COLOURED else 0)
        finishing = max(finishing, 8)  # RGB, of numbers of more than 8 bits
    return Header(
        "PNG",
        width,
        height,
        b"".join(kept),
        orientation_of(exif or _raw_profile(texts.get(_RAW_EXIF, b"")), texts.get(_XMP, b"")),
        decoding,
        finishing=16 if transparent else finishing,
        speed=30,
    )


def lacks_rows(content: bytes) -> bool:
    """Whether the pixels in the content of a header are fewer than it says; decoders make black of what is missing."""
    width, height, depth, colour = struct.unpack_from(">IIBB", content, 16)
    bits = depth * _CHANNELS.get(colour, 1)
    needed = 0
    for left, top, across, down in _PASSES if content[28] else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        needed += (1 + -(-columns * bits // 8)) * rows if columns > 0 < rows else 0
    unpacked, inflater, at = 0, zlib.decompressobj(), 33
    while at + 8 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        stop = min(end - 4, len(content)) if content[at + 4 : at + 8] == b"IDAT" else 0
        for place in range(at + 8, stop, _AT_ONCE):
            rest = content[place : min(place + _AT_ONCE, stop)]
            while rest and not inflater.eof:
                unpacked += len(inflater.decompress(rest, _AT_ONCE))
                if unpacked >= needed:  # what is behind the pixels may be without end
                    return False
                rest = inflater.unconsumed_tail
        at = end
    return unpacked + len(inflater.flush()) < needed


def _end_of_metadata(data: bytes, at: int, end: int) -> int:
    """The end that the chunk claims; the next chunk of pixels where that is beyond the file's."""
    if end <= len(data):
        return end
    found = _NEXT_PIXELS.search(data, at + 12)  # the nearest, so that no part of the file is gone through twice
    return found.start() - 4 if found else len(data)


def _text(kind: bytes, body: bytes) -> dict[bytes, bytes]:
    """Keyword -> text, for the two texts that may say which way up the picture is."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in (_XMP, _RAW_EXIF):
        return {}
    packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
    text = rest[1:] if kind == b"zTXt" else rest
    if kind == b"iTXt":
        text = rest[2:].split(b"\0", 2)[-1]
    if packed:
        with suppress(zlib.error):
            return {keyword: zlib.decompressobj().decompress(text, _LONGEST_TEXT)}
        return {}
    return {keyword: text}


def _raw_profile(text: bytes) -> bytes:
    """EXIF as ImageMagick writes it: a name, a length, and lines of hexadecimal digits."""
    with suppress(ValueError):
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    return b""
