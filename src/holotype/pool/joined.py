"""Several pools as one: their images one after the other, each read by the pool that it is of."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from holotype.errors import PoolError
from holotype.pool.digests import STATE, States


class JoinedPart(Protocol):
    """One of the pools."""

    @property
    def source(self) -> str: ...

    @property
    def ids(self) -> list[str]: ...

    @property
    def reader(self) -> Any: ...

    def path(self, row: int) -> str: ...

    def file(self, row: int) -> Path | None: ...

    def __len__(self) -> int: ...


def told_apart(parts: Sequence[JoinedPart]) -> list[str]:
    """Return the ids of all images, in that order.

    Where an id of one part is in another before it, all its own bear its name in front: of `day1.tar` and `day2.tar`,
    which both have `0001.jpg`, the second is `day2/0001`. Raises `PoolError` where that tells them apart no more.
    """
    ids: list[str] = []
    for part in parts:
        taken = set(ids)
        ways = ([f"{front}{name}" for name in part.ids] for front in ("", *_fronts(part.source)))
        found = next((own for own in ways if taken.isdisjoint(own)), None)
        if found is None:
            name = next(name for name in part.ids if name in taken)
            raise PoolError(
                f"{part.source} has an image {name!r}, and so has what stands before it: give each image once, or call "
                "the folder or tar otherwise"
            )
        ids += found
    return ids


def _fronts(source: str) -> Iterator[str]:
    """What can stand before the ids of a source: its name, then with the folder that it is in, and so on."""
    *folders, last = Path(source).absolute().parts[1:]
    last = last.removesuffix(".tar")
    for count in range(len(folders) + 1):
        yield "/".join([*folders[len(folders) - count :], last, ""])


class JoinedReader:
    """The images of `parts`, one after the other."""

    def __init__(self, parts: Sequence[JoinedPart]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()

    def part_of(self, row: int) -> tuple[JoinedPart, int]:
        """Return the part that the image of `row` is of, and its row there."""
        number = bisect_right(self._starts, row) - 1
        return self._parts[number], row - self._starts[number]

    def read(self, row: int) -> bytes:
        part, place = self.part_of(row)
        content: bytes = part.reader.read(place)
        return content

    def read_piece(self, row: int, start: int, size: int) -> bytes:
        part, place = self.part_of(row)
        content: bytes = part.reader.read_piece(place, start, size)
        return content

    def path(self, row: int, name: str) -> str:  # noqa: ARG002 - it may bear the name of its part in front
        part, place = self.part_of(row)
        return part.path(place)

    def states(self) -> States:
        return np.concatenate([np.empty((0, len(STATE)), np.int64), *(part.reader.states() for part in self._parts)])
