"""The promise of a probability: at the pool's prior it is a frequency, though the head was trained balanced."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import vonmises_fisher

from holotype.model.calibration import Calibration, calibrate, softmax
from holotype.model.heads import TrainingRows, class_weights, fit_head
from holotype.settings import HeadName, HeadSettings

PRIOR = np.array([0.05, 0.02, 0.93])  # of the pool: two rare classes and "none"
CENTRES = np.eye(3, 8)
KAPPA = 6.0


class World(NamedTuple):
    """Points on the unit sphere around three centres: the posterior is softmax(kappa x.centres + log prior)."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]

    def posterior(self) -> NDArray[np.float64]:
        return softmax(KAPPA * self.X.astype(np.float64) @ CENTRES.T + np.log(PRIOR))


def world(sizes: list[int], seed: int) -> World:
    random = np.random.default_rng(seed)
    parts = [
        vonmises_fisher(centre, KAPPA).rvs(size, random_state=random)
        for centre, size in zip(CENTRES, sizes, strict=True)
    ]
    return World(np.concatenate(parts).astype(np.float32), np.repeat(np.arange(3), sizes))


def at_the_prior(seed: int, count: int = 20_000) -> World:
    return world((PRIOR * count).round().astype(int).tolist(), seed)


def expected_calibration_error(chances: NDArray[np.float64], hit: NDArray[np.bool_]) -> float:
    """The gap between probability and frequency in twenty bins of equal size."""
    bins = np.array_split(np.argsort(chances), 20)
    return float(np.mean([abs(chances[rows].mean() - hit[rows].mean()) for rows in bins]))


def scores_and_calibration(name: HeadName, sizes: list[int]) -> tuple[NDArray[np.float64], Calibration, World]:
    train, held, new = world(sizes, 0), world([300, 300, 1200], 1), at_the_prior(2)
    weights = class_weights(train.y, 3, "weights")
    rows = TrainingRows(train.X, train.y, weights[train.y])
    held_rows = TrainingRows(held.X, held.y, class_weights(held.y, 3, "weights")[held.y])
    settings = HeadSettings(strength=1.0, epochs=20, learning_rate=5e-3, units=32)
    head = fit_head(name, settings, rows, held_rows, 3, seed=0)
    trained = np.bincount(train.y, rows.weights, minlength=3)
    calibration = calibrate(head.scores(held.X), held.y, trained_prior=trained / trained.sum(), pool_prior=PRIOR)
    return head.scores(new.X), calibration, new


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_probabilities_are_frequencies_at_the_pools_prior(name: HeadName) -> None:
    scores, calibration, new = scores_and_calibration(name, [400, 150, 2500])
    chances = calibration.probabilities(scores)
    for k in range(3):
        assert expected_calibration_error(chances[:, k], new.y == k) < 0.01
    assert np.abs(chances - new.posterior()).mean() < 0.01
    assert np.allclose(chances.mean(axis=0), PRIOR, atol=0.01)
    # what the head says by itself is far off: it answers for a world where the classes are alike in number
    raw = softmax(scores)
    assert expected_calibration_error(raw[:, 0], new.y == 0) > 0.05


def test_shift_and_temperature_are_found_again() -> None:
    """Scores of the exact balanced posterior, made three times too sure."""
    held = world([2000, 2000, 2000], 1)
    scores = 3 * KAPPA * held.X.astype(np.float64) @ CENTRES.T
    found = calibrate(scores, held.y, trained_prior=np.ones(3) / 3, pool_prior=PRIOR)
    assert found.temperature == pytest.approx(3, rel=0.1)
    assert np.allclose(found.shift, np.log(PRIOR * 3))
    new = at_the_prior(2)
    chances = found.probabilities(3 * KAPPA * new.X.astype(np.float64) @ CENTRES.T)
    assert np.abs(chances - new.posterior()).max() < 0.05


def test_a_head_that_is_right_already_is_left_as_it_is() -> None:
    held = world([3000, 3000, 3000], 1)
    scores = KAPPA * held.X.astype(np.float64) @ CENTRES.T + np.log(PRIOR)
    found = calibrate(scores, held.y, trained_prior=PRIOR, pool_prior=PRIOR)
    assert np.allclose(found.shift, 0)
    assert found.temperature == pytest.approx(1, abs=0.1)


def test_how_many_validation_rows_a_class_has_does_not_move_the_probabilities() -> None:
    few, many = world([500, 500, 500], 1), world([500, 2000, 4000], 1)
    first, second = (
        calibrate(KAPPA * w.X.astype(np.float64) @ CENTRES.T, w.y, trained_prior=np.ones(3) / 3, pool_prior=PRIOR)
        for w in (few, many)
    )
    assert first.temperature == pytest.approx(second.temperature, abs=0.1)
    assert np.array_equal(first.shift, second.shift)


def f1_of(threshold: float, chances: NDArray[np.float64], positive: NDArray[np.bool_], w: NDArray[np.float64]) -> float:
    given = chances >= threshold
    return float(2 * w[given & positive].sum() / (w[given].sum() + w[positive].sum()))


@pytest.mark.parametrize("steps", [4, 20, 10_000])
@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_better_f1_on_the_validation_rows(seed: int, steps: int) -> None:
    """Also with many equal scores, which a threshold takes or leaves together."""
    random = np.random.default_rng(seed)
    labels = random.choice(3, 300, p=[0.1, 0.2, 0.7])
    scores = np.round(random.normal(size=(300, 3)) * steps + np.eye(3)[labels] * steps) / steps
    found = calibrate(scores, labels, trained_prior=np.ones(3) / 3, pool_prior=np.array([0.1, 0.2, 0.7]))
    weights = (np.array([0.1, 0.2, 0.7]) / np.bincount(labels))[labels]
    chances = found.probabilities(scores)
    for k in range(2):
        own, positive = chances[:, k], labels == k
        best = max(f1_of(threshold - 1e-8, own, positive, weights) for threshold in np.unique(own.round(8)))
        assert f1_of(found.thresholds[k], own, positive, weights) == pytest.approx(best)
        assert found.basis[k] == f"best F1 on {positive.sum()} validation rows of the class"


def test_a_threshold_between_two_groups_stands_in_the_middle() -> None:
    labels = np.repeat([0, 1], [20, 20])
    scores = np.where(labels[:, None] == 0, [2.0, 0.0], [0.0, 2.0])
    half = np.array([0.5, 0.5])
    found = calibrate(scores, labels, trained_prior=half, pool_prior=half)
    assert found.thresholds[0] == pytest.approx(0.5)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_with_few_validation_rows_the_rows_learnt_from_count_too(count: int) -> None:
    labels = np.repeat([0, 1, 2], [count, 30, 100])
    scores = 4 * np.eye(3)[labels]
    learnt = np.array([[1.0, 0, 0], [1.2, 0, 0], [-3, 0, 3], [-3, 0, 3]]), np.array([0, 0, 2, 2])
    found = calibrate(scores, labels, trained_prior=np.ones(3) / 3, pool_prior=PRIOR, learnt=learnt)
    own = found.probabilities(learnt[0])[:, 0]
    assert found.thresholds[0] <= 0.5
    assert own[:2].min() >= found.thresholds[0] > own[2:].max()
    assert (
        found.basis[0] == f"best F1 on {count + 2} rows of the class, those learnt from included: only {count} validate"
    )
    assert found.basis[1] == "best F1 on 30 validation rows of the class"


def test_without_any_row_of_the_class_the_threshold_is_one_half() -> None:
    labels = np.repeat([1, 2], [30, 100])
    found = calibrate(3 * np.eye(3)[labels], labels, trained_prior=np.ones(3) / 3, pool_prior=PRIOR)
    assert (found.thresholds[0], found.basis[0]) == (0.5, "one half: no row of the class validates")


def test_no_validation_rows_at_all() -> None:
    found = calibrate(np.zeros((0, 3)), np.zeros(0, np.int64), trained_prior=np.ones(3) / 3, pool_prior=PRIOR)
    assert found.temperature == 1
    assert found.thresholds.tolist() == [0.5, 0.5]
    assert np.allclose(found.probabilities(np.zeros((2, 3))), PRIOR)  # nothing known: the prior
    assert found.probabilities(np.zeros((0, 3))).shape == (0, 3)


def test_validation_rows_of_none_only() -> None:
    scores = np.random.default_rng(0).normal(size=(40, 3))
    found = calibrate(scores, np.full(40, 2), trained_prior=np.ones(3) / 3, pool_prior=PRIOR)
    assert found.temperature == 1  # else it would grow without end
    assert np.allclose(found.probabilities(np.zeros((1, 3))), PRIOR)


def test_scores_of_any_size_give_probabilities() -> None:
    scores = np.array([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]])
    chances = softmax(scores)
    assert np.allclose(chances.sum(axis=1), 1)
    assert np.allclose(chances[1:], 1 / 3)


def test_a_class_that_no_row_was_trained_on_stays_finite() -> None:
    labels = np.repeat([1, 2], [30, 100])
    scores = np.random.default_rng(0).normal(size=(130, 3))
    found = calibrate(scores, labels, trained_prior=np.array([0, 0.5, 0.5]), pool_prior=PRIOR)
    assert np.isfinite(found.probabilities(scores)).all()
