"""From scores to probabilities that are frequencies in the pool, and a threshold per class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.names import counted

_LEAST_SHOWN = 1.0  # expected images of a class among the rows held out; of fewer nothing is fitted
_OF_F1 = 0.35  # of the F1 to be expected, where one half is best for exact probabilities: docs/tried.md#new-images
_LEAST_THRESHOLD = 0.035  # below it nearly all that is taken is wrong: then rather nothing is
_FLATTEST = 0.05  # of a deviation of the scores, where they cannot tell a class: nothing is far from its share
_STEEPEST = 1e4  # slope
_ROUNDING = 1e-5  # of the scores, below which they do not differ: then no slope can be learnt


@dataclass(frozen=True)
class Calibration:
    """softmax(slope x (scores - score of none) + shift, and 0 for none) are probabilities of K classes and "none".

    slope, shift  (K,) by class
    thresholds    (K,) probabilities
    prior         (K + 1,) share of the pool
    basis         (K,) where each threshold comes from
    """

    slope: NDArray[np.float64]
    shift: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    prior: NDArray[np.float64]
    basis: list[str]

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n, K + 1) probabilities of (n, K + 1) scores."""
        odds = self.slope * (scores[:, :-1] - scores[:, -1:]) + self.shift
        return softmax(np.concatenate([odds, np.zeros((len(odds), 1))], axis=1))


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(scores), scaled so that each row adds up to 1."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    scaled: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return scaled


def calibrate(
    scores: NDArray[np.float64],
    targets: NDArray[np.float64],
    stands: NDArray[np.float64],
    said: NDArray[np.bool_] | None = None,
    trust: NDArray[np.float64] | None = None,
) -> Calibration:
    """Fit on rows that a head did not learn from, as it has not learnt from new images either.

    scores    (n, K + 1), "none" last
    targets   (n, K + 1) with which probability each row shows each class: 1 where somebody said so
    stands    (n,) for how many images of the pool each stands
    said      (n, K) of which rows people said whether they show a class; None for none
    trust     (n, K) how far each target is trusted; None for all alike

    The odds of each class against "none" follow its score by a slope and a shift (Platt, 1999), with what is not
    certain counted on both sides. A threshold is a part of the greatest F1 that these probabilities lead to expect, so
    it moves little when an answer comes. Were they exact, half of that F1 would be best (Lipton et al., ECML 2014).
    """
    margins, count = scores[:, :-1] - scores[:, -1:], scores.shape[1] - 1
    shares = np.asarray(stands @ targets)
    prior = shares / shares.sum() if shares.sum() else np.append(np.zeros(count), 1.0)
    weights = stands[:, None] * (np.ones_like(margins) if trust is None else trust)
    fitted = [
        _platt(margins[:, k], weights[:, k] * targets[:, k], weights[:, k] * targets[:, -1])
        if min(shares[k], shares[-1]) >= _LEAST_SHOWN
        else _rare(shares[k], shares[-1])
        for k in range(count)
    ]
    slope, shift = (np.array(column, dtype=np.float64) for column in zip(*fitted, strict=True))
    plain = Calibration(slope, shift, np.full(count, 0.5), prior, [""] * count)
    probabilities, thresholds, basis = plain.probabilities(scores), [], []
    for k in range(count):
        best = _expected_f1(probabilities[:, k], stands)
        thresholds.append(float(max(_OF_F1 * best, _LEAST_THRESHOLD)) if shares[k] >= _LEAST_SHOWN else 0.5)
        answers = 0 if said is None else int(said[:, k].sum())
        basis.append(_basis(shares[k], answers, best))
    return Calibration(slope, shift, np.array(thresholds), prior, basis)


def _platt(
    margins: NDArray[np.float64], shown: NDArray[np.float64], not_shown: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the slope and the shift with which `margins` (n,) give the log-odds of a class against "none".

    shown, not_shown   (n,) how many images of each row show the class, and none of them
    """
    from sklearn.linear_model import LogisticRegression

    mass, rest = float(shown.sum()), float(not_shown.sum())
    centre, scale = float(margins.mean()), float(margins.std())
    if scale <= _ROUNDING * max(1.0, float(np.abs(margins).max(initial=0))):  # whatever differs is near its share
        return _FLATTEST, float(np.log(mass / rest)) - _FLATTEST * centre
    X = np.concatenate([margins, margins])[:, None]
    model = LogisticRegression(C=1e4, max_iter=200).fit(
        (X - centre) / scale,
        np.repeat([1, 0], len(margins)),
        sample_weight=np.concatenate([shown, not_shown]),
    )
    coefficient = float(model.coef_[0, 0])
    slope = min(max(coefficient, _FLATTEST) / scale, _STEEPEST)
    fitted = slope == coefficient / scale
    return slope, (float(model.intercept_[0]) if fitted else float(np.log(mass / rest))) - slope * centre


def _rare(mass: float, rest: float) -> tuple[float, float]:
    """Return slope and shift where there is nothing to fit them to: the odds of a class as rare as one image."""
    return 1.0, -float(np.log(max(rest, 1.0))) if mass < rest else 0.0


def _expected_f1(probabilities: NDArray[np.float64], stands: NDArray[np.float64]) -> float:
    """Return the greatest F1 that a threshold is expected to have, by the probabilities themselves."""
    order = np.argsort(-probabilities)
    hits, taken = np.cumsum((stands * probabilities)[order]), np.cumsum(stands[order])
    return float((2 * hits / np.maximum(taken + hits[-1], 1e-12)).max()) if len(order) else 0.0


def _basis(images: float, answers: int, f1: float) -> str:
    if images < _LEAST_SHOWN:
        return "one half: there is no image but the exemplars to judge by"
    by = f"{counted(answers, 'answer')} and the groups" if answers else "the groups alone"
    low = "; at least that, as it would be lower" if _OF_F1 * f1 < _LEAST_THRESHOLD else ""
    return f"{_OF_F1} of the greatest F1 to be expected, {f1:.2f}, by {by}{low}"
