"""In which fold each training row is held out; near-duplicates share a fold, and are out of reach of the test rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.model.duplicates import Ints, near_duplicates

NEAR_TEST = "nearly the same as a test row"  # why a row is not learnt from
ALWAYS = -1  # the fold of a row that is never held out


@dataclass(frozen=True)
class Split:
    """Pool rows to learn from.

    rows      (n,) in ascending order
    fold      (n,) in which of the folds each is held out; -1 for those that every head learns from
    dropped   row -> why it is not learnt from
    """

    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    dropped: dict[int, str]


def split(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    vectors: NDArray[np.float32],
    *,
    pinned: Sequence[int],
    held_out: Sequence[int],
    folds: int,
    cosine: float,
    seed: int,
) -> Split:
    """Spread `rows` over `folds` by clusters of near-duplicates, so that each has as many of each label.

    A fold has at most half of the rows of any label; a cluster that fits into none is never held out.

    rows, labels, vectors   (n,) pool rows, (n,) class numbers, (n, dim) unit-length vectors in the search space
    pinned                  rows that are never held out (the exemplars), with all that is nearly the same
    held_out                test rows: they and their near-duplicates are dropped
    """
    clusters = near_duplicates(vectors, cosine)
    tested = np.isin(rows, held_out)
    shadow = np.isin(clusters, clusters[tested]) & ~np.isin(rows, pinned)
    dropped = {
        int(row): "a test row" if test else NEAR_TEST for row, test in zip(rows[shadow], tested[shadow], strict=True)
    }
    free = ~shadow & ~np.isin(clusters, clusters[np.isin(rows, pinned)])
    fold = np.full(len(rows), ALWAYS)
    random = np.random.default_rng(seed)
    sizes = np.bincount(labels[~shadow], minlength=int(labels.max(initial=0)) + 1)
    taken = np.zeros((folds, len(sizes)), np.int64)
    members = _members(clusters)
    for own in _members(labels):
        for cluster in random.permutation(np.unique(clusters[own[free[own] & (fold[own] == ALWAYS)]])):
            inside = members[cluster][free[members[cluster]]]
            counts = np.bincount(labels[inside], minlength=len(sizes))
            fits = np.flatnonzero((2 * (taken + counts) <= sizes)[:, counts > 0].all(axis=1))  # else too little is left
            if len(fits):
                emptiest = fits[taken[fits, labels[own[0]]].argmin()]
                fold[inside] = emptiest
                taken[emptiest] += counts
    return Split(rows[~shadow], fold[~shadow], dropped)


def _members(numbers: Ints) -> list[Ints]:
    """Return the places of each number of `numbers`, (n,), both in ascending order."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []
