"""How many images of a class are among those that are promised: an estimate, from a sample of all others."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from holotype.answers.certify import Look
from holotype.model.promises import RecallEstimate

Rows = NDArray[np.int64]

_NEAR = 0.9  # of the images of the class that the model expects among the others: the likeliest that have them
_SHARES = 3  # what is promised, what is near, and the rest: each has a third of the doubt


def strata(rows: Rows, chance: NDArray[np.float64], numbers: NDArray[np.float64]) -> list[Rows]:
    """Return the likeliest of `rows`, which have most of what is to be expected, and the rest, as they are drawn.

    chance    (m,) probability of each of `rows`
    numbers   (n,) by which rows are drawn
    """
    order = np.argsort(-chance, kind="stable")
    expected = np.cumsum(chance[order])
    near = int(np.searchsorted(expected, _NEAR * expected[-1])) + 1 if len(order) else 0
    parts = rows[order[:near]], rows[order[near:]]
    return [part[np.argsort(numbers[part], kind="stable")] for part in parts if len(part)]


def asked_of(parts: Sequence[Rows], answers: int) -> list[list[int]]:
    """Return which rows of each part are looked at: as many of each, and more of one where another has fewer."""
    counts, left = [0] * len(parts), answers
    for place in sorted(range(len(parts)), key=lambda place: len(parts[place])):
        waiting = sum(count == 0 for count in counts)
        counts[place] = min(len(parts[place]), left // waiting)
        left -= counts[place]
    return [part[:count].tolist() for part, count in zip(parts, counts, strict=True)]


def estimate_recall(
    reached: Look, parts: Sequence[Rows], samples: Sequence[Sequence[int]], known: Mapping[int, bool], confidence: float
) -> RecallEstimate | None:
    """Return the share of the class's images that are in what was reached; None as long as an answer is missing.

    parts, samples   the others, and those of them that were looked at

    The interval comes from exact ones (Clopper and Pearson) of each part, which all hold with the confidence.
    """
    if any(row not in known for sample in samples for row in sample):
        return None
    doubt = (1 - confidence) / _SHARES
    found, least, most = _count(reached.yes, reached.asked, len(reached.top), doubt)
    missed = [_count(sum(known[row] for row in s), len(s), len(p), doubt) for p, s in zip(parts, samples, strict=True)]
    lost, lost_least, lost_most = (sum(one[i] for one in missed) for i in range(3))
    return RecallEstimate(
        value=_share(found, lost),
        low=_share(least, lost_most),
        high=_share(most, lost_least),
        asked=sum(map(len, samples)),
    )


def _share(one: float, other: float) -> float:
    return one / (one + other) if one + other else 0.0


def _count(yes: int, asked: int, size: int, doubt: float) -> tuple[float, float, float]:
    """Return how many of `size` rows show the class: the likeliest, the least and the most."""
    from scipy.special import betaincinv

    if asked == size:
        return float(yes), float(yes), float(yes)
    low = float(betaincinv(yes, asked - yes + 1, doubt / 2)) if yes else 0.0
    high = float(betaincinv(yes + 1, asked - yes, 1 - doubt / 2)) if yes < asked else 1.0
    return size * (yes / asked if asked else 0.0), size * low, size * high
