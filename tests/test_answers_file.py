"""The file of the answers: written together, flat in cost, for its owner alone, and missed when it is gone."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread, Timer

import pytest

from holotype.answers.log import AnswerLog
from holotype.answers.records import Answer, NewAnswer
from holotype.errors import AnswersError

THREADS = 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "OUT" / "answers.db"


def ids(log: AnswerLog) -> list[str]:
    return [one.id for one in log.history() if isinstance(one, Answer)]


def together(log: AnswerLog, names: Sequence[str]) -> list[Future[Answer]]:
    """Record an answer about each of `names` from a thread of its own, all of which have to wait for one turn."""
    with ThreadPoolExecutor(len(names)) as threads, log._file.turn:
        found = [threads.submit(log.add, name, "red", "yes") for name in names]
        while len(log._file._waiting) < len(names):
            time.sleep(0.001)
    return found


def test_who_writes_at_the_same_time_is_synced_together(path: Path) -> None:
    with AnswerLog(path) as log:
        said: list[str] = []
        log._db.set_trace_callback(said.append)
        names = [f"{number}" for number in range(THREADS)]
        assert sorted(one.result().id for one in together(log, names)) == sorted(names)
        assert (said.count("BEGIN IMMEDIATE"), said.count("COMMIT")) == (1, 1)
        with AnswerLog(path) as other:
            assert sorted(ids(other)) == sorted(names)


def test_one_that_is_refused_takes_no_other_along(path: Path) -> None:
    with AnswerLog(path) as log:
        log.record([NewAnswer("0", "red", "yes")], act="known")
        with ThreadPoolExecutor(THREADS) as threads, log._file.turn:
            right = [threads.submit(log.add, str(number), "red", "no") for number in range(1, THREADS)]
            wrong = threads.submit(log.record, [NewAnswer("0", "red", "no")], act="known")
        assert len({one.result().number for one in right}) == THREADS - 1
        with pytest.raises(AnswersError, match="recorded with other answers"):
            wrong.result()
        assert sorted(map(int, ids(log))) == list(range(THREADS))


@pytest.mark.parametrize("pages", [0, 1, 3])
def test_a_full_disk_acknowledges_nothing_that_it_does_not_keep(path: Path, pages: int) -> None:
    with AnswerLog(path) as log:
        log.add("first", "red", "exemplar")
        full = log._db.execute("PRAGMA page_count").fetchone()[0] + pages
        log._db.execute(f"PRAGMA max_page_count = {full}")
        names = [f"{number}" * 900 for number in range(THREADS)]
        found = together(log, names)
        assert all("no space left" in str(one.exception()) for one in found if one.exception())
        assert any(one.exception() for one in found)
        log._db.execute("PRAGMA max_page_count = 100000")
        kept = [one.result().id for one in found if not one.exception()]
        assert sorted(ids(log)) == sorted(["first", *kept])
        log.add("after", "red", "yes")
    with AnswerLog(path) as again:
        assert sorted(ids(again)) == sorted(["first", *kept, "after"])


def test_an_answer_costs_the_same_whatever_came_before(path: Path) -> None:
    with AnswerLog(path, Anything()) as log:
        log.add("0", "red", "exemplar")
        few = steps(log, lambda: log.add("1", "red", "yes"))
        log.record([NewAnswer(str(number), "red", "no") for number in range(5000)])
        log.add("2", "red", "exemplar")
        log.add("2", "red", "yes")
        assert steps(log, lambda: log.add("3", "red", "yes")) < 2 * few
        assert [one.id for one in log._prototypes_now()] == ["0", "2"]


def steps(log: AnswerLog, action: Callable[[], object]) -> int:
    """Count the steps of SQLite's machine, in tens."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    log._db.set_progress_handler(tick, 10)
    action()
    log._db.set_progress_handler(None, 0)
    return count


class Anything:
    """Rules that allow all, and `on_check` is called with each act before it is written."""

    def __init__(self, on_check: Callable[[], object] = lambda: None) -> None:
        self._on_check = on_check

    def complete(self, answer: NewAnswer) -> NewAnswer:
        return answer

    def is_about_another(self, answer: NewAnswer) -> bool:
        return False

    def applying(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        return answers

    def current_id(self, name: str, digest: str) -> str:
        return name

    def faults(self, new: Sequence[NewAnswer], prototypes: Sequence[Answer]) -> dict[int, str]:
        self._on_check()
        return {}

    def contradictions(self, current: Sequence[Answer]) -> set[str]:
        return set()

    def is_exemplar(self, pair: tuple[str, str], prototypes: Sequence[Answer]) -> bool:
        return any((one.id, one.label) == pair for one in prototypes)


def test_the_file_is_for_its_owner(path: Path) -> None:
    before = os.umask(0)
    try:
        with AnswerLog(path) as log:
            log.add("0", "red", "yes")
            for file in path.parent.iterdir():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    finally:
        os.umask(before)
    path.chmod(0o640)  # as its owner wants it
    with AnswerLog(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def deleted(path: Path) -> None:
    path.unlink()


def folder_deleted(path: Path) -> None:
    shutil.rmtree(path.parent)


def folder_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def replaced_by_nothing(path: Path) -> None:
    path.unlink()
    path.touch()


def replaced_by_another_log(path: Path) -> None:
    path.unlink()
    path.with_name("answers.db-wal").unlink()
    AnswerLog(path).close()


def write_ahead_log_deleted(path: Path) -> None:
    path.with_name("answers.db-wal").unlink()


@pytest.mark.parametrize(
    "happens",
    [
        deleted,
        folder_deleted,
        folder_moved,
        replaced,
        replaced_by_nothing,
        replaced_by_another_log,
        write_ahead_log_deleted,
    ],
)
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_file_that_is_gone_takes_no_answer(path: Path, happens: Callable[[Path], None], when: str) -> None:
    todo = [happens]
    rules = Anything(lambda: todo.pop()(path) if when == "while" and path.stat().st_size and armed and todo else None)
    armed: list[bool] = []
    with AnswerLog(path, rules) as log:
        log.add("0", "red", "yes")
        armed.append(True)
        if when == "before":
            happens(path)
        with pytest.raises(AnswersError, match=f"{path} was deleted, moved or replaced") as caught:
            log.add("1", "red", "yes")
        assert isinstance(caught.value.__cause__, OSError)  # passing: it may be put back
        with pytest.raises(AnswersError, match="was deleted, moved or replaced"):
            log.undo("x")


def test_a_file_that_is_put_back_takes_answers_again(path: Path) -> None:
    elsewhere = path.parent.with_name("elsewhere")
    with AnswerLog(path) as log:
        log.add("0", "red", "yes")
        path.parent.rename(elsewhere)
        with pytest.raises(AnswersError, match="put it back"):
            log.add("1", "red", "yes")
        elsewhere.rename(path.parent)
        log.add("2", "red", "yes")
    assert not path.with_name("answers.db-wal").exists()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT id FROM record").fetchall() == [("0",), ("2",)]


@contextmanager
def another_that_writes(log: AnswerLog) -> Iterator[None]:
    inside, go = Event(), Event()

    def write() -> None:
        with log._file.writing():
            inside.set()
            go.wait(10)

    thread = Thread(target=write, daemon=True)
    thread.start()
    inside.wait(10)
    yield
    go.set()
    thread.join(5)
    assert not thread.is_alive()


def is_interrupted(path: Path) -> None:
    """What the next test does, in a process of its own: a signal is for a whole process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup has it ignored
    log = AnswerLog(path)
    with another_that_writes(log):
        Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            log.add("interrupted", "red", "yes")
    one = object()  # a thread that others left it to, to sync what they wrote
    log._file._waiting.add(one)
    with another_that_writes(log):
        Timer(0.2, log._file._waiting.discard, (one,)).start()
    assert log.add("later", "red", "yes").number == 1
    log.close()


def test_who_is_interrupted_before_its_turn_keeps_nobody_waiting(path: Path) -> None:
    code = "import sys, pathlib, test_answers_file as this; this.is_interrupted(pathlib.Path(sys.argv[1]))"
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
