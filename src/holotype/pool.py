"""The unlabelled images: a tar (read by offset, never unpacked), a folder, or webdataset shards."""

import difflib
import hashlib
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from holotype.errors import PoolError
from holotype.images import SUFFIXES


class Reader(Protocol):
    """Where the bytes of a row come from."""

    def read(self, row: int) -> bytes:
        """Return the encoded image of `row`."""


@dataclass(frozen=True)
class Pool:
    """Images in a fixed order: row `i` is the image `ids[i]`, and only its place is held in memory.

    ids        a member's path without its suffix
    sizes      bytes of each encoded image
    ignored    files that are no images, counted by suffix
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
        """Return the encoded bytes of `row`."""
        return self.reader.read(row)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each id."""
        return {name: row for row, name in enumerate(self.ids)}

    @cached_property
    def fingerprint(self) -> str:
        """Changes when an id, the order or the size of an image does."""
        digest = hashlib.sha256()
        for name, size in zip(self.ids, self.sizes, strict=True):
            digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def row(self, code: str) -> int:
        """Return the row that `code` means: an id, with or without its suffix, or an id's last part.

        Raises `PoolError` when it means none, or more than one.
        """
        name = code.removeprefix("./")
        stem = str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix.lower() in SUFFIXES else name
        for exact in (name, stem):
            if exact in self.rows:
                return self.rows[exact]
        matches = [row for row, other in enumerate(self.ids) if other.rpartition("/")[2] == stem]
        if len(matches) == 1:
            return matches[0]
        if matches:
            some = ", ".join(self.ids[row] for row in matches[:3])
            raise PoolError(f"{code!r} means {len(matches)} images of {self.source} ({some}); give the whole id")
        near = difflib.get_close_matches(stem, self.ids[:100_000], n=3, cutoff=0.5) or self.ids[:3]
        raise PoolError(f"no image {code!r} in {self.source} ({len(self)} images); ids look like {', '.join(near)}")


def open_pool(source: str | Path, *, allow_truncated: bool = False) -> Pool:
    """Open a tar, a folder of images, a folder of tars, or shards such as `pool-{000..150}.tar`.

    A tar that ends in the middle of a member is refused, as it is an unfinished download; `allow_truncated`
    takes the whole members before the cut. Raises `PoolError`.
    """
    paths = _expand(str(source))
    if len(paths) == 1 and paths[0].is_dir():
        inside = sorted(paths[0].glob("*.tar"))
        pool = _open_tars(str(source), inside, allow_truncated) if inside else _open_folder(paths[0])
    else:
        pool = _open_tars(str(source), paths, allow_truncated)
    if not pool.ids:
        seen = ", ".join(f"{count} x {suffix}" for suffix, count in pool.ignored.items()) or "nothing"
        raise PoolError(f"expected images ({' '.join(sorted(SUFFIXES))}) in {source}, found {seen}")
    _refuse_duplicates(pool)
    return pool


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
    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def read(self, row: int) -> bytes:
        return self._paths[row].read_bytes()


def _open_folder(folder: Path) -> Pool:
    paths, ignored = [], Counter[str]()
    for path in _walk(folder):
        if path.suffix.lower() in SUFFIXES and path.is_file():  # a link may lead nowhere
            paths.append(path)
        else:
            ignored[path.suffix.lower() or "(no suffix)"] += 1
    ids = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    return Pool(str(folder), ids, [path.stat().st_size for path in paths], _Files(paths), dict(ignored))


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(root, name)


class _Tars:
    """Members by offset; `os.pread` needs no lock and moves no file position."""

    def __init__(self, paths: list[Path]) -> None:
        self._files: list[BinaryIO] = []
        self.places: list[tuple[int, int, int]] = []  # shard, offset, size
        for path in paths:
            try:
                self._files.append(path.open("rb"))
            except OSError as error:
                raise PoolError(f"expected a tar at {path}, which cannot be read: {error.strerror}") from None

    def read(self, row: int) -> bytes:
        shard, offset, size = self.places[row]
        return os.pread(self._files[shard].fileno(), size, offset)

    def __del__(self) -> None:
        for file in self._files:
            file.close()


def _open_tars(source: str, paths: list[Path], allow_truncated: bool) -> Pool:
    reader, ignored = _Tars(paths), Counter[str]()
    ids: list[str] = []
    notes: list[str] = []
    for shard, path in enumerate(paths):
        before = len(ids)
        try:
            for name, offset, size in _members(path):
                suffix = PurePosixPath(name).suffix
                if suffix.lower() in SUFFIXES:
                    ids.append(name.removeprefix("./").removesuffix(suffix))
                    reader.places.append((shard, offset, size))
                else:
                    ignored[suffix.lower() or "(no suffix)"] += 1
        except tarfile.ReadError as error:
            cut = f"{path} is cut off or damaged after {len(ids) - before} images ({error})"
            if not allow_truncated:
                raise PoolError(
                    f"{cut}; fetch it again, or take the whole images before the cut with --allow-truncated"
                ) from None
            notes.append(cut)
    return Pool(source, ids, [size for _, _, size in reader.places], reader, dict(ignored), tuple(notes))


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (name, offset of the bytes, size) of each regular member that lies whole in the file."""
    length = path.stat().st_size
    try:
        archive = tarfile.open(path, "r:")  # noqa: SIM115
    except tarfile.ReadError:
        raise PoolError(f"expected an uncompressed tar at {path}; if it is compressed, uncompress it first") from None
    with archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep every member it has seen
            if member.offset_data + member.size > length:
                raise tarfile.ReadError(f"{member.name} should have {member.size} bytes")
            if member.isfile():
                yield member.name, member.offset_data, member.size
        _check_end(path, archive.offset)


def _check_end(path: Path, offset: int) -> None:
    """tarfile takes a cut or damaged header (other than the first) for the end; only zeros are."""
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
    if not block:
        raise tarfile.ReadError("the mark at the end of a tar is missing")
    if len(block) < tarfile.BLOCKSIZE or any(block):
        raise tarfile.ReadError(f"no whole header at byte {offset}")
