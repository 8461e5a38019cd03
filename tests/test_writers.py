"""Two commands at once in the folder of one run: what is there afterwards is one whole run, and nothing is undone."""

import errno
import fcntl
import os
import re
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Thread

import pytest
from conftest import Job
from reviewer import groups_of

from holotype import Classifier, Review, Settings, run
from holotype.errors import HolotypeWarning, OutputError
from holotype.progress import Silent
from holotype.runs import folder as folder_module
from holotype.runs.commands import tune_run
from holotype.runs.folder import RunFolder
from holotype.runs.sweep import repeat

WHOLE = {"figures", "groups.parquet", "metrics.json", "model", "report.html", "review", "sweep.csv", "holotype.toml"}
COMMANDS = {
    "run": ["run", "OUT"],
    "tune": ["tune", "OUT", "--trials", "2"],
    "apply": ["answer", "OUT", "--apply"],
    "evaluate": ["evaluate", "OUT", "--test-set", "CSV"],
    "answer": ["answer", "OUT", "ANSWERS"],
    "suggest": ["suggest", "OUT", "-n", "2"],
    "predict": ["predict", "OUT", "TAR"],
}


def start(words: list[str], places: dict[str, Path]) -> "subprocess.Popen[str]":
    arguments = [str(places.get(word, word)) for word in words]
    command = [sys.executable, "-c", "from holotype.cli.main import main; main()", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def test_commands_at_once_leave_one_whole_run(out: Path, tmp_path: Path) -> None:
    answers, test_set = tmp_path / "answers.csv", tmp_path / "test.csv"
    answers.write_text("id,class,answer\n10,red,no\n20,red,yes\n")
    settings = Settings.load(out / "holotype.toml")
    fewer = settings.fit.model_copy(update={"negatives": 60})
    run(settings.model_copy(update={"thresholds": [0.9], "fit": fewer}), out, force=True)
    fresh = [name for name, row in groups_of(out).items() if row["part"] is None]
    assert fresh
    test_set.write_text("index,red,green,blue\n" + "".join(f"{name},0,0,0\n" for name in fresh))
    places = {"OUT": out, "CSV": test_set, "ANSWERS": answers, "TAR": Path(Settings.load(out / "holotype.toml").images)}
    writers, others = ["run", "run", "tune", "apply", "evaluate"], ["answer", "suggest", "predict"]
    started = [(name, start(COMMANDS[name], places)) for name in (*writers, *others)]
    ends = [(name, process.communicate(timeout=200)[1], process.returncode) for name, process in started]
    held = r"error: another process writes into .* \(it is holotype (run|tune|answer --apply|evaluate), process \d+ on"
    for name, error, code in ends:
        assert code == 0 or (name in writers and re.search(held, error)), (name, error)
    assert any(code == 0 for name, _, code in ends if name in writers)
    left = {path.name for path in out.iterdir()}
    assert left >= WHOLE
    assert not {name for name in left if name.startswith((".new", "unfinished")) or name.endswith(".part")}
    assert Classifier.load(out).classes_ == ["red", "green", "blue", "none"]
    with Review.open(out) as review:
        assert review.standing("red").answered == 2
        assert review.standing("red").found > 5


@pytest.mark.parametrize("command", ["run", "tune", "apply"])
def test_a_run_that_finishes_just_before_is_not_undone(
    out: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who repeats a run reads its settings when nobody else can write there any more."""
    settings, lock = Settings.load(out / "holotype.toml"), RunFolder.lock

    def late(folder: RunFolder, doing: str) -> AbstractContextManager[None]:
        monkeypatch.setattr(RunFolder, "lock", lock)
        run(settings.model_copy(update={"thresholds": [0.8]}), out, force=True)
        return folder.lock(doing)

    with Review.open(out) as review:
        monkeypatch.setattr(RunFolder, "lock", late)
        if command == "apply":
            review.apply()
        else:
            repeat(out) if command == "run" else tune_run(out, 1)
    assert Settings.load(out / "holotype.toml").thresholds == [0.8]


def test_a_folder_that_is_removed_under_a_run_is_said(out: Path, tmp_path: Path) -> None:
    class Removing(Silent):
        def say(self, text: str) -> None:
            if text.startswith("train"):
                out.rename(tmp_path / "elsewhere")

    with pytest.raises(OutputError, match="was removed or moved while this command wrote into it"):
        repeat(out, progress=Removing())
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} >= WHOLE
    assert not (out / "model").exists()


def test_a_reader_waits_while_results_are_replaced(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the old results and the new ones there are none: who opens the run then sees the new ones."""
    reader, found = Thread(target=lambda: found.append(Review.open(out))), list[Review]()
    remove = folder_module._remove

    def slow(path: Path, aside: Path) -> None:
        remove(path, aside)
        if path.name == "review":
            reader.start()
            time.sleep(0.3)

    monkeypatch.setattr(folder_module, "_remove", slow)
    repeat(out, lambda settings: settings.model_copy(update={"thresholds": [0.8]}))
    reader.join()
    with found[0] as review:
        assert review.settings.thresholds == [0.8]


def test_a_run_without_locks_warns_and_goes_on(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (out / ".new-of-another").mkdir()
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(HolotypeWarning, match="has no locks"):
        repeat(out)
    assert {path.name for path in out.iterdir()} >= WHOLE | {".new-of-another"}
    monkeypatch.undo()
    with RunFolder(out).lock("a test"):
        assert not (out / ".new-of-another").exists()  # nobody else can be at it


@pytest.mark.parametrize("name", ["run.log", ".DS_Store", "nohup.out", "Thumbs.db", ".gitignore", "empty"])
def test_a_log_or_what_a_file_manager_leaves_is_nobodys_work(data: Path, job: Job, name: str) -> None:
    (data / "out").mkdir()
    (data / "out" / name).write_text("" if name == "empty" else "started")
    RunFolder(data / "out").check(job())
    (data / "out" / "diary.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty and holds no run"):
        RunFolder(data / "out").check(job())
