"""The files of a database that can only be read, as they are at one moment."""

import time
from contextlib import suppress
from pathlib import Path

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
    found: dict[str, bytes] = {}
    for name in (path.name, f"{path.name}-wal"):
        with suppress(FileNotFoundError):
            found[name] = path.with_name(name).read_bytes()
    return found
