"""Which rows fit and which validate; near-duplicates stay on one side, and out of reach of the test rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.model.duplicates import Ints, near_duplicates

NEAR_TEST = "nearly the same as a test row"  # why a row is not learnt from


@dataclass(frozen=True)
class Split:
    """Pool rows, each in one part.

    fit, validation   rows to learn from and to choose with
    dropped           row -> why it is in neither
    """

    fit: NDArray[np.int64]
    validation: NDArray[np.int64]
    dropped: dict[int, str]


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
        int(row): "a test row" if test else NEAR_TEST for row, test in zip(rows[shadow], tested[shadow], strict=True)
    }
    fixed = np.isin(clusters, clusters[np.isin(rows, pinned)])
    free = ~shadow & ~fixed
    validates = np.zeros(len(rows), dtype=bool)
    random = np.random.default_rng(seed)
    count = int(labels.max(initial=0)) + 1
    targets = share * np.bincount(labels[~shadow], minlength=count)
    taken = np.zeros(count, np.int64)
    members = _members(clusters)
    for own in _members(labels):
        for cluster in random.permutation(np.unique(clusters[own[free[own] & ~validates[own]]])):
            inside = members[cluster][free[members[cluster]]]
            more = taken + np.bincount(labels[inside], minlength=count)
            if (more <= targets).all():
                validates[inside] = True
                taken = more
    return Split(rows[~shadow & ~validates], rows[validates], dropped)


def _members(numbers: Ints) -> list[Ints]:
    """Return the places of each number of `numbers`, (n,), both in ascending order."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []
