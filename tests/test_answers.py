"""An answer that was taken is there for good: after a kill, beside other writers, and through other tools."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from holotype.answers.log import AnswerLog
from holotype.answers.records import Answer, NewAnswer, Undo, Verdict
from holotype.answers.salvage import salvage
from holotype.errors import AnswersError, HolotypeError, OutputError

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
STRANGE = ['=1+1,"x"', " Äpfel\n🍎\r\n;\t", "'--", "007", "a\rb", "\x00\ufeff"]

WRITER = """
import sys
from holotype.answers.log import AnswerLog
with AnswerLog(sys.argv[1]) as answers:
    for number in range(int(sys.argv[3])):
        print(answers.add(f"{sys.argv[2]} {number}", "red", "yes").id, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "OUT" / "answers.db"


@pytest.fixture
def answers(path: Path) -> Iterator[AnswerLog]:
    with AnswerLog(path) as opened:
        yield opened


def writer(path: Path, name: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def plain(found: list[Answer]) -> list[tuple[str, str, str]]:
    return [(answer.id, answer.label, answer.verdict) for answer in found]


def test_what_was_said_is_there_after_opening_again(path: Path) -> None:
    before = datetime.now(UTC)
    with AnswerLog(path) as answers:
        answer = answers.add("a.jpg", "red", "yes", who="Ada", audit=True)
        assert answers.current() == answers.history() == [answer]
    assert before <= answer.when <= datetime.now(UTC)
    assert (answer.number, answer.who, answer.audit) == (1, "Ada", True)
    with AnswerLog(str(path)) as again:
        assert again.current() == [answer]
        assert again.add("b.jpg", "red", "no").number == 2
    assert sorted(file.name for file in path.parent.iterdir()) == ["answers.db"]


def test_a_killed_writer_loses_nothing_that_was_confirmed(path: Path) -> None:
    with writer(path, "kill", 100_000) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(60)]
        process.send_signal(signal.SIGKILL)
        printed += [line for line in process.stdout if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    with AnswerLog(path) as answers:
        there = [answer.id for answer in answers.current()]
        assert answers.add("after", "red", "no").number == len(there) + 1
    assert there[: len(printed)] == [line.removesuffix("\n") for line in printed]
    assert len(there) <= len(printed) + 1  # one may have been written and not yet printed


def test_two_processes_that_write_and_begin_at_the_same_time(path: Path) -> None:
    with writer(path, "left", 80) as left, writer(path, "right", 80) as right:
        printed = [process.communicate()[0].splitlines() for process in (left, right)]
    assert [len(lines) for lines in printed] == [80, 80]
    with AnswerLog(path) as answers:
        there = answers.history()
    assert {answer.id for answer in answers_of(there)} == {*printed[0], *printed[1]}
    assert [record.number for record in there] == list(range(1, 161))


def answers_of(history: list[Answer | Undo]) -> list[Answer]:
    return [record for record in history if isinstance(record, Answer)]


def test_threads_share_one_and_several_open_the_same_file(path: Path) -> None:
    with AnswerLog(path) as one, AnswerLog(path) as other, ThreadPoolExecutor(8) as threads:
        made = [threads.submit((one, other)[n % 2].add, str(n), "red", "yes") for n in range(100)]
        assert sorted(answer.result().number for answer in made) == list(range(1, 101))
        assert one.current() == other.current()
        assert one.version == other.version == 100


def test_many_threads_make_the_file_at_once(path: Path) -> None:
    def opened_and_added(number: int) -> None:
        with AnswerLog(path) as answers:
            answers.add(str(number), "red", "yes")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(opened_and_added, range(24)))
    with AnswerLog(path) as answers:
        assert len(answers.current()) == 24


def test_it_waits_for_another_writer_and_names_one_that_does_not_end(
    answers: AnswerLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("holotype.answers.database.LOCK_PATIENCE", 0.1)
    with AnswerLog(path) as hasty:
        assert hasty.current() == []  # whoever only reads waits for nobody
        with pytest.raises(AnswersError, match="another program has held it"):
            hasty.add("a", "red", "yes")
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(answers.add, "a", "red", "yes")
        time.sleep(0.2)
        assert not waiting.done()
        other.execute("COMMIT")
        assert waiting.result().number == 1
    other.close()


def test_the_log_is_safe_against_power_failure(answers: AnswerLog) -> None:
    assert answers._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert answers._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_the_last_answer_about_an_image_and_a_class_holds(answers: AnswerLog) -> None:
    said: list[tuple[str, str, Verdict]] = [
        ("a", "red", "yes"),
        ("b", "red", "exemplar"),
        ("a", "blue", "no"),
        ("a", "red", "unsure"),
        ("b", "red", "withdrawn"),
    ]
    for one in said:
        answers.add(*one)
    assert plain(answers.current()) == said[2:]


def test_undo_brings_back_what_held_before(answers: AnswerLog) -> None:
    first = answers.add("a", "red", "yes")
    both = answers.record([NewAnswer("a", "red", "no"), NewAnswer("a", "blue", "yes")])
    assert both[0].act == both[1].act != first.act
    assert answers.undo(both[0].act, who="Ada")
    assert answers.current() == [first]
    assert not answers.undo(both[0].act)
    undone = answers.history()[-1]
    assert isinstance(undone, Undo)
    assert (undone.act, undone.who, undone.number) == (both[0].act, "Ada", 4)
    assert answers.version == 4
    assert answers.undo(first.act)
    assert answers.current() == []
    assert len(answers.history()) == 5


def test_what_cannot_be_undone(answers: AnswerLog) -> None:
    """An undo is no act: neither its number nor anything else undoes it."""
    act = answers.add("a", "red", "yes").act
    answers.undo(act)
    for unknown in ["2", "nothing", "", f"{act} "]:
        with pytest.raises(AnswersError, match=r"act"):
            answers.undo(unknown)
    assert not answers.undo(act)
    assert answers.version == 2


def test_an_act_is_recorded_once(answers: AnswerLog) -> None:
    given = [NewAnswer("a", "red", "no", "Ada"), NewAnswer("a", "blue", "yes", "Ada", when=NOON)]
    first = answers.record(given, act="click 1")
    assert answers.record(given, act="click 1") == first
    assert answers.version == 2
    assert first[1].when == NOON
    answers.undo("click 1")
    assert answers.record(given, act="click 1") == first  # a reply that comes late undoes no undo
    assert answers.current() == []
    for other in [given[:1], given[::-1], [given[0], NewAnswer("a", "blue", "yes", "Ada", when=NOON + timedelta(1))]]:
        with pytest.raises(AnswersError, match="click 1 is recorded with other answers"):
            answers.record(other, act="click 1")
    assert answers.version == 3
    assert answers.record([]) == []


def test_an_act_is_recorded_whole_or_not_at_all(answers: AnswerLog) -> None:
    wrong = NewAnswer("b", "red", "yes")
    object.__setattr__(wrong, "verdict", "maybe")  # as if there were no check before the database's own
    with pytest.raises(AnswersError, match=r"CHECK constraint failed.*; nothing was recorded"):
        answers.record([NewAnswer("a", "red", "no"), wrong])
    assert answers.version == 0
    assert answers.add("a", "red", "yes").number == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"id": ""}, "the id of an image"),
        ({"id": 7}, "the id of an image as text"),
        ({"id": "\udcff"}, "UTF-8"),
        ({"label": ""}, "the name of a class"),
        ({"label": "None"}, "say no to each class"),
        ({"verdict": "maybe"}, "expected one of yes, no, unsure, exemplar, withdrawn as answer, got 'maybe'"),
        ({"who": "\udcff"}, "who said it"),
        ({"when": datetime(2026, 5, 1)}, "a time with its zone"),
        ({"when": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))}, "a time with its zone"),
    ],
)
def test_what_no_answer_can_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(AnswersError, match=message):
        NewAnswer(**{"id": "a", "label": "red", "verdict": "yes", **values})


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE record SET answer = 'no'",
        "DELETE FROM record",
        "INSERT OR REPLACE INTO record SELECT number, act, 'b', class, answer, '', who, audit, '', '' FROM record",
        'INSERT INTO record SELECT -1, act, id, class, answer, "when", who, audit, digest, chain FROM record',
        "INSERT INTO record SELECT 9, act, id, class, 'maybe', \"when\", who, audit, digest, chain FROM record",
    ],
)
def test_the_file_itself_refuses_changes(change: str, answers: AnswerLog, path: Path) -> None:
    answer = answers.add("a", "red", "yes")
    other = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        other.execute(change)
    other.close()
    assert answers.history() == [answer]


def test_strange_names_are_kept_and_do_nothing(answers: AnswerLog) -> None:
    names = [*STRANGE, "'); DROP TABLE record; --"]
    for name in names:
        answers.add(name, name, "yes", who=name)
    assert plain(answers.current()) == [(name, name, "yes") for name in names]
    assert [one.who for one in answers.current()] == names


def test_a_newer_schema_is_refused(path: Path) -> None:
    AnswerLog(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 4")
        other.execute("UPDATE log SET schema = 4")
    other.close()
    with pytest.raises(AnswersError, match="has schema 4, and this holotype knows 3"):
        AnswerLog(path)


def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE trials (number)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(AnswersError, match="got a database of another program"):
        AnswerLog(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello", b"id,class,answer\n" * 100, b"\x00" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    path.write_bytes(content)
    with pytest.raises(AnswersError, match="no SQLite database"):
        AnswerLog(path)
    assert path.read_bytes() == content


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(AnswersError, match="cannot be opened"):
        AnswerLog(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file is where a folder should be"):
        AnswerLog(tmp_path / "file" / "answers.db")
    with AnswerLog(tmp_path / "file") as closed:  # an empty file is a new one
        pass
    with pytest.raises(HolotypeError, match="closed"):
        closed.add("a", "red", "yes")


FIRST_SCHEMA = """
    CREATE TABLE record (
        number INTEGER PRIMARY KEY CHECK (number > 0),
        act TEXT NOT NULL, id TEXT, class TEXT,
        answer TEXT NOT NULL CHECK (answer IN ('yes', 'no', 'unsure', 'exemplar', 'withdrawn', 'undo')),
        "when" TEXT NOT NULL, who TEXT NOT NULL, audit INTEGER NOT NULL CHECK (audit IN (0, 1)),
        CHECK ((answer = 'undo') = (id IS NULL) AND (id IS NULL) = (class IS NULL))
    );
    CREATE INDEX record_act ON record (act);
    CREATE VIEW standing AS
        SELECT * FROM record WHERE answer != 'undo' AND act NOT IN (SELECT act FROM record WHERE answer = 'undo');
    CREATE TRIGGER no_update BEFORE UPDATE ON record BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
    CREATE TRIGGER no_delete BEFORE DELETE ON record BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
    CREATE TRIGGER no_replace BEFORE INSERT ON record WHEN EXISTS (SELECT 1 FROM record WHERE number = NEW.number)
        BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
    PRAGMA application_id = 1215261807;
    PRAGMA user_version = 1;
    INSERT INTO record VALUES (1, 'a', 'x', 'red', 'yes', '2026-05-01T12:00:00+00:00', 'ann', 1);
    INSERT INTO record VALUES (2, 'b', 'y', 'red', 'no', '2026-05-01T12:00:01+00:00', 'ann', 0);
    INSERT INTO record VALUES (3, 'c', 'x', 'red', 'no', '2026-05-01T12:00:02+00:00', 'ann', 0);
    INSERT INTO record VALUES (4, 'd', 'z', 'red', 'yes', '2026-05-01T12:00:03+00:00', 'ann', 0);
    INSERT INTO record VALUES (5, 'd', NULL, NULL, 'undo', '2026-05-01T12:00:04+00:00', 'ann', 0);
"""


def test_a_log_of_the_first_schema_is_upgraded_and_keeps_all(path: Path) -> None:
    """Also what was audited stays so: its correction by a file had lost that."""
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.executescript(FIRST_SCHEMA)
    other.close()
    for _ in range(2):
        with AnswerLog(path) as log:
            assert [(one.id, one.verdict, one.audit) for one in log.current()] == [
                ("y", "no", False),
                ("x", "no", True),
            ]
            assert len(log.history()) == 5
            assert {one.digest for one in log.current()} == {""}
    with AnswerLog(path) as log:
        log.add("y", "red", "yes")
        assert log.undo("d") is False
        assert plain(log.current()) == [("x", "red", "no"), ("y", "red", "yes")]


def test_two_that_upgrade_a_log_at_once(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.executescript(FIRST_SCHEMA)
    other.close()
    with ThreadPoolExecutor(8) as threads:
        logs = list(threads.map(lambda _: AnswerLog(path), range(8)))
    assert all(len(log.current()) == 2 for log in logs)
    for log in logs:
        log.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/locks is of Linux")
def test_to_open_it_again_keeps_the_locks_of_the_first(answers: AnswerLog, path: Path) -> None:
    """A system drops them when the process closes any descriptor of the file: others would take it for unused."""

    def locks() -> list[str]:
        files = [f":{one.stat().st_ino} " for one in (path, path.with_name("answers.db-shm"))]
        lines = Path("/proc/locks").read_text().splitlines()
        return sorted(line.split(":", 1)[1] for line in lines if any(one in line for one in files))

    answers.add("1", "red", "yes")
    before = locks()
    assert len(before) >= 2
    with AnswerLog(path) as other:
        assert len(other.history()) == 1
        assert locks() == before
    salvage(path)
    assert locks() == before
