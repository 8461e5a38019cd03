"""Vectors aligned with a pool: one record, whoever computed them."""

import hashlib
import mmap
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.encode import in_order, l2_normalize
from holotype.encoders.runtimes import cores
from holotype.errors import EmbeddingsError
from holotype.filestate import regular
from holotype.pointers import refuse_pointer

BLOCK = 8192  # vectors that are looked at together
_UNDER_WAY = 32  # blocks that somebody may be reading; before these, their memory is given back


@dataclass(frozen=True)
class Embeddings:
    """Vectors aligned with a pool by id.

    shards   memory-mapped (m, dim) arrays, one after the other
    rows     the pool row of each vector, in the order of the shards; an image without a vector has none
    size     rows of the pool
    encoder  its name, if known
    drawn    (m,) pool rows that were drawn at random, where the others were chosen; None where all are there
    left     images that it was narrowed from, and that are not in the pool any more
    """

    shards: Sequence[NDArray[Any]]
    rows: NDArray[np.int64]
    size: int
    encoder: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    drawn: NDArray[np.int64] | None = None
    left: int = 0

    @property
    def fair(self) -> NDArray[np.int64]:
        """The rows with a vector by which the whole pool is known, in ascending order."""
        rows = np.sort(self.rows)
        return rows if self.drawn is None else np.intersect1d(rows, self.drawn)

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self.shards[0].shape[1])

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """(size,) whether a pool row has a vector."""
        present = np.zeros(self.size, dtype=bool)
        present[self.rows] = True
        return present

    @cached_property
    def digest(self) -> str:
        """Of which rows have a vector, and of the vectors as they are stored: all are read.

        Products of numbers that lie column by column are rounded in another way, so how they lie counts too.
        """

        def read(block: tuple[NDArray[np.int64], NDArray[Any]]) -> bytes:
            rows, vectors = block
            found = hashlib.sha256(f"{self.size} {vectors.dtype.str} {vectors.shape} {vectors.strides}".encode())
            found.update(rows.astype("<i8").tobytes())
            found.update(np.ascontiguousarray(vectors).data)
            return found.digest()

        return hashlib.sha256(b"".join(in_order(read, self.stored(), cores()))).hexdigest()

    @cached_property
    def _place(self) -> NDArray[np.int64]:
        place = np.zeros(self.size, dtype=np.int64)
        place[self.rows] = np.arange(len(self.rows))
        return place

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(len(shard) for shard in self.shards)])

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield (pool rows, unit-length float32 vectors) block by block; the matrix is never held whole."""
        for rows, block in self.stored():
            yield rows, l2_normalize(block)

    def stored(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Yield (pool rows, vectors as they are stored) block by block, by row and not as shards happen to lie.

        Products are rounded by what is multiplied together, so that else they would tell how a store came about.
        """
        there, read = np.flatnonzero(self.present), deque[NDArray[Any]]()
        for first in range(0, len(there), BLOCK):
            rows = there[first : first + BLOCK]
            block = self._stored(rows)
            yield rows, block
            read.append(block)
            if len(read) > _UNDER_WAY:
                let_go(read.popleft())

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the unit-length vectors (m, dim) float32 of pool `rows`. Raises `EmbeddingsError`."""
        wanted = np.asarray(rows, dtype=np.int64)
        if not self.present[wanted].all():
            raise EmbeddingsError(f"rows {wanted[~self.present[wanted]][:5].tolist()} have no vector")
        return l2_normalize(self._stored(wanted))

    def _stored(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the vectors (m, dim) of `rows` as they are stored: not read yet where they lie together."""
        place = self._place[rows]
        shard = np.searchsorted(self._starts, place, side="right") - 1
        place = place - self._starts[shard]
        if len(rows) and (shard == shard[0]).all() and (np.diff(place) == 1).all():
            together: NDArray[Any] = self.shards[shard[0]][place[0] : place[-1] + 1]
            return together
        found = np.empty((len(rows), self.dim), np.result_type(*(one.dtype for one in self.shards)))
        for number in np.unique(shard):
            here = np.flatnonzero(shard == number)
            for first in range(0, len(here), BLOCK):
                some = here[first : first + BLOCK]
                found[some] = self.shards[number][place[some]]
                let_go(self.shards[number])
        return found

    def some(self, rows: NDArray[np.int64], drawn: NDArray[np.int64]) -> "Embeddings":
        """Return it for a pool of `rows`, in ascending order, alone; `drawn`: which of them stand for all."""
        there = self.present[rows]
        found, places = self._stored(rows[there]), np.flatnonzero(there)
        drawn, left = np.searchsorted(rows, drawn), self.size - len(rows)
        return replace(self, shards=[found], rows=places, size=len(rows), drawn=drawn, left=left)

    def only(self, kept: NDArray[np.bool_]) -> "Embeddings":
        """Return it without the vectors of the pool rows that are not `kept`, (size,)."""
        starts, found, rows = self._starts, list[Any](), list[NDArray[np.int64]]()
        for start, shard in zip(starts, self.shards, strict=False):
            here = self.rows[start : start + len(shard)]
            places = np.flatnonzero(kept[here])
            found.append(shard if len(places) == len(here) else ShardPart(shard, places))
            rows.append(here[places])
        return replace(self, shards=found, rows=np.concatenate(rows))


@dataclass(frozen=True)
class ShardPart:
    """The vectors at `places` of a shard, which may lie on the disk: read where they are asked for."""

    shard: NDArray[Any]
    places: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.places), self.shard.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.shard.dtype

    def __len__(self) -> int:
        return len(self.places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.shard[self.places], dtype)

    def __getitem__(self, key: slice | NDArray[np.int64]) -> NDArray[Any]:
        found: NDArray[Any] = self.shard[self.places[key]]
        return found


def let_go(array: NDArray[Any] | ShardPart) -> None:
    """Give back the memory of what was read of an `array` that lies on the disk; it is read again where it is needed.

    Else a pass over a file that is larger than the memory would seem to take all of it.
    """
    while isinstance(array, ShardPart):
        array = array.shard
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        low, high = np.lib.array_utils.byte_bounds(array)
        start = np.frombuffer(base, np.uint8).ctypes.data
        first, last = (low - start) // mmap.PAGESIZE * mmap.PAGESIZE, high - start
        base.madvise(mmap.MADV_DONTNEED, first, last - first)


def open_array(path: Path) -> NDArray[Any]:
    """Map a .npy of shape (images, dimensions) and a float type into memory. Raises `EmbeddingsError`."""
    refuse_pointer(path, EmbeddingsError)
    try:
        # unlike np.load it reads no zip, no pickle
        array: NDArray[Any] = np.lib.format.open_memmap(regular(path), mode="r")
    except Exception as error:  # its header is parsed as Python, and broken Python raises all kinds
        raise EmbeddingsError(f"expected a plain array of numbers in {path} (a whole .npy): {error}") from None
    if array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        raise EmbeddingsError(
            f"expected a float array of shape (images, dimensions) in {path}, got {array.shape} of {array.dtype}"
        )
    return array
