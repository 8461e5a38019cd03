"""What a run leaves in its folder: groups, predictions, figures and the report, the model, the metrics."""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.classifier import Classifier, versions
from holotype.embeddings import EmbeddingStore
from holotype.evaluation import Evaluation
from holotype.groups import Estimate, Groups, estimates
from holotype.job import SETTINGS, START
from holotype.pool import Pool
from holotype.predictions import NONE, Predictions, csv_line
from holotype.report import ReportContent, write_report
from holotype.settings import HeadName, Settings, Threshold
from holotype.sheets import sheet
from holotype.similarity import Search, SearchComparison
from holotype.teaching import Start
from holotype.tuning import Tuned

# What a run leaves, the settings last: without them the folder holds no finished run.
_LEFT = (
    "groups.parquet",
    "unreadable.csv",
    "model",
    "predictions.csv",
    "tuning.json",
    "sweep.csv",
    "figures",
    "report.html",
    "metrics.json",
    "evaluation.json",
    START,
    SETTINGS,
)

_POOR = 0.1  # estimated precision below which the report warns of a group


@dataclass(frozen=True)
class Result:
    """One combination of the sweep: a fitted classifier and how it did.

    validation_f1   macro-F1 on the validation rows that every combination labels alike; by labels of the groups
    predictions     of the test rows, None without a test set; unreadable ones are in `unreadable` with the reason
    """

    encoder: str
    head: HeadName
    threshold: Threshold
    classifier: Classifier
    search: Search
    store: EmbeddingStore
    validation_f1: float
    seconds: float
    evaluation: Evaluation | None = None
    predictions: Predictions | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    tuned: Tuned | None = None


@dataclass(frozen=True)
class Sweep:
    """All combinations of a run: those that were trained, the one chosen, and why others could not be.

    failed       (encoder, threshold, reason)
    comparison   of the two ways to search, where both were taken
    spoiled      test rows that do not count: id -> why
    start        what a review of the chosen one starts from
    """

    results: Sequence[Result]
    chosen: Result
    failed: Sequence[tuple[str, Threshold, str]]
    comparison: SearchComparison | None
    spoiled: dict[str, str]
    start: Start


def write_results(out: Path, settings: Settings, pool: Pool, sweep: Sweep) -> None:
    """Write everything that a run leaves in `out`; what an earlier run left goes only when all of it is there.

    Raises `OutputError` when it cannot be written.
    """
    new = out / ".new"
    with files.explain(new):
        shutil.rmtree(new, ignore_errors=True)
    _write_all(new, settings, pool, sweep)
    with files.explain(out):
        for name in reversed(_LEFT):
            _remove(out / name)
        for name in _LEFT:
            if (new / name).exists():
                (new / name).rename(out / name)
        new.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_all(out: Path, settings: Settings, pool: Pool, sweep: Sweep) -> None:
    chosen = sweep.chosen
    skipped = _skipped(pool, chosen)
    _write_groups(out / "groups.parquet", pool, chosen)
    files.write(out / "unreadable.csv", _csv(["id", "reason"], skipped))
    chosen.classifier.save(out / "model")
    if chosen.predictions is not None:
        files.write(out / "predictions.csv", chosen.predictions.to_csv())
    if chosen.tuned is not None:
        files.write(out / "tuning.json", json.dumps(chosen.tuned.to_json(), indent=1))
    rows = list(_sweep_rows(sweep))
    if not sweep.failed:
        rows = [{key: value for key, value in row.items() if key != "failed"} for row in rows]
    files.write(out / "sweep.csv", _csv(list(rows[0]), [list(row.values()) for row in rows]))
    metrics = {
        "evaluation": chosen.evaluation.to_json() if chosen.evaluation else None,
        "not_counted": sweep.spoiled,
        "sweep": rows,
        "search": _search_table(sweep.comparison),
        "counts": chosen.classifier.training_.counts,
        "estimates": _estimate_table(chosen.classifier.groups_),
        "versions": versions(),
    }
    sweep.start.save(out / START)
    write_report(out, _content(settings, pool, sweep, rows, skipped))
    files.write(out / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False))
    files.write(out / SETTINGS, settings.to_toml())


def summary(result: Result) -> Iterator[str]:
    """Yield a line per class: how many were found, at which threshold, and what the answers are worth."""
    groups = result.classifier.groups_
    for k, (name, threshold) in enumerate(zip(groups.classes, groups.thresholds, strict=True)):
        found = f"{len(groups.members(k)):,} members at {groups.measure} {threshold.value:.3f} ({threshold.basis})"
        worth = ""
        if result.evaluation is not None:
            f1, area = result.evaluation.classes[k].f1, result.evaluation.classes[k].roc_auc
            numbers = f"F1 {f1.value:.3f}, AUC {area.value:.3f}"
            worth = f"; test set: {f'undefined, {f1.reason}' if f1.reason else numbers}"
        yield f"{name}: {found}{worth}"


def _write_groups(path: Path, pool: Pool, chosen: Result) -> None:
    """Write every pool row: id, class, score, cosine (to the nearest exemplar), probability, decision, reason, part.

    The score is what was grouped by: an estimated probability, or the cosine. The class is null where nothing was
    decided (doubtful, or without a vector), the probability where the image was not encoded, and `part` where it had
    none in training.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups = chosen.classifier.groups_
    names = np.array(groups.classes, dtype=object)
    nearest = names[groups.label]
    nearest[groups.decision == "missing"] = None
    decided = nearest.copy()
    decided[groups.decision == "doubtful"] = None
    decided[groups.decision == "background"] = NONE
    own = np.arange(len(pool)), groups.label
    cosine = np.max(np.nan_to_num(chosen.search.scores, nan=-2), axis=1)
    table = pa.table(
        {
            "id": pool.ids,
            "class": pa.array(decided.tolist(), pa.string()),
            "nearest_class": pa.array(nearest.tolist(), pa.string()),
            "score": pa.array(groups.scores[own], from_pandas=True),
            "cosine": pa.array(np.where(cosine < -1.5, np.nan, cosine), from_pandas=True),
            "probability": pa.array(_probabilities(pool, chosen), from_pandas=True),
            "decision": groups.decision.tolist(),
            "reason": list(groups.reasons),
            "part": pa.array(_parts(pool, chosen).tolist(), pa.string()),
        }
    )
    files.write(path, lambda file: pq.write_table(table, file))


def _parts(pool: Pool, chosen: Result) -> NDArray[np.object_]:
    """What training did with each row: "fit", "validation", or why it was left out; None for the others.

    "answered" is what the groups follow, though no head was fitted on it; "audited" is what nothing was learnt from.
    """
    training, parts = chosen.classifier.training_, np.full(len(pool), None, dtype=object)
    parts[chosen.classifier.groups_.answered] = "answered"
    parts[chosen.classifier.groups_.audited] = "audited"
    for ids, part in ((training.fit_ids, "fit"), (training.validation_ids, "validation")):
        parts[[pool.rows[name] for name in ids if name in pool.rows]] = part
    for name, why in training.dropped.items():
        parts[pool.rows[name]] = f"left out: {why}"
    return parts


def read_learnt(out: Path, near_duplicate: float) -> dict[str, str]:
    """Return id -> why of the images that prove nothing about the model of the run in `out`: it learnt from them."""
    import pyarrow.parquet as pq

    table = pq.read_table(out / "groups.parquet", columns=["id", "decision", "cosine", "part"])
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return {
        name: "learnt from, an exemplar, or nearly the same as one"
        for name, decision, cosine, part in rows
        if part in ("fit", "validation", "answered") or decision == "exemplar" or (cosine or 0) >= near_duplicate
    }


def _probabilities(pool: Pool, chosen: Result) -> NDArray[np.float64]:
    """The probability of the nearest class of each row that was encoded; nan for the rest."""
    classifier, found = chosen.classifier, np.full(len(pool), np.nan)
    for rows, vectors in chosen.store.open(pool).blocks():
        chances = classifier.calibration_.probabilities(classifier.head_.scores(vectors))
        found[rows] = chances[np.arange(len(rows)), classifier.groups_.label[rows]]
    return found


def _skipped(pool: Pool, chosen: Result) -> list[tuple[str, str]]:
    reasons = chosen.unreadable | chosen.classifier.training_.unreadable | chosen.search.embeddings.unreadable
    for row in np.flatnonzero(chosen.classifier.groups_.decision == "missing"):
        reasons.setdefault(pool.ids[row], "it has no vector")
    return sorted(reasons.items())


def _sweep_rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    for one in sweep.results:
        yield {
            "encoder": one.encoder,
            "head": f"{one.head}, tuned" if one.tuned else one.head,
            "threshold": one.threshold,
            "members": sum(len(one.classifier.groups_.members(k)) for k in range(len(one.search.classes))),
            "validation macro-F1": round(one.validation_f1, 4),
            "test macro-F1": _rounded(one.evaluation, "f1"),
            "test macro AUC": _rounded(one.evaluation, "roc_auc"),
            "seconds": round(one.seconds, 2),
            "failed": "",
            "chosen": one is sweep.chosen,
        }
    for encoder, threshold, reason in sweep.failed:
        numbers = ("members", "validation macro-F1", "test macro-F1", "test macro AUC", "seconds")
        labels = {"encoder": encoder, "head": "-", "threshold": threshold}
        yield labels | dict.fromkeys(numbers) | {"failed": reason, "chosen": False}


def _rounded(evaluation: Evaluation | None, metric: str) -> float | None:
    value = evaluation.macro[metric].value if evaluation else math.nan
    return None if math.isnan(value) else round(value, 4)


def _estimate_table(groups: Groups) -> list[dict[str, Any]]:
    """What is estimated about each class, and what people said of it, where that is known."""
    stated = estimates(groups)
    rows = []
    for k, name in enumerate(groups.classes if stated or groups.told else ()):
        row: dict[str, Any] = {"name": name}
        if stated:
            row |= asdict(stated[k])
        if stated and math.isnan(stated[k].precision):
            row |= {"precision": None, "precision_reason": "no image but the exemplars was found"}
        if groups.told:
            row |= {"answers": asdict(groups.told[k])}
        if groups.audits:
            row |= {"audit": asdict(groups.audits[k]) | {"low": groups.audits[k].low}}
        rows.append(row)
    return rows


def _search_table(comparison: SearchComparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    rows = [
        {"name": name, "overlap_at_k": overlap, "spearman": None if math.isnan(rank) else rank}
        for name, overlap, rank in zip(comparison.classes, comparison.overlap, comparison.spearman, strict=True)
    ]
    one, two = comparison.seconds
    seconds = {"way 1, the encoder": one, "way 2, the supplied vectors": two}
    return {"rows": rows, "seconds": seconds, "images": comparison.rows}


def _content(
    settings: Settings,
    pool: Pool,
    sweep: Sweep,
    rows: list[dict[str, Any]],
    skipped: list[tuple[str, str]],
) -> ReportContent:
    groups = sweep.chosen.classifier.groups_
    stated, given = estimates(groups), sweep.chosen.search.exemplars
    return ReportContent(
        title=f"{', '.join(groups.classes)}, or none",
        classes=list(groups.classes),
        evaluation=sweep.chosen.evaluation,
        groups=[sheet(pool, groups, given, k, stated[k : k + 1]) for k in range(len(groups.classes))],
        scores=groups.scores.astype(np.float64),
        measure="Cosine" if groups.measure == "cosine" else "Estimated probability",
        thresholds=np.array([t.value for t in groups.thresholds]),
        sweep=rows,
        search=_search_table(sweep.comparison),
        skipped=skipped,
        ignored=dict(pool.ignored),
        notes=list(_notes(pool, sweep, stated)),
        facts=list(_facts(settings, sweep.chosen)),
        settings=settings.to_toml(),
        versions=versions(),
    )


def _facts(settings: Settings, chosen: Result) -> Iterator[tuple[str, Any]]:
    classifier = chosen.classifier
    calibration, training = classifier.calibration_, classifier.training_
    met = {
        "weights": "class weights, inverse to frequency",
        "effective": "class weights, inverse to the effective number of images",
        "augment": f"{training.counts['augmented views']:,} augmented views of training images",
        "none": "nothing",
    }
    yield "Images", len(classifier.groups_.decision)
    yield "Encoder", f"{chosen.encoder}, {classifier.encoder_.dim} dimensions"
    yield "Head", chosen.head
    if chosen.tuned is not None:
        tuned = chosen.tuned
        yield "Tuned", f"{tuned.trials} trials, validation loss {tuned.loss_before:.4f} -> {tuned.loss:.4f}"
    yield "Imbalance", f"met by {met[settings.fit.balance]}"
    yield from training.counts.items()
    yield "Left out as test rows or nearly the same", len(training.dropped)
    few = " (not fitted: a class has too few validation rows)" if calibration.temperature == 1 else ""
    yield "Temperature", f"{calibration.temperature:.3f}{few}"
    for name, value, basis in zip(classifier.classes_[:-1], calibration.thresholds, calibration.basis, strict=True):
        yield f"Probability threshold of {name}", f"{value:.3f} ({basis})"


def _notes(pool: Pool, sweep: Sweep, stated: Sequence[Estimate]) -> Iterator[str]:
    yield from pool.notes
    groups, counts = sweep.chosen.classifier.groups_, sweep.chosen.classifier.training_.counts
    follows = [one.trusted for one in groups.told] or [False] * len(groups.classes)
    provisional = [name for name, one in zip(groups.classes, groups.thresholds, strict=True) if one.provisional]
    taught = [name for name, trusted in zip(groups.classes, follows, strict=True) if trusted]
    if left := [name for name in provisional if name not in taught]:
        whose = f" of {', '.join(left)}" if taught else ""
        yield (
            f"The thresholds{whose} are provisional: they come from the pool itself. Without labels no threshold "
            "can promise a precision; look at the borderline images."
        )
    if taught:
        yield (
            f"The thresholds of {', '.join(taught)} come from a model that learnt from answers. Only the random audit "
            "bounds the precision: see what is said of each class."
        )
    if groups.ranking is not None and sweep.chosen.search.encoder is None:
        yield (
            "No closer look was taken at the exemplars, as what made the embeddings is not known: name it with "
            "--embeddings-encoder."
        )
    known_good = [(audit.low or 0) >= _POOR for audit in groups.audits] or [False] * len(groups.classes)
    for name, found, good in zip(groups.classes, stated, known_good, strict=False):
        if found.precision < _POOR and not good:
            yield f"Most of the {found.found:,} members of {name} may well be wrong: look at them; more exemplars help."
    for name in groups.classes:
        if counts[f"validation {name}"] == 0:
            yield (
                f"{name} has no validation row (its group has {counts[f'fit {name}']} images to learn from): nothing "
                "here checks how it is told apart. A lower threshold or more exemplars would help; or, if the images "
                "are all alike, a higher --set near_duplicate, as what is nearly the same stays on one side."
            )
    if sweep.spoiled:
        named = ", ".join(f"{name} ({why})" for name, why in list(sweep.spoiled.items())[:10])
        yield f"{len(sweep.spoiled)} test rows do not count, as they are among what was learnt from: {named}"
    for encoder, threshold, reason in sweep.failed:
        yield f"Threshold {threshold} with {encoder} could not be trained: {reason}"


def _csv(header: list[str], rows: Sequence[Any]) -> str:
    return "".join(map(csv_line, [header, *rows]))
