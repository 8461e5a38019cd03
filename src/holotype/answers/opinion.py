"""A second opinion on a class: what is answered, learnt in a wider space than that of the groups."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

# Chosen with `python -m benchmarks.quality --seconds --development`; docs/tried.md has the figures.
_OTHERS = 500  # images, drawn at random, that stand for all that nobody answered about
_STRENGTH = 10.0  # inverse of the L2 penalty
_BLOCK = 16_384  # rows that are compared at a time


def second_opinion(
    vectors: NDArray[np.floating], positive: Collection[int], negative: Collection[int], among: Rows, seed: int = 0
) -> NDArray[np.float32] | None:
    """Return (n,) what a balanced logistic regression says of each row; None where no row shows the class.

    vectors              (n, dim) unit vectors
    positive, negative   rows that show the class, and rows that do not
    among                rows of which some stand for all others; most of them do not show the class
    """
    if not len(positive):
        return None
    from sklearn.linear_model import LogisticRegression

    drawn = np.random.default_rng(seed).permutation(np.setdiff1d(among, [*positive]))[:_OTHERS]
    others = np.union1d(np.array([*negative], np.int64), drawn)
    if not len(others):
        return None
    rows = np.concatenate([np.array([*positive], np.int64), others])
    model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=50, tol=1e-2)
    model.fit(np.asarray(vectors[rows], np.float32), np.arange(len(rows)) < len(positive))
    weights, said = model.coef_[0].astype(np.float32), np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        said[block] = np.asarray(vectors[block], np.float32) @ weights
    return said
