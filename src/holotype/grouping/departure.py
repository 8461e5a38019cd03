"""What the walks of a class start from: its pictures, and its words as far as these describe the pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mass = NDArray[np.float64]

# docs/tried.md#words has the figures
_NEAR = 20  # images that pictures reach first, by which it is seen whether words agree
_WEIGHT = 5  # of an exemplar beside one of these
_AGREED = 1.0  # deviations up to which words are not heard: in a small pool they may find an image by chance
_UNHEARD = 0.05  # overlap up to which they are not either
_HALF = 0.1  # overlap at which they are half heard
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
    overlap     how much of what the words find first the pictures reach, from 0 to 1; nan without both
    """

    agreement: float = float("nan")
    overlap: float = float("nan")

    @property
    def share(self) -> float:
        """How far they are heard: from 0, where words change nothing, towards 1."""
        if not (self.agreement > _AGREED and self.overlap > _UNHEARD):
            return 0.0
        return self.overlap**2 / (self.overlap**2 + _HALF**2)

    def depart(
        self, pictures: NDArray[np.int64], words: NDArray[np.int64], count: int, scores: NDArray[np.float32]
    ) -> Departure:
        """Return how walks start from the nodes of `pictures` and of `words`, of `count`.

        scores   (c,) what words say of the candidates, which are the last nodes; nan where that is not known
        """
        voice = _VOICE * self.share
        seeds = (1 - voice) * even(pictures, count) + voice * even(words, count)
        return Departure(seeds, _EVIDENCE * self.share * np.nan_to_num(scores).astype(np.float64))


SILENT = Hearing()


def listen(
    members: NDArray[np.float32], pictures: NDArray[np.float32], found: NDArray[np.float32], density: Mass
) -> Hearing:
    """Return how far the words of a class describe its pictures, and are about what these reach.

    members    (c,) what the words say of the candidates that the pictures alone lead to, the surest first: how many
               deviations of the pool each lies above its median; nan where that is not known
    pictures   the same of the pictures
    found      (f,) the same of the images that the words find first
    density    (f,) of the walks from the pictures at these images
    """
    near = np.nan_to_num(members[:_NEAR]).astype(np.float64)
    agreement = (_WEIGHT * pictures.mean() + near.sum()) / (_WEIGHT + len(near))
    weights = found.astype(np.float64) ** 2
    overlap = weights @ np.minimum(density, 1) / max(float(weights.sum()), 1e-12)
    return Hearing(float(agreement), float(overlap))
