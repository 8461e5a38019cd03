"""Images to vectors on every core.

Each worker reads, decodes and encodes a few images and then takes the next few, so decoding and network share the cores
in whatever proportion they need, nothing piles up between them, and memory does not grow with the pool.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.runtimes import BATCH, Encoder
from holotype.errors import PoolError, UnreadableHere, UnreadableImage, UnreadableNow
from holotype.pool.images import Pixels
from holotype.pool.pool import digest_of

_LEAST, _MOST = 1e-12, 1e18  # lengths between which float32 is exact enough
NO_VECTOR = "the encoder gives no finite vector for it"
_FEW = 5  # images, or one in a hundred, that may be away
_AHEAD = 4  # items for each worker that are under way or done, and wait for the one before them

Load = Callable[[str], Any]
_Item = TypeVar("_Item")
_Done = TypeVar("_Done")


@dataclass(frozen=True)
class Encoded:
    """Some images: `vectors` (m, dim) float32 of those in `ids`, and id -> reason of those that have none.

    digests   id -> digest of the bytes that were encoded, or are broken; none where there were no bytes, or where
              another limit or package may read them
    away      those of the unreadable that may be readable in a moment
    """

    ids: list[str]
    vectors: NDArray[np.float32]
    unreadable: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    away: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.ids) + len(self.unreadable)


def encode_images(names: Sequence[str], load: Load, encoder: Encoder) -> Iterator[Encoded]:
    """Yield the vectors of images, a few at a time, in the order of `names`.

    `load(name)` gives what `encoder.prepare` takes; it is called in several threads. One that is unreadable is set
    aside with its reason; whatever else is raised stops all. Raises `PoolError` where more than a few cannot be read
    now: what is away as a whole is no broken image.
    """
    yield from encode_parts([names], load, encoder)


def encode_parts(parts: Sequence[Sequence[str]], load: Load, encoder: Encoder) -> Iterator[Encoded]:
    """Yield the vectors of images as `encode_images` does, and never of two of `parts` together.

    What a network gives may depend on what is encoded beside it, in the last bits: so the vectors of a part are the
    same whatever is encoded before it.
    """
    with one_thread_a_matrix():
        yield from _encode_all(parts, load, encoder)


@contextmanager
def one_thread_a_matrix() -> Iterator[None]:
    """Let products of matrices have one thread, in the whole process: encoding keeps every core busy already.

    Several would wait for each other: `holotype predict` then gives less than half as many images a second.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def _encode_all(parts: Sequence[Sequence[str]], load: Load, encoder: Encoder) -> Iterator[Encoded]:
    batches = (names[start : start + BATCH] for names in parts for start in range(0, len(names), BATCH))
    count, away = sum(map(len, parts)), 0
    for found in in_order(lambda batch: _encode(batch, load, encoder), batches, encoder.workers):
        yield found
        away += len(found.away)
        if away > most_away(count):
            name = found.away[-1] if found.away else ""
            raise PoolError(
                f"{away:,} images, {name} among them, cannot be read now ({found.unreadable[name]}): give the same "
                "command again when that has passed; what was finished is kept"
            )


def most_away(count: int) -> int:
    """Return how many of `count` images may be away: if more are, it is the disk or the network that is."""
    return max(_FEW, count // 100)


def in_order(work: Callable[[_Item], _Done], items: Iterator[_Item], workers: int) -> Iterator[_Done]:
    """Yield `work(item)` of each item in order, done in `workers` threads that are never far ahead of who takes it."""
    threads = ThreadPoolExecutor(workers, thread_name_prefix="encode")
    try:
        ahead = deque(threads.submit(work, item) for item in islice(items, _AHEAD * workers))
        while ahead:
            done: Future[_Done] = ahead.popleft()
            found = done.result()
            ahead.extend(threads.submit(work, item) for item in islice(items, 1))
            yield found
    finally:
        threads.shutdown(cancel_futures=True)


def _encode(names: Sequence[str], load: Load, encoder: Encoder) -> Encoded:
    pixels: list[Pixels] = []
    readable: list[str] = []
    unreadable: dict[str, str] = {}
    digests: dict[str, str] = {}
    away: list[str] = []
    for name in names:
        try:
            source, found = _prepared(name, load, encoder)
            pixels.append(found)
            readable.append(name)
            digests |= {name: digest_of(source)} if isinstance(source, bytes) else {}
        except _Broken as error:
            unreadable[name] = str(error)
            digests[name] = error.digest
        except (UnreadableImage, OSError) as error:  # nothing is said of its bytes, so that they are tried again
            unreadable[name] = str(error) if isinstance(error, UnreadableImage) else f"cannot be read: {error}"
            away += [name] if isinstance(error, UnreadableNow | OSError) else []
    vectors = encoder.encode(np.stack(pixels)) if pixels else np.zeros((0, encoder.dim), np.float32)
    finite = np.flatnonzero(np.isfinite(vectors).all(axis=1)).tolist()
    unreadable |= {readable[row]: NO_VECTOR for row in sorted({*range(len(readable))} - {*finite})}
    return Encoded([readable[row] for row in finite], vectors[finite], unreadable, digests, away)


class _Broken(UnreadableImage):
    """The bytes with this `digest` are no image, and were the same when they were read again."""

    def __init__(self, why: UnreadableImage, digest: str) -> None:
        super().__init__(str(why))
        self.digest = digest


def _prepared(name: str, load: Load, encoder: Encoder) -> tuple[Any, Pixels]:
    """Return what `load` gives and its pixels. Bytes that are broken are read twice: they may be half written."""
    source = load(name)
    while True:
        try:
            return source, encoder.prepare(source)
        except (UnreadableHere, UnreadableNow):
            raise
        except UnreadableImage as error:
            if not isinstance(source, bytes):
                raise
            before, source = source, load(name)
            if source == before:
                raise _Broken(error, digest_of(source)) from None


def l2_normalize(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Scale rows to length 1, whatever their length, in float32; rows of zeros stay so."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # such rows are scaled below
        floats = np.asarray(vectors, dtype=np.float32)
        norms = np.linalg.norm(floats, axis=1, keepdims=True)
        scaled: NDArray[np.float32] = floats / np.maximum(norms, _LEAST)
    odd = ~((norms >= _LEAST) & (norms <= _MOST)).ravel()
    if odd.any():  # their squares do not fit into float32
        exact = np.asarray(vectors, dtype=np.float64)[odd]
        exact = exact / np.maximum(np.abs(exact).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        scaled[odd] = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), _LEAST)
    return scaled
