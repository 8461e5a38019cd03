"""One command done by many processes: the images in blocks of 1,024, each with a file of its own.

Who does which blocks is no matter: a block has the same bytes whoever does it, is there as a whole or not at all, and
is not done again where it is there. What travels between machines is names: a `Task` is text.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from holotype import files
from holotype.encoders.registry import load_encoder
from holotype.errors import OutputError
from holotype.model.classifier import Classifier
from holotype.model.predictions import Layout, lines
from holotype.pool.pool import open_pool
from holotype.progress import Progress, Silent
from holotype.runs.commands import load_classifier, open_sources, predict_rows
from holotype.runs.remarks import say_left_out
from holotype.settings import ARITHMETIC, Arithmetic
from holotype.stores.copies import address
from holotype.stores.urls import is_url
from holotype.vectors.folders import in_claimed_arithmetic
from holotype.vectors.store import SHARD, EmbeddingStore

PARTS_FILE = "parts.json"  # in a folder of predictions: what they are of
_SHOWN = 5  # blocks that are named
_LITTLE = 4  # digits of the number of a part, and more where there are more


class Blocks(Protocol):
    """What a task has to do, opened on this machine."""

    count: int

    def missing(self) -> list[int]:
        """Return the blocks of which something is not there yet."""

    def images(self, block: int) -> int:
        """Return how many images are in `block`."""

    def do(self, blocks: Iterable[int], progress: Progress) -> None:
        """Do `blocks`, but for what is there. Raises `HolotypeError`."""


class Task(Protocol):
    """What is to be done, as text."""

    def open(self, progress: Progress) -> Blocks:
        """Open what it is about, here. Raises `HolotypeError`."""

    def describe(self) -> str:
        """Say what is there when all of it is done."""


@dataclass(frozen=True)
class PoolShare:
    """One of `count` processes that do a task together: it does a run of blocks that lie together.

    Shares are numbered from 0 or from 1, as job queues number their jobs either way: `count` is the same as 0.
    """

    number: int
    count: int

    def of(self, blocks: int) -> range:
        """Return those of `blocks` that are its own: neighbours, so that it reads as few tars as can be, in order."""
        place = self.number % self.count
        return range(blocks * place // self.count, blocks * (place + 1) // self.count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def either_way(self) -> str:
        """Its name, right for who counts from 0 and for who counts from 1."""
        return f"{self} (the same as {self.count}/{self.count})" if self.number == 0 else str(self)


def do_share(task: Task, share: PoolShare, progress: Progress) -> list[int]:
    """Do what `share` has of `task`; return the blocks that are missing then, of all shares."""
    work = task.open(progress)
    mine = share.of(work.count)
    if mine:
        these = f"block {mine[0]:,}" if len(mine) == 1 else f"blocks {mine[0]:,} to {mine[-1]:,}"
        progress.say(f"shard {share}: {these} of {work.count:,}")
    else:
        progress.say(f"shard {share}: nothing to do, as there {_are(work.count)}")
    work.do(mine, progress)
    missing = work.missing()
    if missing:
        progress.say(describe_missing(missing, work.count, share.count))
    return missing


def describe_missing(missing: Sequence[int], count: int, shares: int) -> str:
    """Say which blocks are missing, and which shards give them."""
    more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
    noun = "block" if len(missing) == 1 else "blocks"
    these = f"{noun} {', '.join(f'{one:,}' for one in missing[:_SHOWN])}{more} of {count:,}"
    numbers = sorted({((block + 1) * shares - 1) // count for block in missing})  # the last share that begins by then
    whose = [PoolShare(one, shares).either_way for one in numbers]
    others = f" and {len(whose) - _SHOWN:,} more" if len(whose) > _SHOWN else ""
    return f"missing yet: {these}, of --shard {', '.join(whose[:_SHOWN])}{others}; give these when none is running"


def _are(count: int) -> str:
    return f"is {count} block" if count == 1 else f"are {count:,} blocks"


@dataclass(frozen=True)
class EmbedTask:
    """Vectors of the images of `source` in the folder `out`."""

    source: str
    encoder: str
    out: str
    precision: Arithmetic = ARITHMETIC
    allow_truncated: bool = False

    def open(self, progress: Progress) -> Blocks:
        """Open pool and encoder, in the arithmetic that all have who write into `out`."""
        pool = open_pool(self.source, allow_truncated=self.allow_truncated, progress=progress)
        say_left_out(pool, progress)
        network, out = load_encoder(self.encoder, progress=progress), Path(self.out)
        return _VectorBlocks(
            EmbeddingStore(out, in_claimed_arithmetic(network, pool, self.precision, progress, out), pool)
        )

    def describe(self) -> str:
        """Say where the vectors are."""
        return f"all vectors are in {self.out}"


class _VectorBlocks:
    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store
        self.count = store.count_blocks()

    def missing(self) -> list[int]:
        return self._store.missing_blocks()

    def images(self, block: int) -> int:
        return min(SHARD, len(self._store.pool) - block * SHARD)

    def do(self, blocks: Iterable[int], progress: Progress) -> None:
        self._store.embed_blocks(blocks, progress)


@dataclass(frozen=True)
class PredictTask:
    """Predictions of the model at `model` for the images of `sources`, as a file for each block in the folder `out`."""

    model: str
    sources: tuple[str, ...]
    out: str
    layout: Layout = "jsonl"
    allow_truncated: bool = False

    def open(self, progress: Progress) -> Blocks:
        """Open model and images. Raises `OutputError` where `out` has parts of something else."""
        return _Parts(load_classifier(Path(self.model)), self, progress)

    def describe(self) -> str:
        """Say how the parts become the file that one process writes."""
        if is_url(place := address(self.out)):
            return (
                f"all parts are in {place}; behind each other, by their names, they are one file: copy them into a "
                f"folder here, and in it cat part-* > predictions.{self.layout}"
            )
        parts, whole = shlex.quote(f"{self.out}/part-"), f"predictions.{self.layout}"
        return f"all parts are in {self.out}; one file of them: cat {parts}* > {whole}"


class _Parts:
    def __init__(self, classifier: Classifier, task: PredictTask, progress: Progress) -> None:
        self._classifier, self._task, self._out = classifier, task, Path(task.out)
        self._opened = open_sources(classifier, task.sources, progress, allow_truncated=task.allow_truncated)
        self._blocks: list[tuple[str, range]] = []
        for source in task.sources:
            size = 1 if (pool := self._opened[source]) is None else len(pool)
            self._blocks += [(source, range(at, min(at + SHARD, size))) for at in range(0, size, SHARD)]
        self.count = len(self._blocks)
        self._claim()

    def _claim(self) -> None:
        """Say in the folder what its parts are of, unless another process was first."""
        stamps = {source: self._stamp(source) for source in self._opened}
        about = {"model": _digest(self._classifier), "layout": self._task.layout, "images": stamps}
        path = self._out / PARTS_FILE
        if not path.exists():
            files.make_folder(self._out, closed=True)  # what is written there shows what images are called
            if any(self._out.glob("part-*")):
                raise OutputError(
                    f"{self._out} has parts, and no {PARTS_FILE} that says of what; choose another folder"
                )
            files.write_first(path, json.dumps(about, indent=1))
        with files.explain(path):
            there = path.read_text(encoding="utf-8")
        if there != json.dumps(about, indent=1):
            raise OutputError(
                f"{self._out} has predictions of another model, of other images or in another format (see {path}); "
                "choose another folder, or remove this one"
            )

    def _stamp(self, source: str) -> str:
        pool = self._opened[source]
        if pool is not None:
            return pool.stamp
        with files.explain(Path(source)):
            return hashlib.sha256(Path(source).read_bytes()).hexdigest()

    def _path(self, block: int) -> Path:
        digits = max(_LITTLE, len(str(self.count - 1)))  # so that a pattern of the shell has them in their order
        return self._out / f"part-{block:0{digits}}.{self._task.layout}"

    def missing(self) -> list[int]:
        there = {path.name for path in files.matching(self._out, "part-*")}
        return [block for block in range(self.count) if self._path(block).name not in there]

    def images(self, block: int) -> int:
        return len(self._blocks[block][1])

    def do(self, blocks: Iterable[int], progress: Progress) -> None:
        wanted = [block for block in blocks if not self._path(block).exists()]
        with progress.track("predict", sum(map(self.images, wanted))) as advance:
            for block in wanted:
                files.write(self._path(block), "".join(self._lines(block)).encode(errors="backslashreplace"))
                advance(self.images(block))

    def _lines(self, block: int) -> Iterable[str]:
        """The lines of a block; of a CSV the first one alone has the header, so that all parts together are one."""
        source, rows = self._blocks[block]
        classifier = self._classifier
        records = predict_rows(classifier, self._opened, source, rows, Silent())
        promised = bool(classifier.promises_)
        found = lines(records, classifier.classes_[:-1], self._task.layout, promised=promised)
        if block and self._task.layout == "csv":
            next(iter(found))
        return found


def _digest(classifier: Classifier) -> str:
    """What predictions depend on but the images."""
    calibration, texts = classifier.calibration_, (classifier.classes_, classifier.exemplar_names_)
    digest = hashlib.sha256(json.dumps([classifier.encoder_.fingerprint, *texts]).encode())
    digest.update(classifier.head_.to_onnx())
    for array in (classifier.exemplar_vectors_, calibration.slope, calibration.shift, calibration.thresholds):
        digest.update(array.tobytes())
    promises: list[Any] = [one.model_dump(mode="json") for one in classifier.promises_]
    digest.update(json.dumps(promises).encode())
    return digest.hexdigest()
