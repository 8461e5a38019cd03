"""Whether numbers that were seen come from where others came from: the population stability index, with an interval."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHIFTED = 0.1  # of the index: from here on what is seen is somewhat other, as is usually said
_BINS = 10
_DRAWS = 200  # of the bootstrap
_SHARES = (2.5, 97.5)  # percentiles of these: a 95 % interval


@dataclass(frozen=True)
class Stability:
    """The population stability index, and its 95 % interval by bootstrap."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f}, {self.low:.3f} to {self.high:.3f}"


def stability(expected: NDArray[np.float64], seen: NDArray[np.float64], seed: int = 0) -> Stability:
    """Return the population stability index of `seen` (m,) against `expected` (n,), both drawn again for its interval.

    Chance alone raises the index of few numbers; what it raises that of the draws by, beyond, is taken off these.
    """
    rng = np.random.default_rng(seed)
    value = stability_index(expected, seen)
    draws = [stability_index(rng.choice(expected, len(expected)), rng.choice(seen, len(seen))) for _ in range(_DRAWS)]
    low, high = np.percentile(np.array(draws) - (np.mean(draws) - value), _SHARES)
    return Stability(value, max(float(low), 0.0), float(high))


def stability_index(expected: NDArray[np.float64], seen: NDArray[np.float64]) -> float:
    """Return the population stability index of `seen` (m,) against `expected` (n,), over the tenths of `expected`.

    The sum of (s - e) ln(s / e) over the tenths; each share is raised by half an image, so that none is zero.
    """
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, _BINS + 1)[1:-1]))
    shares = []
    for values in (expected, seen):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) + 0.5
        shares.append(counts / counts.sum())
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
