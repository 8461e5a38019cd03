"""WebP: its chunks, without those that are not pixels or belong to a later frame."""

from holotype.pool.formats.header import Header, Malformed
from holotype.pool.formats.orientation import orientation_of

_MOST_CHUNKS = 200_000
_PIXELS = frozenset([b"VP8 ", b"VP8L", b"ALPH", b"ANIM"])
_ALPHA, _ANIMATION = 0x10, 0x02


def read_webp(data: bytes) -> Header:
    """Return the header of a WebP, or of the first frame of an animated one. Raises `Malformed`."""
    kept, exif, xmp, at = list[bytes](), b"", b"", 12
    width = height = 0
    animated = False
    stop = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    for _ in range(_MOST_CHUNKS):
        if at + 8 > stop:
            break
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        body = data[at + 8 : at + 8 + size]
        found = _dimensions(kind, body)
        width, height = max(width, found[0]), max(height, found[1])
        if kind == b"VP8X":
            kept.append(data[at : at + 8] + bytes([data[at + 8] & (_ALPHA | _ANIMATION)]) + data[at + 9 : end])
        elif kind in _PIXELS or (kind == b"ANMF" and not animated):
            kept.append(data[at:end])
            animated |= kind == b"ANMF"
        elif kind == b"EXIF":
            exif = exif or body
        elif kind == b"XMP ":
            xmp = xmp or body
        at = end
    else:
        raise Malformed(f"a WebP with more than {_MOST_CHUNKS:,} chunks")
    # what is cut must stay cut: the size is the one that was claimed, less what is left out
    claimed = int.from_bytes(data[4:8], "little") - (min(at, len(data)) - 12 - sum(map(len, kept)))
    content = b"".join([b"RIFF", max(claimed, 4).to_bytes(4, "little"), b"WEBP", *kept])
    # the decoder holds two canvases and a frame; Pillow a copy of it, and the picture
    return Header("WEBP", width, height, content, orientation_of(exif, xmp), decoding=20, finishing=16, speed=20)


def _dimensions(kind: bytes, body: bytes) -> tuple[int, int]:
    if kind == b"VP8X" and len(body) >= 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8 " and len(body) >= 10:
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    if kind == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return 0, 0
