"""The unlabelled images: a tar (read by offset, never unpacked), a folder, or webdataset shards."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from holotype.errors import PoolError, UnreadableImage
from holotype.names import counted, printable
from holotype.patience import Patience
from holotype.pool.codes import Codes
from holotype.pool.digests import (
    Digests,
    JoinedDigests,
    KnownDigests,
    PassingDigests,
    first_rows,
    place_of,
    stamp_of,
    states_of,
)
from holotype.pool.folder import PlainFiles, StoredFiles, list_folder
from holotype.pool.ids import MOST_LISTED, ManyCodes, PackedTexts, TextList, with_suffixes
from holotype.pool.images import SUFFIXES
from holotype.pool.joined import JoinedReader, told_apart
from holotype.pool.limits import limits
from holotype.pool.members import split_suffix
from holotype.pool.readers import FileReader, PieceReader, Reader
from holotype.pool.sources import as_folder, expand
from holotype.pool.tars import Tars
from holotype.progress import Progress, Silent, long
from holotype.stores.store import StoredObject
from holotype.stores.urls import Url, is_url, local, parse

_SAMPLED = 2000  # images that the fingerprint looks into
_LONGEST = max(map(len, SUFFIXES))  # characters of a suffix
_PIECES, _PIECE = 8, 4096  # of a sampled image, spread evenly; a smaller one is read whole


@dataclass(frozen=True)
class Pool:
    """Images in a fixed order: row `i` is the image `ids[i]`, and only its place is held in memory.

    ids        a path without its suffix, as it can be printed: bytes of it that are no UTF-8 are `\\xe9`. The suffix
               stays where two images are the same without it, or where what is left is another's whole name
    sizes      bytes of each encoded image
    ignored    files that are no images, counted by suffix, or by what they are: "(symbolic link)"
    notes      what a reader of the report should know about the source
    suffixes   what each id lacks of its file's name, where that is known
    progress   is told when all images are read
    parts      the pools that it was joined from, its rows are theirs one after the other; none of one that was not
    """

    source: str
    ids: Sequence[str]
    sizes: Sequence[int]
    reader: Reader = field(repr=False)
    ignored: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    suffixes: Sequence[str] = ()
    progress: Progress = field(default_factory=Silent, repr=False, compare=False)
    parts: Sequence["Pool"] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, row: int) -> bytes:
        """Return the encoded bytes of `row`.

        Raises `UnreadableImage` where this user may not read them, or they are more than an image may have;
        `UnreadableNow` where they cannot be read now, also after a wait; `PoolError` when its tar has changed.
        """
        limits().check_size(self.sizes[row])
        return self._patience.read(lambda: self.reader.read(row))

    def path(self, row: int) -> str:
        """Return where the image of `row` lies, by which it is joined to other tables: its file's whole path,
        or its URL.

        In a tar that is the tar's whole path, a slash, and the member's. It is `printable`, so a name that is no UTF-8
        is escaped. Where no file is known, it is the image's name alone.
        """
        name = self.ids[row] + (self.suffixes[row] if self.suffixes else "")
        return printable(self._where.path(row, name) if self._where is not None else name)

    @cached_property
    def _where(self) -> FileReader | None:
        """What knows the files of the images; to ask that of each image would take most of the time."""
        return self.reader if isinstance(self.reader, FileReader) else None

    def file(self, row: int) -> Path | None:
        """Return the file that the image of `row` is; None where it lies in a tar or a store."""
        if isinstance(self.reader, JoinedReader):
            part, place = self.reader.part_of(row)
            return part.file(place)
        return Path(self.reader.path(row, "")) if isinstance(self.reader, PlainFiles) else None

    @cached_property
    def _patience(self) -> Patience:
        return Patience()

    def digest(self, row: int) -> str:
        """Return the SHA-256 of the encoded bytes of `row` (hex); nothing where they cannot be read.

        What belongs to an image is kept with it: a name may come to stand for another picture.
        """
        return self._digests.of(row)

    def digests(self, rows: Sequence[int] | None = None, progress: Progress | None = None) -> list[str]:
        """Return the digests of `rows`, or of all; they are read only where they changed since the last time."""
        return self._digests.all_of(range(len(self)) if rows is None else rows, progress or self.progress)

    def note_digests(self, found: Mapping[int, str]) -> None:
        """Take the digests (row -> SHA-256) of images that were read anyway."""
        self._digests.note(found)

    def keep_digests(self) -> None:
        """Keep the digests that are known for the next time that the pool is opened."""
        self._digests.keep()

    def row_of(self, content: bytes) -> int | None:
        """Return the first row of the image with the bytes `content`; None where the pool has no such image.

        Only images of as many bytes are read.
        """
        wanted, alike = digest_of(content), np.flatnonzero(np.asarray(self.sizes, np.int64) == len(content))
        return next((row for row in alike.tolist() if self.digest(row) == wanted), None)

    @cached_property
    def by_digest(self) -> dict[str, int]:
        """The first row of each content; where nothing changed since the last time, no image is read."""
        return first_rows(self.digests())

    @cached_property
    def stamp(self) -> str:
        """Changes with any file that the pool is read from, and costs no reading; nothing where no file is known."""
        return stamp_of(self.ids, self._where.states) if self._where is not None else ""

    @cached_property
    def _digests(self) -> KnownDigests:
        if self.parts:  # each keeps its own, so that they are known whatever it is joined with
            return JoinedDigests([part._digests for part in self.parts], [len(part) for part in self.parts])
        if len(self) > MOST_LISTED:
            return PassingDigests(self._compute_digest)
        states = self.reader.states() if isinstance(self.reader, FileReader) else None
        return Digests(place_of(self.source), states, len(self), self._compute_digest)

    def _compute_digest(self, row: int) -> str:
        try:
            return digest_of(self.read(row))
        except UnreadableImage:
            return ""

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each id."""
        if isinstance(self.ids, PackedTexts):
            return self.ids.rows
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
    def codes(self) -> Codes | ManyCodes:
        """How an image of the pool can be called."""
        if isinstance(self.ids, PackedTexts):
            return ManyCodes(self.ids, self.suffixes)
        return Codes(self.ids, self.suffixes, self.rows)

    def find(self, code: str, *, longer: bool = True) -> int | None:
        """Return the row that `code` means, see `Codes.find`; None when it means no image, or more than one."""
        rows = self.codes.find(code, longer=longer)
        return rows[0] if len(rows) == 1 else None

    def row(self, code: str, *, longer: bool = True) -> int:
        """Return the row that `code` means, as `find` does. Raises `PoolError` when it means none, or several."""
        row = self.find(code, longer=longer)
        if row is None:
            raise PoolError(self.codes.explain(code, self.source))
        return row

    def some(self, rows: NDArray[np.int64], notes: Sequence[str] = ()) -> "Pool":
        """Return the pool of the images of `rows` alone, in ascending order; `notes` are added to its own."""
        ids = self.some_ids(rows)
        sizes, suffixes = ([of[row] for row in rows.tolist()] for of in (self.sizes, self.suffixes or [""] * len(self)))
        parts, reader = self._some_parts(rows), self.reader
        if parts:
            reader = JoinedReader(parts)
        elif isinstance(reader, Tars | PlainFiles | StoredFiles):
            reader = reader.some(rows)
        else:
            raise TypeError("expected a pool that was opened from files")
        notes = (*self.notes, *notes)
        return Pool(self.source, ids, sizes, reader, self.ignored, notes, suffixes, self.progress, parts)

    def some_ids(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the ids of `rows`."""
        return self.ids.take(rows) if isinstance(self.ids, PackedTexts) else [self.ids[row] for row in rows.tolist()]

    def _some_parts(self, rows: NDArray[np.int64]) -> "list[Pool]":
        starts = np.cumsum([0, *(len(part) for part in self.parts)])
        edges = np.searchsorted(rows, starts)
        each = zip(self.parts, starts, edges, edges[1:], strict=False)
        return [part.some(rows[first:last] - start) for part, start, first, last in each if first < last]

    def left_out(self) -> str:
        """Say what of the source is no image, and why; nothing where all of it is."""
        return ", ".join(f"{count:,} x {why}" for why, count in self.ignored.items())


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of an image's bytes, hex: which picture it is, whatever it is called."""
    return hashlib.sha256(content).hexdigest()


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spaced, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [place * (count - 1) // (most - 1) for place in range(most)]


def open_pool(
    source: str | Path | Sequence[str | Path], *, allow_truncated: bool = False, progress: Progress | None = None
) -> Pool:
    """Open a tar, a folder of images, a folder of tars, or shards such as `pool-{000..150}.tar` or `pool-*.tar`.

    Each may be in an object store: `s3://bucket/pool-*.tar`, `gs://`, `az://`.

    Of several such sources the images come one after the other; where one has an id that is in another before it, its
    own bear its name in front: `day2/0001`.

    A tar that ends in the middle of a member is refused, as it is an unfinished download; `allow_truncated`
    takes the whole members before the cut. Raises `PoolError`.
    """
    if not isinstance(source, str | Path):
        found = [open_pool(one, allow_truncated=allow_truncated, progress=progress) for one in source]
        return found[0] if len(found) == 1 else _join(found)
    text = local(str(source))
    if is_url(text):
        parse(text)  # one with credentials is never repeated
    name = printable(text)
    with long(progress, f"list the images of {name}"):
        places = expand(text)
        if len(places) == 1 and (folder := as_folder(places[0])) is not None:
            pool = _open_folder(folder, name, allow_truncated, progress)
        else:
            pool = _open_tars(name, _tars_among(places), Counter(), allow_truncated, progress)
    if not pool.ids:
        raise PoolError(
            f"expected images ({' '.join(sorted(SUFFIXES))}) in {name}, found {pool.left_out() or 'nothing'}"
        )
    return pool if progress is None else replace(pool, progress=progress)


def tars_of(source: str) -> Sequence[Path | StoredObject] | None:
    """Return the tars whose images `open_pool` finds in `source`; None where it is a folder."""
    places = expand(local(source))
    return None if len(places) == 1 and as_folder(places[0]) is not None else _tars_among(places)


def _tars_among(places: Sequence[Path | StoredObject | Url]) -> list[Path | StoredObject]:
    return [one for one in places if not isinstance(one, Url)]


def _join(parts: Sequence[Pool]) -> Pool:
    ids, sizes = told_apart(parts), array("q")
    for part in parts:
        sizes.extend(part.sizes)
    source, notes = ", ".join(part.source for part in parts), tuple(note for part in parts for note in part.notes)
    ignored: Counter[str] = sum((Counter(part.ignored) for part in parts), Counter())
    suffixes = TextList(of_few=True)
    for part in parts:
        suffixes.extend(part.suffixes)
    reader = JoinedReader(parts)
    return Pool(source, ids, sizes, reader, ignored, notes, suffixes.gathered(), parts[0].progress, parts)


def _open_folder(folder: Path | Url, source: str, allow_truncated: bool, progress: Progress | None) -> Pool:
    """Open a folder of images, or one of tars."""
    found = list_folder(folder)
    if not found.tars:
        reader: Reader = PlainFiles(found.paths, states_of(found.states))
        if isinstance(folder, Url):
            reader = StoredFiles(found.stored)
        return _named(source, found.stems, found.suffixes, found.sizes, reader, found.ignored)
    if found.stems:
        first = printable(found.stems[0] + found.suffixes[0])
        raise PoolError(
            f"{source} holds {len(found.tars)} tars and also loose images ({first}): expected the one or the other; "
            "put them into folders of their own"
        )
    return _open_tars(source, found.tars, found.ignored, allow_truncated, progress)


def _open_tars(
    source: str,
    places: Sequence[Path | StoredObject],
    ignored: Counter[str],
    allow_truncated: bool,
    progress: Progress | None,
) -> Pool:
    reader = Tars(places)
    stems, suffixes = TextList(), TextList(of_few=True)
    notes: list[str] = []
    for path, listing in zip(places, reader.listings(progress), strict=True):
        stems.extend(listing.stems)
        suffixes.extend(listing.suffixes)
        ignored.update(listing.ignored)
        if listing.note:
            notes.append(f"{printable(str(path))}: {listing.note}")
        if listing.cut is not None:
            cut = f"{printable(str(path))} is cut off or damaged after {counted(len(listing), 'image')} ({listing.cut})"
            if not allow_truncated:
                raise PoolError(
                    f"{cut}; fetch it again, or take the whole images before the cut with --allow-truncated"
                )
            notes.append(cut)
    ids, rest, sizes = stems.gathered(), suffixes.gathered(), reader.sizes
    if isinstance(ids, PackedTexts):
        return _named_many(source, ids, rest, sizes, reader, ignored, notes)
    return _named(source, ids, list(rest), sizes, reader, ignored, notes)


def _named_many(
    source: str,
    stems: PackedTexts,
    suffixes: Sequence[str],
    sizes: Sequence[int],
    reader: Reader,
    ignored: Counter[str],
    notes: Sequence[str] = (),
) -> Pool:
    """Do what `_named` does of very many images."""
    stems, suffixes = with_suffixes(stems, suffixes)
    if twice := stems.rows.repeated:
        _refuse_twice(source, stems[twice[0]], len(list(stems.rows.every(stems[twice[0]]))))
    return Pool(source, stems, sizes, reader, dict(ignored), tuple(notes), suffixes)


def _named(
    source: str,
    ids: list[str],
    suffixes: list[str],
    sizes: Sequence[int],
    reader: Reader,
    ignored: Counter[str],
    notes: Sequence[str] = (),
) -> Pool:
    """The pool of images whose paths are `ids` and `suffixes`.

    An id keeps the suffix where it would be another's too, or where it is another's whole path.
    """
    twice = {stem for stem, count in Counter(ids).items() if count > 1} if len(set(ids)) < len(ids) else set()
    doubled = {row for row, stem in enumerate(ids) if "." in stem[-_LONGEST:] and split_suffix(stem)[1]}
    paths = {stem + suffix for stem, suffix in zip(ids, suffixes, strict=True)} if doubled else set()
    for row in doubled | {row for row, stem in enumerate(ids) if stem in twice}:
        if ids[row] in twice or ids[row] in paths:
            ids[row], suffixes[row] = ids[row] + suffixes[row], ""
    pool = Pool(source, ids, list(sizes), reader, dict(ignored), tuple(notes), suffixes)
    if len(pool.rows) < len(ids):
        _refuse_twice(source, *Counter(ids).most_common(1)[0])
    return pool


def _refuse_twice(source: str, name: str, count: int) -> NoReturn:
    raise PoolError(
        f"the id {name!r} stands for {count} images of {source}; a path must be unique, in all shards together: "
        "rename or remove one, or give the shards in runs of their own"
    )
