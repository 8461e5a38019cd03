"""What a run found: every candidate of its sweep and the one that was chosen; and the tables that it leaves."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.index import MatchedAnswers
from holotype.answers.refine import Refined
from holotype.errors import HolotypeError
from holotype.evaluation.metrics import Evaluation
from holotype.filestate import regular
from holotype.grouping.groups import Estimate, Groups, estimates
from holotype.grouping.search import Search
from holotype.grouping.ways import ClassWays
from holotype.model.classifier import Classifier
from holotype.model.pool_sample import IMAGES, PoolSample
from holotype.model.predictions import NONE, Predictions, csv_line
from holotype.model.saved import DESCRIPTION_FILE, versions
from holotype.model.tuning import Tuned
from holotype.names import command
from holotype.pool.descriptions import texts_of
from holotype.pool.pool import Pool
from holotype.runs.card import CARD, model_card
from holotype.runs.comparison import SearchComparison
from holotype.runs.findings import ClassFinding, findings
from holotype.runs.folder import RunFolder
from holotype.settings import HeadName, Threshold
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.store import EmbeddingStore

FOUND_COLUMNS = ("path", "id", "class", "decision", "score", "reason")
_FOUND = ("exemplar", "member")  # decisions, in the order of that table
_NAMED = 10  # test rows that are named of those that do not count


@dataclass(frozen=True)
class Candidate:
    """One combination of the sweep: a fitted classifier and how it did.

    refined         what answers made of its groups; None without any
    agreement       macro-F1 by the groups' own labels, on rows that were held out and that all candidates label alike
    predictions     of the test rows, None without a test set; unreadable ones are in `unreadable` with the reason
    """

    encoder: str
    head: HeadName
    threshold: Threshold
    classifier: Classifier
    search: Search
    store: EmbeddingStore
    refined: Refined | None
    agreement: float
    seconds: float
    evaluation: Evaluation | None = None
    predictions: Predictions | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    tuned: Tuned | None = None

    @property
    def groups(self) -> Groups:
        """What the rows of the pool were taken for."""
        return self.classifier.groups_

    @property
    def estimates(self) -> list[Estimate]:
        """What is estimated about each class, where anything is."""
        if self.refined is None:
            return estimates(self.groups)
        return estimates(self.groups, self.refined.decided)

    def reasons(self, rows: Sequence[int] | None = None) -> list[str]:
        """Return why `rows`, or each of the pool, were taken for what they were."""
        found = self.groups.reasons(rows)
        if self.refined is None:
            return found
        places = range(len(found)) if rows is None else rows
        return [self.refined.words.get(row, text) for row, text in zip(places, found, strict=True)]


@dataclass(frozen=True)
class RunResult:
    """All candidates of a run: those that were trained, the one chosen, and why others could not be.

    encoded       the vectors of the images that the chosen one needs, in its encoder's space
    failed        (encoder, threshold, reason)
    comparison    of the two ways to search, where both were taken
    not_counted   test rows that prove nothing: id -> why
    baseline      what a review of the chosen one starts from
    answers       which of the answers of the run were followed, and why others were not
    warnings      what its classes lack: images in their group, or images to learn from
    ways          per class what pictures, words, and both found, by the exemplars alone; None without both
    """

    candidates: Sequence[Candidate]
    chosen: Candidate
    encoded: Embeddings
    failed: Sequence[tuple[str, Threshold, str]]
    comparison: SearchComparison | None
    not_counted: Mapping[str, str]
    baseline: ReviewBaseline
    answers: MatchedAnswers
    warnings: Sequence[str] = ()
    ways: Sequence[ClassWays | None] = ()

    @property
    def classifier(self) -> Classifier:
        """The one that was chosen."""
        return self.chosen.classifier

    @property
    def evaluation(self) -> Evaluation | None:
        """What it is worth on the test set, where there is one."""
        return self.chosen.evaluation

    @property
    def predictions(self) -> Predictions | None:
        """Its predictions of the test set."""
        return self.chosen.predictions

    @property
    def tuned(self) -> Tuned | None:
        """How its head was tuned."""
        return self.chosen.tuned

    def summary(self) -> Iterator[str]:
        """Yield a line per class: how many were found, how sure that is, and what the predictions are worth."""
        yield from map(str, self.findings())
        if uncounted := self.uncounted():
            yield uncounted

    def findings(self) -> list[ClassFinding]:
        """Return what was found of each class."""
        chosen = self.chosen
        words = chosen.search.words
        texts = texts_of(words.descriptions if words else (), len(chosen.groups.classes))
        found = findings(chosen.groups, chosen.estimates, chosen.refined, chosen.evaluation)
        return [replace(one, texts=own, ways=way) for one, own, way in zip(found, texts, self.ways, strict=True)]

    def uncounted(self) -> str:
        """Say which test rows do not count, and why; nothing where all do."""
        if not self.not_counted:
            return ""
        named = ", ".join(f"{name} ({why})" for name, why in list(self.not_counted.items())[:_NAMED])
        more = len(self.not_counted) - _NAMED
        some = f", and {more:,} more" if more > 0 else ""
        return f"{len(self.not_counted):,} test rows do not count, as they prove nothing: {named}{some}"

    def sweep_rows(self) -> list[dict[str, Any]]:
        """Return a row for each candidate; a column `failed` only where one is."""
        rows = [_sweep_row(one, chosen=one is self.chosen) for one in self.candidates]
        for encoder, threshold, reason in self.failed:
            numbers = ("members", "agreement with the groups", "test macro-F1", "test macro AUC", "seconds")
            labels: dict[str, Any] = {"encoder": encoder, "head": "-", "threshold": threshold}
            rows.append(labels | dict.fromkeys(numbers) | {"failed": reason, "chosen": False})
        if not self.failed:
            rows = [{key: value for key, value in row.items() if key != "failed"} for row in rows]
        return rows

    def search_table(self) -> dict[str, Any] | None:
        """Return the comparison of the two ways to search, as plain values."""
        comparison = self.comparison
        if comparison is None:
            return None
        rows = [
            {"name": name, "overlap_at_k": overlap, "spearman": None if math.isnan(rank) else rank}
            for name, overlap, rank in zip(comparison.classes, comparison.overlap, comparison.spearman, strict=True)
        ]
        one, two = comparison.seconds
        seconds = {"way 1, the encoder": one, "way 2, the supplied vectors": two}
        return {"rows": rows, "seconds": seconds, "images": comparison.rows}


def _sweep_row(one: Candidate, *, chosen: bool) -> dict[str, Any]:
    return {
        "encoder": one.encoder,
        "head": f"{one.head}, tuned" if one.tuned else one.head,
        "threshold": one.threshold,
        "members": int((one.groups.decision == "member").sum()),
        "agreement with the groups": round(one.agreement, 4),
        "test macro-F1": _rounded(one.evaluation, "f1"),
        "test macro AUC": _rounded(one.evaluation, "roc_auc"),
        "seconds": round(one.seconds, 2),
        "failed": "",
        "chosen": chosen,
    }


def _rounded(evaluation: Evaluation | None, metric: str) -> float | None:
    value = evaluation.macro[metric].value if evaluation else math.nan
    return None if math.isnan(value) else round(value, 4)


def write_tables(folder: RunFolder, pool: Pool, result: RunResult) -> None:
    """Write what a run found into `folder`, but for the report. Raises `OutputError` when it cannot be written."""
    chosen, sweep = result.chosen, result.sweep_rows()
    probabilities, highest = _probabilities(result)
    _write_groups(folder.groups, pool, result, probabilities, highest)
    files.write(folder.found, csv_table(FOUND_COLUMNS, list(_found(pool, chosen))))
    rows = pool.rows
    skipped = [(name, why, pool.path(rows[name]) if name in rows else "") for name, why in unreadable(pool, chosen)]
    files.write(folder.unreadable, csv_table(["id", "reason", "path"], skipped))
    chosen.classifier.save(folder.model)
    if (sample := _pool_sample(result, folder)) is not None:
        sample.save(folder.model)
    if chosen.predictions is not None:
        files.write(folder.predictions, chosen.predictions.to_csv())
    if chosen.tuned is not None:
        files.write(folder.tuning, json.dumps(chosen.tuned.to_json(), indent=1))
    files.write(folder.sweep, csv_table(list(sweep[0]), [list(row.values()) for row in sweep]))
    metrics = {
        "evaluation": chosen.evaluation.to_json() if chosen.evaluation else None,
        "not_counted": result.not_counted,
        "answers": result.answers.to_json(),
        "sweep": sweep,
        "search": result.search_table(),
        "counts": chosen.classifier.training_.counts,
        "answered": [asdict(one) for one in chosen.classifier.cross_fit_.answered],
        "warnings": list(result.warnings),
        "estimates": _estimate_table(chosen),
        "ways": {name: way.to_json() for name, way in zip(chosen.groups.classes, result.ways, strict=True) if way},
        "versions": versions(),
    }
    files.write(folder.metrics, json.dumps(metrics, indent=1, allow_nan=False))
    files.write(folder.model / CARD, model_card(chosen.classifier, metrics))
    result.baseline.save(folder.baseline)


def csv_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a CSV."""
    return "".join(map(csv_line, [header, *rows]))


def unreadable(pool: Pool, chosen: Candidate) -> list[tuple[str, str]]:
    """Return (id, reason) of the images of `pool` that have no vector."""
    reasons = chosen.unreadable | chosen.classifier.training_.unreadable | chosen.search.embeddings.unreadable
    for row in np.flatnonzero(chosen.groups.decision == "missing").tolist():
        reasons.setdefault(pool.ids[row], "it has no vector")
    return sorted(reasons.items())


def _write_groups(
    path: Path, pool: Pool, result: RunResult, probabilities: NDArray[np.float64], highest: NDArray[np.float64]
) -> None:
    """Write every pool row: id, class, score, cosine (to the nearest exemplar), probability (of the nearest class, and
    of the class that is likeliest), decision, reason, part, path.

    The score is what was grouped by: an estimated probability, or the cosine. The class is null where nothing was
    decided (doubtful, or without a vector), the probabilities where the run had no need of the image in the space of
    its model, and `part` where it had none in training.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    chosen, groups = result.chosen, result.chosen.groups
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
            "probability": pa.array(probabilities, from_pandas=True),
            "highest_probability": pa.array(highest, from_pandas=True),
            "decision": groups.decision.tolist(),
            "reason": chosen.reasons(),
            "part": pa.array(_parts(pool, chosen).tolist(), pa.string()),
            "path": [pool.path(row) for row in range(len(pool))],
        }
    )
    files.write(path, lambda file: pq.write_table(table, file))


def _found(pool: Pool, chosen: Candidate) -> Iterator[Sequence[Any]]:
    """The exemplars of each class in the pool, and its members, the surest first."""
    groups = chosen.groups
    for k, name in enumerate(groups.classes):
        given, members = (np.flatnonzero((groups.label == k) & (groups.decision == what)) for what in _FOUND)
        rows = [*given.tolist(), *members[np.argsort(-groups.scores[members, k], kind="stable")].tolist()]
        for row, reason in zip(rows, chosen.reasons(rows), strict=True):
            score = "" if groups.decision[row] == "exemplar" else f"{groups.scores[row, k]:.6f}"
            yield pool.path(row), pool.ids[row], name, groups.decision[row], score, reason


def _parts(pool: Pool, chosen: Candidate) -> NDArray[np.object_]:
    """What training did with each row: "learnt", or why it was left out; None for the others.

    "answered" and "audited" is what the groups follow, and the head could not learn from.
    """
    training, parts = chosen.classifier.training_, np.full(len(pool), None, dtype=object)
    if chosen.refined is not None:
        parts[chosen.refined.answered] = "answered"
        parts[chosen.refined.audited] = "audited"
    parts[[pool.rows[name] for name in training.ids if name in pool.rows]] = "learnt"
    for name, why in training.dropped.items():
        parts[pool.rows[name]] = f"left out: {why}"
    return parts


def read_learnt(folder: RunFolder) -> list[str]:
    """Return the ids of the images that the model of a run learnt from. Raises `HolotypeError` where that is lost."""
    learnt = ("learnt", "answered", "fit", "validation")  # an older run tells the last two apart
    rows = zip(*_read_groups(folder, ["id", "decision", "part"]), strict=True)
    return [name for name, decision, part in rows if part in learnt or decision == "exemplar"]


def read_decisions(folder: RunFolder) -> NDArray[np.str_]:
    """Return (n,) what each image of a run was taken for, answers followed. Raises `HolotypeError` where it is lost."""
    return np.array(_read_groups(folder, ["decision"])[0])


def _read_groups(folder: RunFolder, columns: list[str]) -> list[list[Any]]:
    import pyarrow.parquet as pq

    folder.check_whole(HolotypeError, folder.groups)
    try:
        return [column.to_pylist() for column in pq.read_table(regular(folder.groups), columns=columns).columns]
    except (OSError, ValueError) as error:  # pyarrow's own errors are among these
        raise HolotypeError(
            f"{folder.groups} cannot be read ({error}); do the run again ({command('run', folder.path)}): vectors and "
            "answers are kept"
        ) from None


def _probabilities(result: RunResult) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The probability of the nearest class of each row that was encoded, and the highest of a class; else nan."""
    classifier = result.classifier
    found, highest = (np.full(result.encoded.size, np.nan) for _ in range(2))
    for rows, vectors in result.encoded.blocks():
        probabilities = classifier.calibration_.probabilities(classifier.head_.scores(vectors))
        found[rows] = probabilities[np.arange(len(rows)), classifier.groups_.label[rows]]
        highest[rows] = probabilities[:, :-1].max(axis=1)
    return found, highest


def _pool_sample(result: RunResult, folder: RunFolder) -> PoolSample | None:
    """Return the sample of the pool that new images are compared with (`holotype drift`).

    None where less than half of it was encoded: what was needed to learn from is not like the rest.
    """
    encoded, classifier = result.encoded, result.classifier
    if 2 * len(encoded.rows) <= encoded.size:
        return None
    rows = np.random.default_rng(0).permutation(encoded.fair)[:IMAGES]
    vectors = encoded.take(rows)
    said = classifier.predict_features([""] * len(rows), vectors)
    return PoolSample.of((folder.model / DESCRIPTION_FILE).read_bytes(), vectors, said)


def _estimate_table(chosen: Candidate) -> list[dict[str, Any]]:
    """What is estimated about each class, and what people said of it, where that is known."""
    stated, refined, rows = chosen.estimates, chosen.refined, []
    for k, name in enumerate(chosen.groups.classes if stated or refined else ()):
        row: dict[str, Any] = {"name": name}
        if stated:
            follows = refined is not None and refined.counts[k].trusted
            row |= asdict(stated[k]) | {
                "strength": stated[k].strength,
                "basis": "answers" if follows else "connections",
            }
        if stated and math.isnan(stated[k].estimated_precision):
            row |= {"estimated_precision": None, "estimated_precision_reason": "no image but the exemplars was found"}
        if refined is not None:
            row |= {"answers": asdict(refined.counts[k])}
            row |= {"audit": asdict(refined.audits[k]) | {"low": refined.audits[k].low}}
        rows.append(row)
    return rows
