"""What predictions are worth on labelled rows: scores, intervals, and why a score is undefined."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.model.predictions import NONE, Predictions

METRICS = ("precision", "recall", "f1", "average_precision", "roc_auc")
BOOTSTRAPPED = ("f1", "average_precision", "roc_auc")  # what intervals are given for
NO_POSITIVE = "no positive row in the test set"
NO_NEGATIVE = "no negative row in the test set"
NOT_PREDICTED = "no row was given this class"
DRAWS = 1000  # of the bootstrap
FEWEST = 5  # rows of a kind below which an interval would mislead
CELLS = 4_000_000  # numbers of the bootstrap that are held at once

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """A number, or nan and the reason why there is none.

    low, high  the ends of the bootstrap 95% interval; nan with `interval_reason` where it says nothing
    """

    value: float
    reason: str = ""
    low: float = math.nan
    high: float = math.nan
    interval_reason: str = ""

    def to_json(self, name: str) -> dict[str, Any]:
        """Return `name`, its interval when it has one, and the reason of each null."""
        record: dict[str, Any] = {name: _number(self.value)}
        if self.reason:
            record[f"{name}_reason"] = self.reason
        if self.interval_reason:
            record |= {f"{name}_interval": None, f"{name}_interval_reason": self.interval_reason}
        elif math.isfinite(self.low):
            record[f"{name}_interval"] = [self.low, self.high]
        return record


@dataclass(frozen=True)
class ClassResult:
    """One class (or "none") against the rest.

    support    rows of the test set that are this class
    predicted  rows that were given this class
    roc        (m, 2) false positive rate, true positive rate; (0, 2) where undefined
    pr         (m, 2) recall, precision; (0, 2) where undefined
    """

    name: str
    support: int
    predicted: int
    precision: Score
    recall: Score
    f1: Score
    average_precision: Score
    roc_auc: Score
    roc: Floats
    pr: Floats

    def score(self, metric: str) -> Score:
        """Return one of `METRICS` by name."""
        found: Score = getattr(self, metric)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain values; undefined is null beside its reason."""
        record: dict[str, Any] = {"name": self.name, "support": self.support, "predicted": self.predicted}
        for metric in METRICS:
            record |= self.score(metric).to_json(metric)
        return record | {"roc_curve": self.roc.tolist(), "precision_recall_curve": self.pr.tolist()}


@dataclass(frozen=True)
class Evaluation:
    """What predictions are worth on n labelled rows of K classes.

    classes       (K + 1,) results, "none" last
    confusion     (K + 1, K + 1) counts; line is the truth, column the prediction, "none" last
    micro, macro  over the K classes, without "none"; a macro leaves out undefined cells
    macro_over    how many of the K classes each macro counts
    false_alarms  per 1,000 rows whose truth is "none", those that were given a class
    weak          per class without 95% intervals: why
    """

    rows: int
    classes: tuple[ClassResult, ...]
    confusion: Integers
    micro: dict[str, Score]
    macro: dict[str, Score]
    macro_over: dict[str, int]
    false_alarms: Score
    weak: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What makes these numbers weak, a sentence each."""
        partial = (metric for metric, count in self.macro_over.items() if count < len(self.classes) - 1)
        means = (f"{metric}: {self.macro_note(metric)}, as the rest is undefined" for metric in partial)
        return [*self.weak, *means]

    def macro_note(self, metric: str) -> str:
        """Say over how many classes a macro goes, such as "macro over 2 of 3 classes"."""
        return f"macro over {self.macro_over[metric]} of {len(self.classes) - 1} classes"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `json.dumps(allow_nan=False)`; undefined is null beside its reason."""
        macro: dict[str, Any] = {}
        for metric, score in self.macro.items():
            macro |= score.to_json(metric) | {f"{metric}_note": self.macro_note(metric)}
        micro: dict[str, Any] = {}
        for metric, score in self.micro.items():
            micro |= score.to_json(metric)
        return {
            "rows": self.rows,
            "classes": [result.to_json() for result in self.classes],
            "confusion": {
                "names": [result.name for result in self.classes],
                "counts": self.confusion.tolist(),
            },
            "micro": micro,
            "macro": macro,
            **self.false_alarms.to_json("false_alarms_per_1000_none"),
            "warnings": self.warnings,
        }


def evaluate(predictions: Predictions, truth: NDArray[Any], *, seed: int = 0) -> Evaluation:
    """Compare n predictions with `truth`, (n, K) of 0 and 1, row for row.

    Undefined is nan with a reason: recall, F1, average precision and ROC AUC of a class without a positive
    row, precision of a class that no row was given. A class with positive rows that is never given has F1 0.
    The 95% intervals are percentile bootstrap over rows (Efron, 1979), `DRAWS` draws.
    Raises `ValueError` for the wrong shape.
    """
    shape = (len(predictions), len(predictions.classes))
    if truth.shape != shape or not len(truth):
        raise ValueError(f"expected truth of shape {shape} with at least one row, got {truth.shape}")
    actual, given = _with_none(truth), _with_none(predictions.vectors)
    names = [*predictions.classes, NONE]
    draws = _bootstrap(actual, given, predictions.probabilities, seed)
    spreads = [_ends(draws[:, k]) for k in range(len(names))]
    results = tuple(
        _class_result(name, actual[:, k], given[:, k], predictions.probabilities[:, k], spreads[k])
        for k, name in enumerate(names)
    )
    confusion = actual.astype(np.int64).T @ given.astype(np.int64)
    macro = {metric: _macro(results[:-1], metric, draws) for metric in METRICS}
    return Evaluation(
        rows=len(truth),
        classes=results,
        confusion=confusion,
        micro=_micro(confusion),
        macro={metric: score for metric, (score, _) in macro.items()},
        macro_over={metric: count for metric, (_, count) in macro.items()},
        false_alarms=_false_alarms(confusion),
        weak=tuple(_without_interval(results)),
    )


def _with_none(vectors: NDArray[Any]) -> NDArray[np.bool_]:
    """Return (n, K + 1): the last column is true where no class is."""
    found = vectors > 0
    return np.column_stack([found, ~found.any(axis=1)])


def _class_result(
    name: str, actual: NDArray[np.bool_], given: NDArray[np.bool_], chances: Floats, spread: Floats
) -> ClassResult:
    support, predicted, hits = int(actual.sum()), int(given.sum()), int((actual & given).sum())
    precision, recall, f1 = _counts(hits, support, predicted)
    average, area, roc, pr = _ranking(actual, chances)
    weak = _too_few(support, len(actual))
    f1, average, area = (_interval(score, ends, weak) for score, ends in zip((f1, average, area), spread, strict=True))
    return ClassResult(name, support, predicted, precision, recall, f1, average, area, roc, pr)


def _counts(hits: int, support: int, predicted: int) -> tuple[Score, Score, Score]:
    """Return precision, recall and F1."""
    precision = Score(hits / predicted) if predicted else Score(math.nan, NOT_PREDICTED)
    if not support:
        return precision, Score(math.nan, NO_POSITIVE), Score(math.nan, NO_POSITIVE)
    return precision, Score(hits / support), Score(2 * hits / (support + predicted))


def _ranking(actual: NDArray[np.bool_], chances: Floats) -> tuple[Score, Score, Floats, Floats]:
    """Return average precision, ROC AUC and their curves."""
    from sklearn import metrics

    nothing = np.empty((0, 2))
    if not actual.any():
        return Score(math.nan, NO_POSITIVE), Score(math.nan, NO_POSITIVE), nothing, nothing
    average = Score(float(metrics.average_precision_score(actual, chances)))
    precision, recall, _ = metrics.precision_recall_curve(actual, chances)
    pr = np.column_stack([recall, precision])
    if actual.all():
        return average, Score(math.nan, NO_NEGATIVE), nothing, pr
    alarms, found, _ = metrics.roc_curve(actual, chances)
    return average, Score(float(metrics.roc_auc_score(actual, chances))), np.column_stack([alarms, found]), pr


def _too_few(support: int, rows: int) -> str:
    """Return why a bootstrap interval would mislead, or nothing."""
    for kind, count in (("positive", support), ("negative", rows - support)):
        if count < FEWEST:
            return f"{count} {kind} rows; an interval needs at least {FEWEST}"
    return ""


def _interval(score: Score, ends: Floats, weak: str) -> Score:
    if score.reason or weak:
        return Score(score.value, score.reason, interval_reason=score.reason or weak)
    return Score(score.value, low=float(ends[0]), high=float(ends[1]))


def _bootstrap(actual: NDArray[np.bool_], given: NDArray[np.bool_], chances: Floats, seed: int) -> Floats:
    """Return (B, K + 1, 3) of `BOOTSTRAPPED` for each class in each draw; nan where it has no interval."""
    n, width = actual.shape
    rng, draws = np.random.default_rng(seed), np.full((DRAWS, width, 3), np.nan)
    step = max(1, CELLS // n)
    for start in range(0, DRAWS, step):
        block = slice(start, min(start + step, DRAWS))
        counts = rng.multinomial(n, np.full(n, 1 / n), size=block.stop - block.start).astype(np.float64)
        for k in range(width):
            if not _too_few(int(actual[:, k].sum()), n):
                draws[block, k] = _resampled(counts, actual[:, k], given[:, k], chances[:, k])
    return draws


def _ends(draws: Floats) -> Floats:
    """Return (..., 2): the 2.5% and 97.5% points of (B, ...) draws; nan where none is defined."""
    if not np.isfinite(draws).any():
        return np.full((*draws.shape[1:], 2), np.nan)
    return np.moveaxis(np.nanquantile(draws, [0.025, 0.975], axis=0), 0, -1)


def _resampled(counts: Floats, actual: NDArray[np.bool_], given: NDArray[np.bool_], chances: Floats) -> Floats:
    """Return (B, 3) F1, average precision and ROC AUC, for (B, n) counts of how often each row was drawn."""
    order = np.argsort(-chances, kind="stable")
    ranked = chances[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # equal scores are one step of the curve
    positive = np.add.reduceat(counts[:, order] * actual[order], starts, axis=1)
    negative = np.add.reduceat(counts[:, order] * ~actual[order], starts, axis=1)
    found, alarms = positive.cumsum(axis=1), negative.cumsum(axis=1)
    P, N = found[:, -1], alarms[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = 2 * (counts @ (actual & given)) / (P + counts @ given)
        precision = np.nan_to_num(found / (found + alarms))
        average = (positive * precision).sum(axis=1) / P
        area = (negative * (found - positive / 2)).sum(axis=1) / (P * N)
    f1[P == 0] = np.nan
    return np.column_stack([f1, average, area])


def _macro(results: Iterable[ClassResult], metric: str, draws: Floats) -> tuple[Score, int]:
    """Return the mean over the defined cells, and how many these are; with an interval where each of them has one."""
    scores = [result.score(metric) for result in results]
    defined = [k for k, score in enumerate(scores) if not score.reason]
    if not defined:
        return Score(math.nan, "undefined for every class"), 0
    mean = Score(float(np.mean([scores[k].value for k in defined])))
    if metric in BOOTSTRAPPED and all(math.isfinite(scores[k].low) for k in defined):
        low, high = _ends(draws[:, defined, BOOTSTRAPPED.index(metric)].mean(axis=1))
        mean = replace(mean, low=float(low), high=float(high))
    return mean, len(defined)


def _micro(confusion: Integers) -> dict[str, Score]:
    """Return precision, recall and F1 of the predictions of the K classes taken together."""
    hits = int(np.trace(confusion[:-1, :-1]))
    scores = _counts(hits, int(confusion[:-1].sum()), int(confusion[:, :-1].sum()))
    if scores[0].reason:
        scores = (Score(math.nan, "no row was given a class"), *scores[1:])
    return dict(zip(METRICS, scores, strict=False))


def _false_alarms(confusion: Integers) -> Score:
    rows = int(confusion[-1].sum())
    return (
        Score(1000 * int(confusion[-1, :-1].sum()) / rows) if rows else Score(math.nan, 'no "none" row in the test set')
    )


def _without_interval(results: Sequence[ClassResult]) -> Iterator[str]:
    for result in results:
        reason = result.f1.interval_reason or result.roc_auc.interval_reason
        if reason:
            yield f"{result.name}: no 95% intervals ({reason})"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
