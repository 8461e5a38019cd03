"""The file beside a database that holds what is not in it yet (SQLite's -wal): whether all of it is whole.

SQLite reads it up to the first frame whose checksum is wrong and takes the rest for what was never finished. That is
right after a cut of the power, and wrong where a byte was damaged: answers that were confirmed would be gone without a
word. What was confirmed is known from two places: SQLite's index of the file (-shm), which stays after a kill, and
acts behind the damage, as each is synced before the next begins. Where neither says anything, the last act may have
been confirmed or not; nobody can tell.

https://www.sqlite.org/fileformat2.html#walformat, https://www.sqlite.org/walformat.html
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from holotype.answers.moment import read_beside

_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_MAGIC, _VERSION = 0x377F0682, 3007000  # the last bit says in which order checksums take bytes
_MASK = 0xFFFFFFFF
_INDEX = 48  # bytes of the head of a -shm, which is there twice
_PAGE = 4096
_SIZE = slice(28, 32)  # of the first page: how many pages there are


@dataclass(frozen=True)
class Doubt:
    """What is wrong with a -wal; `sure` unless what is lost may never have been confirmed."""

    what: str
    sure: bool


def doubt(database: Path) -> Doubt | None:
    """Say what is wrong with what `database` has beside it; None where all is whole.

    What another process writes right now is whole when it is looked at again.
    """
    return (_doubt(database) and _doubt(database)) or None


def _doubt(database: Path) -> Doubt | None:
    index = _read_index(database)  # first: it only grows
    content = read_beside(database, "-wal")
    confirmed = 0 if index is None else index.frames
    if len(content) < _HEADER.size:
        missing = index is not None and index.frames > index.copied
        return Doubt(f"its end is missing ({confirmed} pages)", sure=True) if missing else None
    log = _Log.read(content)
    if log is None:
        return Doubt("its head is damaged", sure=True) if len(content) > _HEADER.size + _FRAME.size else None
    whole = log.whole()
    if index is not None and index.salts == log.salts and whole < confirmed:
        return Doubt(f"page {whole + 1} of {confirmed} is damaged, or missing", sure=True)
    if log.size(whole) != log.stated_size(whole, database):
        return Doubt("it is of another database", sure=True)
    commits = [number for number, frame in log.frames(whole) if frame.commit]
    if not commits or (index is not None and index.salts == log.salts):
        return None  # an act that was never finished
    last = max(number for number, _ in log.frames(whole))
    return Doubt(f"page {whole + 1} of {last} is damaged", sure=last > commits[0])


def mended(database: Path) -> bytes:
    """Return the -wal of `database` with all of its pages taken for whole, so that SQLite reads on behind damage."""
    content = read_beside(database, "-wal")
    log = _Log.read(content) or _Log.without_head(content)
    if log is None:
        return content
    head = _HEADER.pack(_MAGIC | int(log.big), _VERSION, log.page, 0, *log.salts, 0, 0)[:24]
    sums = _sums(head, (0, 0), big=log.big)
    parts = [head, struct.pack(">2I", *sums)]
    for _, frame in log.frames(0):
        start = struct.pack(">2I", frame.number, frame.commit)
        sums = _sums(start + frame.content, sums, big=log.big)
        parts += [start, struct.pack(">4I", *log.salts, *sums), frame.content]
    return b"".join(parts)


@dataclass(frozen=True)
class _Index:
    """What a -shm says: `frames` that are confirmed, those of them that are `copied` into the database."""

    frames: int
    copied: int
    salts: tuple[int, int]


def _read_index(database: Path) -> _Index | None:
    content = read_beside(database, "-shm")[: 3 * _INDEX]
    head = content[:_INDEX]
    if len(content) < 3 * _INDEX or head != content[_INDEX : 2 * _INDEX]:
        return None
    native = struct.Struct("=12I").unpack(head)  # in the order of this machine, but for the salts
    if _sums(head[:40], (0, 0), big=struct.pack("=I", 1) == struct.pack(">I", 1)) != native[10:12] or not any(head):
        return None
    one, two = struct.unpack(">2I", head[32:40])
    return _Index(native[4], struct.unpack_from("=I", content, 2 * _INDEX)[0], (one, two))


@dataclass(frozen=True)
class _PageOfLog:
    """A frame: the `number` of a page, its `content`, and the size of the database where an act ends with it."""

    number: int
    commit: int
    sums: tuple[int, int]
    content: bytes


@dataclass(frozen=True)
class _Log:
    content: bytes
    page: int
    salts: tuple[int, int]
    sums: tuple[int, int]
    big: bool

    @classmethod
    def read(cls, content: bytes) -> "_Log | None":
        """Return the log that `content` holds; None where its head is not whole."""
        if len(content) < _HEADER.size:
            return None
        magic, _, page, _, one, two, *sums = _HEADER.unpack_from(content)
        big = bool(magic & 1)
        if magic & ~1 != _MAGIC or _sums(content[:24], (0, 0), big=big) != tuple(sums) or not 512 <= page <= 65536:
            return None
        return cls(content, page, (one, two), (sums[0], sums[1]), big)

    @classmethod
    def without_head(cls, content: bytes) -> "_Log | None":
        """Return it by its first page where its head is damaged."""
        if len(content) < _HEADER.size + _FRAME.size:
            return None
        _, _, one, two, *_ = _FRAME.unpack_from(content, _HEADER.size)
        return cls(content, _PAGE, (one, two), (0, 0), big=False)

    def frames(self, after: int) -> Iterator[tuple[int, _PageOfLog]]:
        """Yield place and frame of all behind `after` that were written since the log began anew, damaged or not.

        Earlier ones have both salts other; one salt alone is a damage of it.
        """
        step = _FRAME.size + self.page
        for place in range(after, (len(self.content) - _HEADER.size) // step):
            start = _HEADER.size + place * step
            number, commit, one, two, *sums = _FRAME.unpack_from(self.content, start)
            if number and (one == self.salts[0] or two == self.salts[1]):
                content = self.content[start + _FRAME.size : start + step]
                yield place + 1, _PageOfLog(number, commit, (sums[0], sums[1]), content)

    def size(self, whole: int) -> int:
        """Return of how many pages the database is after the first `whole` frames, by these; 0 of none."""
        return next((frame.commit for frame in self._backward(whole) if frame.commit), 0)

    def stated_size(self, whole: int, database: Path) -> int:
        """Return the same by the first page of the `database`, which is among these frames or in its file."""
        first = next((frame.content for frame in self._backward(whole) if frame.number == 1), None)
        if first is None and whole:
            with suppress(FileNotFoundError), database.open("rb") as file:
                first = file.read(_SIZE.stop)
        return int.from_bytes((first or b"")[_SIZE], "big")

    def _backward(self, whole: int) -> list[_PageOfLog]:
        return [frame for place, frame in self.frames(0) if place <= whole][::-1]

    def whole(self) -> int:
        """Return how many frames SQLite takes: up to the last act that ends before any damage."""
        sums, found = self.sums, 0
        step = _FRAME.size + self.page
        for place in range((len(self.content) - _HEADER.size) // step):
            start = _HEADER.size + place * step
            number, commit, one, two, *written = _FRAME.unpack_from(self.content, start)
            sums = _sums(self.content[start : start + 8], sums, big=self.big)
            sums = _sums(self.content[start + _FRAME.size : start + step], sums, big=self.big)
            if not number or (one, two) != self.salts or sums != tuple(written):
                break
            found = place + 1 if commit else found
        return found


def _sums(content: bytes, before: tuple[int, int], *, big: bool) -> tuple[int, int]:
    """SQLite's checksum, which goes on from that of what was before."""
    first, second = before
    words = struct.unpack(f"{'>' if big else '<'}{len(content) // 4}I", content)
    for one, two in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & _MASK
        second = (second + two + first) & _MASK
    return first, second
