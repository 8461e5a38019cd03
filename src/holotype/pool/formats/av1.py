"""The size of the frames in an AVIF, which its decoder goes by, whatever the boxes around them claim."""

import re

_AV01 = re.compile(rb"infe\x02...(..)..av01", re.DOTALL)
_MOST_ITEMS, _MOST_EXTENTS, _MOST_UNITS = 4096, 10_000, 1000
_SEQUENCE_HEADER = 1


class _Bytes:
    """Whole numbers of some bytes, one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def number(self, size: int) -> int:
        self.at += size
        if self.at > len(self.data):
            raise ValueError("it ends too early")
        return int.from_bytes(self.data[self.at - size : self.at], "big")


def largest_frame(data: bytes, meta: bytes) -> tuple[int, int] | None:
    """Return width and height of the largest frame, by the sequence header of each; None where that cannot be told.

    `meta` is the content of the box that says where the frames are.
    """
    found = [_size(piece) for piece in _pieces(data, meta)]
    return None if None in found else max((size for size in found if size), key=_area, default=None)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _pieces(data: bytes, meta: bytes) -> list[bytes]:
    """The coded data of each picture: of the image, its transparency, its thumbnails and tiles."""
    if meta.count(b"av01") > _MOST_ITEMS:
        return [b""]
    wanted = {int.from_bytes(name, "big") for name in _AV01.findall(meta)}
    start = meta.find(b"iloc")
    if start < 0 or not wanted or len(wanted) != meta.count(b"av01"):
        return [b""]
    reader = _Bytes(meta, start + 4)
    version = reader.number(4) >> 24
    sizes = reader.number(2)
    of_offset, of_length, of_base, of_index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    pieces: list[bytes] = []
    count = 0
    for _ in range(min(reader.number(4 if version == 2 else 2), _MOST_ITEMS)):
        name = reader.number(4 if version == 2 else 2)
        elsewhere = version > 0 and reader.number(2)
        elsewhere = reader.number(2) or elsewhere
        base = reader.number(of_base)
        extents: list[tuple[int, int]] = []
        many = reader.number(2)
        count += many
        if count > _MOST_EXTENTS:  # they may take no bytes, and then never end
            raise ValueError("it is in too many pieces")
        for _ in range(many):
            reader.number(of_index if version > 0 else 0)
            begin, length = base + reader.number(of_offset), reader.number(of_length)
            extents.append((begin, min(begin + length, len(data))))
        if name in wanted:
            repeated = sum(end - begin for begin, end in extents) > len(data)
            pieces.append(b"" if elsewhere or repeated else b"".join(data[begin:end] for begin, end in extents))
    return pieces if len(pieces) == len(wanted) else [b""]


def _size(piece: bytes) -> tuple[int, int] | None:
    """The largest size in the sequence headers of coded data; None without one, or for a film's."""
    sizes: list[tuple[int, int]] = []
    at = 0
    for _ in range(_MOST_UNITS):
        if at >= len(piece):
            return max(sizes, key=_area, default=None)
        kind, extended, sized = piece[at] >> 3 & 15, piece[at] >> 2 & 1, piece[at] >> 1 & 1
        at += 1 + extended
        length, at = _leb128(piece, at) if sized else (len(piece) - at, at)
        if kind == _SEQUENCE_HEADER:
            size = _still(piece[at : at + min(length, 16)])
            if size is None:
                return None
            sizes.append(size)
        at += length
    return None


def _leb128(piece: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        value |= (piece[at] & 0x7F) << 7 * place
        at += 1
        if not piece[at - 1] & 0x80:
            break
    return value, at


def _still(header: bytes) -> tuple[int, int] | None:
    """The size in a sequence header of the short form that pictures have; None for the long one."""
    bits = f"{int.from_bytes(header.ljust(16, bytes(1)), 'big'):0128b}"
    if bits[4] != "1":
        return None
    of_width, of_height = int(bits[10:14], 2) + 1, int(bits[14:18], 2) + 1
    width, height = bits[18 : 18 + of_width], bits[18 + of_width : 18 + of_width + of_height]
    return int(width, 2) + 1, int(height, 2) + 1
