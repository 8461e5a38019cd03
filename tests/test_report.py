import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from holotype.evaluation import Evaluation, evaluate
from holotype.predictions import Predictions
from holotype.report import ReportContent, write_report

CLASSES = ["<b>cat</b> $x$", "_dog", "owl"]


def make_evaluation() -> Evaluation:
    """120 rows of cat, dog and none; no row of owl."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 3], 120, p=[0.3, 0.2, 0.5])
    logits = rng.normal(size=(120, 4)) + 2 * np.eye(4)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = [f"i{i}" for i in range(120)]
    predictions = Predictions(ids, CLASSES, p, np.full(3, 0.5), ids, np.zeros(120))
    return evaluate(predictions, np.eye(4, dtype=np.int64)[labels][:, :3])


def make_jpeg(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def make_group(name: str) -> dict[str, Any]:
    images = [(f"id{i}", f"cosine 0.{i}", make_jpeg(colour)) for i, colour in enumerate(("red", "green", "blue"))]
    return {
        "name": name,
        "exemplars": [("first", make_jpeg("black"))],
        "threshold": 0.61,
        "threshold_basis": "the valley of the scores",
        "members": 1234,
        "doubtful": 56,
        "best": images,
        "borderline": images,
        "rejected": [],
    }


def make_content() -> ReportContent:
    rng = np.random.default_rng(1)
    scores = np.clip(rng.normal(0.3, 0.1, (5000, 3)), -1, 1)
    scores[:80] += 0.4
    scores[7] = np.nan
    sweep: list[dict[str, Any]] = [
        {"encoder": e, "head": h, "threshold": "valley", "f1": f, "silhouette": s, "seconds": t}
        for e, h, f, s, t in [("lite0", "linear", 0.71, 0.2, 3.0), ("lite0", "mlp", None, 0.22, 9.1)]
    ]
    sweep.append({"encoder": "dinov2", "head": "linear", "threshold": 0.7, "f1": 0.84, "seconds": 7, "chosen": True})
    search = {
        "rows": [{"name": name, "overlap_at_k": {10: 0.9, 100: 0.72}, "spearman": float("nan")} for name in CLASSES],
        "images": 1000,
        "seconds": {"one by one": 1.5, "all at once": 0.25},
    }
    return ReportContent(
        title="Cats & dogs",
        classes=CLASSES,
        evaluation=make_evaluation(),
        groups=[make_group(name) for name in CLASSES],
        scores=scores,
        thresholds=np.array([0.61, 0.55, np.nan]),
        sweep=sweep,
        search=search,
        skipped=[("broken<i>", "cut off")],
        ignored={".txt": 3},
        notes=["owl has few members"],
        facts=[("imbalance", 0.02), ("split", "80/20")],
        settings='title = "<script>"\n',
        versions={"holotype": "0.1.0"},
    )


def report(out: Path, **changes: Any) -> str:
    write_report(out, dataclasses.replace(make_content(), **changes))
    return (out / "report.html").read_text(encoding="utf-8")


def test_the_report_is_one_file_with_nothing_from_outside(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert not re.search(r"https?://|<script|@import|url\(", page)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) > 20
    assert all(source.startswith("data:") for source in sources)
    assert "prefers-color-scheme: dark" in page


def test_each_figure_is_a_real_png(tmp_path: Path) -> None:
    report(tmp_path)
    names = sorted(path.stem for path in (tmp_path / "figures").iterdir())
    assert names == ["confusion", "precision_recall", "roc", "score_histogram", "sweep"]
    for path in (tmp_path / "figures").iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.convert("L").getextrema() != (255, 255)


def test_names_are_escaped(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert "<b>cat" not in page
    assert "&lt;b&gt;cat&lt;/b&gt; $x$" in page
    assert "broken<i>" not in page
    assert "Cats &amp; dogs" in page


def test_undefined_is_a_word_and_a_reason(tmp_path: Path) -> None:
    page = report(tmp_path)
    reason = "no positive row in the test set"
    assert f"owl: Recall, F1, Average precision, ROC AUC are undefined ({reason})." in page
    assert "over 2 of 3 classes" in page
    assert not re.search(r">\s*nan\s*<", page)


def test_the_chosen_run_is_marked_and_notes_come_first(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert page.count('class="chosen"') == 1
    assert page.index("owl has few members") < page.index("<h2>")


def test_a_report_without_test_set_sweep_or_search(tmp_path: Path) -> None:
    page = report(tmp_path, evaluation=None, sweep=[], search=None, skipped=[], ignored={}, notes=[], facts=[])
    assert "No test set was given" in page
    assert [path.stem for path in (tmp_path / "figures").iterdir()] == ["score_histogram"]
    assert "Two ways to search" not in page


def test_scores_that_are_all_missing_still_give_a_report(tmp_path: Path) -> None:
    assert "Groups" in report(tmp_path, scores=np.full((4, 3), np.nan), classes=["猫", "b", "c"])
