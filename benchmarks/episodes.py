"""Episodes: three classes of a pool, some exemplars of each, drawn the same way every time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods import Exemplars
from benchmarks.pools import Truth

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
