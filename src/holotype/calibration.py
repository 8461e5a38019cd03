"""From scores to probabilities at the pool's prior, and a threshold per class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FEW = 5  # validation positives below which a class's threshold stays at one half


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
) -> Calibration:
    """Fit on validation rows: scores (n, K + 1), labels (n,) class numbers with "none" last.

    A head trained with class weights answers for the weighted prior; its scores are shifted to the pool's
    (Saerens et al., 2002), and one temperature is fitted (Guo et al., ICML 2017), each label's rows weighted to
    the pool's prior. Each threshold has the best F1 on these rows. They carry labels of the groups, not of a
    person: both are provisional.
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
    chances = softmax(scores / temperature + shift) if len(labels) else np.zeros((0, len(pool_prior)))
    found = [_threshold(chances[:, k], labels == k, weights) for k in range(len(pool_prior) - 1)]
    thresholds = np.array([value for value, _ in found])
    return Calibration(temperature, shift, thresholds, pool_prior, [basis for _, basis in found])


def _threshold(
    chances: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[float, str]:
    count = int(positive.sum())
    if count < _FEW:
        return 0.5, f"one half: only {count} validation rows of the class"
    order = np.argsort(-chances)
    hit = np.cumsum((weights * positive)[order])
    taken = np.cumsum(weights[order])
    f1 = 2 * hit / (taken + (weights * positive).sum())
    f1[:-1][np.diff(chances[order]) > -1e-9] = -1  # equal chances are taken together
    best = int(f1.argmax())
    above = chances[order[best]]
    below = chances[order[best + 1]] if best + 1 < len(order) else 0.0
    middle = float(np.clip((above + below) / 2, 0.01, 0.99))
    return middle, f"best F1 on {count} validation rows of the class"
