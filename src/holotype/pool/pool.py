"""The unlabelled images: a tar (read by offset, never unpacked), a folder, or webdataset shards."""

import difflib
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NoReturn, Protocol, runtime_checkable

import numpy as np

from holotype.errors import PoolError, UnreadableImage
from holotype.pool.digests import STATE, Digests, States, place_of, stamp_of, state_of
from holotype.pool.images import SUFFIXES
from holotype.pool.tars import Tars, image_id, printable, why_ignored, without_suffix
from holotype.progress import Progress

_SAMPLED = 2000  # images that the fingerprint looks into
_PIECES, _PIECE = 8, 4096  # of a sampled image, spread evenly; a smaller one is read whole


class Reader(Protocol):
    """Where the bytes of a row come from."""

    def read(self, row: int) -> bytes:
        """Return the encoded image of `row`."""


@runtime_checkable
class PieceReader(Reader, Protocol):
    """A reader that need not read an image whole."""

    def read_piece(self, row: int, start: int, size: int) -> bytes:
        """Return `size` bytes of the image from `start` on, or what is there of them."""


@runtime_checkable
class FileReader(Reader, Protocol):
    """A reader that knows the files which the images lie in."""

    def states(self) -> States:
        """Return (n, 5) what the bytes of each row rest on, see `digests.STATE`; as it was when the pool was opened."""


@dataclass(frozen=True)
class Pool:
    """Images in a fixed order: row `i` is the image `ids[i]`, and only its place is held in memory.

    ids        a member's path without its suffix; bytes of it that are no UTF-8 as `\\xe9`
    sizes      bytes of each encoded image
    ignored    files that are no images, counted by suffix, or by what they are: "(symbolic link)"
    notes      what a reader of the report should know about the source
    """

    source: str
    ids: list[str]
    sizes: list[int]
    reader: Reader = field(repr=False)
    ignored: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, row: int) -> bytes:
        """Return the encoded bytes of `row`.

        Raises `UnreadableImage` when they are not there any more, `PoolError` when its tar has changed.
        """
        try:
            return self.reader.read(row)
        except OSError as error:
            raise UnreadableImage(f"cannot be read: {error.strerror or error}") from None

    def digest(self, row: int) -> str:
        """Return the SHA-256 of the encoded bytes of `row` (hex); nothing where they cannot be read.

        What belongs to an image is kept with it: a name may come to stand for another picture.
        """
        return self._digests.of(row)

    def digests(self, rows: Sequence[int] | None = None, progress: Progress | None = None) -> list[str]:
        """Return the digests of `rows`, or of all; they are read only where they changed since the last time."""
        return self._digests.all_of(range(len(self)) if rows is None else rows, progress)

    def note_digests(self, found: Mapping[int, str]) -> None:
        """Take the digests (row -> SHA-256) of images that were read anyway."""
        self._digests.note(found)

    def keep_digests(self) -> None:
        """Keep the digests that are known for the next time that the pool is opened."""
        self._digests.keep()

    @cached_property
    def by_digest(self) -> dict[str, int]:
        """The first row of each content; where nothing changed since the last time, no image is read."""
        found = {digest: row for row, digest in reversed([*enumerate(self.digests())])}
        found.pop("", None)
        return found

    @cached_property
    def stamp(self) -> str:
        """Changes with any file that the pool is read from, and costs no reading; nothing where no file is known."""
        return stamp_of(self.ids, self.reader.states()) if isinstance(self.reader, FileReader) else ""

    @cached_property
    def _digests(self) -> Digests:
        states = self.reader.states() if isinstance(self.reader, FileReader) else None
        return Digests(place_of(self.source), states, len(self), self._compute_digest)

    def _compute_digest(self, row: int) -> str:
        try:
            return digest_of(self.read(row))
        except UnreadableImage:
            return ""

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each id."""
        return {name: row for row, name in enumerate(self.ids)}

    @cached_property
    def fingerprint(self) -> str:
        """Changes when an id, the order, a size or the content does, and not when the pool is copied elsewhere.

        Of up to 2,000 images spread evenly, all of a smaller pool, 32 kB each are looked at: small images whole.
        """
        digest = hashlib.sha256()
        for name, size in zip(self.ids, self.sizes, strict=True):
            digest.update(f"{name}\0{size}\n".encode())
        for row in spread(len(self), _SAMPLED):
            digest.update(self._pieces(row))
        return digest.hexdigest()

    def _pieces(self, row: int) -> bytes:
        size = self.sizes[row]
        try:
            if size <= _PIECES * _PIECE or not isinstance(self.reader, PieceReader):
                return self.read(row)
            starts = spread(size - _PIECE + 1, _PIECES)
            return b"".join(self.reader.read_piece(row, start, _PIECE) for start in starts)
        except (UnreadableImage, OSError):
            return b"unreadable"

    @cached_property
    def _last_parts(self) -> dict[str, int]:
        """The row of each last part of an id, where no two ids share it."""
        parts = [name.rpartition("/")[2] for name in self.ids]
        if parts == self.ids:
            return self.rows
        rows = {part: row for row, part in enumerate(parts)}
        if len(rows) < len(parts):
            for part, count in Counter(parts).items():
                if count > 1:
                    del rows[part]
        return rows

    def find(self, code: str) -> int | None:
        """Return the row that `code` means: an id, with or without its suffix, or an id's last part.

        None when it means no image, or more than one.
        """
        name = printable(code).removeprefix("./")
        if name in self.rows:
            return self.rows[name]
        stem = without_suffix(name)
        return self.rows[stem] if stem in self.rows else self._last_parts.get(stem)

    def row(self, code: str) -> int:
        """Return the row that `code` means, as `find` does. Raises `PoolError` when it means none, or several."""
        row = self.find(code)
        if row is None:
            self._refuse(code)
        return row

    def _refuse(self, code: str) -> NoReturn:
        stem = without_suffix(printable(code).removeprefix("./"))
        end = f"/{stem}"
        matches = [name for name in self.ids if name.endswith(end)]
        if matches:
            some = ", ".join(matches[:3])
            raise PoolError(f"{code!r} means {len(matches)} images of {self.source} ({some}); give the whole id")
        alike = self._alike(stem.rpartition("/")[2])
        near = difflib.get_close_matches(stem, alike, n=3, cutoff=0.5) or self.ids[:3]
        raise PoolError(f"no image {code!r} in {self.source} ({len(self)} images); ids look like {', '.join(near)}")

    def _alike(self, part: str) -> list[str]:
        """Some ids with `part`, or how it begins, in them: difflib would take seconds for all of a large pool."""
        start = part[:3]
        whole = islice((name for name in self.ids if part in name), 300)
        begun = islice((name for name in self.ids if start in name), 300)
        return list(dict.fromkeys([*whole, *begun]))


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of an image's bytes, hex: which picture it is, whatever it is called."""
    return hashlib.sha256(content).hexdigest()


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spaced, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [place * (count - 1) // (most - 1) for place in range(most)]


def open_pool(source: str | Path, *, allow_truncated: bool = False) -> Pool:
    """Open a tar, a folder of images, a folder of tars, or shards such as `pool-{000..150}.tar`.

    A tar that ends in the middle of a member is refused, as it is an unfinished download; `allow_truncated`
    takes the whole members before the cut. Raises `PoolError`.
    """
    paths = _expand(str(source))
    if len(paths) == 1 and paths[0].is_dir():
        inside = sorted(paths[0].glob("*.tar"))
        pool = _open_shards(paths[0], inside, allow_truncated) if inside else _open_folder(paths[0])
    else:
        pool = _open_tars(str(source), paths, allow_truncated)
    if not pool.ids:
        seen = ", ".join(f"{count} x {suffix}" for suffix, count in pool.ignored.items()) or "nothing"
        raise PoolError(f"expected images ({' '.join(sorted(SUFFIXES))}) in {source}, found {seen}")
    _refuse_duplicates(pool)
    return pool


def _open_shards(folder: Path, tars: list[Path], allow_truncated: bool) -> Pool:
    loose = next((path for path in _walk(folder) if why_ignored(path.name) is None), None)
    if loose is not None:
        raise PoolError(
            f"{folder} holds {len(tars)} tars and also loose images ({loose.relative_to(folder)}): expected the one or "
            "the other; put them into folders of their own"
        )
    return _open_tars(str(folder), tars, allow_truncated)


def _expand(source: str) -> list[Path]:
    braces = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", source)
    if braces:
        before, first, last, after = braces.groups()
        numbers = range(int(first), int(last) + 1)
        paths = [Path(f"{before}{number:0{len(first)}}{after}") for number in numbers]
    else:
        paths = [Path(source)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise PoolError(f"expected a tar, a folder or shards at {source}; {missing[0]} does not exist")
    return paths


def _refuse_duplicates(pool: Pool) -> None:
    if len(pool.rows) < len(pool.ids):
        name, count = Counter(pool.ids).most_common(1)[0]
        raise PoolError(
            f"the id {name!r} stands for {count} images of {pool.source}; an id is a path without its suffix and "
            "must be unique: rename or remove one"
        )


class _Files:
    def __init__(self, paths: list[Path], found: Sequence[os.stat_result]) -> None:
        self._paths = paths
        self._states = np.array([state_of(one) for one in found], np.int64).reshape(-1, len(STATE))

    def states(self) -> States:
        return self._states

    def read(self, row: int) -> bytes:
        return self._paths[row].read_bytes()

    def read_piece(self, row: int, start: int, size: int) -> bytes:
        with self._paths[row].open("rb") as file:
            return os.pread(file.fileno(), size, start)


def _open_folder(folder: Path) -> Pool:
    paths: list[Path] = []
    stats: list[os.stat_result] = []
    ignored = Counter[str]()
    for path in _walk(folder):
        found = _stat_or_why(path, path.relative_to(folder).as_posix())
        if isinstance(found, str):
            ignored[found] += 1
        else:
            paths.append(path)
            stats.append(found)
    ids = [image_id(path.relative_to(folder).as_posix()) for path in paths]
    return Pool(str(folder), ids, [found.st_size for found in stats], _Files(paths, stats), dict(ignored))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files in a fixed order, and the folders that are not entered: hidden ones and links."""
    for root, folders, names in os.walk(folder, onerror=_refuse_to_list):
        closed = {name for name in folders if name.startswith(".") or Path(root, name).is_symlink()}
        folders[:] = sorted(name for name in folders if name not in closed)
        for name in sorted([*names, *closed]):
            yield Path(root, name)


def _refuse_to_list(error: OSError) -> NoReturn:
    raise PoolError(f"expected a folder that can be listed at {error.filename}: {error.strerror}")


def _stat_or_why(path: Path, name: str) -> os.stat_result | str:
    """What the system says of an image file, or why it is ignored."""
    if path.name.startswith(".") and not path.name.startswith("._"):
        return "(hidden)"
    try:
        found = path.stat()
    except OSError:
        return "(link that leads nowhere)" if path.is_symlink() else "(gone while it was listed)"
    if stat.S_ISDIR(found.st_mode):
        return "(link to a folder)"
    if not stat.S_ISREG(found.st_mode):
        return "(special file)"
    return why_ignored(name) or found


def _open_tars(source: str, paths: list[Path], allow_truncated: bool) -> Pool:
    reader, ignored = Tars(paths), Counter[str]()
    ids: list[str] = []
    notes: list[str] = []
    for shard, path in enumerate(paths):
        listing = reader.enter(shard)
        ids += listing.ids
        ignored.update(listing.ignored)
        if listing.cut is not None:
            cut = f"{path} is cut off or damaged after {len(listing.ids)} images ({listing.cut})"
            if not allow_truncated:
                raise PoolError(
                    f"{cut}; fetch it again, or take the whole images before the cut with --allow-truncated"
                )
            notes.append(cut)
    return Pool(source, ids, reader.sizes.tolist(), reader, dict(ignored), tuple(notes))
