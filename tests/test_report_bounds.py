"""The report of very many classes: it stays one file of a bounded size, whatever is in the pool."""

import dataclasses
import html
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from holotype.evaluation.metrics import evaluate
from holotype.grouping.groups import ClassThreshold, Groups, group
from holotype.model.predictions import Predictions
from holotype.pool.exemplars import Exemplar
from holotype.pool.pool import Pool, open_pool
from holotype.runs.findings import findings
from holotype.runs.report.content import Fact, ReportContent, Trained
from holotype.runs.report.figures import draw_figures
from holotype.runs.report.layout import PICTURES, SECTIONS, clipped, first_few, layout_for
from holotype.runs.report.page import render
from holotype.runs.report.sheets import ClassSheet, class_sheet
from holotype.runs.steps import next_steps

LONG = "a name that is much too long for any table or picture "
MOST = 15_000_000


class Noise:
    """The hardest images to compress, a few of them, over and over."""

    def __init__(self, side: int) -> None:
        rng = np.random.default_rng(0)
        noise = (rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(7))
        self.images = [encoded(Image.fromarray(pixels)) for pixels in noise]

    def read(self, row: int) -> bytes:
        return self.images[row % len(self.images)]


def make_pool(count: int, side: int = 96) -> Pool:
    names = [f"{'folder of images/' * 8}{row}" for row in range(count)]
    return Pool("/pools/images", names, [1] * count, Noise(side))


def make_groups(classes: Sequence[str], members: int) -> Groups:
    """Each class has so many members, as many images just below its threshold, and the rest is background."""
    k = len(classes)
    scores = np.random.default_rng(1).uniform(0, 0.2, (2 * members * k + 50, k)).astype(np.float32)
    for row in range(2 * members * k):
        scores[row, row % k] = 0.9 if row < members * k else 0.45
    limits = [ClassThreshold(0.5, 0.4, "provisional: the group ends where it stands apart best", True)] * k
    return group(list(classes), scores, limits, {}, 0.01)


def make_content(count: int, members: int, exemplars: int, side: int = 96) -> ReportContent:
    classes = [f"{LONG * 3}{k}" for k in range(count)]
    groups, sections = make_groups(classes, members), min(count, SECTIONS)
    pool, noise = make_pool(len(groups.decision), side), Noise(side)
    given = {
        k: [Exemplar(f"/x/{LONG}{k}-{i}", k, None, noise.read(i)) for i in range(exemplars)] for k in range(sections)
    }
    predictions = Predictions(classes, classes, np.eye(count, count + 1), np.full(count, 0.5), classes, np.zeros(count))
    evaluation = evaluate(predictions, np.roll(np.eye(count, dtype=int), 1, axis=1)) if count <= SECTIONS else None
    found = list(findings(groups, [], None, evaluation))
    sheets = [class_sheet(pool, groups, given[k], k, found[k], layout_for(count)) for k in range(sections)]
    return ReportContent(
        classes=classes,
        sources=[pool.source],
        findings=found,
        sheets=sheets,
        evaluation=evaluation,
        scores=groups.scores.astype(np.float64),
        measure="Cosine",
        thresholds=np.full(count, 0.5),
        sweep=[{"encoder": "lite0", "threshold": i / 1000, "chosen": i == 500} for i in range(1000)],
        search={
            "rows": [{"name": name, "overlap_at_k": {10: 0.9, 100: 0.7}, "spearman": 0.5} for name in classes],
            "seconds": {"one": 1.0},
            "images": 9,
        },
        skipped=[(name, "cut off") for name in pool.ids],
        ignored={f".{i}": i for i in range(1000)},
        notes=[f"no image of {name}" for name in classes],
        steps=list(next_steps("/runs/out", tested=True)),
        facts=[Fact("Images", len(pool))],
        trained=[Trained(name, 3, 2, "0.3 (by the groups alone)") for name in [*classes, "none"]],
        settings="",
        versions={},
    )


def shown_of(sheet: ClassSheet) -> int:
    return sum(len(each) for each in (sheet.exemplars, sheet.strip, sheet.best, sheet.borderline, sheet.rejected))


def test_a_thousand_classes_of_a_hundred_exemplars_are_one_file_that_can_be_sent() -> None:
    content = make_content(1000, 3, 100)
    page = render(content)
    assert len(page.encode()) < MOST
    assert page.count('<article class="class brief"') == 1000
    assert all(sheet.best for sheet in content.sheets)  # each class has its pictures
    assert page.count('<p class="quiet">And 99 more.</p>') == 1000  # exemplars
    links = set(re.findall(r'href="#([^"]*)"', page))
    assert {f"class-{k}" for k in range(1, 1001)} <= links <= set(re.findall(r' id="([^"]*)"', page))
    assert "metrics.json has all" in page
    assert "the first 100 and the chosen of 1,000 runs" in page
    assert draw_figures(content) == {}  # no plot of so many could be read


def test_more_classes_than_have_a_section_are_in_the_summary_still() -> None:
    count = SECTIONS + 200
    content = make_content(count, 1, 0, side=8)
    page = render(content)
    assert page.count("<article") == SECTIONS
    assert page.count("<tr><td>") >= count
    assert f"Of the first {SECTIONS:,} classes" in page
    assert len(page.encode()) < MOST


@pytest.mark.parametrize("count", [1, 6, 20, 60, 200])
def test_pictures_are_fewer_the_more_classes_there_are(count: int) -> None:
    layout, more = layout_for(count), layout_for(count + 1)
    assert more.best <= layout.best
    assert more.side <= layout.side
    assert layout.share * count <= PICTURES


def test_pictures_take_no_more_than_their_share() -> None:
    content = make_content(40, 12, 9, side=300)  # noise: each is several times what is usual
    layout, sheet = layout_for(40), content.sheets[0]
    pictures = [*sheet.exemplars, *sheet.best, *sheet.borderline, *sheet.rejected]
    assert sum(len(one.jpeg) for one in pictures) + sum(map(len, sheet.strip)) + len(sheet.face) <= layout.share
    assert 0 < shown_of(sheet) < layout.exemplars + layout.strip + layout.best + 2 * layout.others
    page = render(content)
    assert len(page.encode()) < MOST
    assert f"And {9 - layout.exemplars} more." in page


def test_of_few_classes_all_is_shown_and_each_picture_can_be_looked_at() -> None:
    content = make_content(2, 5, 3)
    sheet = content.sheets[1]
    assert [len(each) for each in (sheet.exemplars, sheet.strip, sheet.best, sheet.borderline)] == [3, 5, 5, 12]
    assert {one.caption for one in sheet.best} == {"0.900 found"}
    assert {one.caption.split()[1] for one in sheet.borderline} == {"found", "doubtful", "left"}
    page = render(content)
    assert page.count("<figure id=") == page.count('class="open"') == sum(shown_of(one) - 5 for one in content.sheets)
    assert page.count(html.escape(content.classes[0])) >= 1  # whole, where it is the heading


def test_names_are_cut_in_their_middle_and_lists_at_their_end() -> None:
    assert clipped("short") == "short"
    assert clipped("a" * 50 + "b" * 50, 10) == "aaaaaa…bbb"
    assert len(clipped("x" * 1000)) == len(clipped("x" * 60)) == 60
    assert first_few(["a", "b"]) == "a, b"
    assert first_few(list("abcdefg"), 5) == "a, b, c, d, e and 2 more"


def test_captions_lead_to_files_where_each_image_is_one(tmp_path: Path) -> None:
    names = ["a b#c?%41.jpg", 'quote"<i>&.jpg', "猫.jpg", "plain.jpg"]
    for number, name in enumerate(names):
        (tmp_path / "p" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "p" / name).write_bytes(encoded(Image.new("RGB", (20, 20), (60 * number, 90, 90))))
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        archive.add(tmp_path / "p", "p")
    for place, linked in ((tmp_path / "p", True), (tmp_path / "p.tar", False)):
        pool = open_pool(place)
        scores = np.full((4, 1), 0.9, np.float32)
        groups = group(["x"], scores, [ClassThreshold(0.5, 0.4, "given", False)], {}, 0.01)
        (one,) = findings(groups, [], None, None)
        sheet = class_sheet(pool, groups, [], 0, one, layout_for(1))
        assert {picture.place for picture in sheet.best} == {pool.path(row) for row in range(4)}
        content = dataclasses.replace(make_content(1, 1, 1), classes=["x"], findings=[one], sheets=[sheet])
        page = render(content)
        links = [html.unescape(link) for link in re.findall(r'href="(file:[^"]*)"', page)]
        found = {Path(url2pathname(urlsplit(link).path)) for link in links}
        assert found == ({tmp_path / "p" / name for name in names} if linked else set())
        assert "<i>" not in page
        titles = {html.unescape(title) for title in re.findall(r'figcaption title="([^"]*)"', page)}
        assert {pool.path(row) for row in range(4)} == titles
