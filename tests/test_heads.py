"""Heads equal what they are made of: scikit-learn's regression, torch's network, and their own ONNX file."""

import dataclasses
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from holotype.encoders.encode import l2_normalize
from holotype.grouping.space import fit_space
from holotype.model.calibration import softmax
from holotype.model.heads import Head, TrainingRows, averaged, class_weights, fit_head
from holotype.settings import Balance, HeadName, HeadSettings, SpaceName
from holotype.vectors.embeddings import Embeddings

QUICK = HeadSettings(epochs=12, units=16, batch_size=64, learning_rate=5e-3)


def rows(count: int, seed: int = 0, classes: int = 3, dim: int = 12, spread: float = 1.5) -> TrainingRows:
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, count)
    X = random.normal(size=(count, dim)) + np.eye(classes, dim)[y] * spread
    return TrainingRows(X.astype(np.float32), y, random.uniform(0.5, 2, count))


def fit(name: HeadName, settings: HeadSettings = QUICK, classes: int = 3, seed: int = 0, **more: Any) -> Head:
    given = {"fit": rows(300, classes=classes), "validation": rows(100, 1, classes=classes)} | more
    return fit_head(name, settings, given["fit"], given["validation"], classes, seed)


def loss(head: Head, on: TrainingRows) -> float:
    chances = softmax(head.scores(on.X))[np.arange(len(on.y)), on.y]
    return float(-(on.weights * np.log(chances)).sum() / on.weights.sum())


@pytest.mark.parametrize("name", ["linear", "mlp"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_onnx_file_is_the_same_function(name: HeadName, classes: int) -> None:
    head = fit(name, classes=classes)
    X = rows(50, seed=9).X * np.linspace(0.01, 100, 50, dtype=np.float32)[:, None]  # of any length
    X[7] = 0
    session = onnxruntime.InferenceSession(head.to_onnx(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"features": X})
    assert scores.shape == (50, classes)
    assert np.allclose(scores, head.scores(X), atol=1e-4)
    (none,) = session.run(["scores"], {"features": X[:0]})
    assert none.shape == head.scores(X[:0]).shape == (0, classes)


@pytest.mark.parametrize("name", ["linear", "mlp"])
@pytest.mark.parametrize("space", ["whitened", "neighbours"])
@pytest.mark.parametrize("negative", [True, False])
@pytest.mark.parametrize("count", [100, 300])  # only centred, and projected
def test_a_head_in_a_space_takes_plain_features_and_so_does_its_onnx_file(
    name: HeadName, space: SpaceName, negative: bool, count: int
) -> None:
    plain = rows(count)
    X = plain.X if negative else np.abs(plain.X)
    fitted = fit_space(Embeddings([X], np.arange(count), count), space)
    head = fit(name, fit=dataclasses.replace(plain, X=X, space=fitted))
    new = rows(50, seed=9).X if negative else np.abs(rows(50, seed=9).X)
    session = onnxruntime.InferenceSession(head.to_onnx(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"features": new * 7})
    assert np.allclose(scores, head.scores(new), atol=1e-3)
    assert head.layers[0][0].shape[1] == fitted.transform(l2_normalize(new)).shape[1]


def test_the_same_head_gives_the_same_bytes() -> None:
    assert fit("linear").to_onnx() == fit("linear").to_onnx()


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("space", [None, "whitened"])
def test_the_linear_head_is_scikit_learns_regression_in_the_space(classes: int, space: SpaceName | None) -> None:
    from sklearn.linear_model import LogisticRegression

    given = rows(300, classes=classes)
    fitted = fit_space(Embeddings([given.X], np.arange(300), 300), space) if space else None
    head = fit("linear", HeadSettings(strength=5), classes, fit=dataclasses.replace(given, space=fitted))
    new = rows(200, seed=3, classes=classes).X
    X, X_new = (l2_normalize(each) for each in (given.X, new))
    X, X_new = (X, X_new) if fitted is None else (fitted.transform(X), fitted.transform(X_new))
    model = LogisticRegression(C=5, max_iter=300, tol=1e-3).fit(X, given.y, sample_weight=given.weights)
    assert np.allclose(softmax(head.scores(new)), model.predict_proba(X_new), atol=2e-3)


@pytest.mark.parametrize("name", ["linear", "mlp"])
@pytest.mark.parametrize("space", [None, "neighbours"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_mean_of_heads_has_the_mean_of_their_scores(name: HeadName, space: SpaceName | None, count: int) -> None:
    """Also as an ONNX file."""
    plain, new = rows(300), rows(50, seed=9).X
    fitted = fit_space(Embeddings([plain.X], np.arange(300), 300), space) if space else None
    given = dataclasses.replace(plain, space=fitted)
    heads = [fit(name, seed=seed, fit=given.take(np.arange(seed, 300, seed + 2))) for seed in range(count)]
    wanted = np.mean([head.scores(new) for head in heads], axis=0)
    assert count == 1 or np.abs(wanted - heads[0].scores(new)).max() > 0.05
    head = averaged(heads)
    assert np.allclose(head.scores(new), wanted, atol=1e-4)
    session = onnxruntime.InferenceSession(head.to_onnx(), providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(["scores"], {"features": new})[0], wanted, atol=1e-3)
    assert {array.dtype for layer in head.layers for array in layer} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_weight_of_three_is_three_copies(name: HeadName) -> None:
    given = rows(200)
    weighted = TrainingRows(given.X, given.y, np.where(given.y == 2, 3.0, 1.0))
    even = TrainingRows(given.X, given.y, np.ones(200))
    new = rows(300, seed=4)
    share = [softmax(fit(name, fit=one).scores(new.X))[:, 2].mean() for one in (even, weighted)]
    assert share[1] > share[0] + 0.05
    if name == "linear":
        copies = given.take(np.repeat(np.arange(200), np.where(given.y == 2, 3, 1)))
        copied = TrainingRows(copies.X, copies.y, np.ones(len(copies.y)))
        difference = fit(name, fit=copied).scores(new.X) - fit(name, fit=weighted).scores(new.X)
        assert np.abs(difference).max() < 0.05


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_class_without_a_row_is_never_the_answer(name: HeadName) -> None:
    given, validation = rows(300, classes=4, spread=3), rows(100, 1, classes=4, spread=3)
    part, held = given.take(given.y != 2), validation.take(validation.y != 2)
    chances = softmax(fit(name, classes=4, fit=part, validation=held).scores(validation.X))
    assert chances.shape == (100, 4)
    assert (chances.argmax(axis=1) != 2).all()
    assert (chances.argmax(axis=1) == validation.y)[validation.y != 2].mean() > 0.7


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_feature_that_never_varies_does_no_harm(name: HeadName) -> None:
    given = rows(300)
    head = fit(name, fit=TrainingRows(np.where(np.arange(12) == 5, 0, given.X), given.y, given.weights))
    assert np.isfinite(head.scores(rows(100, 1).X)).all()


def test_the_folded_mlp_is_torchs_own_network_in_evaluation_mode() -> None:
    """The same network, built anew and trained step by step as the docstring says."""
    given, validation = rows(130), rows(60, 1)
    settings = HeadSettings(epochs=3, units=9, batch_size=43, dropout=0.2, learning_rate=0.01, patience=50)
    head = fit("mlp", settings, seed=5, fit=given, validation=validation)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = nn.Sequential(
            nn.BatchNorm1d(12), nn.Dropout(0.2), nn.Linear(12, 9), nn.ReLU(),
            nn.BatchNorm1d(9), nn.Dropout(0.2), nn.Linear(9, 3),
        )  # fmt: skip
        optimiser = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=settings.weight_decay)
        X, y, w = (
            torch.from_numpy(l2_normalize(given.X)),
            torch.from_numpy(given.y),
            torch.from_numpy(given.weights).float(),
        )
        states = []
        for _ in range(3):
            network.train()
            for batch in torch.split(torch.randperm(130), 43):
                if len(batch) == 1:
                    continue
                optimiser.zero_grad()
                each = nn.functional.cross_entropy(network(X[batch]), y[batch], reduction="none")
                ((each * w[batch]).sum() / w[batch].sum()).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            network.eval()
            with torch.no_grad():
                states.append(network(torch.from_numpy(l2_normalize(validation.X))).numpy())
    best = int(np.argmin(head.history))
    assert np.allclose(head.scores(validation.X), states[best], atol=1e-4)


def test_the_best_epoch_is_what_comes_back() -> None:
    validation = rows(100, 1)
    noisy = TrainingRows(rows(80).X, np.random.default_rng(0).integers(0, 3, 80), np.ones(80))  # overfits soon
    head = fit("mlp", HeadSettings(epochs=40, learning_rate=0.02, units=64), fit=noisy, validation=validation)
    assert head.history[-1] > min(head.history) + 0.01
    assert loss(head, validation) == pytest.approx(min(head.history), abs=1e-4)


@pytest.mark.parametrize("patience", [1, 3])
def test_it_stops_once_patience_is_spent(patience: int) -> None:
    noisy = TrainingRows(rows(80).X, np.random.default_rng(0).integers(0, 3, 80), np.ones(80))
    head = fit("mlp", HeadSettings(epochs=200, learning_rate=0.02, patience=patience), fit=noisy)
    assert len(head.history) - 1 - int(np.argmin(head.history)) == patience
    assert len(head.history) < 200


def test_it_stops_at_the_last_epoch() -> None:
    assert len(fit("mlp", HeadSettings(epochs=4, patience=100, learning_rate=1e-5)).history) == 4


@pytest.mark.parametrize("count", [65, 64, 2])
def test_a_last_batch_of_one_row_is_no_trouble(count: int) -> None:
    head = fit("mlp", HeadSettings(epochs=2, batch_size=max(2, count - 1)), fit=rows(count))
    assert np.isfinite(head.scores(rows(20, 1).X)).all()


def test_without_validation_rows_the_mlp_still_learns() -> None:
    given = rows(300, spread=3)
    head = fit("mlp", fit=given, validation=given.take(np.zeros(0, int)))
    new = rows(200, 2, spread=3)
    assert (head.scores(new.X).argmax(axis=1) == new.y).mean() > 0.8
    assert np.isfinite(head.history).all()


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_the_same_seed_gives_the_same_head_and_the_global_generators_are_left_alone(name: HeadName) -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    first = fit(name, seed=3)
    assert torch.equal(torch.rand(3), wanted)
    torch.manual_seed(99)
    again, other = fit(name, seed=3), fit(name, seed=4)
    X = rows(50, 2).X
    assert np.array_equal(first.scores(X), again.scores(X))
    assert np.array_equal(first.scores(X), other.scores(X)) == (name == "linear")


def test_watch_is_told_each_epoch_and_may_give_up() -> None:
    told: list[tuple[int, float]] = []

    def watch(epoch: int, value: float) -> None:
        told.append((epoch, value))
        if epoch == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_head("mlp", HeadSettings(epochs=20, learning_rate=1e-5), rows(90), rows(50, 1), 3, 0, watch)
    assert [epoch for epoch, _ in told] == [0, 1, 2, 3]
    assert len({value for _, value in told}) == 4


@pytest.mark.parametrize("balance", ["weights", "effective", "augment", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_all_classes_but_none_keep_together_what_they_weigh(balance: Balance, weighted: bool) -> None:
    """So how many rows of "none" are sampled, or left in doubt, does not loosen the classes' penalty."""
    found = []
    for of_none in (990, 99_000):
        labels: NDArray[np.int64] = np.repeat([0, 1, 3], [10, 40, of_none])
        each = np.random.default_rng(0).uniform(0.1, 1, len(labels)) if weighted else np.ones(len(labels))
        weights = class_weights(labels, 4, balance, each if weighted else None)
        own = labels < 3
        assert (weights[labels] * each)[own].sum() == pytest.approx(each[own].sum())
        assert np.isfinite(weights).all()
        assert (weights[0] > weights[1] > weights[3]) == (balance in ("weights", "effective"))
        if balance == "weights":  # each class as much as any other
            sums = np.bincount(labels, weights[labels] * each)
            assert np.allclose(sums[[0, 1, 3]], sums[0])
        found.append(weights[:2])
    assert np.allclose(found[0], found[1])


def test_of_none_alone_every_row_weighs_one() -> None:
    assert class_weights(np.full(9, 2), 3, "weights").tolist() == [1, 1, 1]


def test_no_rows_have_no_weights_and_no_warning() -> None:
    assert np.isfinite(class_weights(np.zeros(0, np.int64), 3, "weights")).all()
