"""What is said of a class under review: where it stands, and what its audits wait for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from reviewer import answer

from holotype.answers.records import NewAnswer
from holotype.review.review import Review

RED = "red"


@pytest.fixture
def review(out: Path) -> Iterator[Review]:
    with Review.open(out) as opened:
        yield opened


def test_the_summary_says_where_each_class_stands(review: Review) -> None:
    first = next(review.summary())
    assert "found, at least 1 in the pool; strong, by how its images are connected" in first
    assert first.endswith("; precision not known yet")
    for _ in range(6):
        answer(review, RED, 10)
    standing, lines = review.standing(RED), list(review.summary())
    assert [line.partition(":")[0] for line in lines] == review.classes
    assert lines[0].startswith("red: 60 answers")
    if standing.whole:
        assert standing.precision == 1.0
        assert lines[0].endswith("; all that was found was looked at; others may be missing")
    elif standing.precision_low is not None:
        assert f"({standing.audited_yes} of {standing.audited} audited)" in lines[0]


def test_audits_that_wait_say_for_how_many(review: Review) -> None:
    for _ in range(2):
        answer(review, RED, 10)
    drawn = [one for one in review.next(24, RED) if one.audit]
    review.record([NewAnswer(one.id, RED, "yes" if int(one.id) % 10 == 0 else "no", audit=True) for one in drawn[2:]])
    review.refit()
    needs = f"{len(drawn) - 2} answered, which count once 2 images before them have an answer too"
    assert review.standing(RED).audit_needs == needs
    assert next(review.summary()).endswith(f"; audits: {needs}")
    passed = {one.row for one in drawn[:2]}
    again = review.next(24, RED, passed=passed)
    assert [one.row for one in again if one.audit] == [one.row for one in drawn[:2]]
    assert passed.isdisjoint(one.row for one in review.next(24, RED, exclude=passed))
    review.record([NewAnswer(one.id, RED, "yes", audit=True) for one in drawn[:2]])
    review.refit()
    assert review.standing(RED).audit_needs == ""
    assert review.standing(RED).audited >= len(drawn)
