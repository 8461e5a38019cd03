"""The chain of what is recorded: each record holds the SHA-256 of the one before it and of what it says itself."""

import hashlib
import sqlite3
from collections.abc import Sequence

Values = Sequence[str | int | None]

COLUMNS = {
    "record": ("act", "id", "class", "answer", "when", "who", "audit", "digest"),
    "drawn": ("id", "class"),
}
# no text in UTF-8 has these bytes: one parts the fields, the other stands for a field that is empty
_INTEGER, _TEXT = "'integer'", "'text', 'null'"
_PART, _NOTHING = b"\xff", b"\xfe"
_IN_WORDS = {"record": "record", "drawn": "audit"}
_SEPARATOR, _EMPTY = (f"CAST(x'{one.hex()}' AS TEXT)" for one in (_PART, _NOTHING))
_NAMES = {table: [f'"{name}"' for name in columns] for table, columns in COLUMNS.items()}
# in SQL, by table: the bytes of all that a record says
FIELDS = {
    table: f" || {_SEPARATOR} || ".join(["number", *(f"coalesce({name}, {_EMPTY})" for name in names)])
    for table, names in _NAMES.items()
}
# whether the fields are of their types: as text, and as bytes that are none, they look the same to the chain
_TYPED = {
    table: " AND ".join(f'typeof("{name}") IN ({_INTEGER if name == "audit" else _TEXT})' for name in columns)
    for table, columns in COLUMNS.items()
}
_LAST = {table: f"SELECT number, chain FROM {table} ORDER BY number DESC LIMIT 1" for table in COLUMNS}  # noqa: S608
_BEHIND = {
    table: f"SELECT number, CAST({fields} AS BLOB), chain, {_TYPED[table]} FROM {table} "  # noqa: S608
    "WHERE number > ? ORDER BY number"
    for table, fields in FIELDS.items()
}
_INSERT = {
    table: f"INSERT INTO {table} (number, {', '.join(names)}, chain) VALUES (?, {'?, ' * len(names)}?)"  # noqa: S608
    for table, names in _NAMES.items()
}


def link(before: bytes, fields: bytes) -> bytes:
    """Return what the record of `fields` holds of the chain, behind one that holds `before`."""
    return hashlib.sha256(before + fields).digest()


def seal(connection: sqlite3.Connection, first: bytes) -> None:
    """Give what is there its place in the chains."""
    for table in COLUMNS:
        before = first
        for number, fields, *_ in connection.execute(_BEHIND[table], (0,)).fetchall():
            before = link(before, bytes(fields))
            connection.execute(f"UPDATE {table} SET chain = ? WHERE number = ?", (before, number))  # noqa: S608


def append(connection: sqlite3.Connection, table: str, values: Values, first: bytes) -> None:
    """Add a record to `table`; `first` is what the chain begins with."""
    last = connection.execute(_LAST[table]).fetchone()
    number, before = last or (0, first)
    fields = _PART.join(_NOTHING if one is None else str(one).encode() for one in (number + 1, *values))
    connection.execute(_INSERT[table], (number + 1, *values, link(bytes(before), fields)))


class Chain:
    """The records of `table` that were found to be whole: the `number` of the last, and what it holds of the chain."""

    def __init__(self, table: str, first: bytes) -> None:
        self.table = table
        self.number = 0
        self.digest = first

    def follow(self, connection: sqlite3.Connection) -> str:
        """Go on to the last record that is whole; say what is wrong with the next, and nothing where there is none."""
        for number, fields, digest, typed in connection.execute(_BEHIND[self.table], (self.number,)):
            if not typed or link(self.digest, bytes(fields)) != digest:
                return f"{_IN_WORDS[self.table]} {number} is not as it was written, or what was before it is missing"
            self.number, self.digest = number, digest
        return ""
