"""`drift_run`: whether new images are like the pool of a run: images, or what its model said of them."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from holotype import files
from holotype.encoders.encode import l2_normalize
from holotype.errors import HolotypeError, OutputError
from holotype.evaluation.drift import ModelOutputs, Stability, compare_seen, stability_table
from holotype.filestate import regular
from holotype.model.classifier import MODEL, Classifier
from holotype.model.pool_sample import PoolSample
from holotype.model.predictions import DISTANCE, NONE
from holotype.model.saved import DESCRIPTION_FILE, digest_of_model
from holotype.names import counted, printable
from holotype.pool.images import SUFFIXES
from holotype.pool.sources import holds_images
from holotype.progress import Progress, Silent
from holotype.runs.commands import load_classifier, predict_sources
from holotype.runs.folder import RunFolder
from holotype.runs.images import fair_rows, open_images
from holotype.runs.places import find_inputs

SAMPLED = 2048  # images of the pool that are encoded where a run did not
VERSION_DIGITS = 12  # of the digest of a model, in what `holotype serve` records

_Record = Mapping[str, Any]


@dataclass(frozen=True)
class Drift:
    """How far new images are from the pool of a run.

    images       that were compared; `unreadable`: others that could not be read
    of_others    lines of a record that are about another version of the model
    stabilities  of each quantity that is known
    """

    images: int
    unreadable: int
    of_others: int
    stabilities: Sequence[Stability]

    def lines(self) -> Iterator[str]:
        """Yield the lines of a table, and what it is about."""
        yield from stability_table(self.stabilities)
        left = [f"{self.unreadable:,} could not be read"] if self.unreadable else []
        left += [f"{self.of_others:,} are of another version of the model"] if self.of_others else []
        yield f"{counted(self.images, 'image')} compared{'; ' if left else ''}{', '.join(left)}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        counts = {"images": self.images, "unreadable": self.unreadable, "of_others": self.of_others}
        return counts | {"quantities": [one.to_json() for one in self.stabilities]}


def drift_run(out: Path, new: Sequence[str], progress: Progress | None = None) -> Drift:
    """Compare `new` with the pool of the run in `out`, or whose model is there, by what its model says of both.

    new   images, tars, folders or patterns, which are predicted; files that `holotype predict --out` wrote (JSON lines
          or CSV); or what `holotype serve --record` wrote

    A run that does not know what its model says of the pool, as vectors were supplied, or an earlier version did it,
    learns it now, from 2,048 images. Raises `HolotypeError` where a file is none of these, and where none of the images
    can be read; and where `out` has a model without its run.
    """
    progress, folder, classifier = progress or Silent(), _run_of(out), load_classifier(out)
    if classifier.pool_ is None:
        classifier.pool_ = _sampled(folder, classifier, progress)
    pool, version = classifier.pool_, digest_of_model(_description(folder))[:VERSION_DIGITS]
    found = list(_records(classifier, new, progress))
    readable = [one for one in found if "error" not in one]
    ours = [one for one in readable if one.get("version", version) == version]
    if not ours:
        raise HolotypeError(_why_none(found, readable))
    seen = ModelOutputs(
        np.array([one["label"] == NONE for one in ours]),
        np.array([_highest(one) for one in ours]),
        np.array([one.get(DISTANCE, math.nan) for one in ours], np.float64),
    )
    stabilities = compare_seen(ModelOutputs(pool.none, pool.scores, pool.distances), seen)
    return Drift(len(ours), len(found) - len(readable), len(readable) - len(ours), stabilities)


def _run_of(out: Path) -> RunFolder:
    """The folder of the run in `out`, also where its model is given."""
    folder = RunFolder(out.parent if out.name == MODEL else out)
    is_run = folder.settings.exists() or folder.unfinished.exists()
    if not is_run and any((place / DESCRIPTION_FILE).exists() for place in (out, folder.model)):
        raise HolotypeError(
            f"{out} is a model without its run, and does not know its pool: give the run that it lies in"
        )
    return folder


def _sampled(folder: RunFolder, classifier: Classifier, progress: Progress) -> PoolSample:
    """Encode what of a sample of the pool has no vector yet; return the sample, which is kept. Raises `OutputError`."""
    if not files.is_writable(folder.path):
        raise OutputError(
            f"the run in {folder.path} does not know what its model says of its pool, and can only be read: copy it"
        )
    settings = find_inputs(folder, needed=["images"])
    with folder.lock("holotype drift"):
        pool = open_images(folder, settings, progress)
        rows = np.random.default_rng(0).permutation(fair_rows(folder, pool))[:SAMPLED]
        ids = [pool.ids[row] for row in rows.tolist()]
        store = folder.open_store(classifier.encoder_, pool)
        store.ensure(ids, lambda name: pool.read(pool.rows[name]), progress, "encode a sample of the pool")
        vectors, _ = store.take(ids)
        if not len(vectors):
            raise HolotypeError(f"none of the images of {pool.source} has a vector to compare with")
        said = classifier.predict_features([""] * len(vectors), vectors)
        sample = PoolSample.of(_description(folder), l2_normalize(vectors), said)
        sample.save(folder.model)
    return sample


def _description(folder: RunFolder) -> bytes:
    return (folder.model / DESCRIPTION_FILE).read_bytes()


def _why_none(found: Sequence[_Record], readable: Sequence[_Record]) -> str:
    if readable:
        return (
            f"all {counted(len(readable), 'line')} are about another version of the model than the one in the run now: "
            "compare what was recorded since"
        )
    return f"expected images to compare, got {counted(len(found), 'image')}, of which none could be read"


def _records(classifier: Classifier, new: Sequence[str], progress: Progress) -> Iterator[_Record]:
    """Yield what is said of each image; one that could not be read has an "error"."""
    images = [one for one in new if holds_images(one) or Path(one).suffix.lower() in SUFFIXES]
    for source in new:
        if source not in images:
            yield from _read(Path(source), classifier.classes_[:-1])
    if images:
        yield from predict_sources(classifier, images, progress)


def _read(path: Path, classes: Sequence[str]) -> Iterator[_Record]:
    """Yield the records of a file of predictions, or of what a server recorded."""
    try:
        text = regular(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise HolotypeError(f"{printable(str(path))} cannot be read: {why}") from None
    lines = text.lstrip("\ufeff").splitlines(keepends=True)
    read: Callable[[Any, Sequence[str]], _Record] = _of_json
    given: Iterable[tuple[int, Any]] = enumerate(lines, start=1)
    if lines and lines[0].startswith("id,label,"):
        read, given = _of_cells, enumerate(csv.DictReader(lines), start=2)
    for number, line in given:
        try:
            yield _checked(read(line, classes))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise HolotypeError(
                f"{printable(str(path))}, line {number}: expected what holotype predict --out wrote, or "
                f"holotype serve --record, of the classes {', '.join(classes)}"
            ) from None


def _checked(record: _Record) -> _Record:
    """Return `record`. Raises `ValueError` where it is none."""
    if "error" not in record and not (isinstance(record["label"], str) and 0 <= _highest(record) <= 1):
        raise ValueError("neither a label with its probability nor an error")
    return record


def _of_json(line: str, classes: Sequence[str]) -> _Record:
    record = json.loads(line)
    if "error" in record:
        return {"error": record["error"]}
    if "probabilities" in record and [*record["probabilities"]] != [*classes, NONE]:
        raise ValueError
    found: dict[str, Any] = record | ({DISTANCE: float(record[DISTANCE])} if DISTANCE in record else {})
    return found


def _of_cells(row: Mapping[str, str], classes: Sequence[str]) -> _Record:
    if not row["label"]:
        return {"error": row["reason"]}
    found: dict[str, Any] = {"label": row["label"]}
    found["probabilities"] = {name: float(row[f"p_{name}"]) for name in [*classes, NONE]}
    return found | ({DISTANCE: float(row[DISTANCE])} if row.get(DISTANCE) else {})


def _highest(record: _Record) -> float:
    """The probability of the likeliest class of a record."""
    if "probabilities" not in record:
        return float(record["probability"])
    return max(float(value) for name, value in record["probabilities"].items() if name != NONE)
