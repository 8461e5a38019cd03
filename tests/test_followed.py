"""Answers that are followed record by record: always the same as when all of them are read anew."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from browser import RED
from conftest import Jpeg, MakeTar

from holotype.answers.database import AnswerDatabase
from holotype.answers.followed import FollowedAnswers
from holotype.answers.index import match_answers
from holotype.answers.log import AnswerLog
from holotype.answers.records import NewAnswer, Verdict
from holotype.errors import AnswersError
from holotype.pool.pool import Pool, open_pool
from holotype.review.review import Review

CLASSES = ["red", "green", "blue"]
VERDICTS: list[Verdict] = ["yes", "no", "unsure", "exemplar", "withdrawn"]


@pytest.fixture
def pool(make_tar: MakeTar, jpeg: Jpeg) -> Pool:
    """Eight images; the last two are copies of the first."""
    return open_pool(make_tar([(f"{i}.jpg", jpeg((20 * (i % 6), 0, 0))) for i in range(8)]))


def some(pool: Pool, random: random.Random) -> NewAnswer:
    """An answer about an image of the pool, maybe by its old name, or about one that is gone, or of the test set."""
    row = random.randrange(8)
    name = random.choice([pool.ids[row], pool.ids[row], "old name", "gone"])
    digest = random.choice(["", pool.digest(row), pool.digest(row), "0" * 64])
    label, verdict = random.choice([*CLASSES, "another class"]), random.choice(VERDICTS)
    return NewAnswer(name, label, verdict, "ann", random.random() < 0.3, None, digest)


@pytest.mark.parametrize("seed", range(8))
def test_followed_answers_are_those_that_are_read_anew(pool: Pool, tmp_path: Path, seed: int) -> None:
    chance, acts = random.Random(seed), list[str]()
    followed = FollowedAnswers(CLASSES, pool, [5])
    with AnswerLog(tmp_path / "answers.db") as log:
        for step in range(50):
            if acts and chance.random() < 0.25:
                log.undo(chance.choice(acts))
            elif chance.random() < 0.2:  # as `holotype suggest` beside an open review does
                new = some(pool, chance)
                log.draw([(new.id, new.label)])
            else:
                try:
                    acts.append(log.record([some(pool, chance) for _ in range(chance.choice([1, 1, 3]))])[0].act)
                except AnswersError:  # some that contradict each other
                    continue
            if step % 3:
                found = followed.follow(log.since(followed.seen), log.drawn_since(followed.seen_drawn))
                assert found == match_answers(log.current(), CLASSES, pool, [5])
                assert found.explain().count(":") == len(found.set_aside)
        found = followed.follow(log.since(followed.seen), log.drawn_since(followed.seen_drawn))
        assert followed.seen == log.version
        assert found == FollowedAnswers(CLASSES, pool, [5]).follow(log.history())


def test_what_a_request_reads_does_not_grow_with_what_was_answered(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, rows = AnswerDatabase.read, list[int]()

    def counted(self: AnswerDatabase, query: str, values: Sequence[str | int | None] = ()) -> list[tuple[object, ...]]:
        found = read(self, query, values)
        rows.append(len(found))
        return found

    def sitting() -> int:
        """Answer, look, learn, take back; return how many rows of the log that needed."""
        row = review.next(1, RED)[0].row
        rows.clear()
        review.record([NewAnswer(str(row), RED, "no")], act=f"about {row}")
        review.next(10, RED)
        review.standing(RED)
        review.refit()
        for look in (review.standing, review.changes, review.exemplars):
            look(RED)
        review.gallery(RED, "found")
        assert review.undo(f"about {row}")
        review.refit()
        review.standing(RED)
        review.next(10, RED)
        return sum(rows)

    monkeypatch.setattr(AnswerDatabase, "read", counted)
    first = sitting()
    for row in range(10, 200):
        review.record([NewAnswer(str(row), RED, "yes" if row % 10 == 0 else "no")])
    review.refit()
    assert sitting() == first
