"""The images of a tar: what they are called and where their bytes lie. It is read by offset and never unpacked.

A tar says only in passing what is in it, so it is walked through once; what is found in a long one is kept in the
cache until the tar changes.
"""

import hashlib
import json
import os
import re
import sys
import tarfile
import threading
import time
from array import array
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from holotype import files
from holotype.errors import OutputError, PoolError, UnreadableImage
from holotype.pool.digests import States, state_of
from holotype.pool.images import SUFFIXES

_OPEN_TARS = 32  # well below the 256 files that some systems let a process open
_KEPT = 2000  # members from which on a listing is kept: fewer are listed as quickly again
_SETTLED = 2_000_000_000  # ns; a file system may tell the time of a change to two seconds
_FORMAT = 1  # of a kept listing; raise it when other images are listed, or under other ids

# Name, mode, uid, gid, size, mtime, checksum, type, link, magic, user, group, device, and where a prefix would start.
_PLAIN = re.compile(
    rb"(.{100})(?:[0-7]{6}[0-7 ][\0 ]){3}([0-7]{11})[\0 ][0-7]{11}[\0 ]([0-7]{6})[\0 ]{2}0.{172}"
    rb"(?:[0-7]{6}[0-7 ][\0 ]|\0{8}){2}\0.{166}",
    re.DOTALL,
)


@dataclass
class Listing:
    """The images of one tar in its order, and what else is in it.

    ids        see `image_id`
    offsets    where the bytes of each image start in the tar
    sizes      bytes of each encoded image
    ignored    members that are no images, counted by suffix, or by what they are: "(symbolic link)"
    cut        why nothing is listed from there on, of a tar that is cut off or damaged
    """

    ids: list[str] = field(default_factory=list)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    ignored: Counter[str] = field(default_factory=Counter)
    cut: str | None = None


class _Tar:
    """An open tar, closed when the last thread that reads it lets it go."""

    file = -1

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.found = os.fstat(file.fileno())
            self.file = os.dup(file.fileno())  # a bare number, as Python warns of a file object that is let go

    def __del__(self) -> None:
        if self.file >= 0:
            os.close(self.file)

    def now(self) -> os.stat_result:
        return os.fstat(self.file)


class Tars:
    """Images by offset, of many tars of which few are open; `os.pread` needs no lock and moves no file position."""

    def __init__(self, paths: list[Path]) -> None:
        """Open each tar once, so that one that cannot be read is named at once. Raises `PoolError`."""
        self._paths = paths
        self._open = OrderedDict[int, _Tar]()  # the one used last is at the end
        self._lock = threading.Lock()
        self._stats: list[os.stat_result] = []
        self._starts: list[int] = []
        self._offsets = array("q")
        self.sizes = array("q")
        for shard, path in enumerate(paths):
            try:
                self._keep(shard, _Tar(path))
            except OSError as error:
                raise PoolError(f"expected a tar at {path}, which cannot be read: {error.strerror}") from None
            self._stats.append(self._open[shard].found)

    def enter(self, shard: int) -> Listing:
        """List a tar; its images take the rows after those of the tars entered before. Raises `PoolError`."""
        listing = _listing(self._paths[shard], self._tar(shard))
        self._starts.append(len(self.sizes))
        self._offsets.extend(listing.offsets)
        self.sizes.extend(listing.sizes)
        return listing

    def states(self) -> States:
        counts = np.diff([*self._starts, len(self.sizes)])
        states = np.array([state_of(found) for found in self._stats], np.int64).repeat(counts, axis=0)
        states[:, -1] = self._offsets
        return states

    def read(self, row: int) -> bytes:
        return self.read_piece(row, 0, self.sizes[row])

    def read_piece(self, row: int, start: int, size: int) -> bytes:
        shard = bisect_right(self._starts, row) - 1
        wanted = min(size, self.sizes[row] - start)
        tar = self._tar(shard)  # held by name until it is read: another thread may push it out of those kept open
        data = os.pread(tar.file, wanted, self._offsets[row] + start)
        self._refuse_changed(shard, tar.now())  # then these may be bytes of another image
        if len(data) < wanted:
            raise UnreadableImage(f"{self._paths[shard]} was cut off after it was opened")
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
        self._refuse_changed(shard, tar.found)
        return tar

    def _refuse_changed(self, shard: int, found: os.stat_result) -> None:
        before = self._stats[shard]
        if (found.st_size, found.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise PoolError(f"{self._paths[shard]} was changed while it was in use; give the same command again")


def _listing(path: Path, tar: _Tar) -> Listing:
    """What was kept of the tar as it is now, or what is listed afresh."""
    listing = _load(path, tar)
    if listing is None:
        settled = tar.found.st_mtime_ns < time.time_ns() - _SETTLED  # else a later change may leave the same time
        listing = _list(path, tar)
        if settled and listing.cut is None and len(listing.ids) + listing.ignored.total() >= _KEPT:
            _save(listing, path, tar)
    return listing


def _place(path: Path) -> Path:
    return files.cache_folder() / "listings" / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()}.npz"


def _basis(tar: _Tar) -> list[object]:
    """What a listing rests on: the state of the tar, also where its time was set back, and how its names are read."""
    found = tar.found
    state = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    return [_FORMAT, *state, sys.version, tarfile.ENCODING, *sorted(SUFFIXES)]


def _load(path: Path, tar: _Tar) -> Listing | None:
    """The kept listing; None where there is none, it is damaged, or it was made of something else."""
    try:
        with _place(path).open("rb") as file, np.load(file, allow_pickle=False) as kept:
            head = json.loads(kept["head"].tobytes())
            if head["basis"] != _basis(tar):
                return None
            names = kept["ids"].tobytes().decode()
            ids = names.split("\0") if names else []
            offsets, sizes = (array("q", kept[name].astype(np.int64).tobytes()) for name in ("offsets", "sizes"))
            ignored = Counter[str](head["ignored"])
    except Exception:  # numpy, zipfile and json have many words for a damaged file
        return None
    return Listing(ids, offsets, sizes, ignored) if len(ids) == len(offsets) == len(sizes) else None


def _save(listing: Listing, path: Path, tar: _Tar) -> None:
    """Keep `listing`, where something can be kept: without it the tar is listed again the next time."""
    head = json.dumps({"basis": _basis(tar), "ignored": listing.ignored}).encode()
    names = "\0".join(listing.ids).encode()

    def fill(file: BinaryIO) -> None:
        texts = [np.frombuffer(text, np.uint8) for text in (head, names)]
        np.savez(file, head=texts[0], ids=texts[1], offsets=listing.offsets, sizes=listing.sizes)

    with suppress(OutputError, OSError):
        files.write(_place(path), fill)


def _list(path: Path, tar: _Tar) -> Listing:
    listing = Listing()
    seen: dict[str, int] = {}
    try:
        for member in _members(path, tar):
            place = _place_or_why(member, listing, seen)
            if isinstance(place, str):
                listing.ignored[place] += 1
                continue
            listing.ids.append(image_id(member.name))
            listing.offsets.append(place[0])
            listing.sizes.append(place[1])
    except (tarfile.ReadError, ValueError) as error:  # the latter: numbers and texts of a damaged header
        listing.cut = str(error)
    return listing


def _place_or_why(member: tarfile.TarInfo, listing: Listing, seen: dict[str, int]) -> tuple[int, int] | str:
    """Offset and size of a member's bytes, or why it is ignored; `seen`: rows by id, for hard links."""
    why = why_ignored(member.name)
    if why:
        return why
    if member.issym():
        return "(symbolic link)"
    if member.islnk():
        seen.update((listing.ids[row], row) for row in range(len(seen), len(listing.ids)))
        target = seen.get(image_id(member.linkname))
        return "(hard link to no image)" if target is None else (listing.offsets[target], listing.sizes[target])
    if member.issparse():
        return "(sparse file)"  # its bytes do not lie in one piece
    return (member.offset_data, member.size) if member.isreg() else "(special file)"


def _members(path: Path, tar: _Tar) -> Iterator[tarfile.TarInfo]:
    """Yield each member, other than folders, that lies whole in the file."""
    with os.fdopen(os.dup(tar.file), "rb", 2 * tarfile.BLOCKSIZE) as file:  # of the images, little more is read
        file.seek(0)
        length = os.fstat(file.fileno()).st_size
        try:
            archive = tarfile.open(fileobj=file, mode="r:", tarinfo=_Member)  # noqa: SIM115
        except tarfile.ReadError:
            raise PoolError(
                f"expected an uncompressed tar at {path}; if it is compressed, uncompress it first"
            ) from None
        with archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep every member it has seen
                room = length - member.offset_data
                if member.isreg() and not member.issparse() and not 0 <= member.size <= room:
                    raise tarfile.ReadError(f"{member.name} should have {member.size} bytes")
                if not member.isdir():
                    yield member
            _check_end(tar, archive.offset)


class _Member(tarfile.TarInfo):
    """A member whose header is read in half the time, and only as far as needed, where it is a plain file's."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        plain = _PLAIN.fullmatch(buf)
        if plain is None or int(plain[3], 8) != sum(buf) - sum(buf[148:156]) + 8 * ord(" "):
            return super().frombuf(buf, encoding, errors)
        member = cls(plain[1].partition(b"\0")[0].decode(encoding, errors))
        member.size = int(plain[2], 8)
        return member


def _check_end(tar: _Tar, offset: int) -> None:
    """tarfile takes a cut or damaged header (other than the first) for the end; only zeros are."""
    block = os.pread(tar.file, tarfile.BLOCKSIZE, offset)
    if not block:
        raise tarfile.ReadError("the mark at the end of a tar is missing")
    if len(block) < tarfile.BLOCKSIZE or any(block):
        raise tarfile.ReadError(f"no whole header at byte {offset}")


def image_id(name: str) -> str:
    """What an image is called: its path without its suffix; bytes of it that are no UTF-8 as `\\xe9`."""
    return without_suffix(printable(name).removeprefix("./"))


def printable(name: str) -> str:
    """Names that are no UTF-8 come with surrogates, which can be neither printed nor stored."""
    return name if name.isascii() else name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def without_suffix(name: str) -> str:
    """`name` without the suffix of an image."""
    suffix = _suffix(_parts(name))
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name


def why_ignored(name: str) -> str | None:
    """Why a file of this name is no image; None for an image."""
    parts = _parts(name)
    if parts[-1].startswith("._") or "__MACOSX" in parts:  # what macOS adds beside each file
        return "(macOS metadata)"
    suffix = printable(_suffix(parts).lower())
    return None if suffix in SUFFIXES else suffix or "(no suffix)"


def _parts(name: str) -> list[str]:
    """The parts of a path as pathlib has them, which takes three times as long."""
    return [part for part in name.split("/") if part not in {"", "."}] or [""]


def _suffix(parts: list[str]) -> str:
    last = parts[-1]
    dot = last.rfind(".")
    return last[dot:] if 0 < dot < len(last) - 1 else ""
