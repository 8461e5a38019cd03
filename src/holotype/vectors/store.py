"""Vectors by id, computed into shards that survive a kill.

On disk, in clip-retrieval's layout:

    embeddings.json                       encoder, its fingerprint, the pool's fingerprint, dim
    img_emb/img_emb_0000.npy              (m, dim) float16, the readable images of shard 0
    metadata/metadata_0000.parquet        their ids
    unreadable/unreadable_0000.json       id -> reason, of the images that have no vector
    .lock                                 held while a process writes
"""

import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.encoders.encode import Encoded, Load, encode_images
from holotype.encoders.runtimes import Encoder
from holotype.errors import EmbeddingsError
from holotype.locks import locked
from holotype.pool.pool import Pool
from holotype.progress import Progress, Silent
from holotype.vectors.embeddings import Embeddings, open_array

SHARD = 1024  # images
MANIFEST = "embeddings.json"


def shard_paths(folder: Path) -> list[Path]:
    """Return the vector files of `folder` in the order of their numbers: img_emb_10 after img_emb_9."""
    found = (folder / "img_emb").glob("img_emb_*.npy")
    return sorted(found, key=lambda path: (len(path.stem), path.stem))


def open_shard(path: Path, columns: Sequence[str] = ("id",)) -> tuple[NDArray[Any], list[str]]:
    """Return the vectors at `path` and their ids, from the first of `columns` that is there."""
    import pyarrow.parquet as pq

    array, metadata = open_array(path), _beside(path, "metadata", "parquet")
    with _explain_damage(metadata, path):
        table = pq.read_table(metadata)
        column = next((name for name in columns if name in table.column_names), None)
        ids = [] if column is None else [str(value) for value in table[column].to_pylist()]
    if column is None:
        raise EmbeddingsError(f"expected a column {' or '.join(columns)} in {metadata}, got {table.column_names}")
    if len(ids) != len(array):
        raise EmbeddingsError(f"{path} has {len(array)} vectors and {metadata} {len(ids)} ids; each vector needs one")
    return array, ids


def read_reasons(path: Path) -> dict[str, str]:
    """Return id -> reason of the unreadable images of the shard whose vectors are at `path`."""
    reasons = _beside(path, "unreadable", "json")
    with _explain_damage(reasons, path):
        return dict(json.loads(reasons.read_text()))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what `folder` says about its vectors; of others' folders, "pool" may be None. Raises `EmbeddingsError`."""
    path = folder / MANIFEST
    with _explain_damage(path, folder):
        found = dict(json.loads(path.read_text()))
        return {key: found[key] for key in ("encoder", "fingerprint", "dim")} | {"pool": found.get("pool")}


def _beside(path: Path, kind: str, suffix: str) -> Path:
    number = path.stem.removeprefix("img_emb_")
    return path.parent.parent / kind / f"{kind}_{number}.{suffix}"


@contextmanager
def _explain_damage(path: Path, vectors: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EmbeddingsError(
            f"{path} is missing or not whole ({error}); copy it again, or remove {vectors} and give the command that "
            "made it again"
        ) from None


class EmbeddingStore:
    """A folder of vectors by id that grows by whole shards; what is there is never computed again.

    Raises `EmbeddingsError` when the folder holds vectors of another encoder or another pool, or is damaged.
    """

    def __init__(self, folder: Path, encoder: Encoder, owner: str) -> None:
        self.folder = folder
        self.encoder = encoder
        self.owner = owner
        self._check_owner()

    def _check_owner(self) -> None:
        if not (self.folder / MANIFEST).exists():
            if shard_paths(self.folder):
                raise EmbeddingsError(
                    f"{self.folder} holds vectors, and no {MANIFEST} that says whose; choose another folder"
                )
            return
        found = read_manifest(self.folder)
        expected = {"fingerprint": self.encoder.fingerprint, "pool": self.owner}
        for key, what in (("fingerprint", "another encoder"), ("pool", "another pool")):
            if found[key] != expected[key]:
                raise EmbeddingsError(
                    f"{self.folder} holds vectors of {what} ({key} {str(found[key])[:12]} of {found['encoder']}, "
                    f"expected {expected[key][:12]} of {self.encoder.name}); choose another folder, or remove this one"
                )

    def shards(self) -> Iterator[tuple[Path, list[str], dict[str, str]]]:
        """Yield (path of the vectors, their ids, id -> reason of the unreadable) of each finished shard."""
        seen: set[str] = set()
        for path in shard_paths(self.folder):
            array, ids = open_shard(path)
            reasons = read_reasons(path)
            names = {*ids, *reasons}
            if array.shape[1] != self.encoder.dim or len(names) < len(ids) + len(reasons) or seen & names:
                raise EmbeddingsError(
                    f"{path} has an id twice, or not {self.encoder.dim} dimensions, so it was not written here; "
                    "remove it and give the same command again"
                )
            seen |= names
            yield path, ids, reasons

    def ensure(self, ids: Sequence[str], load: Load, progress: Progress | None = None, text: str = "encode") -> None:
        """Compute the vectors of those `ids` that are not there; `load(id)` gives what `encoder.prepare` takes.

        Interrupt it at any moment: finished shards stay, and the next call goes on behind them. Raises `OutputError`
        when the folder cannot be written, or another process writes into it.
        """
        if not self._missing(ids)[0]:
            return
        with locked(self.folder / ".lock"):
            self._prepare_folder()
            missing, number = self._missing(ids)  # again: another process may have just finished
            with (progress or Silent()).track(f"{text} ({self.encoder.name})", len(missing)) as advance:
                shard: list[Encoded] = []
                for encoded in encode_images(missing, load, self.encoder):
                    advance(len(encoded))
                    shard.append(encoded)
                    if sum(map(len, shard)) >= SHARD:
                        self._write(number, shard)
                        number, shard = number + 1, []
                if shard:
                    self._write(number, shard)

    def _missing(self, ids: Sequence[str]) -> tuple[list[str], int]:
        """Return those of `ids` that no shard has, and the number of the next shard."""
        done: set[str] = set()
        number = 0
        for path, there, reasons in self.shards():
            done.update(there, reasons)
            number = int(path.stem.removeprefix("img_emb_")) + 1
        return [name for name in dict.fromkeys(ids) if name not in done], number

    def _prepare_folder(self) -> None:
        """Claim the folder, and remove what killed processes left half-written; the lock is held."""
        self._check_owner()
        if not (self.folder / MANIFEST).exists():
            manifest = {
                "encoder": self.encoder.name,
                "fingerprint": self.encoder.fingerprint,
                "pool": self.owner,
                "dim": self.encoder.dim,
            }
            files.write(self.folder / MANIFEST, json.dumps(manifest, indent=1))
        for kind in ("img_emb", "metadata", "unreadable"):
            for part in (self.folder / kind).glob(f".{kind}_*.part"):
                with files.explain(part):
                    part.unlink()

    def take(self, ids: Sequence[str]) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Return the vectors (m, dim) of the readable `ids`, in order, and id -> reason of the others.

        Raises `EmbeddingsError` when one is not there yet (see `ensure`).
        """
        wanted = {name: place for place, name in enumerate(dict.fromkeys(ids))}
        vectors = np.zeros((len(wanted), self.encoder.dim), np.float32)
        unreadable: dict[str, str] = {}
        found: set[str] = set()
        for path, there, reasons in self.shards():
            unreadable |= {name: reason for name, reason in reasons.items() if name in wanted}
            pairs = [(wanted[name], place) for place, name in enumerate(there) if name in wanted]
            found.update(name for name in there if name in wanted)
            if pairs:
                targets, places = map(list, zip(*pairs, strict=True))
                vectors[targets] = open_array(path)[places]
        absent = [name for name in wanted if name not in found and name not in unreadable]
        if absent:
            raise EmbeddingsError(f"{self.folder} has no vector of {', '.join(absent[:3])} ({len(absent)} missing)")
        kept = [place for name, place in wanted.items() if name not in unreadable]
        return vectors[kept], unreadable

    def open(self, pool: Pool) -> Embeddings:
        """Return the vectors of all of `pool` that are there."""
        shards: list[NDArray[Any]] = []
        rows: list[int] = []
        unreadable: dict[str, str] = {}
        for path, ids, reasons in self.shards():
            array = open_array(path)
            kept = [place for place, name in enumerate(ids) if name in pool.rows]
            shards.append(array if len(kept) == len(ids) else array[kept])  # exemplars from outside are left out
            rows += [pool.rows[ids[place]] for place in kept]
            unreadable |= {name: reason for name, reason in reasons.items() if name in pool.rows}
        none = np.zeros((0, self.encoder.dim), np.float16)
        return Embeddings(shards or [none], np.array(rows, np.int64), len(pool), self.encoder.name, unreadable)

    def _write(self, number: int, shard: Sequence[Encoded]) -> None:
        """The vectors come last: a shard counts when they are there."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        ids = [name for encoded in shard for name in encoded.ids]
        unreadable = {name: reason for encoded in shard for name, reason in encoded.unreadable.items()}
        vectors = _half(np.concatenate([encoded.vectors for encoded in shard]))
        table = pa.table({"id": pa.array(ids, pa.string())})
        files.write(self.folder / "metadata" / f"metadata_{number:04d}.parquet", lambda f: pq.write_table(table, f))
        files.write(self.folder / "unreadable" / f"unreadable_{number:04d}.json", json.dumps(unreadable, indent=1))
        content = io.BytesIO()  # into a file numpy writes by itself, and of a full disk it says only "OSError"
        np.save(content, vectors)
        files.write(self.folder / "img_emb" / f"img_emb_{number:04d}.npy", content.getvalue())


def _half(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = vectors.astype(np.float16)
    if not np.isfinite(half).all():
        raise EmbeddingsError("the encoder gives values that are not finite in float16; it cannot be used")
    return half


def embed(pool: Pool, encoder: Encoder, folder: Path, progress: Progress | None = None) -> Embeddings:
    """Compute the vectors of all of `pool` into `folder`, or go on where an earlier call stopped."""
    store = EmbeddingStore(folder, encoder, pool.fingerprint)
    progress = progress or Silent()
    progress.say(f"encoder: {encoder.name}, {encoder.runtime}, {encoder.precision}, on {encoder.workers} cores")
    store.ensure(pool.ids, lambda name: pool.read(pool.rows[name]), progress, "embed")
    return store.open(pool)


def adopt(source: Path, folder: Path, encoder: Encoder, owner: str) -> None:
    """Take the vectors in `source` over into `folder`, which is not there yet, if `encoder` made them of pool `owner`.

    The copy is whole or not there. Raises `OutputError` where it cannot be made.
    """
    if folder.exists() or not (source / MANIFEST).is_file():
        return
    made = read_manifest(source)
    if (made["fingerprint"], made["pool"]) != (encoder.fingerprint, owner):
        return
    part = folder.with_name(f".{folder.name}.part")
    with files.explain(folder, part):
        shutil.rmtree(part, ignore_errors=True)  # what a run that was killed left
        shutil.copytree(source, part, copy_function=_link)
        part.rename(folder)


def _link(source: str, target: str) -> None:
    """Shards are never changed in place, so a second name is as good as a copy, where the disk allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def fingerprints(folders: Iterable[Path], owner: str) -> set[str]:
    """Return the fingerprints of what made the vectors of pool `owner` in `folders`, as far as there are any."""
    found = set()
    for folder in folders:
        with suppress(EmbeddingsError):  # no manifest, or a damaged one, which is told of where it is used
            manifest = read_manifest(folder)
            found |= {str(manifest["fingerprint"])} if manifest["pool"] == owner else set()
    return found
