"""The images of a pool that a run looked at closely, kept so that they are opened without a look at all the others."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.errors import PoolError
from holotype.filestate import regular
from holotype.pool.pool import Pool, open_pool, tars_of
from holotype.pool.tars import Tars
from holotype.progress import Progress

_FORMAT = 1


def keep_pool(pool: Pool, drawn: NDArray[np.int64], path: Path) -> None:
    """Write to `path` which images `pool` has, which of its rows were drawn at random, and where they lie in tars."""
    head = {"format": _FORMAT, "notes": pool.notes, "ignored": dict(pool.ignored)}
    texts = {"head": json.dumps(head), "ids": "\0".join(pool.ids), "suffixes": "\0".join(pool.suffixes)}
    arrays: dict[str, NDArray[Any]] = {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}
    arrays |= {"drawn": np.isin(np.arange(len(pool)), drawn)}
    if isinstance(pool.reader, Tars):
        arrays |= pool.reader.arrays()
    files.write(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type] # its other argument is a flag


def open_kept(
    path: Path, sources: Sequence[str], *, allow_truncated: bool = False, progress: Progress | None = None
) -> Pool:
    """Open the images of `sources` that `keep_pool` wrote to `path`.

    Tars that are as they were are not listed. Where they are not, or the images lie elsewhere, the whole pool is
    opened, and those of its images are taken that have the same ids. Raises `PoolError`.
    """
    arrays = _read(path)
    head = json.loads(arrays["head"].tobytes())
    ids, suffixes = (_texts(arrays, name) for name in ("ids", "suffixes"))
    if (reader := _as_it_was(sources, arrays)) is not None:
        pool = Pool(sources[0], ids, list(reader.sizes), reader, head["ignored"], tuple(head["notes"]), suffixes)
        return pool if progress is None else replace(pool, progress=progress)
    return some_named(open_pool(sources, allow_truncated=allow_truncated, progress=progress), ids)


def kept_ids(path: Path) -> list[str]:
    """Return the ids of the images that `keep_pool` wrote to `path`. Raises `PoolError`."""
    return _texts(_read(path), "ids")


def drawn_ids(path: Path) -> list[str]:
    """Return the ids of those of the images at `path` that were drawn at random. Raises `PoolError`."""
    arrays = _read(path)
    ids = _texts(arrays, "ids")
    return [ids[place] for place in np.flatnonzero(arrays["drawn"]).tolist()]


def some_named(pool: Pool, ids: Sequence[str]) -> Pool:
    """Return those images of `pool` that have one of `ids`."""
    rows = (pool.rows.get(name) for name in ids)
    return pool.some(np.array(sorted(row for row in rows if row is not None), np.int64))


def _as_it_was(sources: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Tars | None:
    """What reads the tars of one source, where nothing of them has changed."""
    places = tars_of(sources[0]) if len(sources) == 1 and "tars" in arrays else None
    if places is None:
        return None
    reader = Tars(places)
    return reader if reader.placed(arrays) else None


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(regular(path), allow_pickle=False) as kept:
            arrays = dict(kept)
        found = json.loads(arrays["head"].tobytes())["format"]
    except Exception as error:  # numpy, zipfile and json have many words for a damaged file
        raise _lost(path, str(error)) from error
    if found != _FORMAT:
        raise _lost(path, f"it has format {found}, this version reads {_FORMAT}")
    return arrays


def _lost(path: Path, why: str) -> PoolError:
    return PoolError(
        f"expected the images of the run in {path}, which a run leaves there ({why}); do the run again (holotype run "
        "OUT): vectors and answers are kept"
    )


def _texts(arrays: Mapping[str, NDArray[Any]], name: str) -> list[str]:
    return arrays[name].tobytes().decode().split("\0")
