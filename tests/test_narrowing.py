"""A run on more images than are ranked: what is found, kept and opened again, whatever becomes of the rest."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Job

from holotype import HolotypeError
from holotype.answers.records import NewAnswer
from holotype.grouping import shortlist
from holotype.grouping.search import Search
from holotype.pool.pool import open_pool
from holotype.review.review import Review
from holotype.runs import narrowing
from holotype.runs.changes import RunChanges
from holotype.runs.commands import evaluate_run
from holotype.runs.discover import discover_run
from holotype.runs.folder import RunFolder
from holotype.runs.sweep import repeat, run
from holotype.runs.update import update_run
from holotype.vectors.embeddings import Embeddings

WHOLE, DRAWN, NEAREST = 100, 30, 40
MOST = DRAWN + 3 * NEAREST + 13  # and exemplars, and the rows of the test set


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """240 images are many."""
    monkeypatch.setattr(narrowing, "RANKED_WHOLE", WHOLE)
    for name, value in (("_DRAWN", DRAWN), ("_NEAREST", NEAREST), ("_MOST", 3 * NEAREST)):
        monkeypatch.setattr(shortlist, name, value)


def rows(out: Path) -> dict[str, tuple[str, str]]:
    table = pq.read_table(out / "groups.parquet", columns=["id", "class", "decision"])
    return {one["id"]: (one["class"], one["decision"]) for one in table.to_pylist()}


@pytest.fixture
def narrow(few: None, job: Job, data: Path) -> Path:
    run(job(), data / "out")
    return data / "out"


def test_the_nearest_and_some_at_random_are_ranked(
    narrow: Path, job: Job, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rows(narrow)
    assert NEAREST * 3 < len(found) <= MOST
    monkeypatch.undo()
    monkeypatch.setenv("HOLOTYPE_CACHE", str(data / "cache"))
    run(job(), data / "whole")
    whole = rows(data / "whole")
    assert len(whole) == 240
    members = {name for name, (_, decision) in whole.items() if decision == "member"}
    assert {name for name, (_, decision) in found.items() if decision == "member"} == members
    assert all(whole[name][0] == "none" for name in whole.keys() - found.keys() - {"7"})
    report = (narrow / "report.html").read_text()
    assert f"of its 240 images {len(found)} are ranked" in report
    assert "7" in (narrow / "unreadable.csv").read_text()


def test_the_others_have_a_row_where_they_are_asked_for(few: None, job: Job, data: Path) -> None:
    run(job(all_rows=True), data / "out")
    others = pq.read_table(data / "out" / "others").to_pylist()
    ranked = rows(data / "out")
    assert [int(one["id"]) for one in others] == [row for row in range(240) if str(row) not in ranked]
    assert {one["class"] for one in others if one["id"] != "7"} == {"none"}
    assert {(one["class"], one["decision"]) for one in others if one["id"] == "7"} <= {(None, "missing")}
    assert all(one["path"].endswith(f"images.tar/{one['id']}.jpg") for one in others)
    run(job(), data / "out", force=True)
    assert not (data / "out" / "others").exists()


def test_what_it_ranked_is_opened_without_the_rest(narrow: Path, data: Path) -> None:
    found = rows(narrow)
    with Review.open(narrow) as review:
        assert list(review.ids) == list(found)
        asked = review.next(5, "red", set(), set())
        assert {one.id for one in asked} <= found.keys()
        assert review.pool.read(0) == open_pool(data / "images.tar").read(int(review.ids[0]))
    assert discover_run(narrow).among > 20
    assert evaluate_run(narrow, data / "test.csv").rows


def test_touched_images_are_found_again_and_a_damaged_list_is_told(narrow: Path, data: Path) -> None:
    found = rows(narrow)
    images = data / "images.tar"
    shutil.copy(images, data / "copy.tar")
    (data / "copy.tar").replace(images)
    with Review.open(narrow) as review:
        assert list(review.ids) == list(found)
    folder = RunFolder(narrow)
    folder.pool.write_bytes(folder.pool.read_bytes()[:-100])
    with pytest.raises(HolotypeError, match="pool"):
        Review.open(narrow)


def test_answers_and_updates_follow(narrow: Path, data: Path) -> None:
    before = rows(narrow)
    assert update_run(narrow).result is None
    with Review.open(narrow) as review:
        name = next(name for name, (label, _) in before.items() if label == "none")
        (row,) = (review.pool.rows[name],)
        with review.folder.open_answers() as log:
            log.record([NewAnswer(name, "red", "yes", "me", digest=review.pool.digest(row))], act="1")
    repeat(narrow)
    assert rows(narrow)[name] == ("red", "member")
    updated = update_run(narrow)
    assert updated.result is None


def test_an_update_says_of_which_images_it_speaks(narrow: Path, data: Path) -> None:
    (data / "other.csv").write_text("index,red,green,blue,purple\n30,1,0,0,0\n31,0,1,0,0\n32,0,0,1,0\n73,0,0,0,1\n")
    told = update_run(narrow, RunChanges(exemplars={"purple": ["63"]}, test_set=str(data / "other.csv"))).changed
    assert told[0].startswith("images that are ranked: ")
    assert not any(" new" in line for line in told if not line.startswith("purple: a new class"))


def test_drawn_are_nearly_the_same_when_a_pool_grows(few: None) -> None:
    vectors = np.random.default_rng(0).normal(size=(1100, 8)).astype(np.float32)

    def drawn(count: int) -> set[int]:
        embeddings = Embeddings([vectors[:count]], np.arange(count), count)
        searched = Search(["a"], [], embeddings, vectors[:count, :1], 0.0)
        found = shortlist.shorten([searched], [5], seed=0)
        assert {5, *found.drawn.tolist()} <= {*found.rows.tolist()}
        return {*found.drawn.tolist()}

    before, after = drawn(1000), drawn(1100)
    assert len(before) == len(after) == DRAWN
    assert {row for row in after if row < 1000} <= before
    assert len(before & after) > DRAWN * 0.7
