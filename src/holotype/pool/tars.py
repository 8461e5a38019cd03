"""The bytes of the images of a tar, read by offset; what was listed of a long one is kept until the tar changes."""

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
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from holotype import files, forks
from holotype.errors import OutputError, PoolError
from holotype.filestate import FileState, KnownFile
from holotype.pool.digests import OF_PLACES, States, states_of
from holotype.pool.images import SUFFIXES
from holotype.pool.listing import Listing, list_tar
from holotype.stale import mark_used, remove_stale

_OPEN_TARS = 32  # well below the 256 files that some systems let a process open
_KEPT = 2000  # members from which on a listing is kept: fewer are listed as quickly again
_SETTLED = 2_000_000_000  # ns; a file system may tell the time of a change to two seconds
_FORMAT = 3  # of a kept listing; raise it when other images are listed, or under other names


class _Tar:
    """An open tar, closed when the last thread that reads it lets it go."""

    file = -1

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.file = os.dup(file.fileno())  # a bare number, as Python warns of a file object that is let go
        self.found = self.now()

    def __del__(self) -> None:
        if self.file >= 0:
            os.close(self.file)

    def now(self) -> FileState:
        return FileState.of(os.fstat(self.file))


class Tars:
    """Images by offset, of many tars of which few are open; `os.pread` needs no lock and moves no file position."""

    def __init__(self, paths: list[Path]) -> None:
        """Open each tar once, so that one that cannot be read is named at once. Raises `PoolError`."""
        self._paths = paths
        self.begin_in_child()
        self._states: list[FileState] = []
        self._known: list[KnownFile] = []
        self._starts: list[int] = []
        self._offsets = array("q")
        self.sizes = array("q")
        for shard, path in enumerate(paths):
            try:
                self._keep(shard, _Tar(path))
            except OSError as error:
                raise PoolError(f"expected a tar at {path}, which cannot be read: {error.strerror}") from None
            self._states.append(self._open[shard].found)
            self._known.append(KnownFile(self._states[shard], ""))

    def begin_in_child(self) -> None:
        """Open the tars anew when they are next read: the thread that held the lock is not there."""
        self._open = OrderedDict[int, _Tar]()  # the one used last is at the end
        self._lock, self._looking = threading.Lock(), threading.Lock()
        forks.note(self)

    def __getstate__(self) -> dict[str, object]:
        """What another process gets: where the images lie, and no open file."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_open", "_lock", "_looking")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.begin_in_child()

    def enter(self, shard: int) -> Listing:
        """List a tar; its images take the rows after those of the tars entered before. Raises `PoolError`."""
        listing = _listing(self._paths[shard], self._tar(shard))
        self._known[shard].content = listing.content
        self._starts.append(len(self.sizes))
        self._offsets.extend(listing.offsets)
        self.sizes.extend(listing.sizes)
        return listing

    def path(self, row: int, name: str) -> Path:
        return self._paths[bisect_right(self._starts, row) - 1] / name

    def states(self) -> States:
        counts = np.diff([*self._starts, len(self.sizes)])
        states = states_of(self._states).repeat(counts, axis=0)
        states[:, -1] = self._offsets
        return states

    def read(self, row: int) -> bytes:
        return self.read_piece(row, 0, self.sizes[row])

    def read_piece(self, row: int, start: int, size: int) -> bytes:
        shard = bisect_right(self._starts, row) - 1
        wanted = min(size, self.sizes[row] - start)
        tar = self._tar(shard)  # held by name until it is read: another thread may push it out of those kept open
        data = os.pread(tar.file, wanted, self._offsets[row] + start)
        self._refuse_changed(shard, tar)  # then these may be bytes of another image
        if len(data) < wanted:
            raise OSError(errno.EIO, "only a part of it came")
        return data

    def _tar(self, shard: int) -> _Tar:
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
            else:
                self._keep(shard, self._open_again(shard))
            return self._open[shard]

    def _keep(self, shard: int, tar: _Tar) -> None:
        self._open[shard] = tar
        if len(self._open) > _OPEN_TARS:
            self._open.popitem(last=False)

    def _open_again(self, shard: int) -> _Tar:
        """Another file may have taken the place of the tar since its members were listed."""
        path = self._paths[shard]
        try:
            tar = _Tar(path)
        except OSError as error:
            raise PoolError(f"{path} cannot be read any more: {error.strerror}; give the same command again") from None
        self._refuse_changed(shard, tar)
        return tar

    def _refuse_changed(self, shard: int, tar: _Tar) -> None:
        path, now = self._paths[shard], tar.now()
        if now == self._known[shard].state:
            return
        with self._looking:
            same = self._known[shard].is_same(now, lambda: list_tar(path, tar.file).content)
        if not same:
            raise PoolError(f"{path} was changed while it was in use; give the same command again")


def _listing(path: Path, tar: _Tar) -> Listing:
    """What was kept of the tar as it is now, or what is listed afresh."""
    listing = _load(path, tar)
    if listing is None:
        settled = tar.found.mtime < time.time_ns() - _SETTLED  # else a later change may leave the same time
        listing = list_tar(path, tar.file)
        whole = listing.cut is None and not listing.note
        if settled and whole and len(listing.stems) + listing.ignored.total() >= _KEPT:
            _save(listing, path, tar)
    return listing


def _place(path: Path) -> Path:
    return files.cache_folder() / "listings" / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()}.npz"


def _basis(tar: _Tar) -> list[object]:
    """What a listing rests on: the state of the tar, also where its time was set back, and how its names are read."""
    return [_FORMAT, *tar.found, sys.version, *sorted(SUFFIXES)]


def _load(path: Path, tar: _Tar) -> Listing | None:
    """The kept listing; None where there is none, it is damaged, or it was made of something else."""
    try:
        with _place(path).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            head = json.loads(kept["head"].tobytes())
            if head["basis"] != _basis(tar):
                return None
            stems, suffixes = (_unpacked(kept[name].tobytes()) for name in ("stems", "suffixes"))
            offsets, sizes = (array("q", kept[name].astype(np.int64).tobytes()) for name in ("offsets", "sizes"))
            ignored, content = Counter[str](head["ignored"]), str(head["content"])
    except (OSError, OutputError):  # there is none, or no place for one
        return None
    except Exception:  # numpy, zipfile and json have many words for a damaged file
        files.say_damaged(_place(path))
        return None
    mark_used(_place(path))
    listing = Listing(stems, [sys.intern(suffix) for suffix in suffixes], offsets, sizes, ignored, content)
    return listing if len(stems) == len(suffixes) == len(offsets) == len(sizes) else None


def _packed(names: list[str]) -> bytes:
    return "".join(f"{name}\0" for name in names).encode()


def _unpacked(names: bytes) -> list[str]:
    return names.decode().split("\0")[:-1]


def _save(listing: Listing, path: Path, tar: _Tar) -> None:
    """Keep `listing`, where something can be kept: without it the tar is listed again the next time."""
    head = json.dumps({"basis": _basis(tar), "ignored": listing.ignored, "content": listing.content}).encode()
    texts = head, _packed(listing.stems), _packed(listing.suffixes)

    def fill(file: BinaryIO) -> None:
        about, stems, suffixes = (np.frombuffer(text, np.uint8) for text in texts)
        offsets, sizes = listing.offsets, listing.sizes
        np.savez(file, head=about, stems=stems, suffixes=suffixes, offsets=offsets, sizes=sizes)

    with suppress(OutputError, OSError):
        files.write(_place(path), fill)
        remove_stale(_place(path).parent, OF_PLACES)
