"""Way 1 beside way 2: an encoder's features against the vectors that were supplied, over the images that both have."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holotype.grouping.search import Search, top_k

TOP = (10, 50, 100)


@dataclass(frozen=True)
class SearchComparison:
    """Two ways of searching the same pool, class by class.

    overlap   per class: k -> share of the top k that both have
    spearman  (K,) rank correlation over all rows that both have
    seconds   (way 1, way 2)
    rows      how many both have
    """

    classes: Sequence[str]
    overlap: Sequence[dict[int, float]]
    spearman: Sequence[float]
    seconds: tuple[float, float]
    rows: int


def compare_searches(one: Search, two: Search) -> SearchComparison:
    """Compare two searches of the same pool for the same classes."""
    from scipy.stats import spearmanr

    overlap, correlation = [], []
    for a, b in zip(one.scores.T, two.scores.T, strict=True):
        both = ~np.isnan(a) & ~np.isnan(b)
        a_there, b_there = np.where(both, a, np.nan), np.where(both, b, np.nan)
        overlap.append({k: len(set(top_k(a_there, k)) & set(top_k(b_there, k))) / k for k in TOP if k <= both.sum()})
        ordered = both.any() and np.ptp(a[both]) > 0 and np.ptp(b[both]) > 0  # else there is no order to compare
        correlation.append(float(spearmanr(a[both], b[both]).statistic) if ordered else float("nan"))
        rows = int(both.sum())
    return SearchComparison(one.classes, overlap, correlation, (one.seconds, two.seconds), rows)
