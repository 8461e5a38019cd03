"""A run that follows answers: its groups, head, report and test results, on real JPEGs."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Job
from reviewer import answer, groups_of

from holotype import Classifier, HolotypeError, Settings, run
from holotype.answers.audit import Audit, audit_order, lower_bound, numbers_of
from holotype.answers.index import AnswerCounts
from holotype.answers.records import NewAnswer
from holotype.review.queries import MostLikely
from holotype.review.review import Review
from holotype.runs.commands import evaluate_run, tune_run
from holotype.runs.report.sheets import explain_class

RED, N = "red", 240


def test_the_run_follows_the_answers(out: Path, finished: Path) -> None:
    settings = Settings.load(out / "holotype.toml")
    few = settings.model_copy(update={"fit": settings.fit.model_copy(update={"negatives": 20})})
    run(few, out, force=True)
    with Review.open(out, MostLikely()) as review:
        for _ in range(4):
            answer(review, RED, 10)
        review.record([NewAnswer("6", "green", "exemplar"), NewAnswer("9", "blue", "unsure", "bob")])
        review.refit()
        given = review.answers.current()
        # until then the new exemplar is ranked by what a review has: halves of vectors, and no closer look at it
        seen = {label: {one.id for one in review.gallery(label, "found", count=999)[0]} for label in review.classes}
        review.apply()
        now = {label: {one.id for one in review.gallery(label, "found", count=999)[0]} for label in review.classes}
        assert all(len(now[label] ^ seen[label]) <= 1 for label in review.classes)
        assert review.standing(RED).answered == 40
    rows = groups_of(out)
    no = [one for one in given if one.verdict == "no" and not one.audit]
    audited = [one.id for one in given if one.audit]
    assert len(no) > 5
    assert len(audited) > 3
    assert {rows[one.id]["part"] for one in no} == {"learnt"}
    assert {rows[name]["part"] for name in audited} == {"learnt"}  # by the model, though never by the groups
    words = {"yes": ("was said to show red by ann", RED), "no": ("was said not to show red by ann", "none")}
    about = [one for one in given if one.label == RED]
    assert {one.verdict for one in about} == {"yes", "no"}
    assert all((rows[one.id]["reason"], rows[one.id]["class"]) == words[one.verdict] for one in about)
    assert (rows["9"]["decision"], rows["9"]["class"]) == ("doubtful", None)
    assert rows["9"]["reason"] == "nobody could tell whether it shows blue by bob"
    assert rows["6"]["decision"] == "exemplar"
    assert sorted(Classifier.load(out).exemplar_names_) == ["0", "1", "2", "6"]
    for label, names in now.items():
        members = {name for name, row in rows.items() if row["class"] == label and row["decision"] == "member"}
        assert members == names
    first = (out / "groups.parquet").read_bytes()
    run(few, out, resume=True)
    assert (out / "groups.parquet").read_bytes() == first


def found(review: Review, label: str) -> list[str]:
    """The ids of what was found, in the order of the audit."""
    rows = np.array([one.row for one in review.gallery(label, "found", count=999)[0]])
    return [review.ids[row] for row in audit_order(rows, numbers_of(review.pool.digests()))]


def audits(names: Sequence[str], label: str) -> list[NewAnswer]:
    """Answers of the audit by what is true."""
    return [NewAnswer(name, label, "yes" if int(name) % 10 == 0 else "no", audit=True) for name in names]


def stated_of(out: Path, label: str) -> dict[str, Any]:
    """What the metrics of a run state about a class."""
    estimates = json.loads((out / "metrics.json").read_text())["estimates"]
    return next(row for row in estimates if row["name"] == label)


def test_the_report_says_what_people_said_and_what_a_part_of_the_audit_proves(out: Path) -> None:
    with Review.open(out) as review:
        order = found(review, RED)
        assert len(order) > 15
        review.record([NewAnswer("3", RED, "no"), NewAnswer("4", RED, "unsure"), *audits(order[:-5], RED)])
        review.refit()
        standing = review.standing(RED)
        review.apply()
    asked, yes = len(order) - 5, sum(int(name) % 10 == 0 for name in order[:-5])
    assert 0 < yes < asked
    audit, said = stated_of(out, RED)["audit"], stated_of(out, RED)["answers"]
    none_waits = {"waiting": 0, "missing": 0}
    assert audit == none_waits | {"asked": asked, "yes": yes, "among": asked + 5, "low": lower_bound(yes, asked)}
    assert (standing.audited, standing.audited_yes, standing.precision_low) == (asked, yes, audit["low"])
    assert said == {"yes": yes, "no": asked - yes + 1, "unsure": 1, "trusted": False}  # no "yes" but those of the audit
    nothing = none_waits | {"asked": 0, "yes": 0, "among": 0, "low": None}
    assert stated_of(out, "green")["audit"] | {"among": 0} == nothing
    page = (out / "report.html").read_text()
    assert f"Answers about red: {asked + 2} ({yes} yes, {asked - yes + 1} no, 1 unsure)." in page
    assert f"by {asked + 1} answers and the groups" in page  # those that were yes or no
    assert page.count("by the groups alone") == 2  # of the classes that nobody was asked about
    assert "They decide on their own images only" in page
    assert "The group follows them" not in page
    assert f"Audit: {yes} of {asked} images drawn at random from the {asked + 5} that were found show red." in page
    assert f"at least {int(100 * audit['low'])} % of what was found do" in page
    assert "Nobody was asked about green yet." in page
    assert "model that learnt from answers" not in page


def test_the_report_says_which_thresholds_follow_answers_and_that_all_was_looked_at(out: Path) -> None:
    with Review.open(out) as review:
        # people mean more by red than its exemplar shows: that cannot be foreseen without their answers
        shows = [str(row) for row in range(11, 131, 10)]
        review.record([NewAnswer(name, RED, "yes") for name in shows])
        review.record([NewAnswer(str(row), RED, "no") for row in range(3, 123, 10)])
        review.refit()
        order = [name for name in found(review, RED) if name not in shows]
        review.record([replace(one, verdict="yes") for one in audits(order, RED)])
        review.refit()
        standing = review.standing(RED)
        review.apply()
    audit, said = stated_of(out, RED)["audit"], stated_of(out, RED)["answers"]
    assert said == {"yes": 12 + len(order), "no": 12, "unsure": 0, "trusted": True}
    assert standing.whole
    assert audit["asked"] == audit["yes"] == audit["among"] == 12 + len(order)
    page = (out / "report.html").read_text()
    assert "The group follows them" in page
    assert f"Of {audit['among']} images {audit['among']} show red, the others are out." in page
    assert "The thresholds of red come from a model that learnt from answers." in page
    assert "drawn at random from" not in page


def test_a_bound_is_put_into_words_and_never_rounded_up() -> None:
    said = AnswerCounts(25, 4, 1, trusted=True)
    words = list(explain_class("red", None, said, Audit(20, 20, 300)))
    assert words[0] == "Answers about red: 30 (25 yes, 4 no, 1 unsure)."
    assert words[1].startswith("The group follows them: ")
    assert words[2] == (
        "Audit: 20 of 20 images drawn at random from the 300 that were found show red. So with 95 % confidence at "
        "least 86 % of what was found do."
    )
    assert "nothing is proven" in list(explain_class("red", None, said, Audit(0, 0, 300)))[2]
    assert "Of 9 images 8 show red" in list(explain_class("red", None, said, Audit(9, 8, 9)))[2]


def test_without_answers_the_report_says_nothing_of_them(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "Answers about" not in page
    assert "Audit:" not in page
    assert "Nobody was asked" not in page
    assert all("audit" not in row for row in json.loads((finished / "metrics.json").read_text())["estimates"])


def test_a_class_that_answers_emptied_is_still_trained_from_its_exemplar(out: Path) -> None:
    with Review.open(out) as review:
        review.record([NewAnswer(str(row), "blue", "no") for row in range(3, N)])
        review.refit()
        assert review.standing("blue").found == 0
        assert review.gallery("blue", "found") == ([], 0)
        assert review.next(5, "blue") == []
        review.apply()
    rows = groups_of(out)
    assert [name for name, row in rows.items() if row["class"] == "blue"] == ["2"]
    assert Classifier.load(out).classes_ == [RED, "green", "blue", "none"]


def test_test_rows_are_not_asked_about_and_answers_to_them_decide_nothing(data: Path, job: Job) -> None:
    run(job(), data / "out")
    tested = {30, 31, 32, 40, 41, 33, 34, 35, 36, 37}
    with Review.open(data / "out") as review:
        assert not {one.row for one in review.next(1000, RED)} & tested
        assert 7 not in {one.row for one in review.next(1000, RED)}  # it is unreadable
        before = review.gallery(RED, "found", count=999)[0]
        review.record([NewAnswer("30", RED, "no"), NewAnswer("33", RED, "yes")])
        review.refit()
        after = review.gallery(RED, "found", count=999)[0]
        assert [one.id for one in after] == [one.id for one in before]
        with pytest.raises(HolotypeError):
            review.record([NewAnswer("7", RED, "exemplar")])
        members = [name for name in found(review, RED) if int(name) not in tested]
        assert "30" in found(review, RED)  # was found, and the "no" counts for nothing
        review.record(audits(members, RED))
        review.refit()
        standing = review.standing(RED)
        assert standing.whole  # the audit does not wait for test rows
        assert (standing.audited, standing.audited_yes) == (len(members), sum(int(name) % 10 == 0 for name in members))
        review.apply()
    assert not {name for name, row in groups_of(data / "out").items() if row["part"] == "learnt"} & {
        str(row) for row in tested
    }


def test_other_test_sets_do_not_count_what_was_answered(out: Path) -> None:
    with Review.open(out) as review:
        for _ in range(4):
            answer(review, RED, 10)
        given = review.answers.current()
        review.apply()
    assert any(one.audit for one in given)
    before = groups_of(out)
    with (out.parent / "t.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["index", "red", "green", "blue"])
        for one in given:
            table.writerow([one.id, *(int(int(one.id) % 10 == k) for k in range(3))])
    with pytest.raises(HolotypeError, match="can be evaluated: each was learnt from"):
        evaluate_run(out, out.parent / "t.csv")
    tuned = tune_run(out, 2)
    assert tuned.tuned is not None
    assert groups_of(out)[given[0].id]["reason"] == before[given[0].id]["reason"]
