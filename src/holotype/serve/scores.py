"""How sure it is what an image shows, as one number that images can be put in order by."""

import numpy as np
from numpy.typing import NDArray


def certainty(probabilities: NDArray[np.float64], thresholds: NDArray[np.float64]) -> float:
    """Return how sure a decision is by the probabilities of K classes and their thresholds, both (K,).

    0 at the threshold, or where two classes are equally far above theirs; 1 as far from it as a probability can be.
    """
    room = np.where(probabilities >= thresholds, 1 - thresholds, thresholds)
    margins = np.sort((probabilities - thresholds) / np.maximum(room, 1e-9))[::-1]
    best, second = float(margins[0]), float(margins[1]) if len(margins) > 1 else 0.0
    return round(min(1.0, -best if best < 0 else best - max(second, 0.0)), 6)
