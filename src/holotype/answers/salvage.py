"""What is whole of a damaged log of answers goes into a new one; the damaged one stays beside it."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from holotype import files, locks
from holotype.answers import chain, wal
from holotype.answers.database import AnswerDatabase, salvaged
from holotype.answers.moment import read_beside
from holotype.answers.opened import OPENED
from holotype.errors import AnswersError, DamagedAnswers

# how every log begins: the name of the format, pages of 4,096 bytes, a -wal, and what SQLite never changes
_HEAD = b"SQLite format 3\0\x10\0\x02\x02\0\x40\x20\x20"
_TEXT = ("act", "answer", "when", "who", "digest")
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)  # the latter of SQLite's own words about what is damaged
_NEW = ".salvage-"  # how the folder begins in which a new log is made
_TOLD = 10  # numbers that are named

Tables = dict[str, dict[int, chain.Values]]  # table -> number -> what a record says


@dataclass(frozen=True)
class _Row:
    values: tuple[Any, ...]
    fields: bytes
    digest: bytes


def salvage(path: Path) -> str:
    """Put the answers at `path` that are whole into a new log there; return in words what was done.

    Also what was undone and what is audited stays so. Raises `AnswersError` where there is no log, no answer of it can
    be read, or something else than damage keeps it from being used.
    """
    with locks.changing(path.parent):  # one at a time
        return _look(path)


def _look(path: Path) -> str:
    for left in path.parent.glob(f"{_NEW}*"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    if salvaged(path).exists():
        with files.explain(path):
            _put_in_place(path)
        return f"the salvage of {path} that was cut off is finished; what was damaged is beside it"
    if not path.exists():
        raise AnswersError(f"expected answers in {path}, and there is no such file")
    try:
        AnswerDatabase(path).close()
    except DamagedAnswers:
        with OPENED.turn:
            if OPENED.has(path):
                raise AnswersError(f"{path} is damaged, and open in this process; close it before") from None
            return _salvage(path)
    return f"all answers in {path} are whole; nothing was done"


def _salvage(path: Path) -> str:
    with files.explain(path), TemporaryDirectory(dir=path.parent, prefix=_NEW) as folder:
        ways = (wal.mended(path), read_beside(path, "-wal"), b"")  # one of them has the most
        found = max((_read(path, content, Path(folder) / str(n)) for n, content in enumerate(ways)), key=_size)
        if not _size(found):
            raise AnswersError(f"no answer in {path} can be read; take the file from a copy, or move it away")
        new = Path(folder) / path.name
        kept = _write(new, found)
        damaged = _copy_aside(path)
        new.replace(salvaged(path))
        _put_in_place(path)
    lost = sorted({*range(1, max(found["record"], default=0) + 1)} - {*kept})
    some = ", ".join(map(str, lost[:_TOLD])) + (", ..." if len(lost) > _TOLD else "")
    gone = f"; lost: {len(lost):,} (number {some})" if lost else ""
    return f"answers and undos that are whole, and kept: {len(kept):,}{gone}; what was damaged is in {damaged}"


def _size(tables: Tables) -> int:
    return sum(map(len, tables.values()))


def _read(path: Path, beside: bytes, copy: Path) -> Tables:
    """Read a copy of what is at `path`, with `beside` as what is not in it yet."""
    copy.write_bytes(_HEAD + path.read_bytes()[len(_HEAD) :])
    copy.with_name(f"{copy.name}-wal").write_bytes(beside)
    with suppress(*_UNREADABLE):
        _mend_tables(copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.text_factory = bytes
        return {table: dict(_whole(connection, table)) for table in chain.COLUMNS}


def _mend_tables(copy: Path) -> None:
    """Let the tables of a log be as this version makes them: what they are is damaged as easily as what they hold."""
    right = copy.with_name(f"{copy.name}-new")
    AnswerDatabase(right).close()
    with closing(sqlite3.connect(right)) as made, closing(sqlite3.connect(copy, isolation_level=None)) as damaged:
        damaged.execute("PRAGMA writable_schema = ON")  # what is malformed is passed over, and can be changed
        if not damaged.execute("SELECT 1 FROM sqlite_master WHERE name = 'log'").fetchone():
            return
        for one in made.execute("SELECT type, tbl_name, sql, name FROM sqlite_master"):
            damaged.execute("UPDATE sqlite_master SET type = ?, tbl_name = ?, sql = ? WHERE name = ?", one)


def _whole(connection: sqlite3.Connection, table: str) -> Iterator[tuple[int, chain.Values]]:
    rows = _rows(connection, table)
    before = {number: row.digest for number, row in rows.items()}
    with suppress(*_UNREADABLE, IndexError):
        before[0] = connection.execute("SELECT id FROM log").fetchall()[0][0]
    for number, row in sorted(rows.items()):
        known = before.get(number - 1)  # where that is lost, nothing says that this is not whole
        if known is None or not row.digest or chain.link(known, row.fields) == row.digest:
            with suppress(UnicodeDecodeError, ValueError, TypeError):
                yield number, _values(table, row)


def _values(table: str, row: _Row) -> chain.Values:
    """What a record says, as it is written. Raises `ValueError` and others where it can be none."""
    values = tuple(one.decode() if isinstance(one, bytes) else one for one in row.values)
    named = dict(zip(chain.COLUMNS[table], values, strict=True))
    if table == "record" and datetime.fromisoformat(named["when"]).utcoffset() is None:
        raise ValueError("no zone")
    if not all(isinstance(named.get(name, ""), str) for name in _TEXT):
        raise TypeError("no text")
    return values


def _rows(connection: sqlite3.Connection, table: str) -> dict[int, _Row]:
    """Read from both ends: of a page in the middle that is damaged, what is on either side is found."""
    found = {}
    for order in ("ASC", "DESC"):
        with suppress(*_UNREADABLE):
            there = {row[1].decode() for row in connection.execute(f"PRAGMA table_info({table})")}
            names = [f'"{name}"' if name in there else "''" for name in chain.COLUMNS[table]]
            chained = f"CAST({chain.FIELDS[table]} AS BLOB), chain" if "chain" in there else "x'', x''"
            number = "number" if "number" in there else "row_number() OVER ()"  # of the second schema's audits
            query = f"SELECT {number} AS place, {chained}, {', '.join(names)} FROM {table} ORDER BY place {order}"  # noqa: S608
            for place, fields, digest, *values in connection.execute(query):
                found[place] = _Row(tuple(values), fields, digest)
    return found


def _write(new: Path, found: Tables) -> list[int]:
    """Write a log; return the numbers that the records in it had before."""
    kept, audited = [], chain.COLUMNS["record"].index("audit")
    pairs = {one[1:3] for one in found["record"].values() if one[audited]} - {
        tuple(one) for one in found["drawn"].values()
    }
    found["drawn"] |= {-number: pair for number, pair in enumerate(pairs, start=1)}  # a record knows its audit as well
    with closing(AnswerDatabase(new)) as database, database.writing():
        for table, records in found.items():
            for number, values in records.items():
                with suppress(sqlite3.IntegrityError):  # what was damaged before there was a chain
                    database.append(table, values)
                    kept += [number] if table == "record" else []
    return kept


def _copy_aside(path: Path) -> Path:
    """Copy the damaged files, and have the disk keep the copies."""
    names = (path.with_name(f"{path.stem}-damaged-{number}{path.suffix}") for number in count(1))
    copy = next(name for name in names if not name.exists())
    for end in ("", "-wal", "-shm"):
        beside = path.with_name(f"{path.name}{end}")
        if beside.exists():
            files.write(copy.with_name(f"{copy.name}{end}"), beside.read_bytes())
            files.set_mode(copy.with_name(f"{copy.name}{end}"), beside.stat().st_mode & 0o777)
    return copy


def _put_in_place(path: Path) -> None:
    """Let the salvaged log be that at `path`. Until all of this is done no log is opened there, wherever it is cut off.

    What is beside the damaged one is none of the new one's.
    """
    files.sync(path.parent)
    for end in ("-wal", "-shm"):
        path.with_name(f"{path.name}{end}").unlink(missing_ok=True)
    files.sync(path.parent)
    salvaged(path).replace(path)
    files.sync(path.parent)
