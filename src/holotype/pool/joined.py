"""Several pools as one: their images one after the other, each read by the pool that it is of."""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from holotype.errors import PoolError
from holotype.pool.digests import STATE, States
from holotype.pool.ids import TextList


class JoinedPart(Protocol):
    """One of the pools."""

    @property
    def source(self) -> str: ...

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def rows(self) -> Mapping[str, int]: ...

    @property
    def reader(self) -> Any: ...

    def path(self, row: int) -> str: ...

    def file(self, row: int) -> Path | None: ...

    def __len__(self) -> int: ...


def told_apart(parts: Sequence[JoinedPart]) -> Sequence[str]:
    """Return the ids of all images, in that order.

    Where an id of one part is in another before it, all its own bear its name in front: of `day1.tar` and `day2.tar`,
    which both have `0001.jpg`, the second is `day2/0001`. Raises `PoolError` where that tells them apart no more.
    """
    ids, before = TextList(), list[Collection[str]]()
    for part in parts:
        for front in ("", *_fronts(part.source)):
            own: Collection[str] = {f"{front}{name}" for name in part.ids} if front else part.rows
            if all(_are_apart(own, others) for others in before):
                ids.extend(f"{front}{name}" for name in part.ids)
                before.append(own)
                break
        else:
            name = next(name for name in part.ids if any(name in others for others in before))
            raise PoolError(
                f"{part.source} has an image {name!r}, and so has what stands before it: give each image once, or call "
                "the folder or tar otherwise"
            )
    return ids.gathered()


def _are_apart(one: Collection[str], other: Collection[str]) -> bool:
    few, many = sorted((one, other), key=len)
    return not any(name in many for name in few)


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

    def states(self, rows: slice = slice(None)) -> States:
        first, last, _ = rows.indices(self._starts[-1])
        found = [np.empty((0, len(STATE)), np.int64)]
        for part, start in zip(self._parts, self._starts, strict=False):
            own = slice(max(first - start, 0), max(last - start, 0))
            found.append(part.reader.states(own))
        return np.concatenate(found)
