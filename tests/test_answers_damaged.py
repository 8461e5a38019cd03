"""Answers that are damaged are never taken for others, and those that are whole can be kept."""

import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from holotype.answers import wal
from holotype.answers.log import AnswerLog
from holotype.answers.records import Answer, NewAnswer, Undo
from holotype.answers.salvage import salvage
from holotype.errors import AnswersError, DamagedAnswers, HolotypeWarning

COUNT = 60
Records = list[Answer | Undo]


def fill(path: Path) -> None:
    """A log on three dozen pages: some of it undone, some of an audit."""
    with AnswerLog(path) as log:
        log.record([NewAnswer(f"before {number}", "red", "no", digest="ab" * 32) for number in range(300)])
        for number in range(COUNT):
            one = log.add(f"image {number}", "red", "yes", who="Ada", audit=number % 7 == 0)
            if number % 20 == 0:
                log.undo(one.act)
        log.draw([(f"asked {number}", "red") for number in range(30)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "answers.db"
    fill(path)
    return path


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process leaves that is killed: the last answers are in the -wal alone."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "open").mkdir()
    fill(folder / "open" / "answers.db")
    with AnswerLog(folder / "open" / "answers.db") as log:
        for number in range(20):
            log.add(f"last {number}", "red", "no")
        for path in (folder / "open").iterdir():
            shutil.copyfile(path, folder / path.name)
    return folder / "answers.db"


def read(path: Path) -> tuple[Records, list[bool]]:
    with AnswerLog(path) as log:
        return log.history(), [log._is_drawn((f"asked {number}", "red")) for number in range(30)]


def copied(path: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for one in path.parent.glob("answers.db*"):
        shutil.copyfile(one, folder / one.name)
    return folder / path.name


def damage(path: Path, place: int, *, zeros: bool = False) -> None:
    content = bytearray(path.read_bytes())
    if zeros:
        place = place // 512 * 512
        content[place : place + 512] = bytes(len(content[place : place + 512]))
    else:
        content[place] ^= 1 << place % 8
    path.write_bytes(content)


@pytest.mark.parametrize("end", ["", "-wal"])
def test_what_is_damaged_is_never_read_as_something_else(end: str, whole: Path, killed: Path, tmp_path: Path) -> None:
    source, dice = killed if end else whole, random.Random(0)
    wanted = read(copied(source, tmp_path / "here"))
    size, refused = source.with_name(f"answers.db{end}").stat().st_size, 0
    for number in range(60):
        path = copied(source, tmp_path / "here")
        damage(path.with_name(f"answers.db{end}"), dice.randrange(size), zeros=number % 6 == 0)
        try:
            assert read(path) == wanted
        except AnswersError:
            refused += 1
    assert refused > 20


def test_one_bit_of_a_type_or_of_an_index_is_seen(whole: Path, tmp_path: Path) -> None:
    """Text as bytes that are none, which look the same; and an image that the index of the audit does not lead to."""
    for change in (
        "UPDATE record SET class = CAST(class AS BLOB) WHERE number = 310",
        "UPDATE drawn SET id = CAST(id AS BLOB) WHERE number = 3",
    ):
        path = copied(whole, tmp_path / "here")
        with closing(sqlite3.connect(path)) as other:
            tables = other.execute(
                "SELECT sql FROM sqlite_master WHERE name IN ('no_update', 'no_update_drawn')"
            ).fetchall()
            other.executescript("DROP TRIGGER no_update; DROP TRIGGER no_update_drawn;")
            other.execute(change)
            for (table,) in tables:
                other.execute(table)
            other.commit()
        with pytest.raises(DamagedAnswers, match=r"(record 310|audit 3) is not as it was written"):
            AnswerLog(path)
        assert "are lost" not in salvage(path)
    path = copied(whole, tmp_path / "here")
    content = path.read_bytes()
    places = [place for place in range(len(content)) if content.startswith(b"asked 7red", place)]
    assert len(places) == 2  # in the table, and in its index
    for place in places:
        damage(path, place)
        with pytest.raises(DamagedAnswers):
            AnswerLog(path)
        path.write_bytes(content)


def said_of(records: Records) -> list[tuple[str, ...]]:
    return [
        (one.act, one.id, one.verdict, str(one.audit)) if isinstance(one, Answer) else (one.act,) for one in records
    ]


def test_what_is_whole_is_kept(whole: Path, tmp_path: Path) -> None:
    path = copied(whole, tmp_path / "here")
    wanted, _ = read(path)
    content = path.read_bytes()
    damage(path, content.index(b"image 33"))
    with pytest.raises(DamagedAnswers, match=r"record 336 is not as it was written.* --salvage keeps the answers"):
        AnswerLog(path)
    damaged = path.read_bytes()
    assert "lost: 1 (number 336)" in salvage(path)
    found, drawn = read(path)
    assert said_of(found) == [one for one in said_of(wanted) if "image 33" not in one]
    assert all(drawn)
    assert path.with_name("answers-damaged-1.db").read_bytes() == damaged
    assert "are whole; nothing was done" in salvage(path)
    with AnswerLog(path) as log:
        log.add("after", "red", "yes")


def test_a_page_that_is_gone_takes_no_other_along(whole: Path, tmp_path: Path) -> None:
    path = copied(whole, tmp_path / "here")
    wanted, _ = read(path)
    content = path.read_bytes()
    page = content.index(b"image 33") // 4096 * 4096
    path.write_bytes(content[:page] + bytes(4096) + content[page + 4096 :])
    with pytest.raises(DamagedAnswers):
        AnswerLog(path)
    salvage(path)
    found = said_of(read(path)[0])
    assert set(found) <= set(said_of(wanted))
    assert len(wanted) - 40 < len(found) < len(wanted)


def test_tables_that_are_damaged_are_known_again(whole: Path, tmp_path: Path) -> None:
    """One letter of a view, and what was undone would hold; one of a column's name, and nothing could be read."""
    for text in (b"WHERE answer = 'undo')", b"answer TEXT NOT NULL"):
        path = copied(whole, tmp_path / "here")
        wanted = read(path)
        content = path.read_bytes()
        place = content.rindex(text) + text.index(b"answer")
        path.write_bytes(content[:place] + b"e" + content[place + 1 :])
        with pytest.raises(DamagedAnswers):
            AnswerLog(path)
        salvage(path)
        assert said_of(read(path)[0]) == said_of(wanted[0])


def test_acknowledged_answers_behind_damage_are_not_dropped(killed: Path, tmp_path: Path) -> None:
    """SQLite takes what is behind a wrong checksum for what was never finished, and says nothing."""
    wanted = read(copied(killed, tmp_path / "here"))
    for without_index in (False, True):
        path = copied(killed, tmp_path / "here")
        damage(path.with_name("answers.db-wal"), 5000)
        if without_index:  # after a cut of the power
            path.with_name("answers.db-shm").unlink()
        with pytest.raises(DamagedAnswers, match=r"answers\.db-wal: page 1 of"):
            AnswerLog(path)
        assert "are lost" not in salvage(path)
        found = read(path)
        assert said_of(found[0]) == said_of(wanted[0])
        assert not path.with_name("answers.db-wal").exists()
        assert path.with_name("answers-damaged-1.db-wal").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def no_more(path: Path) -> None:
    path.unlink()


def of_nothing(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("happens", [cut, no_more, of_nothing])
def test_a_confirmed_end_that_is_missing_is_said(happens: Callable[[Path], None], killed: Path, tmp_path: Path) -> None:
    path = copied(killed, tmp_path / "here")
    happens(path.with_name("answers.db-wal"))
    with pytest.raises(DamagedAnswers, match=r"answers\.db-wal: (its end is missing|page .* or missing)"):
        AnswerLog(path)
    salvage(path)
    assert len(read(path)[0]) >= 363


def test_the_last_act_may_be_cut_off_or_damaged_where_nothing_else_is_known(killed: Path, tmp_path: Path) -> None:
    path = copied(killed, tmp_path / "here")
    path.with_name("answers.db-shm").unlink()
    beside = path.with_name("answers.db-wal")
    damage(beside, beside.stat().st_size - 100)
    with pytest.warns(
        HolotypeWarning, match="in the last act: it was cut off before it was confirmed, or it is damaged"
    ):
        found, _ = read(path)
    assert found[-1] == read(path)[0][-1]
    assert isinstance(found[-1], Answer)
    assert found[-1].id == "last 18"


def test_what_is_beside_another_log_is_not_taken(killed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with AnswerLog(other) as log:
        log.add("other", "red", "yes")
    path = copied(killed, tmp_path / "here")
    path.write_bytes(other.read_bytes())  # somebody put back a copy, and left the rest
    with pytest.raises(DamagedAnswers):
        AnswerLog(path)


def test_what_is_beside_another_database_is_seen_by_its_size(tmp_path: Path) -> None:
    """Where none of its pages is one of the other's, SQLite finds nothing wrong, and what is in it is gone."""
    path, other, here = tmp_path / "one.db", tmp_path / "other.db", tmp_path / "here"
    here.mkdir()
    for each, rows in ((path, 100), (other, 1)):
        with closing(sqlite3.connect(each)) as file:
            file.executescript("PRAGMA journal_mode = wal; CREATE TABLE t (x)")
            file.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * rows)
            file.commit()
    with closing(sqlite3.connect(path)) as file:
        file.execute("UPDATE t SET x = ? WHERE rowid = 100", ("y" * 1000,))
        file.commit()
        for end in ("", "-wal", "-shm"):
            shutil.copyfile(f"{path}{end}", here / f"one.db{end}")
    assert wal.doubt(here / "one.db") is None
    shutil.copyfile(other, here / "one.db")
    found = wal.doubt(here / "one.db")
    assert found is not None
    assert found.sure


def test_what_another_process_wrote_is_looked_at_as_it_comes(whole: Path, tmp_path: Path) -> None:
    path = copied(whole, tmp_path / "here")
    with AnswerLog(path) as log:
        with AnswerLog(path) as other:
            other.add("fine", "red", "yes")
        assert len(log.history()) == 364
        with closing(sqlite3.connect(path)) as other_program:
            other_program.execute(
                "INSERT INTO record SELECT number + 1, 'x', id, class, answer, \"when\", who, audit, digest, chain "
                "FROM record ORDER BY number DESC LIMIT 1"
            )
            other_program.commit()
        with pytest.raises(DamagedAnswers, match="record 365 is not as it was written"):
            log.current()


def test_a_log_of_the_second_schema_gets_its_chain(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    with closing(sqlite3.connect(path)) as other:
        other.executescript(SECOND_SCHEMA)
    for _ in range(2):
        with AnswerLog(path) as log:
            assert [(one.id, one.verdict, one.audit) for one in log.current()] == [
                ("x", "no", True),
                ("y", "yes", False),
            ]
            assert log._is_drawn(("z", "red"))
    with closing(sqlite3.connect(path)) as other:
        assert {
            len(chain) for table in ("record", "drawn") for (chain,) in other.execute(f"SELECT chain FROM {table}")
        } == {32}


SECOND_SCHEMA = """
    CREATE TABLE record (
        number INTEGER PRIMARY KEY CHECK (number > 0),
        act TEXT NOT NULL, id TEXT, class TEXT,
        answer TEXT NOT NULL CHECK (answer IN ('yes', 'no', 'unsure', 'exemplar', 'withdrawn', 'undo')),
        "when" TEXT NOT NULL, who TEXT NOT NULL, audit INTEGER NOT NULL CHECK (audit IN (0, 1)),
        CHECK ((answer = 'undo') = (id IS NULL) AND (id IS NULL) = (class IS NULL))
    );
    CREATE INDEX record_act ON record (act);
    CREATE TRIGGER no_update BEFORE UPDATE ON record BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
    CREATE TRIGGER no_delete BEFORE DELETE ON record BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
    ALTER TABLE record ADD COLUMN digest TEXT NOT NULL DEFAULT '';
    CREATE TABLE drawn (id TEXT NOT NULL, class TEXT NOT NULL, PRIMARY KEY (id, class)) WITHOUT ROWID;
    CREATE TRIGGER no_update_drawn BEFORE UPDATE ON drawn BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
    CREATE TRIGGER no_delete_drawn BEFORE DELETE ON drawn BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
    CREATE VIEW answered AS
        SELECT number, act, id, class, answer, "when", who, digest, answer IN ('exemplar', 'withdrawn') AS prototype,
        (SELECT json_group_array(drawn.class) FROM drawn WHERE drawn.id = record.id) AS drawn FROM record;
    CREATE VIEW valid AS SELECT * FROM answered
        WHERE answer != 'undo' AND act NOT IN (SELECT act FROM record WHERE answer = 'undo');
    PRAGMA application_id = 1215261807;
    PRAGMA user_version = 2;
    INSERT INTO record VALUES (1, 'a', 'x', 'red', 'no', '2026-05-01T12:00:00+00:00', 'ann', 1, 'ab');
    INSERT INTO record VALUES (2, 'b', 'y', 'red', 'yes', '2026-05-01T12:00:01+00:00', 'ann', 0, 'cd');
    INSERT INTO drawn VALUES ('x', 'red'), ('z', 'red');
"""


SALVAGE = """
import os, sys
from pathlib import Path
from holotype.answers.salvage import salvage

path, left = Path(sys.argv[1]), int(sys.argv[2])

def look(event, given):
    global left
    if event in ("os.rename", "os.remove") and any(Path(str(one)).parent == path.parent for one in given[:2]):
        left -= 1
        if left < 0:
            os._exit(9)

sys.addaudithook(look)
salvage(path)
"""


def test_a_salvage_that_is_killed_leaves_no_log_that_is_short(killed: Path, tmp_path: Path) -> None:
    path = copied(killed, tmp_path / "here")
    beside = path.with_name("answers.db-wal")
    damage(beside, beside.stat().st_size // 2)
    source = copied(path, tmp_path / "source")
    salvage(path)
    wanted, code, steps = read(path), 9, 0
    while code:
        path = copied(source, tmp_path / "here")
        code = subprocess.run([sys.executable, "-c", SALVAGE, str(path), str(steps)], check=False).returncode
        assert code in (0, 9)
        try:
            records, drawn = read(path)
        except DamagedAnswers:
            salvage(path)
            records, drawn = read(path)
        assert (said_of(records), drawn) == (said_of(wanted[0]), wanted[1])
        assert list(path.parent.glob("answers-damaged-*.db-wal"))
        assert not list(path.parent.glob(".salvage-*"))
        steps += 1
    assert steps > 5
