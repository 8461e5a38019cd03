"""Whether an encoder made vectors, row by row: a sample is encoded again and compared."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.encoders.encode import encode_images, l2_normalize
from holotype.encoders.runtimes import Encoder
from holotype.errors import EmbeddingsError, OutputError
from holotype.pool.pool import Pool
from holotype.progress import Progress, Silent
from holotype.stale import mark_used, remove_stale
from holotype.vectors.embeddings import Embeddings

_FORMAT = 1  # of what is kept; raise it when the check changes
_NOTES = r"[0-9a-f]{64}\.json"
LEAST_COSINE = 0.9
_NOISE = 1e-3  # of a cosine, between two computations of one vector
_STRANGERS = 1 / 8
_SHIFT = 200  # rows; where as many are shifted, one of them is in the sample
_FEWEST, _MOST = 16, 1000  # images of a sample, but for the end
_AROUND = 8  # rows before and behind a suspicious one, which are looked at too
_LOOKS = 16  # suspicious rows that are looked at
_RUN = 4  # rows in a row that all fit better when they are moved alike: they are shifted
_WRONG = 0.05  # of a cosine, by which another row fits better where images are not alike
_DISORDER = 3 / 4  # of the rows around a suspicious one for which that is so: they are in another order
_MOVES = (-3, -2, -1, 1, 2, 3)


def check_identity(embeddings: Embeddings, pool: Pool, encoder: Encoder, progress: Progress | None = None) -> float:
    """Encode a sample again and compare; return the median cosine. What was found is kept in the cache.

    The sample is spread evenly, and denser at the end: a row that was left out shifts all behind it. Around a row that
    another fits better, more are looked at.

    Raises `EmbeddingsError` when the median is below 0.9, when for more than one image in eight the row before or
    behind, or another sampled row, is closer than its own, when a few rows in a row fit better moved alike, or when
    most around one fit another much better: the rows belong to other images, or to another encoder.
    """
    progress = progress or Silent()
    note = _note(embeddings, pool, encoder)
    if (known := _noted(note)) is not None:
        progress.say(f"embeddings: by {encoder.name}, as an earlier check of them found (median cosine {known:.3f})")
        return known
    wanted, gap = _sample(len(embeddings.rows))
    places, fresh = _encode_again(embeddings, pool, encoder, wanted, progress)
    if not len(places):
        raise EmbeddingsError(
            f"none of {len(wanted)} sampled images of {pool.source} can be read, so it cannot be checked that "
            f"{encoder.name} made the embeddings; leave --embeddings-encoder out"
        )
    if fresh.shape[1] != embeddings.dim:
        raise EmbeddingsError(f"the embeddings have {embeddings.dim} dimensions, {encoder.name} gives {fresh.shape[1]}")
    around = np.unique(np.clip([places - 1, places, places + 1], 0, len(embeddings.rows) - 1))
    cosines = fresh @ embeddings.take(embeddings.rows[around]).T
    own = cosines[np.arange(len(places)), np.searchsorted(around, places)]
    median, is_stranger = float(np.median(own)), cosines.max(axis=1) > own + _NOISE
    strangers = int(is_stranger.sum())
    if not median >= LEAST_COSINE or strangers > _STRANGERS * len(places):
        raise EmbeddingsError(
            f"re-encoding {len(places)} images with {encoder.name} gives a median cosine of {median:.2f} to their rows "
            f"(expected above {LEAST_COSINE}), and for {strangers} of them another row is closer than their own: the "
            "rows belong to other images, or another encoder or preprocessing made them"
        )
    gains = np.where(is_stranger, cosines.max(axis=1) - own, 0)
    for place in places[np.argsort(-gains, kind="stable")[: min(strangers, _LOOKS)]].tolist():
        _refuse_shift(embeddings, pool, encoder, place, progress)
    progress.say(
        f"embeddings: of {len(embeddings.rows):,} rows {len(places):,} were encoded again with {encoder.name}, median "
        f"cosine {median:.3f}; {gap:,} rows that are shifted would be seen anywhere, {_RUN} at the end"
    )
    if note is not None:
        with suppress(OutputError):  # a cache that can only be read: they are checked again the next time
            files.write(note, json.dumps({"median": median}))
            remove_stale(note.parent, _NOTES)
    return median


def _note(embeddings: Embeddings, pool: Pool, encoder: Encoder) -> Path | None:
    """Where it is kept that these vectors are by `encoder`, of images that are as they are now."""
    if not pool.stamp:  # nobody knows whether they are
        return None
    about = f"{_FORMAT} {embeddings.digest} {pool.stamp} {encoder.fingerprint}"
    return files.cache_folder() / "vectors" / "checked" / f"{hashlib.sha256(about.encode()).hexdigest()}.json"


def _noted(note: Path | None) -> float | None:
    """The median cosine that was found; None where there is no note, or none that can be read."""
    if note is None:
        return None
    try:
        found = json.loads(note.read_text())["median"]
    except (OSError, RecursionError, ValueError, TypeError, KeyError):
        return None
    mark_used(note)
    return found if isinstance(found, float) and found >= LEAST_COSINE else None


def _sample(count: int) -> tuple[NDArray[np.int64], int]:
    """Places to look at, and the most rows between two of them."""
    evenly = min(count, max(_FEWEST, min(-(-count // _SHIFT) + 1, _MOST)))
    places = np.linspace(0, count - 1, evenly, dtype=np.int64)
    gap = int(np.diff(places).max()) if evenly > 1 else 1
    end = [count - 1 - 2**n for n in range(gap.bit_length())]
    return np.unique([*places, *(place for place in end if place >= 0)]), gap


def _encode_again(
    embeddings: Embeddings, pool: Pool, encoder: Encoder, places: Sequence[int] | NDArray[np.int64], progress: Progress
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return those of `places` whose images can be read, or the place behind one that cannot, and unit vectors."""
    last, done = len(embeddings.rows) - 1, dict[int, NDArray[np.float32]]()
    wanted = [int(place) for place in places]
    with progress.track(f"check embeddings ({encoder.name})", len(wanted)) as advance:
        for _ in range(2):
            names = [str(place) for place in wanted]
            unreadable: list[int] = []
            for found in encode_images(names, lambda name: pool.read(int(embeddings.rows[int(name)])), encoder):
                advance(len(found.ids))
                done.update(zip(map(int, found.ids), found.vectors, strict=True))
                unreadable += map(int, found.unreadable)
            wanted = [place + 1 for place in unreadable if place < last and place + 1 not in done]
    kept = np.array(sorted(done), np.int64)
    vectors = [done[place] for place in kept.tolist()]
    return kept, l2_normalize(np.stack(vectors)) if vectors else np.empty((0, encoder.dim), np.float32)


def _refuse_shift(embeddings: Embeddings, pool: Pool, encoder: Encoder, place: int, progress: Progress) -> None:
    last = len(embeddings.rows) - 1
    window = np.arange(max(place - _AROUND, 0), min(place + _AROUND, last) + 1)
    places, fresh = _encode_again(embeddings, pool, encoder, window, progress)
    cosines = fresh @ embeddings.take(embeddings.rows[places]).T
    own = cosines.diagonal()
    if len(places) > _AROUND and (cosines.max(axis=1) > own + _WRONG).mean() > _DISORDER:
        raise EmbeddingsError(
            f"around row {place} most images fit another row better than their own: rows of the embeddings are in "
            "another order there, and belong to other images; compute them again"
        )
    for move in _MOVES:
        moved = np.clip(places + move, 0, last)
        better = (fresh * embeddings.take(embeddings.rows[moved])).sum(axis=1) > own + _NOISE
        better &= moved == places + move
        if _longest_run(better) >= _RUN:
            first = places[better].tolist()[0]
            raise EmbeddingsError(
                f"from about row {first} on, images fit the row {move:+d} from their own better than it: rows of the "
                "embeddings are left out or moved there, and belong to other images; compute them again"
            )


def _longest_run(flags: NDArray[np.bool_]) -> int:
    longest = run = 0
    for flag in flags.tolist():
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest
