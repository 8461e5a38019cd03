"""What the report says of the test set."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from holotype.evaluation.metrics import METRICS, Evaluation, Score
from holotype.runs.report.layout import clipped

TITLES = {
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "average_precision": "Average precision",
    "roc_auc": "ROC AUC",
}
MATRIX = 24  # classes, none included, up to which what was taken for what is a table of all with all
_MISTAKES = 40


@dataclass(frozen=True)
class Mistake:
    """So many `rows` that are `truth` were answered with `answer`."""

    truth: str
    answer: str
    rows: int


def mistakes(evaluation: Evaluation | None) -> list[Mistake]:
    """Return the most frequent mistakes, the most frequent first."""
    if evaluation is None:
        return []
    counts, names = evaluation.confusion.copy(), [one.name for one in evaluation.classes]
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_MISTAKES]
    pairs = (np.unravel_index(place, counts.shape) for place in order.tolist())
    return [Mistake(names[int(i)], names[int(j)], int(counts[i, j])) for i, j in pairs if counts[i, j]]


def said_of_score(score: Score) -> str:
    """Return a score in three digits, or a word for none."""
    return "undefined" if score.reason or not math.isfinite(score.value) else f"{score.value:.3f}"


def said_of_interval(score: Score) -> str:
    """Return the ends of its interval; nothing where it has none."""
    return f"{score.low:.2f} to {score.high:.2f}" if math.isfinite(score.low) else ""


def weak_figures(evaluation: Evaluation | None) -> list[str]:
    """Return what makes the figures weak; of the means over some of the classes a sentence per number of classes."""
    if evaluation is None:
        return []
    sentences = list(evaluation.weak)
    classes, by_count = len(evaluation.classes) - 1, dict[int, list[str]]()
    for metric in METRICS:
        by_count.setdefault(evaluation.macro_over[metric], []).append(TITLES[metric])
    by_count.pop(classes, None)
    for count, titles in by_count.items():
        over = f"over {count} of {classes} classes, as the rest is undefined"
        what = f"the mean {over}" if count else f"undefined: it is {over}"
        sentences.append(f"The macro figure of {_and(titles)} is {what}.")
    return sentences


def undefined_cells(evaluation: Evaluation | None) -> list[str]:
    """Return a sentence for each class and reason: which cells are undefined, and why."""
    return list(_undefined(evaluation)) if evaluation else []


def _undefined(evaluation: Evaluation) -> Iterator[str]:
    for result in evaluation.classes:
        by_reason: dict[str, list[str]] = {}
        for metric in METRICS:
            if reason := result.score(metric).reason:
                by_reason.setdefault(reason, []).append(TITLES[metric])
        for reason, titles in by_reason.items():
            verb = "is" if len(titles) == 1 else "are"
            yield f"{clipped(result.name)}: {', '.join(titles)} {verb} undefined ({reason})."


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
