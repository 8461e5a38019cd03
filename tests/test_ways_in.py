"""The ways in which answers come: by the page, by Python, by a file; all keep to the same rules."""

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from reviewer import SETTINGS, THREADS, Known, answer, plant
from scipy.stats import binom

from holotype.answers.audit import audit, permanent_random_numbers
from holotype.answers.forms import read_csv, write_csv
from holotype.answers.log import AnswerLog
from holotype.answers.records import NewAnswer, Verdict
from holotype.answers.refine import refine
from holotype.errors import AnswersError
from holotype.review.queries import AnswerTally, DiverseUncertainty, Query, QueryContext, next_queries
from holotype.review.review import Review

RED = "red"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def review(out: Path) -> Iterator[Review]:
    with Review.open(out) as opened:
        yield opened


def by_csv(review: Review, given: NewAnswer) -> None:
    path = review.out.parent / "given.csv"
    path.write_text(write_csv([given]))
    review.read(path)


def by_tasks(review: Review, given: NewAnswer) -> None:
    kept = {"class": given.label, "answer": given.verdict, "when": NOON.isoformat(), "who": "ann", "audit": False}
    path = review.out.parent / "given.json"
    path.write_text(json.dumps([{"data": {"image_id": given.id}, "meta": {"answers": [kept]}}]))
    review.read(path)


WAYS: dict[str, Callable[[Review, NewAnswer], object]] = {
    "add": lambda review, given: review.answers.add(given.id, given.label, given.verdict),
    "record": lambda review, given: review.record([given]),
    "take": lambda review, given: review.take([given]),
    "log": lambda review, given: review.answers.take([given]),
    "csv": by_csv,
    "tasks": by_tasks,
}
WRONG: list[tuple[str, str, Verdict, str]] = [
    ("5000", RED, "yes", "expected the id of an image"),
    ("5", "purple", "yes", "expected one of the classes red, green, blue"),
    ("0", RED, "no", "is an exemplar of red: withdraw it there first"),
    ("0", "green", "yes", "is an exemplar of red: withdraw it there first"),
    ("0", RED, "unsure", "is an exemplar of red: withdraw it there first"),
    ("1", RED, "exemplar", "is an exemplar of green: withdraw it there first"),
    ("0", RED, "withdrawn", "has no other exemplar"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "label", "verdict", "why"), WRONG)
def test_every_way_of_writing_an_answer_passes_the_same_checks(
    review: Review, way: str, name: str, label: str, verdict: Verdict, why: str
) -> None:
    with pytest.raises(AnswersError, match=why):
        WAYS[way](review, NewAnswer(name, label, verdict))
    assert review.version == 0


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_writing_an_answer_keeps_which_picture_it_is_about(review: Review, way: str) -> None:
    WAYS[way](review, NewAnswer("10", RED, "yes"))
    (kept,) = review.answers.current()
    assert kept.digest == review.pool.digest(10)
    assert len(kept.digest) == 64


@pytest.mark.parametrize("way", WAYS)
def test_what_was_asked_as_an_audit_is_audited_whichever_way_the_answer_comes(review: Review, way: str) -> None:
    review.answers.draw([("10", RED)])
    WAYS[way](review, NewAnswer("10", RED, "yes"))
    WAYS[way](review, NewAnswer("20", RED, "yes"))
    assert [(one.id, one.audit) for one in review.answers.current()] == [("10", True), ("20", False)]


CONTRADICTIONS = {
    "20,red,yes\n20,red,no": ("20 red no", "line 2: line 3 says no to red about '20', and the last decides"),
    "20,red,yes\n20,green,yes": ("20 green yes", "line 2: line 3 says yes to green about '20'"),
    "20,red,unsure\n20,red,yes": ("20 red yes", "line 2: line 3 says yes to red"),
    "20,red,exemplar\n20,red,no": ("20 red no", "line 2: line 3 says no to red"),
    "20,red,exemplar\n20,green,exemplar": ("20 green exemplar", "line 2: line 3 says exemplar to green"),
    "20,red,yes\n20,green,yes\n20,red,yes": ("20 red yes", "line 3: line 4 says yes to red"),
    "20,red,yes\n0,red,no": ("20 red yes", "line 3: 0 is an exemplar of red: withdraw it there first"),
    "20,red,yes\n0,green,yes": ("20 red yes", "line 3: 0 is an exemplar of red: withdraw it there first"),
    "20,red,yes\n0,red,withdrawn": ("20 red yes", "line 3: red has no other exemplar"),
    "20,red,exemplar\n20,red,withdrawn\n30,red,no": ("30 red no", "line 2: line 3 says withdrawn to red about '20'"),
    "20,red,yes\n5000,red,yes": ("20 red yes", "line 3: expected the id of an image"),
    "20,red,yes\n5,purple,yes": ("20 red yes", "line 3: expected one of the classes red, green, blue, got 'purple'"),
    "20,red,yes\n1,red,exemplar": ("20 red yes", "line 3: 1 is an exemplar of green: withdraw it there first"),
}


@pytest.mark.parametrize("lines", CONTRADICTIONS)
def test_a_line_that_cannot_be_is_left_out_and_named_and_the_rest_is_taken(
    review: Review, lines: str, tmp_path: Path
) -> None:
    held, why = CONTRADICTIONS[lines]
    (tmp_path / "a.csv").write_text(f"id,class,answer\n{lines}\n")
    taken = review.load(tmp_path / "a.csv")
    assert taken.refused[0].startswith(why)
    assert len(taken.refused) == 1
    assert [f"{one.id} {one.label} {one.verdict}" for one in review.answers.current()] == [held]
    assert next(taken.lines()) == "1 new answer; 1 cannot be, and are left out:"


def test_an_act_that_contradicts_itself_is_refused(review: Review) -> None:
    """On the page and in Python there is no last line: who says both at once is asked which."""
    for label, verdict in CONTRARY:
        with pytest.raises(AnswersError, match="were answered at once about '20'; nothing was recorded"):
            review.record([NewAnswer("20", RED, "yes"), NewAnswer("20", label, verdict)])
    assert review.version == 0
    review.record([NewAnswer("20", RED, "yes"), NewAnswer("20", "green", "no")])
    with AnswerLog(review.out / "other.db") as log, pytest.raises(AnswersError, match="answered at once"):
        log.record([NewAnswer("20", RED, "yes"), NewAnswer("20", RED, "no")])


CONTRARY: list[tuple[str, Verdict]] = [(RED, "no"), ("green", "yes"), (RED, "unsure"), ("green", "exemplar")]


def test_the_order_of_the_lines_is_that_of_the_answers(review: Review, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,class,answer\n10,red,exemplar\n0,red,withdrawn\n0,red,no\n")
    assert review.read(path) == 3
    assert [one.name for one in review.exemplars(RED)] == ["10"]


def test_of_several_withdrawals_the_one_that_would_empty_a_class_is_left_out(review: Review, tmp_path: Path) -> None:
    review.record([NewAnswer("10", RED, "exemplar")])
    (tmp_path / "a.csv").write_text("id,class,answer\n0,red,withdrawn\n10,red,withdrawn\n0,red,no\n")
    taken = review.load(tmp_path / "a.csv")
    assert (taken.new, taken.refused) == (
        2,
        ["line 3: red has no other exemplar: add one before this one is withdrawn"],
    )
    assert [one.name for one in review.exemplars(RED)] == ["10"]


def test_ids_are_found_as_they_are_elsewhere(review: Review, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,class,answer\n20.jpg,red,yes\n./30,red ,yes\n")
    assert review.read(tmp_path / "a.csv") == 2
    review.answers.add("40.jpg", RED, "no")
    assert [(one.id, one.label) for one in review.answers.current()] == [("20", RED), ("30", RED), ("40", RED)]


def test_what_was_answered_since_keeps_an_act_from_being_undone(review: Review) -> None:
    review.record([NewAnswer("10", RED, "exemplar")])
    review.record([NewAnswer("0", RED, "withdrawn")], act="withdrawn")
    review.record([NewAnswer("0", "green", "exemplar")], act="moved")
    with pytest.raises(AnswersError, match="0 would be an exemplar of green and of red; undo what was answered since"):
        review.undo("withdrawn")
    review.undo("moved")
    review.record([NewAnswer("0", RED, "no")], act="no")
    with pytest.raises(AnswersError, match="0 would be an exemplar of red, and no to red was answered"):
        review.undo("withdrawn")
    assert [one.name for one in review.exemplars(RED)] == ["10"]
    review.undo("no")
    assert review.undo("withdrawn")
    assert [one.name for one in review.exemplars(RED)] == ["0", "10"]


def test_an_older_export_imported_again_does_not_undo_newer_answers(review: Review, tmp_path: Path) -> None:
    review.record([NewAnswer("10", RED, "yes"), NewAnswer("20", RED, "yes"), NewAnswer("30", RED, "yes")], act="first")
    review.export(tmp_path / "older.csv")
    review.export(tmp_path / "older.json")
    review.record([NewAnswer("10", RED, "no")])
    assert review.undo("first")  # of 20 and 30 nothing holds any more
    review.answers.add("20", RED, "exemplar")
    for name in ("older.csv", "older.json"):
        taken = review.load(tmp_path / name)
        assert (taken.new, taken.older) == (0, 2)  # that 20 shows it holds already: it is an exemplar
        assert {(one.id, one.verdict) for one in review.answers.current()} == {("10", "no"), ("20", "exemplar")}
    later = [NewAnswer("10", RED, "yes", when=datetime.now(UTC) + timedelta(seconds=5))]
    assert review.take(later) == 1


def test_answers_about_other_pictures_are_not_taken_from_a_file(review: Review, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"id,class,answer,digest\n10,red,no,{'0' * 64}\n20,red,no,\n")
    taken = review.load(tmp_path / "a.csv")
    assert (taken.new, taken.other) == (1, 1)
    assert [one.id for one in review.answers.current()] == ["20"]
    with pytest.raises(AnswersError, match="another picture"):
        review.record([NewAnswer("10", RED, "no", digest="0" * 64)])


def test_suggest_does_not_say_which_question_is_of_the_audit_and_the_log_knows(review: Review, tmp_path: Path) -> None:
    for _ in range(2):
        answer(review, RED, 10)
    drawn = {one.id for one in review.next(12, RED) if one.audit}
    assert drawn
    lines = list(review.form(12, [RED]))
    assert lines[0] == "id,class,answer,path,digest"
    assert "audit" not in "".join(lines)
    filled = [dict(row, answer="yes") for row in csv.DictReader(lines)]
    path = tmp_path / "filled.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, lines[0].split(","))
        table.writeheader()
        table.writerows(filled)
    assert review.read(path) == 12
    given = {row["id"] for row in filled}
    assert {one.id for one in review.answers.current() if one.id in given and one.audit} == drawn


def test_an_exemplar_that_is_withdrawn_leaves_what_was_said_of_the_image(review: Review) -> None:
    review.answers.add("10", RED, "yes")
    review.answers.add("10", RED, "exemplar")
    review.answers.add("10", RED, "withdrawn")
    assert {one.verdict for one in review.answers.current()} == {"yes", "withdrawn"}
    review.refit()
    assert "10" in {one.id for one in review.gallery(RED, "found", count=999)[0]}
    review.answers.add("0", RED, "exemplar")  # it is one by the run already


def hasty(query: Query, known: Known, label: str) -> NewAnswer:
    yes = query.audit or known.truth[query.row] == 0
    return NewAnswer(str(query.row), label, "yes" if yes else "no", audit=query.audit)


def test_the_bound_holds_over_the_real_log_and_queue_with_corrections_by_file(tmp_path: Path) -> None:
    """A hasty reviewer says yes to all that he is asked as an audit, and corrects it later through a CSV.

    Too many misses are those that a true rate of 5 % would be above in one of a thousand tests.
    """
    missed, runs, wrong = 0, 60, 0
    for run in range(runs):
        known = plant(run, sizes=(60,), others=800, noise=1.8, threshold=0.25)
        numbers = permanent_random_numbers(len(known.truth), known.start.key)
        label = known.classes[0]
        with AnswerLog(tmp_path / f"{run}.db") as log, THREADS.limit(limits=1):
            refined = refine(known.start, [], known.ids, SETTINGS)
            for n in (20, 60):
                about = [one for one in log.current() if one.label == label]
                asked = {int(one.id) for one in about}
                tally = AnswerTally(len(about), sum(one.audit for one in about))
                context = QueryContext.of(known.start, refined, 0, asked, ())
                queries = next_queries(context, DiverseUncertainty(), n, tally, refined.sampled[0], numbers, asked)
                log.record([hasty(query, known, label) for query in queries])
                refined = refine(known.start, log.current(), known.ids, SETTINGS)
            false = [one for one in log.current() if one.audit and known.truth[int(one.id)] != 0]
            wrong += len(false)
            path = tmp_path / "corrected.csv"
            path.write_text("id,class,answer\n" + "".join(f"{one.id},{label},no\n" for one in false))
            assert log.take(read_csv(path)).new == len(false)
            refined = refine(known.start, log.current(), known.ids, SETTINGS)
        true = float((known.truth[refined.sampled[0]] == 0).mean())
        missed += (refined.audits[0].low or 0) > true
    assert wrong > runs
    assert missed <= binom.ppf(0.999, runs, 0.05)


def test_twenty_yes_of_which_three_are_corrected_are_seventeen_of_twenty() -> None:
    rows, numbers = permanent_random_numbers(20, "").argsort(), permanent_random_numbers(20, "")
    known = {int(row): place >= 3 for place, row in enumerate(rows)}
    found = audit(rows, numbers, known, set(known))
    assert (found.yes, found.asked, round(found.low or 0, 3)) == (17, 20, 0.656)


def test_a_miss_that_is_called_another_class_stays_in_the_audit(review: Review, tmp_path: Path) -> None:
    """As Label Studio says it, where one class is chosen: nothing about the class that was asked about."""
    members = [one.id for one in review.gallery(RED, "found", count=999)[0]]
    review.answers.draw((name, RED) for name in members)
    path = tmp_path / "a.csv"
    words = [f"{name},{'green' if place < 3 else RED},yes" for place, name in enumerate(members)]
    path.write_text("\n".join(["id,class,answer", *words]))
    assert review.read(path) == len(members)
    standing = review.standing(RED)
    assert (standing.audited, standing.audited_yes) == (len(members), len(members) - 3)


def test_a_withdrawn_exemplar_does_not_come_back_whatever_came_in_which_order(review: Review, tmp_path: Path) -> None:
    for name, verdict in (("10", "exemplar"), ("0", "withdrawn"), ("20", "exemplar"), ("10", "withdrawn")):
        review.answers.add(name, RED, "exemplar" if verdict == "exemplar" else "withdrawn")
    assert [one.name for one in review.exemplars(RED)] == ["20"]
    with pytest.raises(AnswersError, match="has no other exemplar"):
        review.answers.add("20", RED, "withdrawn")
    path = tmp_path / "a.csv"
    path.write_text("id,class,answer\n1,green,withdrawn\n11,green,exemplar\n")
    assert review.read(path) == 2
    assert [one.name for one in review.exemplars("green")] == ["11"]


def test_a_correction_by_file_is_new_where_something_else_decides_now(review: Review, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,class,answer\n10,red,yes\n")
    review.answers.add("10", RED, "yes")
    review.answers.add("10", "green", "yes")
    assert review.read(path) == 1
    assert "10" in {one.id for one in review.gallery(RED, "found", count=999)[0]}
    assert review.read(path) == 0
    path.write_text("id,class,answer\n20,red,yes\n")
    review.answers.add("20", RED, "no")
    review.answers.add("20", RED, "exemplar")
    assert review.read(path) == 1
    review.answers.add("20", RED, "withdrawn")
    review.refit()
    assert "20" in {one.id for one in review.gallery(RED, "found", count=999)[0]}


def test_an_older_yes_to_another_class_does_not_overrule_a_newer_one(review: Review) -> None:
    hours = [NOON + timedelta(hours=hour) for hour in range(3)]
    assert review.take([NewAnswer("10", RED, "yes", when=hours[2])]) == 1
    assert review.take([NewAnswer("10", "green", "yes", when=hours[0])]) == 0
    assert review.take([NewAnswer("20", RED, "no", when=hours[1]), NewAnswer("20", RED, "yes", when=hours[0])]) == 1
    assert {(one.id, one.label, one.verdict) for one in review.answers.current()} == {
        ("10", RED, "yes"),
        ("20", RED, "no"),
    }
