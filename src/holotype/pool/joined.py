"""Several pools as one: their images one after the other, each read by the pool that it is of."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from holotype.errors import PoolError
from holotype.pool.digests import STATE, States
from holotype.pool.pool import FileReader, PieceReader, Pool


def join_pools(parts: Sequence[Pool]) -> Pool:
    """Return a pool of the images of `parts`, in that order.

    Where an id of one is in another before it, all its own bear its name in front: of `day2.tar` and `day1.tar`, which
    both have `0001.jpg`, the second is `day2/0001`. Raises `PoolError` where that does not tell them apart either.
    """
    ids: list[str] = []
    for part in parts:
        ids += _told_apart(part, frozenset(ids))
    ignored: Counter[str] = sum((Counter(part.ignored) for part in parts), Counter())
    return Pool(
        ", ".join(part.source for part in parts),
        ids,
        [size for part in parts for size in part.sizes],
        JoinedReader(parts),
        dict(ignored),
        tuple(note for part in parts for note in part.notes),
        list(chain.from_iterable(part.suffixes or [""] * len(part) for part in parts)),
        parts[0].progress,
        parts,
    )


def _told_apart(part: Pool, taken: frozenset[str]) -> list[str]:
    for front in ("", *_fronts(part.source)):
        ids = [f"{front}{name}" for name in part.ids] if front else part.ids
        if taken.isdisjoint(ids):
            return ids
    name = next(name for name in part.ids if name in taken)
    raise PoolError(
        f"{part.source} has an image {name!r}, and so has what the run has already: give each image once, or name the "
        "folder or tar otherwise"
    )


def _fronts(source: str) -> Iterator[str]:
    """What can stand before the ids of a source: its name, then with the folder that it is in, and so on."""
    *folders, last = Path(source).absolute().parts[1:]
    last = last.removesuffix(".tar")
    for count in range(len(folders) + 1):
        yield "/".join([*folders[len(folders) - count :], last, ""])


class JoinedReader:
    """The images of `parts`, one after the other."""

    def __init__(self, parts: Sequence[Pool]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()

    def _place(self, row: int) -> tuple[Pool, int]:
        number = bisect_right(self._starts, row) - 1
        return self._parts[number], row - self._starts[number]

    def read(self, row: int) -> bytes:
        part, place = self._place(row)
        return part.reader.read(place)

    def read_piece(self, row: int, start: int, size: int) -> bytes:
        part, place = self._place(row)
        if isinstance(part.reader, PieceReader):
            return part.reader.read_piece(place, start, size)
        return part.reader.read(place)[start : start + size]

    def path(self, row: int, name: str) -> Path:  # noqa: ARG002 - it may bear the name of its part in front
        part, place = self._place(row)
        return Path(part.path(place))

    def states(self) -> States:
        known = [part.reader.states() for part in self._parts if isinstance(part.reader, FileReader)]
        return np.concatenate(known) if known else np.empty((0, len(STATE)), np.int64)
