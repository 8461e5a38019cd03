"""Exports that Label Studio's own converter wrote (tests/label_studio/make.py) are taken whole, in every layout."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from holotype.answers.exchange import read_answers
from holotype.answers.label_studio import label_studio_tasks, read_label_studio
from holotype.answers.records import NewAnswer
from holotype.errors import AnswersError
from holotype.review.review import Review

EXPORTS = Path(__file__).parent / "label_studio"
CLASSES = ["red", "green", "blue"]
LAYOUTS = ["json", "min.json", "csv", "tsv"]
RED = "red"


@pytest.fixture
def review(out: Path) -> Iterator[Review]:
    with Review.open(out) as opened:
        yield opened


def said(found: list[NewAnswer]) -> set[tuple[str, str, str, bool]]:
    return {(one.id, one.label, one.verdict, one.audit) for one in found}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_project_that_was_made_from_our_tasks(layout: str) -> None:
    """What has no choice says nothing: unlabelled, skipped, an empty submission, a comment, another control."""
    found = read_answers(EXPORTS / f"ours.{layout}", CLASSES)
    truth = {("21", label, "no", False) for label in CLASSES}  # the newest; only JSON says which is the right one
    assert said(found) == {
        ("10", "red", "yes", False),
        ("11", "green", "yes", False),  # the newer of two people's
        *(("16", label, "no", False) for label in CLASSES),
        ("18", "red", "yes", False),
        ("18", "green", "yes", False),
        ("20", "red", "yes", False),  # its id is a whole number
        ("22", "red", "no", True),  # it was drawn for the audit of red
        ("22", "blue", "yes", False),
        *({("21", "green", "yes", False)} if layout == "json" else truth),
    }
    assert {one.who for one in found if one.id in ("10", "11")} == {"ada@example.org"}
    assert {one.who for one in found if one.id == "16"} == {"2"}
    assert all(one.when is not None for one in found)
    assert {one.where for one in found if one.id == "10"} == {"task 1" if "json" in layout else "line 2"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_project_with_uploaded_images_and_a_control_of_another_name(layout: str) -> None:
    """Its numbers of tasks are no ids of images: the name of the file is."""
    found = read_answers(EXPORTS / f"own.{layout}", CLASSES)
    assert said(found) == {
        ("10.jpg", "red", "yes", False),
        ("11.jpg", "green", "yes", False),
        *(("13.jpg", label, "no", False) for label in CLASSES),
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["ours", "own"])
def test_a_run_takes_them(review: Review, name: str, layout: str) -> None:
    taken = review.load(EXPORTS / f"{name}.{layout}")
    if name == "own":
        assert (taken.new, taken.refused) == (5, [])
        assert {one.id for one in review.answers.current()} == {"10", "11", "13"}
    else:
        assert taken.new == (9 if layout == "json" else 11)
        assert len(taken.refused) == 2
        assert all("at once about '18'" in why for why in taken.refused)
        assert [one.audit for one in review.answers.current() if (one.id, one.label) == ("22", RED)] == [True]
    assert review.load(EXPORTS / f"{name}.{layout}").new == 0


def test_an_audit_goes_through_label_studio_into_a_fresh_run(review: Review, finished: Path, tmp_path: Path) -> None:
    """Also where the answer there is another: it is a miss in the audit, and nothing to learn from."""
    review.record([NewAnswer("10", RED, "yes", audit=True), NewAnswer("20", RED, "yes", audit=True)])
    tasks = label_studio_tasks(review.answers.current(), CLASSES)
    assert [task["data"]["audited"] for task in tasks] == [[RED], [RED]]
    assert [task["data"]["digest"] for task in tasks] == [review.pool.digest(10), review.pool.digest(20)]
    for number, task in enumerate(tasks, 1):
        task["id"] = number
    tasks[1]["annotations"][0]["result"][0]["value"]["choices"] = ["blue"]
    minimal = [task["data"] | {"id": task["id"], "class": RED if task["id"] == 1 else "blue"} for task in tasks]
    for name, content in (("full.json", tasks), ("min.json", minimal)):
        (tmp_path / name).write_text(json.dumps(content))
        with Review.open(Path(shutil.copytree(finished, tmp_path / name.removesuffix(".json")))) as fresh:
            assert fresh.read(tmp_path / name) == 3
            assert [(one.id, one.label, one.verdict, one.audit) for one in fresh.answers.current()] == [
                ("10", RED, "yes", True),
                ("20", RED, "no", True),
                ("20", "blue", "yes", False),
            ]
            assert {one.digest for one in fresh.answers.current()} == {review.pool.digest(10), review.pool.digest(20)}


def test_two_controls_that_name_the_classes_are_told(tmp_path: Path) -> None:
    (tmp_path / "two.json").write_text(json.dumps([{"image_id": "1", "first": "red", "second": "blue"}]))
    with pytest.raises(AnswersError, match="expected one control whose choices are classes, got first, second"):
        read_label_studio(tmp_path / "two.json", CLASSES)


def test_a_choice_that_is_no_class_is_told_with_its_line(tmp_path: Path) -> None:
    text = (EXPORTS / "ours.csv").read_text().replace('"none","neither"', '"pink","neither"')
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(
        AnswersError, match=r"line 8: expected red, green, blue, none as the choice 'class', got 'pink'"
    ):
        read_answers(tmp_path / "a.csv", CLASSES)
