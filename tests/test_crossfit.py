"""Each row is judged by a head that has not learnt from it, as no head has learnt from a new image."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from holotype.model.calibration import softmax
from holotype.model.crossfit import CrossFit, cross_fit
from holotype.model.heads import averaged, fit_head
from holotype.model.rows import Training
from holotype.settings import HeadName, HeadSettings

QUICK = HeadSettings(strength=10, epochs=8, units=16, learning_rate=5e-3)
COUNT, FOLDS = 200, 4


def training(seed: int = 0, spread: float = 1.5, dim: int = 12) -> Training:
    """Two classes and "none", of which the first three rows are never held out."""
    random = np.random.default_rng(seed)
    y = np.concatenate([[0, 1, 2], random.choice(3, COUNT - 3, p=[0.2, 0.2, 0.6])])
    X = random.normal(size=(COUNT, dim)) + spread * np.eye(3, dim)[y]
    fold = random.integers(0, FOLDS, COUNT)
    fold[:3] = -1
    return Training(
        classes=["a", "b", "none"],
        ids=[str(row) for row in range(COUNT)],
        X=X.astype(np.float32),
        targets=0.9 * np.eye(3)[y] + 0.1 / 3,
        told=np.zeros(COUNT, bool),
        said=np.zeros((COUNT, 2), bool),
        fold=fold,
        stands=np.where(y == 2, 5.0, 1.0),
        balance="weights",
        space=None,
        dropped={},
        unreadable={},
        counts={},
    )


def margins(fitted: CrossFit) -> NDArray[np.float64]:
    """What the heads said of the rows held out, above their score of "none"."""
    odds = np.log(fitted.probabilities[:, :-1] / fitted.probabilities[:, -1:])
    return np.asarray((odds - fitted.calibration.shift) / fitted.calibration.slope)


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_what_is_said_of_a_row_comes_from_a_head_that_did_not_learn_from_it(name: HeadName) -> None:
    """Another label of one row, or other features of it, change what is said of all folds but its own."""
    given, row = training(), 20
    before = cross_fit(name, QUICK, given, 0)
    own = given.fold[before.rows] == given.fold[row]
    targets, X = given.targets.copy(), given.X.copy()
    targets[row], X[row] = np.roll(targets[row], 1), -5 * X[row]
    after = cross_fit(name, QUICK, dataclasses.replace(given, targets=targets, X=X), 0)
    same = own & (before.rows != row)
    assert np.array_equal(before.rows, after.rows)
    assert np.allclose(margins(before)[same], margins(after)[same], atol=1e-6)
    assert np.abs(margins(before)[~own] - margins(after)[~own]).max() > 1e-3
    assert same.sum() > 10


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_labels_of_what_is_held_out_change_nothing_that_is_said_of_it(name: HeadName) -> None:
    """As they would if they told a head when to stop: all of a fold are wrong, so that it would at once."""
    given = training()
    before = cross_fit(name, QUICK, given, 0)
    for fold in range(FOLDS):
        targets = given.targets.copy()
        targets[given.fold == fold] = np.roll(targets[given.fold == fold], 1, axis=1)
        after = cross_fit(name, QUICK, dataclasses.replace(given, targets=targets), 0)
        own = given.fold[before.rows] == fold
        assert np.allclose(margins(before)[own], margins(after)[own], atol=1e-5)


def test_an_mlp_stops_by_a_fold_that_it_can_spare() -> None:
    given = training()
    for fold in range(FOLDS):
        learnt, watched = given.watched(fold)
        assert np.array_equal(watched.X, given.X[given.fold == (fold + 1) % FOLDS])
        assert np.array_equal(learnt.X, given.without(fold, (fold + 1) % FOLDS).X)
    fold_of = np.where(given.y == 0, given.fold % 2, given.fold)  # "a" is in two folds alone
    fold_of[0] = 0
    scarce = dataclasses.replace(given, targets=np.eye(3)[given.y], fold=fold_of)
    assert np.array_equal(scarce.watched(0)[1].X, given.X[fold_of == 2])
    two = dataclasses.replace(scarce, fold=fold_of % 2)
    assert all(np.array_equal(rows.X, two.without(1).X) for rows in two.watched(1))


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_the_head_is_the_mean_of_one_for_each_fold_and_what_it_says_is_calibrated(name: HeadName) -> None:
    given, new = training(), training(1).X
    steps: list[int] = []
    fitted = cross_fit(name, QUICK, given, 0, lambda: steps.append(1))
    parts = [given.watched(k) if name == "mlp" else (given.without(k),) * 2 for k in range(FOLDS)]
    heads = [fit_head(name, QUICK, *part, 3, 0) for part in parts]
    assert np.allclose(fitted.head.scores(new), averaged(heads).scores(new), atol=1e-5)
    assert len(steps) == FOLDS
    assert set(fitted.rows.tolist()) == set(np.flatnonzero(given.fold >= 0).tolist())
    for k, head in enumerate(heads):
        own = given.fold[fitted.rows] == k
        wanted = fitted.calibration.probabilities(head.scores(given.X[fitted.rows[own]]))
        assert np.allclose(fitted.probabilities[own], wanted, atol=1e-6)


def test_what_was_learnt_by_heart_is_not_believed() -> None:
    """Labels at random: the heads tell all that they learnt from apart, and nothing else, and are not sure of it."""
    random, given = np.random.default_rng(0), training(spread=0, dim=400)
    noise = dataclasses.replace(given, targets=np.eye(3)[given.y], stands=np.ones(COUNT))
    fitted = cross_fit("linear", HeadSettings(strength=1e4), noise, 0)
    learnt = fitted.head.scores(noise.X)
    assert (learnt.argmax(axis=1) == noise.y).mean() > 0.95
    assert softmax(learnt).max(axis=1).mean() > 0.9
    new = fitted.calibration.probabilities(fitted.head.scores(random.normal(size=(500, 400)).astype(np.float32)))
    assert np.abs(new - fitted.calibration.prior).mean() < 0.12


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_of_new_images_are_frequencies(seed: int) -> None:
    """Of the mean of the heads, too, though each was calibrated by itself."""
    given = training(seed, spread=2)
    given = dataclasses.replace(given, targets=np.eye(3)[given.y], stands=np.ones(COUNT))
    fitted = cross_fit("linear", QUICK, given, 0)
    random = np.random.default_rng(9)
    y = random.choice(3, 5000, p=[0.2, 0.2, 0.6])
    X = (random.normal(size=(5000, 12)) + 2 * np.eye(3, 12)[y]).astype(np.float32)
    chances = fitted.calibration.probabilities(fitted.head.scores(X))
    for k in range(3):
        bins = np.array_split(np.argsort(chances[:, k]), 10)
        assert np.mean([abs(chances[rows, k].mean() - (y[rows] == k).mean()) for rows in bins]) < 0.06


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_views_are_learnt_from_while_their_row_is_and_judge_nothing(name: HeadName) -> None:
    plain = training()
    origin = np.flatnonzero(plain.y == 0)
    views = dataclasses.replace(
        plain,
        X=np.concatenate([plain.X, plain.X[origin] + 0.01]),
        stands=np.concatenate([plain.stands, np.zeros(len(origin))]),
        targets=np.concatenate([plain.targets, plain.targets[origin]]),
        told=np.concatenate([plain.told, plain.told[origin]]),
        said=np.concatenate([plain.said, plain.said[origin]]),
        fold=np.concatenate([plain.fold, plain.fold[origin]]),
    )
    fitted = cross_fit(name, QUICK, views, 0)
    assert np.array_equal(fitted.rows, cross_fit(name, QUICK, plain, 0).rows)
    for fold in range(FOLDS):
        assert np.array_equal(views.held_out(fold).X, plain.X[plain.fold == fold])
        learnt = {row.tobytes() for row in views.without(fold).X}
        assert learnt == {row.tobytes() for row in views.X[views.fold != fold]}
    ids = set(views.ids[::2])
    assert np.array_equal(views.judged_by(ids)[1].X, plain.judged_by(ids)[1].X)


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_where_no_row_can_be_held_out_one_head_learns_from_all(name: HeadName) -> None:
    """And is sure of no class merely because nothing was held out of "none"."""
    given = training(spread=4)
    alone = dataclasses.replace(given, fold=np.full(COUNT, -1))
    fitted = cross_fit(name, QUICK, alone, 0)
    assert len(fitted.rows) == len(fitted.probabilities) == 0
    everything = alone.without()
    assert np.allclose(fitted.head.scores(given.X), fit_head(name, QUICK, everything, everything, 3, 0).scores(given.X))
    assert fitted.calibration.thresholds.tolist() == [0.5, 0.5]
    found = fitted.calibration.probabilities(fitted.head.scores(given.X))
    assert (found.argmax(axis=1) == given.y).mean() > 0.8
