import dataclasses
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from holotype.evaluation.metrics import Evaluation, evaluate
from holotype.model.predictions import Predictions
from holotype.runs.folder import RunFolder
from holotype.runs.report.content import ReportContent
from holotype.runs.report.figures import class_names, draw_figures
from holotype.runs.report.page import render, write_report

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


def make_evaluation_of(classes: list[str]) -> Evaluation:
    """Ten rows of each class and of none."""
    k = len(classes)
    labels = np.arange(10 * (k + 1)) % (k + 1)
    logits = np.random.default_rng(0).normal(size=(len(labels), k + 1)) + 2 * np.eye(k + 1)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = [f"i{i}" for i in range(len(labels))]
    predictions = Predictions(ids, classes, p, np.full(k, 0.3), ids, np.zeros(len(ids)))
    return evaluate(predictions, np.eye(k + 1, dtype=np.int64)[labels][:, :k])


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
        "explained": ["The group is fair."],
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
        measure="Cosine",
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
    write_report(RunFolder(out), dataclasses.replace(make_content(), **changes))
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


HARD = [
    "W" * 40,
    "a rather long name of a class, cut",
    "猫と犬",
    "Жёлтый ёж",
    "🐈 cat",
    "$x_1$ 100%",
    "_id",
    "שלום",
    "e\u0301",
]


def make_many(count: int) -> ReportContent:
    """`count` classes of long names in many scripts."""
    names = [f"{HARD[i % len(HARD)]}{i // len(HARD) or ''}" for i in range(count)]
    scores = np.clip(np.random.default_rng(1).normal(0.3, 0.1, (500, count)), -1, 1)
    thresholds, evaluation = np.full(count, 0.6), make_evaluation_of(names)
    return dataclasses.replace(
        make_content(), classes=names, evaluation=evaluation, groups=[], scores=scores, thresholds=thresholds
    )


def pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("L"))


def longest_line(grey: NDArray[np.uint8]) -> int:
    """Pixels of the longest upright dark line: an axis of a plot."""
    runs = ("".join("#" if value < 80 else " " for value in column).split() for column in grey.T)
    return max(len(run) for column in runs for run in column)


@pytest.mark.parametrize("count", [1, 12, 30])
def test_no_count_of_classes_shrinks_a_plot_or_cuts_a_name(count: int) -> None:
    content = make_many(count)
    figures = draw_figures(content)  # a warning is an error
    drawn = {name: pixels(png) for name, png in figures.items()}
    for name, grey in drawn.items():
        rim = np.concatenate([grey[:4].ravel(), grey[-4:].ravel(), grey[:, :4].ravel(), grey[:, -4:].ravel()])
        assert rim.min() == 255, name
        assert max(grey.shape) < 6000
    for name in ("roc", "precision_recall"):
        assert longest_line(drawn[name]) >= 4 * 130, name
        assert drawn[name].shape[1] < 1800
    assert min(drawn["confusion"].shape) >= 0.33 * 130 * (count + 1)  # a cell holds its number
    shown = re.findall(r'class="figure scrolled" width="(\d+)"', render(content, figures))
    assert [int(width) > 0.33 * 96 * (count + 1) for width in shown] == [True] * (
        count > 12
    )  # nor does a page shrink it


def test_a_name_that_the_font_lacks_or_that_looks_like_another_has_its_number() -> None:
    found = class_names(["猫", "犬", "owl", "a" * 40 + "b", "a" * 40 + "c", "none"])
    assert found[:3] == ["1: □", "2: □", "owl"]
    assert found[3] != found[4]
    assert class_names(["Lae'zel", "$x$", "_dog", "ёж", "none"]) == ["Lae'zel", r"\$x\$", " _dog", "ёж", "none"]


def test_the_report_says_what_a_number_before_a_class_is() -> None:
    note = "A number before a class in a figure is its place in this report"
    assert note not in render(make_content(), {})
    assert note in render(dataclasses.replace(make_content(), classes=["猫", "犬", "owl"]), {})


QUIET = """
import sys
sys.path.insert(0, sys.argv[1])
from test_report import draw_figures, make_many
draw_figures(make_many(4))
"""


def test_figures_write_nothing_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {"MPLCONFIGDIR": str(tmp_path / "file"), "PYTHONWARNINGS": "always"}  # no folder: matplotlib says so
    command = [sys.executable, "-c", QUIET, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("", "")


def test_means_over_some_classes_are_one_sentence_per_count() -> None:
    page = render(make_content(), {})
    assert "macro over" not in page
    assert page.count("as the rest is undefined") == 1
    metrics = "Recall, F1, Average precision and ROC AUC"
    assert f"The macro figure of {metrics} is the mean over 2 of 3 classes, as the rest is undefined." in page
    assert "owl: no 95% intervals (no positive row in the test set)" in page
    assert any(warning.startswith("f1: macro over 2 of 3") for warning in make_evaluation().warnings)  # JSON has these


def test_means_over_no_class_and_over_all() -> None:
    chances = np.array([[0.1, 0.9], [0.2, 0.8]])
    nothing = evaluate(
        Predictions(["a", "b"], ["x"], chances, np.array([0.5]), ["e", "e"], np.zeros(2)), np.zeros((2, 1), int)
    )
    titles = "Precision, Recall, F1, Average precision and ROC AUC"
    whole = f"The macro figure of {titles} is undefined: it is over 0 of 1 classes, as the rest is undefined."
    assert whole in render(dataclasses.replace(make_content(), evaluation=nothing), {})
    complete = dataclasses.replace(make_content(), evaluation=make_evaluation_of(["x", "y"]))
    assert "The macro figure" not in render(complete, {})


HEBREW = "\u05e8\u05e2 12"


def test_names_from_right_to_left_keep_their_direction_to_themselves() -> None:
    """Without `bdi` the figure behind such a name is read as a part of it, and stands on its other side."""
    picture = make_jpeg("red")
    group = make_group(HEBREW) | {"best": [(HEBREW, f"0.9 member of {HEBREW}", picture)]}
    group |= {"exemplars": [(HEBREW, picture)], "explained": [f"{HEBREW}, 34 images"]}
    content = dataclasses.replace(
        make_content(),
        classes=["<b>", HEBREW],
        evaluation=make_evaluation_of(["<b>", HEBREW]),
        groups=[group],
        skipped=[(HEBREW, f"no {HEBREW}")],
        notes=[f"{HEBREW}, 56 images; \u05d0\u05d1, 7 & <b>"],
        facts=[(f"Threshold of {HEBREW}", f"{HEBREW}, 8")],
        settings=f'"{HEBREW}" = [9]',
        title=f"{HEBREW}, or none",
    )
    body = render(content, {}).partition("<body>")[2]
    assert f"<bdi>{HEBREW}</bdi>, 56 images; <bdi>\u05d0\u05d1</bdi>, 7 &amp; &lt;b&gt;" in body
    outside = re.sub(r"<bdi>.*?</bdi>|alt=\"[^\"]*\"", "", body)
    assert not re.search("[\u0590-\u05ff]", outside)


def test_what_a_report_prints_can_be_shown() -> None:
    content = dataclasses.replace(
        make_content(), settings='images = "a\u202egpj"\n', title="a\x1b[2Jb", skipped=[("x", "\ud800\u2028")]
    )
    text = render(content, {})
    assert r"images = &#34;a\u202egpj&#34;" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", text)
