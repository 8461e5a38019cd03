"""Images to vectors on every core.

Each worker reads, decodes and encodes a few images and then takes the next few, so decoding and network share the cores
in whatever proportion they need, nothing piles up between them, and memory does not grow with the pool.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.encoders import BATCH, Encoder
from holotype.errors import UnreadableImage

_AHEAD = 4  # batches for each worker that are under way or done, and wait for the one before them

Load = Callable[[str], Any]


@dataclass(frozen=True)
class Encoded:
    """Some images: `vectors` (m, dim) float32 of those in `ids`, and id -> reason of those that have none."""

    ids: list[str]
    vectors: NDArray[np.float32]
    unreadable: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids) + len(self.unreadable)


def encode_images(names: Sequence[str], load: Load, encoder: Encoder) -> Iterator[Encoded]:
    """Yield the vectors of images, a few at a time, in the order of `names`.

    `load(name)` gives what `encoder.prepare` takes; it is called in several threads. One that is unreadable is set
    aside with its reason; whatever else is raised stops all.
    """
    batches = (names[start : start + BATCH] for start in range(0, len(names), BATCH))
    workers = encoder.workers
    threads = ThreadPoolExecutor(workers, thread_name_prefix="encode")
    try:
        ahead = deque(threads.submit(_encode, batch, load, encoder) for batch in islice(batches, _AHEAD * workers))
        while ahead:
            done: Future[Encoded] = ahead.popleft()
            found = done.result()
            ahead.extend(threads.submit(_encode, batch, load, encoder) for batch in islice(batches, 1))
            yield found
    finally:
        threads.shutdown(cancel_futures=True)


def _encode(names: Sequence[str], load: Load, encoder: Encoder) -> Encoded:
    pixels = np.empty((len(names), *encoder.size, 3), np.uint8)
    readable: list[str] = []
    unreadable: dict[str, str] = {}
    for name in names:
        try:
            pixels[len(readable)] = encoder.prepare(load(name))
            readable.append(name)
        except UnreadableImage as error:
            unreadable[name] = str(error)
        except OSError as error:
            unreadable[name] = f"cannot be read: {error}"
    return Encoded(readable, encoder.encode(pixels[: len(readable)]), unreadable)
