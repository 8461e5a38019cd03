"""The report: one HTML file that opens offline, and its figures as PNG."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from holotype.evaluation.metrics import METRICS, Evaluation, Score
from holotype.files import write
from holotype.runs.folder import RunFolder
from holotype.runs.report.content import ReportContent
from holotype.runs.report.figures import (
    CSS_DPI,
    DPI,
    FIGURES,
    MANY,
    class_names,
    draw_figures,
    plain_name,
    sweep_columns,
    table_cell,
)
from holotype.runs.report.template import isolating, templates

TITLES = {
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "average_precision": "Average precision",
    "roc_auc": "ROC AUC",
}


def write_report(folder: RunFolder, content: ReportContent) -> None:
    """Write the report into `folder`, which needs no other file, and its figures as PNG.

    Raises `OutputError` when the disk is full.
    """
    figures = draw_figures(content)
    for name, png in figures.items():
        write(folder.figures / f"{name}.png", png)
    write(folder.report, render(content, figures))


def render(content: ReportContent, figures: Mapping[str, bytes]) -> str:
    """Return the report as HTML; `figures` are PNGs by name."""
    environment = templates("holotype.runs.report")
    environment.filters |= {"cell": table_cell, "score": _score, "interval": _interval, "data": _data, "width": _width}
    environment.filters["isolated"] = isolating(content.classes)
    return environment.get_template("report.html.j2").render(
        content=content,
        evaluation=content.evaluation,
        figures=figures,
        captions=FIGURES,
        titles=TITLES,
        undefined_cells=_undefined_cells(content.evaluation),
        warnings=_warnings(content.evaluation),
        numbered=class_names(content.classes) != [plain_name(name) for name in content.classes],
        scrolled={"confusion"} if len(content.classes) + 1 > MANY else set(),
        sweep_columns=sweep_columns(content.sweep),
        overlaps=_overlaps(content.search),
    )


def _score(score: Score) -> str:
    return table_cell(score.value)


def _interval(score: Score) -> str:
    return f"{score.low:.2f} to {score.high:.2f}" if math.isfinite(score.low) else ""


def _data(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _width(png: bytes) -> int:
    """Return the width in CSS pixels at which the figure's text has the size that it was drawn for."""
    return round(int.from_bytes(png[16:20]) * CSS_DPI / DPI)


def _warnings(evaluation: Evaluation | None) -> list[str]:
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


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _undefined_cells(evaluation: Evaluation | None) -> list[str]:
    """Return a sentence for each class and reason: which cells are undefined, and why."""
    if evaluation is None:
        return []
    sentences = []
    for result in evaluation.classes:
        by_reason: dict[str, list[str]] = {}
        for metric in METRICS:
            if reason := result.score(metric).reason:
                by_reason.setdefault(reason, []).append(TITLES[metric])
        for reason, titles in by_reason.items():
            verb = "is" if len(titles) == 1 else "are"
            sentences.append(f"{result.name}: {', '.join(titles)} {verb} undefined ({reason}).")
    return sentences


def _overlaps(search: Mapping[str, Any] | None) -> list[Any]:
    """Return every k of the comparison, in order."""
    return sorted({k for row in search["rows"] for k in row["overlap_at_k"]}, key=int) if search else []
