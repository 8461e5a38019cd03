"""Vectors that somebody else computed: taken only when they fit the pool row by row."""

import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.checksums import file_digest
from holotype.encoders.encode import in_order
from holotype.encoders.runtimes import cores
from holotype.errors import EmbeddingsError, UnreadableImage
from holotype.filestate import FileState, KnownFile
from holotype.names import counted, printable
from holotype.pool.ids import PackedTexts, numbers_of_names
from holotype.pool.images import decode
from holotype.pool.pool import Pool
from holotype.vectors.embeddings import BLOCK, Embeddings, let_go, open_array
from holotype.vectors.shards import (
    KINDS,
    MANIFEST,
    aligned,
    beside,
    find_images,
    open_shard,
    read_manifest,
    read_shards,
    shard_paths,
)

_COLUMNS = ("image_path", "key", "id")  # clip-retrieval's own come first: an "id" beside them is of the data set
_DECODED = 1000  # images without a vector, or one in a hundred, which are looked at
_ENDLESS = 0x7C00  # the bits of infinity in float16; above are those of NaN
_SIDE = 512  # pixels; a JPEG need not be decoded at more to see whether it is whole


def import_embeddings(source: Path | Sequence[Path], pool: Pool) -> Embeddings:
    """Take vectors that somebody computed: a bare .npy, or a folder in clip-retrieval's layout.

    Of a pool that was joined (`Pool.parts`), each part has its own.

    In a bare .npy, row `i` belongs to the image with id `i`, or to line `i` of `<name>.ids.txt` beside it. Where ids
    are given, images that cannot be decoded need no vector. Raises `EmbeddingsError` where count, ids, rank, type or
    values do not fit the pool.
    """
    if not isinstance(source, Path):
        found = [import_embeddings(one, part) for one, part in zip(source, pool.parts or [pool], strict=True)]
        return found[0] if len(found) == 1 else _joined(source, found, pool)
    if not source.exists():
        raise EmbeddingsError(f"expected embeddings at {source}, and there is no such file or folder")
    return _from_folder(source, pool) if source.is_dir() else _from_file(source, pool)


def _joined(sources: Sequence[Path], found: Sequence[Embeddings], pool: Pool) -> Embeddings:
    """The vectors of the parts of a pool, one after the other."""
    for source, one in zip(sources, found, strict=True):
        if one.dim != found[0].dim:
            raise EmbeddingsError(
                f"the vectors in {source} have {one.dim} dimensions, those in {sources[0]} {found[0].dim}: they are of "
                "two encoders; compute them with that of the first"
            )
        if one.encoder and found[0].encoder and one.encoder != found[0].encoder:
            raise EmbeddingsError(
                f"the vectors in {source} are of {one.encoder}, those in {sources[0]} of {found[0].encoder}; compute "
                "them with the same encoder"
            )
    starts = np.cumsum([0, *(len(part) for part in pool.parts)]).tolist()
    unreadable = {
        pool.ids[start + part.rows[name]]: why
        for start, part, one in zip(starts, pool.parts, found, strict=False)
        for name, why in one.unreadable.items()
    }
    rows = np.concatenate([one.rows + start for start, one in zip(starts, found, strict=False)])
    return Embeddings([shard for one in found for shard in one.shards], rows, len(pool), found[0].encoder, unreadable)


class Unchanged:
    """The files of supplied vectors as they are now: they are read where they lie, for as long as a command works.

    What is put beside them is none of theirs, as the shards that a run adds whose own vectors are given.
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        files = ((source, path) for source in sources for path in _files_of(source))
        self._before = {path: (source, known) for source, path in files if (known := _known(path))}

    def check(self) -> None:
        """Raise `EmbeddingsError` where any of them was changed since."""
        for path, (source, before) in self._before.items():
            if not _is_same(path, before):
                raise EmbeddingsError(
                    f"{source} was changed while it was in use, so nothing of it counts; give the same command again"
                )


def _known(path: Path) -> KnownFile | None:
    """Nothing where there is no file that can be read."""
    with suppress(OSError):
        found = path.stat()
        return KnownFile(FileState.of(found), file_digest(path)) if stat.S_ISREG(found.st_mode) else None
    return None


def _is_same(path: Path, before: KnownFile) -> bool:
    with suppress(OSError):
        return before.is_same(FileState.of(path.stat()), lambda: file_digest(path))
    return False


def _files_of(source: Path) -> list[Path]:
    if source.is_dir():
        return [beside(path, kind) for path in shard_paths(source) for kind in KINDS]
    return [source, _sidecar(source)]


def _from_file(source: Path, pool: Pool) -> Embeddings:
    array, codes = open_array(source), _sidecar_ids(source)
    if codes is None:
        rows = _rows_by_number(source, pool, len(array))
        _refuse_bad_rows(source, array)
        return Embeddings([array], rows, len(pool))
    if len(codes) != len(array):
        raise EmbeddingsError(f"{source} has {len(array)} vectors and {len(codes)} ids; each vector needs one")
    _refuse_bad_rows(source, array)
    rows, unreadable = _align(source, codes, pool)
    return Embeddings([array], rows, len(pool), None, unreadable)


def _from_folder(source: Path, pool: Pool) -> Embeddings:
    paths = shard_paths(source)
    opened = [open_shard(path, _COLUMNS) for path in paths]
    shards = [array for array, _ in opened]
    if not sum(len(shard) for shard in shards):
        raise EmbeddingsError(f"expected vectors in {source}/img_emb/img_emb_0.npy, found none")
    dims = {path.name: shard.shape[1] for path, shard in zip(paths, shards, strict=True)}
    if len(set(dims.values())) > 1:
        some = ", ".join(f"{name} has {dim}" for name, dim in list(dims.items())[:4])
        raise EmbeddingsError(f"the vectors in {source} differ in their dimensions ({some}): they are of two encoders")
    for path, shard in zip(paths, shards, strict=True):
        _refuse_bad_rows(path, shard)
    if any(beside(path, "unreadable").exists() for path in paths):
        return _from_store(source, pool)
    rows, unreadable = _align(source, [code for _, codes in opened for code in codes], pool)
    encoder = read_manifest(source)["encoder"] if (source / MANIFEST).exists() else None
    return Embeddings(shards, rows, len(pool), encoder, unreadable)


def _from_store(source: Path, pool: Pool) -> Embeddings:
    """Take what `holotype embed` computed for the images of the pool, whatever they were called."""
    manifest, shards = read_manifest(source), read_shards(source)
    found = find_images(shards, pool.ids, pool, manifest["pool"])
    if not found.places:
        raise EmbeddingsError(
            f"{source} holds no vector of an image of {pool.source}: {manifest['encoder']} embedded other images "
            "there; embed these, or give the pool that was embedded"
        )
    return aligned(found, pool, int(manifest["dim"]), str(manifest["encoder"]))


def _sidecar_ids(source: Path) -> list[str] | None:
    sidecar = _sidecar(source)
    if not sidecar.exists():
        return None
    try:
        return sidecar.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EmbeddingsError(f"expected one id a line as UTF-8 text in {sidecar}: {error}") from None


def _sidecar(source: Path) -> Path:
    return source.with_suffix(".ids.txt")


def _rows_by_number(source: Path, pool: Pool, count: int) -> NDArray[np.int64]:
    """Return (count,) the row of the image whose id is each number below `count`."""
    if count != len(pool):
        raise EmbeddingsError(
            f"{source} has {count} rows and {pool.source} has {len(pool)} images: they do not belong together, or "
            "one is not whole. If broken images were left out when the vectors were computed, or the rows are in "
            f"another order, put the id of each row line by line into {source.stem}.ids.txt beside it"
        )
    numbers = numbers_of_names(pool.ids)
    rows = np.full(count, -1, np.int64)
    inside = np.flatnonzero((numbers >= 0) & (numbers < count))
    rows[numbers[inside]] = inside
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        raise EmbeddingsError(
            f"row i of {source} belongs to the image with id i, but {pool.source} has no image {missing[0]} "
            f"({len(missing)} missing; ids look like {', '.join(pool.ids[:3])}). "
            f"Put the id of each row line by line into {source.stem}.ids.txt"
        )
    return rows


def _align(source: Path, codes: Sequence[str], pool: Pool) -> tuple[NDArray[np.int64], dict[str, str]]:
    """Return the pool row of each vector, and id -> reason of the images without one.

    Raises `EmbeddingsError` when an image that can be read has none.
    """
    rows = _rows(pool, codes)
    unknown = np.flatnonzero(rows < 0)
    counts = np.bincount(rows[rows >= 0], minlength=len(pool))
    if (twice := np.flatnonzero(counts > 1)).size:
        raise EmbeddingsError(
            f"{source} names an id more than once ({', '.join(pool.ids[row] for row in twice[:3])}); ids must be unique"
        )
    without = np.flatnonzero(counts == 0)
    if len(unknown) or len(without) > max(_DECODED, len(pool) // 100):
        raise EmbeddingsError(
            f"{source} does not fit {pool.source}: not in the pool: {counted(len(unknown), 'id')}"
            f"{_some([codes[place] for place in unknown[:3]])}, without a vector: {counted(len(without), 'image')}"
            f"{_some([pool.ids[row] for row in without[:3]])}"
            f"{f'; the first unknown id is in line {unknown[0] + 1}' if len(unknown) else ''}"
        )
    return rows, _why_skipped(source, pool, without)


def _why_skipped(source: Path, pool: Pool, without: NDArray[np.int64]) -> dict[str, str]:
    """Id -> reason of images without a vector: others' tools leave out what they cannot decode, and do not say so."""
    reasons: dict[str, str] = {}
    for row in without.tolist():
        try:
            decode(pool.read(row), fit=_SIDE)
        except UnreadableImage as error:
            reasons[pool.ids[row]] = str(error)
            continue
        raise EmbeddingsError(
            f"{source} does not fit {pool.source}: without a vector: {counted(len(without), 'image')}"
            f"{_some([pool.ids[one] for one in without[:3]])}, "
            f"and {pool.ids[row]} can be read, so that it was not left out as broken; compute its vector, or leave the "
            "image out of the pool"
        )
    return reasons


def _some(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])})" if names else ""


def _rows(pool: Pool, codes: Sequence[str]) -> NDArray[np.int64]:
    """Return (codes,) the pool row of each, -1 of one that means no image: most are whole ids."""
    if isinstance(pool.ids, PackedTexts):
        rows = pool.ids.places(codes)
    else:
        rows = np.fromiter((pool.rows.get(printable(code), -1) for code in codes), np.int64, len(codes))
    for place in np.flatnonzero(rows < 0).tolist():
        found = _row(pool, codes[place])
        rows[place] = -1 if found is None else found
    return rows


def _row(pool: Pool, code: str) -> int | None:
    """As the pool's codes; of a path on somebody's disk, the longest end that is an id."""
    row = pool.find(code)
    while row is None and "/" in code:
        code = code.partition("/")[2]
        row = pool.find(code)
    return row


def _refuse_bad_rows(path: Path, shard: NDArray[Any]) -> None:
    def look(first: int) -> tuple[int, NDArray[np.bool_], NDArray[np.bool_]]:
        block = shard[first : first + BLOCK]
        if block.dtype == np.float16:  # by its bits without the sign, in a tenth of the time
            greatest = (block.view(np.uint16) & 0x7FFF).max(axis=1)
            wild, zero = greatest >= _ENDLESS, greatest == 0
        else:
            wild, zero = ~np.isfinite(block).all(axis=1), ~(block != 0).any(axis=1)
        let_go(block)
        return first, wild, zero

    for first, *faults in in_order(look, iter(range(0, len(shard), BLOCK)), cores()):
        for which, what in zip(faults, ("NaN or infinite values", "only zeros"), strict=True):
            if which.any():
                where = (np.flatnonzero(which)[:5] + first).tolist()
                raise EmbeddingsError(
                    f"{path} holds {what} in row {where[0]} (and maybe more: {where}); compute these rows again, or "
                    "leave the images and their rows out and give the ids of the rest"
                )
