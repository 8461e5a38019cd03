"""One gate for the rows of a test set: whichever way one becomes an exemplar, nothing is judged on it."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Job
from test_ways_in import WAYS

from holotype import Classifier, Review, open_pool, run
from holotype.answers.records import NewAnswer
from holotype.errors import AnswersError

RED = "red"
TESTED = {30, 31, 32, 40, 41, 33, 34, 35, 36, 37}


def test_no_answer_makes_a_row_of_the_test_set_an_exemplar(data: Path, job: Job) -> None:
    run(job(), data / "out")
    with Review.open(data / "out") as review:
        for way in WAYS.values():
            with pytest.raises(AnswersError, match="30 is of the test set, or nearly the same as one of it"):
                way(review, NewAnswer("30", RED, "exemplar"))
        assert [one.name for one in review.exemplars(RED)] == ["0"]
        assert review.version == 0


def test_a_row_that_was_an_exemplar_before_it_was_a_test_row_is_none_any_more(data: Path, job: Job) -> None:
    run(job(test_set=None), data / "out")
    with Review.open(data / "out") as review:
        review.record([NewAnswer("30", RED, "exemplar")])
        review.record([NewAnswer("50", RED, "exemplar")])
    result = run(job(), data / "out", force=True)
    assert result.answers.to_json() == {
        "applying": 1,
        "set_aside": {"about an image of the test set, or nearly the same": 1},
    }
    assert sorted(Classifier.load(data / "out").exemplar_names_) == ["0", "1", "2", "50"]
    assert "30" not in result.not_counted
    with Review.open(data / "out") as review:
        assert [one.name for one in review.exemplars(RED)] == ["0", "50"]


def by_id(data: Path) -> str:
    return "30"


def by_file(data: Path) -> str:
    pool = open_pool(data / "images.tar")
    (data / "copy.jpg").write_bytes(pool.read(pool.rows["30"]) + b"of the same picture, another file")
    return str(data / "copy.jpg")


@pytest.mark.parametrize(("given", "why"), [(by_id, "an exemplar"), (by_file, "nearly the same as an exemplar")])
def test_a_test_row_that_a_run_is_given_as_an_exemplar_does_not_count_and_that_is_said(
    data: Path, job: Job, given: Callable[[Path], str], why: str
) -> None:
    exemplars = {"red": ["0", given(data)], "green": ["1"], "blue": ["2"]}
    result = run(job(exemplars=exemplars), data / "out")
    assert result.not_counted == {"30": why}
    assert result.evaluation is not None
    assert result.evaluation.confusion.sum() == len(TESTED) - 1
    words = f"1 test rows do not count, as they prove nothing: 30 ({why})"
    assert list(result.summary())[-1] == words
    assert words in (data / "out" / "report.html").read_text()
    with (data / "out" / "predictions.csv").open() as file:
        assert {int(row["id"]) for row in csv.DictReader(file)} == TESTED
