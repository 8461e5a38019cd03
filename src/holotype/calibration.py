"""From scores to probabilities at the pool's prior, and a threshold per class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FEW = 5  # validation positives below which a class's threshold rests on the rows learnt from as well


@dataclass(frozen=True)
class Calibration:
    """softmax(scores / temperature + shift) are probabilities of K classes and "none".

    shift        (K + 1,) log of the pool's prior over the prior that the head was trained with
    thresholds   (K,) probabilities
    prior        (K + 1,) share of the pool
    basis        (K,) where each threshold comes from
    """

    temperature: float
    shift: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    prior: NDArray[np.float64]
    basis: list[str]

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n, K + 1) probabilities of (n, K + 1) scores."""
        return softmax(scores / self.temperature + self.shift)


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(scores), scaled so that each row adds up to 1."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    scaled: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return scaled


def calibrate(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    trained_prior: NDArray[np.float64],
    pool_prior: NDArray[np.float64],
    learnt: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None,
) -> Calibration:
    """Fit on validation rows: scores (n, K + 1), labels (n,) class numbers with "none" last.

    A head trained with class weights answers for the weighted prior; its scores are shifted to the pool's
    (Saerens et al., 2002), and one temperature is fitted (Guo et al., ICML 2017), each label's rows weighted to
    the pool's prior. Each threshold has the best F1 on these rows. With few of a class it rests on `learnt` too
    (scores and labels of the fit rows), and is at most one half, which the best threshold for F1 never exceeds
    (Lipton et al., ECML 2014). Labels come from the groups, not from a person: all this is provisional.
    """
    from scipy.optimize import minimize_scalar

    shift = np.log(np.maximum(pool_prior, 1e-12)) - np.log(np.maximum(trained_prior, 1e-12))
    sizes = np.bincount(labels, minlength=len(pool_prior))
    weights = (pool_prior / np.maximum(sizes, 1))[labels]
    temperature = 1.0
    if len(labels) and (sizes[:-1] > 0).any():

        def loss(log_temperature: float) -> float:
            chances = softmax(scores / np.exp(log_temperature) + shift)[np.arange(len(labels)), labels]
            return float(-(weights * np.log(np.maximum(chances, 1e-12))).sum())

        temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
    both = (scores, labels)
    if learnt is not None:
        both = (np.concatenate([scores, learnt[0]]), np.concatenate([labels, learnt[1]]))
    thresholds, basis = np.full(len(pool_prior) - 1, 0.5), []
    for k, count in enumerate(sizes[:-1]):
        rows, most = ((scores, labels), 0.99) if count >= _FEW else (both, 0.5)
        own = np.flatnonzero(rows[1] == k)
        if len(own):
            weight = (pool_prior / np.maximum(np.bincount(rows[1], minlength=len(pool_prior)), 1))[rows[1]]
            thresholds[k] = _threshold(softmax(rows[0] / temperature + shift)[:, k], rows[1] == k, weight, most)
        basis.append(_basis(int(count), len(own)))
    return Calibration(temperature, shift, thresholds, pool_prior, basis)


def _basis(validating: int, all_: int) -> str:
    if validating >= _FEW:
        return f"best F1 on {validating} validation rows of the class"
    if all_:
        return f"best F1 on {all_} rows of the class, those learnt from included: only {validating} validate"
    return "one half: no row of the class validates"


def _threshold(
    chances: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64], most: float
) -> float:
    """Return the threshold with the best F1, between two chances that occur, and at most `most`."""
    order = np.argsort(-chances)
    hit = np.cumsum((weights * positive)[order])
    taken = np.cumsum(weights[order])
    f1 = 2 * hit / (taken + (weights * positive).sum())
    f1[:-1][np.diff(chances[order]) > -1e-9] = -1  # equal chances are taken together
    best = int(f1.argmax())
    above = chances[order[best]]
    below = chances[order[best + 1]] if best + 1 < len(order) else 0.0
    return float(np.clip((above + below) / 2, min(0.001, above), most))
