"""Many reviewers at once, and a server that is killed: what was acknowledged is in the log, once."""

import random
import shutil
from pathlib import Path

import pytest
from browser import CLASSES

from benchmarks.load import run_load
from holotype.review.review import Review


@pytest.fixture
def out(reviewed_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reviewed_run, tmp_path / "out"))


def test_many_reviewers_are_all_heard(out: Path) -> None:
    load = run_load(out, CLASSES, clients=50, seconds=2)
    assert load.errors == {}
    assert load.acknowledged
    assert load.lost(out) == 0


def test_a_kill_in_the_midst_loses_nothing_that_was_acknowledged(out: Path) -> None:
    loads = [run_load(out, CLASSES, clients=20, seconds=10, kill_after=random.uniform(0.5, 1.5)) for _ in range(2)]
    for load in loads:
        assert load.acknowledged
        assert load.errors.total() == 20  # each client saw its connection end
        assert load.lost(out) == 0
    with Review.open(out) as review:
        assert review.version >= sum(len(load.acknowledged) for load in loads)
