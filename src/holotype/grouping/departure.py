"""What the walks of a class start from: its pictures, and its words as far as these describe the pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mass = NDArray[np.float64]

# docs/tried.md#words has the figures
_NEAR = 20  # images most like the exemplars, by which it is seen whether words mean the same
_WEIGHT = 5  # of an exemplar beside one of these
_VOICE = 0.6  # of the mass may start from words, where they agree with the pictures entirely
HEARD = 1.5  # deviations from which they are heard: what all images of a kind have in common says less
_HALF = 2.0  # deviations above these at which they have half of that
_EVIDENCE = 0.03  # decades of density for each deviation that an image lacks, times those by which words are heard
_MOST_EVIDENCE = 6.0  # decades, so that nothing that walks reach is out of reach


@dataclass(frozen=True)
class Departure:
    """What the walks of a class start from.

    seeds      (m,) share of the mass of each node
    evidence   (m,) what the density of each node is multiplied with, by what words say of it
    agreement  how many deviations of the pool the pictures, and what is most like them, lie above its median by the
               words; nan without both
    """

    seeds: Mass
    evidence: Mass | float = 1.0
    agreement: float = float("nan")


def even(nodes: NDArray[np.int64], count: int) -> Mass:
    """Return (count,) the mass of 1 spread over `nodes`."""
    seeds = np.zeros(count)
    seeds[nodes] = 1 / len(nodes)
    return seeds


def hearing(
    plain: Departure,
    density: Mass,
    scores: NDArray[np.float32],
    pictures: NDArray[np.float32],
    words: NDArray[np.int64],
) -> Departure:
    """Return `plain`, from the pictures of a class, with its words: heard as far as they describe these.

    density    (c,) of the walks from the pictures, of each candidate
    scores     (c,) how many deviations of the pool each lies above its median by the words; nan where that is not known
    pictures   the same of the pictures
    words      the nodes that stand for words
    """
    known = np.nan_to_num(scores).astype(np.float64)
    near = known[np.argsort(-density, kind="stable")[:_NEAR]]
    agreement = float((_WEIGHT * pictures.mean() + near.sum()) / (_WEIGHT + len(near)))
    heard = max(agreement - HEARD, 0.0)
    voice = _VOICE * heard / (heard + _HALF)
    seeds = (1 - voice) * plain.seeds + voice * even(words, len(plain.seeds))
    lacking = np.maximum(agreement - known, 0)  # what is described as well as the pictures is as good as these
    decades = -np.minimum(_EVIDENCE * heard * lacking, _MOST_EVIDENCE)
    others = np.ones(len(seeds) - len(known))
    return Departure(seeds, np.concatenate([others, 10**decades]), agreement)
