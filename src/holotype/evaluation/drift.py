"""Population stability: how far what a model sees now is from the pool that it was learnt from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.model.predictions import DISTANCE

MOVED, OTHERS = 0.1, 0.25  # of the index, as they are used for scorecards (Siddiqi, Credit Risk Scorecards, 2006)
FEW = 200  # images on either side below which nothing is said: of fewer, chance alone would raise the alarm
SHARE = "share of none"
_BINS = 10
_DRAWS = 2000
_BOUNDS = (97.5, 50, 2.5)


@dataclass(frozen=True)
class ModelOutputs:
    """What a model said of m images, one entry each.

    none        (m,) whether it said "none"
    scores      (m,) the probability of the likeliest class
    distances   (m,) 1 - cosine to the nearest image of a sample of the pool; nan where that is not known
    """

    none: NDArray[np.bool_]
    scores: NDArray[np.float64]
    distances: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.none)

    @property
    def quantities(self) -> dict[str, NDArray[np.float64]]:
        """What is compared: (m,) each, by its name."""
        return {SHARE: self.none.astype(np.float64), "highest probability": self.scores, DISTANCE: self.distances}


@dataclass(frozen=True)
class Stability:
    """One quantity of a pool and of new images.

    pool, new   its means
    index       the population stability index of the new images against the pool, less what chance adds
    low, high   its 95 % bootstrap interval, which it lies in (`bootstrap_interval`)
    images      how many new ones there are; `pool_images` of the pool
    """

    quantity: str
    pool: float
    new: float
    index: float
    low: float
    high: float
    images: int
    pool_images: int

    @property
    def verdict(self) -> str:
        """What that means, in words: other images are said where the whole interval says so."""
        if min(self.images, self.pool_images) < FEW:
            where = "" if self.images < FEW else "in the pool "
            return f"too few images {where}to say (from {FEW} on)"
        if self.index < OTHERS:
            return "stable" if self.index < MOVED else "moved"
        others = "other images than those of the pool"
        return others if self.low >= OTHERS else f"it cannot be told whether they are {others}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        values = {"quantity": self.quantity, "pool": self.pool, "new": self.new, "index": self.index}
        return values | {"low": self.low, "high": self.high, "verdict": self.verdict}


def compare_seen(pool: ModelOutputs, new: ModelOutputs, seed: int = 0) -> list[Stability]:
    """Compare what was said of a pool and of new images; a quantity that is known of none of these is left out."""
    found = []
    for (quantity, expected), given in zip(pool.quantities.items(), new.quantities.values(), strict=True):
        seen = given[~np.isnan(given)]
        found += [compare_quantity(quantity, expected, seen, seed)] if len(seen) else []
    return found


def compare_quantity(
    quantity: str, expected: NDArray[np.float64], seen: NDArray[np.float64], seed: int = 0
) -> Stability:
    """Compare one quantity of a pool, (n,) as `expected`, and of new images, (m,) as `seen`."""
    counts = _binned(expected, seen)
    low, index, high = bootstrap_interval(*counts, seed)
    means = float(expected.mean()), float(seen.mean())
    return Stability(quantity, *means, index, low, high, len(seen), len(expected))


def stability_index(expected: NDArray[np.float64], seen: NDArray[np.float64]) -> float:
    """Return the population stability index of `seen` (m,) against `expected` (n,), over the tenths of `expected`.

    The sum of (s - e) ln(s / e) over the tenths; each share is raised by half an image, so that none is zero.
    """
    return float(_index(*_binned(expected, seen)))


def bootstrap_interval(
    expected: NDArray[np.int64], seen: NDArray[np.int64], seed: int = 0
) -> tuple[float, float, float]:
    """Return the index of images `seen` in each bin against those `expected` there, in its 95 % interval: the middle.

    Both are drawn again. That raises the index, as chance does with few images, by as much again: so the limits are
    the basic ones, twice the index less the quantiles of what is drawn (Davison and Hinkley, Bootstrap Methods and
    their Application, 1997, section 5.2). The index itself is such a limit, at one half: it lies between the others,
    and what chance adds is taken off it. None is below 0.
    """
    random = np.random.default_rng(seed)
    drawn = [random.multinomial(one.sum(), one / one.sum(), _DRAWS) for one in (expected, seen)]
    low, index, high = np.maximum(2 * _index(expected, seen) - np.percentile(_index(*drawn), _BOUNDS), 0).tolist()
    return low, index, high


def _binned(expected: NDArray[np.float64], seen: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count both in the tenths of `expected`; where it has few values, in as many bins."""
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, _BINS + 1)[1:-1]))
    if len(np.unique(expected)) <= 2:  # a share
        edges = np.array([0.5])
    counts = [
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        for values in (expected, seen)
    ]
    return counts[0], counts[1]


def _index(expected: NDArray[np.int64], seen: NDArray[np.int64]) -> Any:
    """Return the index of counts (..., bins)."""
    raised = [counts + 0.5 for counts in (expected, seen)]
    before, after = (counts / counts.sum(axis=-1, keepdims=True) for counts in raised)
    return ((after - before) * np.log(after / before)).sum(axis=-1)


def stability_table(found: Sequence[Stability]) -> list[str]:
    """Return the lines of a table for the eye."""
    rows: list[tuple[str, ...]] = [("quantity", "pool", "new", "PSI", "95 % interval", "")]
    for one in found:
        values = [f"{100 * value:.1f} %" if one.quantity == SHARE else f"{value:.3f}" for value in (one.pool, one.new)]
        rows.append((one.quantity, *values, f"{one.index:.3f}", f"{one.low:.3f} to {one.high:.3f}", one.verdict))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
