"""From scores to probabilities at the pool's prior, and a threshold per class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FEW = 5  # validation rows of a class; with fewer, its threshold rests on the rows learnt from as well: a judgement


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
    raised = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
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
    the pool's prior. It stays 1 where a class has fewer than five rows: it would follow a handful of labels.

    Each threshold has the best F1 on the validation rows. With fewer than five of the class it rests on `learnt` too
    (scores and labels of the fit rows), and is at most one half, which the best threshold for F1 never exceeds
    (Lipton et al., ECML 2014). Labels come from the groups, not from a person: all this is provisional.
    """
    shift = np.log(np.maximum(pool_prior, 1e-12)) - np.log(np.maximum(trained_prior, 1e-12))
    shift = np.where(trained_prior > 0, shift, 0.0)  # what was not learnt is not made likely by its prior
    sizes = np.bincount(labels, minlength=len(pool_prior))
    temperature = _temperature(scores, labels, shift, pool_prior) if sizes.min() >= _FEW else 1.0
    both = (scores, labels)
    if learnt is not None:
        both = (np.concatenate([scores, learnt[0]]), np.concatenate([labels, learnt[1]]))
    thresholds, basis = [], []
    for k, validating in enumerate(sizes[:-1].tolist()):
        rows, most = ((scores, labels), 0.99) if validating >= _FEW else (both, 0.5)
        probabilities, positive = softmax(rows[0] / temperature + shift)[:, k], rows[1] == k
        thresholds.append(_threshold(probabilities, positive, _weights(rows[1], pool_prior), most))
        basis.append(_basis(validating, int(positive.sum())))
    return Calibration(temperature, shift, np.array(thresholds), pool_prior, basis)


def _weights(labels: NDArray[np.int64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n,) weights with which the rows stand for the pool."""
    weights: NDArray[np.float64] = (prior / np.maximum(np.bincount(labels, minlength=len(prior)), 1))[labels]
    return weights


def _temperature(
    scores: NDArray[np.float64], labels: NDArray[np.int64], shift: NDArray[np.float64], prior: NDArray[np.float64]
) -> float:
    from scipy.optimize import minimize_scalar

    weights = _weights(labels, prior)

    def loss(log_temperature: float) -> float:
        probabilities = softmax(scores / np.exp(log_temperature) + shift)[np.arange(len(labels)), labels]
        return float(-(weights * np.log(np.maximum(probabilities, 1e-12))).sum())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def _basis(validating: int, rows: int) -> str:
    if validating >= _FEW:
        return f"best F1 on {validating} validation rows of the class"
    if rows:
        return f"best F1 on {rows} rows of the class, those learnt from included: only {validating} validate"
    return "one half: no row of the class validates"


def _threshold(
    probabilities: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64], most: float
) -> float:
    """Return the threshold with the best F1, between two probabilities that occur, and at most `most`."""
    if not positive.any():
        return 0.5
    order = np.argsort(-probabilities)
    hit = np.cumsum((weights * positive)[order])
    taken = np.cumsum(weights[order])
    f1 = 2 * hit / (taken + (weights * positive).sum())
    f1[:-1][np.diff(probabilities[order]) > -1e-9] = -1  # equal probabilities are taken together
    best = int(f1.argmax())
    above = probabilities[order[best]]
    below = probabilities[order[best + 1]] if best + 1 < len(order) else 0.0
    return float(np.clip((above + below) / 2, min(0.001, above), most))
