import base64
import dataclasses
import hashlib
import html
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
from holotype.grouping.groups import ClassThreshold
from holotype.model.predictions import Predictions
from holotype.model.promises import Promise
from holotype.runs.findings import ClassFinding
from holotype.runs.folder import RunFolder
from holotype.runs.report.content import Fact, ReportContent, Trained
from holotype.runs.report.drawings import draw_curves, draw_scores
from holotype.runs.report.figures import class_names, draw_figures
from holotype.runs.report.page import render, write_report
from holotype.runs.report.promised import with_promises
from holotype.runs.report.sheets import ClassSheet, SheetPicture
from holotype.runs.steps import next_steps

FIGURES = ["confusion", "precision_recall", "roc", "score_histogram", "sweep"]
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


def make_finding(name: str, evaluation: Evaluation | None = None) -> ClassFinding:
    threshold = ClassThreshold(0.61, 0.5, "the valley of the scores", provisional=True)
    tested = next((one for one in evaluation.classes if one.name == name), None) if evaluation else None
    return ClassFinding(name, 1234, 56, "cosine", threshold, tested=tested)


def make_sheet(one: ClassFinding) -> ClassSheet:
    colours = ("red", "green", "blue")
    images = [SheetPicture(f"id{i}", f"cosine 0.{i}", make_jpeg(colour)) for i, colour in enumerate(colours)]
    first, strip = [SheetPicture("first", "exemplar", make_jpeg("black"))], [make_jpeg("red")]
    return ClassSheet(one, first, 1, make_jpeg("black"), strip, images, images, [], ["The group is fair."])


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
    evaluation = make_evaluation()
    found = [make_finding(name, evaluation) for name in CLASSES]
    return ReportContent(
        classes=CLASSES,
        sources=["/pools/cats & dogs.tar"],
        findings=found,
        sheets=[make_sheet(one) for one in found],
        evaluation=evaluation,
        scores=scores,
        measure="Cosine",
        thresholds=np.array([0.61, 0.55, np.nan]),
        sweep=sweep,
        search=search,
        skipped=[("broken<i>", "cut off")],
        ignored={".txt": 3},
        notes=["owl has few members"],
        steps=list(next_steps("/runs/cats & dogs", tested=True)),
        facts=[Fact("imbalance", 0.02, "so that it counts"), Fact("split", "80/20")],
        trained=[Trained(name, 20, 15, "0.35") for name in CLASSES] + [Trained("none", 200, 150)],
        settings='title = "<script>"\n',
        versions={"holotype": "0.1.0"},
    )


def report(out: Path, **changes: Any) -> str:
    write_report(RunFolder(out), dataclasses.replace(make_content(), **changes))
    return (out / "report.html").read_text(encoding="utf-8")


def test_the_report_is_one_file_with_nothing_from_outside(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert not re.search(r"https?://|<script|@import|url\(", page)
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) > 20
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    anchors = {link for link in re.findall(r'href="([^"]*)"', page) if link != "data:,"}
    assert {f"#{name}" for name in re.findall(r' id="([^"]*)"', page)} >= anchors
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_a_browser_runs_nothing_in_the_report_and_fetches_nothing_for_it(tmp_path: Path) -> None:
    page = report(tmp_path)
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0])
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    style = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode() in policy
    assert len(style) == 1
    assert " style=" not in page


def test_each_figure_is_a_real_png(tmp_path: Path) -> None:
    report(tmp_path)
    names = sorted(path.stem for path in (tmp_path / "figures").iterdir())
    assert names == FIGURES
    for path in (tmp_path / "figures").iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.convert("L").getextrema() != (255, 255)


def test_names_are_escaped(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert "<b>cat" not in page
    assert "&lt;b&gt;cat&lt;/b&gt; $x$" in page
    assert "broken<i>" not in page
    assert "cats &amp; dogs.tar" in page
    assert "holotype review &#39;/runs/cats &amp; dogs&#39; --open" in page


def test_undefined_is_a_word_and_a_reason(tmp_path: Path) -> None:
    page = report(tmp_path)
    reason = "no positive row in the test set"
    assert f"owl: Recall, F1, Average precision, ROC AUC are undefined ({reason})." in page
    assert "over 2 of 3 classes" in page
    assert not re.search(r">\s*nan\s*<", page)


def test_what_was_found_comes_first_then_the_test_set_then_the_method(tmp_path: Path) -> None:
    page = report(tmp_path)
    assert page.count('class="chosen"') == 1
    order = ["1,234</b> found", "holotype review ", "owl has few members", "<h2>Test set", "<h2>Class by class"]
    order += ["<h2>How it was made", "Runs that were compared", "not against the truth", "All settings"]
    assert [page.index(words) for words in order] == sorted(page.index(words) for words in order)


def test_a_report_without_test_set_sweep_or_search(tmp_path: Path) -> None:
    sweep, steps = make_content().sweep[-1:], list(next_steps("/runs/a", tested=False))
    given: dict[str, Any] = {"evaluation": None, "sweep": sweep, "search": None, "skipped": [], "ignored": {}}
    page = report(tmp_path, **given, notes=[], facts=[], trained=[], steps=steps)
    assert "<h2>Test set" not in page
    assert 'href="#tested"' not in page
    assert page.count("No test set was given") == 1
    assert page.count("holotype run /runs/a --test-set FILE.csv") == 1
    assert [path.stem for path in (tmp_path / "figures").iterdir()] == ["score_histogram"]
    assert "Two ways to search" not in page
    assert "Runs that were compared" not in page
    assert "agree" not in page  # with its own groups: of a single run that says nothing


def test_scores_that_are_all_missing_still_give_a_report(tmp_path: Path) -> None:
    page = report(tmp_path, scores=np.full((4, 3), np.nan), classes=["猫", "b", "c"])
    assert "Class by class" in page
    assert 'class="scores"' not in page


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
        make_content(),
        classes=names,
        evaluation=evaluation,
        findings=[make_finding(name, evaluation) for name in names],
        sheets=[make_sheet(make_finding(name, evaluation)) for name in names],
        scores=scores,
        thresholds=thresholds,
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


@pytest.mark.parametrize("count", [1, 12, 30])
def test_the_page_draws_each_class_and_names_them_in_their_own_script(count: int) -> None:
    content = make_many(count)
    page = render(content)
    assert page.count('class="scores"') == count
    assert page.count('class="curves"') == (2 if count <= 12 else 0)
    assert "Truth in lines, answer in columns" in page if count < 24 else "most frequent mistakes" in page
    for name in content.classes:
        assert html.escape(name) in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page.partition("<main>")[2])


def test_a_curve_of_many_rows_has_few_points_and_ends_where_it_ends() -> None:
    evaluation = make_evaluation()
    many = np.column_stack([np.linspace(0, 1, 90_000), np.linspace(0, 1, 90_000) ** 0.5])
    drawn = draw_curves([dataclasses.replace(one, roc=many) for one in evaluation.classes], "roc")
    assert len(drawn) < 20_000
    assert drawn.count("L240 0") == len(evaluation.classes) + 1  # and that of chance


def test_scores_are_drawn_on_both_sides_of_the_threshold() -> None:
    scores = np.array([0, 0, 0.1, 0.2, 0.2, 0.4, 0.5, np.nan])
    drawn = draw_scores(scores, 0.3, estimated=True)
    assert [drawn.split(f'class="{side}" d="')[1].split('"')[0].count("M") for side in ("out", "in")] == [2, 2]
    assert "from 0.300" in drawn
    assert 'class="in" d=""' in draw_scores(scores, np.nan, estimated=True)
    assert "limit" not in draw_scores(scores, np.nan, estimated=False)
    assert draw_scores(np.full(3, np.nan), 0.3, estimated=True) == ""
    assert draw_scores(np.full(3, 0.5), 0.5, estimated=False)  # all the same


def test_a_name_that_the_font_lacks_or_that_looks_like_another_has_its_number() -> None:
    found = class_names(["猫", "犬", "owl", "a" * 40 + "b", "a" * 40 + "c", "none"])
    assert found[:3] == ["1: □", "2: □", "owl"]
    assert found[3] != found[4]
    assert class_names(["Lae'zel", "$x$", "_dog", "ёж", "none"]) == ["Lae'zel", r"\$x\$", " _dog", "ёж", "none"]


def test_the_report_says_what_a_number_before_a_class_is() -> None:
    note = "A number before a class in a figure is its place in this report"
    assert note not in render(make_content(), list(FIGURES))
    assert note in render(dataclasses.replace(make_content(), classes=["猫", "犬", "owl"]), list(FIGURES))


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
    page = render(make_content(), list(FIGURES))
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
    assert whole in render(dataclasses.replace(make_content(), evaluation=nothing))
    complete = dataclasses.replace(make_content(), evaluation=make_evaluation_of(["x", "y"]))
    assert "The macro figure" not in render(complete)


HEBREW = "\u05e8\u05e2 12"


def test_names_from_right_to_left_keep_their_direction_to_themselves() -> None:
    """Without `bdi` the figure behind such a name is read as a part of it, and stands on its other side."""
    picture = make_jpeg("red")
    one = SheetPicture(HEBREW, f"0.9 found as {HEBREW}", picture, f"/a/{HEBREW}.jpg", "file:///a/x.jpg")
    found = make_finding(HEBREW)
    sheet = dataclasses.replace(make_sheet(found), best=[one], exemplars=[one], explained=[f"{HEBREW}, 34 images"])
    content = dataclasses.replace(
        make_content(),
        classes=["<b>", HEBREW],
        evaluation=make_evaluation_of(["<b>", HEBREW]),
        findings=[found],
        sheets=[sheet],
        skipped=[(HEBREW, f"no {HEBREW}")],
        notes=[f"{HEBREW}, 56 images; \u05d0\u05d1, 7 & <b>"],
        facts=[Fact(f"Threshold of {HEBREW}", f"{HEBREW}, 8")],
        trained=[Trained(HEBREW, 9, 8, "0.4")],
        settings=f'"{HEBREW}" = [9]',
    )
    body = render(content).partition("<body>")[2]
    assert f"<bdi>{HEBREW}</bdi>, 56 images; <bdi>\u05d0\u05d1</bdi>, 7 &amp; &lt;b&gt;" in body
    outside = re.sub(r"<bdi>.*?</bdi>|(alt|title)=\"[^\"]*\"", "", body)
    assert not re.search("[\u0590-\u05ff]", outside)


def test_what_a_report_prints_can_be_shown() -> None:
    content = dataclasses.replace(
        make_content(), settings='images = "a\u202egpj"\n', sources=["a\x1b[2Jb"], skipped=[("x", "\ud800\u2028")]
    )
    text = render(content)
    assert r"images = &#34;a\u202egpj&#34;" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", text)


OLD = "<body><h1>a</h1><!-- promises -->\n<h2>Promised</h2> of before <!-- end of promises --><h2>Test set</h2></body>"


def test_a_promise_is_put_into_a_report_of_this_or_an_earlier_version_and_taken_out_again() -> None:
    given: dict[str, Any] = {"sample": {}, "who": ["ann"], "pool": "a.tar", "images": "0" * 64, "date": "2026-01-02"}
    counts: dict[str, Any] = {"together": 1, "covered": 22, "among": 26, "asked": 20, "yes": 20}
    one = Promise(label=HEBREW, precision=0.95, confidence=0.95, threshold=0.4, **given, **counts)
    now = render(make_content())
    for before in (now, OLD):
        after = with_promises(before, [one])
        assert f"<bdi>{HEBREW}</bdi>: at least 95 % of 22 images" in after
        assert after.index("Promised") < after.index("<h2>Test set")
        assert "of before" not in after
    assert with_promises(with_promises(now, [one]), []).replace("\n", "") == now.replace("\n", "")
    assert with_promises("<h1>older still</h1>", [one]) == "<h1>older still</h1>"
