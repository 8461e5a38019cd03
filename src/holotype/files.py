"""Files that are either whole or not there."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from holotype.errors import OutputError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and takes the place of `path`.

    Raises `OutputError` when the disk is full; nothing half-written is left either way.
    """
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with explain_full_disk(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: bytes | str | Callable[[BinaryIO], None]) -> None:
    """Write `content` (bytes, text, or a function that fills an open file) to `path`, whole or not at all."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` as a lock; the kernel releases it when the process ends, however it ends.

    Raises `OutputError` when another process holds it.
    """
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"another process writes into {path.parent}; wait until it is done, or choose another folder"
            ) from None
        yield


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left" into an `OutputError` that says where, and that nothing was lost."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(
            f"no space left on the disk of {path.parent} ({_free_megabytes(path.parent)} MB free) while writing "
            f"{path.name}. What was finished is kept: free some space and give the same command again "
            "(a run: with --resume)."
        ) from error


def _free_megabytes(folder: Path) -> int:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free // 10**6
