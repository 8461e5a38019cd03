"""A run that follows answers: its groups, head, report and test results, on real JPEGs."""

import csv
import json
from pathlib import Path

import pytest
from conftest import Job
from reviewer import answer, groups_of

from holotype import Classifier, HolotypeError, Settings, run
from holotype.answers.audit import Audit
from holotype.answers.index import AnswerCounts
from holotype.answers.log import NewAnswer
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
        found = {label: {one.id for one in review.gallery(label, "found", count=999)[0]} for label in review.classes}
        assert all(len(found[label] ^ seen[label]) <= 1 for label in review.classes)
        assert review.standing(RED).answered == 40
    rows = groups_of(out)
    no = [one for one in given if one.verdict == "no" and not one.audit]
    audited = [one.id for one in given if one.audit]
    assert len(no) > 5
    assert len(audited) > 3
    parts = {one.id: rows[one.id]["part"] for one in no}
    assert all(part in ("fit", "validation") for part in parts.values())
    assert len(no) + 20 + 3 >= sum(
        row["part"] in ("fit", "validation") and row["class"] == "none" for row in rows.values()
    )
    assert {rows[name]["part"] for name in audited} == {"audited"}
    for one in given:
        if one.label == RED:
            assert rows[one.id]["reason"] == f"was said {'' if one.verdict == 'yes' else 'not '}to show red by ann"
            assert rows[one.id]["class"] == (RED if one.verdict == "yes" else "none")
    assert (rows["9"]["decision"], rows["9"]["class"]) == ("doubtful", None)
    assert rows["9"]["reason"] == "nobody could tell whether it shows blue by bob"
    assert rows["6"]["decision"] == "exemplar"
    assert sorted(Classifier.load(out).exemplar_names_) == ["0", "1", "2", "6"]
    for label, names in found.items():
        members = {name for name, row in rows.items() if row["class"] == label and row["decision"] == "member"}
        assert members == names
    first = (out / "groups.parquet").read_bytes()
    run(few, out, resume=True)
    assert (out / "groups.parquet").read_bytes() == first


def test_the_report_says_what_people_said_and_what_the_audit_proves(out: Path) -> None:
    with Review.open(out) as review:
        for _ in range(5):
            answer(review, RED, 10)
        standing = review.standing(RED)
        review.apply()
    stated = {row["name"]: row for row in json.loads((out / "metrics.json").read_text())["estimates"]}
    audit, said = stated[RED]["audit"], stated[RED]["answers"]
    assert (audit["asked"], audit["yes"]) == (standing.audited, standing.audited_yes)
    assert standing.precision_low == audit["low"]
    assert (said["yes"], said["no"], said["unsure"]) == (standing.yes, standing.no, standing.unsure)
    assert stated["green"]["audit"] == {"asked": 0, "yes": 0, "among": stated["green"]["audit"]["among"], "low": None}
    page = (out / "report.html").read_text()
    assert f"Answers about red: 50 ({said['yes']} yes, {said['no']} no, 0 unsure)." in page
    assert "Nobody was asked about green yet." in page
    assert audit["asked"]
    if audit["asked"] < audit["among"]:
        assert f"Audit: {audit['yes']} of {audit['asked']} images drawn at random" in page
        assert f"at least {int(100 * audit['low'])} % of what was found do" in page
    else:
        assert f"images was answered: {audit['yes']} show red" in page
    if said["trusted"]:
        assert "The thresholds of red come from a model that learnt from answers." in page
        assert "The thresholds of green, blue are provisional" in page
    else:
        assert "so they decide on their own images only" in page


def test_a_bound_is_put_into_words_and_never_rounded_up() -> None:
    said = AnswerCounts(25, 4, 1, trusted=True)
    words = list(explain_class("red", None, said, Audit(20, 20, 300)))
    assert words[0] == "Answers about red: 30 (25 yes, 4 no, 1 unsure)."
    assert words[1].endswith("so the group follows them.")
    assert words[2] == (
        "Audit: 20 of 20 images drawn at random from the 300 that were found show red. So with 95 % confidence at "
        "least 86 % of what was found do."
    )
    assert "nothing is proven" in list(explain_class("red", None, said, Audit(0, 0, 300)))[2]
    assert "Each of the 9 images" in list(explain_class("red", None, said, Audit(9, 8, 9)))[2]


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
        for _ in range(5):
            answer(review, RED, 10)
        assert review.standing(RED).audited == 0 or review.standing(RED).precision_low is not None
        review.apply()
    assert not {name for name, row in groups_of(data / "out").items() if row["part"] in ("fit", "validation")} & {
        str(row) for row in tested
    }


def test_other_test_sets_do_not_count_what_was_answered(out: Path) -> None:
    with Review.open(out) as review:
        for _ in range(4):
            answer(review, RED, 10)
        given = review.answers.current()
        review.apply()
    audited = [one for one in given if one.audit]
    with (out.parent / "t.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["index", "red", "green", "blue"])
        for one in given:
            table.writerow([one.id, *(int(int(one.id) % 10 == k) for k in range(3))])
    near = groups_of(out)
    counted = [one for one in audited if float(str(near[one.id]["cosine"])) < 0.99999]
    assert counted
    assert sum(evaluate_run(out, out.parent / "t.csv").confusion.sum(axis=1)) == len(counted)
    tuned = tune_run(out, 2)
    assert tuned.tuned is not None
    assert groups_of(out)[given[0].id]["reason"] == near[given[0].id]["reason"]
