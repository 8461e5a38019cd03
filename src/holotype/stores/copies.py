"""Folders and files of a store that are worked on here: brought when they are asked for, and sent back when changed.

A command works on the copy as on any folder. What is in the store and what is here are compared by what both were when
they were last the same, which is kept beside the copy: what changed there is fetched, what changed here is sent, and
what changed in both places is refused. Vectors are sent while the command works, a shard at a time; all else at its
end, and what says that a run is finished comes last.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from holotype import files, names
from holotype.errors import HolotypeError, OutputError, UnreadableNow
from holotype.filestate import FileState
from holotype.locks import changing
from holotype.names import printable
from holotype.progress import Progress, Silent
from holotype.settings import SETTINGS
from holotype.stores.store import AGAIN, Bucket, StoredObject, bucket_of
from holotype.stores.urls import Url, from_path, is_url, local, parse, whole

_FORMAT = 1  # of what is kept beside a copy
_PIECE = 16 << 20  # bytes that are fetched at once
_THREADS = 8
_PAUSE = 2.0  # seconds between two looks at what is finished
_VECTORS = ("img_emb", "metadata", "unreadable")  # folders of shards: each is written once, and never changed
_BESIDE = ("-wal", "-shm", "-journal")  # a database that has such beside it is in use
_copies: dict[str, "_Copy"] = {}  # those of this process, by URL
_watches: list["_Watch"] = []  # those of the commands at work, which is one


class _Known(NamedTuple):
    """A file that is in the store and here: what it is in both places."""

    etag: str
    size: int
    mtime: int


def here(place: str | Path) -> Path:
    """Return the path of what is at `place`: of a URL of a store, that of its copy, brought once in a process.

    Raises `HolotypeError` where the store cannot be used, or the copy and the store were both changed.
    """
    text = local(str(place))
    if not is_url(text):
        return Path(text)
    url = parse(text.rstrip("/"))
    if not url.key:
        raise OutputError(f"expected a folder or a file in {printable(str(url))}, and not the whole bucket")
    if str(url) not in _copies:
        copy = _Copy(url)
        with _away(url):
            copy.bring()
        _copies[str(url)] = copy
        for watch in _watches:
            watch.begin()
        names.call(str(copy.path), str(url))
    return _copies[str(url)].path


def address(place: str | Path) -> str:
    """Return where `place` is for others: a URL as it is, that of what is in a copy, and else the whole path."""
    text = whole(place)
    for url, copy in _copies.items():
        if not is_url(text) and Path(text).is_relative_to(copy.path):
            return "/".join([url, *Path(text).relative_to(copy.path).parts])
    return text


def refuse_url(path: Path) -> Path:
    """Return `path`, a folder that is about to be worked on. Raises `OutputError` for a URL: its copy is meant."""
    url = from_path(path)
    if is_url(url):
        raise OutputError(
            f"{printable(url)} is worked on in a copy: give here({printable(url)!r}) in its place, within sent_back(), "
            "both of holotype.stores.copies"
        )
    return path


@contextmanager
def sent_back(progress: Callable[[], Progress] = Silent) -> Iterator[None]:
    """Send what changes in the copies: finished vectors within, all else at the end, however it ends."""
    watch = _Watch()
    _watches.append(watch)
    try:
        yield
    finally:
        _watches.remove(watch)
        watch.end()
        for copy in list(_copies.values()):
            with _away(copy.url):
                copy.send(progress())
        _copies.clear()


class _Watch:
    """Looks for finished vectors in the copies and sends them: from the first copy on, and until the end."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True, name="copies")

    def begin(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _send(self) -> None:
        while not self._ended.wait(_PAUSE):
            for copy in list(_copies.values()):
                with suppress(HolotypeError, OSError):  # it is told of at the end, when it is sent again
                    copy.send(Silent(), vectors=True)


@contextmanager
def _away(url: Url) -> Iterator[None]:
    try:
        yield
    except UnreadableNow as error:
        raise OutputError(f"{printable(str(url))} {error}; what was done is kept here: {AGAIN}") from None


class _Copy:
    """A folder of a store, or a file, as it is here. Files that begin with a dot stay where they are."""

    def __init__(self, url: Url) -> None:
        self.url = url
        folder = files.cache_folder() / "copies" / hashlib.sha256(str(url).encode()).hexdigest()[:16]
        self.path = folder.absolute() / url.key.rpartition("/")[2]
        self._folder, self._notes = folder, folder / ".copy.json"

    def bring(self) -> None:
        """Fetch what changed in the store, and remove what was removed there."""
        there = self._there()
        files.make_folder(self._folder, closed=True)
        with changing(self._folder):
            known = self._load()
            changed = {name for name, one in there.items() if name not in known or known[name].etag != one.etag}
            changed |= {name for name in there if not self._file(name).exists()}
            for name in sorted(known.keys() - there.keys()):
                if self._is_known(name, known):
                    self._file(name).unlink(missing_ok=True)
                del known[name]
            self._refuse_both(changed, known, there)
            order = sorted(changed)
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="copies") as threads:
                for name, found in zip(
                    order, threads.map(lambda one: self._fetch(one, there[one]), order), strict=True
                ):
                    known[name] = found
            self._save(known)

    def _there(self) -> dict[str, StoredObject]:
        bucket = bucket_of(self.url)
        if (alone := bucket.head(self.url)) is not None:
            return {"": alone}
        start = len(self.url.key) + 1
        return {one.url.key[start:]: one for one in bucket.below(self.url) if _is_sent(one.url.key[start:])}

    def _refuse_both(self, changed: set[str], known: Mapping[str, _Known], there: Mapping[str, StoredObject]) -> None:
        for name in sorted(changed):
            path = self._file(name)
            changed_here = path.exists() and not self._is_known(name, known) and not _is_vectors(name)
            if changed_here and not _is_same(path, there[name]):
                raise OutputError(
                    f"{printable(str(self._url(name)))} was changed in the store, and its copy here ({path}) by a "
                    "command whose results were not sent: remove the copy to go on with what is in the store"
                )

    def _fetch(self, name: str, stored: StoredObject) -> _Known:
        path = self._file(name)
        with files.atomic(path) as temporary, temporary.open("wb") as file:
            for start in range(0, stored.size, _PIECE):
                file.write(stored.read(start, _PIECE))
        return _known(path, stored.etag)

    def send(self, progress: Progress, *, vectors: bool = False) -> None:
        """Send what changed here; only finished `vectors`. Raises `OutputError` where the store has changed, too."""
        if not self.path.exists():
            return
        with changing(self._folder):
            known = self._load()
            there = {name for name in self._names() if not vectors or _is_vectors(name)}
            changed = sorted((name for name in there if not self._is_known(name, known)), key=self._order)
            gone = [] if vectors else sorted(known.keys() - there)
            if not changed and not gone:
                return
            bucket = bucket_of(self.url)
            if SETTINGS in known and any(map(_is_result, changed)):
                gone.append(SETTINGS)  # until all is there, nothing says so
            for name in gone:
                bucket.remove(self._url(name))
                del known[name]
                self._save(known)
            with progress.track(f"send to {printable(str(self.url))}", len(changed)) as advance:
                for name in [*changed, *(one for one in gone if one in there and one not in changed)]:
                    self._send_one(bucket, name, known, progress)
                    advance(1)

    def _send_one(self, bucket: Bucket, name: str, known: dict[str, _Known], progress: Progress) -> None:
        path = self._file(name)
        if any((beside := path.with_name(path.name + end)).exists() and beside.stat().st_size for end in _BESIDE):
            progress.say(f"{path} is in use by another command, and is sent when that ends")
            return
        before = known.get(name)
        now = _known(path, "")
        try:
            etag = bucket.write(self._url(name), path, before.etag if before else "")
        except OutputError:
            there = bucket.head(self._url(name))
            if there is None or not _is_same(path, there):
                raise
            etag = there.etag  # it was sent, and the answer was lost
        known[name] = now._replace(etag=etag)
        self._save(known)

    def _order(self, name: str) -> tuple[bool, int]:
        """As they were written; what says that the others are there comes last."""
        return name == SETTINGS, self._file(name).stat().st_mtime_ns

    def _names(self) -> Iterator[str]:
        if self.path.is_file():
            yield ""
        for path in self.path.rglob("*"):
            name = path.relative_to(self.path).as_posix()
            if path.is_file() and _is_sent(name):
                yield name

    def _is_known(self, name: str, known: Mapping[str, _Known]) -> bool:
        with suppress(OSError):
            return name in known and _known(self._file(name), known[name].etag) == known[name]
        return False

    def _file(self, name: str) -> Path:
        return self.path / name if name else self.path

    def _url(self, name: str) -> Url:
        return self.url._replace(key=f"{self.url.key}/{name}") if name else self.url

    def _load(self) -> dict[str, _Known]:
        try:
            kept = json.loads(self._notes.read_text())
            return {name: _Known(*one) for name, one in kept["files"].items()} if kept["format"] == _FORMAT else {}
        except FileNotFoundError:
            return {}
        except (OSError, RecursionError, ValueError, TypeError, KeyError):
            files.say_damaged(self._notes)
            return {}

    def _save(self, known: Mapping[str, _Known]) -> None:
        files.write(self._notes, json.dumps({"format": _FORMAT, "url": str(self.url), "files": known}))


def _known(path: Path, etag: str) -> _Known:
    state = FileState.of(path.stat())
    return _Known(etag, state.size, state.mtime)


def _is_same(path: Path, stored: StoredObject) -> bool:
    """Whether a file has the bytes of an object."""
    if path.stat().st_size != stored.size:
        return False
    with path.open("rb") as file:
        return all(file.read(_PIECE) == stored.read(start, _PIECE) for start in range(0, stored.size, _PIECE))


def _is_sent(name: str) -> bool:
    """Whether a file is for others: no lock, nothing half-written, nothing that a database has beside it."""
    return not any(part.startswith(".") for part in name.split("/")) and not name.endswith(_BESIDE)


def _is_vectors(name: str) -> bool:
    parts = name.split("/")
    return parts[-1] == "embeddings.json" or (len(parts) > 1 and parts[-2] in _VECTORS)


def _is_result(name: str) -> bool:
    return not _is_vectors(name) and not name.startswith("answers.db")
