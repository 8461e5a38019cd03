"""The audit's promise: what it says holds at the least, holds in 95 of 100 reviews."""

import numpy as np
import pytest
from numpy.typing import NDArray
from reviewer import Reviewer, learn_from, plant
from scipy.stats import beta, binom, chisquare, nbinom

from holotype.answers.audit import CONFIDENCE, Audit, audit, audit_order, lower_bound, permanent_random_numbers

MISSES = 1 - CONFIDENCE


def most_misses(runs: int) -> int:
    """What a true rate of 5 % is above in one of a thousand tests."""
    return int(binom.ppf(0.999, runs, MISSES))


@pytest.mark.parametrize(("asked", "bound"), [(20, 0.861), (30, 0.905), (50, 0.942)])
def test_all_yes_has_the_bounds_of_the_tables(asked: int, bound: float) -> None:
    assert lower_bound(asked, asked) == pytest.approx(bound, abs=5e-4)
    assert lower_bound(asked, asked) == pytest.approx(MISSES ** (1 / asked))


@pytest.mark.parametrize(("yes", "asked"), [(1, 1), (1, 30), (17, 20), (29, 30), (49, 50), (500, 700)])
def test_at_the_bound_so_many_yes_have_a_chance_of_exactly_5_percent(yes: int, asked: int) -> None:
    assert binom.sf(yes - 1, asked, lower_bound(yes, asked)) == pytest.approx(MISSES, rel=1e-6)


def test_without_a_yes_or_without_a_sample_nothing_is_promised() -> None:
    assert lower_bound(0, 12) == 0
    assert (Audit(0, 0, 40).low, Audit(0, 0, 40).precision) == (None, None)
    assert Audit(4, 3, 40).precision == 0.75
    assert audit(np.empty(0, np.int64), np.empty(0), {}, ()) == Audit(0, 0, 0)


@pytest.mark.parametrize(
    ("size", "precision", "asked"), [(40, 0.75, 10), (300, 0.9, 20), (1000, 0.5, 30), (25, 0.96, 25)]
)
def test_the_bound_covers_where_the_set_stays_as_it_is(size: int, precision: float, asked: int) -> None:
    runs, true = 800, np.arange(size) < round(precision * size)
    rows = np.arange(size)
    missed = 0
    for run in range(runs):
        lot = permanent_random_numbers(size, f"{run}")
        known = {row: bool(true[row]) for row in audit_order(rows, lot)[:asked].tolist()}
        found = audit(rows, lot, known, known)
        assert (found.asked, found.among) == (asked, size)
        missed += lower_bound(found.yes, found.asked) > true.mean()
    assert missed <= most_misses(runs)


@pytest.mark.parametrize("asked", [1, 2, 5, 20])
@pytest.mark.parametrize("known", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("precision", [0.0, 0.5, 0.9, 0.98])
def test_that_the_sample_ends_with_what_was_audited_costs_no_coverage(
    asked: int, known: float, precision: float
) -> None:
    """Of a large set a share is `known` to be right, as it was learnt from; `asked` of the others were audited."""
    right = known + (1 - known) * precision
    lengths = np.arange(3000)
    chance = nbinom.pmf(lengths, asked, 1 - known)  # of so many known images before the last that was audited
    missed = 0.0
    for wrong in range(asked + 1):
        yes, total = lengths + asked - wrong, lengths + asked
        bound = np.where(yes > 0, beta.ppf(MISSES, np.maximum(yes, 1), total - np.maximum(yes, 1) + 1), 0)
        missed += binom.pmf(wrong, asked, 1 - precision) * chance[bound > right].sum()
    assert missed <= MISSES


def test_what_was_learnt_from_counts_only_where_the_sample_goes_on_behind_it() -> None:
    rows, lot = np.arange(6), np.arange(6) / 6
    known = {0: False, 1: True, 2: True, 3: True, 5: True}
    assert audit(rows, lot, known, {0}) == Audit(1, 0, 6)
    assert audit(rows, lot, known, {0, 2}) == Audit(3, 2, 6)
    assert audit(rows, lot, known, {0, 2, 5}) == Audit(3, 2, 6, 1, 1)  # nobody was asked about 4
    assert audit(rows, lot, known, ()) == Audit(0, 0, 6)


def test_the_order_of_the_audit_depends_on_the_pool_only() -> None:
    assert np.array_equal(permanent_random_numbers(50, "pool"), permanent_random_numbers(50, "pool"))
    assert not np.array_equal(permanent_random_numbers(50, "pool"), permanent_random_numbers(50, "other"))
    lot = permanent_random_numbers(1000, "pool")
    assert len(np.unique(lot)) == 1000
    assert (lot >= 0).all()
    assert (lot < 1).all()


def test_as_the_set_changes_answers_stay_in_use_and_in_order() -> None:
    rng = np.random.default_rng(0)
    lot = permanent_random_numbers(400, "pool")
    rows = np.sort(rng.permutation(400)[:200])
    known = dict.fromkeys(audit_order(rows, lot)[:30].tolist(), True)
    for _ in range(50):
        left, joined = rng.random(400) < 0.1, rng.random(400) < 0.02
        changed = np.flatnonzero((np.isin(np.arange(400), rows) & ~left) | joined)
        stay = np.intersect1d(rows, changed)
        before, after = audit_order(rows, lot), audit_order(changed, lot)
        assert np.array_equal(before[np.isin(before, stay)], after[np.isin(after, stay)])
        sample = audit(changed, lot, known, known)
        asked = after[: sample.asked].tolist()
        assert set(asked) <= set(known)
        assert len(after) == sample.asked or int(after[sample.asked]) not in known
        kept = np.isin(before[: audit(rows, lot, known, known).asked], stay).sum()
        assert audit(stay, lot, known, known).asked >= kept
        # the next question is the one that makes the sample longer
        known |= dict.fromkeys(after[sample.asked : sample.asked + 3].tolist(), True)
        assert audit(changed, lot, known, known).asked >= min(sample.asked + 3, len(changed))
        rows = changed


@pytest.mark.parametrize("rows", [np.arange(12), np.arange(4, 20), np.array([3, 17])])
def test_each_image_of_a_set_is_equally_likely_to_be_audited_first_whatever_the_set_was_before(
    rows: NDArray[np.int64],
) -> None:
    found = np.zeros(20, np.int64)
    for key in range(4000):
        found[audit_order(rows, permanent_random_numbers(20, f"{key}"))[0]] += 1
    assert found.sum() == found[rows].sum()
    assert chisquare(found[rows]).pvalue > 1e-4


def test_the_bound_covers_over_whole_reviews_in_which_the_set_follows_the_answers() -> None:
    """40 answers in three rounds; what a class holds changes with each, and the bound is one on what it holds then.

    Too many misses, of 200, are those that a true rate of 5 % would be above in one of a thousand tests.
    """
    runs, missed, asked, moved, precisions = 200, 0, [], 0, []
    for run in range(runs):
        known = plant(run, sizes=(50,), others=1000, noise=1.2, threshold=0.35)
        reviewer = Reviewer(known)
        before = reviewer.taught.sampled[0]
        for n in (20, 10, 10):
            reviewer.review(0, n)
        taught = reviewer.taught
        true = float((known.truth[taught.sampled[0]] == 0).mean())
        missed += (taught.audits[0].low or 0) > true
        asked.append(taught.audits[0].asked)
        precisions.append(true)
        moved += not np.array_equal(before, taught.sampled[0])
        if run < 20:
            without = learn_from(known, [one for one in reviewer.answers if not one.audit])
            assert np.array_equal(without.logits, taught.logits)
            assert np.array_equal(without.sampled[0], taught.sampled[0])
    assert missed <= most_misses(runs)
    assert moved > 0.9 * runs
    assert np.mean(asked) > 2
    assert 0.3 < np.mean(precisions) < 0.97


def test_audits_behind_a_gap_wait_and_say_for_how_many() -> None:
    rows, numbers = np.arange(8), np.arange(8) / 8
    known = dict.fromkeys((0, 1, 4, 5, 7), True)
    assert audit(rows, numbers, known, {0, 1, 4, 5}) == Audit(2, 2, 8, waiting=2, missing=2)
    assert audit(rows, numbers, known, {0, 1, 4, 5, 7}) == Audit(2, 2, 8, waiting=3, missing=3)
    assert (
        audit(rows, numbers, known, {0, 1, 4, 5, 7}).needs
        == "3 answered, which count once 3 images before them have an answer too"
    )
    closed = audit(rows, numbers, known | dict.fromkeys((2, 3, 6), False), {0, 1, 4, 5, 7})
    assert (closed, closed.needs, closed.whole) == (Audit(8, 5, 8), "", True)


def test_grids_of_which_a_part_is_marked_lengthen_the_sample() -> None:
    """What was passed over is asked again where the sample ends; he marks about two of three at a time."""
    turns = np.random.default_rng(0)
    reviewer = Reviewer(plant(sizes=(150, 30), others=600))
    reviewer.review(0, 20)
    asked = []
    for _ in range(3):
        reviewer.review_grids(0, 3, lambda _: turns.random() < 2 / 3)
        asked.append(reviewer.taught.audits[0].asked)
    audited = sum(one.audit for one in reviewer.answers)
    found = reviewer.taught.audits[0]
    assert asked[0] < asked[-1]
    assert found.asked >= audited / 2
    assert found.low is not None
    assert found.low > 0.8
