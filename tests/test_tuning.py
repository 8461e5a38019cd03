"""Tuning: it resumes, is never worse than where it started, and finds a better setting where there is one."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from holotype.model import tuning
from holotype.model.heads import TrainingRows
from holotype.model.tuning import Parts, tune
from holotype.settings import HeadName, HeadSettings, Threshold


def rows(count: int, seed: int) -> TrainingRows:
    random = np.random.default_rng(seed)
    y = random.integers(0, 3, count)
    X = random.normal(size=(count, 16)) + np.eye(3, 16)[y] * 2
    return TrainingRows(X.astype(np.float32), y, np.ones(count))


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_tuning_resumes_and_never_gets_worse(head: HeadName, tmp_path: Path) -> None:
    start = HeadSettings(strength=1e-5, learning_rate=1e-5, epochs=5)
    parts: dict[Threshold, Parts] = {0.7: (rows(200, 0), rows(80, 1))}
    first = tune(head, start, parts, 3, trials=3, study=tmp_path / "study.db")
    again = tune(head, start, parts, 3, trials=8, study=tmp_path / "study.db")
    assert first.trials == 3
    assert again.trials == 8
    assert again.loss <= first.loss <= first.loss_before
    assert again.loss < again.loss_before


def test_a_threshold_with_wrong_labels_is_not_chosen(tmp_path: Path) -> None:
    good, validation = rows(200, 0), rows(80, 1)
    wrong = TrainingRows(good.X, (good.y + 1) % 3, good.weights)
    parts: dict[Threshold, Parts] = {"auto": (wrong, validation), 0.8: (good, validation)}
    assert tune("linear", HeadSettings(), parts, 3, trials=12, study=tmp_path / "s.db").threshold == 0.8


def test_other_rows_begin_another_study(tmp_path: Path) -> None:
    first = tune("linear", HeadSettings(), {0.7: (rows(200, 0), rows(80, 1))}, 3, trials=4, study=tmp_path / "s.db")
    other = tune("linear", HeadSettings(), {0.7: (rows(200, 2), rows(80, 3))}, 3, trials=2, study=tmp_path / "s.db")
    assert (first.trials, other.trials) == (4, 2)


def test_tuning_cannot_receive_test_rows() -> None:
    given = {name for name in inspect.signature(tune).parameters if "test" in name}
    assert not given
    assert "evaluation" not in inspect.getsource(tuning)
