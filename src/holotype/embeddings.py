"""Vectors by id: computed into shards that survive a kill, or imported with guards.

On disk, in clip-retrieval's layout:

    embeddings.json                       encoder, its fingerprint, the pool's fingerprint, dim
    img_emb/img_emb_0000.npy              (m, dim) float16, the readable images of shard 0
    metadata/metadata_0000.parquet        their ids
    unreadable/unreadable_0000.json       id -> reason, of the images that have no vector
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.encoders import Encoder
from holotype.errors import EmbeddingsError, UnreadableImage
from holotype.images import Pixels
from holotype.pool import Pool
from holotype.progress import Progress, Silent

SHARD = 1024
BATCH = 16
_BLOCK = 8192
_WORKERS = 2
MANIFEST = "embeddings.json"

Load = Callable[[str], Any]


@dataclass(frozen=True)
class Embeddings:
    """Vectors aligned with a pool by id.

    shards   memory-mapped (m, dim) arrays, one after the other
    rows     the pool row of each vector, in the order of the shards; an image without a vector has none
    size     rows of the pool
    encoder  its name, if known
    """

    shards: Sequence[NDArray[Any]]
    rows: NDArray[np.int64]
    size: int
    encoder: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self.shards[0].shape[1])

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """(size,) whether a pool row has a vector."""
        present = np.zeros(self.size, dtype=bool)
        present[self.rows] = True
        return present

    @cached_property
    def _place(self) -> NDArray[np.int64]:
        place = np.zeros(self.size, dtype=np.int64)
        place[self.rows] = np.arange(len(self.rows))
        return place

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(len(shard) for shard in self.shards)])

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield (pool rows, unit-length float32 vectors) block by block; the matrix is never held whole."""
        for start, shard in zip(self._starts, self.shards, strict=False):
            for first in range(0, len(shard), _BLOCK):
                block = unit(shard[first : first + _BLOCK])
                yield self.rows[start + first : start + first + len(block)], block

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the unit-length vectors (m, dim) float32 of pool `rows`. Raises `EmbeddingsError`."""
        wanted = np.asarray(rows, dtype=np.int64)
        if not self.present[wanted].all():
            raise EmbeddingsError(f"rows {wanted[~self.present[wanted]][:5].tolist()} have no vector")
        place = self._place[wanted]
        shard = np.searchsorted(self._starts, place, side="right") - 1
        found = np.empty((len(wanted), self.dim), dtype=np.float32)
        for number in np.unique(shard):
            here = shard == number
            found[here] = self.shards[number][place[here] - self._starts[number]]
        return unit(found)


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Scale rows to length 1; float32."""
    floats = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(floats, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = floats / np.maximum(norms, 1e-12)
    return scaled


class EmbeddingStore:
    """A folder of vectors by id that grows by whole shards; what is there is never computed again.

    Raises `EmbeddingsError` when the folder holds vectors of another encoder or another pool.
    """

    def __init__(self, folder: Path, encoder: Encoder, owner: str) -> None:
        self.folder = folder
        self.encoder = encoder
        self.owner = owner
        manifest: dict[str, Any] = {
            "encoder": encoder.name,
            "fingerprint": encoder.fingerprint,
            "pool": owner,
            "dim": encoder.dim,
        }
        path = folder / MANIFEST
        if not path.exists():
            files.write(path, json.dumps(manifest, indent=1))
        found = json.loads(path.read_text())
        for key, what in (("fingerprint", "another encoder"), ("pool", "another pool")):
            if found.get(key) != manifest[key]:
                raise EmbeddingsError(
                    f"{folder} holds vectors of {what} ({key} {str(found.get(key))[:12]} of {found.get('encoder')}, "
                    f"expected {manifest[key][:12]} of {encoder.name}); choose another folder, or remove this one"
                )

    def shards(self) -> Iterator[tuple[Path, list[str], dict[str, str]]]:
        """Yield (path of the vectors, their ids, id -> reason of the unreadable) of each finished shard."""
        import pyarrow.parquet as pq

        for path in sorted((self.folder / "img_emb").glob("img_emb_*.npy")):
            number = path.stem.removeprefix("img_emb_")
            ids = pq.read_table(self.folder / "metadata" / f"metadata_{number}.parquet")["id"].to_pylist()
            reasons = json.loads((self.folder / "unreadable" / f"unreadable_{number}.json").read_text())
            yield path, ids, reasons

    def ensure(self, ids: Sequence[str], load: Load, progress: Progress | None = None, text: str = "encode") -> None:
        """Compute the vectors of those `ids` that are not there; `load(id)` gives what `encoder.prepare` takes.

        Interrupt it at any moment: finished shards stay, and the next call goes on behind them.
        """
        done: set[str] = set()
        count = 0
        for _path, there, reasons in self.shards():
            done.update(there, reasons)
            count += 1
        missing = [name for name in dict.fromkeys(ids) if name not in done]
        if not missing:
            return
        name = self.encoder.name
        with (progress or Silent()).track(f"{text} ({name})", len(missing)) as advance:
            for number, shard in enumerate(_chunks(missing, SHARD), start=count):
                self._write(number, *_encode(shard, load, self.encoder, advance))

    def take(self, ids: Sequence[str]) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Return the vectors (m, dim) of the readable `ids`, in order, and id -> reason of the others."""
        wanted = {name: place for place, name in enumerate(dict.fromkeys(ids))}
        vectors = np.zeros((len(wanted), self.encoder.dim), np.float32)
        unreadable: dict[str, str] = {}
        for path, there, reasons in self.shards():
            unreadable |= {name: reason for name, reason in reasons.items() if name in wanted}
            pairs = [(wanted[name], place) for place, name in enumerate(there) if name in wanted]
            if pairs:
                targets, places = map(list, zip(*pairs, strict=True))
                vectors[targets] = np.load(path, mmap_mode="r", allow_pickle=False)[places]
        kept = [place for name, place in wanted.items() if name not in unreadable]
        return vectors[kept], unreadable

    def open(self, pool: Pool) -> Embeddings:
        """Return the vectors of all of `pool` that are there."""
        shards: list[NDArray[Any]] = []
        rows: list[int] = []
        unreadable: dict[str, str] = {}
        for path, ids, reasons in self.shards():
            shards.append(np.load(path, mmap_mode="r", allow_pickle=False))
            rows += [pool.rows[name] for name in ids]
            unreadable |= reasons
        return Embeddings(shards, np.array(rows, np.int64), len(pool), self.encoder.name, unreadable)

    def _write(self, number: int, ids: list[str], vectors: NDArray[np.float16], unreadable: dict[str, str]) -> None:
        """The vectors come last: a shard counts when they are there."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"id": pa.array(ids, pa.string())})
        files.write(self.folder / "metadata" / f"metadata_{number:04d}.parquet", lambda f: pq.write_table(table, f))
        files.write(self.folder / "unreadable" / f"unreadable_{number:04d}.json", json.dumps(unreadable, indent=1))
        files.write(self.folder / "img_emb" / f"img_emb_{number:04d}.npy", lambda f: np.save(f, vectors))


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _encode(
    ids: Sequence[str], load: Load, encoder: Encoder, advance: Callable[[int], None]
) -> tuple[list[str], NDArray[np.float16], dict[str, str]]:
    """Decode ahead in threads, encode in batches; an unreadable image is set aside with its reason."""
    readable: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    unreadable: dict[str, str] = {}

    def prepare(name: str) -> Pixels | UnreadableImage:
        try:
            return encoder.prepare(load(name))
        except UnreadableImage as error:
            return error
        except OSError as error:
            return UnreadableImage(f"cannot be read: {error}")

    with ThreadPoolExecutor(_WORKERS) as threads:
        batches = _chunks(ids, BATCH)
        ahead = [(batch, [threads.submit(prepare, name) for name in batch]) for batch in islice(batches, 4)]
        while ahead:
            batch, futures = ahead.pop(0)
            ahead += [(more, [threads.submit(prepare, name) for name in more]) for more in islice(batches, 1)]
            pixels = []
            for name, future in zip(batch, futures, strict=True):
                result = future.result()
                if isinstance(result, UnreadableImage):
                    unreadable[name] = str(result)
                else:
                    readable.append(name)
                    pixels.append(result)
            if pixels:
                vectors.append(encoder.encode(np.stack(pixels)))
            advance(len(batch))
    stacked = np.concatenate(vectors) if vectors else np.zeros((0, encoder.dim), np.float32)
    return readable, _half(stacked), unreadable


def _half(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = vectors.astype(np.float16)
    if not np.isfinite(half).all():
        raise EmbeddingsError("the encoder gives values that are not finite in float16; it cannot be used")
    return half


def embed(pool: Pool, encoder: Encoder, folder: Path, progress: Progress | None = None) -> Embeddings:
    """Compute the vectors of all of `pool` into `folder`, or go on where an earlier call stopped."""
    store = EmbeddingStore(folder, encoder, pool.fingerprint)
    store.ensure(pool.ids, lambda name: pool.read(pool.rows[name]), progress, "embed")
    return store.open(pool)


def import_embeddings(source: Path, pool: Pool) -> Embeddings:
    """Take vectors that somebody computed: a bare .npy, or a folder in clip-retrieval's layout.

    In a bare .npy, row `i` belongs to the image with id `i`, or to line `i` of `<name>.ids.txt` beside it.
    Raises `EmbeddingsError` where count, ids, rank, type or values do not fit the pool.
    """
    if not source.exists():
        raise EmbeddingsError(f"expected embeddings at {source}, and there is no such file or folder")
    encoder: str | None = None
    unreadable: dict[str, str] = {}
    ids: list[str] | None
    if source.is_dir():
        paths = sorted((source / "img_emb").glob("img_emb_*.npy"))
        ids = [name for path in paths for name in _shard_ids(source, path)]
        if (source / MANIFEST).exists():
            encoder = json.loads((source / MANIFEST).read_text())["encoder"]
            for path in sorted((source / "unreadable").glob("*.json")):
                unreadable |= json.loads(path.read_text())
    else:
        paths = [source]
        ids = _sidecar_ids(source)
    if not paths:
        raise EmbeddingsError(f"expected img_emb/img_emb_0.npy in {source}, found none")
    shards = [_open_array(path) for path in paths]
    count = sum(len(shard) for shard in shards)
    if ids is None:
        ids = _integer_ids(source, pool, count)
    rows = _align(source, ids, count, pool, unreadable)
    for path, shard in zip(paths, shards, strict=True):
        _refuse_bad_rows(path, shard)
    return Embeddings(shards, rows, len(pool), encoder, unreadable)


def _open_array(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise EmbeddingsError(f"expected a plain array of numbers in {path}: {error}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or 0 in array.shape:
        found = f"{array.shape} of {array.dtype}" if isinstance(array, np.ndarray) else "an archive of arrays"
        raise EmbeddingsError(f"expected a float array of shape (images, dimensions) in {path}, got {found}")
    return array


def _shard_ids(folder: Path, path: Path) -> list[str]:
    import pyarrow.parquet as pq

    number = path.stem.removeprefix("img_emb_")
    metadata = folder / "metadata" / f"metadata_{number}.parquet"
    if not metadata.exists():
        raise EmbeddingsError(f"expected the ids of {path} in {metadata}, and there is no such file")
    table = pq.read_table(metadata)
    for column in ("id", "image_path", "key"):
        if column in table.column_names:
            return [str(value) for value in table[column].to_pylist()]
    raise EmbeddingsError(f"expected a column id, image_path or key in {metadata}, got {table.column_names}")


def _sidecar_ids(source: Path) -> list[str] | None:
    sidecar = source.with_suffix(".ids.txt")
    return sidecar.read_text().splitlines() if sidecar.exists() else None


def _integer_ids(source: Path, pool: Pool, count: int) -> list[str]:
    if count != len(pool):
        raise EmbeddingsError(
            f"{source} has {count} rows and {pool.source} has {len(pool)} images: they do not belong together, or "
            f"one is not whole. If ids are given for the rows, put them line by line into {source.stem}.ids.txt"
        )
    by_number = {name.rpartition("/")[2].lstrip("0") or "0": name for name in pool.ids}
    missing = [i for i in range(count) if str(i) not in by_number]
    if missing:
        raise EmbeddingsError(
            f"row i of {source} belongs to the image with id i, but {pool.source} has no image {missing[0]} "
            f"({len(missing)} missing; ids look like {', '.join(pool.ids[:3])}). "
            f"Put the id of each row line by line into {source.stem}.ids.txt"
        )
    return [by_number[str(i)] for i in range(count)]


def _align(source: Path, ids: Sequence[str], count: int, pool: Pool, unreadable: dict[str, str]) -> NDArray[np.int64]:
    if len(ids) != count:
        raise EmbeddingsError(f"{source} has {count} vectors and {len(ids)} ids; each vector needs one")
    if len(set(ids)) < len(ids):
        raise EmbeddingsError(f"{source} names an id more than once; ids must be unique")
    unknown = [name for name in ids if name not in pool.rows]
    without = len(pool) - len(ids) - len(unreadable)
    if unknown or without > 0:
        raise EmbeddingsError(
            f"{source} does not fit {pool.source}: {len(unknown)} ids are not in the pool"
            f"{' (' + ', '.join(unknown[:3]) + ')' if unknown else ''}, {max(without, 0)} images have no vector"
        )
    return np.array([pool.rows[name] for name in ids], np.int64)


def _refuse_bad_rows(path: Path, shard: NDArray[Any]) -> None:
    for first in range(0, len(shard), _BLOCK):
        block = np.asarray(shard[first : first + _BLOCK], dtype=np.float32)
        bad = ~np.isfinite(block).all(axis=1)
        zero = ~block.any(axis=1)
        for which, what in ((bad, "NaN or infinite values"), (zero, "only zeros")):
            if which.any():
                where = (np.flatnonzero(which)[:5] + first).tolist()
                raise EmbeddingsError(
                    f"{path} holds {what} in row {where[0]} (and maybe more: {where}); compute these rows again, or "
                    "leave the images and their rows out and give the ids of the rest"
                )


def check_identity(embeddings: Embeddings, pool: Pool, encoder: Encoder, sample: int = 16) -> float:
    """Re-encode a sample and compare; return the median cosine.

    Raises `EmbeddingsError` when it is below 0.9: the rows belong to other images, or to another encoder.
    """
    chosen = embeddings.rows[np.linspace(0, len(embeddings.rows) - 1, min(sample * 2, len(embeddings.rows)), dtype=int)]
    pixels, rows = [], []
    for row in chosen:
        try:
            pixels.append(encoder.prepare(pool.read(int(row))))
            rows.append(int(row))
        except UnreadableImage:
            continue
    if not rows:
        return float("nan")
    fresh = unit(encoder.encode(np.stack(pixels[:sample])))
    stored = embeddings.take(rows[:sample])
    if fresh.shape != stored.shape:
        raise EmbeddingsError(
            f"the embeddings have {stored.shape[1]} dimensions, {encoder.name} gives {fresh.shape[1]}"
        )
    median = float(np.median((fresh * stored).sum(axis=1)))
    if median < 0.9:
        best = np.median((fresh @ stored.T).max(axis=1))
        raise EmbeddingsError(
            f"re-encoding {len(fresh)} images with {encoder.name} gives a median cosine of {median:.2f} to their rows "
            f"(expected above 0.9; best among the sampled rows {best:.2f}): the rows belong to other images, or "
            "another encoder or preprocessing made them"
        )
    return median
