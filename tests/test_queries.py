"""The questions: none twice, none in vain, and a third of them an audit that strategies have no say in."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from reviewer import THREADS, Known, Reviewer, plant, tell

from holotype.answers.audit import audit_order, permanent_random_numbers
from holotype.answers.feedback import Correction, Expectation, FeedbackData, Logits, learn
from holotype.answers.opinion import second_opinion
from holotype.answers.refine import exemplar_logits
from holotype.encoders.encode import l2_normalize
from holotype.review.queries import (
    FIRST_ANSWERS,
    AnswerTally,
    DiverseUncertainty,
    MostLikely,
    PageOfBoth,
    QueryContext,
    Random,
    Seen,
    Strategy,
    UncertaintySampling,
    choose_together,
    next_queries,
)

STRATEGIES: list[Strategy] = [Random(), UncertaintySampling(), MostLikely(), DiverseUncertainty(), PageOfBoth()]
N = 500
VECTORS = l2_normalize(np.random.default_rng(0).normal(size=(N, 16)))
LOT = permanent_random_numbers(N, "pool")


def view(free: NDArray[np.bool_] | None = None, logits: NDArray[np.float64] | None = None) -> QueryContext:
    sure = np.linspace(6, -8, N) if logits is None else logits
    vectors, anywhere = VECTORS.astype(np.float16), np.ones(N, bool)
    return QueryContext(vectors, sure, anywhere if free is None else free, Seen(vectors, VECTORS[:1]))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n", [0, 1, 7, 2000])
def test_every_strategy_chooses_free_rows_once_and_no_more_than_asked(strategy: Strategy, n: int) -> None:
    free = np.zeros(N, bool)
    free[::3] = True
    for here in (free, ~free, np.zeros(N, bool)):
        chosen = strategy.choose(view(here), n)
        assert len(chosen) == len(set(chosen)) <= n
        assert all(type(row) is int and here[row] for row in chosen)
        assert len(chosen) == min(n, int(here.sum()))  # of 400 and more, a strategy need not choose all
        assert strategy.choose(view(here), n) == chosen


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_and_extreme_logits_are_chosen_from_too(strategy: Strategy) -> None:
    for logits in (np.zeros(N), np.full(N, -9.0), np.where(np.arange(N) % 2, 1e9, -1e9)):
        chosen = strategy.choose(view(logits=logits), 10)
        assert len(set(chosen)) == 10


def test_strategies_choose_what_they_say() -> None:
    logits = np.linspace(6, -8, N)
    assert MostLikely().choose(view(), 5) == [0, 1, 2, 3, 4]
    assert np.abs(logits[UncertaintySampling().choose(view(), 5)]).max() < 0.1
    assert len(set(Random(1).choose(view(), 20)) & set(Random(2).choose(view(), 20))) < 10


@pytest.mark.parametrize("others", [-9.0, -3.5])  # of which 500 come to 15 images
def test_a_tiny_class_is_walked_from_the_top(others: float) -> None:
    few = np.full(N, others)
    few[100:109] = 3.0 - 0.5 * np.arange(9)
    assert DiverseUncertainty().choose(view(logits=few), 12)[:9] == list(range(100, 109))


def test_a_page_shows_the_most_likely_and_a_part_of_the_candidates_that_resembles_nothing_known() -> None:
    rng = np.random.default_rng(3)
    near, far = (l2_normalize(rng.normal(size=(1, 16)) + 0.1 * rng.normal(size=(100, 16))) for _ in range(2))
    vectors = np.concatenate([near, far, VECTORS[:300]])  # an island that is known, one that is not, and others
    logits = np.concatenate([np.linspace(4, 2, 100), np.full(100, -3.0), np.full(300, -5.0)])
    context = QueryContext(vectors, logits, np.ones(N, bool), Seen(vectors, near[:1]))
    page = PageOfBoth().choose(context, 24)
    assert page[:12] == list(range(12))
    assert set(page[12:]) & set(range(100, 200)), "the island is on the page, behind 88 likelier images"
    assert len(set(page[12:]) & set(range(100))) < 4, "what looks like the first half is not shown again"


def test_a_page_follows_a_second_opinion_too() -> None:
    """Half of what is likely is what the estimate says, half what only the second opinion does."""
    opinion = np.where(np.arange(N) < 300, 0.0, np.linspace(0, 1, N)).astype(np.float32)
    context = replace(view(), opinion=lambda: opinion)
    page = PageOfBoth().choose(context, 24)
    assert sorted(page[:12]) == [*range(6), *range(N - 6, N)]
    free = np.ones(N, bool)
    free[[0, N - 1]] = False
    assert sorted(PageOfBoth().choose(replace(context, free=free), 24)[:12]) == [*range(1, 7), *range(N - 7, N - 1)]


def test_a_second_opinion_is_learnt_from_what_is_known() -> None:
    rng = np.random.default_rng(3)
    island = l2_normalize(rng.normal(size=(1, 16)) + 0.1 * rng.normal(size=(50, 16)))
    vectors = np.concatenate([island, VECTORS]).astype(np.float16)
    said = second_opinion(vectors, [0, 1], [60], np.arange(len(vectors)))
    assert said is not None
    assert set(np.argsort(-said)[:50].tolist()) == set(range(50))
    assert second_opinion(vectors, [], [60], np.arange(len(vectors))) is None
    assert second_opinion(vectors, [0], [], np.array([0])) is None


def test_what_was_just_chosen_is_not_asked_about_again_in_other_copies() -> None:
    twins = np.concatenate([np.repeat(VECTORS[:50], 6, axis=0), VECTORS[:200]])
    seen = QueryContext(twins, np.full(N, 0.0), np.ones(N, bool), Seen(twins, VECTORS[400:401]))
    chosen = DiverseUncertainty().choose(seen, 20)
    assert len(np.unique(twins[chosen], axis=0)) == 20


def test_how_near_an_image_is_to_what_is_known_does_not_depend_on_when_that_was_asked() -> None:
    random, known = np.random.default_rng(0), list[int]()
    kept = Seen(VECTORS, VECTORS[:2])
    for step in range(30):
        known = known[:-3] if step % 10 == 9 else [*known, *random.integers(2, N, 3).tolist()]
        rows = random.permutation(N)[:40]
        kept.follow(known)
        new = Seen(VECTORS, VECTORS[:2])
        new.follow(known)
        assert len(kept) == len(new) == 2 + len(set(known))
        right = np.clip((VECTORS[rows] @ VECTORS[[0, 1, *known]].T).max(axis=1), 0, 1)
        assert np.allclose(kept.nearest(rows), right, atol=1e-6)
        assert np.allclose(new.nearest(rows), right, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 5, 12])
def test_in_the_long_run_a_third_is_audited_and_nothing_at_first(batch: int) -> None:
    sampled, known, audits = np.arange(300), set[int](), list[bool]()
    while len(audits) < 240:
        free = np.ones(N, bool)
        free[list(known)] = False
        done = AnswerTally(len(audits), sum(audits))
        asked = next_queries(view(free), DiverseUncertainty(), batch, done, sampled, LOT, known)
        assert len(asked) == batch
        assert not {one.row for one in asked} & known
        known |= {one.row for one in asked}
        audits += [one.audit for one in asked]
    assert not any(audits[:FIRST_ANSWERS])
    assert sum(audits) == pytest.approx(80, abs=3)
    assert sum(audits[120:]) == pytest.approx(40, abs=4)


@pytest.mark.parametrize("holds", [1, 6, 300])
def test_a_class_of_any_size_is_learnt_from_before_it_is_audited(holds: int) -> None:
    for done in range(FIRST_ANSWERS):
        assert not next_queries(view(), DiverseUncertainty(), 1, AnswerTally(done, 0), np.arange(holds), LOT, set())[
            0
        ].audit
    tally = AnswerTally(FIRST_ANSWERS, 0)
    assert next_queries(view(), DiverseUncertainty(), 1, tally, np.arange(holds), LOT, set())[0].audit


def test_audits_are_the_next_of_the_draw_whatever_the_strategy() -> None:
    sampled, known = np.arange(0, 400, 2), {4, 8}
    waiting = [row for row in audit_order(sampled, LOT).tolist() if row not in known]
    for strategy in STRATEGIES:
        free = np.ones(N, bool)
        free[list(known)] = False
        asked = next_queries(view(free), strategy, 12, AnswerTally(60, 10), sampled, LOT, known)
        audits = [one.row for one in asked if one.audit]
        assert audits == waiting[: len(audits)]
        assert len(audits) == 6
        assert len({one.row for one in asked}) == 12


def test_when_less_is_left_than_asked_for_all_of_it_is_asked_about_once() -> None:
    for left in (0, 1, 5, 30):
        free = np.arange(N) < left
        asked = next_queries(
            view(free), DiverseUncertainty(), 100, AnswerTally(40, 5), np.arange(200), LOT, set(range(left, N))
        )
        assert sorted(one.row for one in asked) == list(range(left))


def test_without_a_set_to_sample_nothing_is_an_audit() -> None:
    asked = next_queries(view(), MostLikely(), 10, AnswerTally(90, 0), np.empty(0, np.int64), LOT, set())
    assert [one.row for one in asked] == list(range(10))
    assert not any(one.audit for one in asked)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_whole_review_asks_nothing_twice_and_nothing_about_exemplars(strategy: Strategy) -> None:
    known = plant(others=300)
    reviewer = Reviewer(known, strategy)
    for turn in range(12):
        reviewer.review(turn % 2, 5)
    for label in known.classes:
        asked = [one.id for one in reviewer.answers if one.label == label]
        assert len(asked) == len(set(asked)) == 30
        assert not set(asked) & {str(row) for row in known.start.exemplar_rows}
    for number, one in enumerate(reviewer.answers):  # what shows one class is not asked about for another afterwards
        earlier = reviewer.answers[:number]
        assert not [two for two in earlier if (two.id, two.verdict) == (one.id, "yes") and two.label != one.label]


class Learnt(Expectation):
    """Expects by learning all anew, as when the answers are given, but for the correction; notes on how many cores."""

    def __init__(
        self, known: Known, data: FeedbackData, correction: Correction, cores: set[int], among: NDArray[np.int64]
    ) -> None:
        self.known, self.data, self.correction, self.cores, self.among = known, data, correction, cores, among

    def logits(self, rows: Sequence[int], yes: Sequence[bool]) -> Logits:
        self.cores |= {one["num_threads"] for one in THREADS.info() if one["user_api"] == "blas"}
        answered = replace(self.data, rows=np.append(self.data.rows, rows), yes=np.append(self.data.yes, yes))
        prior = exemplar_logits(self.known.start.groups)[0][:, 0]
        learnt = learn(self.known.start.vectors, prior, answered)
        plain = (learnt.untrusted_logits[self.among] - learnt.correction.shift) / learnt.correction.slope
        return self.correction.of(plain)


@pytest.mark.parametrize("answered", [10, 30])
def test_questions_asked_together_follow_what_would_be_learnt_and_are_chosen_on_one_core(answered: int) -> None:
    known = plant()
    members, others = np.flatnonzero(known.truth == 0)[1:6].tolist(), np.flatnonzero(known.truth == 2)[:5].tolist()
    refined = tell(known, *((row, "class 0", "yes") for row in members), *((row, "class 0", "no") for row in others))
    context = QueryContext.of(known.start, refined, 0, {*members, *others}, ())
    exemplars, rows = known.start.exemplars, np.array([*members, *others])
    data, cores = FeedbackData(exemplars[0], exemplars[1], rows, np.arange(10) < 5), set[int]()
    anew = replace(context, expect=partial(Learnt, known, data, refined.models[0].correction, cores))
    asked = choose_together(DiverseUncertainty(), context, 24, answered)
    assert asked == choose_together(DiverseUncertainty(), anew, 24, answered)
    assert asked != DiverseUncertainty().choose(context, 24)
    assert cores == {1}
