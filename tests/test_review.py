"""A run under review, on real JPEGs: questions, answers, and what they lead to."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Job, Picture
from PIL import Image
from reviewer import answer

from holotype import Classifier, HolotypeError, Settings, run
from holotype.answers.records import NewAnswer
from holotype.errors import AnswersError
from holotype.review import pictures
from holotype.review.queries import DiverseUncertainty, QueryContext, choose_together
from holotype.review.review import Review

RED, N = "red", 240


@pytest.fixture
def review(out: Path) -> Iterator[Review]:
    with Review.open(out) as opened:
        yield opened


def test_questions_are_about_images_that_nobody_was_asked_about(review: Review) -> None:
    asked: list[str] = []
    for _ in range(6):
        given = answer(review, RED, 8)
        asked += [one.id for one in given]
    assert len(asked) == len(set(asked)) == 48
    assert not {"0", "1", "2"} & set(asked)
    assert any(one.audit for one in review.answers.current())
    excluded = [one.row for one in review.next(5, RED)]
    assert not {one.row for one in review.next(5, RED, excluded)} & set(excluded)
    assert len(review.next(1000, RED)) == N - 48 - 3
    for one in review.next(3, RED):
        assert 0 <= one.score <= 1
        assert one.id == review.ids[one.row]
        assert one.why in ("found so far", "")


def test_a_page_is_chosen_as_a_whole(review: Review) -> None:
    label = review.classes[0]
    page = review.next(24, label, page=True)
    likely = [one.row for one in page[:12]]
    scores = review.gallery(label, "rejected", count=10_000)[0] + review.gallery(label, "doubtful", count=10_000)[0]
    scores += review.gallery(label, "found", count=10_000)[0]
    asked = {one.row for one in page}
    left = [one.score for one in scores if one.row not in asked and one.score > 0.5]
    assert min(one.score for one in page[:12]) >= max(left, default=0), "the most likely come first"
    assert len(asked) == 24
    assert [one.row for one in review.next(24, label, page=True)][:12] == likely
    again = review.next(24, label, exclude=sorted(asked), page=True)
    assert not asked & {one.row for one in again}


def test_before_a_refit_nothing_is_asked_that_was_said_already(review: Review) -> None:
    rows = [one.row for one in review.next(6, "green")]
    review.record([NewAnswer(review.ids[row], RED, "yes") for row in rows[:2]])
    review.record(
        [NewAnswer(review.ids[rows[2]], RED, "exemplar"), NewAnswer(review.ids[rows[3]], "green", "exemplar")]
    )
    review.record([NewAnswer(review.ids[rows[4]], "green", "unsure")])
    before = {one.row for one in review.next(1000, "green")}
    assert not before & set(rows[:5])
    assert rows[5] in before
    review.refit()
    assert not {one.row for one in review.next(1000, "green")} & set(rows[:5])


def test_what_was_undone_is_asked_about_again_at_once(review: Review) -> None:
    first, other, still = (one.row for one in review.next(3, RED))
    review.record([NewAnswer(review.ids[first], RED, "no")], act="said")
    review.record([NewAnswer(review.ids[other], "green", "yes")], act="shown")
    review.record([NewAnswer(review.ids[still], RED, "no")])
    review.refit()
    for act in ("said", "shown"):
        review.undo(act)
    before = {one.row for one in review.next(1000, RED)}
    assert {first, other} <= before
    assert still not in before
    review.refit()
    assert {one.row for one in review.next(1000, RED)} == before


def test_an_answer_is_undone_and_everything_is_as_before(review: Review) -> None:
    before = review.standing(RED)
    name = review.ids[review.gallery(RED, "found")[0][0].row]
    review.record([NewAnswer(name, RED, "no", "ann")], act="one")
    review.refit()
    assert review.standing(RED).answered == review.standing(RED).no == 1
    assert review.standing(RED).left == 1
    assert review.changes(RED).left == [review.pool.rows[name]]
    assert name in {one.id for one in review.gallery(RED, "rejected")[0]}
    assert review.undo("one", "ann")
    assert not review.undo("one", "ann")
    review.refit()
    after = review.standing(RED)
    assert (after.found, after.answered, after.at_least) == (before.found, 0, before.at_least)
    assert review.changes(RED).joined == [review.pool.rows[name]]


def test_the_page_says_when_other_ways_help_more(review: Review) -> None:
    assert "20 to go" in review.standing(RED).hint
    answer(review, RED, 30)
    assert review.standing(RED).left  # those that answers ruled out
    for _ in range(5):  # what is said of another class, and moves nothing here, is no sign
        answer(review, "green", 2)
    assert "changed almost nothing" not in review.standing(RED).hint
    assert review.standing(RED).joined == review.standing(RED).left == 0
    for _ in range(5):  # nor is what nobody could tell
        for one in review.next(2, RED):
            review.record([NewAnswer(one.id, RED, "unsure", "ann")])
        review.refit()
    assert "changed almost nothing" not in review.standing(RED).hint
    for _ in range(5):
        answer(review, RED, 2)
    assert "changed almost nothing" in review.standing(RED).hint
    with Review.open(review.out) as again:
        assert "changed almost nothing" in again.standing(RED).hint
    wrong = next(one.id for one in review.gallery(RED, "found")[0])
    review.record([NewAnswer(wrong, RED, "no", "ann")])
    review.refit()
    assert "changed almost nothing" not in review.standing(RED).hint
    with Review.open(review.out) as again:
        assert "changed almost nothing" not in again.standing(RED).hint


def test_questions_follow_answers_that_the_groups_do_not_trust(review: Review) -> None:
    for one in review.next(4, RED):
        review.record([NewAnswer(one.id, RED, "no", "ann")])
    review.refit()
    taught = review._state.refined
    assert not taught.models[0].trusted
    assert not np.array_equal(taught.untrusted_logits[:, 0], taught.logits[:, 0])
    after = [one.row for one in review.next(12, RED)]
    asked = [review.pool.rows[one.id] for one in review.matched.answers]
    view = QueryContext.of(review._state.baseline, taught, 0, asked, ())
    assert after == choose_together(DiverseUncertainty(), view, 12, len(asked))
    trusting = replace(view, logits=taught.logits[:, 0], expect=None)
    assert after != choose_together(DiverseUncertainty(), trusting, 12, len(asked))
    assert np.array_equal(view.seen.vectors(1), np.asarray(review._state.baseline.vectors[asked], np.float32))


def test_the_gallery_is_sorted_filtered_and_counted(review: Review) -> None:
    answer(review, RED, 10)
    found, total = review.gallery(RED, "found", count=1000)
    assert len(found) == total == review.standing(RED).found
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert [one.id for one in review.gallery(RED, "found", sort="worst", count=1000)[0]] == [one.id for one in found][
        ::-1
    ]
    assert [one.id for one in review.gallery(RED, "found", start=2, count=3)[0]] == [one.id for one in found][2:5]
    answered, count = review.gallery(RED, "found", answered=True)
    assert count == len(answered)
    assert all(one.verdict == "yes" and one.reason == "was said to show red by ann" for one in answered)
    assert review.gallery(RED, "found", answered=False, count=1000)[1] == total - count
    assert all("5" in one.id for one in review.gallery(RED, "rejected", text="5", count=1000)[0])
    assert review.gallery(RED, "found", start=10_000) == ([], total)
    said_no = {one.id for one in review.answers.current() if one.verdict == "no"}
    assert said_no <= {one.id for one in review.gallery(RED, "rejected", count=10_000)[0]}


def test_pictures_are_jpegs_of_the_size_that_was_asked_for(review: Review) -> None:
    for data in (review.picture(5, 32), review.exemplar_picture(0, 32)):
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
            assert max(image.size) <= 32
    with pytest.raises(AnswersError, match="of the 3 exemplars"):
        review.exemplar_picture(3, 32)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (NewAnswer("5", "purple", "yes"), "expected one of the classes"),
        (NewAnswer("5000", RED, "yes"), "expected the id of an image"),
        (NewAnswer("5000", RED, "exemplar"), "expected the id of an image"),
        (NewAnswer("../5000", RED, "no"), "expected the id of an image"),
        (NewAnswer("10", RED, "withdrawn"), "expected an exemplar of red"),
        (NewAnswer("0", RED, "withdrawn"), "no other exemplar"),
        (NewAnswer("1", RED, "exemplar"), "is an exemplar of green"),
        (NewAnswer("1", RED, "yes"), "is an exemplar of green"),
        (NewAnswer("0", RED, "no"), "is an exemplar of red"),
    ],
)
def test_what_no_answer_can_be_is_refused_and_nothing_is_recorded(
    review: Review, given: NewAnswer, message: str
) -> None:
    with pytest.raises(AnswersError, match=message):
        review.record([NewAnswer("20", RED, "yes"), given])
    assert review.version == 0


def test_an_exemplar_is_added_and_withdrawn_and_the_ranking_follows(review: Review) -> None:
    odd = "6"  # of two colours, and like nothing that is red
    before = {one.id: one.score for one in review.gallery(RED, "found", count=1000)[0]}
    review.record([NewAnswer(odd, RED, "exemplar")], act="more")
    assert [one.name for one in review.exemplars(RED)] == ["0", odd]
    review.refit()
    changed = {one.id: one.score for one in review.gallery(RED, "found", count=1000)[0]}
    assert changed != before
    assert odd not in changed
    assert odd not in {one.id for one in review.next(1000, RED)}
    review.record([NewAnswer("0", RED, "withdrawn")])
    assert [one.name for one in review.exemplars(RED)] == [odd]
    with pytest.raises(AnswersError, match="no other exemplar"):
        review.record([NewAnswer(odd, RED, "withdrawn")])
    review.refit()
    assert {one.id: one.score for one in review.gallery(RED, "found", count=1000)[0]} not in (before, changed)
    review.undo("more")  # the last one cannot be withdrawn this way either
    assert [one.name for one in review.exemplars(RED)] == ["0"]
    review.refit()
    assert {one.id: one.score for one in review.gallery(RED, "found", count=1000)[0]} == before


def test_a_yes_that_was_on_its_way_leaves_an_exemplar_what_it_is(review: Review) -> None:
    review.record([NewAnswer("20", RED, "exemplar")])
    review.record([NewAnswer("20", RED, "yes")], act="late")
    assert [one.name for one in review.exemplars(RED)] == ["0", "20"]
    review.undo("late")
    assert [one.name for one in review.exemplars(RED)] == ["0", "20"]


def test_the_size_of_a_class_counts_an_exemplar_once(review: Review) -> None:
    review.record([NewAnswer(str(row), RED, "yes") for row in range(10, 100, 10)])
    review.refit()
    known = review.standing(RED).at_least
    assert known == 10
    review.record([NewAnswer("10", RED, "exemplar")])
    review.refit()
    assert review.standing(RED).at_least == known


def test_what_two_see_of_one_run_is_the_same_after_a_refit(out: Path) -> None:
    with Review.open(out) as one, Review.open(out) as other:
        answer(one, RED, 10)
        one.record([NewAnswer("20", "green", "exemplar")])
        assert [shown.name for shown in other.exemplars("green")] == ["1", "20"]
        assert other.standing(RED).answered == 10
        one.refit()
        other.refit()
        for label in one.classes:
            assert one.standing(label).found == other.standing(label).found
            assert one.gallery(label, "found", count=999) == other.gallery(label, "found", count=999)
            assert [ask.row for ask in one.next(9, label)] == [ask.row for ask in other.next(9, label)]
        with Review.open(out) as again:
            assert again.gallery(RED, "found", count=999) == one.gallery(RED, "found", count=999)
            assert again.standing("green").at_least == one.standing("green").at_least


def test_many_threads_lose_no_answer(review: Review) -> None:
    def work(row: int) -> None:
        review.next(3, "green")
        review.record([NewAnswer(str(row), RED, "yes" if row % 10 == 0 else "no")])
        review.refit()
        review.gallery(RED, "rejected")
        review.picture(row, 32)
        assert review.standing(RED).answered >= 1

    rows = range(3, 43)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, rows))
    assert {int(one.id) for one in review.answers.current()} == set(rows)
    assert review.standing(RED).answered == len(rows)
    assert len(review.answers.history()) == len(rows)


def test_answers_travel_as_csv_and_as_tasks(review: Review, out: Path, finished: Path, tmp_path: Path) -> None:
    answer(review, RED, 12)
    review.record([NewAnswer("30", RED, "exemplar"), NewAnswer("31", "green", "exemplar")])
    review.record([NewAnswer("0", RED, "withdrawn"), NewAnswer("31", "green", "withdrawn")])
    review.refit()
    review.export(tmp_path / "answers.csv")
    review.export(tmp_path / "tasks.json")
    assert review.read(tmp_path / "answers.csv") == 0  # nothing in it is new
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == len({one.id for one in review.answers.current()})
    with Review.open(Path(shutil.copytree(finished, tmp_path / "other"))) as other:
        assert other.read(tmp_path / "answers.csv") == len(review.answers.current()) - 1  # 31 is no exemplar there
        for label in review.classes:
            assert other.standing(label).answered == review.standing(label).answered
            assert other.exemplars(label) == review.exemplars(label)
        assert other.gallery(RED, "found", count=999) == review.gallery(RED, "found", count=999)


def test_a_csv_of_wrong_lines_alone_is_refused(review: Review, tmp_path: Path) -> None:
    lines = ("5000,red,yes", "5,purple,yes", "1,red,exemplar", "9999,red,withdrawn")
    (tmp_path / "a.csv").write_text("\n".join(["id,class,answer", *lines]) + "\n")
    with pytest.raises(AnswersError, match=r"none of the answers can be.*line 2: .*; line 3: .*; line 5: .*; line 4: "):
        review.read(tmp_path / "a.csv")
    assert review.version == 0


def test_a_form_comes_back_with_answers(review: Review, tmp_path: Path) -> None:
    lines = list(review.form(5, review.classes))
    rows = list(csv.DictReader(lines))
    assert len(rows) == 15
    assert {row["class"] for row in rows} == set(review.classes)
    filled = [f"{line.split(',')[0]},{line.split(',')[1]},yes" for line in lines[1:6]]
    (tmp_path / "form.csv").write_text("\n".join([lines[0], *filled, *lines[6:]]) + "\n")
    assert review.read(tmp_path / "form.csv", who="ann") == 5
    assert {one.who for one in review.answers.current()} == {"ann"}
    assert [one.id for one in review.answers.current()] == [row["id"] for row in rows[:5]]


def test_exemplars_that_leave_a_class_empty_can_be_taken_back(data: Path, job: Job) -> None:
    run(job(test_set=None), data / "out")
    with Review.open(data / "out") as review:
        review.record([NewAnswer("6", RED, "exemplar")])
        review.record([NewAnswer("0", RED, "withdrawn")], act="odd")
        review.refit()
        assert review.standing(RED).found <= 1
    with Review.open(data / "out") as again:
        assert again.undo("odd")
        again.refit()
        assert again.standing(RED).found > 10


def test_other_thresholds_than_the_first_are_kept_when_exemplars_change(data: Path, job: Job) -> None:
    chosen = run(job(test_set=None, thresholds=[0.999999, 0.9]), data / "out")
    assert chosen.chosen.threshold == 0.9
    with Review.open(data / "out") as review:
        found = review.standing(RED).found
        review.record([NewAnswer("10", RED, "exemplar")])
        review.refit()
        assert found - 1 <= review.standing(RED).found <= found + 5


def test_exemplars_from_outside_the_pool_are_withdrawn_by_their_path(
    data: Path, job: Job, monkeypatch: pytest.MonkeyPatch, picture: Picture
) -> None:
    Image.fromarray(picture(500)).save(data / "red.png")
    monkeypatch.chdir(data)
    given = job(test_set=None, exemplars={"red": ["./red.png"], "green": ["1"], "blue": ["2"]})
    run(given, data / "out")
    with Review.open(data / "out") as review:
        path = str(data / "red.png")
        assert [(one.name, one.row) for one in review.exemplars(RED)] == [(path, None)]
        review.record([NewAnswer("10", RED, "exemplar")])
        review.record([NewAnswer(path, RED, "withdrawn")], act="file")
        review.refit()
        review.apply()
        assert [one.name for one in review.exemplars(RED)] == ["10"]
        assert "red.png" not in str(Classifier.load(data / "out").exemplar_names_)
        review.undo("file")
        with pytest.raises(AnswersError, match="do the run again"):
            review.refit()
    run(Settings.load(data / "out" / "holotype.toml"), data / "out", resume=True)
    with Review.open(data / "out") as again:
        assert [one.name for one in again.exemplars(RED)] == [path, "10"]


def test_a_run_without_a_start_says_what_to_do(out: Path, tmp_path: Path) -> None:
    shutil.rmtree(out / "review")
    with pytest.raises(AnswersError, match="do the run again"):
        Review.open(out)
    assert not (out / "answers.db").exists()
    with pytest.raises(HolotypeError, match="there is no such file"):
        Review.open(tmp_path / "nothing")


def test_answers_of_another_program_are_refused(out: Path) -> None:
    (out / "answers.db").write_bytes(b"no database" * 100)
    with pytest.raises(AnswersError, match="no SQLite database"):
        Review.open(out)


def test_pictures_are_kept_while_there_is_room_and_until_the_review_is_closed(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    review = Review.open(out)
    sizes = [len(review.picture(row, 32)) for row in (3, 4, 5)]
    assert all(review.pictures.kept(row, 32) for row in (3, 4, 5))
    assert review.pictures.draw(3, 32) is review.pictures.kept(3, 32)
    monkeypatch.setattr(pictures, "KEPT", sum(sizes))
    review.picture(6, 32)
    assert review.pictures.kept(4, 32) is None  # the longest unused
    assert review.pictures.kept(6, 32) is not None
    review.close()
    assert review.pictures.kept(6, 32) is None


def test_a_form_of_an_unknown_class_has_no_header_either(out: Path) -> None:
    with Review.open(out) as review, pytest.raises(AnswersError, match="expected one of the classes"):
        next(review.form(1, [RED, "rde"]))
