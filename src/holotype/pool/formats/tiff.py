"""TIFF: its first directory, written anew with the tags that pixels need."""

import struct
from dataclasses import dataclass
from typing import ClassVar

from holotype.pool.formats.header import LOW_BITS, Header, Malformed
from holotype.pool.formats.orientation import TAG as ORIENTATION
from holotype.pool.formats.orientation import orientation_of

WIDTH, HEIGHT, BITS, PHOTOMETRIC, OFFSETS, SAMPLES, ROWS = 256, 257, 258, 262, 273, 277, 278
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, SAMPLE_FORMAT = 322, 323, 324, 339
XMP, NODATA = 700, 42113
_ONE_VALUE = frozenset(
    [WIDTH, HEIGHT, 259, PHOTOMETRIC, 266, SAMPLES, ROWS, 284, 292, 293, 317, 322, 323, 512, 513, 514]
)
_PIXELS = _ONE_VALUE | {BITS, OFFSETS, 279, 320, TILE_OFFSETS, 325, 332, 338, SAMPLE_FORMAT, 347, *range(515, 533)}
_READ = _PIXELS | {ORIENTATION, XMP, NODATA}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
_MOST_TAGS = 4096
_PIECES = frozenset([OFFSETS, 279, TILE_OFFSETS, 325])  # places and lengths of strips and tiles
_MOST_VALUES = 1 << 20  # of any other tag
_PIECE_SECONDS = 1e-5
_UNSIGNED, _SIGNED = 1, 2


@dataclass(frozen=True)
class _Layout:
    """How a directory is written: TIFF, or BigTIFF."""

    order: str
    big: bool

    COUNTS: ClassVar[dict[bool, tuple[str, str, int]]] = {False: ("H", "I", 4), True: ("Q", "Q", 8)}

    @property
    def tags(self) -> struct.Struct:
        return struct.Struct(self.order + self.COUNTS[self.big][0])

    @property
    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + self.COUNTS[self.big][1])

    @property
    def entry(self) -> struct.Struct:
        _, count, room = self.COUNTS[self.big]
        return struct.Struct(f"{self.order}HH{count}{room}s")

    @property
    def first(self) -> int:
        """Where the place of the first directory stands."""
        return 8 if self.big else 4


@dataclass(frozen=True)
class _Tag:
    kind: int
    count: int
    value: bytes  # as it stands in the directory: the value, or where it is
    data: bytes  # the value, as far as it is looked at


def read_tiff(data: bytes) -> Header:
    """Return the header of a TIFF's first page. Raises `Malformed`."""
    layout = _Layout("<" if data.startswith(b"II") else ">", data[2:4] in (b"+\0", b"\0+"))
    tags = _read(data, layout)
    numbers = {name: _numbers(tags.get(name), layout) for name in (*_ONE_VALUE, BITS, SAMPLE_FORMAT)}
    width, height = (numbers[name][0] if numbers[name] else 0 for name in (WIDTH, HEIGHT))
    bits, samples = max(numbers[BITS], default=1), max(numbers[SAMPLES], default=1)
    block = max(numbers[TILE_WIDTH], default=0) * max(numbers[TILE_HEIGHT], default=0)
    pieces = max(tags[name].count if name in tags else 0 for name in _PIECES)
    deep = bits > 8
    turned = _numbers(tags.get(ORIENTATION), layout)
    xmp = tags[XMP].data if XMP in tags else b""
    unsigned = bits == 32 and _UNSIGNED in (numbers[SAMPLE_FORMAT] or [_UNSIGNED])
    return Header(
        "TIFF",
        width,
        height,
        _written(data, tags, layout, unsigned=unsigned),
        turned[0] if turned and 1 <= turned[0] <= 8 else orientation_of(b"", xmp),
        decoding=4 + bits / 8 * samples + (LOW_BITS if bits == 16 and samples >= 3 else 0),
        finishing=8 if deep else 16,
        held=round(block * samples * bits / 8) + 200 * pieces,
        speed=20,
        seconds=_PIECE_SECONDS * pieces,
        unsigned=unsigned,
        nodata=_nodata(tags),
    )


def _read(data: bytes, layout: _Layout) -> dict[int, _Tag]:
    """Read the tags of the first directory; those whose values lie outside of the file are left out."""
    tags: dict[int, _Tag] = {}
    try:
        (at,) = layout.offset.unpack_from(data, layout.first)
        (count,) = layout.tags.unpack_from(data, at)
        at += layout.tags.size
        for number in range(min(count, _MOST_TAGS)):
            name, kind, many, value = layout.entry.unpack_from(data, at + number * layout.entry.size)
            if name in tags:
                continue  # the first counts, and each may be as large as the file
            size = _SIZES.get(kind, 1) * many
            start = layout.offset.unpack(value)[0] if size > len(value) else 0
            if name in _PIECES:
                wanted, known = True, 0
            else:
                wanted, known = name in _READ and many <= _MOST_VALUES, size
            if wanted and start + size <= len(data):
                tags[name] = _Tag(kind, many, value, data[start : start + known] if start else value[:size])
    except struct.error:
        if not tags:
            raise Malformed("a TIFF whose directory is not there") from None
    return tags


def _numbers(tag: _Tag | None, layout: _Layout) -> list[int]:
    """The first few whole numbers of a tag."""
    if tag is None or tag.kind not in _WHOLE:
        return []
    many = min(tag.count, 16, len(tag.data) // _SIZES[tag.kind])
    return list(struct.unpack_from(f"{layout.order}{many}{_WHOLE[tag.kind]}", tag.data))


def _written(data: bytes, tags: dict[int, _Tag], layout: _Layout, *, unsigned: bool) -> bytes:
    """The file with a new first directory at its end, the values of the others where they were."""
    entries = []
    for name in sorted(tags.keys() & _PIXELS):
        tag = tags[name]
        one = _numbers(tag, layout)
        if name == SAMPLE_FORMAT and unsigned:
            continue
        if name in _ONE_VALUE and tag.count != 1 and one:
            room = layout.entry.size - 4 - layout.offset.size
            entries.append(layout.entry.pack(name, tag.kind, 1, tag.data[: _SIZES[tag.kind]].ljust(room, b"\0")))
        else:
            entries.append(layout.entry.pack(name, tag.kind, tag.count, tag.value))
    if unsigned:  # Pillow knows 32 bits with a sign in both byte orders; `deep` takes the sign away again
        room = layout.entry.size - 4 - layout.offset.size
        value = struct.pack(f"{layout.order}H", _SIGNED).ljust(room, b"\0")
        entries.append(layout.entry.pack(SAMPLE_FORMAT, 3, 1, value))
        entries.sort(key=lambda entry: layout.entry.unpack(entry)[0])
    at = len(data) + len(data) % 2
    directory = layout.tags.pack(len(entries)) + b"".join(entries) + layout.offset.pack(0)
    head = data[: layout.first] + layout.offset.pack(at)
    return b"".join([head, memoryview(data)[len(head) :], b"\0" * (len(data) % 2), directory])


def _nodata(tags: dict[int, _Tag]) -> float | None:
    """What GDAL writes where nothing was measured."""
    try:
        return float(tags[NODATA].data.strip(b"\0 ")) if NODATA in tags else None
    except ValueError:
        return None
