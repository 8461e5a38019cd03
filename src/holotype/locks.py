"""Who may write into a folder, and when it may be read: locks that the system lets go when a process ends."""

import errno
import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile

from holotype.errors import HolotypeWarning, OutputError
from holotype.files import explain, make_folder

_PATIENCE = 30  # seconds that opening a run, or replacing its results, waits for the other
_TRIES = 20  # to take a lock in a folder that is removed and made again meanwhile
_SILENT = 2  # seconds of it without a word
_HELD = (errno.EAGAIN, errno.EACCES)
# a file system without locks (a network drive, often) says one of these
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)

_open_here = set[int]()  # descriptors that are locks of this process, or will be


@dataclass(frozen=True)
class Lock:
    """A lock that is held; `safe` unless the file system has no locks, so that nobody is kept out."""

    path: Path
    descriptor: int
    safe: bool

    def check(self) -> None:
        """Raise `OutputError` when the folder of the lock was removed or moved, and may be somebody else's now.

        So it does where that cannot be seen.
        """
        with explain(self.path):
            there = _is_at(self.descriptor, self.path)
        if not there:
            raise OutputError(
                f"{self.path.parent} was removed or moved while this command wrote into it; give the command again"
            )


@contextmanager
def locked(path: Path, doing: str = "", *, shared: bool = False) -> Iterator[Lock]:
    """Hold the file `path` as a lock until the process ends, however it ends, at the latest.

    doing    what it is held for: in the file, for others to read
    shared   with all who hold it shared too: they keep out only who wants it alone

    On a file system without locks it warns (`HolotypeWarning`) and goes on. Raises `OutputError` when another process
    or thread holds it, or it cannot be written.
    """
    make_folder(path.parent, closed=True)  # what is written there shows images, or what they are called
    with explain(path):
        descriptor, safe = _take(path, "LOCK_SH" if shared else "LOCK_EX")
    try:
        if not shared:  # the file has room for one
            _note(descriptor, doing or "holotype")
        yield Lock(path, descriptor, safe)
    finally:
        with suppress(OSError):
            if descriptor in _open_here:
                if not shared:
                    os.ftruncate(descriptor, 0)
                _flock(descriptor, "LOCK_UN")  # a program that was started meanwhile may have the file open, too
        _close(descriptor)


def _open(path: Path, flags: int) -> int:
    """Open what will be a lock of this process, and not of those that it forks: they may live longer."""
    descriptor = os.open(path, flags, 0o666)
    _open_here.add(descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    if descriptor in _open_here:
        _open_here.remove(descriptor)
        os.close(descriptor)


def _close_in_child() -> None:
    while _open_here:
        os.close(_open_here.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _take(path: Path, how: str) -> tuple[int, bool]:
    """The open lock file, and whether it is locked. A link is not followed: what is there would be written over."""
    for _ in range(_TRIES):
        descriptor = _open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        try:
            safe = _lock(descriptor, path, how)
            if _is_at(descriptor, path):
                return descriptor, safe
        except BaseException:
            _close(descriptor)
            raise
        _close(descriptor)  # the folder was removed between the two, and made again by somebody
    raise OutputError(
        f"cannot lock {path}: each time it is looked at it is another file, as on a network drive whose files have no "
        "numbers that last, or in a folder that is made anew all the time; choose another place"
    )


def _lock(descriptor: int, path: Path, how: str) -> bool:
    try:
        _flock(descriptor, how)
    except OSError as error:
        if error.errno in _HELD:
            raise OutputError(
                f"another process writes into {path.parent}; wait until it is done, or choose another folder"
                f"{_held_by(path)}"
            ) from None
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"the file system of {path.parent} has no locks ({error.strerror}): nothing keeps a second command from "
            f"writing there at the same time, so start none until this one is done{_held_by(path)}",
            HolotypeWarning,
            stacklevel=4,
        )
        return False
    return True


def _flock(descriptor: int, how: str) -> None:
    """Lock, or unlock, an open file without waiting. Raises `OSError`, also where the system has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    fcntl.flock(descriptor, getattr(fcntl, how) | fcntl.LOCK_NB)


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _note(descriptor: int, doing: str) -> None:
    since = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):  # a full disk: it is held all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{doing}, process {os.getpid()} on {platform.node()}, since {since}".encode(), 0)


def _held_by(path: Path) -> str:
    """Who holds a lock, in brackets; nothing where that cannot be read."""
    with suppress(OSError, UnicodeDecodeError):
        if text := path.read_text(encoding="utf-8"):
            return f" (it is {text})"
    return ""


def has_locks(folder: Path) -> bool:
    """Whether the file system of `folder`, which can be written, has the locks that databases take."""
    try:
        with TemporaryFile(dir=folder) as file:  # not the database: to close that would end the locks of this process
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep what is in `folder` as it is: who wants to change it waits. For as long as it takes to open files.

    Raises `OutputError` where another process has been changing it for half a minute: nobody knows what is whole.
    """
    with _in_turn(folder, "LOCK_SH", "replaces"):
        yield


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Wait until nobody is reading `folder`, and let nobody begin. For as long as it takes to rename files.

    After half a minute it warns (`HolotypeWarning`) and goes on: who was stopped while it read must not cost a run.
    """
    with _in_turn(folder, "LOCK_EX", "reads"):
        yield


@contextmanager
def _in_turn(folder: Path, how: str, other: str) -> Iterator[None]:
    """The folder itself is the lock, so that it works where nothing can be written; where it cannot be one, go on.

    other   what who holds it does
    """
    try:
        descriptor = _open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # what is wrong with it will be said by who opens what is in it
        yield
        return
    try:
        with suppress(OSError):
            if not _waited_for(descriptor, how, f"another process {other} the results in {folder}"):
                _give_up(how, f"another process {other} the results in {folder}, for {_PATIENCE:g} seconds by now")
        yield
    finally:
        _close(descriptor)


def _waited_for(descriptor: int, how: str, why: str) -> bool:
    """Lock an open folder as soon as others let it go; whether that was within `_PATIENCE`. A long wait is said."""
    started, said = time.monotonic(), False
    while (waited := time.monotonic() - started) < _PATIENCE:
        try:
            _flock(descriptor, how)
        except OSError as error:
            if error.errno not in _HELD:
                raise
            if waited > _SILENT and not said:
                warnings.warn(f"{why}: waiting for it", HolotypeWarning, stacklevel=5)
                said = True
            time.sleep(0.01)
        else:
            return True
    return False


def _give_up(how: str, why: str) -> None:
    if how == "LOCK_SH":
        raise OutputError(f"{why}; end it, or wait until it is done, and give the command again")
    warnings.warn(
        f"{why}: they are replaced all the same, so what it reads may be of both", HolotypeWarning, stacklevel=5
    )
