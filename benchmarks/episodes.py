"""Episodes: three classes of a pool, some exemplars of each, drawn the same way every time."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods import Exemplars
from benchmarks.pools import Truth

Figures = TypeVar("Figures")

CLASSES = 3
SEED = 20261124


@dataclass(frozen=True)
class Episode:
    """Three classes, and `exemplars[k]` rows of each: the first is the one exemplar, the others follow it."""

    triple: int
    names: Sequence[str]
    exemplars: Sequence[NDArray[np.int64]]

    def first(self, count: int) -> Exemplars:
        """Return the first `count` exemplars of each class."""
        return [rows[:count] for rows in self.exemplars]


def episodes(truth: Truth, names: Sequence[str], triples: int, draws: int) -> Iterator[Episode]:
    """Yield `triples` times `draws` episodes, the draws of a triple one after the other."""
    rng = np.random.default_rng(SEED)
    for triple in range(triples):
        chosen = rng.choice(np.array(names), CLASSES, replace=False).tolist()
        for _ in range(draws):
            rows = [rng.permutation(np.flatnonzero(truth.classes == name))[:5] for name in chosen]
            yield Episode(triple, chosen, rows)


def on_every_core(work: Callable[[int], Figures], count: int, name: str) -> list[Figures]:
    """Return what `work` makes of each of `count` episodes of pool `name`, in forks of this process."""
    found = []
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("fork")) as workers:
        for number, one in enumerate(workers.map(work, range(count))):
            found.append(one)
            print(f"{name}: episode {number + 1} of {count}", file=sys.stderr, flush=True)
    return found
