"""The recall of what is promised is an estimate, and its interval holds as often as it says."""

import numpy as np
import pytest
from scipy.stats import binom

from holotype.answers.certify import Look, TopSet
from holotype.answers.recall import asked_of, estimate_recall, strata
from holotype.model.promises import RecallEstimate

ROWS = np.arange(3000)


def test_the_others_are_those_near_and_the_rest_each_in_the_order_of_the_draw() -> None:
    chance = np.append(np.full(100, 0.5), np.full(2900, 1e-4))
    numbers = np.random.default_rng(0).random(3000)
    near, rest = strata(ROWS, chance, numbers)
    assert (len(near), len(rest)) == (91, 2909)
    assert (near < 100).all()
    assert (np.diff(numbers[near]) > 0).all()
    assert (np.diff(numbers[rest]) > 0).all()
    assert strata(ROWS[:0], chance[:0], numbers) == []
    assert [len(one) for one in asked_of([near, rest], 60)] == [30, 30]
    assert [len(one) for one in asked_of([near[:5], rest], 60)] == [5, 55]
    assert [len(one) for one in asked_of([near, rest], 10**9)] == [91, 2909]


def test_it_is_there_when_all_is_answered() -> None:
    reached = Look(TopSet(0.5, ROWS[:50]), 50, 50)
    parts = [ROWS[50:60], ROWS[60:100]]
    samples = [ROWS[50:60].tolist(), ROWS[60:70].tolist()]
    known = dict.fromkeys(range(50, 69), False)
    assert estimate_recall(reached, parts, samples, known, 0.95) is None
    found = estimate_recall(reached, parts, samples, known | {69: False}, 0.95)
    assert found is not None
    assert (found.value, found.high, found.asked) == (1.0, 1.0, 20)
    assert 0.6 < found.low < 0.8
    whole = [one.tolist() for one in parts]
    all_known = estimate_recall(reached, parts, whole, dict.fromkeys(range(50, 100), False) | {55: True}, 0.95)
    assert all_known is not None
    assert all_known.value == all_known.low == all_known.high == pytest.approx(50 / 51)


def test_the_true_recall_is_within_the_interval_95_times_of_100() -> None:
    rng, runs, outside = np.random.default_rng(0), 400, 0
    for _ in range(runs):
        truth = rng.random(3000) < np.append(np.full(200, 0.97), np.linspace(0.5, 0.0, 2800) ** 4)
        chance = np.append(np.full(200, 0.9), np.linspace(0.5, 0.01, 2800))
        numbers = rng.random(3000)
        top = TopSet(0.9, np.argsort(numbers[:200]))
        reached = Look(top, 60, int(truth[top.rows[:60]].sum()))
        parts = strata(ROWS[200:], chance[200:], numbers)
        samples = asked_of(parts, 100)
        known = {row: bool(truth[row]) for rows in samples for row in rows}
        found = estimate_recall(reached, parts, samples, known, 0.95)
        assert found is not None
        assert found.low <= found.value <= found.high
        outside += not found.low <= truth[:200].sum() / truth.sum() <= found.high
    assert outside <= binom.ppf(0.999, runs, 0.05)


def test_it_is_called_an_estimate_and_a_wide_interval_is_said() -> None:
    narrow, wide = (str(RecallEstimate(value=0.9, low=low, high=0.95, asked=60)) for low in (0.8, 0.3))
    assert narrow.startswith("Estimated, not promised: 90 % of the pool's images of the class")
    assert "80 % to 95 % by 60 answers" in narrow
    assert "that is wide" in wide
    assert "that is wide" not in narrow
