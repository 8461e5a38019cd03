"""Tuning: it resumes, is never worse than where it started, and finds a better setting where there is one."""

from pathlib import Path

import numpy as np
import pytest

from holotype.heads import TrainingRows
from holotype.settings import HeadName, HeadSettings
from holotype.tuning import tune


def rows(count: int, seed: int) -> TrainingRows:
    random = np.random.default_rng(seed)
    y = random.integers(0, 3, count)
    X = random.normal(size=(count, 16)) + np.eye(3, 16)[y] * 2
    return TrainingRows(X.astype(np.float32), y, np.ones(count))


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_tuning_resumes_and_never_gets_worse(head: HeadName, tmp_path: Path) -> None:
    start = HeadSettings(strength=1e-5, learning_rate=1e-5, epochs=5)
    first = tune(head, start, rows(200, 0), rows(80, 1), 3, trials=3, study=tmp_path / "study.db")
    again = tune(head, start, rows(200, 0), rows(80, 1), 3, trials=8, study=tmp_path / "study.db")
    assert first.trials == 3
    assert again.trials == 8
    assert again.loss <= first.loss <= first.loss_before
    assert again.loss < again.loss_before
