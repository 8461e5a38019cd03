"""The main job: the stages in order, one function; the command line and Python both call it."""

import csv
import io
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype import exemplars, files, similarity
from holotype.classifier import Classifier, search, versions
from holotype.embeddings import Embeddings, EmbeddingStore, check_identity, embed, import_embeddings
from holotype.encoders import OnnxEncoder, load_encoder
from holotype.errors import HolotypeError, OutputError, UnreadableImage
from holotype.evaluation import Evaluation, TestSet, evaluate, read_test_set
from holotype.groups import Groups
from holotype.images import contact_sheet, decode, thumbnail
from holotype.pool import Pool, open_pool
from holotype.predictions import Predictions
from holotype.progress import Progress, Silent
from holotype.report import ReportContent, write_report
from holotype.settings import Settings
from holotype.tuning import Tuned, tune

SETTINGS = "holotype.toml"
_SHOWN = 12


@dataclass(frozen=True)
class Run:
    """One combination of the sweep: a fitted classifier and how it did."""

    encoder: str
    head: str
    threshold: float | str
    classifier: Classifier
    validation_f1: float
    evaluation: Evaluation | None
    predictions: Predictions | None
    seconds: float


def prepare_folder(out: Path, settings: Settings, *, force: bool = False, resume: bool = False) -> None:
    """Take `out` for a run and write its settings. Raises `OutputError` when it holds one already."""
    existing = out / SETTINGS
    if existing.exists() and not (force or resume):
        raise OutputError(
            f"{out} already holds a run; give --resume to go on with it, --force to write over it (vectors that were "
            "computed are used again), or another --out"
        )
    if existing.exists() and resume and Settings.load(existing) != settings:
        raise OutputError(f"{out} holds a run with other settings; give --force to write over it, or another --out")
    if not existing.exists() and out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty and holds no run; give another --out")
    files.write(existing, settings.to_toml())


def run(
    settings: Settings,
    out: Path,
    *,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Do the whole job of `settings` and write the report, the model and the predictions to `out`.

    Raises `HolotypeError` with what was expected, what came and what to do.
    """
    progress = progress or Silent()
    pool = open_pool(settings.images, allow_truncated=settings.allow_truncated)
    classes = list(settings.exemplars)
    test_set = read_test_set(Path(settings.test_set), classes, pool) if settings.test_set else None
    exemplars.resolve(pool, settings.exemplars)
    supplied = import_embeddings(Path(settings.embeddings), pool) if settings.embeddings else None
    prepare_folder(out, settings, force=force, resume=resume)
    progress.say(f"pool: {len(pool):,} images in {pool.source}")
    maker = _maker(settings, supplied, pool)
    runs = [
        _fit(settings, combination, pool, supplied, maker, test_set, out, progress)
        for combination in product(settings.encoders, settings.heads, settings.thresholds)
    ]
    chosen = choose(runs)
    comparison = _compare_ways(settings, pool, supplied, maker, chosen, out)
    _write_results(settings, out, pool, chosen, runs, test_set, comparison)
    return chosen


def choose(runs: list[Run]) -> Run:
    """Return the run with the best macro-F1 on its validation rows, among those of the first threshold.

    Validation labels come from the groups, so their figures cannot be compared across thresholds; test rows
    have no say.
    """
    comparable = [candidate for candidate in runs if candidate.threshold == runs[0].threshold]
    return max(comparable, key=lambda candidate: candidate.validation_f1)


def _maker(settings: Settings, supplied: Embeddings | None, pool: Pool) -> OnnxEncoder | None:
    """The encoder of the supplied embeddings, if known: checked by encoding a sample again."""
    if supplied is None or settings.embeddings_encoder is None:
        return None
    encoder = load_encoder(settings.embeddings_encoder, settings.fit.runtime)
    check_identity(supplied, pool, encoder)
    return encoder


def _fit(
    settings: Settings,
    combination: tuple[str, Any, Any],
    pool: Pool,
    supplied: Embeddings | None,
    maker: OnnxEncoder | None,
    test_set: TestSet | None,
    out: Path,
    progress: Progress,
) -> Run:
    encoder, head, threshold = combination
    progress.say(f"train: {encoder}, {head}, threshold {threshold}")
    started = time.perf_counter()
    options = dict(settings.fit) | {"encoder": encoder, "head": head, "threshold": threshold}
    classifier = Classifier(**options).fit(
        pool,
        settings.exemplars,
        embeddings=None if settings.search == "encoder" else supplied,
        embeddings_encoder=maker,
        held_out=test_set.rows if test_set else (),
        cache=out / "vectors",
        progress=progress,
    )
    predictions = _predict_rows(classifier, pool, test_set.ids, out, progress) if test_set else None
    evaluation = _evaluate(predictions, test_set)
    seconds = time.perf_counter() - started
    return Run(encoder, head, threshold, classifier, validation_f1(classifier), evaluation, predictions, seconds)


def validation_f1(classifier: Classifier) -> float:
    """Return macro-F1 over the classes that have validation rows; their labels come from the groups."""
    rows = classifier.training_.validation
    margins = classifier.calibration_.probabilities(classifier.head_.scores(rows.X))[:, :-1]
    margins = margins - classifier.calibration_.thresholds
    given = np.where(margins.max(axis=1, initial=-1) >= 0, margins.argmax(axis=1), margins.shape[1])
    found = []
    for k in range(margins.shape[1]):
        if (rows.y == k).any():
            hits = float(((given == k) & (rows.y == k)).sum())
            found.append(2 * hits / float((given == k).sum() + (rows.y == k).sum()))
    return float(np.mean(found)) if found else 0.0


def _predict_rows(classifier: Classifier, pool: Pool, ids: list[str], out: Path, progress: Progress) -> Predictions:
    encoder = classifier.encoder_
    store = EmbeddingStore(out / "vectors" / encoder.name_on_disk, encoder, pool.fingerprint)
    store.ensure(ids, lambda name: pool.read(pool.rows[name]), progress, "encode test rows")
    features, unreadable = store.take(ids)
    return classifier.predict_images([name for name in ids if name not in unreadable], features)


def _evaluate(predictions: Predictions | None, test_set: TestSet | None) -> Evaluation | None:
    if predictions is None or test_set is None:
        return None
    place = {name: number for number, name in enumerate(test_set.ids)}
    return evaluate(predictions, test_set.truth[[place[name] for name in predictions.ids]])


def _compare_ways(
    settings: Settings,
    pool: Pool,
    supplied: Embeddings | None,
    maker: OnnxEncoder | None,
    chosen: Run,
    out: Path,
) -> similarity.SearchComparison | None:
    """Way 1 (the encoder's features) against way 2 (the supplied vectors), over the rows that both have."""
    if supplied is None:
        return None
    classes, encoder = list(settings.exemplars), chosen.classifier.encoder_
    found = exemplars.resolve(pool, settings.exemplars)
    if settings.search == "both":
        own = embed(pool, encoder, out / "vectors" / encoder.name_on_disk)
    else:
        own = EmbeddingStore(out / "vectors" / encoder.name_on_disk, encoder, pool.fingerprint).open(pool)
    started = time.perf_counter()
    one, _ = search(own, found, len(classes), encoder)
    between = time.perf_counter()
    two, _ = search(supplied, found, len(classes), maker)
    return similarity.compare(classes, one, two, (between - started, time.perf_counter() - between))


def _write_results(
    settings: Settings,
    out: Path,
    pool: Pool,
    chosen: Run,
    runs: list[Run],
    test_set: TestSet | None,
    comparison: similarity.SearchComparison | None,
) -> None:
    classifier = chosen.classifier
    skipped = _skipped(pool, classifier, test_set, chosen)
    write_groups(out / "groups.parquet", pool, classifier)
    files.write(out / "unreadable.csv", _csv(["id", "reason"], skipped))
    classifier.save(out / "model")
    if chosen.predictions is not None:
        files.write(out / "predictions.csv", chosen.predictions.to_csv())
    sweep = [_sweep_row(one, one is chosen) for one in runs]
    files.write(out / "sweep.csv", _csv(list(sweep[0]), [list(row.values()) for row in sweep]))
    metrics = _metrics(chosen, sweep, comparison)
    write_report(out, _content(settings, pool, chosen, sweep, comparison, skipped))
    files.write(out / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False))


def write_groups(path: Path, pool: Pool, classifier: Classifier) -> None:
    """Write every pool row: id, class, score, probability (nan: not in the model space), decision, reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups = classifier.groups_
    names = np.array(groups.classes, dtype=object)
    belongs = np.isin(groups.decision, ["member", "exemplar"])
    best = groups.scores[np.arange(len(pool)), groups.label]
    table = pa.table(
        {
            "id": pool.ids,
            "class": [name if own else "none" for name, own in zip(names[groups.label], belongs, strict=True)],
            "nearest_class": names[groups.label].tolist(),
            "score": pa.array(best, from_pandas=True),
            "probability": pa.array(_known_probabilities(pool, classifier), from_pandas=True),
            "decision": groups.decision.tolist(),
            "reason": list(groups.reasons),
        }
    )
    files.write(path, lambda file: pq.write_table(table, file))


def _known_probabilities(pool: Pool, classifier: Classifier) -> NDArray[np.float64]:
    """The probability of the nearest class, for the rows whose features training needed; nan for the rest."""
    found = np.full(len(pool), np.nan)
    training, groups = classifier.training_, classifier.groups_
    for ids, rows in ((training.fit_ids, training.fit), (training.validation_ids, training.validation)):
        chances = classifier.calibration_.probabilities(classifier.head_.scores(rows.X[: len(ids)]))
        for name, chance in zip(ids, chances, strict=True):
            if name in pool.rows:
                found[pool.rows[name]] = chance[groups.label[pool.rows[name]]]
    return found


def _skipped(pool: Pool, classifier: Classifier, test_set: TestSet | None, chosen: Run) -> list[tuple[str, str]]:
    reasons = dict(classifier.training_.unreadable)
    for row in np.flatnonzero(classifier.groups_.decision == "missing"):
        reasons.setdefault(pool.ids[row], "unreadable: it has no vector")
    answered = set(chosen.predictions.ids) if chosen.predictions is not None else set()
    for name in test_set.ids if test_set else []:
        if name not in answered:
            reasons.setdefault(name, "a test row that is unreadable")
    for name in list(reasons):
        try:
            decode(pool.read(pool.rows[name]), fit=64)
        except UnreadableImage as error:
            reasons[name] = str(error)
    return sorted(reasons.items())


def _sweep_row(one: Run, chosen: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "encoder": one.encoder,
        "head": one.head,
        "threshold": one.threshold,
        "members": sum(len(one.classifier.groups_.members(k)) for k in range(len(one.classifier.classes_) - 1)),
        "validation macro-F1": round(one.validation_f1, 4),
        "test macro-F1": None,
        "seconds": round(one.seconds, 2),
        "chosen": chosen,
    }
    if one.evaluation is not None:
        value = one.evaluation.macro["f1"].value
        row["test macro-F1"] = None if math.isnan(value) else round(value, 4)
    return row


def _metrics(
    chosen: Run, sweep: list[dict[str, Any]], comparison: similarity.SearchComparison | None
) -> dict[str, Any]:
    return {
        "evaluation": chosen.evaluation.to_json() if chosen.evaluation else None,
        "sweep": sweep,
        "search": _search_table(comparison),
        "counts": chosen.classifier.training_.counts,
        "versions": versions(),
    }


def _search_table(comparison: similarity.SearchComparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    rows = [
        {"name": name, "overlap_at_k": overlap, "spearman": None if math.isnan(rank) else rank}
        for name, overlap, rank in zip(comparison.classes, comparison.overlap, comparison.spearman, strict=True)
    ]
    one, two = comparison.seconds
    return {"rows": rows, "seconds": {"way 1, the encoder": one, "way 2, the supplied vectors": two}}


def _content(
    settings: Settings,
    pool: Pool,
    chosen: Run,
    sweep: list[dict[str, Any]],
    comparison: similarity.SearchComparison | None,
    skipped: list[tuple[str, str]],
) -> ReportContent:
    classifier = chosen.classifier
    calibration, groups = classifier.calibration_, classifier.groups_
    facts: list[tuple[str, Any]] = [
        ("Encoder", f"{chosen.encoder}, {classifier.encoder_.dim} dimensions"),
        ("Head", chosen.head),
        ("Imbalance", f"met by {settings.fit.balance}"),
        *classifier.training_.counts.items(),
        ("Left out as test rows or nearly the same", len(classifier.training_.dropped)),
        ("Temperature", round(calibration.temperature, 3)),
    ]
    for name, value, basis in zip(groups.classes, calibration.thresholds, calibration.basis, strict=True):
        facts.append((f"Probability threshold of {name}", f"{value:.3f} ({basis})"))
    return ReportContent(
        title=f"{', '.join(groups.classes)}, or none",
        classes=list(groups.classes),
        evaluation=chosen.evaluation,
        groups=[_sheet(pool, chosen, k) for k in range(len(groups.classes))],
        scores=groups.scores.astype(np.float64),
        thresholds=np.array([t.value for t in groups.thresholds]),
        sweep=sweep,
        search=_search_table(comparison),
        skipped=skipped,
        ignored=dict(pool.ignored),
        notes=list(_notes(pool, groups)),
        facts=facts,
        settings=settings.to_toml(),
        versions=versions(),
    )


def _notes(pool: Pool, groups: Groups) -> Iterator[str]:
    yield from pool.notes
    if any(threshold.provisional for threshold in groups.thresholds):
        yield (
            "The cosine thresholds are provisional: they come from the pool's own scores. Without labels no threshold "
            "can promise a precision; look at the borderline images."
        )


def _sheet(pool: Pool, chosen: Run, k: int) -> dict[str, Any]:
    """One class's best, borderline (around the threshold) and rejected images, as pictures."""
    groups = chosen.classifier.groups_
    column = groups.scores[:, k]
    members, threshold = groups.members(k), groups.thresholds[k]
    own = members[groups.decision[members] == "member"]
    near = np.argsort(np.abs(np.where(groups.decision == "exemplar", np.nan, column) - threshold.value))
    rejected = np.where((groups.label == k) & (groups.decision == "background"), column, np.nan)
    return {
        "name": groups.classes[k],
        "exemplars": [
            (pool.ids[row], thumbnail(decode(pool.read(row), fit=256), 256))
            for row in members
            if groups.decision[row] == "exemplar"
        ],
        "threshold": threshold.value,
        "threshold_basis": threshold.basis,
        "members": len(own),
        "doubtful": int(((groups.label == k) & (groups.decision == "doubtful")).sum()),
        "best": _pictures(pool, own[np.argsort(-column[own])][:_SHOWN], column),
        "borderline": _pictures(pool, near[:_SHOWN], column),
        "rejected": _pictures(pool, similarity.top_k(rejected, _SHOWN), column),
    }


def _pictures(pool: Pool, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> list[tuple[str, str, bytes]]:
    shown = []
    for row in rows:
        try:
            shown.append((pool.ids[row], f"{scores[row]:.3f}", thumbnail(decode(pool.read(int(row)), fit=128))))
        except UnreadableImage:
            continue  # it stands in unreadable.csv
    return shown


def _csv(header: list[str], rows: list[Any]) -> str:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    return buffer.getvalue()


def evaluate_run(out: Path, test_set: Path, progress: Progress | None = None) -> Evaluation:
    """Evaluate the model of the run in `out` on another test set; writes `out`/evaluation.json."""
    settings = Settings.load(out / SETTINGS)
    pool = open_pool(settings.images, allow_truncated=settings.allow_truncated)
    rows = read_test_set(test_set, list(settings.exemplars), pool)
    classifier = Classifier.load(out)
    evaluation = _evaluate(_predict_rows(classifier, pool, rows.ids, out, progress or Silent()), rows)
    if evaluation is None:
        raise HolotypeError(f"no row of {test_set} could be evaluated")
    files.write(out / "evaluation.json", json.dumps(evaluation.to_json(), indent=1, allow_nan=False))
    return evaluation


def tune_run(out: Path, trials: int, progress: Progress | None = None) -> Tuned:
    """Tune the head of the run in `out`, then do the run again with the best settings.

    The study stays in `out`/study.db and goes on from there; `out`/tuning.json says what was found.
    """
    settings = Settings.load(out / SETTINGS)
    chosen = run(settings, out, resume=True, progress=progress)
    training, fit = chosen.classifier.training_, settings.fit
    tuned = tune(
        chosen.classifier.head,
        fit.head_settings,
        training.fit,
        training.validation,
        len(chosen.classifier.classes_),
        trials=trials,
        study=out / "study.db",
        seed=fit.seed,
        progress=progress,
    )
    found = {"settings": tuned.settings.model_dump(), "loss": tuned.loss, "trials": tuned.trials}
    files.write(out / "tuning.json", json.dumps(found | {"loss_before": tuned.loss_before}, indent=1))
    better = settings.model_copy(update={"fit": fit.model_copy(update={"head_settings": tuned.settings})})
    run(better, out, force=True, progress=progress)
    return tuned


def search_pool(
    source: str, codes: list[str], encoder: str, vectors: Path, progress: Progress | None = None
) -> "Found":
    """Return the images of `source` by their cosine to the nearest of the exemplars `codes`; exemplars left out.

    vectors   where the encoder's vectors of the pool are, or will be kept
    """
    pool, network = open_pool(source), load_encoder(encoder)
    found = exemplars.resolve(pool, {"exemplar": codes})
    scores, _ = search(embed(pool, network, vectors, progress), found, 1, network)
    column = scores[:, 0]
    column[[exemplar.row for exemplar in found if exemplar.row is not None]] = np.nan
    return Found(pool, column)


@dataclass(frozen=True)
class Found:
    """A pool and the cosine (n,) of its images to the exemplars; nan for those that cannot be compared."""

    pool: Pool
    scores: NDArray[np.float32]

    def best(self, k: int) -> list[tuple[str, float]]:
        """Return (id, cosine) of the `k` most similar images."""
        return [(self.pool.ids[row], float(self.scores[row])) for row in similarity.top_k(self.scores, k)]

    def sheet(self, k: int, path: Path) -> None:
        """Write the `k` most similar images as one PNG."""
        images = [decode(self.pool.read(int(row)), fit=128) for row in similarity.top_k(self.scores, k)]
        files.write(path, lambda file: contact_sheet(images).save(file, "PNG"))
