"""GIF and BMP."""

import struct

from holotype.pool.formats.header import Header, Malformed

_MOST_BLOCKS = 2_000_000  # of a GIF before its first picture
_RUN_LENGTHS = frozenset([1, 2])  # how a BMP is compressed, if it is
_RUN_SECONDS = 1e-6  # for each byte of it: Pillow unpacks them in Python


def read_gif(data: bytes) -> Header:
    """Return the header of a GIF's first frame. Raises `Malformed`."""
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        at = 13 + _colours(flags)
        start, control = at, b""
        blocks = iter(range(_MOST_BLOCKS))  # those within blocks among them
        for _ in blocks:
            if data[at] == 0x2C:
                left, top, inner, tall = struct.unpack_from("<HHHH", data, at + 1)
                content = data[:start] + control + data[at:]
                size = max(width, left + inner), max(height, top + tall)
                return Header("GIF", *size, content, decoding=3, finishing=20, speed=20)
            if data[at] != 0x21:
                at += 1  # Pillow passes over what is no block, too
                continue
            end = at + 2
            while data[end] and next(blocks, None) is not None:
                end += 1 + data[end]
            end += 1
            control = data[at:end] if data[at + 1] == 0xF9 else control
            at = end
    except (struct.error, IndexError):
        raise Malformed("a GIF that ends before its first picture") from None
    raise Malformed(f"a GIF with more than {_MOST_BLOCKS:,} blocks before its first picture")


def _colours(flags: int) -> int:
    """Bytes of the table of colours that `flags` speak of."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def read_bmp(data: bytes) -> Header:
    """Return the header of a BMP. Raises `Malformed`."""
    try:
        (size,) = struct.unpack_from("<I", data, 14)
        width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
        packed = size > 12 and struct.unpack_from("<I", data, 30)[0] in _RUN_LENGTHS
    except struct.error:
        raise Malformed("a BMP that ends in its header") from None
    seconds = len(data) * _RUN_SECONDS if packed else 0
    return Header("BMP", abs(width), abs(height), data, decoding=4, finishing=16, speed=50, seconds=seconds)
