"""The SQLite file of the answers: who writes at the same time is synced together, and it must stay where it is."""

import errno
import hashlib
import os
import secrets
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock, RLock
from typing import Any
from urllib.parse import quote

from holotype import files, forks, locks
from holotype.answers import chain, wal
from holotype.answers.moment import read_together
from holotype.answers.opened import OPENED, identity, parents
from holotype.answers.schema import APPLICATION, CREATION, FINISH, SCHEMA, TABLES, UNINDEXED, UPGRADES
from holotype.errors import AnswersError, DamagedAnswers, HolotypeWarning
from holotype.filestate import regular
from holotype.names import command

LOCK_PATIENCE = 10  # seconds that another writer is waited for
_MODE = 0o600  # what people said is theirs
_TOGETHER = 64  # acts that are synced at once
_UNSYNCED = 0.5  # seconds after which a thread looks itself whether another one syncs its act
_NAME = "SELECT CAST(id AS BLOB), tables FROM log"

_REASONS = {
    sqlite3.SQLITE_NOTADB: "expected the answers of a run, got a file that is no SQLite database; move it away",
    sqlite3.SQLITE_BUSY: f"another program has held it for {LOCK_PATIENCE} seconds; close that program, or try again",
    sqlite3.SQLITE_FULL: "no space left on the disk, and nothing was recorded; free some space and try again",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that it is no folder and that this user may write there",
    sqlite3.SQLITE_READONLY: (
        "it can only be read, or its disk has no locks, and nothing was recorded; let this user write there, or copy "
        "the folder of the run to another place"
    ),
}


class _Batch:
    """Acts of one transaction; once it has `ended`, `error` says why it is not synced, or is None."""

    def __init__(self) -> None:
        self.size = 0
        self.ended = Event()
        self.error: BaseException | None = sqlite3.OperationalError("interrupted")
        self.undone: BaseException | None = None  # what had SQLite take all of it back


class AnswerDatabase:
    """The SQLite file `path`, made where there is none, with its tables; several threads may share one.

    writer   the connection that writes, for the thread that holds `turn`
    resets   how many times acts that had been written were taken back before they were synced
    read_only   whether nothing can be recorded: its folder can only be read, or its disk has no locks

    Raises `AnswersError` when the file is of another program or of a newer holotype, or cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.turn = RLock()
        self.resets = 0
        self._reading = Lock()
        self._waiting: set[object] = set()  # one for each thread that will take its turn to write
        self._inside = self._is_parents = False
        self._batch = _Batch()
        self._connections: list[sqlite3.Connection] = []
        if salvaged(path).exists():
            raise _damaged(path, "its salvage was cut off")
        files.make_folder(path.parent, closed=True)
        with OPENED.turn:
            OPENED.refuse_parents(path)
            is_open = OPENED.has(path)  # then SQLite has looked, and its files are for SQLite alone to open
            if not is_open:
                self._look_beside()
            # Without locks nothing could be recorded safely, so that is only read, too.
            self.read_only = not (files.is_writable(path.parent) and locks.has_locks(path.parent))
            self._copies = _copies_of(path) if self.read_only and not is_open else None
            self._place = Path(self._copies.name) / path.name if self._copies else path
            with suppress(OSError):  # SQLite says why, in the next line
                os.close(os.open(self._place, os.O_CREAT | os.O_EXCL | os.O_RDWR, _MODE))
            if self._copies is None:
                OPENED.add(self, path)  # before it is open: this process may be forked at any moment
        try:
            self.writer = self._connect()
            self._prepare()
            if self.read_only:
                self.writer.execute("PRAGMA query_only = ON")
            self._reader = self._connect()
            self._chains = [chain.Chain(table, self._first) for table in chain.COLUMNS]
            self.read("SELECT 1 FROM record LIMIT 1")  # from now on the file of what is not in the database is there
        except BaseException:
            self._disconnect()
            raise
        self._files = self._identities()
        forks.note(self)

    def begin_in_child(self) -> None:
        """Use the file no more: SQLite would take the parent's locks for its own, and even to close it does harm."""
        forks.leave(self._connections)
        self._is_parents = True
        self.turn, self._reading = RLock(), Lock()

    def _refuse_in_child(self) -> None:
        if self._is_parents:
            raise parents(self.path)

    def _connect(self) -> sqlite3.Connection:
        with explain(self.path):
            regular(self.path)
            self._connections.append(
                sqlite3.connect(self._place, timeout=LOCK_PATIENCE, isolation_level=None, check_same_thread=False)
            )
        return self._connections[-1]

    def _disconnect(self) -> None:
        with OPENED.turn:
            for one in reversed(self._connections):
                one.close()
            OPENED.remove(self)

    def close(self) -> None:
        """Close the file."""
        if self._is_parents:
            return
        with self.turn, self._reading:
            self._files = []
            self._disconnect()
            if self._copies is not None:
                self._copies.cleanup()

    def read(self, query: str, values: Sequence[str | int | None] = ()) -> list[tuple[Any, ...]]:
        """Return what `query` finds in what is synced; within `writing`, also in what was written since."""
        self._refuse_in_child()
        with explain(self.path):
            if self._is_inside():
                return self.writer.execute(query, values).fetchall()
            with self._reading:
                self._follow()
                return self._reader.execute(query, values).fetchall()

    def _follow(self) -> None:
        """Look whether what came since the last look, from here or from another process, is whole."""
        for one in self._chains:
            if fault := one.follow(self._reader):
                raise _damaged(self.path, fault)

    def append(self, table: str, values: chain.Values) -> None:
        """Add a record to `table`, within `writing`."""
        chain.append(self.writer, table, values, self._first)

    def _is_inside(self) -> bool:
        """Whether this thread is within `writing`."""
        if not self._inside or not self.turn.acquire(blocking=False):
            return False
        try:
            return self._inside
        finally:
            self.turn.release()

    def copy(self, path: Path) -> None:
        """Write what is synced to `path` as well. Raises `OutputError` where it cannot be written."""
        self._refuse_in_child()
        with files.atomic(path) as part, explain(part):
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, _MODE))
            with closing(sqlite3.connect(part)) as other, self._reading:
                self._reader.backup(other)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that writes from its start on, so that what is read in it still holds when it ends.

        It is synced when this ends, together with those of other threads that waited for their turn meanwhile; an error
        takes back only its own. Raises `AnswersError` where the file is not at its path any more.
        """
        self._refuse_in_child()
        one = object()
        with explain(self.path):
            try:
                self._waiting.add(one)
                with self.turn:
                    self._waiting.discard(one)
                    batch = self._batch
                    try:
                        yield from self._act(batch)
                    finally:
                        self._end(batch)
            finally:
                self._waiting.discard(one)  # also of a thread that was interrupted before its turn
            while not batch.ended.wait(_UNSYNCED):  # the thread that was to sync it may be such a one
                with self.turn:
                    if batch is self._batch:
                        self._end(batch)
            if batch.error is not None:
                raise batch.error

    def _act(self, batch: _Batch) -> Iterator[None]:
        self.check()
        if batch.size == 0:
            self.writer.execute("BEGIN IMMEDIATE")
        batch.size += 1
        self.writer.execute("SAVEPOINT act")
        self._inside = True
        try:
            yield
        except BaseException as error:
            self.resets += 1
            if self.writer.in_transaction:
                self.writer.execute("ROLLBACK TO act")
            else:  # SQLite has taken back all that was written, as where a disk is full
                batch.undone = error
            raise
        finally:
            self._inside = False
        self.writer.execute("RELEASE act")

    def _end(self, batch: _Batch) -> None:
        """Sync what was written, unless another thread comes that can do so."""
        if self._waiting and batch.size < _TOGETHER and batch.undone is None:
            return
        self._batch = _Batch()
        try:
            if self.writer.in_transaction:
                self.writer.execute("COMMIT")
            self.check()
            batch.error = batch.undone
        except (sqlite3.Error, AnswersError) as error:
            batch.error = error
        finally:
            self.resets += batch.error is not None
            with suppress(sqlite3.Error):
                if self.writer.in_transaction:
                    self.writer.execute("ROLLBACK")
            batch.ended.set()

    def check(self) -> None:
        """Raise `AnswersError` unless what was opened is still what is at the path: else answers go nowhere."""
        if any(was not in (None, now) for was, now in zip(self._files, self._identities(), strict=False)):
            raise AnswersError(
                f"{self.path} was deleted, moved or replaced since it was opened; nothing was recorded: put it back, "
                "or start again"
            ) from OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self.path))

    def _identities(self) -> list[tuple[int, int] | None]:
        """Which files are there: the database, and beside it what is not in it yet."""
        return [identity(self.path), identity(self.path.with_name(f"{self.path.name}-wal"))]

    def _prepare(self) -> None:
        with explain(self.path):
            self.writer.execute("PRAGMA synchronous = FULL")
            if self._about() == (0, 0, 0):
                self._create()
            of_schema = self._is_of_schema()  # before the head is read: another process may upgrade both just now
            application, schema, _ = self._about()
            if of_schema and (application, schema) != (APPLICATION, SCHEMA):
                raise _damaged(self.path, "its head")
            faults = [text for (text,) in self.writer.execute("PRAGMA quick_check(1)") if text != "ok"]
        if application != APPLICATION:
            raise AnswersError(
                f"expected the answers of a run in {self.path}, got a database of another program; move it away, "
                "or choose another folder"
            )
        if faults:
            raise _damaged(self.path, " ".join(faults[0].split()))
        if schema in UPGRADES:
            self._upgrade()
        elif schema != SCHEMA:
            raise AnswersError(
                f"{self.path} has schema {schema}, and this holotype knows {SCHEMA}; use the version that wrote it"
            )
        with suppress(sqlite3.OperationalError):  # two at once cannot switch, and one is enough: the file keeps it
            self.writer.execute("PRAGMA journal_mode = WAL")
        self._first = self._identify()

    def _is_of_schema(self) -> bool:
        """Whether the tables are those of this schema, whatever the head of the file says."""
        there = self.writer.execute("SELECT 1 FROM sqlite_master WHERE name = 'log'").fetchone()
        return bool(there) and self.writer.execute("SELECT schema FROM log").fetchone() == (SCHEMA,)

    def _identify(self) -> bytes:
        """Return what the chains begin with. Raises `AnswersError` where the tables are not what they were."""
        with explain(self.path):
            found = self.writer.execute(_NAME).fetchall()
            tables = self._describe()
            unindexed = any(self.writer.execute(query).fetchone() for query in UNINDEXED)
        if [kept for _, kept in found] != [tables]:
            raise _damaged(self.path, "its tables are not as they were made")
        if (alone := self._alone()) and alone != found:
            raise _damaged(self.path, f"{self.path.name}-wal is of another log")
        if unindexed:
            raise _damaged(self.path, "an index of its records")
        return bytes(found[0][0])

    def _alone(self) -> list[tuple[bytes, str]]:
        """What the database says without what is beside it, which may be of another one; nothing where it cannot be."""
        with suppress(sqlite3.Error, UnicodeDecodeError):
            place = f"file:{quote(str(self._place.absolute()))}?immutable=1"
            with closing(sqlite3.connect(place, uri=True)) as alone:
                return alone.execute(_NAME).fetchall()
        return []

    def _describe(self) -> str:
        """A digest of what the tables are."""
        return hashlib.sha256(str(self.writer.execute(TABLES).fetchone()[0]).encode()).hexdigest()

    def _look_beside(self) -> None:
        """Raise `AnswersError` where what is not in the database yet is damaged, and warn where that may be."""
        found = wal.doubt(self.path) if self.path.exists() else None
        if found is not None and found.sure:
            raise _damaged(self.path, f"{self.path.name}-wal: {found.what}")
        if found is not None:
            warnings.warn(
                f"{self.path}-wal: {found.what}, in the last act: it was cut off before it was confirmed, or it is "
                "damaged and gone; look at the last answers",
                HolotypeWarning,
                stacklevel=3,
            )

    def _about(self) -> tuple[int, ...]:
        """The application and schema that the file says it has, and its number of tables and the like."""
        queries = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        return tuple(int(self.writer.execute(query).fetchone()[0]) for query in queries)

    def _create(self) -> None:
        with self._changing():
            if self._about() == (0, 0, 0):  # another process may have been quicker
                self._do(CREATION)
                self._raise_from(1)

    def _upgrade(self) -> None:
        with explain(self.path), self._changing():
            self._raise_from(self._about()[1])

    def _raise_from(self, schema: int) -> None:
        """Make a file of `schema` one of this."""
        for number in range(schema, SCHEMA):
            self._do(UPGRADES[number])
        if schema < SCHEMA:
            name = secrets.token_hex(16)
            self.writer.execute("INSERT INTO log VALUES (?, ?, '')", (name, SCHEMA))
            chain.seal(self.writer, name.encode())
            self._do(FINISH)
            self.writer.execute("UPDATE log SET tables = ?", (self._describe(),))

    def _do(self, statements: Iterable[str]) -> None:
        for statement in statements:
            self.writer.execute(statement)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self.writer:
            self.writer.execute("BEGIN IMMEDIATE")
            yield


def _copies_of(path: Path) -> "TemporaryDirectory[str]":
    """Copies of the files of a database that can only be read: SQLite wants to write to read. Raises `AnswersError`."""
    copies = TemporaryDirectory(prefix="holotype-")
    try:
        for name, content in read_together(path, LOCK_PATIENCE).items():
            (Path(copies.name) / name).write_bytes(content)
    except OSError as error:  # a timeout is one
        copies.cleanup()
        busy = f"cannot use {path}: {_REASONS[sqlite3.SQLITE_BUSY]}"
        raise AnswersError(busy if isinstance(error, TimeoutError) else files.reason(error)) from error
    return copies


def salvaged(path: Path) -> Path:
    """Return where the log that takes the place of a damaged one is, from when it is whole until it is at `path`."""
    return path.with_name(f"{path.name}-salvaged")


def _damaged(path: Path, what: str) -> DamagedAnswers:
    return DamagedAnswers(
        f"{path} is damaged ({what}); {command('answer', path.parent, '--salvage')} keeps the answers that are whole, "
        "and the damaged file beside them"
    )


@contextmanager
def explain(path: Path) -> Iterator[None]:
    """Turn an error of SQLite about `path` into an `AnswersError` that says what to do."""
    try:
        yield
    except UnicodeDecodeError as error:  # of SQLite's own words about what is damaged
        raise _damaged(path, f"no text at byte {error.start}") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what it adds to the kind of fault
        if code == sqlite3.SQLITE_CORRUPT:
            raise _damaged(path, str(error)) from error
        raise AnswersError(f"cannot use {path}: {_REASONS.get(code, f'{error}; nothing was recorded')}") from error
