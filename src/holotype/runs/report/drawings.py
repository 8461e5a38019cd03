"""The figures of the report's page: SVG whose colours are those of the page, light or dark."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from holotype.evaluation.metrics import ClassResult

if TYPE_CHECKING:
    from markupsafe import Markup

_HUES = 8  # classes of the page's style, c0 to c7; then they begin again, with other dashes
CURVES = 12  # classes whose curves are told apart in one figure
_POINTS = 200  # of a curve, at the most
_BARS = 40
_WIDE, _HIGH = 320, 110  # of a histogram, without its words
_SIDE = 240  # of a plot of curves


def draw_scores(scores: NDArray[np.float64], threshold: float, *, estimated: bool) -> "Markup":
    """Return how many images have which score (n,), and the `threshold`, from which on they are found.

    Of estimates those above 0 alone are drawn, as all others are out of reach. The height is logarithmic: some images
    are found, and very many are not.
    """
    shown = scores[np.isfinite(scores) & ((scores > 0) | (not estimated))]
    if not len(shown):
        return _markup("")
    ends = [float(shown.min()), float(shown.max()), *([threshold] if 0 <= threshold <= 1 else [])]
    low, high = min(ends), max(*ends, min(ends) + 1e-3)
    counts, edges = np.histogram(shown, np.linspace(low, high, _BARS + 1))
    top = math.log1p(int(counts.max()))
    heights = [_HIGH * math.log1p(count) / top for count in counts.tolist()]
    places = ((edges - low) / (high - low) * _WIDE).tolist()
    centres = (edges[:-1] + edges[1:]) / 2
    bars = {
        kind: "".join(
            f"M{_n(places[i])} {_HIGH}v-{_n(heights[i])}H{_n(places[i + 1] - 1)}V{_HIGH}z"
            for i in np.flatnonzero((inside == (kind == "in")) & (counts > 0)).tolist()
        )
        for inside in [centres >= threshold]
        for kind in ("out", "in")
    }
    x = (threshold - low) / (high - low) * _WIDE
    line = f'<path class="limit" d="M{_n(x)} -6V{_HIGH}"/>' if 0 <= x <= _WIDE else ""
    beside = f'<text x="{_n(x + 4)}" y="0">from {threshold:.3f}</text>' if 0 <= x <= _WIDE * 0.7 else ""
    if 0.7 * _WIDE < x <= _WIDE:
        beside = f'<text class="end" x="{_n(x - 4)}" y="0">from {threshold:.3f}</text>'
    label = f"Images by score, {int(counts.max()):,} in the highest bar; found from {threshold:.3f} on"
    return _markup(
        f'<svg class="scores" viewBox="-2 -14 {_WIDE + 4} {_HIGH + 32}" role="img" aria-label="{label}">'
        f'<path class="out" d="{bars["out"]}"/><path class="in" d="{bars["in"]}"/>'
        f'<path class="axis" d="M0 {_HIGH}H{_WIDE}"/>{line}{beside}'
        f'<text x="0" y="{_HIGH + 14}">{low:.2f}</text><text class="end" x="{_WIDE}" y="{_HIGH + 14}">{high:.2f}</text>'
        f'<text class="middle" x="{_WIDE // 2}" y="{_HIGH + 14}">score</text></svg>'
    )


def draw_curves(results: Sequence[ClassResult], what: str) -> "Markup":
    """Return the curves `what` ("roc" or "pr") of each class, "none", the last, in grey; nothing of very many."""
    if len(results) - 1 > CURVES:
        return _markup("")
    x, y = ("False alarms", "Found (recall)") if what == "roc" else ("Found (recall)", "Right (precision)")
    curves = [_curve(getattr(one, what), look(k, len(results)), steps=what == "pr") for k, one in enumerate(results)]
    chance = f'<path class="chance" d="M0 {_SIDE}L{_SIDE} 0"/>' if what == "roc" else ""
    grid = "".join(
        f'<path class="grid" d="M0 {_n(_SIDE * part)}H{_SIDE}M{_n(_SIDE * part)} 0V{_SIDE}"/>'
        f'<text class="end" x="-6" y="{_n(_SIDE * (1 - part) + 4)}">{part:g}</text>'
        f'<text class="middle" x="{_n(_SIDE * part)}" y="{_SIDE + 16}">{part:g}</text>'
        for part in (0, 0.5, 1)
    )
    return _markup(
        f'<svg class="curves" viewBox="-48 -8 {_SIDE + 60} {_SIDE + 46}" role="img" aria-label="{y} against {x}">'
        f"{grid}{chance}{''.join(curves)}"
        f'<text class="middle" x="{_SIDE // 2}" y="{_SIDE + 34}">{x}</text>'
        f'<text class="middle" transform="translate(-36 {_SIDE // 2}) rotate(-90)">{y}</text></svg>'
    )


def look(k: int, count: int) -> str:
    """Return the style of class `k` of `count` in a figure; of "none", the last, another."""
    return "line none" if k == count - 1 else f"line c{k % _HUES}{' dashed' if k >= _HUES else ''}"


def draw_sample(style: str) -> "Markup":
    """Return a piece of a line, for a legend."""
    return _markup(
        f'<svg class="sample" viewBox="0 0 24 8" aria-hidden="true"><path class="{style}" d="M0 4H24"/></svg>'
    )


def _curve(points: NDArray[np.float64], style: str, *, steps: bool) -> str:
    if not len(points):
        return ""
    kept = points[np.unique(np.linspace(0, len(points) - 1, _POINTS).round().astype(int))]
    places = [(_n(x * _SIDE), _n((1 - y) * _SIDE)) for x, y in kept.tolist()]
    (x, y), *rest = places
    path = f"M{x} {y}" + "".join(f"H{across}V{down}" if steps else f"L{across} {down}" for across, down in rest)
    return f'<path class="{style}" d="{path}"/>'


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _markup(svg: str) -> "Markup":
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704 - numbers and words of this module


def levels(counts: NDArray[np.int64]) -> Iterable[Sequence[int]]:
    """Return (n, n) how dark each cell of a table of `counts` is, from 0 to 9: by its share of its line."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [[int(share * 9.99 // 1) for share in line] for line in shares.tolist()]
