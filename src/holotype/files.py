"""Files that are either whole or not there; what keeps one from being written is said in plain words."""

import errno
import os
import secrets
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO, TextIO

from holotype.errors import HolotypeWarning, OutputError

_ELSEWHERE = "choose another place"
NO_THREADS = "the system starts no more threads or processes: end other programs, or raise the limit (ulimit -u)"
_SHOWN = 40  # characters of a name in that of what is written beside it, which may be no longer than a name may be
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF)  # a file system that does not sync folders
_NO_MODES = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP)  # one that has no permissions, or keeps them to itself
_REASONS = {
    errno.EACCES: ("permission denied", f"{_ELSEWHERE}, or let this user write there"),
    errno.EPERM: ("permission denied", f"{_ELSEWHERE}, or let this user write there"),
    errno.EROFS: ("the disk can only be read", _ELSEWHERE),
    errno.ENOTDIR: ("a file is where a folder should be", f"{_ELSEWHERE}, or remove that file"),
    errno.EEXIST: ("a file is where a folder should be", f"{_ELSEWHERE}, or remove that file"),
    errno.EISDIR: ("it is a folder", "give the path of a file"),
    errno.ENAMETOOLONG: ("the name is too long", "give a shorter one"),
    errno.ELOOP: ("the links lead in a circle", "remove the link"),
    errno.ENOENT: ("it, or its folder, is not there any more", "give the same command again"),
    errno.EPIPE: ("nobody reads it any more", "start the reader again, or write to a file"),
    errno.EFBIG: ("it is larger than a file may be there", f"{_ELSEWHERE}, or raise the limit (ulimit -f)"),
}


def cache_folder() -> Path:
    """What can be computed again is kept here: $HOLOTYPE_CACHE, $XDG_CACHE_HOME/holotype, or ~/.cache/holotype.

    Raises `OutputError` where none is known.
    """
    shared = os.environ.get("XDG_CACHE_HOME", "")
    usual = f"{shared}/holotype" if Path(shared).is_absolute() else "~/.cache/holotype"  # as its specification has it
    with suppress(RuntimeError):  # "~" may be nobody's home
        return Path(os.environ.get("HOLOTYPE_CACHE") or usual).expanduser()
    raise OutputError("expected a home folder to keep a cache in, found none; set HOLOTYPE_CACHE to a folder")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced, and takes the place of `path` for good.

    A link is followed to its target. What is no file (/dev/null, a pipe) is yielded itself, to be written straight
    into. Raises `OutputError` when it cannot be written; nothing half-written is left either way.
    """
    with explain(path):
        straight = _is_special(path)
        target = path if straight else _follow(path)
    if straight:
        with explain(path):
            yield path
        return
    temporary = target.with_name(f".{target.name[:_SHOWN]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        make_folder(target.parent)
        with explain(target, temporary):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        sync(target.parent)
    finally:
        with suppress(OSError):  # where nothing can be written, the error that says so goes on
            temporary.unlink()


def sync(folder: Path) -> None:
    """Have the disk know what `folder` holds now: after a loss of power it would hold what it did before.

    Where a file system cannot do that, it does so when it likes. Raises `OutputError` where the disk fails.
    """
    with explain(folder), suppress(PermissionError):  # a folder that may be written may be closed to readers
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        finally:
            os.close(descriptor)


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(mode)


def _follow(path: Path) -> Path:
    return path.resolve() if path.is_symlink() else path


def write(path: Path, content: bytes | str | Callable[[BinaryIO], None]) -> None:
    """Write `content` (bytes, text, or a function that fills an open file) to `path`, whole or not at all.

    Raises `OutputError`.
    """
    with explain(path):
        ready = content.encode() if isinstance(content, str) else content
    with atomic(path) as temporary, temporary.open("wb") as file:
        if callable(ready):
            ready(file)
        else:
            file.write(ready)


def write_first(path: Path, content: str) -> None:
    """Write `content` to `path`, whole or not at all, unless something is there: of several processes the first does.

    On a file system without hard links the last of those that write at the same moment does. Raises `OutputError`.
    """
    beside = path.with_name(f".{path.name[:_SHOWN]}.{secrets.token_hex(8)}.part")
    try:
        write(beside, content)
        with explain(path, beside):
            try:
                os.link(beside, path)
            except FileExistsError:
                return
            except OSError as error:
                if error.errno not in _NO_MODES:
                    raise
                beside.replace(path)
        sync(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink()


def text_file(path: Path) -> TextIO:
    """Open `path` to write lines of text, in UTF-8 wherever it is; what that cannot hold is escaped."""
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return what is in `folder` by a name like `pattern`; nothing where there is no such folder.

    Raises `OSError` where it cannot be listed, which `Path.glob` takes for an empty one.
    """
    try:
        return [path for path in folder.iterdir() if fnmatch(path.name, pattern)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_writable(folder: Path) -> bool:
    """Whether this user may write into `folder`, and its disk can be written."""
    return os.access(folder, os.W_OK | os.X_OK)


def say_damaged(path: Path) -> None:
    """Warn that a file of the cache is damaged, and not used."""
    warnings.warn(f"{path} is damaged; what it held is made again", HolotypeWarning, stacklevel=3)


def make_folder(folder: Path, *, closed: bool = False) -> None:
    """Make `folder` and those above it, where they are not there yet, and sync them. Raises `OutputError`.

    closed   to other users, as the cache always is: what comes into it shows what may be theirs only to see who made it
    """
    with explain(folder, *folder.parents):
        new = [one for one in (folder, *folder.parents) if not one.exists()]
        if (cache := _cache_of(folder)) is not None:
            _make_closed(cache)
        if closed:
            _make_closed(folder)
        folder.mkdir(parents=True, exist_ok=True)
    for one in reversed(new):
        sync(one.parent)


def _cache_of(folder: Path) -> Path | None:
    with suppress(OutputError):
        cache = cache_folder()
        return cache if folder.is_relative_to(cache) else None
    return None


def _make_closed(folder: Path) -> None:
    """Make a folder that only its owner sees into; its group as well where the umask lets the group write."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o770)
    except FileExistsError:  # it stays as it was made
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & stat.S_IWGRP:
        set_mode(folder, mode & ~0o077)


def set_mode(path: Path, mode: int) -> None:
    """Say who may read and write `path`, where its file system knows such a thing: FAT and some shares do not."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise


@contextmanager
def explain(path: Path, *more: Path) -> Iterator[None]:
    """Turn what keeps `path` from being written into an `OutputError`: which path, what happened, what to do.

    Errors that name a file other than `path` and `more`, and not in them, or that no system call raised, pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or not _is_about(error, (path, *more)):
            raise
        raise OutputError(_no_space(path) if _is_full(error) else _reason(path, error)) from error
    except UnicodeEncodeError as error:
        around = ascii(error.object[max(0, error.start - 20) : error.end + 20])
        raise OutputError(
            f"cannot write {path}: {around} holds characters that {error.encoding} has not; rename it (a file, a "
            "class, a column) to plain text"
        ) from error


def _is_about(error: OSError, paths: Sequence[Path]) -> bool:
    return error.filename is None or _is_in(Path(str(error.filename)), paths)


def _is_in(name: Path, paths: Sequence[Path]) -> bool:
    return any(name.absolute().is_relative_to(path.absolute()) for path in paths)


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def reason(error: OSError) -> str:
    """Say which file could not be used and why, where nobody nearer to it did."""
    what, _ = _REASONS.get(error.errno or 0, (error.strerror or str(error), ""))
    if error.errno == errno.ENOENT:
        what = "there is no such file or folder"
    place = str(error.filename2 or error.filename or "a file")  # of a copy, where to
    if _is_full(error):
        return _no_space(Path(place))
    if error.errno == errno.EAGAIN:
        return NO_THREADS
    return f"cannot use {place}: {what}; check the path, and that this user may use what is there"


def _reason(path: Path, error: OSError) -> str:
    unknown = (error.strerror or str(error), f"check the disk, or {_ELSEWHERE}")
    what, remedy = _REASONS.get(error.errno or 0, unknown)
    blocking = _file_above(path) if error.errno in (errno.ENOTDIR, errno.EEXIST) else None
    return f"cannot write {path}: {what}{f' ({blocking})' if blocking else ''}; {remedy}"


def _file_above(path: Path) -> Path | None:
    """The first part of `path` that is there and no folder."""
    return next((part for part in (*reversed(path.parents), path) if part.exists() and not part.is_dir()), None)


def _no_space(path: Path) -> str:
    return (
        f"no space left on the disk of {path.parent} ({_free_megabytes(path.parent)} MB free) while writing "
        f"{path.name}; what was finished is kept: free some space and give the same command again"
    )


def _free_megabytes(folder: Path) -> int:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free // 10**6
