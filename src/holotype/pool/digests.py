"""The digest of each image of a pool: computed by reading, and kept in the cache while its file is the same."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.errors import OutputError
from holotype.filestate import FileState
from holotype.progress import Progress, Silent
from holotype.stale import mark_used, remove_stale
from holotype.stores.urls import whole

STATE = (*FileState._fields, "offset")  # what the bytes of an image rest on
OF_PLACES = r"[0-9a-f]{64}\.npz"  # names of files of the cache that are about a place
_FORMAT = 1  # of what is kept; raise it when a digest, or a state, means something else
_BLOCK = 1_000_000  # rows whose states are looked at together
_TOGETHER = 32  # images that a thread reads before it takes the next
_THREADS = 8
_FINE, _COARSE = 50_000_000, 2_000_000_000  # ns; what a file system may tell of two changes as one moment

States = NDArray[np.int64]


def states_of(found: Sequence[FileState], offset: int = 0) -> States:
    """Return (n, 5) the states of the bytes at `offset` of files: where one is the same, they are. See `STATE`."""
    return np.array([(*one, offset) for one in found], np.int64).reshape(-1, len(STATE))


class Digests:
    """The digests of the images of a pool.

    place    where the pool is: what is known of it is kept under that name
    states   (n, 5) int64, see `STATE`; None where nothing is known of the files, and so nothing can be kept
    compute  reads an image and gives its digest; nothing where it cannot be read
    """

    def __init__(self, place: str, states: States | None, count: int, compute: Callable[[int], str]) -> None:
        self._place = place
        self._states = states
        self._compute = compute
        self._found = np.zeros((count, 32), np.uint8)
        self._known = np.zeros(count, bool)
        self._new = False
        if states is not None:
            _settle(states)
            self._load(states)

    def of(self, row: int) -> str:
        """Return the digest of one image; nothing where it cannot be read."""
        if not self._known[row]:
            self.note({row: self._compute(row)})
        return self._found[row].tobytes().hex() if self._known[row] else ""

    def all_of(self, rows: Sequence[int], progress: Progress | None = None) -> list[str]:
        """Return the digests of `rows`; what had to be read is kept, also where reading is interrupted."""
        wanted = np.unique(np.asarray(rows, np.int64))
        missing = wanted[~self._known[wanted]].tolist()
        if missing:
            try:
                with (progress or Silent()).track("read images", len(missing)) as advance:
                    for found in self._read(missing):
                        self.note(found)
                        advance(len(found))
            finally:
                self.keep()
        text, known = self._found.tobytes().hex(), self._known
        return [text[row * 64 : row * 64 + 64] if known[row] else "" for row in rows]

    def _read(self, rows: Sequence[int]) -> Iterator[dict[int, str]]:
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="digests")
        some = [rows[start : start + _TOGETHER] for start in range(0, len(rows), _TOGETHER)]
        try:
            yield from threads.map(lambda together: {row: self._compute(row) for row in together}, some)
        finally:
            threads.shutdown(cancel_futures=True)

    def note(self, found: Mapping[int, str]) -> None:
        """Take row -> digest from who has read the images anyway."""
        for row, digest in found.items():
            if digest and not self._known[row]:
                self._found[row] = np.frombuffer(bytes.fromhex(digest), np.uint8)
                self._known[row] = self._new = True

    def keep(self) -> None:
        """Keep what is known, where something can be kept: without it the images are read again the next time."""
        if self._states is None or not self._new:
            return
        table: dict[str, Any] = {"format": _FORMAT, "states": self._states, "digests": self._found}
        with suppress(OutputError, OSError):
            files.write(self._path(), lambda file: np.savez(file, **table))
            remove_stale(self._path().parent, OF_PLACES)
        self._new = False

    def _path(self) -> Path:
        return files.cache_folder() / "digests" / f"{hashlib.sha256(os.fsencode(self._place)).hexdigest()}.npz"

    def _load(self, states: States) -> None:
        """Take what was kept of the images whose files are the same, wherever in the pool they are now."""
        try:
            with self._path().open("rb") as file, np.load(file, allow_pickle=False) as kept:
                if int(kept["format"]) != _FORMAT:
                    return
                before, digests = np.asarray(kept["states"], np.int64), np.asarray(kept["digests"], np.uint8)
            self._take(states, before, digests)
            mark_used(self._path())
        except (OSError, OutputError):  # there is none, or none that can be read
            return
        except Exception:  # numpy and zipfile have many words for a damaged file
            self._known[:] = False
            files.say_damaged(self._path())

    def _take(self, states: States, before: States, digests: NDArray[np.uint8]) -> None:
        if np.array_equal(states, before):
            self._found[:] = digests
        else:
            places = {state.tobytes(): place for place, state in enumerate(before)}
            pairs = [(row, places[key]) for row, state in enumerate(states) if (key := state.tobytes()) in places]
            if pairs:
                rows, taken = map(list, zip(*pairs, strict=True))
                self._found[rows] = digests[taken]
        self._known[:] = self._found.any(axis=1)


class KnownDigests(Protocol):
    """The digests of the images of a pool, by row."""

    def of(self, row: int) -> str: ...

    def all_of(self, rows: Sequence[int], progress: Progress | None = None) -> list[str]: ...

    def note(self, found: Mapping[int, str]) -> None: ...

    def keep(self) -> None: ...


class PassingDigests:
    """The digests of a pool of very many images: those that were asked for, as long as it is open."""

    def __init__(self, compute: Callable[[int], str]) -> None:
        self._compute = compute
        self._found: dict[int, str] = {}

    def of(self, row: int) -> str:
        if row not in self._found:
            self._found[row] = self._compute(row)
        return self._found[row]

    def all_of(self, rows: Sequence[int], progress: Progress | None = None) -> list[str]:
        with (progress or Silent()).track("read images", len(rows)) as advance:
            found = []
            for row in rows:
                found.append(self.of(row))
                advance(1)
        return found

    def note(self, found: Mapping[int, str]) -> None:
        self._found |= {row: digest for row, digest in found.items() if digest}

    def keep(self) -> None:
        pass


class JoinedDigests:
    """The digests of pools one after the other, which have `counts` images."""

    def __init__(self, parts: Sequence[KnownDigests], counts: Sequence[int]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *counts])

    def of(self, row: int) -> str:
        part, place = self._place(row)
        return self._parts[part].of(place)

    def all_of(self, rows: Sequence[int], progress: Progress | None = None) -> list[str]:
        wanted = np.asarray(rows, np.int64)
        owner = np.searchsorted(self._starts, wanted, side="right") - 1
        found = [""] * len(wanted)
        for part in np.unique(owner).tolist():
            places = np.flatnonzero(owner == part)
            own = (wanted[places] - self._starts[part]).tolist()
            for place, digest in zip(places.tolist(), self._parts[part].all_of(own, progress), strict=True):
                found[place] = digest
        return found

    def note(self, found: Mapping[int, str]) -> None:
        for row, digest in found.items():
            part, place = self._place(row)
            self._parts[part].note({place: digest})

    def keep(self) -> None:
        for part in self._parts:
            part.keep()

    def _place(self, row: int) -> tuple[int, int]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return part, row - int(self._starts[part])


def first_rows(digests: Sequence[str]) -> dict[str, int]:
    """Return the first row of each content."""
    found = {digest: row for row, digest in reversed([*enumerate(digests)])}
    found.pop("", None)  # those that could not be read
    return found


def stamp_of(ids: Sequence[str], states: Callable[[slice], States]) -> str:
    """Return a short text that changes with any file that a pool is read from; it costs no reading.

    states   gives those of some rows, see `states_of`
    """
    digest = hashlib.sha256(f"{_FORMAT}\0".encode())
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(ids), _BLOCK)]
    for block in blocks:
        digest.update(b"\0" * bool(block.start) + "\0".join(ids[block]).encode())
    for block in blocks:
        some = states(block)
        _settle(some)
        digest.update(np.ascontiguousarray(some).tobytes())
    return digest.hexdigest()


def _settle(states: States) -> None:
    """Wait until a further change would leave another time: else one that follows at once is not told from the last."""
    if not len(states):
        return
    newest = int(states[:, STATE.index("ctime")].max())  # unlike the time of a change of content, nobody sets it back
    moment = _FINE if newest % 1_000_000_000 else _COARSE
    wait = min(newest + moment - time.time_ns(), moment)
    if wait > 0:
        time.sleep(wait / 1e9)


def place_of(source: str) -> str:
    """Return what a pool is kept under."""
    return whole(source)
