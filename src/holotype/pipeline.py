"""The main job: the stages in order, one function; the command line and Python both call it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype import exemplars, files, similarity, training
from holotype.classifier import Classifier
from holotype.embeddings import Embeddings, EmbeddingStore, embed
from holotype.encoders import Encoder, OnnxEncoder, cache_folder, load_encoder
from holotype.errors import EmbeddingsError, GroupError, HolotypeError, OutputError, UnreadableImage
from holotype.evaluation import Evaluation, TestSet, evaluate, read_test_set
from holotype.exemplars import Exemplar
from holotype.groups import Groups
from holotype.images import SUFFIXES, contact_sheet, decode
from holotype.pool import Pool, open_pool
from holotype.progress import Progress, Silent
from holotype.results import Result, Sweep, write_results
from holotype.settings import HeadName, HeadSettings, Settings, Threshold
from holotype.similarity import Search
from holotype.splits import Split
from holotype.supplied import check_identity, import_embeddings
from holotype.tuning import tune

SETTINGS = "holotype.toml"


@dataclass(frozen=True)
class Job:
    """What a run works on, opened and checked before anything is written.

    encoders   those of the sweep
    supplied   vectors that somebody computed
    maker      the encoder that made them, where it is known
    """

    settings: Settings
    pool: Pool
    exemplars: Sequence[Exemplar]
    test_set: TestSet | None
    encoders: Sequence[OnnxEncoder]
    supplied: Embeddings | None
    maker: OnnxEncoder | None

    @property
    def classes(self) -> list[str]:
        """The K classes."""
        return list(self.settings.exemplars)

    @property
    def test_rows(self) -> list[int]:
        """Pool rows that nothing may be learnt from."""
        return self.test_set.rows if self.test_set else []


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
    stores = {encoder.name: _store(job.pool, encoder, out) for encoder in job.encoders}
    searches = {name: _search(job, store, progress) for name, store in stores.items()}
    groupings, failed = _group(job, searches)
    parts = training.plan(next(iter(searches.values())), list(groupings.values()), job.test_rows, settings.fit)
    judged = _judged(job.pool, groupings)
    results = [
        _learn(job, groups, parts, judged, searches[encoder], stores[encoder], head, threshold, progress)
        for (encoder, threshold), groups in groupings.items()
        for head in settings.heads
    ]
    chosen = max(results, key=lambda result: result.validation_f1)
    if settings.trials:
        chosen = _tune(job, parts, judged, chosen, results, out, progress)
        results.append(chosen)
    comparison = _compare(job, chosen, progress)
    write_results(out, job.settings, job.pool, Sweep(results, chosen, failed, comparison))
    return chosen


def open_job(settings: Settings) -> Job:
    """Open and check everything that a run needs; paths become absolute, so that the settings can be repeated."""
    pool = open_pool(settings.images, allow_truncated=settings.allow_truncated)
    found = exemplars.resolve(pool, settings.exemplars)
    test_set = read_test_set(Path(settings.test_set), list(settings.exemplars), pool) if settings.test_set else None
    supplied = import_embeddings(Path(settings.embeddings), pool) if settings.embeddings else None
    if supplied is None and settings.search in ("embeddings", "both"):
        raise EmbeddingsError(f"--search {settings.search} needs vectors to search in: give --embeddings")
    encoders = [load_encoder(name, settings.fit.runtime) for name in settings.encoders]
    maker = None
    if supplied is not None and settings.embeddings_encoder is not None:
        maker = load_encoder(settings.embeddings_encoder, settings.fit.runtime)
        check_identity(supplied, pool, maker)
    return Job(_absolute(settings, found), pool, found, test_set, encoders, supplied, maker)


def _absolute(settings: Settings, found: Sequence[Exemplar]) -> Settings:
    codes: dict[str, list[str]] = {name: [] for name in settings.exemplars}
    for exemplar in found:
        name = list(codes)[exemplar.label]
        codes[name].append(exemplar.name if exemplar.row is not None else str(Path(exemplar.name).absolute()))
    paths = {key: str(Path(path).absolute()) for key in ("embeddings", "test_set") if (path := getattr(settings, key))}
    networks = [str(Path(name).absolute()) if Path(name).exists() else name for name in settings.encoders]
    images = {"images": str(Path(settings.images).absolute()), "encoders": networks}
    return settings.model_copy(update={"exemplars": codes} | paths | images)


def prepare_folder(out: Path, settings: Settings, *, force: bool = False, resume: bool = False) -> None:
    """Take `out` for a run and write its settings. Raises `OutputError` when it holds one already."""
    existing = out / SETTINGS
    if existing.exists() and not (force or resume):
        raise OutputError(
            f"{out} already holds a run; give --resume to go on with it, --force to write over it (vectors that were "
            "computed are used again), or another --out"
        )
    if existing.exists() and resume and not force and Settings.load(existing) != settings:
        raise OutputError(f"{out} holds a run with other settings; give --force to write over it, or another --out")
    if not existing.exists() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is not empty and holds no run; give another --out")
    files.write(existing, settings.to_toml())


def _store(pool: Pool, encoder: Encoder, out: Path) -> EmbeddingStore:
    return EmbeddingStore(out / "vectors" / encoder.name_on_disk, encoder, pool.fingerprint)


def _search(job: Job, store: EmbeddingStore, progress: Progress) -> Search:
    """Search in the supplied vectors (way 2), or in this encoder's own (way 1)."""
    if job.supplied is not None and job.settings.search != "encoder":
        return similarity.search(job.supplied, job.classes, job.exemplars, job.maker)
    own = embed(job.pool, store.encoder, store.folder, progress)
    return similarity.search(own, job.classes, job.exemplars, store.encoder)


def _group(
    job: Job, searches: Mapping[str, Search]
) -> tuple[dict[tuple[str, Threshold], Groups], list[tuple[str, Threshold, str]]]:
    """Group at each threshold; one that leaves a class empty is set aside, if another does not."""
    found: dict[tuple[str, Threshold], Groups] = {}
    failed: list[tuple[str, Threshold, str]] = []
    for encoder, search in searches.items():
        for threshold in job.settings.thresholds:
            try:
                found[encoder, threshold] = _classifier(job, encoder, threshold=threshold).group(search)
            except GroupError as error:
                failed.append((encoder, threshold, str(error)))
    if not found:
        raise GroupError(failed[0][2])
    return found, failed


def _classifier(job: Job, encoder: str, **options: Any) -> Classifier:
    return Classifier(**dict(job.settings.fit) | {"encoder": encoder} | options)


def _judged(pool: Pool, groupings: Mapping[Any, Groups]) -> set[str]:
    """The images on which combinations can be compared: labels come from the groups, so only where all agree."""
    return {pool.ids[row] for row in training.agreed(list(groupings.values()))}


def _learn(
    job: Job,
    groups: Groups,
    parts: Split,
    judged: set[str],
    search: Search,
    store: EmbeddingStore,
    head: HeadName,
    threshold: Threshold,
    progress: Progress,
    head_settings: HeadSettings | None = None,
) -> Result:
    progress.say(f"train: {store.encoder.name}, {head}, threshold {threshold}")
    started = time.perf_counter()
    options = {"threshold": threshold, "head": head, "head_settings": head_settings or job.settings.fit.head_settings}
    classifier = _classifier(job, store.encoder.name, **options)
    classifier.learn(search, groups, parts, job.pool, store, progress)
    score, seconds = validation_f1(classifier, judged), time.perf_counter() - started
    result = Result(store.encoder.name, head, threshold, classifier, search, store, score, seconds)
    return _with_answers(job, result, progress)


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


def _with_answers(job: Job, result: Result, progress: Progress) -> Result:
    """Add the predictions of the test rows and what they are worth."""
    if job.test_set is None:
        return result
    predictions, evaluation, unreadable = _answer(result.classifier, job.pool, job.test_set, result.store, progress)
    return replace(result, predictions=predictions, evaluation=evaluation, unreadable=unreadable)


def _answer(
    classifier: Classifier, pool: Pool, test_set: TestSet, store: EmbeddingStore, progress: Progress
) -> tuple[Any, Evaluation | None, dict[str, str]]:
    store.ensure(test_set.ids, lambda name: pool.read(pool.rows[name]), progress, "encode test rows")
    features, unreadable = store.take(test_set.ids)
    kept = [place for place, name in enumerate(test_set.ids) if name not in unreadable]
    predictions = classifier.predict_images([test_set.ids[place] for place in kept], features)
    return predictions, evaluate(predictions, test_set.truth[kept]) if kept else None, unreadable


def _tune(
    job: Job,
    parts: Split,
    judged: set[str],
    chosen: Result,
    results: Sequence[Result],
    out: Path,
    progress: Progress,
) -> Result:
    """Tune the chosen head on its own training rows, and over the thresholds of the sweep if asked."""
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
        {one.threshold: one.classifier.training_.judged_by(judged) for one in rivals},
        len(job.classes) + 1,
        trials=job.settings.trials,
        study=out / "study.db",
        seed=job.settings.fit.seed,
        progress=progress,
    )
    best = next(one for one in rivals if one.threshold == tuned.threshold)
    groups = best.classifier.groups_
    again = _learn(
        job, groups, parts, judged, best.search, best.store, best.head, best.threshold, progress, tuned.settings
    )
    return replace(again, tuned=tuned)


def _compare(job: Job, chosen: Result, progress: Progress) -> similarity.SearchComparison | None:
    """Way 1 (the encoder's features) against way 2 (the supplied vectors), over the images that both have."""
    if job.supplied is None:
        return None
    store = chosen.store
    own = embed(job.pool, store.encoder, store.folder, progress) if job.settings.search == "both" else None
    one = similarity.search(own or store.open(job.pool), job.classes, job.exemplars, store.encoder)
    return similarity.compare(one, similarity.search(job.supplied, job.classes, job.exemplars, job.maker))


def tune_run(out: Path, trials: int, thresholds: Sequence[Threshold] = (), progress: Progress | None = None) -> Result:
    """Do the run in `out` again and tune the chosen head, over `thresholds` too if any are given.

    Vectors are used again, and the study in `out`/study.db goes on where it stopped.
    """
    settings = Settings.load(out / SETTINGS)
    more: dict[str, Any] = {"trials": trials}
    if thresholds:
        more |= {"thresholds": list(thresholds), "tune_threshold": True}
    return run(settings.model_copy(update=more), out, force=True, progress=progress)


def evaluate_run(out: Path, test_set: Path, progress: Progress | None = None) -> Evaluation:
    """Evaluate the model of the run in `out` on another test set; writes `out`/evaluation.json."""
    settings = Settings.load(out / SETTINGS)
    pool = open_pool(settings.images, allow_truncated=settings.allow_truncated)
    rows = read_test_set(test_set, list(settings.exemplars), pool)
    classifier = Classifier.load(out)
    store = _store(pool, classifier.encoder_, out)
    _, evaluation, unreadable = _answer(classifier, pool, rows, store, progress or Silent())
    if evaluation is None:
        raise HolotypeError(f"no row of {test_set} can be evaluated: all {len(unreadable)} images are unreadable")
    files.write(out / "evaluation.json", json.dumps(evaluation.to_json(), indent=1, allow_nan=False))
    return evaluation


def predict_sources(
    classifier: Classifier, sources: Sequence[str], progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a record for each image of `sources` (images, tars, folders); an unreadable one has an "error"."""
    for source in sources:
        if Path(source).suffix.lower() in SUFFIXES and not Path(source).is_dir():
            try:
                yield from classifier.explain(source, source).records()
            except UnreadableImage as error:
                yield {"id": source, "error": str(error)}
            continue
        pool = open_pool(source)
        for predictions, unreadable in classifier.predict_pool(pool, range(len(pool)), progress):
            yield from predictions.records()
            yield from ({"id": name, "error": reason} for name, reason in unreadable.items())


@dataclass(frozen=True)
class Found:
    """A pool and the cosine (n,) of its images to the exemplars; nan for those that cannot be compared."""

    pool: Pool
    scores: NDArray[np.float32]

    def best(self, k: int) -> list[tuple[str, float]]:
        """Return (id, cosine) of the `k` most similar images."""
        return [(self.pool.ids[row], float(self.scores[row])) for row in similarity.top_k(self.scores, k)]

    def sheet(self, k: int, path: Path) -> None:
        """Write the `k` most similar images as one PNG. Raises `UnreadableImage` for one that cannot be shown."""
        images = [decode(self.pool.read(int(row)), fit=128) for row in similarity.top_k(self.scores, k)]
        files.write(path, lambda file: contact_sheet(images).save(file, "PNG"))


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
        network = load_encoder(encoder)
        folder = vectors or cache_folder() / "vectors" / pool.fingerprint[:16] / network.name_on_disk
        searched = similarity.search(embed(pool, network, folder, progress), ["exemplar"], found, network)
    column = searched.scores[:, 0]
    column[[exemplar.row for exemplar in found if exemplar.row is not None]] = np.nan
    return Found(pool, column)
