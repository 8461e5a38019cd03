"""The report: one HTML file that opens offline, and its figures as PNG."""

import base64
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from holotype.evaluation import METRICS, ClassResult, Evaluation, Score
from holotype.files import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c564b")
GREY = "#767676"
DASHES = ("-", "--", "-.", ":")
TITLES = {
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "average_precision": "Average precision",
    "roc_auc": "ROC AUC",
}
FIGURES = {
    "roc": "ROC curves, each class against the rest",
    "precision_recall": "Precision against recall, each class against the rest",
    "confusion": "Confusion matrix: truth in lines, answer in columns",
    "sweep": "Runs of the sweep (the first 40 and the chosen); the chosen run is orange",
    "score_histogram": "Cosine of the pool's images to each class, with the threshold",
}
SWEEP_LABELS = ("encoder", "head", "threshold")
PANELS = 4
RUNS = 40


@dataclass(frozen=True)
class ReportContent:
    """What the report shows, for n images of the pool and K classes.

    evaluation  None when no test set was given
    groups      per class: name, exemplars [(id, jpeg)], threshold, threshold_basis, members, doubtful, and
                best, borderline, rejected, each [(id, caption, jpeg)]
    scores      (n, K) float cosine, nan where missing
    thresholds  (K,) float cosine from which an image is a member
    sweep       a dict per run: encoder, head, threshold, then numbers or None; the chosen one has chosen=True
    search      the two ways to search: rows [{name, overlap_at_k {k: share}, spearman}] and
                seconds {way: seconds}, images that both can see; None when they were not compared
    skipped     (id, reason) of images that could not be read
    ignored     files that are no images, counted by suffix
    notes       warnings, shown on top
    facts       (key, value): imbalance, split, calibration, probability thresholds
    settings    TOML
    """

    title: str
    classes: list[str]
    evaluation: Evaluation | None
    groups: list[dict[str, Any]]
    scores: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    sweep: list[dict[str, Any]]
    search: dict[str, Any] | None
    skipped: list[tuple[str, str]]
    ignored: dict[str, int]
    notes: list[str]
    facts: list[tuple[str, Any]]
    settings: str
    versions: dict[str, str]


def write_report(out: Path, content: ReportContent) -> None:
    """Write `out`/report.html, which needs no other file, and `out`/figures/*.png.

    Raises `OutputError` when the disk is full.
    """
    figures = draw_figures(content)
    for name, png in figures.items():
        write(out / "figures" / f"{name}.png", png)
    write(out / "report.html", render(content, figures))


def draw_figures(content: ReportContent) -> dict[str, bytes]:
    """Return the PNG of each figure that `content` has numbers for, by name."""
    drawn: dict[str, Figure] = {}
    if content.evaluation is not None:
        drawn["roc"] = _draw_roc(content.evaluation)
        drawn["precision_recall"] = _draw_precision_recall(content.evaluation)
        drawn["confusion"] = _draw_confusion(content.evaluation)
    if len(content.sweep) > 1 and _numeric(content.sweep):
        drawn["sweep"] = _draw_sweep(content.sweep)
    if content.scores.size:
        drawn["score_histogram"] = _draw_histogram(content)
    return {name: _png(figure) for name, figure in drawn.items()}


def render(content: ReportContent, figures: Mapping[str, bytes]) -> str:
    """Return the report as HTML; `figures` are PNGs by name."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("holotype", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "score": _score, "interval": _interval, "data": _data}
    return environment.get_template("report.html.j2").render(
        content=content,
        evaluation=content.evaluation,
        figures=figures,
        captions=FIGURES,
        titles=TITLES,
        undefined_cells=_undefined_cells(content.evaluation),
        sweep_columns=_sweep_columns(content.sweep),
        overlaps=_overlaps(content.search),
    )


def _cell(value: Any) -> str:
    """Return a table cell: three digits for a fraction, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.3f}" if math.isfinite(value) else "undefined"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)


def _score(score: Score) -> str:
    return _cell(score.value)


def _interval(score: Score) -> str:
    return f"{score.low:.2f} to {score.high:.2f}" if math.isfinite(score.low) else ""


def _data(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


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


def _sweep_columns(sweep: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns in the order in which the runs name them, without `chosen`."""
    return [key for key in dict.fromkeys(key for run in sweep for key in run) if key != "chosen"]


def _numeric(sweep: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of numbers that have at least one."""
    columns = [key for key in _sweep_columns(sweep) if key not in SWEEP_LABELS]
    return [key for key in columns if any(_finite(run.get(key)) for run in sweep)]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(float(value))


def _overlaps(search: Mapping[str, Any] | None) -> list[Any]:
    """Return every k of the comparison, in order."""
    return sorted({k for row in search["rows"] for k in row["overlap_at_k"]}, key=int) if search else []


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def _png(figure: "Figure") -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a class may have a name in any script
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _plain(name: str, longest: int = 28) -> str:
    """Return `name` for a figure: not read as a formula, not hidden from the legend, not too long."""
    short = name if len(name) <= longest else f"{name[: longest - 1]}…"
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")


def _line(k: int, results: Sequence[ClassResult]) -> dict[str, Any]:
    """Return the look of class k's curve; "none", the last, is grey."""
    if k == len(results) - 1:
        return {"color": GREY, "linestyle": "--", "linewidth": 1.8}
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k // len(COLOURS) % 4], "linewidth": 1.8}


def _tidy(axes: "Axes", x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: "Axes") -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, borderaxespad=0)


def _caption(name: str, what: str, score: Score) -> str:
    shown = "undefined" if score.reason else f"{score.value:.3f}"  # the report's text says why
    return f"{_plain(name)} ({what} {shown})"


def _draw_roc(evaluation: Evaluation) -> "Figure":
    figure = _figure(8.4, 4.8)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle=":", linewidth=1, label="chance")
    for k, result in enumerate(evaluation.classes):
        label = _caption(result.name, "AUC", result.roc_auc)
        axes.plot(*result.roc.T, label=label, clip_on=False, **_line(k, evaluation.classes))
    _tidy(axes, "False positive rate", "True positive rate")
    axes.set_title("ROC, each class against the rest")
    _legend(axes)
    return figure


def _draw_precision_recall(evaluation: Evaluation) -> "Figure":
    figure = _figure(8.4, 4.8)
    axes = figure.subplots()
    for k, result in enumerate(evaluation.classes):
        label = _caption(result.name, "AP", result.average_precision)
        look = _line(k, evaluation.classes)
        axes.plot(*result.pr.T, label=label, drawstyle="steps-post", clip_on=False, **look)
    _tidy(axes, "Recall", "Precision")
    axes.set_title("Precision and recall, each class against the rest")
    _legend(axes)
    return figure


def _draw_confusion(evaluation: Evaluation) -> "Figure":
    names = [_plain(result.name) for result in evaluation.classes]
    counts = evaluation.confusion
    side = max(4.2, 0.62 * len(names) + 2.2)
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        axes.text(j, i, f"{count}", ha="center", va="center", color="white" if shares[i, j] > 0.55 else "black")
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="Answer", ylabel="Truth", title="Rows of the test set")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _draw_sweep(sweep: Sequence[Mapping[str, Any]]) -> "Figure":
    columns = _numeric(sweep)[:PANELS]
    sweep = [run for i, run in enumerate(sweep) if i < RUNS or run.get("chosen")]
    names = [_plain(" / ".join(_cell(run.get(key)) for key in SWEEP_LABELS), 48) for run in sweep]
    figure = _figure(3 + 2.1 * len(columns), 1.1 + 0.32 * len(sweep))
    colours = [COLOURS[1] if run.get("chosen") else COLOURS[0] for run in sweep]
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        values = [float(run[column]) if _finite(run.get(column)) else math.nan for run in sweep]
        bars = axes.barh(range(len(sweep)), np.nan_to_num(values), color=colours, height=0.7)
        axes.bar_label(bars, [f"{v:.3g}" if math.isfinite(v) else "-" for v in values], padding=3, fontsize=8)
        axes.margins(x=0.25)
        axes.locator_params(axis="x", nbins=3)
        axes.set_title(_plain(column), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(sweep)), names, fontsize=8)
    panels[0].invert_yaxis()
    return figure


def _draw_histogram(content: ReportContent) -> "Figure":
    k = len(content.classes)
    across = min(k, 3)
    down = math.ceil(k / across)
    figure = _figure(3.4 * across + 0.4, 2.6 * down + 0.3)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    finite = content.scores[np.isfinite(content.scores)]
    bins = np.linspace(finite.min() - 1e-6, finite.max() + 1e-6, 61) if finite.size else 10
    for i, axes in enumerate(panels):
        if i < k:
            _draw_scores(axes, content, i, bins)
        else:
            axes.set_visible(False)
    figure.supxlabel("Cosine", fontsize=10)
    figure.supylabel("Images", fontsize=10)
    return figure


def _draw_scores(axes: "Axes", content: ReportContent, k: int, bins: Any) -> None:
    scores, threshold = content.scores[:, k], float(content.thresholds[k])
    axes.hist(scores[np.isfinite(scores)], bins=bins, color=COLOURS[k % len(COLOURS)], alpha=0.8)
    axes.set_yscale("symlog", linthresh=1)  # a few hundred members beside a million others
    axes.set_ylim(bottom=0)
    title = _plain(content.classes[k])
    if math.isfinite(threshold):
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2)
        title += f", threshold {threshold:.3f}"
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
