"""A run that can only be read, or whose disk has no locks: what only reads works, the rest says why it cannot."""

import errno
import fcntl
import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from system import commands, mounting

from holotype import Review, Settings, files, run
from holotype.answers.log import AnswerLog
from holotype.answers.moment import read_together
from holotype.errors import AnswersError, HolotypeWarning
from holotype.runs.commands import evaluate_run, tune_run


def new_rows(out: Path) -> str:
    """A test set of images that nothing was learnt from, which show none of the classes; the run is done for that."""
    settings = Settings.load(out / "holotype.toml")
    fewer = settings.fit.model_copy(update={"negatives": 60})
    run(settings.model_copy(update={"thresholds": [0.9], "fit": fewer}), out, force=True)
    rows = pq.read_table(out / "groups.parquet", columns=["id", "decision", "part"]).to_pylist()
    names = [row["id"] for row in rows if row["part"] is None and row["decision"] != "missing"]
    assert names
    return "".join(["index,red,green,blue\n", *(f"{name},0,0,0\n" for name in names)])


@pytest.fixture
def read_only(out: Path) -> list[str]:
    """The words before a command that sees `out`, in which something was answered, on a disk that can only be read."""
    with Review.open(out) as review:
        review.answers.add("10", "red", "no")
    return mounting(out, 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"')


def test_what_only_reads_works_in_a_run_that_can_only_be_read(out: Path, tmp_path: Path, read_only: list[str]) -> None:
    test_set, export = tmp_path / "test.csv", tmp_path / "answers.csv"
    test_set.write_text(new_rows(out))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    predicted, exported, suggested, evaluated, *refused = commands(
        ["predict", out, Settings.load(out / "holotype.toml").images],
        ["answer", out, "--export", export],
        ["suggest", out, "-n", 2],
        ["evaluate", out, "--test-set", test_set],
        ["run", out],
        ["tune", out, "--trials", "1"],
        ["answer", out, "--apply"],
        ["answer", out, export],
        before=read_only,
    )
    assert predicted[0] == exported[0] == suggested[0] == evaluated[0] == 0
    assert b"red: 1 answer, " in exported[1]
    assert re.search(r"^10,red,no,", export.read_text(), re.MULTILINE)
    assert len(suggested[1].splitlines()) == 7
    assert json.loads(evaluated[1])["rows"] >= 1
    assert b"evaluation.json is not written, as the run can only be read" in evaluated[2]
    assert len(refused) == 4
    for code, _, error in refused:
        assert code == 1
        assert re.search(rb"error: cannot (write|use) .*can only be read", error)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)


def test_answers_on_a_disk_without_locks_are_only_read(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with AnswerLog(tmp_path / "answers.db") as log:
        log.add("1", "red", "yes")
        request.getfixturevalue("no_locks")
        with AnswerLog(tmp_path / "answers.db") as other:  # also what is not in the database itself yet
            assert [one.id for one in other.current()] == ["1"]
            with pytest.raises(
                AnswersError, match=r"its disk has no locks, and nothing was recorded; .*copy the folder"
            ):
                other.add("2", "red", "yes")
            with pytest.warns(HolotypeWarning, match="can only be read"):
                other.draw([("1", "red")])


def test_the_files_of_answers_that_are_only_read_are_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine may record answers, and lay them down in the database, while its files are copied."""
    with AnswerLog(tmp_path / "answers.db") as log:
        log.add("0", "red", "yes")
        read = Path.read_bytes
        moved = False

        def read_while_others_write(path: Path) -> bytes:
            nonlocal moved
            content = read(path)
            if path == tmp_path / "answers.db" and not moved:
                moved = True
                log.add("1", "red", "yes")
                with closing(sqlite3.connect(path)) as other:
                    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                log.add("2", "red", "yes")
            return content

        monkeypatch.setattr(Path, "read_bytes", read_while_others_write)
        for name, content in read_together(tmp_path / "answers.db", 10).items():
            files.write(tmp_path / "copies" / name, content)
        with AnswerLog(tmp_path / "copies" / "answers.db") as other:
            assert {one.id for one in other.current()} == {"0", "1", "2"}
        assert moved


@pytest.mark.usefixtures("no_locks")
def test_a_run_is_tuned_on_a_disk_without_locks(out: Path) -> None:
    with pytest.warns(HolotypeWarning, match="has no locks"):
        result = tune_run(out, 2)
    assert result.tuned is not None
    assert result.tuned.trials == 2


def test_a_folder_that_this_user_may_not_write_into_is_said(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_set = out.parent / "test.csv"
    test_set.write_text(new_rows(out))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert evaluate_run(out, test_set).rows >= 1
    assert not (out / "evaluation.json").exists()
