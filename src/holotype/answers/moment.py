"""The files of a database, read as they are; of one that can only be read, all at one moment."""

import time
from pathlib import Path

from holotype.filestate import regular

_PAUSE = 0.05  # seconds between two looks at files that are being written


def read_together(path: Path, patience: float) -> dict[str, bytes]:
    """Return the files of the database at `path` by name, of one moment: a writer elsewhere may be between the two.

    Raises `OSError` where one cannot be read, and `TimeoutError` where they are not still for `patience` seconds.
    """
    until = time.monotonic() + patience
    found = _contents(path)
    while (again := _contents(path)) != found:
        if time.monotonic() > until:
            raise TimeoutError
        found = again
        time.sleep(_PAUSE)
    return found


def _contents(path: Path) -> dict[str, bytes]:
    return {f"{path.name}{end}": read_beside(path, end) for end in ("", "-wal")}


def read_beside(database: Path, end: str) -> bytes:
    """Return what SQLite keeps beside a database ("-wal", "-shm"), and with no `end` the database itself.

    Nothing where there is no such file: SQLite takes an empty one for none.
    """
    try:
        return regular(database.with_name(f"{database.name}{end}")).read_bytes()
    except FileNotFoundError:
        return b""
