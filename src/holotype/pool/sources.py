"""What a path, or a pattern of paths, means: which files it stands for, and whether these hold images or are one."""

import glob
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from holotype.errors import PoolError, UnreadableNow
from holotype.names import printable
from holotype.pool.drawn import is_run
from holotype.pool.images import SUFFIXES
from holotype.pool.listing import looks_like_tar
from holotype.pool.members import why_junk
from holotype.stores.store import StoredObject, bucket_of
from holotype.stores.urls import Url, is_url, local, parse

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_AT_ONCE = 16  # places of a store that are looked at
_MOST = 100_000  # paths that one pattern stands for
_PACKED = frozenset([".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".tzst", ".lz4", ".zip", ".7z", ".rar"])


def expand(source: str) -> list[Path] | list[StoredObject | Url]:
    """Return the paths that `source` stands for: itself, `{000..150}` and `{a,b}` as shells have them, or `*.tar`.

    In a store, what is no object and has others below it is a folder: its URL. Raises `PoolError` where one of them is
    missing, or none is there.
    """
    source = local(source)
    if is_url(source):
        return _expand_url(parse(source))
    if not source.strip():
        raise PoolError("expected the path of a tar or a folder, got an empty one; write . for the current folder")
    if exists(Path(source)):
        return [Path(source)]
    paths = [path for one in _braces(source) for path in _matches(one)]
    missing = [path for path in paths if not exists(path)]
    if missing:
        raise PoolError(
            f"expected a tar, a folder or shards at {printable(source)}; {printable(str(missing[0]))} does not exist"
        )
    return paths


def _expand_url(source: Url) -> list[StoredObject | Url]:
    bucket = bucket_of(source)
    with _now(source):
        if (alone := bucket.find(source)) is not None:
            return [alone]
        urls = [source._replace(key=key) for key in _braces(source.key)]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="look") as threads:
            look = _matching if glob.has_magic(source.key) else _alone
            found = list(threads.map(look, urls))
    missing = next((url for url, one in zip(urls, found, strict=True) if not one), None)
    if missing is not None:
        raise PoolError(
            f"expected a tar, a folder or shards at {printable(str(source))}; nothing is at {printable(str(missing))}"
        )
    kept = [one for some in found for one in some if not (isinstance(one, StoredObject) and why_junk(one.name))]
    if len(kept) > 1 and (folder := next((one for one in kept if isinstance(one, Url)), None)):
        raise PoolError(f"expected tars at {printable(str(source))}, and {printable(str(folder))} is a folder")
    return kept


def _matching(url: Url) -> list[StoredObject | Url]:
    return [*bucket_of(url).matches(url)]


def _alone(url: Url) -> list[StoredObject | Url]:
    found = bucket_of(url).find(url)
    return [] if found is None else [found]


@contextmanager
def _now(source: Url) -> Iterator[None]:
    """Nothing can be said of a store that is away."""
    try:
        yield
    except UnreadableNow as error:
        raise UnreadableNow(f"{printable(str(source))} {error}; give the same command again") from None


def as_folder(place: Path | StoredObject | Url) -> Path | Url | None:
    """Return `place` where it is a folder; else None."""
    if isinstance(place, Path):
        return place if place.is_dir() else None
    return place if isinstance(place, Url) else None


def is_there(source: str) -> bool:
    """Whether something is at a path or URL, or at each of those that a pattern stands for.

    Raises `UnreadableNow` where a store cannot be asked.
    """
    try:
        return bool(expand(source))
    except PoolError:
        return False


def _braces(source: str) -> list[str]:
    found = min(
        (match for pattern in (_RANGE, _CHOICE) if (match := pattern.search(source))),
        key=re.Match.start,
        default=None,
    )
    if found is None:
        return [source]
    middles = _numbers(found[1], found[2]) if found.re is _RANGE else found[1].split(",")
    before, rests = source[: found.start()], _braces(source[found.end() :])
    if len(middles) * len(rests) > _MOST:
        raise PoolError(f"{printable(source)} stands for more than {_MOST:,} paths; give less at once")
    return [f"{before}{middle}{rest}" for middle in middles for rest in rests]


def _numbers(first: str, last: str) -> list[str]:
    """From `first` to `last`, as wide as the wider one where either starts with zeros."""
    start, end = int(first), int(last)
    if abs(end - start) >= _MOST:
        raise PoolError(f"{{{first}..{last}}} stands for more than {_MOST:,} paths; give less at once")
    padded = any(one.startswith("0") and len(one) > 1 for one in (first, last))
    width, step = max(len(first), len(last)) if padded else 0, 1 if end >= start else -1
    return [f"{number:0{width}}" for number in range(start, end + step, step)]


def _matches(pattern: str) -> list[Path]:
    if not glob.has_magic(pattern) or exists(Path(pattern)):
        return [Path(pattern)]
    names = sorted(glob.glob(pattern))  # noqa: PTH207 - pathlib's needs a folder to start from
    found = [Path(name) for name in names if not why_junk(Path(name).name)]
    if not found:
        raise PoolError(f"expected a tar, a folder or shards at {printable(pattern)}; nothing there matches it")
    return found


def exists(path: Path) -> bool:
    """Whether something is at `path`. Raises `PoolError` where that cannot be told."""
    try:
        return path.exists()
    except ValueError:  # a null in it
        return False
    except OSError as error:
        raise PoolError(f"cannot look at {printable(str(path))}: {error.strerror or error}") from None


def walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of a folder, and the folders that are not entered (hidden, links, runs), in a fixed order.

    Each with its path from there. Raises `PoolError` for a folder that cannot be listed.
    """

    def refuse(error: OSError) -> NoReturn:
        raise PoolError(f"expected a folder that can be listed at {printable(error.filename)}: {error.strerror}")

    def pass_over(error: OSError) -> None:
        if not why_junk(Path(error.filename).relative_to(folder).as_posix()):
            refuse(error)

    for root, folders, names in os.walk(folder, onerror=pass_over):
        paths = {name: Path(root, name) for name in folders}
        closed = {name for name, path in paths.items() if name.startswith(".") or path.is_symlink() or is_run(path)}
        folders[:] = sorted(name for name in folders if name not in closed)
        for name in sorted([*names, *closed]):
            path = Path(root, name)
            yield path, path.relative_to(folder).as_posix()


def holds_images(source: str) -> bool:
    """Whether `source` means a pool, and not one picture: a file is judged by what is in it, unless it is packed."""
    if not source.strip():
        return True
    source = local(source)
    path = Path(source)
    if is_url(source) or not exists(path):
        return path.suffix.lower() not in SUFFIXES or glob.has_magic(source)
    if not path.is_file():
        return path.is_dir()
    return looks_like_tar(path) or path.suffix.lower() in _PACKED
