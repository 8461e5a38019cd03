"""Which images of a very large pool are ranked: those nearest to each class, and some that stand for all the others."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.grouping.search import Search, top_k

RANKED_WHOLE = 250_000  # images up to which all are ranked: a limit of memory and time (`python -m benchmarks.large`)
_DRAWN = 100_000  # at random: they are what the pool's space is fitted on, and where "none" is learnt
_NEAREST, _FEWEST = 20_000, 2_000  # of each class; the graph looks at 5,000 of them at most
_MOST = 120_000  # of all classes


@dataclass(frozen=True)
class Shortlist:
    """Pool rows in ascending order: all that are ranked, and those of them that were drawn at random."""

    rows: NDArray[np.int64]
    drawn: NDArray[np.int64]


def shorten(searches: Sequence[Search], kept: Collection[int], seed: int) -> Shortlist:
    """Return what is ranked of the pool of `searches`: the nearest of each class, what is drawn, and the rows `kept`.

    The nearest are those by the scores of each search, and by what words say of a class. A row is drawn by a number of
    its own, so that nearly the same rows are drawn when the pool grows.
    """
    classes = len(searches[0].classes)
    count = min(_NEAREST, max(_MOST // classes, _FEWEST))
    columns = [column for one in searches for column in one.scores.T]
    columns += [column for one in searches if one.said is not None for column in one.said.pool.T]
    there = np.flatnonzero(np.logical_or.reduce([one.embeddings.present for one in searches]))
    numbers = np.random.default_rng(seed).random(searches[0].embeddings.size, np.float32)[there]
    few = min(_DRAWN, len(there))
    drawn = np.sort(there[np.argpartition(numbers, few - 1)[:few]]) if few else there
    own = np.array(sorted(kept), np.int64)
    return Shortlist(np.unique(np.concatenate([own, drawn, *(top_k(column, count) for column in columns)])), drawn)
