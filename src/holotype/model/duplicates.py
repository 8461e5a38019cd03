"""Which rows are nearly the same: clusters of them, and the rows near some others.

Clusters are found in two passes, so that not all pairs need be multiplied. First each row looks for a leader, an
earlier row that it is linked to; a row that finds none leads (`_lead`). Then the groups of the leaders are compared by
bounds, and only the pairs of groups that may hold a link row by row (`_compare`); what is in one cluster already is not
looked at again. The time is that of rows times leaders, and at most that of a few times all pairs: all pairs where
nearly nothing links, as every row leads, and where groups are wide and yet not linked (`python -m
benchmarks.duplicates`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.vectors.embeddings import BLOCK, Embeddings

_BLOCK = 2048
_FEWEST = 64  # rows of a product: BLAS multiplies fewer by other kernels, which round in another way
_SLACK = 1e-3  # of the bounds, for lengths that are nearly 1

Ints = NDArray[np.int64]


def near_duplicates(vectors: NDArray[np.float32], cosine: float) -> Ints:
    """Return (n,) cluster numbers: rows of `vectors` (unit length) linked by a cosine of at least `cosine`.

    The clusters are numbered by their first rows. Memory is that of a few blocks of cosines and of the means of groups
    (fewer than n / 2), whatever the links.
    """
    found = _Clusters(vectors, cosine)
    leads = _lead(found)
    if (found.numbers != 0).any():
        groups, single = _tiles(vectors, leads, found.numbers)
        for place, some in enumerate(groups):
            for others in [*groups[place:], *single]:
                _compare(found, some, others)
    return np.unique(found.numbers, return_inverse=True)[1].astype(np.int64)


class _Clusters:
    """Clusters as far as they are known.

    numbers   (n,) for each row the first row of its cluster
    """

    def __init__(self, vectors: NDArray[np.float32], cosine: float) -> None:
        self.vectors, self.cosine = vectors, cosine
        self.numbers: Ints = np.arange(len(vectors))

    def look(self, rows: Ints, columns: Ints) -> NDArray[np.bool_]:
        """Join what is linked between `rows` and `columns`; return (rows, columns), which are."""
        some, others = (self.vectors[np.resize(part, max(len(part), _FEWEST))] for part in (rows, columns))
        close: NDArray[np.bool_] = (some @ others.T >= self.cosine)[: len(rows), : len(columns)]
        if close.any():
            self._join(close, rows, columns)
        return close

    def _join(self, close: NDArray[np.bool_], rows: Ints, columns: Ints) -> None:
        """Join the clusters that `close` links.

        As in Boruvka's method, of each row and column only the first link to another cluster is followed in a round,
        so that there are few links at a time, and each round leaves at most half of the clusters that have any.
        """
        while True:
            left, right = self.numbers[rows], self.numbers[columns]
            apart = close & (left[:, None] != right)
            down, across = np.flatnonzero(apart.any(axis=1)), np.flatnonzero(apart.any(axis=0))
            if not len(down):
                return
            first, second = apart[down].argmax(axis=1), apart[:, across].argmax(axis=0)
            self._merge(np.concatenate([left[down], left[second]]), np.concatenate([right[first], right[across]]))

    def _merge(self, left: Ints, right: Ints) -> None:
        """Make one of the clusters `left[i]` and `right[i]`, for each i."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        names, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
        links = (np.ones(len(left), bool), (ends[: len(left)], ends[len(left) :]))
        parts = connected_components(coo_array(links, shape=(len(names), len(names))), directed=False)[1]
        renamed = np.arange(len(self.numbers))
        renamed[names] = names[np.unique(parts, return_index=True)[1]][parts]  # `names` ascend
        self.numbers = renamed[self.numbers]


def _lead(found: _Clusters) -> Ints:
    """Return (n,) for each row a row that it is linked to and that leads; no two that lead are linked."""
    leads = np.full(len(found.vectors), -1)
    heads = np.empty(0, np.int64)
    for start in range(0, len(leads), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(leads)))
        for first in range(0, len(heads), _BLOCK):
            some = heads[first : first + _BLOCK]
            close = found.look(rows, some)
            led = close.any(axis=1) & (leads[rows] < 0)
            leads[rows[led]] = some[close[led].argmax(axis=1)]
        free = rows[leads[rows] < 0]
        close = found.look(free, free)
        for place, row in enumerate(free):
            if leads[row] < 0:
                leads[free[close[place] & (leads[free] < 0)]] = row
                leads[row] = row
        heads = np.append(heads, free[leads[free] == free])
    return leads


@dataclass(frozen=True)
class _Tile:
    """About a block of rows, in groups of rows with one leader.

    rows, starts   (m,) rows, those of a group together; (k,) where a group starts
    means, radii   (k, dim) the mean of a group's vectors, (k,) how far the farthest is from it; both are empty where
                   the groups are rows that lead nobody
    """

    rows: Ints
    starts: Ints
    means: NDArray[np.float32]
    radii: NDArray[np.float32]

    @property
    def sizes(self) -> Ints:
        """(k,) rows of each group."""
        return np.diff(self.starts, append=len(self.rows))

    def of(self, groups: NDArray[np.bool_]) -> Ints:
        """Return the rows of `groups`, (k,)."""
        return self.rows[np.repeat(groups, self.sizes)]


def _tiles(vectors: NDArray[np.float32], leads: Ints, numbers: Ints) -> tuple[list[_Tile], list[_Tile]]:
    """Return tiles of groups of several rows, and tiles of rows that lead nobody; clusters lie together in them."""
    alone = np.bincount(leads, minlength=len(leads))[leads] == 1
    order = np.lexsort((leads, numbers))
    grouped, single = order[~alone[order]], order[alone[order]]
    none = np.empty(0, np.float32)
    singles = [_Tile(rows, np.arange(len(rows)), none, none) for rows in _blocks(single)]
    return [_summed(vectors, rows, leads) for rows in _blocks(grouped)], singles


def _blocks(rows: Ints) -> list[Ints]:
    return [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]


def _summed(vectors: NDArray[np.float32], rows: Ints, leads: Ints) -> _Tile:
    """Return the tile of `rows`; of a group that two tiles share, each has a part."""
    starts = np.flatnonzero(np.diff(leads[rows], prepend=-1))
    sizes = np.diff(starts, append=len(rows))
    own = vectors[rows]
    means = (np.add.reduceat(own, starts, axis=0) / sizes[:, None]).astype(np.float32)
    distances = np.linalg.norm(own - np.repeat(means, sizes, axis=0), axis=1).astype(np.float32)
    return _Tile(rows, starts, means, np.maximum.reduceat(distances, starts))


def _compare(found: _Clusters, some: _Tile, others: _Tile) -> None:
    """Look for links between the groups of two tiles, where these are in different clusters and a bound allows one."""
    maybe = found.numbers[some.rows[some.starts]][:, None] != found.numbers[others.rows[others.starts]]
    if maybe.any() and len(others.means):
        maybe &= _bounds_of_means(some, others) >= found.cosine - _SLACK
    if maybe.any():
        maybe &= _bounds(found.vectors, some, others) >= found.cosine - _SLACK
    if maybe.any():
        _verify(found, some, others, maybe)


def _verify(found: _Clusters, some: _Tile, others: _Tile, maybe: NDArray[np.bool_]) -> None:
    """Look at the rows of the pairs of groups in `maybe`: a group at a time, or all at once where that is less."""
    left, right = np.logical_or.reduce(maybe, axis=1), np.logical_or.reduce(maybe, axis=0)
    one_by_one = (some.sizes + _FEWEST)[left] @ (maybe[left] @ others.sizes + _FEWEST)
    if one_by_one > len(some.of(left)) * len(others.of(right)):
        found.look(some.of(left), others.of(right))
        return
    for place in np.flatnonzero(left):
        rows, columns = some.of(np.arange(len(left)) == place), others.of(maybe[place])
        columns = columns[found.numbers[columns] != found.numbers[rows[0]]]
        if len(columns):
            found.look(rows, columns)


def _bounds_of_means(some: _Tile, others: _Tile) -> NDArray[np.float32]:
    """Return (groups, groups), as `_bounds`, wider and from the means alone."""
    left, right = (np.linalg.norm(tile.means, axis=1) for tile in (some, others))
    bounds: NDArray[np.float32] = some.means @ others.means.T - left[:, None] * right
    bounds += (left + some.radii)[:, None] * (right + others.radii)
    return bounds


def _bounds(vectors: NDArray[np.float32], some: _Tile, others: _Tile) -> NDArray[np.float32]:
    """Return (groups, groups): the cosine of two rows of two groups is at most that.

    With the means v and w of their groups, x @ y = v @ y + (x - v) @ y, of which the last is at most the radius of v.
    It is v @ y + w @ x - v @ w + (x - v) @ (y - w) too, of which the last is at most the product of the radii.
    """
    reach = _reach(vectors, some, others)
    bounds: NDArray[np.float32] = reach + some.radii[:, None]
    if len(others.means):
        both = reach + _reach(vectors, others, some).T - some.means @ others.means.T
        np.minimum(bounds, both + some.radii[:, None] * others.radii, out=bounds)
    return bounds


def _reach(vectors: NDArray[np.float32], some: _Tile, others: _Tile) -> NDArray[np.float32]:
    """Return (groups, groups): the largest product of the mean of one of `some` with a row of one of `others`."""
    largest: NDArray[np.float32] = np.maximum.reduceat(some.means @ vectors[others.rows].T, others.starts, axis=1)
    return largest


def near_rows(
    embeddings: Embeddings, rows: Sequence[int], cosine: float, among: Sequence[int] | None = None
) -> list[int]:
    """Return the pool rows whose vectors have a cosine of at least `cosine` to one of `rows`, these included.

    among   the pool rows that are looked at; None for all
    """
    there = [row for row in rows if embeddings.present[row]]
    others = embeddings.rows if among is None else np.array([row for row in among if embeddings.present[row]], np.int64)
    found = set(rows if among is None else set(rows) & set(among))
    for start in range(0, len(others) if there else 0, BLOCK):
        block = others[start : start + BLOCK]
        vectors = embeddings.take(block)
        for first in range(0, len(there), BLOCK):
            close = vectors @ embeddings.take(there[first : first + BLOCK]).T >= cosine
            found.update(block[close.any(axis=1)].tolist())
    return sorted(found)
