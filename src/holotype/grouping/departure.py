"""What the walks of a class start from: its pictures, and its words as far as these describe the pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mass = NDArray[np.float64]

# docs/tried.md#words has the figures
_NEAR = 20  # images most like the exemplars, by which it is seen whether words mean the same
_WEIGHT = 5  # of an exemplar beside one of these
_UNHEARD = 2.5  # deviations up to which words are not heard: what all images of a kind have in common says no more
_HALF = 1.5  # deviations above these at which they are half heard
_VOICE = 0.8  # of the mass starts from words that are wholly heard
_EVIDENCE = 0.4  # decades of density that a deviation is worth by such words, when images are put in order
_LEAST = 1e-6  # density, of that of the third best image, below which images are alike: walks do not tell them apart


@dataclass(frozen=True)
class Departure:
    """What the walks of a class start from.

    seeds      (m,) share of the mass of each node
    evidence   (c,) decades of density that words add to each candidate where these are put in order; None without
    """

    seeds: Mass
    evidence: Mass | None = None

    def in_order(self, density: Mass) -> Mass:
        """Return the values of `density` (c,), of that of the third best candidate, in the order that words lead to.

        So words say which candidates are the surest, and the walks how far a class reaches.
        """
        if self.evidence is None:
            return density
        order = np.argsort(-(np.log10(np.maximum(density, _LEAST)) + self.evidence), kind="stable")
        found = np.empty_like(density)
        found[order] = np.sort(density)[::-1]
        return found


def even(nodes: NDArray[np.int64], count: int) -> Mass:
    """Return (count,) the mass of 1 spread over `nodes`."""
    seeds = np.zeros(count)
    seeds[nodes] = 1 / len(nodes)
    return seeds


@dataclass(frozen=True)
class Hearing:
    """How far the words of a class are heard beside its pictures.

    agreement   how many deviations of the pool the pictures, and what is most like them, lie above its median by the
                words; nan without both
    heard       from 0, where words change nothing, towards 1
    """

    agreement: float
    heard: float = 0.0

    def depart(
        self, pictures: NDArray[np.int64], words: NDArray[np.int64], count: int, scores: NDArray[np.float32]
    ) -> Departure:
        """Return how walks start from the nodes of `pictures` and of `words`, of `count`.

        scores   (c,) what words say of the candidates, which are the last nodes; nan where that is not known
        """
        voice = _VOICE * self.heard
        seeds = (1 - voice) * even(pictures, count) + voice * even(words, count)
        return Departure(seeds, _EVIDENCE * self.heard * np.nan_to_num(scores).astype(np.float64))


SILENT = Hearing(float("nan"))


def listen(density: Mass, scores: NDArray[np.float32], pictures: NDArray[np.float32]) -> Hearing:
    """Return how far the words of a class are heard: as far as they describe its pictures, and what these reach.

    density    (c,) of the walks from the pictures, of each candidate
    scores     (c,) how many deviations of the pool each lies above its median by the words; nan where that is not known
    pictures   the same of the pictures
    """
    near = np.nan_to_num(scores).astype(np.float64)[np.argsort(-density, kind="stable")[:_NEAR]]
    agreement = float((_WEIGHT * pictures.mean() + near.sum()) / (_WEIGHT + len(near)))
    strength = max(agreement - _UNHEARD, 0.0) ** 2
    return Hearing(agreement, strength / (strength + _HALF**2))
