"""Answers belong to images: they follow a picture under any name, and it is said how many apply and why others not."""

import csv
import html
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Job, MakeTar
from reviewer import groups_of

from holotype import Review, open_pool, run
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.index import find_row
from holotype.answers.records import Answer, NewAnswer
from holotype.review.session import Session
from holotype.runs.folder import RunFolder

RED = "red"
CLI = [sys.executable, "-c", "from holotype.cli.main import main; main()"]
Rename = Callable[[str], str]


@pytest.fixture
def answered(data: Path, job: Job) -> Path:
    """A run about which 7 answers were given, one of them of the audit."""
    run(job(test_set=None), data / "out")
    with Review.open(data / "out") as review:
        review.record([NewAnswer(str(row), RED, "no", "ann") for row in (3, 13, 23)])
        review.record([NewAnswer(str(row), RED, "yes", "ann") for row in (10, 20)])
        review.record([NewAnswer("30", RED, "yes", "ann", audit=True), NewAnswer("40", RED, "exemplar", "ann")])
    return data / "out"


def repack(data: Path, make_tar: MakeTar, name: str, rename: Rename, without: str = "") -> Path:
    """The pool of `data` as another tar, its members in the other order."""
    pool = open_pool(data / "images.tar")
    members = [(rename(id_), pool.read(row)) for row, id_ in enumerate(pool.ids) if id_ != without]
    return make_tar(members[::-1], name)


@pytest.mark.parametrize("rename", [lambda name: f"images/{name}.jpg", lambda name: f"a/b{int(name) + 7}.jpg"])
def test_answers_follow_their_images_into_a_tar_that_was_repacked(
    data: Path, job: Job, make_tar: MakeTar, answered: Path, rename: Rename
) -> None:
    """Also where another picture has the old name, or every name is new."""
    moved = repack(data, make_tar, "moved.tar", rename)
    names = {row: rename(str(row)).removesuffix(".jpg") for row in range(240)}
    exemplars = {label: [names[k]] for k, label in enumerate(("red", "green", "blue"))}
    result = run(job(test_set=None, images=str(moved), exemplars=exemplars), answered, force=True)
    assert result.answers.to_json() == {"applying": 7, "set_aside": {}}
    rows = groups_of(answered)
    assert {rows[names[row]]["reason"] for row in (3, 13, 23)} == {"was said not to show red by ann"}
    assert {rows[names[row]]["class"] for row in (10, 20, 30)} == {RED}
    assert rows[names[40]]["decision"] == "exemplar"
    assert rows[names[30]]["part"] == "learnt"  # by the model: an audit is kept from the groups alone
    with Review.open(answered) as review:
        assert not {names[row] for row in (3, 10, 30)} & {one.id for one in review.next(999, RED)}
        assert [one.name for one in review.exemplars(RED)] == [names[0], names[40]]
        review.answers.add(names[30], RED, "no")  # once drawn, always audited
        assert {one.id: one.audit for one in review.matched.answers}[names[30]]
        assert (review.standing(RED).yes, review.standing(RED).no) == (2, 4)
        review.export(data / "all.csv")
        assert review.load(data / "all.csv").new == 0


def test_a_file_of_answers_follows_its_images_too(
    data: Path, job: Job, make_tar: MakeTar, answered: Path, tmp_path: Path
) -> None:
    """By their digests; without, by the last part of an id. What was asked as an audit stays one."""
    with Review.open(answered) as review:
        review.export(tmp_path / "digests.csv")
        review.answers.draw([("50", RED)])
    moved = repack(data, make_tar, "moved.tar", lambda name: f"images/{name}.jpg")
    exemplars = {label: [f"images/{k}"] for k, label in enumerate(("red", "green", "blue"))}
    run(job(test_set=None, images=str(moved), exemplars=exemplars), data / "fresh")
    with Review.open(data / "fresh") as review:
        assert review.read(tmp_path / "digests.csv") == 7
        assert {one.id for one in review.answers.current()} == {f"images/{row}" for row in (3, 13, 23, 10, 20, 30, 40)}
        (tmp_path / "names.csv").write_text("id,class,answer\n60,red,yes\n70.jpg,red,yes\n")
        assert review.read(tmp_path / "names.csv") == 2
        assert [one.id for one in review.matched.answers if one.audit] == ["images/30"]
    run(job(test_set=None, images=str(moved), exemplars=exemplars), answered, force=True)
    with Review.open(answered) as review:
        assert review.answers.add("50", RED, "yes").audit


def test_everywhere_it_is_said_how_many_apply_and_why_the_others_do_not(
    data: Path, job: Job, make_tar: MakeTar, answered: Path
) -> None:
    with (data / "t.csv").open("w") as file:
        csv.writer(file).writerows([["index", "red", "green", "blue"], [3, 0, 0, 0], [60, 1, 0, 0], [5, 0, 0, 0]])
    smaller = repack(data, make_tar, "smaller.tar", lambda name: f"{name}.jpg", without="10")
    settings = job(images=str(smaller), test_set=str(data / "t.csv"))
    result = run(settings, answered, force=True)
    gone = "about an image that is not in the pool"
    tested = "about an image of the test set, or nearly the same"
    assert result.answers.to_json() == {"applying": 5, "set_aside": {gone: 1, tested: 1}}
    assert json.loads((answered / "metrics.json").read_text())["answers"] == result.answers.to_json()
    words = f"5 of 7 apply; 1 set aside: {tested}; 1 set aside: {gone}"
    assert f"Of the answers {words}." in (answered / "report.html").read_text()
    with Review.open(answered) as review:
        assert next(review.summary()) == f"answers: {words}"
        assert Session(review, "ann").state(RED)["aside"] == f"1 set aside: {tested}; 1 set aside: {gone}"
    command = [*CLI, "answer", str(answered), "--export", str(data / "a.csv")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"answers  {data / 'a.csv'}: {words}" in said
    assert len((data / "a.csv").read_text().splitlines()) == 8  # an export has all


def test_a_run_in_another_folder_takes_the_answers_along_and_says_so(data: Path, answered: Path) -> None:
    command = [*CLI, "run", str(answered), "--out", str(data / "new")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"answers: 7 taken over from {answered / 'answers.db'}" in said.stderr.replace("\n", "")
    with Review.open(answered) as one, Review.open(data / "new") as other:
        assert other.answers.history() == one.answers.history()
        other.answers.add("50", RED, "yes")
        assert len(one.answers.history()) == 7
        assert [entry.audit for entry in other.answers.history() if isinstance(entry, Answer) and entry.id == "30"] == [
            True
        ]
    assert groups_of(data / "new")["3"]["reason"] == "was said not to show red by ann"
    report = html.unescape((data / "new" / "report.html").read_text())  # which says how it is repeated, not the old one
    assert (data / "new" / "holotype.toml").read_text() in report
    said_again = RunFolder(data / "new").copy_answers(RunFolder(answered))
    assert said_again.startswith(f"answers: {data / 'new' / 'answers.db'} has its own; those in ")
    with Review.open(data / "new") as other:
        assert len(other.answers.history()) == 8
    assert RunFolder(answered).copy_answers(RunFolder(answered)) == ""


def test_of_identical_images_an_answer_decides_that_of_its_name(data: Path, make_tar: MakeTar) -> None:
    """Else the first: one row, so that an audit stays a sample of rows."""
    pool = open_pool(data / "images.tar")
    a, b = pool.read(10), pool.read(20)
    copies = open_pool(make_tar([("x.jpg", b), ("p.jpg", a), ("q.jpg", a), ("r.jpg", a)], "copies.tar"))
    digest = pool.digest(10)
    assert [find_row(copies, name, digest)[0] for name in ("q", "r", "p", "x", "gone")] == [2, 3, 1, 1, 1]
    assert find_row(copies, "x", pool.digest(30)) == (None, "about another picture than the one that has its id now")
    assert find_row(copies, "gone", pool.digest(30)) == (None, "about an image that is not in the pool")
    assert find_row(copies, "gone") == (None, "about an image that is not in the pool")
    assert find_row(copies, "/elsewhere/x.jpg")[0] is None  # it may be an exemplar from outside
    assert find_row(copies, "/elsewhere/x.jpg", longer=True)[0] == 0


def test_after_apply_the_audit_goes_on_in_the_order_of_the_new_run(data: Path, answered: Path) -> None:
    """Also where a version did the run that drew it by rows."""
    folder = RunFolder(answered).baseline
    replace(ReviewBaseline.load(folder), images=None, pictures=()).save(folder)
    RunFolder(answered).checksums.unlink()  # which that version did not write
    with Review.open(answered) as review:
        review.record([NewAnswer(str(row), RED, "yes") for row in range(50, 110, 10)])
        review.apply()
        asked = [one.id for one in review.next(60, RED) if one.audit]
    with Review.open(answered) as review:
        assert asked == [one.id for one in review.next(60, RED) if one.audit]
    assert len(asked) > 5
