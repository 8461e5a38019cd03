"""Which rows fit and which validate; near-duplicates stay on one side, and out of reach of the test rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.vectors.embeddings import BLOCK, Embeddings

_BLOCK = 2048


@dataclass(frozen=True)
class Split:
    """Pool rows, each in one part.

    fit, validation   rows to learn from and to choose with
    dropped           row -> why it is in neither
    """

    fit: NDArray[np.int64]
    validation: NDArray[np.int64]
    dropped: dict[int, str]


def near_duplicates(vectors: NDArray[np.float32], cosine: float) -> NDArray[np.int64]:
    """Return (n,) cluster numbers: rows of `vectors` (unit length) linked by a cosine of at least `cosine`.

    The clusters are numbered by their first rows. Memory is that of one block of cosines, whatever the links.
    """
    clusters = np.arange(len(vectors))
    starts = range(0, len(vectors), _BLOCK)
    for above in starts:
        for left in starts[: above // _BLOCK + 1]:
            close = vectors[left : left + _BLOCK] @ vectors[above : above + _BLOCK].T >= cosine
            clusters = _join(clusters, close, left, above)
    return clusters


def _join(clusters: NDArray[np.int64], close: NDArray[np.bool_], row: int, column: int) -> NDArray[np.int64]:
    """Join the clusters that `close` links; its corner is the pair of rows (`row`, `column`).

    As in Boruvka's method, of each row and column only the first link to another cluster is followed in a round, so
    that there are few links at a time, and each round leaves at most half of the clusters that have any.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = slice(row, row + close.shape[0]), slice(column, column + close.shape[1])
    while close.any():
        close &= clusters[rows, None] != clusters[None, columns]
        down, across = np.flatnonzero(close.any(axis=1)), np.flatnonzero(close.any(axis=0))
        left = clusters[rows][np.concatenate([down, close[:, across].argmax(axis=0)])]
        right = clusters[columns][np.concatenate([close[down].argmax(axis=1), across])]
        count = int(clusters.max()) + 1
        graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(count, count))
        clusters = connected_components(graph, directed=False)[1].astype(np.int64)[clusters]
    return clusters


def split(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    vectors: NDArray[np.float32],
    *,
    pinned: Sequence[int],
    held_out: Sequence[int],
    share: float,
    cosine: float,
    seed: int,
) -> Split:
    """Split `rows` by clusters of near-duplicates, at most `share` of each label's rows to validation.

    rows, labels, vectors   (n,) pool rows, (n,) class numbers, (n, dim) unit-length vectors in the search space
    pinned                  rows that must fit (the exemplars), with all that is nearly the same
    held_out                test rows: they and their near-duplicates are dropped
    """
    clusters = near_duplicates(vectors, cosine)
    tested = np.isin(rows, held_out)
    shadow = np.isin(clusters, clusters[tested]) & ~np.isin(rows, pinned)
    dropped = {
        int(row): "a test row" if test else "nearly the same as a test row"
        for row, test in zip(rows[shadow], tested[shadow], strict=True)
    }
    fixed = np.isin(clusters, clusters[np.isin(rows, pinned)])
    free = ~shadow & ~fixed
    validates = np.zeros(len(rows), dtype=bool)
    random = np.random.default_rng(seed)
    count = int(labels.max(initial=0)) + 1
    targets = share * np.bincount(labels[~shadow], minlength=count)
    for label in np.unique(labels):
        own = free & (labels == label) & ~validates
        for cluster in random.permutation(np.unique(clusters[own])):
            inside = free & (clusters == cluster)
            if (np.bincount(labels[validates | inside], minlength=count) <= targets).all():
                validates |= inside
    return Split(rows[~shadow & ~validates], rows[validates], dropped)


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
