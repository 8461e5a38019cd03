"""How far scores of a pool spread, whatever positives are among them."""

import numpy as np
from numpy.typing import NDArray


def robust_spread(scores: NDArray[np.float32]) -> tuple[float, float]:
    """Return median and standard deviation, the latter from the left half alone: positives lie on the right."""
    median = float(np.median(scores))
    left = scores[scores <= median]
    return median, float(np.sqrt(np.mean((left - median) ** 2))) or 1e-6
