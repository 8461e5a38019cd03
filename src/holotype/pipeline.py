"""The main job: the stages in order, one function; the command line and Python both call it."""

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from holotype import exemplars, files, similarity, training
from holotype.answers import Answer
from holotype.classifier import Classifier
from holotype.embeddings import MANIFEST, Embeddings, EmbeddingStore, embed, read_manifest
from holotype.encoders import Encoder, load_encoder
from holotype.errors import GroupError, HolotypeError, UnreadableImage
from holotype.evaluation import Evaluation, TestSet, evaluate, read_test_set
from holotype.groups import Groups, refuse_empty
from holotype.images import SUFFIXES, contact_sheet, decode
from holotype.job import (
    ANSWERS,
    UNFINISHED,
    Job,
    answerable,
    open_job,
    prepare_folder,
    read_answers,
    revised,
    settings_of,
)
from holotype.pool import Pool, open_pool
from holotype.precision import fit_precision
from holotype.predictions import Predictions
from holotype.progress import Progress, Silent
from holotype.results import Result, Sweep, read_learnt, write_results
from holotype.settings import PRECISION, HeadName, HeadSettings, Precision, Settings, Threshold
from holotype.similarity import Search
from holotype.splits import Split
from holotype.supplied import import_embeddings
from holotype.teaching import Start, begin, gather, teach
from holotype.tuning import tune


def run(
    settings: Settings,
    out: Path,
    *,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Do the whole job of `settings` and write the report, the model and the predictions to `out`.

    Every combination of thresholds, heads and encoders is trained on the same rows; the best is chosen, and tuned
    if asked. Raises `HolotypeError` with what was expected, what came and what to do.
    """
    progress = progress or Silent()
    job = open_job(settings)
    prepare_folder(out, job.settings, force=force, resume=resume)
    progress.say(f"pool: {len(job.pool):,} images in {job.pool.source}")
    answers = read_answers(out)
    if answers:
        progress.say(f"answers: {len(answers):,} in {out / ANSWERS}")
    job = replace(job, exemplars=revised(job.exemplars, answers, job.classes, job.pool))
    stores = {encoder.name: _store(job, encoder, out) for encoder in _encoders(job, progress)}
    searches = _searches(job, stores, progress)
    spoiled = _spoiled(job, searches.values())
    grouped, failed = _group(job, searches, answers)
    groupings = [one.groups for one in grouped.values()]
    parts = training.plan(next(iter(searches.values())), groupings, job.test_rows, settings.fit)
    judged = {job.pool.ids[row] for row in training.agreed(groupings, parts.validation)}
    task = Task(job, parts, judged, spoiled, progress)
    results = [
        _learn(task, one.groups, searches[encoder], stores[encoder], head, threshold)
        for (encoder, threshold), one in grouped.items()
        for head in settings.heads
    ]
    chosen = max(results, key=lambda result: result.validation_f1)
    if settings.trials:
        chosen = _tune(task, chosen, results, out)
        results.append(chosen)
    comparison = _compare(job, chosen, progress)
    start = _start(job, chosen.search, grouped[chosen.encoder, chosen.threshold].plain)
    write_results(out, job.settings, job.pool, Sweep(results, chosen, failed, comparison, spoiled, start))
    (out / UNFINISHED).unlink(missing_ok=True)
    return chosen


def _encoders(job: Job, progress: Progress) -> Iterator[Encoder]:
    """The encoders of the sweep, each in the precision that suits the pool."""
    whole = job.supplied is None or job.settings.search in ("encoder", "both")
    made = Path(job.settings.embeddings) if job.settings.embeddings else None
    for encoder in job.encoders:
        yield fit_precision(encoder, job.pool, job.settings.fit.precision, progress, made=made, whole=whole)


def _store(job: Job, encoder: Encoder, out: Path) -> EmbeddingStore:
    """The vectors of `encoder` in `out`; those that were supplied are taken over where it made them itself."""
    folder = out / "vectors" / encoder.name_on_disk
    source = Path(job.settings.embeddings or "")
    if not folder.exists() and job.settings.embeddings and (source / MANIFEST).is_file():
        made = read_manifest(source)
        if (made.get("fingerprint"), made.get("pool")) == (encoder.fingerprint, job.pool.fingerprint):
            with files.explain(folder):
                shutil.copytree(source, folder, copy_function=_link)
    return EmbeddingStore(folder, encoder, job.pool.fingerprint)


def _link(source: str, target: str) -> None:
    """Shards are never changed in place, so a second name is as good as a copy, where the disk allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _searches(job: Job, stores: Mapping[str, EmbeddingStore], progress: Progress) -> dict[str, Search]:
    """Search once in the supplied vectors (way 2), for all encoders, or in each encoder's own (way 1)."""
    if job.supplied is not None and job.settings.search != "encoder":
        return dict.fromkeys(stores, similarity.search(job.supplied, job.classes, job.exemplars, job.maker))
    return {
        name: similarity.search(
            embed(job.pool, store.encoder, store.folder, progress), job.classes, job.exemplars, store.encoder
        )
        for name, store in stores.items()
    }


@dataclass(frozen=True)
class Grouped:
    """Groups by the exemplars alone, and after what people said."""

    plain: Groups
    groups: Groups


def _group(
    job: Job, searches: Mapping[str, Search], answers: Sequence[Answer]
) -> tuple[dict[tuple[str, Threshold], Grouped], list[tuple[str, Threshold, str]]]:
    """Group at each threshold; one that leaves a class empty is set aside, if another does not."""
    found: dict[tuple[str, Threshold], Grouped] = {}
    failed: list[tuple[str, Threshold, str]] = []
    for encoder, search in searches.items():
        for threshold in job.settings.thresholds:
            try:
                plain = _classifier(job, encoder, threshold=threshold).group(search)
                taught = _taught(job, search, plain, answers)
                _refuse_empty(plain, taught, search)
                found[encoder, threshold] = Grouped(plain, taught)
            except GroupError as error:
                failed.append((encoder, threshold, str(error)))
    if not found:
        raise GroupError(failed[0][2])
    return found, failed


def _refuse_empty(plain: Groups, taught: Groups, search: Search) -> None:
    """Refuse a class that neither exemplars nor answers fill. One that answers emptied is what people want."""
    try:
        refuse_empty(plain, search.own)
    except GroupError:
        refuse_empty(taught, search.own)


def _start(job: Job, search: Search, groups: Groups) -> Start:
    return begin(search, groups, job.settings.fit.rank.exemplar_views, job.pool.fingerprint)


def _taught(job: Job, search: Search, groups: Groups, answers: Sequence[Answer]) -> Groups:
    """The groups after what people said, where they said anything."""
    if not answers:
        return groups
    said, fit = gather(answers, job.classes, answerable(job.pool, job.test_rows)), job.settings.fit
    start = _start(job, search, groups)
    return teach(start, said, fit.doubtful_band, fit.ambiguity, fit.seed, job.test_rows).groups


def _classifier(job: Job, encoder: str, **options: Any) -> Classifier:
    return Classifier(**dict(job.settings.fit) | {"encoder": encoder} | options)


def _spoiled(job: Job, searches: Iterable[Search]) -> dict[str, str]:
    """Test rows that prove nothing: id -> why. They are exemplars, or nearly the same as one."""
    spoiled: dict[str, str] = {}
    own = {exemplar.row for exemplar in job.exemplars}
    for search in searches:
        for row in job.test_rows:
            if row in own:
                spoiled[job.pool.ids[row]] = "an exemplar"
            elif search.scores[row].max() >= job.settings.fit.near_duplicate:
                spoiled.setdefault(job.pool.ids[row], "nearly the same as an exemplar")
    return spoiled


@dataclass(frozen=True)
class Task:
    """What all combinations of a sweep share.

    parts     rows to fit and to validate
    judged    ids on which they can be compared: labels come from the groups, so only where all agree
    spoiled   test rows that do not count: id -> why
    """

    job: Job
    parts: Split
    judged: set[str]
    spoiled: dict[str, str]
    progress: Progress


def _learn(
    task: Task,
    groups: Groups,
    search: Search,
    store: EmbeddingStore,
    head: HeadName,
    threshold: Threshold,
    head_settings: HeadSettings | None = None,
) -> Result:
    job = task.job
    task.progress.say(f"train: {store.encoder.name}, {head}, threshold {threshold}")
    started = time.perf_counter()
    options = {"threshold": threshold, "head": head, "head_settings": head_settings or job.settings.fit.head_settings}
    classifier = _classifier(job, store.encoder.name, **options)
    classifier.learn(search, groups, task.parts, job.pool, store, task.progress)
    score, seconds = validation_f1(classifier, task.judged), time.perf_counter() - started
    result = Result(store.encoder.name, head, threshold, classifier, search, store, score, seconds)
    if job.test_set is None:
        return result
    answers = _answer(classifier, job.pool, job.test_set, store, task.spoiled, task.progress)
    return replace(result, predictions=answers[0], evaluation=answers[1], unreadable=answers[2])


def validation_f1(classifier: Classifier, judged: set[str]) -> float:
    """Return macro-F1 on the validation rows in `judged`, over the classes that have any."""
    training_ = classifier.training_
    rows = training_.validation.take(np.array([name in judged for name in training_.validation_ids], dtype=bool))
    given = classifier.predict_images([""] * len(rows.y), rows.X).numbers
    scores = []
    for k in range(len(classifier.classes_) - 1):
        if (rows.y == k).any():
            hits = float(((given == k) & (rows.y == k)).sum())
            scores.append(2 * hits / float((given == k).sum() + (rows.y == k).sum()))
    return float(np.mean(scores)) if scores else 0.0


def _answer(
    classifier: Classifier,
    pool: Pool,
    test_set: TestSet,
    store: EmbeddingStore,
    spoiled: Mapping[str, str],
    progress: Progress,
) -> tuple[Predictions, Evaluation | None, dict[str, str]]:
    """Return predictions of the readable test rows, what those not `spoiled` are worth, and the unreadable."""
    store.ensure(test_set.ids, lambda name: pool.read(pool.rows[name]), progress, "encode test rows")
    features, unreadable = store.take(test_set.ids)
    kept = [place for place, name in enumerate(test_set.ids) if name not in unreadable]
    predictions = classifier.predict_images([test_set.ids[place] for place in kept], features)
    counted = np.array([name not in spoiled for name in predictions.ids], dtype=bool)
    truth = test_set.truth[kept][counted]
    return predictions, evaluate(predictions[counted], truth) if counted.any() else None, unreadable


def _tune(task: Task, chosen: Result, results: Sequence[Result], out: Path) -> Result:
    """Tune the chosen head on its own training rows, and over the thresholds of the sweep if asked."""
    job = task.job
    rivals = [chosen]
    if job.settings.tune_threshold:
        rivals += [
            one
            for one in results
            if (one.encoder, one.head) == (chosen.encoder, chosen.head) and one.threshold != chosen.threshold
        ]
    tuned = tune(
        chosen.head,
        job.settings.fit.head_settings,
        {one.threshold: one.classifier.training_.judged_by(task.judged) for one in rivals},
        len(job.classes) + 1,
        trials=job.settings.trials,
        study=out / "study.db",
        seed=job.settings.fit.seed,
        progress=task.progress,
    )
    best = next(one for one in rivals if one.threshold == tuned.threshold)
    groups = best.classifier.groups_
    again = _learn(task, groups, best.search, best.store, best.head, best.threshold, tuned.settings)
    return replace(again, tuned=tuned)


def _compare(job: Job, chosen: Result, progress: Progress) -> similarity.SearchComparison | None:
    """Way 1 (the encoder's features) against way 2 (the supplied vectors), over the images that both have."""
    if job.supplied is None:
        return None
    if job.settings.search == "encoder":
        other = similarity.search(job.supplied, job.classes, job.exemplars, job.maker)
        return similarity.compare(chosen.search, other)
    store = chosen.store
    own = embed(job.pool, store.encoder, store.folder, progress) if job.settings.search == "both" else None
    other = similarity.search(own or store.open(job.pool), job.classes, job.exemplars, store.encoder)
    return similarity.compare(other, chosen.search)


def tune_run(out: Path, trials: int, thresholds: Sequence[Threshold] = (), progress: Progress | None = None) -> Result:
    """Do the run in `out` again and tune the chosen head, over `thresholds` too if any are given.

    Vectors are used again, and the study in `out`/study.db goes on where it stopped.
    """
    settings = settings_of(out)
    more: dict[str, Any] = {"trials": trials}
    if thresholds:
        more |= {"thresholds": list(thresholds), "tune_threshold": True}
    return run(settings.model_copy(update=more), out, force=True, progress=progress)


def evaluate_run(out: Path, test_set: Path, progress: Progress | None = None) -> Evaluation:
    """Evaluate the model of the run in `out` on another test set; writes `out`/evaluation.json.

    Rows that the model learnt from, and its exemplars, do not count. Raises `HolotypeError` when no other is left.
    """
    settings, classifier = settings_of(out), Classifier.load(out)
    pool = open_pool(settings.images, allow_truncated=settings.allow_truncated)
    rows = read_test_set(test_set, classifier.classes_[:-1], pool)
    encoder = classifier.encoder_
    store = EmbeddingStore(out / "vectors" / encoder.name_on_disk, encoder, pool.fingerprint)
    learnt = read_learnt(out, settings.fit.near_duplicate)
    _, evaluation, _ = _answer(classifier, pool, rows, store, learnt, progress or Silent())
    if evaluation is None:
        raise HolotypeError(f"no row of {test_set} can be evaluated: each was learnt from, or is unreadable")
    files.write(out / "evaluation.json", json.dumps(evaluation.to_json(), indent=1, allow_nan=False))
    return evaluation


def predict_sources(
    classifier: Classifier, sources: Sequence[str], progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a record for each image of `sources` (images, tars, folders); an unreadable one has an "error"."""
    pools = {source: open_pool(source) for source in sources if not _is_image(source)}  # a wrong one stops us now
    for source in sources:
        if source not in pools:
            try:
                yield from classifier.explain(source, source).records()
            except UnreadableImage as error:
                yield {"id": source, "error": str(error)}
            continue
        pool = pools[source]
        for predictions, unreadable in classifier.predict_pool(pool, range(len(pool)), progress):
            yield from predictions.records()
            yield from ({"id": name, "error": reason} for name, reason in unreadable.items())


def _is_image(source: str) -> bool:
    return Path(source).suffix.lower() in SUFFIXES and not Path(source).is_dir()


@dataclass(frozen=True)
class Found:
    """A pool and the cosine (n,) of its images to the exemplars; nan for those that cannot be compared."""

    pool: Pool
    scores: NDArray[np.float32]

    def best(self, k: int) -> list[tuple[str, float]]:
        """Return (id, cosine) of the `k` most similar images."""
        return [(self.pool.ids[row], float(self.scores[row])) for row in similarity.top_k(self.scores, k)]

    def sheet(self, k: int, path: Path) -> None:
        """Write the `k` most similar images as one PNG; one that cannot be read leaves a grey cell."""
        images = [self._picture(int(row)) for row in similarity.top_k(self.scores, k)]
        files.write(path, lambda file: contact_sheet(images).save(file, "PNG"))

    def _picture(self, row: int) -> Image.Image:
        try:
            return decode(self.pool.read(row), fit=128)
        except UnreadableImage:
            return Image.new("RGB", (128, 128), "grey")


def embed_pool(
    source: str,
    encoder: str,
    out: Path,
    precision: Precision = PRECISION,
    *,
    allow_truncated: bool = False,
    progress: Progress | None = None,
) -> Embeddings:
    """Compute the vectors of the images of `source` into `out`, or go on where an earlier call stopped."""
    progress = progress or Silent()
    pool = open_pool(source, allow_truncated=allow_truncated)
    return embed(pool, fit_precision(load_encoder(encoder), pool, precision, progress, made=out), out, progress)


def search_pool(
    source: str,
    codes: Sequence[str],
    encoder: str,
    *,
    vectors: Path | None = None,
    embeddings: Path | None = None,
    progress: Progress | None = None,
) -> Found:
    """Return the images of `source` by their cosine to the nearest of the exemplars `codes`; exemplars left out.

    vectors      folder where the vectors of `encoder` are, or will be kept; a folder of the cache if not given
    embeddings   vectors that somebody computed, to search in instead
    """
    pool = open_pool(source)
    found = exemplars.resolve(pool, {"exemplar": list(codes)})
    if embeddings is not None:
        searched = similarity.search(import_embeddings(embeddings, pool), ["exemplar"], found, None)
    else:
        network = fit_precision(load_encoder(encoder), pool, PRECISION, progress or Silent(), made=vectors)
        folder = vectors or files.cache_folder() / "vectors" / pool.fingerprint[:16] / network.name_on_disk
        searched = similarity.search(embed(pool, network, folder, progress), ["exemplar"], found, network)
    column = searched.scores[:, 0]
    column[[exemplar.row for exemplar in found if exemplar.row is not None]] = np.nan
    return Found(pool, column)
