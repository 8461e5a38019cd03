"""What is done with a run, or with a pool alone: tune, evaluate, embed, predict."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from holotype import files
from holotype.encoders.registry import load_encoder
from holotype.errors import HolotypeError, ModelError, UnreadableImage
from holotype.evaluation.metrics import Evaluation
from holotype.grouping.search import exemplar_vectors
from holotype.model.classifier import MODEL, Classifier
from holotype.model.duplicates import near_rows
from holotype.names import command, counted, printable
from holotype.pool.pool import Pool, open_pool
from holotype.pool.sources import holds_images
from holotype.progress import Progress, Silent
from holotype.runs.certify import keep_holding
from holotype.runs.folder import RunFolder
from holotype.runs.groupings import search_sources
from holotype.runs.images import exemplars_of_run, ranked_images
from holotype.runs.inputs import RunInputs, open_inputs
from holotype.runs.judgement import judge, uncounted_rows
from holotype.runs.places import find_inputs
from holotype.runs.remarks import say_answered, say_left_out, say_unreadable
from holotype.runs.results import RunResult, read_learnt
from holotype.runs.sweep import repeat
from holotype.settings import ARITHMETIC, Arithmetic, Threshold
from holotype.stores.store import read_object
from holotype.stores.urls import is_url, local, whole
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.folders import in_arithmetic, open_shared

_LEARNT = "learnt from"


def tune_run(
    out: Path, trials: int, thresholds: Sequence[Threshold] = (), progress: Progress | None = None
) -> RunResult:
    """Do the run in `out` again and tune the chosen head, over `thresholds` too if any are given.

    Vectors are used again, and the study in `out`/study.db goes on where it stopped.
    """
    more: dict[str, Any] = {"trials": trials}
    if thresholds:
        more |= {"thresholds": list(thresholds), "tune_threshold": True}
    return repeat(out, lambda settings: settings.model_copy(update=more), doing="holotype tune", progress=progress)


def evaluate_run(out: Path, test_set: Path, progress: Progress | None = None) -> Evaluation:
    """Evaluate the model of the run in `out` on another test set; writes its evaluation.json.

    Rows that the model learnt from, its exemplars, and what is nearly the same as one of these do not count, as with
    the test set of a run. A run that can only be read is evaluated, and nothing is written. Raises `HolotypeError` when
    no other row is left.
    """
    progress, folder = progress or Silent(), RunFolder(out)
    folder.read_settings()  # where there is no run, no folder is made
    writable = files.is_writable(out)
    with folder.lock("holotype evaluate") if writable else folder.reading():
        needed = ("images", "embeddings", "encoders")
        settings, classifier = find_inputs(folder, needed=needed), folder.load_model()
        settings = settings.in_order(classifier.classes_[:-1]).model_copy(update={"test_set": str(test_set)})
        inputs = open_inputs(settings, lambda pool: exemplars_of_run(folder, settings, pool), words=False)
        inputs = inputs.with_exemplars(classifier.exemplar_names_)
        assert inputs.test_set is not None  # noqa: S101 - given above
        encoder = classifier.encoder_
        store = folder.open_store(encoder, inputs.pool)
        not_counted = _not_counted(inputs, folder, progress)
        _, evaluation, _ = judge(classifier, inputs.pool, inputs.test_set, store, not_counted, progress)
        if evaluation is None:
            raise HolotypeError(f"no row of {test_set} can be evaluated: {_why_none(out, test_set, not_counted)}")
        record = evaluation.to_json() | {"not_counted": not_counted}
        say_answered(folder.metrics, progress)
        if writable:
            files.write(folder.evaluation, json.dumps(record, indent=1, allow_nan=False))
    if not writable:
        progress.say(f"{folder.evaluation} is not written, as the run can only be read")
    if not_counted:
        some = ", ".join(f"{name} ({reason})" for name, reason in list(not_counted.items())[:10])
        why = f"{folder.evaluation} says why" if writable else some
        advice = f"; {_untaught(out, test_set)}" if _any_learnt(not_counted) else ""
        progress.say(f"{len(not_counted):,} rows do not count: {why}{advice}")
    return evaluation


def _not_counted(inputs: RunInputs, folder: RunFolder, progress: Progress) -> dict[str, str]:
    """The test rows that prove nothing about the model of the run: id -> why."""
    whole = inputs.supplied is None or inputs.settings.search == "encoder"
    encoder = inputs.encoders[0]  # near-duplicates are those of its vectors, or of the supplied ones
    if whole:
        encoder = in_arithmetic(encoder, inputs.pool, inputs.settings.fit.precision, progress, folder.stores)
    store = folder.open_store(encoder, inputs.pool)
    searched = search_sources(inputs, {encoder.name: store}, progress)[encoder.name]
    pool, rows = inputs.pool, inputs.test_rows
    learnt = _learnt_rows(folder, pool, progress)
    near = set(near_rows(searched.embeddings, learnt, inputs.settings.fit.near_duplicate, among=rows))
    found = {pool.ids[row]: _LEARNT for row in rows if row in set(learnt)}
    found |= {pool.ids[row]: f"nearly the same as what was {_LEARNT}" for row in rows if row in near - set(learnt)}
    exemplars = exemplar_vectors(searched.embeddings, inputs.exemplars, searched.encoder)
    return found | uncounted_rows(inputs, searched.embeddings, exemplars, rows)


def _why_none(out: Path, test_set: Path, not_counted: Mapping[str, str]) -> str:
    if _any_learnt(not_counted):
        return f"each was learnt from, or is unreadable; {_untaught(out, test_set)}"
    return "each is an exemplar, nearly the same as one, or unreadable; add rows of other images"


def _any_learnt(not_counted: Mapping[str, str]) -> bool:
    return any(why.endswith(_LEARNT) for why in not_counted.values())


def _untaught(out: Path, test_set: Path) -> str:
    return f"{command('run', out, '--test-set', test_set)} does the run again and learns from none of them"


def _learnt_rows(folder: RunFolder, pool: Pool, progress: Progress) -> list[int]:
    """The rows of the images that the model of the run learnt from, whatever they are called now."""
    names, images = read_learnt(folder), folder.load_baseline().images
    if images is None:
        found = [pool.rows.get(name, -1) for name in names]
    else:
        ranked = ranked_images(folder, pool)
        places = zip(ranked.ids, images.places_in(ranked).tolist(), strict=True)
        now = {images.ids[place]: pool.rows[name] for name, place in places if place >= 0}
        found = [now.get(name, -1) for name in names]
    gone = [name for name, row in zip(names, found, strict=True) if row < 0]
    if gone:
        progress.say(
            f"learnt from in the run, and not in {pool.source} any more: {counted(len(gone), 'image')} "
            f"({', '.join(gone[:3])}); "
            "what is nearly the same as one of them counts"
        )
    return [row for row in found if row >= 0]


def load_classifier(path: Path) -> Classifier:
    """Load a saved model, or that of a run; not while another takes its place. Raises `ModelError`."""
    folder = RunFolder(path.parent if path.name == MODEL else path)
    with folder.reading():
        if not folder.settings.exists():
            folder.check_whole(ModelError)  # of a run that is not finished
            return Classifier.load(path)
        classifier = folder.load_model()
    keep_holding(folder, classifier)
    return classifier


def predict_sources(
    classifier: Classifier, sources: Sequence[str], progress: Progress | None = None, *, allow_truncated: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield a record for each image of `sources` (images, tars, folders); an unreadable one has an "error".

    Of several tars or folders, the ids in each are told apart by its path before them.
    """
    opened = open_sources(classifier, sources, progress, allow_truncated=allow_truncated)
    for source in sources:
        if (pool := opened[source]) is not None:
            say_left_out(pool, progress or Silent())
        yield from predict_rows(classifier, opened, source, None, progress)


def open_sources(
    classifier: Classifier, sources: Sequence[str], progress: Progress | None = None, *, allow_truncated: bool = False
) -> dict[str, Pool | None]:
    """Return what of `sources` holds images, opened, and None for what is one; a wrong one is told at once."""
    for one in classifier.promises_:
        (progress or Silent()).say(
            f"certified is about the images of {one.pool} as of {one.date}, and about no others: {one}"
        )
    return {
        one: open_pool(one, allow_truncated=allow_truncated, progress=progress) if holds_images(one) else None
        for one in sources
    }


def predict_rows(
    classifier: Classifier,
    opened: Mapping[str, Pool | None],
    source: str,
    rows: range | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the records of `rows` (else all) of one of the sources that are `opened`, or of the image that it is."""
    pool = opened[source]
    if pool is None:
        yield from _predict_file(classifier, source)
        return
    several = sum(one is not None for one in opened.values()) > 1
    for record in _predict_pool(classifier, pool, range(len(pool)) if rows is None else rows, progress):
        where = {"path": pool.path(pool.rows[record["id"]])}
        yield record | where | ({"id": f"{printable(source)}/{record['id']}"} if several else {})


def _predict_pool(
    classifier: Classifier, pool: Pool, rows: range, progress: Progress | None
) -> Iterator[dict[str, Any]]:
    for predictions, unreadable in classifier.predict_pool(pool, rows, progress):
        found = [*predictions.records(), *({"id": name, "error": why} for name, why in unreadable.items())]
        yield from sorted(found, key=lambda record: pool.rows[record["id"]])  # line i is the pool's image i


def _predict_file(classifier: Classifier, path: str) -> Iterator[dict[str, Any]]:
    name, where = printable(path), {"path": printable(whole(path))}
    try:
        picture = read_object(path) if is_url(path) else local(path)
        yield from (record | where for record in classifier.predict_one(picture, name).records())
    except UnreadableImage as error:
        yield {"id": name, "error": printable(str(error))} | where


def embed_pool(
    source: str,
    encoder: str,
    out: Path,
    precision: Arithmetic = ARITHMETIC,
    *,
    allow_truncated: bool = False,
    progress: Progress | None = None,
) -> Embeddings:
    """Compute the vectors of the images of `source` into `out`, or go on where an earlier call stopped.

    Raises `HolotypeError` where no image can be read.
    """
    progress = progress or Silent()
    pool = open_pool(source, allow_truncated=allow_truncated, progress=progress)
    say_left_out(pool, progress)
    network = in_arithmetic(load_encoder(encoder, progress=progress), pool, precision, progress, [out])
    found = open_shared(out, network, pool).embed(progress)
    say_unreadable(pool, found.unreadable, progress)
    return found
