"""The report: one HTML file that opens offline, and its figures as PNG."""

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from holotype.files import write
from holotype.runs.folder import RunFolder
from holotype.runs.report.content import ReportContent, name_of
from holotype.runs.report.drawings import draw_curves, draw_sample, draw_scores, levels, look
from holotype.runs.report.figures import class_names, draw_figures, plain_name, sweep_columns, table_cell
from holotype.runs.report.layout import CARDS, FOLDED, LISTED, LONGEST_ID, SECTIONS, clipped, first_few, layout_for
from holotype.runs.report.template import as_data, isolating, templates
from holotype.runs.report.tested import (
    MATRIX,
    TITLES,
    mistakes,
    said_of_interval,
    said_of_score,
    undefined_cells,
    weak_figures,
)
from holotype.runs.steps import advice

_PACKAGE = "holotype.runs.report"


def write_report(folder: RunFolder, content: ReportContent) -> None:
    """Write the report into `folder`, which needs no other file, and its figures as PNG.

    Raises `OutputError` when the disk is full.
    """
    figures = draw_figures(content)
    for name, png in figures.items():
        write(folder.figures / f"{name}.png", png)
    write(folder.report, render(content, figures=list(figures)))


def render(content: ReportContent, figures: list[str] | None = None) -> str:
    """Return the report as HTML; `figures` are the names of those that lie beside it as PNG."""
    from markupsafe import Markup

    style = resources.files(_PACKAGE).joinpath("report.css").read_text(encoding="utf-8")
    environment, evaluation, layout = templates(_PACKAGE), content.evaluation, layout_for(len(content.classes))
    environment.filters |= {
        "cell": table_cell,
        "score": said_of_score,
        "interval": said_of_interval,
        "data": as_data,
        "clip": clipped,
        "clip_id": lambda name: clipped(name, LONGEST_ID),
        "isolated": isolating(content.classes),
    }
    environment.globals |= {"advice": advice, "first_few": first_few, "sample": draw_sample, "look": look}
    return environment.get_template(
        "report.html.j2"
    ).render(
        content=content,
        style=Markup(style),  # noqa: S704 - it is a file of this package
        policy=_policy(style),
        evaluation=evaluation,
        figures=figures or [],
        folder_name=", ".join(map(name_of, content.sources)),
        titles=TITLES,
        undefined_cells=undefined_cells(evaluation),
        warnings=weak_figures(evaluation),
        mistakes=mistakes(evaluation),
        matrix=evaluation is not None and len(evaluation.classes) <= MATRIX,
        levels=levels(evaluation.confusion) if evaluation else [],
        curves={what: draw_curves(evaluation.classes, what) for what in ("roc", "pr")} if evaluation else {},
        histograms=[
            draw_scores(content.scores[:, k], limit, estimated=content.measure != "Cosine")
            for k, limit in enumerate(content.thresholds.tolist()[: SECTIONS if layout.zoom else 0])
        ],
        numbered=class_names(content.classes) != [plain_name(name) for name in content.classes],
        layout=layout,
        folded=len(content.classes) > FOLDED,
        cards=len(content.classes) <= CARDS,
        listed=LISTED,
        compared=[run for i, run in enumerate(content.sweep) if i < LISTED or run.get("chosen")],
        sweep_columns=sweep_columns(content.sweep),
        overlaps=_overlaps(content.search),
    )


def _policy(style: str) -> str:
    """Return the policy by which a browser runs nothing in the page and fetches nothing for it."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _overlaps(search: Mapping[str, Any] | None) -> list[Any]:
    """Return every k of the comparison, in order."""
    return sorted({k for row in search["rows"] for k in row["overlap_at_k"]}, key=int) if search else []
