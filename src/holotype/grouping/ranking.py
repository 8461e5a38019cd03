"""What exemplars reach in the pool: how densely, where a class ends, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.grouping.departure import Mass
from holotype.grouping.space import Matrix, Space

_LOOSE = 0.4  # conductance above which a cut holds hardly anything: .26 at most is right on development classes
_ESTIMATE = (0.0, 2.27, -3.64)  # base, per decade of density, per unit of conductance: fitted by benchmarks.constants


@dataclass(frozen=True)
class Cut:
    """Where a class ends.

    rows          candidates inside, the surest first
    conductance   share of their edges' weight that leads outside
    """

    rows: NDArray[np.int64]
    conductance: float


@dataclass(frozen=True)
class Ranking:
    """What the exemplars reach.

    space        that the pool was ranked in
    cosine       (n, K) float32 to the nearest exemplar of each class in `space`, or to the picture that stands for its
                 words where it has none; nan without a vector
    candidates   (m,) pool rows that could be reached: the nearest of each class, without the exemplars
    density      (m, K) of the walks from each class, of that of the third best image, in the order that words lead to
                 where they are heard: 1 is as sure as it gets
    cuts         where each class ends; `rows` counts `candidates`
    rounds       (K,) 2 where self-training was kept, else 1
    first        (m, K) bool: inside the cut of the first round
    agreement    (K,) how many deviations of the pool the exemplars, and what is most like them, lie above its median by
                 the words of the class: about 0 where these mean something else; nan without both
    heard        (K,) bool: whether words count beside pictures
    """

    space: Space
    cosine: Matrix
    candidates: NDArray[np.int64]
    density: Mass
    cuts: Sequence[Cut]
    rounds: Sequence[int]
    first: NDArray[np.bool_]
    agreement: Mass
    heard: NDArray[np.bool_]

    @property
    def probabilities(self) -> Mass:
        """(m, K) estimated probability that a candidate shows a class.

        A logistic regression on density and conductance, fitted once on the development classes of the benchmark's
        pools (`python -m benchmarks.constants`): an estimate, not a guarantee.
        """
        base, by_density, by_conductance = _ESTIMATE
        outside = np.array([cut.conductance for cut in self.cuts])
        reached = np.log10(np.maximum(self.density, 1e-12))
        logits = base + by_density * reached + by_conductance * outside
        return np.where(self.density > 0, 1 / (1 + np.exp(-logits)), 0.0)

    @property
    def loose(self) -> NDArray[np.bool_]:
        """(K,) whether so many edges lead out of a class that it is hardly one: the pool may hold nothing of it."""
        return np.array([cut.conductance > _LOOSE for cut in self.cuts])

    def inside(self) -> NDArray[np.bool_]:
        """(m, K) whether a candidate is inside the cut of a class."""
        return inside(self.cuts, len(self.candidates))

    @property
    def limits(self) -> Mass:
        """(K,) the estimated probability of the last image inside each cut."""
        probabilities, inside = self.probabilities, self.inside()
        return np.where(inside.any(axis=0), np.where(inside, probabilities, 1.0).min(axis=0, initial=1.0), 1.0)

    def members(self, k: int) -> NDArray[np.int64]:
        """Return the pool rows inside the cut of class `k` that are not further inside another."""
        margins = np.where(self.inside(), self.probabilities - self.limits, -1.0)
        return np.asarray(self.candidates[(margins[:, k] >= 0) & (margins.argmax(axis=1) == k)])


def inside(cuts: Sequence[Cut], count: int) -> NDArray[np.bool_]:
    """(count, K) whether a candidate is among the rows of each cut."""
    found = np.zeros((count, len(cuts)), dtype=bool)
    for k, cut in enumerate(cuts):
        found[cut.rows, k] = True
    return found
