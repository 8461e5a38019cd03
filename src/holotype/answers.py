"""What people said about images of a run: a log that is only ever added to."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any, Literal, Self, cast, get_args
from uuid import uuid4

from holotype import files
from holotype.errors import AnswersError
from holotype.predictions import NONE

Said = Literal["yes", "no", "unsure", "exemplar", "withdrawn"]
PATIENCE = 10  # seconds that another writer is waited for

_APPLICATION = 0x486F6C6F  # "Holo"
_SCHEMA = 1
_STATEMENTS = (
    """CREATE TABLE record (
        number INTEGER PRIMARY KEY CHECK (number > 0),
        act TEXT NOT NULL, id TEXT, class TEXT,
        answer TEXT NOT NULL CHECK (answer IN ('yes', 'no', 'unsure', 'exemplar', 'withdrawn', 'undo')),
        "when" TEXT NOT NULL, who TEXT NOT NULL, audit INTEGER NOT NULL CHECK (audit IN (0, 1)),
        CHECK ((answer = 'undo') = (id IS NULL) AND (id IS NULL) = (class IS NULL))
    )""",
    "CREATE INDEX record_act ON record (act)",
    """CREATE VIEW standing AS
        SELECT * FROM record WHERE answer != 'undo' AND act NOT IN (SELECT act FROM record WHERE answer = 'undo')""",
    "CREATE TRIGGER no_update BEFORE UPDATE ON record BEGIN SELECT RAISE(ABORT, 'answers are only added'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON record BEGIN SELECT RAISE(ABORT, 'answers are only added'); END",
    # INSERT OR REPLACE deletes a row without asking the trigger above
    """CREATE TRIGGER no_replace BEFORE INSERT ON record WHEN EXISTS (SELECT 1 FROM record WHERE number = NEW.number)
        BEGIN SELECT RAISE(ABORT, 'answers are only added'); END""",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_SCHEMA}",
)
_OF_ACT = "SELECT * FROM record WHERE act = ? AND answer != 'undo' ORDER BY number"
_REASONS = {
    sqlite3.SQLITE_NOTADB: "expected the answers of a run, got a file that is no SQLite database; move it away",
    sqlite3.SQLITE_BUSY: f"another program has held it for {PATIENCE} seconds; close that program, or try again",
    sqlite3.SQLITE_FULL: "no space left on the disk, and nothing was recorded; free some space and try again",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that it is no folder and that this user may write there",
    sqlite3.SQLITE_READONLY: "it can only be read; choose another place, or let this user write there",
}


@dataclass(frozen=True)
class Given:
    """What is to be recorded: does image `id` show class `label`? Without `when` it is said now.

    "exemplar" makes the image one more exemplar of the class; "withdrawn" says that an exemplar is none any more.
    audit   asked as part of the random audit, and never learnt from
    Raises `AnswersError` for what no answer can be.
    """

    id: str
    label: str
    said: Said
    who: str = ""
    audit: bool = False
    when: datetime | None = None

    def __post_init__(self) -> None:
        _check_text("the id of an image", self.id)
        _check_text("the name of a class", self.label)
        if self.label.casefold() == NONE:
            raise AnswersError(f"expected a class, got {self.label!r}; say no to each class instead")
        if self.said not in get_args(Said):
            raise AnswersError(f"expected one of {', '.join(get_args(Said))} as answer, got {self.said!r}")
        if self.who:
            _check_text("who said it", self.who)
        if self.when is not None:
            utc(self.when)


@dataclass(frozen=True)
class Answer:
    """What was recorded. `number` is its place in the log, `when` is UTC, `act` is what it is undone with."""

    id: str
    label: str
    said: Said
    when: datetime
    who: str
    audit: bool
    number: int
    act: str


@dataclass(frozen=True)
class Undo:
    """The record that all answers of `act` do not hold."""

    act: str
    when: datetime
    who: str
    number: int


class Answers:
    """The answers in the SQLite file `path`, which is made where there is none.

    Several threads may share one, and several processes one file; what a method returned has been synced to the disk.
    Raises `AnswersError` when the file is of another program or of a newer holotype, or cannot be used.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = RLock()
        files.make_folder(self.path.parent)
        with _explain(self.path):
            self._db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        with _explain(self.path):
            self._db.execute("PRAGMA synchronous = FULL")
            if self._about() == (0, 0, 0):
                self._create()
            application, schema, _ = self._about()
        if application != _APPLICATION:
            raise AnswersError(
                f"expected the answers of a run in {self.path}, got a database of another program; move it away, "
                "or choose another folder"
            )
        if schema != _SCHEMA:
            raise AnswersError(
                f"{self.path} has schema {schema}, and this holotype knows {_SCHEMA}; use the version that wrote it"
            )
        with suppress(sqlite3.OperationalError):  # two at once cannot switch, and one is enough: the file keeps it
            self._db.execute("PRAGMA journal_mode = WAL")

    def _about(self) -> tuple[int, ...]:
        """The application and schema that the file says it has, and its number of tables and the like."""
        queries = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        return tuple(int(self._db.execute(query).fetchone()[0]) for query in queries)

    def _create(self) -> None:
        with self._writing():
            if self._about() == (0, 0, 0):  # another process may have been quicker
                for statement in _STATEMENTS:
                    self._db.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, id: str, label: str, said: Said, *, who: str = "", audit: bool = False) -> Answer:  # noqa: A002
        """Record one answer as an act of its own."""
        return self.record([Given(id, label, said, who, audit)])[0]

    def record(self, given: Sequence[Given], *, act: str | None = None) -> list[Answer]:
        """Record answers as one act, all or none. An `act` that is known is returned, and not recorded again.

        Raises `AnswersError` when `act` is known with other answers.
        """
        if act is not None:
            _check_text("the id of an act", act)
        with self._writing():
            known = self._read(_OF_ACT, act)
            if known and not _are_same(given, known):
                raise AnswersError(f"act {act} is recorded with other answers; give these an id of their own")
            return known or self._write(given, act or uuid4().hex)

    def take(self, given: Iterable[Given]) -> int:
        """Record, as one act, what does not stand already, and return how many answers that were.

        Of several answers about one image and class the last counts. An exemplar shows its class: yes is not new.
        """
        last = {(one.id, one.label): one for one in given}
        with self._writing():
            standing: dict[tuple[str, str], str] = {(one.id, one.label): one.said for one in self.current()}
            new = [one for pair, one in last.items() if not _stands(one.said, standing.get(pair))]
            self._write(new, uuid4().hex)
        return len(new)

    def undo(self, act: str, *, who: str = "") -> bool:
        """Record that `act` does not hold; False, and nothing is recorded, when that is so already.

        Raises `AnswersError` for an act that is unknown.
        """
        _check_text("the id of an act", act)
        if who:
            _check_text("who said it", who)
        with self._writing():
            if not self._read(_OF_ACT, act):
                raise AnswersError(f"expected an act that was recorded, got {act!r}; nothing was undone")
            if not self._read("SELECT * FROM standing WHERE act = ? LIMIT 1", act):
                return False
            self._insert(act, None, None, "undo", datetime.now(UTC), who, False)
            return True

    def last_act(self, who: str | None = None) -> str | None:
        """The last act, of `who` or of anybody, that is not undone."""
        found = self._read("SELECT * FROM standing WHERE ?1 IS NULL OR who = ?1 ORDER BY number DESC LIMIT 1", who)
        return found[0].act if found else None

    def current(self) -> list[Answer]:
        """What holds: of each image and class the last answer that is not undone, in the order of recording."""
        return self._read(
            """SELECT * FROM standing
            WHERE number IN (SELECT max(number) FROM standing GROUP BY id, class) ORDER BY number"""
        )

    def history(self) -> list[Answer | Undo]:
        """Everything that was recorded, in order."""
        with self._lock, _explain(self.path):
            return [_record(row) for row in self._db.execute("SELECT * FROM record ORDER BY number")]

    @property
    def version(self) -> int:
        """A number that grows with every record."""
        with self._lock, _explain(self.path):
            return int(self._db.execute("SELECT coalesce(max(number), 0) FROM record").fetchone()[0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that writes from its start on, so that what is read in it still holds when it ends."""
        with self._lock, _explain(self.path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield

    def _read(self, query: str, *values: str | None) -> list[Answer]:
        with self._lock, _explain(self.path):
            return [cast(Answer, _record(row)) for row in self._db.execute(query, values)]

    def _write(self, given: Iterable[Given], act: str) -> list[Answer]:
        now = datetime.now(UTC)
        for one in given:
            self._insert(act, one.id, one.label, one.said, utc(one.when or now), one.who, one.audit)
        return self._read(_OF_ACT, act)

    def _insert(
        self, act: str, name: str | None, label: str | None, said: str, when: datetime, who: str, audit: bool
    ) -> None:
        values = (act, name, label, said, when.isoformat(), who, int(audit))
        self._db.execute(
            'INSERT INTO record (act, id, class, answer, "when", who, audit) VALUES (?, ?, ?, ?, ?, ?, ?)', values
        )


def utc(when: datetime) -> datetime:
    """Return `when` in UTC. Raises `AnswersError` when it has no zone."""
    try:
        if when.utcoffset() is not None:
            return when.astimezone(UTC)
    except OverflowError:
        pass
    raise AnswersError(f"expected a time with its zone, such as 2026-05-01T12:00:00Z, got {when.isoformat()}")


def _check_text(what: str, value: object) -> None:
    try:
        if isinstance(value, str) and value.encode():
            return
    except UnicodeEncodeError:
        pass
    raise AnswersError(f"expected {what} as text in UTF-8, got {value!a}")


def _stands(said: str, now: str | None) -> bool:
    return said == now or (said == "yes" and now == "exemplar")


def _are_same(given: Sequence[Given], known: Sequence[Answer]) -> bool:
    """A time that was not given is that of the recording."""
    return len(given) == len(known) and all(
        one == Given(old.id, old.label, old.said, old.who, old.audit, one.when and old.when)
        for one, old in zip(given, known, strict=True)
    )


def _record(row: tuple[Any, ...]) -> Answer | Undo:
    number, act, name, label, said, when, who, audit = row
    if said == "undo":
        return Undo(act, datetime.fromisoformat(when), who, number)
    return Answer(name, label, said, datetime.fromisoformat(when), who, bool(audit), number, act)


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what it adds to the kind of fault
        raise AnswersError(f"cannot use {path}: {_REASONS.get(code, f'{error}; nothing was recorded')}") from error
