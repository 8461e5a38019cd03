"""Tuning: it resumes, is never worse than where it started, and finds a better setting where there is one."""

import csv
import resource
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS, Job, MakeTar, N

from holotype import Settings, open_pool, run
from holotype.errors import OutputError
from holotype.model.heads import TrainingRows
from holotype.model.tuning import Parts, Tuned, tune
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
    assert again == tune(head, start, parts, 3, trials=8, study=tmp_path / "whole.db")  # as if it had not been stopped
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


TESTED = [30, 31, 32, 40, 41, 33, 34, 35, 36, 37]


@dataclass(frozen=True)
class Outcome:
    """What a tuned run tried and chose, what it learnt from, and what it thinks of the test set."""

    study: str  # its name holds the digest of the rows that are tuned on
    trials: list[tuple[dict[str, object], float | None]]
    tuned: Tuned | None
    learnt: list[tuple[list[str], list[int]]]  # ids, and in which fold each is held out
    tested: list[list[int]]


def tuned_run(settings: Settings, out: Path) -> Outcome:
    import optuna

    result = run(settings, out)
    (study,) = optuna.study.get_all_study_names(f"sqlite:///{out / 'study.db'}")
    trials = optuna.load_study(study_name=study, storage=f"sqlite:///{out / 'study.db'}").trials
    assert result.chosen.evaluation is not None
    return Outcome(
        study,
        [(one.params, one.value) for one in trials],
        result.chosen.tuned,
        [(one.classifier.training_.ids, one.classifier.training_.fold.tolist()) for one in result.candidates],
        result.chosen.evaluation.confusion.tolist(),
    )


def test_a_test_set_has_no_part_in_what_is_tuned(data: Path, job: Job, make_tar: MakeTar) -> None:
    """Not its truth, nor its pictures: other ones lead to the same rows, trials and settings, bit by bit."""
    more: dict[str, object] = {"thresholds": [0.9, 0.8], "trials": 4, "tune_threshold": True}
    first = tuned_run(job(**more), data / "first")
    assert first.tuned is not None
    assert (len(first.trials), len(first.learnt)) == (4, 3)
    for ids, fold in first.learnt:
        assert len(ids) == len(fold)
        assert {-1, 0} <= set(fold)
        assert not set(ids) & {str(row) for row in TESTED}

    with (data / "wrong.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["index", *COLOURS])
        table.writerows([row, *(int((row + 1) % 10 == k) for k in range(3))] for row in TESTED)
    wrong = tuned_run(job(**more, test_set=str(data / "wrong.csv")), data / "second")
    assert wrong.tested != first.tested
    assert replace(wrong, tested=first.tested) == first

    pool = open_pool(data / "images.tar")
    order = [*range(N)]
    for row, other in zip(TESTED, [*TESTED[5:], *TESTED[:5]], strict=True):
        order[row] = other
    make_tar([(f"{row}.jpg", pool.read(order[row])) for row in range(N)], "turned.tar")
    turned = tuned_run(job(**more, images=str(data / "turned.tar")), data / "third")
    assert turned.tested != first.tested
    assert replace(turned, tested=first.tested) == first


def tuned(study: Path, trials: int) -> Tuned:
    return tune("linear", HeadSettings(), {0.7: (rows(60, 0), rows(30, 1))}, 3, trials=trials, study=study)


def test_a_disk_that_is_full_is_said_and_finished_trials_are_kept(tmp_path: Path) -> None:
    study = tmp_path / "study.db"
    tuned(study, 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (study.stat().st_size, before[1]))  # a short write, as on a full disk
    try:
        with pytest.raises(OutputError, match=r"cannot use .*study\.db: .*free some space.* finished trials are kept"):
            tuned(study, 400)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert tuned(study, 2).trials >= 2


@pytest.mark.parametrize(("what", "said"), [("folder", "it cannot be opened"), ("text", "it is no study")])
def test_what_is_no_study_is_said(tmp_path: Path, what: str, said: str) -> None:
    study = tmp_path / "study.db"
    study.mkdir() if what == "folder" else study.write_text("a list of what to buy, of more than a hundred bytes" * 9)
    with pytest.raises(OutputError, match=rf"cannot use .*study\.db: {said}"):
        tuned(study, 1)


def test_a_damaged_trial_decides_nothing(tmp_path: Path) -> None:
    """One digit of a loss, one of a setting, one letter of a distribution: SQLite sees nothing wrong with these."""
    study = tmp_path / "study.db"
    wanted = tuned(study, 3)
    whole = study.read_bytes()
    changes = (
        "UPDATE trial_values SET value = value * 0.9 WHERE trial_id = 2",
        "UPDATE trial_params SET param_value = 1e-4 WHERE trial_id = 1 AND param_name = 'strength'",
        "UPDATE trial_params SET distribution_json = replace(distribution_json, 'Distribution', 'Distributinn')",
    )
    for change in changes:
        with closing(sqlite3.connect(study)) as file:
            file.execute(change)
            file.commit()
        with pytest.raises(OutputError, match=r"study\.db: it is damaged; move it away, and the trials begin anew"):
            tuned(study, 3)
        study.write_bytes(whole)
    assert tuned(study, 3) == wanted
