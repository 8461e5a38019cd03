"""Which rows fit and which validate; near-duplicates stay on one side, and out of reach of the test rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """Return (n,) cluster numbers: rows of `vectors` (unit length) linked by a cosine of at least `cosine`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = [], []
    for start in range(0, len(vectors), _BLOCK):
        close = vectors[start : start + _BLOCK] @ vectors[start:].T >= cosine
        rows, columns = np.nonzero(close)
        left.append(rows + start)
        right.append(columns + start)
    pairs = (np.concatenate(left), np.concatenate(right)) if left else (np.zeros(0, int), np.zeros(0, int))
    graph = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(len(vectors), len(vectors)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


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
