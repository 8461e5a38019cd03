"""The promise of a probability: at the pool's prior it is a frequency, though the head was trained balanced.

And of a threshold: it is where the F1 to be expected is greatest, and moves little when an answer comes.
"""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import vonmises_fisher

from holotype.model.calibration import Calibration, calibrate, softmax
from holotype.model.heads import TrainingRows, class_weights, fit_head
from holotype.model.predictions import classified
from holotype.settings import HeadName, HeadSettings

PRIOR = np.array([0.05, 0.02, 0.93])  # of the pool: two rare classes and "none"
CENTRES = np.eye(3, 8)
KAPPA = 6.0


class World(NamedTuple):
    """Points on the unit sphere around three centres: the posterior is softmax(kappa x.centres + log prior)."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]

    def scores(self) -> NDArray[np.float64]:
        """Of a head that is right where the classes are alike in number."""
        return KAPPA * self.X.astype(np.float64) @ CENTRES.T

    def posterior(self, prior: NDArray[np.float64] = PRIOR) -> NDArray[np.float64]:
        return softmax(self.scores() + np.log(prior))

    def truth(self) -> NDArray[np.float64]:
        return np.eye(3)[self.y]


def world(sizes: list[int], seed: int) -> World:
    random = np.random.default_rng(seed)
    parts = [
        vonmises_fisher(centre, KAPPA).rvs(size, random_state=random)
        for centre, size in zip(CENTRES, sizes, strict=True)
    ]
    return World(np.concatenate(parts).astype(np.float32), np.repeat(np.arange(3), sizes))


def at_the_prior(seed: int, count: int = 20_000, prior: NDArray[np.float64] = PRIOR) -> World:
    return world((prior * count).round().astype(int).tolist(), seed)


def ones(count: int) -> NDArray[np.float64]:
    return np.ones(count)


def expected_calibration_error(chances: NDArray[np.float64], hit: NDArray[np.bool_]) -> float:
    """The gap between probability and frequency in twenty bins of equal size."""
    bins = np.array_split(np.argsort(chances), 20)
    return float(np.mean([abs(chances[rows].mean() - hit[rows].mean()) for rows in bins]))


def scores_and_calibration(name: HeadName, soft: bool) -> tuple[NDArray[np.float64], Calibration, World]:
    """The head learns balanced; it is calibrated on all that may show a class, and on a tenth of the rest."""
    train, pool, new = world([400, 150, 2500], 0), at_the_prior(1), at_the_prior(2)
    rows = TrainingRows(train.X, train.y, class_weights(train.y, 3, "weights")[train.y])
    settings = HeadSettings(strength=1.0, epochs=20, learning_rate=5e-3, units=32)
    head = fit_head(name, settings, rows, rows, 3, seed=0)
    may_show = pool.posterior()[:, -1] < 0.98
    held = may_show | (np.random.default_rng(3).random(len(pool.y)) < 0.1)
    stands = np.where(may_show, 1.0, 10.0)[held]
    targets = (pool.posterior() if soft else pool.truth())[held]
    return head.scores(new.X), calibrate(head.scores(pool.X[held]), targets, stands), new


@pytest.mark.parametrize("soft", [True, False], ids=["estimates", "answers"])
@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_probabilities_are_frequencies_at_the_pools_prior(name: HeadName, soft: bool) -> None:
    scores, calibration, new = scores_and_calibration(name, soft)
    chances = calibration.probabilities(scores)
    for k in range(3):
        assert expected_calibration_error(chances[:, k], new.y == k) < 0.01
    assert np.abs(chances - new.posterior()).mean() < 0.01
    assert np.allclose(chances.mean(axis=0), PRIOR, atol=0.01)
    assert np.allclose(calibration.prior, PRIOR, atol=0.01)
    # what the head says by itself is far off: it answers for a world where the classes are alike in number
    raw = softmax(scores)
    assert expected_calibration_error(raw[:, 0], new.y == 0) > 0.05


@pytest.mark.parametrize("prior", [[0.05, 0.02, 0.93], [0.3, 0.3, 0.4], [0.45, 0.45, 0.1]])
@pytest.mark.parametrize("times", [0.01, 3, 300])
def test_slope_and_shift_are_found_again(prior: list[float], times: float) -> None:
    """Scores of the exact balanced posterior, made too sure or too unsure; also where "none" is the rarest."""
    shares = np.array(prior)
    held, new = (at_the_prior(seed, prior=shares) for seed in (1, 2))
    found = calibrate(times * held.scores(), held.posterior(shares), ones(len(held.y)))
    assert np.allclose(found.slope * times, 1, rtol=0.01)
    assert np.allclose(found.shift, np.log(shares[:2] / shares[2]), atol=0.02)
    chances = found.probabilities(times * new.scores())
    assert np.abs(chances - new.posterior(shares)).max() < 0.01


def test_a_head_that_is_right_already_is_left_as_it_is() -> None:
    held = at_the_prior(1)
    found = calibrate(held.scores() + np.log(PRIOR), held.truth(), ones(len(held.y)))
    assert np.allclose(found.slope, 1, atol=0.1)
    assert np.allclose(found.shift, 0, atol=0.2)


def alike(one: Calibration, other: Calibration) -> bool:
    return all(np.allclose(getattr(one, name), getattr(other, name), atol=5e-3) for name in ARRAYS)


ARRAYS = ("slope", "shift", "thresholds", "prior")


def test_a_row_that_stands_for_ten_is_ten_rows() -> None:
    held, stands = at_the_prior(1, 2000), np.random.default_rng(0).integers(1, 11, 2000)
    copied = calibrate(held.scores().repeat(stands, 0), held.truth().repeat(stands, 0), ones(int(stands.sum())))
    assert alike(calibrate(held.scores(), held.truth(), stands.astype(np.float64)), copied)


def test_a_row_that_is_uncertain_is_a_part_of_each() -> None:
    held = at_the_prior(1, 2000)
    posterior = held.posterior()
    parts = np.tile(np.eye(3), (2000, 1))
    apart = calibrate(held.scores().repeat(3, 0), parts, posterior.ravel())
    assert alike(calibrate(held.scores(), posterior, ones(2000)), apart)


def f1_of(threshold: float, chances: NDArray[np.float64], stands: NDArray[np.float64]) -> float:
    """The F1 to be expected by the probabilities themselves."""
    given = chances >= threshold
    return float(2 * (stands * chances)[given].sum() / (stands[given].sum() + (stands * chances).sum()))


@pytest.mark.parametrize("steps", [4, 20, 10_000])
@pytest.mark.parametrize("seed", range(5))
def test_a_threshold_is_a_part_of_the_best_f1_to_be_expected(seed: int, steps: int) -> None:
    """Also with many equal scores, which a threshold takes or leaves together."""
    random = np.random.default_rng(seed)
    labels = random.choice(3, 300, p=[0.1, 0.2, 0.7])
    scores = np.round(random.normal(size=(300, 3)) * steps + np.eye(3)[labels] * steps) / steps
    stands, said = random.uniform(0.5, 5, 300), random.random((300, 2)) < 0.5
    found = calibrate(scores, np.eye(3)[labels], stands, said)
    chances = found.probabilities(scores)
    for k in range(2):
        own = chances[:, k]
        best = max(f1_of(value - 1e-9, own, stands) for value in np.unique(own))
        assert found.thresholds[k] == pytest.approx(0.35 * best)
        assert f1_of(best / 2, own, stands) == pytest.approx(best)  # as Lipton et al. prove
        by = f"{said[:, k].sum()} answers and the groups"
        assert found.basis[k] == f"0.35 of the greatest F1 to be expected, {best:.2f}, by {by}"


@pytest.mark.parametrize("noise", [0.0, 1.0, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("share", [0.005, 0.05, 0.4])
def test_a_threshold_is_never_next_to_nothing_nor_near_one(noise: float, share: float) -> None:
    random = np.random.default_rng(0)
    targets = np.eye(2)[(np.arange(2000) >= 2000 * share).astype(int)]
    found = calibrate(4 * targets + noise * random.normal(size=(2000, 2)), targets, ones(2000))
    assert 0.035 <= found.thresholds[0] <= 0.35
    assert found.basis[0].endswith("by the groups alone") == (found.thresholds[0] > 0.035)


@pytest.mark.parametrize("seed", range(5))
def test_one_more_answer_moves_a_threshold_little(seed: int) -> None:
    """Of 15 images that may show the class; and never from next to nothing to nearly one."""
    random = np.random.default_rng(seed)
    shown = np.concatenate([random.uniform(0.3, 0.9, 15), np.zeros(300)])
    scores = np.stack([5 * shown + random.normal(size=315), np.zeros(315)], axis=1)
    stands = np.repeat([1.0, 30.0], [15, 300])
    moved, said = [], np.zeros((315, 1), bool)
    for number in range(16):
        found = calibrate(scores, np.stack([shown, 1 - shown], axis=1), stands, said)
        moved.append(found.thresholds[0])
        if number < 15:
            shown[number], said[number] = random.random() < shown[number], True
    assert np.abs(np.diff(moved)).max() < 0.06
    assert found.basis[0].endswith("by 15 answers and the groups")


def test_classes_that_are_alike_have_thresholds_that_are_alike() -> None:
    """With a dozen images each held out."""
    prior = np.array([0.004, 0.004, 0.992])
    for seed in range(10):
        held = at_the_prior(seed, 3000, prior)
        found = calibrate(held.scores(), held.posterior(prior), ones(3000))
        assert np.ptp(found.thresholds) < 0.12


@pytest.mark.parametrize("backwards", [False, True])
def test_a_rare_class_that_scores_cannot_tell_predicts_nothing(backwards: bool) -> None:
    """One in fifty, nearer to none than all else, or at random."""
    held, random = at_the_prior(1), np.random.default_rng(0)
    scores = held.scores()
    scores[:, 1] = scores[:, 2] + (-4 * (held.y == 1) if backwards else random.normal(size=len(held.y)))
    found = calibrate(scores, held.truth(), ones(len(held.y)))
    chances = found.probabilities(scores)
    given = classified(chances, found.thresholds)
    assert not (given == 1).any()
    assert (given == 0).any()
    assert chances[held.y == 2, 1].mean() == pytest.approx(PRIOR[1], abs=0.01)


def test_a_class_of_which_nothing_is_held_out_is_as_rare_as_one_image() -> None:
    labels = np.repeat([1, 2], [30, 100])
    found = calibrate(3 * np.eye(3)[labels], np.eye(3)[labels], ones(130))
    basis = "one half: there is no image but the exemplars to judge by"
    assert (found.thresholds[0], found.basis[0]) == (0.5, basis)
    same, other = found.probabilities(np.array([[3.0, 3.0, 3.0], [9.0, 0.0, 0.0]]))
    assert same[0] < 0.02
    assert other.argmax() == 0
    assert other[0] > 0.5


def test_no_rows_at_all() -> None:
    """Then a head says what it says: nothing makes it sure of a class."""
    found = calibrate(np.zeros((0, 3)), np.zeros((0, 3)), ones(0))
    assert found.thresholds.tolist() == [0.5, 0.5]
    scores = np.random.default_rng(0).normal(size=(9, 3))
    assert np.allclose(found.probabilities(scores), softmax(scores))
    assert found.probabilities(np.zeros((0, 3))).shape == (0, 3)
    assert found.prior.sum() == 1


def test_rows_of_none_only() -> None:
    scores = np.random.default_rng(0).normal(size=(40, 3))
    found = calibrate(scores, np.eye(3)[np.full(40, 2)], ones(40))
    assert found.slope.tolist() == [1, 1]  # else it would grow without end
    assert (found.probabilities(scores).argmax(axis=1) == 2).all()
    assert found.prior.tolist() == [0, 0, 1]


def test_where_no_row_of_none_could_be_held_out_it_is_predicted_all_the_same() -> None:
    labels = np.repeat([0, 1], 20)
    found = calibrate(4 * np.eye(3)[labels], np.eye(3)[labels], ones(40))
    assert found.probabilities(4 * np.eye(3)).argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("spread", [0.0, 1e-12, 1e-6, 1e6])
def test_scores_that_hardly_differ_or_are_huge_give_numbers_that_can_be_saved(spread: float) -> None:
    held = at_the_prior(1, 2000)
    found = calibrate(spread * held.scores() + [1, 20, 0], held.truth(), ones(2000))
    assert np.abs([*found.slope, *found.shift]).max() < 1e6
    chances = found.probabilities(spread * held.scores() + [1, 20, 0])
    assert np.allclose(chances.mean(axis=0), PRIOR, atol=0.02)


@pytest.mark.parametrize("spread", [0.0, 1e-12, 1e-7])
def test_where_scores_do_not_differ_no_slope_is_learnt_and_a_new_image_is_near_the_share(spread: float) -> None:
    held = at_the_prior(1, 2000)
    found = calibrate(spread * held.scores() + [1, 20, 0], held.truth(), ones(2000))
    new = found.probabilities(np.array([[1.0, 20, 0], [1.001, 20, 0], [1, 19.99, 0], [1.1, 20, -0.1]]))
    assert np.allclose(new, PRIOR, atol=0.01)
    first, other = found.probabilities(np.array([[1.2, 20, 0], [0.8, 20, 0]]))
    assert first[0] > other[0]  # the order of what differs more stays


def test_scores_of_any_size_give_probabilities() -> None:
    scores = np.array([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]])
    chances = softmax(scores)
    assert np.allclose(chances.sum(axis=1), 1)
    assert np.allclose(chances[1:], 1 / 3)
