"""The buckets of object stores: what is in them, read by ranges of bytes, written whole; with patience for faults.

What passes (a store that is busy, a connection that breaks) is tried again, with pauses that grow, for up to a minute
of all threads together. What does not (no such bucket, refused credentials) is an error at once. No message of ours
repeats what a store or its library says: that may hold a signature.
"""

import errno
import hashlib
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from holotype.errors import HolotypeWarning, OutputError, PoolError, UnreadableNow
from holotype.filestate import FileState
from holotype.names import printable
from holotype.patience import Patience
from holotype.stores.credentials import open_bucket
from holotype.stores.urls import Url, parse

_PATIENCE, _LONGEST_PAUSE = 60.0, 5.0  # seconds
_QUIET = 3.0  # seconds of a fault until it is said that it is waited for
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")  # how S3 and Azure name what is wrong
_BUSY = frozenset([408, 429])
_ELSEWHERE = "redirect without LOCATION"  # what the library says of a 301 and a 307
# what is asked for a role, where no credentials are given: there is none here
_ROLE = re.compile(r"169\.254\.\d|metadata\.google|/oauth2/|token request|MissingCredential|No such .*credential")
_MISSING = ("NoSuchBucket", "ContainerNotFound")
_REFUSED = frozenset([401, 403])
_CHANGED = 412
_AT_ONCE = 64 << 20  # bytes that are written in one request, which can have a condition
AGAIN = "give the same command again"

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class StoredObject:
    """An object of a store as it was found: what is read of it later is of the same, or refused.

    modified   ns since 1970
    """

    url: Url
    size: int
    etag: str
    modified: int

    def __str__(self) -> str:
        return printable(str(self.url))

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.url.key.rpartition("/")[2]

    @property
    def state(self) -> FileState:
        """What tells it from another that takes its place: the ETag, as a number in place of the inode."""
        number = int.from_bytes(hashlib.sha256(self.etag.encode()).digest()[:8], "little", signed=True)
        return FileState(self.size, self.modified, 0, number)

    def read(self, start: int, size: int) -> memoryview:
        """Return `size` bytes from `start` on, or what is there of them.

        Raises `PoolError` where the object is another or not there any more, `UnreadableNow` where it cannot be read
        now, also after a wait.
        """
        return bucket_of(self.url).patient(lambda: self.read_once(start, size))

    def read_once(self, start: int, size: int) -> memoryview:
        """Do as `read`, with no second try. Raises `OSError` for what may pass."""
        end = min(start + size, self.size)
        if end <= start:
            return memoryview(b"")
        bucket = bucket_of(self.url)
        with bucket.explained(self.url):
            options = {"range": (start, end)} | ({"if_match": self.etag} if self.etag else {})
            try:
                got = bucket.obstore().get(bucket.store, self.url.key, options=options)
                if got.meta["size"] != self.size:
                    raise PoolError(f"{self} was changed while it was in use; {AGAIN}")
                content = memoryview(got.bytes())
            except FileNotFoundError:
                raise PoolError(f"{self} is not there any more; {AGAIN}") from None
        if len(content) < end - start:
            raise OSError(errno.EIO, "only a part of it came")
        return content


class Bucket:
    """A bucket, or container; it may be used from many threads."""

    def __init__(self, scheme: str, name: str) -> None:
        self.name = f"{scheme}://{name}"
        self._process = os.getpid()
        self._patience = Patience(_PATIENCE, _LONGEST_PAUSE)
        self.store = open_bucket(scheme, name)
        self.place = self.name + _of_endpoint(str(self.store.config.get("endpoint", "")))
        self._said = False

    def obstore(self) -> Any:
        """Return the library. Raises `PoolError` in a process that was forked: it would wait for threads for ever."""
        if self._process != os.getpid():
            raise PoolError(
                f"{self.name} was read before this process was forked, and cannot be read in it: start processes with "
                "multiprocessing.get_context('spawn')"
            )
        import obstore

        return obstore

    def patient(self, work: Callable[[], _Found]) -> _Found:
        """Return what `work` does, which is done again for what may pass. Raises `UnreadableNow` after a wait.

        Warns once that it waits, where that is not over in a moment.
        """
        started = time.monotonic()

        def tried() -> _Found:
            try:
                return work()
            except OSError as error:
                if not self._said and time.monotonic() - started > _QUIET:
                    self._said = True
                    again = f"it is tried again for up to {_PATIENCE:.0f} s"
                    warnings.warn(f"{error.strerror}: {again}", HolotypeWarning, stacklevel=2)
                raise

        return self._patience.read(tried)

    def head(self, url: Url) -> StoredObject | None:
        """Return what is at `url`; None where nothing is."""

        def look() -> StoredObject | None:
            with self.explained(url):
                try:
                    return _object(url, self.obstore().head(self.store, url.key))
                except FileNotFoundError:
                    return None

        return self.patient(look) if url.key and not url.key.endswith("/") else None

    def find(self, url: Url) -> StoredObject | Url | None:
        """Return the object at `url`, `url` itself where it is a folder, None where nothing is."""
        return self.head(url) or (url if self._listed(url, first=True) else None)

    def matches(self, pattern: Url) -> list[StoredObject]:
        """Return the objects whose keys fit a pattern with `*`, `?` and `[...]`, none of which stands for a slash."""
        folder = re.split(r"[*?[]", pattern.key, maxsplit=1)[0].rpartition("/")[0]
        parts = pattern.key.split("/")
        flat = folder.count("/") + bool(folder) == len(parts) - 1

        def fits(key: str) -> bool:
            there = key.split("/")
            return len(there) == len(parts) and all(map(fnmatchcase, there, parts))

        return [one for one in self._listed(pattern._replace(key=folder), flat=flat) if fits(one.url.key)]

    def below(self, folder: Url) -> list[StoredObject]:
        """Return what is below `folder`, in the order of the keys."""
        return self._listed(folder)

    def _listed(self, folder: Url, *, first: bool = False, flat: bool = False) -> list[StoredObject]:
        """What is below `folder`; only the first few, or only what is right in it."""

        def look() -> list[StoredObject]:
            prefix = folder.key.rstrip("/") or None
            with self.explained(folder):
                library = self.obstore()
                if flat:
                    pages = iter([library.list_with_delimiter(self.store, prefix)["objects"]])
                else:
                    pages = library.list(self.store, prefix)
                found = next(pages, []) if first else [one for page in pages for one in page]
                return [_object(folder._replace(key=one["path"]), one) for one in found]

        found = self.patient(look)
        return sorted((one for one in found if not one.url.key.endswith("/")), key=lambda one: one.url.key)

    def write(self, url: Url, file: Path, known: str | None) -> str:
        """Write `file` to `url`, whole; return its ETag.

        known   the ETag of what may be replaced; empty: nothing may be there; None: whatever is there

        Raises `OutputError` where something else is there, or it cannot be written.
        """
        small = file.stat().st_size <= _AT_ONCE
        conditional = small and known is not None
        mode = ("create" if not known else {"e_tag": known}) if conditional else "overwrite"

        def put() -> str:
            with self.explained(url):
                done = self.obstore().put(self.store, url.key, file, mode=mode, use_multipart=not small)
                return str(done["e_tag"] or "")

        try:
            return self.patient(put)
        except UnreadableNow as error:
            raise OutputError(f"cannot write {printable(str(url))}: the store is away ({error}); {AGAIN}") from None
        except PoolError as error:
            raise OutputError(f"cannot write {printable(str(url))}: {error}") from None

    def remove(self, url: Url) -> None:
        """Remove what is at `url`, if anything is."""

        def delete() -> None:
            with self.explained(url):
                self.obstore().delete(self.store, url.key)

        self.patient(delete)

    @contextmanager
    def explained(self, url: Url) -> Iterator[None]:
        """Turn what the library raises into `OSError` where it may pass, into `PoolError` where it does not."""
        self.obstore()
        from obstore import exceptions

        try:
            yield
        except FileNotFoundError:
            raise PoolError(f"expected a bucket {self.name}, and there is none of this name; check it") from None
        except exceptions.BaseError as error:
            raise self._error(url, str(error), error) from None

    def _error(self, url: Url, said: str, error: Exception) -> Exception:
        from obstore import exceptions

        place = printable(str(url))
        status = next((int(one) for one in _STATUS.findall(said)), 0)
        code = next(iter(_CODE.findall(said)), "")
        how = " ".join(str(one) for one in (status or "", code) if one)
        if status == _CHANGED or isinstance(error, exceptions.PreconditionError | exceptions.AlreadyExistsError):
            return PoolError(f"{place} was changed while it was in use; {AGAIN}")
        if _ROLE.search(said):
            return PoolError(
                f"{place} cannot be used: no credentials were found for {self.name}; give them as the tools of the "
                "store take them (environment, profile, role)"
            )
        if status in _BUSY or status >= 500 or (status == 0 and _ELSEWHERE not in said):
            return OSError(errno.EIO, f"{self.place} answers {how}" if how else f"{self.place} cannot be reached")
        if code in _MISSING:
            return PoolError(f"expected a bucket {self.name}, and there is none of this name; check it")
        if status in _REFUSED or isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            return PoolError(
                f"{place} cannot be used: the store refuses the credentials that it was given ({how}); check which the "
                "tools of the store take here (environment, profile, role), and what they may do"
            )
        answer = how or "that it is elsewhere"
        return PoolError(
            f"{place} cannot be used: the store answers {answer}; check the region and the endpoint that are set for it"
        )


def _object(url: Url, meta: Any) -> StoredObject:
    return StoredObject(url, meta["size"], meta["e_tag"] or "", int(meta["last_modified"].timestamp() * 1e9))


def _of_endpoint(url: str) -> str:
    """Say which server is asked, without what else its URL may hold; nothing of the one that all know."""
    host = url.rpartition("@")[2].split("://")[-1].partition("/")[0]
    return f" (at {printable(url.partition('://')[0])}://{printable(host)})" if host else ""


_opening = threading.Lock()


def bucket_of(url: Url | str) -> Bucket:
    """Return the bucket that `url` is in; each is opened once. Raises `PoolError`."""
    found = parse(url) if isinstance(url, str) else url
    with _opening:
        return _bucket(found.scheme, found.bucket)


@lru_cache(maxsize=64)
def _bucket(scheme: str, name: str) -> Bucket:
    return Bucket(scheme, name)


def read_object(url: str) -> bytes:
    """Return all bytes of what is at `url`. Raises `PoolError` where nothing is."""
    place = parse(url)
    found = bucket_of(place).head(place)
    if found is None:
        raise PoolError(f"expected something at {printable(str(place))}, and nothing is there")
    return bytes(found.read(0, found.size))
