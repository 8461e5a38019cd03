"""The bytes of the images of tars, read by offset, on a disk or in a store.

What was listed of a long tar, or of one in a store, is kept until the tar changes.
"""

import errno
import hashlib
import json
import os
import sys
import threading
import time
from array import array
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from holotype import files, forks
from holotype.errors import OutputError, PoolError, UnreadableNow
from holotype.filestate import FileState, KnownFile
from holotype.pool.blocks import ReadAhead
from holotype.pool.digests import OF_PLACES, States, states_of
from holotype.pool.images import SUFFIXES
from holotype.pool.listing import Listing, list_tar
from holotype.pool.ranges import LocalFile, RangeFile, RemoteFile
from holotype.progress import Progress, Silent
from holotype.stale import mark_used, remove_stale
from holotype.stores.store import StoredObject
from holotype.stores.urls import place_in, whole

_OPEN_TARS = 32  # well below the 256 files that some systems let a process open
_KEPT = 2000  # members from which on a listing is kept: fewer are listed as quickly again
_SETTLED = 2_000_000_000  # ns; a file system may tell the time of a change to two seconds
_LISTED_AT_ONCE = 8  # tars of a store
_FORMAT = 4  # of a kept listing; raise it when other images are listed, or under other names


class Tars:
    """Images by offset, of many tars; of those of a disk few are open."""

    def __init__(self, places: Sequence[Path | StoredObject]) -> None:
        """Open each tar once, so that one that cannot be read is named at once. Raises `PoolError`."""
        self._places, self._inside = places, [place_in(place, "") for place in places]
        self._numbers, stored = dict[int, int](), list[StoredObject]()
        for shard, place in enumerate(places):
            if isinstance(place, StoredObject):
                self._numbers[shard] = len(stored)
                stored.append(place)
        self._blocks = ReadAhead(stored)
        self.begin_in_child()
        self._states: list[FileState] = []
        self._known: list[KnownFile] = []
        self._starts: list[int] = []
        self._offsets = array("q")
        self.sizes = array("q")
        for shard, place in enumerate(places):
            try:
                self._keep(shard, self._opened(shard))
            except OSError as error:
                raise PoolError(f"expected a tar at {place}, which cannot be read: {error.strerror}") from None
            self._states.append(self._open[shard].found)
            self._known.append(KnownFile(self._states[shard], ""))

    def begin_in_child(self) -> None:
        """Open the tars anew when they are next read: the thread that held the lock is not there."""
        self._open = OrderedDict[int, RangeFile]()  # the one used last is at the end
        self._lock, self._looking = threading.Lock(), threading.Lock()
        forks.note(self)

    def __getstate__(self) -> dict[str, object]:
        """What another process gets: where the images lie, and no open file."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_open", "_lock", "_looking")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.begin_in_child()

    def listings(self, progress: Progress | None = None) -> Iterator[Listing]:
        """List each tar, in order; its images take the rows after those of the tars before. Raises `PoolError`.

        Those of a store are listed many at a time, as most of it is waiting.
        """
        shards = range(len(self._places))
        if len(self._numbers) <= 1:
            yield from (self._enter(shard, self._listed(shard)) for shard in shards)
            return
        threads = ThreadPoolExecutor(_LISTED_AT_ONCE, thread_name_prefix="tars")
        try:
            with (progress or Silent()).track("list tars", len(shards)) as advance:
                for shard, listing in enumerate(threads.map(self._listed, shards)):
                    yield self._enter(shard, listing)
                    advance(1)
        finally:
            threads.shutdown(cancel_futures=True)

    def _listed(self, shard: int) -> Listing:
        tar = self._tar(shard)
        try:
            return _listing(tar, costly=shard in self._numbers)
        except UnreadableNow as error:
            raise PoolError(f"{tar} {error}; give the same command again when that has passed") from None

    def _enter(self, shard: int, listing: Listing) -> Listing:
        self._known[shard].content = listing.content
        self._starts.append(len(self.sizes))
        self._offsets.extend(listing.offsets)
        self.sizes.extend(listing.sizes)
        return listing

    def path(self, row: int, name: str) -> str:
        return self._inside[bisect_right(self._starts, row) - 1] + name

    def states(self, rows: slice = slice(None)) -> States:
        places = np.arange(*rows.indices(len(self.sizes)))
        states = states_of(self._states)[np.searchsorted(self._starts, places, side="right") - 1]
        states[:, -1] = np.asarray(self._offsets)[places]
        return states

    def some(self, rows: NDArray[np.int64]) -> "Tars":
        """Return what reads some of the images; the tars are those that were opened."""
        found = copy(self)
        found._starts = np.searchsorted(rows, self._starts).tolist()
        found._offsets, found.sizes = (
            array("q", np.asarray(one, np.int64)[rows].tobytes()) for one in (self._offsets, self.sizes)
        )
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return where the images lie, and what their tars were then; `placed` takes it back."""
        contents = json.dumps([known.content for known in self._known]).encode()
        found = {"starts": self._starts, "offsets": self._offsets, "sizes": self.sizes, "tars": self._states}
        arrays = {name: np.array(one, np.int64) for name, one in found.items()}
        return arrays | {"contents": np.frombuffer(contents, np.uint8)}

    def placed(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Take what `arrays` gave of the same tars, which are not listed then; return whether they are as they were."""
        if not np.array_equal(arrays["tars"], np.array(self._states, np.int64)):
            return False
        for known, content in zip(self._known, json.loads(arrays["contents"].tobytes()), strict=True):
            known.content = content
        self._starts = arrays["starts"].tolist()
        self._offsets, self.sizes = (array("q", arrays[name].tobytes()) for name in ("offsets", "sizes"))
        return True

    def read(self, row: int) -> bytes:
        return self.read_piece(row, 0, self.sizes[row])

    def read_piece(self, row: int, start: int, size: int) -> bytes:
        shard = bisect_right(self._starts, row) - 1
        wanted = min(size, self.sizes[row] - start)
        tar = self._tar(shard)  # held by name until it is read: another thread may push it out of those kept open
        data = tar.read(self._offsets[row] + start, wanted)
        self._refuse_changed(shard, tar)  # then these may be bytes of another image
        if len(data) < wanted:
            raise OSError(errno.EIO, "only a part of it came")
        return data

    def _tar(self, shard: int) -> RangeFile:
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
            else:
                self._keep(shard, self._open_again(shard))
            return self._open[shard]

    def _keep(self, shard: int, tar: RangeFile) -> None:
        self._open[shard] = tar
        if len(self._open) > _OPEN_TARS:
            self._open.popitem(last=False)

    def _open_again(self, shard: int) -> RangeFile:
        """Another file may have taken the place of the tar since its members were listed."""
        try:
            tar = self._opened(shard)
        except OSError as error:
            raise PoolError(
                f"{self._places[shard]} cannot be read any more: {error.strerror}; give the same command again"
            ) from None
        self._refuse_changed(shard, tar)
        return tar

    def _opened(self, shard: int) -> RangeFile:
        place = self._places[shard]
        return LocalFile(place) if isinstance(place, Path) else RemoteFile(place, self._blocks, self._numbers[shard])

    def _refuse_changed(self, shard: int, tar: RangeFile) -> None:
        now = tar.now()
        if now == self._known[shard].state:
            return
        with self._looking:
            same = self._known[shard].is_same(now, lambda: list_tar(tar).content)
        if not same:
            raise PoolError(f"{tar} was changed while it was in use; give the same command again")


def _listing(tar: RangeFile, *, costly: bool) -> Listing:
    """What was kept of the tar as it is now, or what is listed afresh; what is `costly` is kept however short it is."""
    listing = _load(tar)
    if listing is None:
        settled = costly or tar.found.mtime < time.time_ns() - _SETTLED  # else a later change may leave the same time
        listing = list_tar(tar)
        whole = listing.cut is None and not listing.note
        if settled and whole and (costly or len(listing.stems) + listing.ignored.total() >= _KEPT):
            _save(listing, tar)
    return listing


def _place(tar: RangeFile) -> Path:
    return files.cache_folder() / "listings" / f"{hashlib.sha256(os.fsencode(whole(str(tar)))).hexdigest()}.npz"


def _basis(tar: RangeFile) -> list[object]:
    """What a listing rests on: the state of the tar, also where its time was set back, and how its names are read."""
    return [_FORMAT, *tar.found, sys.version, *sorted(SUFFIXES)]


def _load(tar: RangeFile) -> Listing | None:
    """The kept listing; None where there is none, it is damaged, or it was made of something else."""
    try:
        with _place(tar).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            head = json.loads(kept["head"].tobytes())
            if head["basis"] != _basis(tar):
                return None
            stems, suffixes = (_unpacked(kept[name].tobytes()) for name in ("stems", "suffixes"))
            offsets, sizes = (array("q", kept[name].astype(np.int64).tobytes()) for name in ("offsets", "sizes"))
            ignored, content = Counter[str](head["ignored"]), str(head["content"])
    except (OSError, OutputError):  # there is none, or no place for one
        return None
    except Exception:  # numpy, zipfile and json have many words for a damaged file
        files.say_damaged(_place(tar))
        return None
    mark_used(_place(tar))
    listing = Listing(stems, [sys.intern(suffix) for suffix in suffixes], offsets, sizes, ignored, content)
    return listing if len(stems) == len(suffixes) == len(offsets) == len(sizes) else None


def _packed(names: list[str]) -> bytes:
    return "".join(f"{name}\0" for name in names).encode()


def _unpacked(names: bytes) -> list[str]:
    return names.decode().split("\0")[:-1]


def _save(listing: Listing, tar: RangeFile) -> None:
    """Keep `listing`, where something can be kept: without it the tar is listed again the next time."""
    head = json.dumps({"basis": _basis(tar), "ignored": listing.ignored, "content": listing.content}).encode()
    texts = head, _packed(listing.stems), _packed(listing.suffixes)

    def fill(file: BinaryIO) -> None:
        about, stems, suffixes = (np.frombuffer(text, np.uint8) for text in texts)
        offsets, sizes = listing.offsets, listing.sizes
        np.savez(file, head=about, stems=stems, suffixes=suffixes, offsets=offsets, sizes=sizes)

    with suppress(OutputError, OSError):
        files.write(_place(tar), fill)
        remove_stale(_place(tar).parent, OF_PLACES)
