"""Where vectors are on this machine: a run, a search and an embed find each other's, wherever each keeps its own."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from holotype import files
from holotype.encoders.quantise import choose_arithmetic
from holotype.encoders.runtimes import Encoder, OnnxEncoder
from holotype.errors import EmbeddingsError, OutputError
from holotype.pool.digests import place_of
from holotype.pool.pool import Pool, spread
from holotype.progress import Progress
from holotype.settings import Arithmetic
from holotype.stale import remove_stale
from holotype.vectors.shards import MANIFEST, Shard, claim_folder, fits, read_manifest, read_shard, shard_paths
from holotype.vectors.store import EmbeddingStore

_SAMPLED = 64  # images that tell whether a folder holds most of a pool


def open_shared(folder: Path, encoder: Encoder, pool: Pool, *more: Path) -> EmbeddingStore:
    """Return the store in `folder`; it takes what it lacks from `more`, and from what else is on this machine."""
    known = known_folders()
    with suppress(OutputError, OSError):
        files.write(_note_of(folder), json.dumps({"folder": str(folder.absolute())}))
        remove_stale(_notes(), r"[0-9a-f]{16}\.json", unless=lambda note: _vectors_of(note) is not None)
    return EmbeddingStore(folder, encoder, pool, [*more, *known])


def known_folders() -> list[Path]:
    """Return the folders of vectors that runs and searches on this machine have kept, the last first."""
    found: list[tuple[float, Path]] = []
    with suppress(OutputError, OSError):
        for note in _notes().glob("*.json"):
            with suppress(OSError):
                if (folder := _vectors_of(note)) is not None:
                    found.append((note.stat().st_mtime, folder))
    return [folder for _, folder in sorted(found, reverse=True)]


def _notes() -> Path:
    return files.cache_folder() / "vectors" / "known"


def _note_of(folder: Path) -> Path:
    return _notes() / f"{_short(str(folder.absolute()))}.json"


def _vectors_of(note: Path) -> Path | None:
    """The folder that `note` names; None where there are no vectors, or the note is damaged or was never whole."""
    with suppress(RecursionError, ValueError, TypeError, KeyError):
        folder = Path(json.loads(note.read_text())["folder"])
        return folder if (folder / MANIFEST).exists() else None
    return None


def _short(place: str) -> str:
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:16]


def cache_of(pool: Pool) -> Path:
    """Return the folder of the cache for vectors of `pool`, by encoder."""
    return files.cache_folder() / "vectors" / _short(place_of(pool.source))


def in_arithmetic(
    encoder: OnnxEncoder,
    pool: Pool,
    wanted: Arithmetic,
    progress: Progress,
    folders: Iterable[Path],
    *,
    whole: bool = True,
) -> OnnxEncoder:
    """Return `encoder` in the arithmetic `wanted`; "auto" goes by the vectors that are there (`choose_arithmetic`).

    folders   where vectors of the pool are kept for the command that asks
    whole     whether the whole pool is to be encoded
    """
    made = fingerprints(folders, pool)
    return choose_arithmetic(
        encoder, pool, wanted, progress, made=made, elsewhere=lambda: _elsewhere(encoder, pool), whole=whole
    )


def in_claimed_arithmetic(
    encoder: OnnxEncoder, pool: Pool, wanted: Arithmetic, progress: Progress, folder: Path
) -> OnnxEncoder:
    """Return `encoder` in the one arithmetic of all processes that fill `folder`; the first one chooses, and says so.

    Whoever comes later, on whatever machine, takes what the folder says, where it is `encoder` in any arithmetic. A
    network in int8 is calibrated again where this machine does not have it. Raises `EmbeddingsError` where that gives
    another network.
    """
    made = _made_in(folder, encoder)
    found = choose_arithmetic(encoder, pool, wanted, progress, made=made, elsewhere=lambda: _elsewhere(encoder, pool))
    if not made:
        files.make_folder(folder, closed=True)  # what is written there shows what images are called
        made = {claim_folder(folder, found)}
    if found.fingerprint not in made and wanted == "auto" and _made_in(folder, encoder):  # another one was first
        found = choose_arithmetic(encoder, pool, wanted, progress, made=made)
        if found.fingerprint not in made:
            found = choose_arithmetic(encoder, pool, "int8", progress)
        if found.fingerprint not in made:
            raise EmbeddingsError(
                f"{folder} is filled by {encoder.name} in an arithmetic that this machine does not give the same: "
                "calibrated here, int8 is another network. Have all machines share one $HOLOTYPE_CACHE, or give all "
                "of them --precision f32 and another folder"
            )
    return found


def _made_in(folder: Path, encoder: OnnxEncoder) -> set[str]:
    """The fingerprint that `folder` says its vectors are of, if they are of this encoder in whatever arithmetic."""
    with suppress(EmbeddingsError):  # no manifest, or a damaged one, which is told of where it is used
        manifest = read_manifest(folder)
        if manifest["encoder"] == encoder.name:
            return {str(manifest["fingerprint"])}
    return set()


def _elsewhere(encoder: OnnxEncoder, pool: Pool) -> set[str]:
    """The fingerprints of what made the vectors, in other folders, that are of most of `pool` by a sample of it."""
    found = set[str]()
    for folder in known_folders():
        with suppress(EmbeddingsError):
            manifest = read_manifest(folder)
            made = str(manifest["fingerprint"])
            if manifest["encoder"] == encoder.name and made not in found and _is_of_most(folder, pool):
                found.add(made)
    return found


def _is_of_most(folder: Path, pool: Pool) -> bool:
    there = {digest for shard in _unchecked(folder) for digest in shard.digests or ()}
    sample = spread(len(pool), _SAMPLED) if there else []
    return 2 * sum(pool.digest(row) in there for row in sample) > len(sample)


def fingerprints(folders: Iterable[Path], pool: Pool) -> set[str]:
    """Return the fingerprints of what made the vectors of images of `pool` in `folders`, as far as there are any."""
    return {fingerprint for folder in folders for fingerprint in _fingerprint(folder, pool)}


def _fingerprint(folder: Path, pool: Pool) -> Iterator[str]:
    with suppress(EmbeddingsError):  # no manifest, or a damaged one, which is told of where it is used
        manifest = read_manifest(folder)
        if fits(_unchecked(folder), pool, manifest["pool"]):
            yield str(manifest["fingerprint"])


def _unchecked(folder: Path) -> Iterator[Shard]:
    """The shards that can be read, one by one; whoever uses one checks it, and tells of a damaged one."""
    for path in shard_paths(folder):
        with suppress(EmbeddingsError):
            yield read_shard(path, checked=False)
