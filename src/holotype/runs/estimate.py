"""What a task will take: time, money and bytes, from a sample of its images on this machine; nothing is written."""

import time
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from holotype.encoders.encode import encode_images
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import cores
from holotype.errors import PoolError
from holotype.names import counted
from holotype.pool.pool import Pool, open_pool, spread
from holotype.progress import Progress
from holotype.runs.blocks import EmbedTask, PredictTask
from holotype.runs.commands import load_classifier, open_sources
from holotype.runs.remarks import say_left_out
from holotype.vectors.folders import in_arithmetic

_WARM, _SAMPLED = 32, 512  # images: before the clock runs, and at most until it stops
_SECONDS = 20.0  # that the sample takes, at most
_HALF = 2  # bytes of a float16


@dataclass(frozen=True)
class CostEstimate:
    """What was counted and measured.

    images, size   how many, and their bytes
    rate           images a second on this machine, of `cores` cores, over a sample of `sampled` images
    vectors        bytes of all vectors; 0 where none are kept
    """

    images: int
    size: int
    rate: float
    cores: int
    sampled: int
    vectors: int = 0

    def lines(self, nodes: int, price: float) -> list[str]:
        """Return it in words, for so many nodes like this machine, at `price` for a node and an hour."""
        seconds = self.images / self.rate
        each = f"{self.rate:,.0f} images/s on this machine's {counted(self.cores, 'core')}"
        these = counted(nodes, "node")
        found = [
            f"{counted(self.images, 'image')}, {_bytes(self.size)}",
            f"{each} (measured on {self.sampled:,} of them)",
            f"{seconds / 3600:,.2f} node-hours: {timedelta(seconds=round(seconds / nodes))} on {these} like this",
        ]
        found += [f"{seconds / 3600 * price:,.2f} at {price:g} a node and hour"] if price else []
        found += [f"{_bytes(self.vectors)} of vectors"] if self.vectors else []
        return [*found, "nothing was written; all images are counted, also those that were done before"]


def estimate_embed(task: EmbedTask, progress: Progress) -> CostEstimate:
    """Measure what the vectors of a pool will take. Raises `HolotypeError`."""
    pool = open_pool(task.source, allow_truncated=task.allow_truncated, progress=progress)
    say_left_out(pool, progress)
    network = load_encoder(task.encoder, progress=progress)
    network = in_arithmetic(network, pool, task.precision, progress, [Path(task.out)])

    def encode(rows: Sequence[int]) -> Iterable[Sized]:
        return encode_images([pool.ids[row] for row in rows], lambda name: pool.read(pool.rows[name]), network)

    return _measure(pool, [pool], encode, len(pool) * network.dim * _HALF)


def estimate_predict(task: PredictTask, progress: Progress) -> CostEstimate:
    """Measure what predictions will take. Raises `HolotypeError`."""
    classifier = load_classifier(Path(task.model))
    opened = open_sources(classifier, task.sources, progress, allow_truncated=task.allow_truncated)
    pools = [pool for pool in opened.values() if pool is not None]
    if not pools:
        raise PoolError("expected a tar or a folder to estimate, got single images: they take a moment each")
    for one in pools:
        say_left_out(one, progress)
    pool = max(pools, key=len)

    def predict(rows: Sequence[int]) -> Iterable[Sized]:
        return ([*found.ids, *lost] for found, lost in classifier.predict_pool(pool, rows))

    return _measure(pool, pools, predict)


def _measure(
    pool: Pool, pools: Sequence[Pool], work: Callable[[Sequence[int]], Iterable[Sized]], vectors: int = 0
) -> CostEstimate:
    """Time `work` on a sample of `pool`, the largest of `pools`."""
    for _ in work(spread(len(pool), _WARM)):
        pass
    done, started = 0, time.perf_counter()
    for found in work(spread(len(pool), _SAMPLED)):
        done += len(found)
        if time.perf_counter() - started > _SECONDS:
            break
    rate = done / max(time.perf_counter() - started, 1e-9)
    images, size = sum(map(len, pools)), sum(sum(one.sizes) for one in pools)
    return CostEstimate(images, size, rate, cores(), done, vectors)


def _bytes(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"
