"""The figures of a run as PNG, for slides and papers; the report draws its own."""

import logging
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from holotype.evaluation.metrics import ClassResult, Evaluation
from holotype.pool.drawn import PICTURE_MARK
from holotype.runs.report.content import ReportContent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c564b")
GREY = "#767676"
DASHES = ("-", "--", "-.", ":")
SWEEP_LABELS = ("encoder", "head", "threshold")
PANELS = 4
RUNS = 40
MANY = 13  # classes, none included, above which a figure is laid out for many
_MOST = 60  # classes above which tables say it better
DPI = 130


def draw_figures(content: ReportContent) -> dict[str, bytes]:
    """Return the PNG of each figure that `content` has numbers for, by name; none of very many classes."""
    with _quiet_matplotlib():
        return {name: _png(figure) for name, figure in _draw(content)}


def _draw(content: ReportContent) -> Iterator[tuple[str, "Figure"]]:
    few = len(content.classes) <= _MOST
    if few and content.evaluation is not None:
        yield "roc", _draw_roc(content.evaluation)
        yield "precision_recall", _draw_precision_recall(content.evaluation)
        yield "confusion", _draw_confusion(content.evaluation)
    if len(content.sweep) > 1 and _numeric(content.sweep):
        yield "sweep", _draw_sweep(content.sweep)
    if few and content.scores.size:
        yield "score_histogram", _draw_histogram(content)


def sweep_columns(sweep: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns in the order in which the runs name them, without `chosen`."""
    return [key for key in dict.fromkeys(key for run in sweep for key in run) if key != "chosen"]


def _numeric(sweep: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of numbers that have at least one."""
    columns = [key for key in sweep_columns(sweep) if key not in SWEEP_LABELS]
    return [key for key in columns if any(_finite(run.get(key)) for run in sweep)]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(float(value))


def table_cell(value: Any) -> str:
    """Return a table cell: three digits for a fraction, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.3f}" if math.isfinite(value) else "undefined"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)


@contextmanager
def _quiet_matplotlib() -> Iterator[None]:
    """Keep its log (where its cache is, that it lists the fonts) off the terminal."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _panels(down: int, across: int, size: tuple[float, float], gaps: tuple[float, float]) -> "list[Axes]":
    """Return `down` x `across` axes, each of `size` (width, height) with `gaps` between them, in inches.

    The size is that of the plots themselves: `_png` adds as much room as their labels take.
    """
    from matplotlib.figure import Figure

    (width, height), (beside, below) = size, gaps
    figure = Figure((across * (width + beside) - beside, down * (height + below) - below), dpi=DPI)
    filled = {"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": beside / width, "hspace": below / height}
    return list(figure.subplots(down, across, squeeze=False, gridspec_kw=filled).ravel())


def _figure_of(axes: "Axes") -> "Figure":
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101 - for the type
    return figure


def _png(figure: "Figure") -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata=PICTURE_MARK, bbox_inches="tight", pad_inches=0.12)
    return buffer.getvalue()


@cache
def _drawable() -> frozenset[int]:
    """The characters that the font of the figures has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def _shape(character: str) -> str:
    """Return `character`, or a box where the font has none; what only changes its neighbour is left out."""
    if ord(character) in _drawable():
        return character
    return "" if unicodedata.category(character) in ("Cf", "Mn") else "□"


def plain_name(name: str, longest: int = 28) -> str:
    """Return `name` for a figure: not read as a formula, not hidden from the legend, not too long."""
    drawn = "".join(map(_shape, name))
    short = drawn if len(drawn) <= longest else f"{drawn[: longest - 1]}…"
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")


def class_names(names: Sequence[str], longest: int = 28) -> list[str]:
    """Return the classes' names for a figure, with their number where the font cannot draw one, or two look alike."""
    plain = [plain_name(name, longest) for name in names]
    return [
        f"{k}: {shown}" if "□" in shown or plain.count(shown) > 1 else shown for k, shown in enumerate(plain, start=1)
    ]


def _line(k: int, results: Sequence[ClassResult]) -> dict[str, Any]:
    """Return the look of class k's curve; "none", the last, is grey."""
    look: dict[str, Any] = {"linewidth": 1.8, "clip_on": False}
    if k == len(results) - 1:
        return look | {"color": GREY, "linestyle": "--"}
    return look | {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k // len(COLOURS) % 4]}


def _tidy(axes: "Axes", x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: "Axes", count: int) -> None:
    """The legend of `count` classes: of few, it stands beside the plot; of many, below it, where it can grow."""
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
    if count > MANY:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.1), "ncols": 2}
    axes.legend(frameon=False, handlelength=3, **place)


def _curve_axes(count: int) -> "Axes":
    side = 4.2 if count <= MANY else 5.6
    return _panels(1, 1, (side, side), (0, 0))[0]


def _captions(evaluation: Evaluation, what: str, metric: str) -> list[str]:
    names = class_names([result.name for result in evaluation.classes])
    scores = [result.score(metric) for result in evaluation.classes]
    shown = ["undefined" if score.reason else f"{score.value:.3f}" for score in scores]  # the text says why
    return [f"{name} ({what} {value})" for name, value in zip(names, shown, strict=True)]


def _draw_roc(evaluation: Evaluation) -> "Figure":
    from sklearn.metrics import RocCurveDisplay

    axes = _curve_axes(len(evaluation.classes))
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle=":", linewidth=1, label="chance")
    for k, caption in enumerate(_captions(evaluation, "AUC", "roc_auc")):
        alarms, found = evaluation.classes[k].roc.T
        curve = RocCurveDisplay(fpr=alarms, tpr=found).plot(axes)
        curve.line_.set(label=caption, **_line(k, evaluation.classes))
    _tidy(axes, "False positive rate", "True positive rate")
    axes.set_title("ROC, each class against the rest")
    _legend(axes, len(evaluation.classes))
    return _figure_of(axes)


def _draw_precision_recall(evaluation: Evaluation) -> "Figure":
    from sklearn.metrics import PrecisionRecallDisplay

    axes = _curve_axes(len(evaluation.classes))
    for k, caption in enumerate(_captions(evaluation, "AP", "average_precision")):
        recall, precision = evaluation.classes[k].pr.T
        curve = PrecisionRecallDisplay(precision, recall).plot(axes)  # in steps
        curve.line_.set(label=caption, **_line(k, evaluation.classes))
    _tidy(axes, "Recall", "Precision")
    axes.set_title("Precision and recall, each class against the rest")
    _legend(axes, len(evaluation.classes))
    return _figure_of(axes)


def _draw_confusion(evaluation: Evaluation) -> "Figure":
    from sklearn.metrics import ConfusionMatrixDisplay

    names = class_names([result.name for result in evaluation.classes])
    counts, many = evaluation.confusion, len(names) > MANY
    size = 8 if many else 10
    cell = max(0.34 if many else 0.62, 0.011 * size * len(str(counts.max())))
    side = max(1.8, cell * len(names))
    (axes,) = _panels(1, 1, (side, side), (0, 0))
    matrix = ConfusionMatrixDisplay(counts, display_labels=names)
    matrix.plot(ax=axes, cmap="Blues", values_format="d", colorbar=False, text_kw={"fontsize": size})
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    matrix.im_.set(data=shares, clim=(0, 1))  # the colour is the share of the line, the text the count
    for i, j in np.ndindex(counts.shape):
        matrix.text_[i, j].set(color="white" if shares[i, j] > 0.55 else "black", visible=not many or counts[i, j] > 0)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    _rule(axes, len(names))
    axes.set(xlabel="Answer", ylabel="Truth", title=f"Rows of the test set{'; an empty cell is 0' if many else ''}")
    return _figure_of(axes)


def _rule(axes: "Axes", count: int) -> None:
    """Draw thin lines between the cells, for the eye to follow."""
    edges = np.arange(1, count) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("#dddddd")


def _draw_sweep(sweep: Sequence[Mapping[str, Any]]) -> "Figure":
    columns = _numeric(sweep)[:PANELS]
    sweep = [run for i, run in enumerate(sweep) if i < RUNS or run.get("chosen")]
    names = [plain_name(" / ".join(table_cell(run.get(key)) for key in SWEEP_LABELS), 48) for run in sweep]
    colours = [COLOURS[1] if run.get("chosen") else COLOURS[0] for run in sweep]
    panels = _panels(1, len(columns), (1.8, 0.32 * len(sweep)), (0.35, 0))
    for axes, column in zip(panels, columns, strict=True):
        values = [float(run[column]) if _finite(run.get(column)) else math.nan for run in sweep]
        bars = axes.barh(range(len(sweep)), np.nan_to_num(values), color=colours, height=0.7)
        axes.bar_label(bars, [f"{v:.3g}" if math.isfinite(v) else "-" for v in values], padding=3, fontsize=8)
        axes.margins(x=0.25)
        axes.locator_params(axis="x", nbins=3)
        axes.set_title(plain_name(column), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_yticks(range(len(sweep)), names if axes is panels[0] else [""] * len(sweep), fontsize=8)
        axes.set_ylim(len(sweep) - 0.5, -0.5)
    return _figure_of(panels[0])


def _draw_histogram(content: ReportContent) -> "Figure":
    k = len(content.classes)
    across = min(k, 3)
    panels = _panels(math.ceil(k / across), across, (2.8, 1.8), (0.6, 0.75))
    finite = content.scores[np.isfinite(content.scores)]
    bins = np.linspace(finite.min() - 1e-6, finite.max() + 1e-6, 61) if finite.size else 10
    names = class_names(content.classes)
    for i, axes in enumerate(panels):
        if i < k:
            _draw_scores(axes, content, i, bins)
            axes.set_title(f"{names[i]}{_threshold(content.thresholds[i])}", fontsize=9)
            axes.set_xlabel(content.measure if i + across >= k else "")
            axes.set_ylabel("" if i % across else "Images")
        else:
            axes.set_visible(False)
    return _figure_of(panels[0])


def _threshold(value: float) -> str:
    return f"\nthreshold {value:.3f}" if math.isfinite(value) else ""


def _draw_scores(axes: "Axes", content: ReportContent, k: int, bins: Any) -> None:
    scores, threshold = content.scores[:, k], float(content.thresholds[k])
    counts, edges = np.histogram(scores[np.isfinite(scores)], bins)
    axes.stairs(counts, edges, fill=True, color=COLOURS[k % len(COLOURS)], alpha=0.8)
    axes.set_yscale("symlog", linthresh=1)  # a few hundred members beside a million others
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    if math.isfinite(threshold):
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2)
    axes.spines[["top", "right"]].set_visible(False)
