"""Vectors by image, computed into shards that survive a kill, and used again wherever they are.

A store is a folder of shards (see `shards`) with a `.lock`, which is held while a process writes. What it lacks is
taken from other folders of the same encoder, and computed where none has it.
"""

import itertools
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.encoders.encode import Encoded, Load, encode_parts
from holotype.encoders.runtimes import Encoder
from holotype.errors import EmbeddingsError, HolotypeWarning, PoolError
from holotype.locks import locked
from holotype.names import counted
from holotype.pool.pool import Pool, spread
from holotype.progress import Progress, Silent
from holotype.stores.copies import refuse_url
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.shards import (
    KINDS,
    MANIFEST,
    Located,
    Shard,
    Unreadable,
    aligned,
    by_shard,
    claim_folder,
    contents_of,
    find_images,
    is_of,
    link_shard,
    number_of,
    read_manifest,
    read_shard,
    shard_paths,
    write_manifest,
    write_shard,
)

SHARD = 1024  # images
_MANY = 10**9  # numbers, of which two writers hardly take the same
_SAMPLED = 64  # images that tell whether a folder holds any of a pool
_Part = tuple[int | None, Sequence[str]]  # what becomes one shard, and the block of the pool that it is of, if it is
_Cut = Callable[[Sequence[str]], Iterable[_Part]]


class EmbeddingStore:
    """A folder of vectors by image that grows by whole shards; what is there is never computed again.

    pool     whose images it is asked for; it may hold those of others as well
    others   folders that may hold them too: what is there is taken over

    Raises `EmbeddingsError` when the folder holds vectors of another encoder, or is damaged.
    """

    def __init__(self, folder: Path, encoder: Encoder, pool: Pool, others: Sequence[Path] = ()) -> None:
        self.folder = refuse_url(folder)
        self.encoder = encoder
        self.pool = pool
        self.others = others
        self._alone = True  # where a file system has no locks, nobody knows
        self._tried: set[str] = set()  # images that could not be read at all
        self._owner = self._check_encoder()

    def _check_encoder(self) -> str | None:
        """Return the fingerprint of the pool that vectors of an earlier version are of, if there are any."""
        ours = self.folder.name == self.encoder.name_on_disk  # its name says whose they are
        self._is_named = (self.folder / MANIFEST).exists()
        if not self._is_named:
            if shard_paths(self.folder) and not ours:
                raise EmbeddingsError(
                    f"{self.folder} holds vectors, and no {MANIFEST} that says whose; choose another folder"
                )
            return None
        try:
            found = read_manifest(self.folder)
        except EmbeddingsError as error:
            if not ours:
                raise
            _warn(f"{error}; it is written again")
            self._is_named = False
            return None
        if found["fingerprint"] != self.encoder.fingerprint:
            raise EmbeddingsError(
                f"{self.folder} holds vectors of another encoder (fingerprint {str(found['fingerprint'])[:12]} of "
                f"{found['encoder']}, expected {self.encoder.fingerprint[:12]} of {self.encoder.name}); choose another "
                "folder, or remove this one"
            )
        return None if found["pool"] is None else str(found["pool"])

    def shards(self) -> list[Shard]:
        """Return the finished shards; a damaged one is left aside."""
        return self._sound(shard_paths(self.folder))

    def _sound(self, paths: Iterable[Path]) -> list[Shard]:
        found = _readable(paths, ", and its vectors are computed again")
        for shard in found:
            if shard.vectors.shape[1] != self.encoder.dim:
                raise EmbeddingsError(
                    f"{shard.path} has not {self.encoder.dim} dimensions, so it was not written here; remove it and "
                    "give the same command again"
                )
        return found

    def embed(self, progress: Progress | None = None) -> Embeddings:
        """Compute the vectors of the whole pool, or go on where an earlier call stopped."""
        progress, pool, encoder = progress or Silent(), self.pool, self.encoder
        progress.say(f"encoder: {encoder.name}, {encoder.runtime}, {encoder.precision}, on {encoder.workers} cores")
        if any(one.digests is None and not is_of(one, pool, self._owner) for one in self.shards()):
            progress.say(f"{self.folder}: vectors of an earlier version are of another state of the pool; left aside")
        self._fill(pool.ids, self._read, progress, "embed", self._by_block)
        return self.open()

    def embed_blocks(self, blocks: Iterable[int], progress: Progress | None = None) -> None:
        """Compute the vectors of some blocks of the pool, while other processes compute others.

        Block k is rows SHARD * k to SHARD * (k + 1), and its vectors are img_emb_k: the same bytes whoever computes
        them, so that of two who do, it is no matter who was last. What is there is not computed again; folders
        elsewhere are not looked into. Interrupt it at any moment: a block is there as a whole or not at all. Raises
        `OutputError` when the folder cannot be written, or a process that does not work on blocks writes into it.
        """
        progress = progress or Silent()
        with locked(self.folder / ".lock", shared=True):
            claim_folder(self.folder, self.encoder)
            self._check_encoder()
            parts = [(block, missing) for block in blocks if (missing := self._missing_of(block))]
            if parts:
                self._encode(parts, self._read, progress, "embed")
        self.pool.keep_digests()

    def count_blocks(self) -> int:
        """Return how many blocks the pool has."""
        return -(-len(self.pool) // SHARD)

    def missing_blocks(self) -> list[int]:
        """Return the blocks with an image of which no shard says anything yet; no vector is read for it."""
        shards = _readable(shard_paths(self.folder), checked=False)
        found = find_images(shards, self.pool.ids, self.pool, self._owner)
        self.pool.keep_digests()
        return sorted({row // SHARD for row, name in enumerate(self.pool.ids) if name not in found})

    def _missing_of(self, block: int) -> list[str]:
        """Return the ids of `block` that none of the shards has which may be of it."""
        paths = [path for path in self._places(block) if path.exists()]
        names = list(self.pool.ids[SHARD * block : SHARD * (block + 1)])
        if not paths:
            return names
        return self._absent(find_images(self._sound(paths), names, self.pool, self._owner), names)

    def _places(self, block: int) -> list[Path]:
        """Return where a shard of `block` may be, and last where the next one goes: no other block takes it."""
        numbers = itertools.count(block, self.count_blocks())
        places = [self._path(block)]
        next(numbers)
        while places[-1].exists():  # of other images than these, or of some of them
            places.append(self._path(next(numbers)))
        return places

    def _by_block(self, names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield each block of the pool that holds some of `names`, and these in the order of the pool."""
        rows = sorted(self.pool.rows[name] for name in names)
        for block, some in itertools.groupby(rows, key=lambda row: row // SHARD):
            yield block, [self.pool.ids[row] for row in some]

    def _read(self, name: str) -> bytes:
        return self.pool.read(self.pool.rows[name])

    def ensure(self, ids: Sequence[str], load: Load, progress: Progress | None = None, text: str = "encode") -> None:
        """Compute the vectors of those `ids` that are not there; `load(id)` gives what `encoder.prepare` takes.

        Interrupt it at any moment: what is finished stays, and the next call goes on behind it. Raises `OutputError`
        when the folder cannot be written, or another process writes into it.
        """
        self._fill(ids, load, progress or Silent(), text, _in_order)

    def _fill(self, ids: Sequence[str], load: Load, progress: Progress, text: str, cut: _Cut) -> None:
        if self._is_named and not self._missing(ids, progress):
            return
        with locked(self.folder / ".lock") as lock:
            self._alone = lock.safe
            self._prepare_folder()
            missing = self._take_over(self._missing(ids, progress), progress)  # another process may have just finished
            if missing:
                self._encode(list(cut(missing)), load, progress, text)
        self.pool.keep_digests()

    def _encode(self, parts: Sequence[_Part], load: Load, progress: Progress, text: str) -> None:
        """Compute a shard of each part; one that is a block of the pool is written as a whole or not at all."""
        names = [some for _, some in parts]
        with progress.track(f"{text} ({self.encoder.name})", sum(map(len, names))) as advance:
            found = encode_parts(names, load, self.encoder)
            for block, some in parts:
                shard: list[Encoded] = []
                try:
                    while sum(map(len, shard)) < len(some):
                        shard.append(next(found))
                        advance(len(shard[-1]))
                except (KeyboardInterrupt, PoolError):  # what was read until then is right
                    if block is None:
                        self._write_encoded(shard, None)
                    raise
                self._write_encoded(shard, block)

    def _write_encoded(self, shard: Sequence[Encoded], block: int | None) -> None:
        if not shard:
            return
        digests = {name: digest for encoded in shard for name, digest in encoded.digests.items()}
        reasons = {name: reason for encoded in shard for name, reason in encoded.unreadable.items()}
        unreadable = {name: Unreadable(reason, digests.get(name, "")) for name, reason in reasons.items()}
        unread = {name for name, why in unreadable.items() if not why.digest}
        self._tried |= unread
        known = self._find(list(unread)).unreadable if unread else {}
        for name in unread & known.keys():
            if known[name].reason == reasons[name]:  # it is noted already
                del unreadable[name]
        ids = [name for encoded in shard for name in encoded.ids]
        rows = self.pool.rows
        self.pool.note_digests({rows[name]: digest for name, digest in digests.items() if name in rows})
        if ids or unreadable:
            vectors = _half(np.concatenate([encoded.vectors for encoded in shard]))
            if block is not None and not unread and not self._missing_of(block):
                return  # another process was faster; of two at once, the last writes the same bytes to the same place
            path = self._next() if block is None or not self._alone else self._places(block)[-1]
            write_shard(path, ids, [digests.get(name, name) for name in ids], vectors, unreadable, self.pool.stamp)

    def _missing(self, ids: Sequence[str], progress: Progress | None = None) -> list[str]:
        """Return those of `ids` that no shard has. What could not be read at all is tried again, once."""
        return self._absent(self._find(ids, progress), ids)

    def _absent(self, found: Located, ids: Sequence[str]) -> list[str]:
        again = {name for name, why in found.unreadable.items() if not why.digest} - self._tried
        return [name for name in dict.fromkeys(ids) if name not in found or name in again]

    def _find(self, ids: Sequence[str], progress: Progress | None = None) -> Located:
        return find_images(self.shards(), ids, self.pool, self._owner, progress)

    def _prepare_folder(self) -> None:
        """Claim the folder, and remove what killed processes left half-written; the lock is held."""
        self._owner = self._check_encoder()
        if not self._is_named:
            write_manifest(self.folder, self.encoder)
        of_shards = (part for kind in KINDS for part in (self.folder / kind).glob(f".{kind}_*.part"))
        for part in (*self.folder.glob(f".{MANIFEST}.*.part"), *of_shards) if self._alone else ():
            with files.explain(part):
                part.unlink()

    def _take_over(self, names: list[str], progress: Progress) -> list[str]:
        """Take what other folders have of `names`; return what none has. The lock is held."""
        for folder in self.others:
            if not names:
                break
            with suppress(EmbeddingsError):  # whose vectors they are is not said: told of where they are asked for
                names = self._take_from(folder, names, progress)
        return names

    def _take_from(self, folder: Path, names: list[str], progress: Progress) -> list[str]:
        manifest = read_manifest(folder)
        if manifest["fingerprint"] != self.encoder.fingerprint or folder.absolute() == self.folder.absolute():
            return names
        shards, owner = _readable(shard_paths(folder), checked=False), manifest["pool"]
        if not self._holds_some(shards, names, owner):
            return names
        shards, found = self._find_whole(shards, names, owner, progress)
        unreadable = {name: why for name, why in found.unreadable.items() if why.digest}
        places = dict(found.places)
        rest = [name for name in names if name not in places and name not in unreadable]
        if len(rest) == len(names):  # it has others of the pool
            return names
        progress.say(f"{counted(len(names) - len(rest), 'vector')} of {self.encoder.name} are taken from {folder}")
        for shard, placed in by_shard(found.places):
            if shard.digests is not None and set(placed.values()) == set(range(len(shard.ids))):
                link_shard(shard, self._next())
                linked = {why.digest for why in shard.unreadable.values()}
                places = {name: place for name, place in places.items() if name not in placed}
                unreadable = {name: why for name, why in unreadable.items() if why.digest not in linked}
        self._copy(places, unreadable)
        return rest

    def _find_whole(
        self, shards: list[Shard], names: Sequence[str], owner: str | None, progress: Progress
    ) -> tuple[list[Shard], Located]:
        """Find `names` in `shards`; what is used of them is checked. Return those left as well."""
        found = find_images(shards, names, self.pool, owner, progress)
        used = {shard.path for shard, _ in found.places.values()}
        used |= {shard.path for shard in shards if found.unreadable and shard.unreadable}
        damaged = used - {shard.path for shard in _readable(sorted(used))}
        if not damaged:
            return shards, found
        return self._find_whole([one for one in shards if one.path not in damaged], names, owner, progress)

    def _holds_some(self, shards: Sequence[Shard], names: Sequence[str], owner: str | None) -> bool:
        """Whether `shards` have any of `names`, by a sample of them where it costs reading."""
        if any(is_of(shard, self.pool, owner) for shard in shards):
            return True
        digests = {digest for shard in shards for digest in shard.digests or ()}
        sample = [names[place] for place in spread(len(names), _SAMPLED)]
        return bool(digests) and not digests.isdisjoint(contents_of(sample, self.pool).values())

    def _copy(self, places: dict[str, tuple[Shard, int]], unreadable: dict[str, Unreadable]) -> None:
        """Write images that are in shards elsewhere into shards of this folder."""
        names = list(places)
        for start in range(0, max(len(names), bool(unreadable)), SHARD):
            some = names[start : start + SHARD]
            vectors = _taken(some, places, self.encoder.dim, np.float16)
            contents = contents_of(some, self.pool)
            digests = [contents.get(name, "") for name in some]
            write_shard(self._next(), some, digests, vectors, unreadable, self.pool.stamp)
            unreadable = {}

    def _next(self) -> Path:
        """Where the vectors of the next shard go."""
        number = max(map(number_of, shard_paths(self.folder)), default=-1) + 1
        if not self._alone:  # another writer may count to the same
            number += secrets.randbelow(_MANY)
        return self._path(number)

    def _path(self, number: int) -> Path:
        return self.folder / "img_emb" / f"img_emb_{number:04d}.npy"

    def take(self, ids: Sequence[str]) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Return the vectors (m, dim) of the readable `ids`, in order, and id -> reason of the others.

        Raises `EmbeddingsError` when one is not there yet (see `ensure`).
        """
        names = list(dict.fromkeys(ids))
        found = self._find(names)
        absent = [name for name in names if name not in found]
        if absent:
            raise EmbeddingsError(f"{self.folder} has no vector of {', '.join(absent[:3])} ({len(absent)} missing)")
        kept = [name for name in names if name in found.places]
        unreadable = {name: why.reason for name, why in found.unreadable.items()}
        return _taken(kept, found.places, self.encoder.dim, np.float32), unreadable

    def open(self, ids: Sequence[str] | None = None) -> Embeddings:
        """Return the vectors that are there: of all of the pool, or of those of its images that are in `ids`."""
        wanted = None if ids is None else set(ids)
        names = [name for name in self.pool.ids if wanted is None or name in wanted]
        return aligned(self._find(names), self.pool, self.encoder.dim, self.encoder.name)


def _readable(paths: Iterable[Path], then: str = "", *, checked: bool = True) -> list[Shard]:
    """Return the shards at `paths`; a damaged one is named and left aside."""
    found = []
    for path in paths:
        try:
            found.append(read_shard(path, checked=checked))
        except EmbeddingsError as error:
            warnings.warn(f"{path} is left aside{then}: {error}", HolotypeWarning, stacklevel=3)
    return found


def _taken(names: Sequence[str], places: dict[str, tuple[Shard, int]], dim: int, kind: Any) -> NDArray[Any]:
    """(m, dim) the vectors of `names`, in order."""
    vectors = np.zeros((len(names), dim), kind)
    targets = {name: target for target, name in enumerate(names)}
    for shard, placed in by_shard({name: places[name] for name in names}):
        vectors[[targets[name] for name in placed]] = shard.vectors[list(placed.values())]
    return vectors


def _in_order(names: Sequence[str]) -> Iterator[_Part]:
    """Cut `names` into shards that are no blocks of a pool."""
    for start in range(0, len(names), SHARD):
        yield None, names[start : start + SHARD]


def _warn(text: str) -> None:
    warnings.warn(text, HolotypeWarning, stacklevel=3)


def _half(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = vectors.astype(np.float16)
    if not np.isfinite(half).all():
        raise EmbeddingsError("the encoder gives values that are not finite in float16; it cannot be used")
    return half


def embed(pool: Pool, encoder: Encoder, folder: Path, progress: Progress | None = None) -> Embeddings:
    """Compute the vectors of all of `pool` into `folder`, or go on where an earlier call stopped."""
    return EmbeddingStore(folder, encoder, pool).embed(progress)
