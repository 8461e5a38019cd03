"""What the walks of a class start from: its pictures, and its words as far as these describe the pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mass = NDArray[np.float64]

# docs/tried.md#words has the figures
_NEAR = 20  # images that the exemplars reach first, by which it is seen whether words mean the same
_WEIGHT = 5  # of an exemplar beside one of these
_UNHEARD = 2.5  # deviations up to which words are not heard: what all images of a kind have in common says no more
_HALF = 1.5  # deviations above these at which they are half heard
_VOICE = 0.8  # of the mass starts from words that are wholly heard
_EVIDENCE = 0.4  # decades of density that a deviation is worth by such words, when images are put in order


@dataclass(frozen=True)
class Departure:
    """What the walks of a class start from.

    seeds      (m,) share of the mass of each node
    evidence   (c,) decades of density that words add to each candidate where these are put in order; None without
    """

    seeds: Mass
    evidence: Mass | None = None

    def in_order(self, density: Mass) -> Mass:
        """Return the values of `density` (c,) in the order that words lead to; what is out of reach, at 0, stays there.

        So words say which candidates are the surest, and the walks how far a class reaches.
        """
        if self.evidence is None:
            return density
        reached = np.flatnonzero(density)
        order = np.argsort(-(np.log10(density[reached]) + self.evidence[reached]), kind="stable")
        found = np.zeros_like(density)
        found[reached[order]] = np.sort(density[reached])[::-1]
        return found


def even(nodes: NDArray[np.int64], count: int) -> Mass:
    """Return (count,) the mass of 1 spread over `nodes`."""
    seeds = np.zeros(count)
    seeds[nodes] = 1 / len(nodes)
    return seeds


@dataclass(frozen=True)
class Hearing:
    """How far the words of a class are heard beside its pictures.

    agreement   how many deviations of the pool the pictures, and what they reach first, lie above its median by the
                words; nan without both
    share       from 0, where words change nothing, towards 1
    """

    agreement: float
    share: float = 0.0

    def depart(
        self, pictures: NDArray[np.int64], words: NDArray[np.int64], count: int, scores: NDArray[np.float32]
    ) -> Departure:
        """Return how walks start from the nodes of `pictures` and of `words`, of `count`.

        scores   (c,) what words say of the candidates, which are the last nodes; nan where that is not known
        """
        voice = _VOICE * self.share
        seeds = (1 - voice) * even(pictures, count) + voice * even(words, count)
        return Departure(seeds, _EVIDENCE * self.share * np.nan_to_num(scores).astype(np.float64))


SILENT = Hearing(float("nan"))


def listen(members: NDArray[np.float32], pictures: NDArray[np.float32]) -> Hearing:
    """Return how far the words of a class are heard: as far as they describe its pictures, and what these reach.

    members    (c,) what the words say of the candidates that the pictures alone lead to, the surest first: how many
               deviations of the pool each lies above its median; nan where that is not known
    pictures   the same of the pictures
    """
    near = np.nan_to_num(members[:_NEAR]).astype(np.float64)
    agreement = float((_WEIGHT * pictures.mean() + near.sum()) / (_WEIGHT + len(near)))
    strength = max(agreement - _UNHEARD, 0.0) ** 2
    return Hearing(agreement, strength / (strength + _HALF**2))
