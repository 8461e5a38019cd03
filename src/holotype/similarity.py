"""Exact cosine similarity of the pool to the exemplars, in one streaming pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.embeddings import Embeddings, unit

TOP = (10, 50, 100)


def cosine(embeddings: Embeddings, exemplars: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return (pool rows, K) float32: the cosine to the nearest exemplar of each class, nan without a vector.

    exemplars: per class an array (exemplars of the class, dim).
    """
    queries = unit(np.concatenate(exemplars))
    starts = np.cumsum([0, *(len(vectors) for vectors in exemplars[:-1])])
    scores = np.full((embeddings.size, len(exemplars)), np.nan, np.float32)
    for rows, block in embeddings.blocks():
        scores[rows] = np.maximum.reduceat(block @ queries.T, starts, axis=1)
    return scores


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the rows of the `k` greatest of `scores` (n,), best first; nan counts as absent."""
    usable = np.flatnonzero(~np.isnan(scores))
    k = min(k, len(usable))
    if k == 0:
        return usable
    part = usable[np.argpartition(-scores[usable], k - 1)[:k]]
    return part[np.argsort(-scores[part], kind="stable")]


@dataclass(frozen=True)
class SearchComparison:
    """Two ways of searching the same pool, class by class.

    overlap   per class: k -> share of the top k that both have
    spearman  (K,) rank correlation over all rows that both have
    seconds   (way 1, way 2)
    """

    classes: Sequence[str]
    overlap: Sequence[dict[int, float]]
    spearman: Sequence[float]
    seconds: tuple[float, float]


def compare(
    classes: Sequence[str], one: NDArray[np.float32], two: NDArray[np.float32], seconds: tuple[float, float]
) -> SearchComparison:
    """Compare two score matrices (n, K) of the same rows."""
    from scipy.stats import spearmanr

    overlap, correlation = [], []
    for a, b in zip(one.T, two.T, strict=True):
        both = ~np.isnan(a) & ~np.isnan(b)
        overlap.append({k: len(set(top_k(a, k)) & set(top_k(b, k))) / k for k in TOP if k <= both.sum()})
        correlation.append(float(spearmanr(a[both], b[both]).statistic))
    return SearchComparison(classes, overlap, correlation, seconds)
