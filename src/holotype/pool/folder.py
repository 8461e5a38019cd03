"""Images that are files of a folder, or objects of a store whose keys begin alike."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from holotype.errors import UnreadableImage, UnreadableNow
from holotype.filestate import FileState
from holotype.pool.blocks import ReadAhead
from holotype.pool.digests import States, states_of
from holotype.pool.images import read_open
from holotype.pool.members import split_name, why_junk
from holotype.pool.sources import walk
from holotype.settings import SETTINGS, UNFINISHED
from holotype.stores.store import StoredObject, bucket_of
from holotype.stores.urls import Url, whole


@dataclass
class FolderListing:
    """What is in a folder: tars right in it, images anywhere below, and what is neither, counted by what it is.

    paths, stored   the images, as files or as objects
    """

    tars: list[Path | StoredObject] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    stored: list[StoredObject] = field(default_factory=list)
    states: list[FileState] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)
    suffixes: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    @property
    def sizes(self) -> list[int]:
        """Bytes of each image."""
        return [one.size for one in self.states]


def list_folder(folder: Path | Url) -> FolderListing:
    """List a folder, or what lies below a URL. Raises `PoolError` where it cannot be listed."""
    listing = FolderListing()
    entries = _objects_below(folder) if isinstance(folder, Url) else _files_below(folder)
    for place, name, found in entries:
        split = split_name(name)
        if not isinstance(found, str) and "/" not in name and name.lower().endswith(".tar"):
            listing.tars.append(place)
        elif isinstance(found, str) or isinstance(split, str):
            listing.ignored[found if isinstance(found, str) else str(split)] += 1
        else:
            (listing.paths if isinstance(place, Path) else listing.stored).append(place)  # type: ignore[arg-type]
            listing.states.append(found)
            listing.stems.append(split[0])
            listing.suffixes.append(split[1])
    return listing


def _files_below(folder: Path) -> Iterator[tuple[Path, str, FileState | str]]:
    """Each file with its path from there, and its state, or why it is ignored."""
    for path, name in walk(folder):
        found = _stat_or_why(path, name)
        yield path, name, found if isinstance(found, str) else FileState.of(found)


def _objects_below(folder: Url) -> Iterator[tuple[StoredObject, str, FileState | str]]:
    """Do the same in a store, where a folder is but the start of keys; one that holds a run is not entered."""
    found = bucket_of(folder).below(folder)
    start = len(folder.key.rstrip("/")) + 1 if folder.key.rstrip("/") else 0
    names = [one.url.key[start:] for one in found]
    runs = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in (SETTINGS, UNFINISHED)} - {""}
    for one, name in zip(found, names, strict=True):
        above = name.split("/")[:-1]
        folders = {"/".join(above[: count + 1]) for count in range(len(above))}
        why = why_junk(name)
        if not why and any(part.startswith(".") for part in name.split("/")):
            why = "(hidden)"
        elif not why and folders & runs:
            why = "(a run of holotype)"
        yield one, name, why or one.state


class PlainFiles:
    """Images that are files."""

    def __init__(self, paths: Sequence[Path], states: States) -> None:
        self._paths = paths
        self._states = states

    def some(self, rows: NDArray[np.int64]) -> "PlainFiles":
        return PlainFiles([self._paths[row] for row in rows.tolist()], self._states[rows])

    def path(self, row: int, name: str) -> str:  # noqa: ARG002 - a file knows its own
        """Return its whole path."""
        return whole(self._paths[row])

    def states(self, rows: slice = slice(None)) -> States:
        return self._states[rows]

    def read(self, row: int) -> bytes:
        try:
            with open(self._paths[row], "rb", opener=_open_at_once) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise UnreadableNow("it is no file any more")
                return read_open(file)
        except PermissionError as error:
            if self._is_as_listed(row):  # it was so before, and stays so
                raise UnreadableImage(f"cannot be read: {error.strerror}") from None
            raise

    def read_piece(self, row: int, start: int, size: int) -> bytes:
        with self._paths[row].open("rb") as file:
            return os.pread(file.fileno(), size, start)

    def _is_as_listed(self, row: int) -> bool:
        with suppress(OSError):
            return FileState.of(self._paths[row].stat()) == tuple(self._states[row, :-1])
        return False


def _open_at_once(path: str, flags: int) -> int:
    """Open a file, and wait for nobody where a pipe has come into its place."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _stat_or_why(path: Path, name: str) -> os.stat_result | str:
    """What the system says of a file, or why it is ignored, whatever its suffix."""
    if why := why_junk(name):
        return why
    if path.name.startswith("."):
        return "(hidden)"
    try:
        found = path.stat()
    except OSError:
        return "(link that leads nowhere)" if path.is_symlink() else "(gone while it was listed)"
    if stat.S_ISDIR(found.st_mode):
        return "(link to a folder)" if path.is_symlink() else "(a run of holotype)"
    return found if stat.S_ISREG(found.st_mode) else "(special file)"


class StoredFiles:
    """Images that are objects of a store."""

    def __init__(self, stored: Sequence[StoredObject]) -> None:
        self._stored = stored
        self._blocks = ReadAhead(stored)

    def path(self, row: int, name: str) -> str:  # noqa: ARG002 - an object knows its own
        """Return its URL."""
        return str(self._stored[row].url)

    def states(self, rows: slice = slice(None)) -> States:
        """Return the states of the objects."""
        return states_of([one.state for one in self._stored[rows]])

    def some(self, rows: NDArray[np.int64]) -> "StoredFiles":
        """Return what reads some of them."""
        return StoredFiles([self._stored[row] for row in rows.tolist()])

    def read(self, row: int) -> bytes:
        """Return the bytes of one."""
        return self._blocks.read(row, 0, self._stored[row].size)

    def read_piece(self, row: int, start: int, size: int) -> bytes:
        """Return some of them."""
        return self._blocks.read(row, start, size)
