"""Networks that are made once and kept in the cache, each beside the digest that it was written with."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from holotype.checksums import file_digest, read_checksums, write_checksums
from holotype.errors import EncoderError, OutputError
from holotype.files import say_damaged
from holotype.stale import mark_used


def kept(path: Path, make: Callable[[Path], None]) -> Path:
    """Return `path`, which `make` writes where it is not there, or not as it was written.

    Raises `EncoderError` where a file is not as it was written and cannot be made again, and `OutputError` where it
    cannot be written; what else `make` raises passes where there was none.
    """
    try:
        found = _kept(path, make)
    except OutputError as error:
        raise OutputError(f"{error}; for another place, set HOLOTYPE_CACHE to a folder") from error
    mark_used(path)
    mark_used(_beside(path))  # without it an altered file would pass
    return found


def _kept(path: Path, make: Callable[[Path], None]) -> Path:
    if not path.is_file():
        make(path)
    elif _written(path) == (found := file_digest(path)):
        return path
    elif _written(path) is not None:
        say_damaged(path)
        _mend(path, make)
    else:  # of a version that kept no digests
        with suppress(OutputError):
            _note(path, found)
        return path
    _note(path, file_digest(path))
    return path


def _mend(path: Path, make: Callable[[Path], None]) -> None:
    try:
        make(path)
    except (EncoderError, ImportError) as error:
        why = f"that needs {error.name or error}" if isinstance(error, ImportError) else error
        raise EncoderError(
            f"{path} is not the file that was written there (it was damaged or altered), and it cannot be made again: "
            f"{why}"
        ) from error


def _beside(path: Path) -> Path:
    """Where the digest is, in the form that `sha256sum --check` reads."""
    return path.with_name(f"{path.name}.sha256")


def _written(path: Path) -> str | None:
    return read_checksums(_beside(path)).get(path.name)


def _note(path: Path, digest: str) -> None:
    write_checksums(_beside(path), {path.name: digest})
