"""Shards of vectors on the disk, in clip-retrieval's layout, and where in them the vector of an image is.

    embeddings.json                       encoder, its fingerprint, dim
    img_emb/img_emb_0000.npy              (m, dim) float16, the readable images of shard 0
    metadata/metadata_0000.parquet        their ids and digests; in its schema the stamp of the pool, and a digest of
                                          all that belongs to the shard
    unreadable/unreadable_0000.json       id -> reason and digest, of the images that have no vector

A vector belongs to an image's content, and so to the digest of its bytes. An id stands for it only as long as the files
of the pool are those that were read: as long as the stamps are the same.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.checksums import digest_of_values, file_digest
from holotype.encoders.runtimes import Encoder
from holotype.errors import EmbeddingsError
from holotype.filestate import FileState, regular
from holotype.pointers import refuse_pointer
from holotype.pool.exemplars import OUTSIDE
from holotype.pool.pool import Pool
from holotype.progress import Progress
from holotype.vectors.embeddings import Embeddings, ShardPart, open_array

MANIFEST = "embeddings.json"
_MOST_NUMBERS = 1 << 24  # of one vector
KINDS = {"img_emb": "npy", "metadata": "parquet", "unreadable": "json"}  # the vectors first
_STAMP, _CHECKSUM = b"stamp", b"sha256"
_States = tuple[tuple[int, FileState], ...]  # device and state of each file of a shard, through whichever link
_whole: set[_States] = set()  # shards that are as they were written


@dataclass(frozen=True)
class Unreadable:
    """Why an image has no vector. Without a digest nothing could be read at all, which may pass."""

    reason: str
    digest: str = ""


@dataclass(frozen=True, eq=False)
class Shard:
    """Some vectors, and images without.

    vectors      (m, dim), mapped into memory
    ids          m, what the images were called
    digests      m; None in a shard of an earlier version
    unreadable   id -> why
    stamp        of the pool that they were read from
    """

    path: Path
    vectors: NDArray[Any]
    ids: Sequence[str]
    digests: Sequence[str] | None
    unreadable: dict[str, Unreadable]
    stamp: str

    @property
    def number(self) -> int:
        """Which one it is in its folder."""
        return number_of(self.path)

    def __len__(self) -> int:
        return len(self.ids) + len(self.unreadable)


def shard_paths(folder: Path) -> list[Path]:
    """Return the vector files of `folder` in the order of their numbers: img_emb_10 after img_emb_9.

    What has no number, as a copy that was put beside its original, is none of them. Raises `EmbeddingsError` where they
    cannot be listed.
    """
    try:
        there = files.matching(folder / "img_emb", "img_emb_*.npy")
    except OSError as error:
        raise EmbeddingsError(
            f"the vectors in {folder} cannot be listed: {error.strerror}; let this user read it, or choose another"
        ) from error
    return sorted((path for path in there if number_of(path) >= 0), key=number_of)


def number_of(path: Path) -> int:
    """Return which shard of its folder the vectors at `path` are; -1 where its name has no number."""
    number = path.stem.removeprefix("img_emb_")
    return int(number) if number.isascii() and number.isdigit() else -1


def open_shard(path: Path, columns: Sequence[str] = ("id",)) -> tuple[NDArray[Any], list[str]]:
    """Return the vectors at `path` and their ids, from the first of `columns` that is there."""
    array, metadata = open_array(path), beside(path, "metadata")
    with _explain_damage(metadata, path):
        table = _read_table(metadata)
        column = next((name for name in columns if name in table.column_names), None)
        ids = [] if column is None else [str(value) for value in table[column].to_pylist()]
    if column is None:
        raise EmbeddingsError(f"expected a column {' or '.join(columns)} in {metadata}, got {table.column_names}")
    if len(ids) != len(array):
        raise EmbeddingsError(f"{path} has {len(array)} vectors and {metadata} {len(ids)} ids; each vector needs one")
    return array, ids


def read_shards(folder: Path) -> list[Shard]:
    """Return the shards in `folder` that were written by `write_shard`. Raises `EmbeddingsError` for a damaged one."""
    return [read_shard(path) for path in shard_paths(folder)]


def read_shard(path: Path, *, checked: bool = True) -> Shard:
    """Return the shard whose vectors are at `path`; a shard is never changed, so each is read once.

    checked   whether all of it is as it was written, which takes reading all: once, wherever else it is linked to
    """
    states = []
    for kind in KINDS:
        with _explain_damage(beside(path, kind), path):
            found = beside(path, kind).stat()
            states.append((found.st_dev, FileState.of(found).linked()))
    shard, checksum = _read_shard(path, state := tuple(states))
    if checked and checksum and state not in _whole:
        _check(shard, checksum)
        _whole.add(state)
    return shard


def _check(shard: Shard, checksum: bytes) -> None:
    """Raise `EmbeddingsError` where what belongs to `shard` is not what it was written with."""
    unreadable = beside(shard.path, "unreadable")
    with _explain_damage(unreadable, shard.path):
        digests = file_digest(shard.path), file_digest(unreadable)
        if _checksum([*digests, *shard.ids, *(shard.digests or ()), shard.stamp]) != checksum:
            raise ValueError("it, or what belongs to it, is not as it was written")


@lru_cache(maxsize=10_000)
def _read_shard(path: Path, _: _States) -> tuple[Shard, bytes]:
    array, ids = open_shard(path)
    metadata, unreadable = beside(path, "metadata"), beside(path, "unreadable")
    with _explain_damage(metadata, path):
        table = _read_table(metadata)
        digests = table["digest"].to_pylist() if "digest" in table.column_names else None
        about = table.schema.metadata or {}
        stamp = about.get(_STAMP, b"").decode()
    with _explain_damage(unreadable, path):
        reasons = {name: _unreadable(why) for name, why in dict(json.loads(regular(unreadable).read_text())).items()}
    return Shard(path, array, ids, digests, reasons, stamp), about.get(_CHECKSUM, b"")


def _checksum(parts: Sequence[str]) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest().encode()


def _unreadable(found: Any) -> Unreadable:
    """An earlier version wrote the reason alone."""
    return Unreadable(found) if isinstance(found, str) else Unreadable(found["reason"], found["digest"])


def _read_table(path: Path) -> Any:
    import pyarrow.parquet as pq

    refuse_pointer(path, EmbeddingsError)
    return pq.read_table(regular(path))


def write_shard(
    path: Path,
    ids: Sequence[str],
    digests: Sequence[str],
    vectors: NDArray[np.float16],
    unreadable: dict[str, Unreadable],
    stamp: str,
) -> None:
    """Write a shard whose vectors are at `path`; they come last, as a shard counts when they are there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": pa.array(ids, pa.string()), "digest": pa.array(digests, pa.string())})
    named = {name: {"reason": why.reason, "digest": why.digest} for name, why in unreadable.items()}
    content, reasons = as_npy(vectors), json.dumps(named, indent=1).encode()
    written = [hashlib.sha256(one).hexdigest() for one in (content, reasons)]
    about = {_STAMP: stamp.encode(), _CHECKSUM: _checksum([*written, *ids, *digests, stamp])}
    table = table.replace_schema_metadata(about)
    _write(beside(path, "metadata"), lambda file: pq.write_table(table, file))
    _write(beside(path, "unreadable"), reasons)
    _write(path, content)


def as_npy(array: NDArray[Any]) -> bytes:
    """Return a .npy: into a file numpy writes by itself, and of a full disk it says only "OSError"."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def link_shard(shard: Shard, path: Path) -> None:
    """Give `shard` a second place at `path`: as it is never changed, a link is as good as a copy, where one can be."""
    for kind in reversed(KINDS):
        source, target = beside(shard.path, kind), beside(path, kind)
        files.make_folder(target.parent)
        try:
            os.link(source, target)
        except OSError:
            files.write(target, source.read_bytes())
        else:
            files.sync(target.parent)


def beside(path: Path, kind: str) -> Path:
    """Return where what belongs to the vectors at `path` is: their "metadata", or the "unreadable"."""
    number = path.stem.removeprefix("img_emb_")
    return path.parent.parent / kind / f"{kind}_{number}.{KINDS[kind]}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what `folder` says about its vectors. Raises `EmbeddingsError`.

    "pool" is the fingerprint of the pool that shards without digests are of; None where there need be none.
    """
    path = folder / MANIFEST
    with _explain_damage(path, folder):
        found = dict(json.loads(regular(path).read_text()))
        if type(found["dim"]) is not int or not 0 < found["dim"] <= _MOST_NUMBERS:
            raise TypeError(f"dim is {found['dim']!r}")
        if found.get("digest") not in (None, digest_of_values(found)):
            raise ValueError("it is not as it was written")
        return {key: found[key] for key in ("encoder", "fingerprint", "dim")} | {"pool": found.get("pool")}


def write_manifest(folder: Path, encoder: Encoder) -> None:
    """Say in `folder` whose the vectors there are."""
    _write(folder / MANIFEST, _manifest(encoder))


def claim_folder(folder: Path, encoder: Encoder) -> str:
    """Say in `folder` whose the vectors there are, unless another process was first; return whose, as a fingerprint."""
    if not (folder / MANIFEST).exists():
        files.write_first(folder / MANIFEST, _manifest(encoder))
    return str(read_manifest(folder)["fingerprint"])


def _manifest(encoder: Encoder) -> str:
    found = {"encoder": encoder.name, "fingerprint": encoder.fingerprint, "dim": encoder.dim}
    return json.dumps(found | {"digest": digest_of_values(found)}, indent=1)


def _write(path: Path, content: bytes | str | Callable[[BinaryIO], None]) -> None:
    """Write what a command reads back: a pipe in its place is none of ours to write into."""
    try:
        regular(path)
    except OSError:
        path.unlink()
    files.write(path, content)


@contextmanager
def _explain_damage(path: Path, vectors: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RecursionError, ValueError, TypeError, KeyError) as error:
        raise EmbeddingsError(
            f"{path} is missing or not whole ({error}); copy it again, or remove {vectors} and give the command that "
            "made it again"
        ) from None


@dataclass(frozen=True, eq=False)
class Located:
    """Where images are in some shards.

    places       id -> shard and place in it
    unreadable   id -> why it has no vector
    """

    places: dict[str, tuple[Shard, int]] = field(default_factory=dict)
    unreadable: dict[str, Unreadable] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.places or name in self.unreadable


def find_images(
    shards: Iterable[Shard],
    names: Sequence[str],
    pool: Pool,
    owner: str | None = None,
    progress: Progress | None = None,
) -> Located:
    """Return where in `shards` the images `names` of `pool` are: by id where its files are the same, else by content.

    A name that is none of the pool is a content of its own (`OUTSIDE`, or a view).

    owner   fingerprint of the pool that shards without digests are of: in another one they fit no image
    """
    shards, wanted, found = list(shards), set(names), Located()
    for shard in shards:
        if is_of(shard, pool, owner):
            found.places.update({name: (shard, place) for place, name in enumerate(shard.ids) if name in wanted})
            found.unreadable.update({name: why for name, why in shard.unreadable.items() if name in wanted})
    unread = {name for name, why in found.unreadable.items() if not why.digest}  # another shard may have it by now
    rest = [name for name in dict.fromkeys(names) if name not in found or name in unread]
    others = [shard for shard in shards if shard.digests is not None]
    if rest and not all(is_of(shard, pool, owner) for shard in others):
        _find_contents(others, contents_of(rest, pool, progress), found)
    for name in found.places.keys() & found.unreadable.keys():  # it could not be read at first
        del found.unreadable[name]
    return found


def is_of(shard: Shard, pool: Pool, owner: str | None) -> bool:
    """Whether the ids of `shard` mean the same images in `pool`, by what costs no reading."""
    if shard.digests is None:
        return owner is not None and owner == pool.fingerprint
    return bool(shard.stamp) and shard.stamp == pool.stamp


def fits(shards: Iterable[Shard], pool: Pool, owner: str | None) -> bool:
    """Whether any of `shards` holds images of `pool` for the most part; no more of them are taken than tell it."""
    digests: list[set[str]] = []
    for shard in shards:
        if is_of(shard, pool, owner):
            return True
        digests += [set(shard.digests)] if shard.digests else []
    return any(len(some & pool.by_digest.keys()) * 2 > len(some) for some in digests)


def _find_contents(shards: Sequence[Shard], contents: Mapping[str, str], found: Located) -> None:
    places = {digest: (shard, place) for shard in reversed(shards) for place, digest in enumerate(shard.digests or ())}
    reasons = {why.digest: why for shard in shards for why in shard.unreadable.values() if why.digest}
    for name, content in contents.items():
        if content in places:
            found.places[name] = places[content]
        elif content in reasons:
            found.unreadable[name] = reasons[content]


def contents_of(names: Sequence[str], pool: Pool, progress: Progress | None = None) -> dict[str, str]:
    """Return name -> digest, or what stands for it; without those of `pool` that cannot be read."""
    rows = {name: row for name in names if (row := pool.rows.get(name)) is not None}
    inside = dict(zip(rows, pool.digests(list(rows.values()), progress), strict=True))
    outside = {name: name.removeprefix(OUTSIDE) for name in names if name not in rows}
    return {name: content for name, content in (inside | outside).items() if content}


def aligned(found: Located, pool: Pool, dim: int, encoder: str | None) -> Embeddings:
    """Return the vectors that were found for the images of `pool`, as its rows have them."""
    shards: list[Any] = []
    rows: list[int] = []
    for shard, placed in by_shard(found.places):
        pairs = sorted((place, pool.rows[name]) for name, place in placed.items())
        places = np.array([place for place, _ in pairs], np.int64)
        whole = np.array_equal(places, np.arange(len(shard.vectors)))
        shards.append(shard.vectors if whole else ShardPart(shard.vectors, places))  # others' images are left out
        rows += [row for _, row in pairs]
    none = np.zeros((0, dim), np.float16)
    unreadable = {name: why.reason for name, why in found.unreadable.items()}
    return Embeddings(shards or [none], np.array(rows, np.int64), len(pool), encoder, unreadable)


def by_shard(places: Mapping[str, tuple[Shard, int]]) -> list[tuple[Shard, dict[str, int]]]:
    """Return each shard with name -> place of what is in it, in the order of their numbers."""
    found: dict[Path, tuple[Shard, dict[str, int]]] = {}
    for name, (shard, place) in places.items():
        found.setdefault(shard.path, (shard, {}))[1][name] = place
    return sorted(found.values(), key=lambda one: one[0].number)
