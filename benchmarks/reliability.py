"""Draws stated probabilities against what is true of new images: `python -m benchmarks.reliability`.

It reads what `python -m benchmarks.quality --new` wrote. A dot is a tenth of the probabilities; its line is the 95 %
interval (Wilson) of the share that is true. Below the diagonal too much was stated.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from holotype.errors import HolotypeError
from holotype.runs.report.figures import COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, SHOWN = "ours, the saved model", (0, 10, 30, 60)  # after how many answers
RIVAL, AT = "balanced logistic", 30  # the best of those that are called so, after so many answers
SIDE, DPI = 1.75, 120  # inches of a panel, and pixels of an inch
SIZES = (10, 1000, 50000)  # of the legend, in images


def tenths(pairs: Sequence[tuple[float, bool]]) -> list[tuple[float, float, int]]:
    """Return of each tenth of the probabilities the mean of what was stated, the share that is true, and how many."""
    stated, true = np.array([p for p, _ in pairs]), np.array([t for _, t in pairs])
    tenth = np.minimum((stated * 10).astype(int), 9)
    return [
        (float(stated[tenth == b].mean()), float(true[tenth == b].mean()), int((tenth == b).sum()))
        for b in np.unique(tenth)
    ]


def draw(results: Sequence[Mapping[str, Any]]) -> "Figure":
    """Return a figure with one line of panels for each of `results`: ours after each number of answers, and a rival.

    Raises `HolotypeError` where nothing was stated in any of them.
    """
    from matplotlib.figure import Figure

    if not any("reliability" in row for one in results for at in one["at"].values() for row in at.values()):
        raise HolotypeError("expected reliability figures, found none; make them by python -m benchmarks.quality --new")
    across = len(SHOWN) + 1
    figure = Figure((across * SIDE, len(results) * SIDE + 0.9), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(results), across, sharex=True, sharey=True, squeeze=False)
    for line, result in zip(panels, results, strict=True):
        for axes, answers in zip(line, SHOWN, strict=False):
            row = result["at"].get(f"twos, {answers}", {}).get(OURS, {})
            _draw_panel(axes, row, "ours", answers, COLOURS[0])
        name, row = _best_rival(result)
        _draw_panel(line[-1], row, name, AT, COLOURS[1])
        line[0].set_ylabel(result["pool"].partition(",")[0], fontsize=10, fontweight="bold")
    figure.supxlabel("stated probability", fontsize=9)
    figure.supylabel("share that is true", fontsize=9)
    _draw_sizes(figure)
    return figure


def _best_rival(result: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    rivals = {name: row for name, row in result["at"].get(f"twos, {AT}", {}).items() if name.startswith(RIVAL)}
    return max(rivals.items(), key=lambda one: float(one[1]["f1"]), default=(RIVAL, {}))


def _draw_panel(axes: "Axes", row: Mapping[str, Any], name: str, answers: int, colour: str) -> None:
    """Draw the tenths (stated, true, count) of `row`; above them its calibration error."""
    from scipy.stats import binomtest

    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--", zorder=1)
    for stated, true, count in row.get("reliability", []):
        bounds = binomtest(round(true * count), count).proportion_ci(method="wilson")
        axes.plot([stated, stated], [bounds.low, bounds.high], color=colour, linewidth=1, alpha=0.6, zorder=2)
        axes.scatter(stated, true, _area(count), color=colour, edgecolors="white", linewidths=0.4, zorder=3)
    error = f"error {row['calibration error']:.3f}" if "calibration error" in row else "nothing stated"
    axes.set_title(f"{name}\n{answers or 'no'} answers, {error}", fontsize=8)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.tick_params(labelsize=8, length=2)
    axes.spines[["top", "right"]].set_visible(False)


def _area(count: int) -> float:
    """Return the area of a dot in square points: as the square root of the count, as counts differ 50,000-fold."""
    return 9 + 1.1 * math.sqrt(count)


def _draw_sizes(figure: "Figure") -> None:
    from matplotlib.lines import Line2D

    dots = [
        Line2D([], [], marker="o", linestyle="", color=GREY, markersize=_area(count) ** 0.5, label=f"{count:,}")
        for count in SIZES
    ]
    figure.legend(
        handles=dots,
        loc="outside upper right",
        ncols=len(dots),
        fontsize=8,
        frameon=False,
        title="images in a tenth",
        title_fontsize=8,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path("benchmarks/results/new_images.json"))
    parser.add_argument("--out", type=Path, default=Path("docs/reliability.png"))
    given = parser.parse_args(arguments)
    draw(json.loads(given.results.read_text(encoding="utf-8"))).savefig(given.out)
    print(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
