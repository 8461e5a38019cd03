"""Thresholds and groups: every row has a decision and a reason, and no class comes first by its place."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from holotype.grouping.assign import lonely_classes
from holotype.grouping.groups import ClassThreshold, Groups, group, thresholds_for
from holotype.grouping.spread import robust_spread
from holotype.settings import Threshold

Scores = NDArray[np.float32]


def at(*values: float, band: float = 0.1) -> list[ClassThreshold]:
    return [ClassThreshold(value, value - band, "given", False) for value in values]


def table(*rows: list[float]) -> Scores:
    return np.array(rows, np.float32)


def decide(scores: Scores, thresholds: list[ClassThreshold], ambiguity: float = 0.01, **exemplars: int) -> Groups:
    """Exemplars as `r3=0`: row 3, class 0."""
    own = {int(name[1:]): label for name, label in exemplars.items()}
    return group(["a", "b", "c"][: scores.shape[1]], scores, thresholds, own, ambiguity)


def pool(count: int = 2000, seed: int = 0) -> Scores:
    """Two classes of different spread, with a few positives on the right."""
    random = np.random.default_rng(seed)
    scores = random.normal([0.1, 0.4], [0.1, 0.05], (count, 2))
    scores[:20, 0] += 0.7
    scores[20:40, 1] += 0.4
    return np.clip(scores, -1, 1).astype(np.float32)


def test_a_given_threshold_is_taken_as_it_is() -> None:
    for found in thresholds_for(pool(), 0.75, band=2.0):
        assert (found.value, found.basis, found.provisional) == (0.75, "given", False)
    assert [found.doubtful for found in thresholds_for(pool(), 0.75, band=0.0)] == [0.75, 0.75]


def test_the_band_is_in_deviations_of_the_class() -> None:
    scores = pool()
    for column, found in zip(scores.T, thresholds_for(scores, 0.75, band=2.0), strict=True):
        assert found.value - found.doubtful == pytest.approx(2 * robust_spread(column)[1])
    wide, narrow = thresholds_for(scores, 0.75, band=2.0)
    assert wide.doubtful < narrow.doubtful  # the first class spreads more


def test_positives_on_the_right_do_not_move_the_spread_much() -> None:
    null = np.random.default_rng(0).normal(0.2, 0.1, 20_000).astype(np.float32)
    median, deviation = robust_spread(np.concatenate([null, np.full(600, 0.95, np.float32)]))
    assert median == pytest.approx(0.2, abs=0.01)
    assert deviation == pytest.approx(0.1, abs=0.01)


def test_an_automatic_threshold_is_provisional_and_lets_in_a_thousandth_of_a_normal_null() -> None:
    null = np.random.default_rng(0).normal(0.2, [0.05, 0.1], (100_000, 2)).astype(np.float32)
    found = thresholds_for(null, "auto", band=1.0)
    assert found[0].value < found[1].value
    for column, threshold in zip(null.T, found, strict=True):
        assert threshold.provisional
        assert threshold.basis.startswith("provisional: median 0.2")
        assert 60 < (column >= threshold.value).sum() < 140


def test_an_automatic_threshold_lets_in_five_images_at_the_least_and_says_so() -> None:
    even = np.linspace(0.1, 0.2, 100, dtype=np.float32)[:, None]  # no image stands out
    (found,) = thresholds_for(even, "auto", band=1.0)
    assert found.basis == "provisional: the 5 most similar images"
    assert (even >= found.value).sum() == 5
    groups = decide(even, [found])
    assert len(groups.members(0)) == 5


def test_copies_of_the_exemplar_never_need_a_cosine_above_1() -> None:
    copies = np.array([[0.1]] * 30 + [[1.0]] * 8, np.float32)
    (found,) = thresholds_for(copies, "auto", band=1.0)
    assert found.value < 1
    assert len(decide(copies, [found]).members(0)) == 8


def test_fewer_images_than_five_are_enough() -> None:
    scores = table([0.1], [0.3], [0.2])
    (found,) = thresholds_for(scores, "auto", band=1.0)
    assert len(decide(scores, [found]).members(0)) >= 1


def test_images_without_a_vector_do_not_count() -> None:
    scores = pool()
    gaps = np.insert(scores, [0, 5, 5, 700], np.nan, axis=0)
    assert thresholds_for(gaps, "auto", 1.0) == thresholds_for(scores, "auto", 1.0)
    found = decide(gaps, at(0.6, 0.7))
    missing = np.isnan(gaps[:, 0])
    assert (found.decision[missing] == "missing").all()
    assert {found.reason(row) for row in np.flatnonzero(missing).tolist()} == {
        "the image has no vector: it is unreadable"
    }
    kept = np.flatnonzero(~missing)
    assert found.decision[kept].tolist() == decide(scores, at(0.6, 0.7)).decision.tolist()


def test_the_edges_belong_inside() -> None:
    edge = np.float32(0.8)
    under = np.nextafter(edge, np.float32(0))
    scores = np.array([[edge], [under], [0.7], [np.nextafter(np.float32(0.7), np.float32(0))]], np.float32)
    found = decide(scores, [ClassThreshold(float(edge), float(np.float32(0.7)), "given", False)])
    assert found.decision.tolist() == ["member", "doubtful", "doubtful", "background"]


def test_the_class_with_the_greatest_margin_has_it_not_the_greatest_cosine() -> None:
    found = decide(table([0.85, 0.75], [0.9, 0.65], [0.2, 0.75], [0.9, 0.55]), at(0.8, 0.5))
    assert found.decision.tolist() == ["member"] * 4
    assert found.label.tolist() == [1, 1, 1, 0]


def test_two_margins_within_the_ambiguity_are_doubtful_and_the_reason_names_the_other() -> None:
    scores = table([0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9], [0.90, 0.895, 0.1], [0.90, 0.88, 0.1])
    found = decide(scores, at(0.8, 0.8, 0.8), ambiguity=0.01)
    assert found.decision[3:].tolist() == ["doubtful", "member"]
    assert found.reason(3) == "a: cosine 0.900, threshold 0.800; nearly as far above the threshold of b"
    assert decide(scores, at(0.8, 0.8, 0.8), ambiguity=0.03).decision[4] == "doubtful"


def test_equal_margins_are_doubtful_even_without_ambiguity() -> None:
    scores = table([0.9, 0.1], [0.1, 0.9], [0.95, 0.95])
    assert decide(scores, at(0.8, 0.8), ambiguity=0.0).decision.tolist() == ["member", "member", "doubtful"]


@pytest.mark.parametrize("ambiguity", [0.0, 0.01, 0.05])
def test_the_order_of_the_classes_has_no_say(ambiguity: float) -> None:
    random = np.random.default_rng(0)
    scores = random.choice(np.linspace(0.5, 1, 26, dtype=np.float32), (500, 3))  # many ties
    names, thresholds = np.array(["a", "b", "c"]), at(0.8, 0.8, 0.84)

    def answer(order: list[int]) -> list[tuple[str, str]]:
        exemplars = {0: order.index(0), 1: order.index(1), 2: order.index(2)}
        found = group(
            names[order].tolist(), scores[:, order], [thresholds[k] for k in order], exemplars, ambiguity=ambiguity
        )
        held = np.isin(found.decision, ["member", "exemplar"])
        given = np.where(held, names[order][found.label], "")
        return list(zip(found.decision.tolist(), given.tolist(), strict=True))

    first = answer([0, 1, 2])
    assert all(answer(order) == first for order in ([1, 0, 2], [2, 1, 0], [2, 0, 1]))


def test_an_exemplar_keeps_its_class_whatever_its_cosine() -> None:
    scores = table([1.0, 0.95], [0.97, 0.1], [0.1, 0.9], [0.1, 0.2])
    found = decide(scores, at(0.8, 0.8), r0=1)
    assert (found.decision[0], found.label[0]) == ("exemplar", 1)
    assert found.reason(0) == "given as an exemplar of b"
    assert found.members(1).tolist() == [0, 2]
    assert found.members(0).tolist() == [1]


def test_every_row_is_in_one_place_with_a_reason() -> None:
    scores = pool()
    scores[7] = np.nan
    found = decide(scores, thresholds_for(scores, "auto", 1.0), r0=0, r20=1)
    places = [found.members(0), found.members(1), found.background, np.flatnonzero(found.decision == "doubtful")]
    assert sorted(np.concatenate([*places, [7]]).tolist()) == list(range(len(scores)))
    assert all(found.reasons())
    assert len(found.reasons()) == len(scores)


def test_the_reason_names_the_class_whose_band_it_is() -> None:
    thresholds = [ClassThreshold(0.8, 0.79, "given", False), ClassThreshold(0.9, 0.5, "given", False)]
    scores = table([0.9, 0.1], [0.1, 0.95], [0.75, 0.8], [0.795, 0.1])
    found = decide(scores, thresholds)
    assert found.decision.tolist() == ["member", "member", "doubtful", "doubtful"]
    assert found.reason(2) == "a: cosine 0.750, threshold 0.800; within the doubtful band of b"
    assert found.reason(3) == "a: cosine 0.795, threshold 0.800; within the doubtful band of a"


def test_a_group_without_a_member_names_the_nearest_cosine() -> None:
    scores = table([1.0, 0.1], [0.1, 1.0], [0.62, 0.9], [0.5, 0.2])
    why = lonely_classes(decide(scores, at(0.8, 0.8), r0=0, r1=1), {0, 1})
    assert list(why) == ["a"]
    assert "group of 'a': the most similar image has a cosine of 0.620, and the threshold is 0.800; lower" in why["a"]


def test_an_image_that_two_classes_want_fills_neither() -> None:
    why = lonely_classes(decide(table([1.0, 0.1], [0.1, 1.0], [0.9, 0.9]), at(0.8, 0.8), r0=0, r1=1), {0, 1})
    assert "1 of the others are as near to 'b'" in why["a"]
    assert "1 of the others are as near to 'a'" in why["b"]


@pytest.mark.parametrize("threshold", [0.8, "auto"])
def test_a_pool_where_only_the_exemplars_have_vectors(threshold: Threshold) -> None:
    scores = table([1.0], [np.nan], [np.nan])
    for others in (scores[1:], scores[:0]):
        (found,) = thresholds_for(others, threshold, 1.0)
        assert found.value == found.doubtful == (0.9999 if threshold == "auto" else 0.8)


def in_words(found: Groups, row: int, tie: bool) -> str:
    """The reason of one row, told from its numbers the long way."""
    names, cosines, own = found.classes, found.scores[row], found.label[row]
    values = np.array([t.value for t in found.thresholds], np.float32)
    if found.decision[row] == "missing":
        return "the image has no vector: it is unreadable"
    if found.decision[row] == "exemplar":
        return f"given as an exemplar of {names[own]}"
    here = f"{names[own]}: cosine {cosines[own]:.3f}, threshold {values[own]:.3f}"
    if tie:
        others = [names[k] for k in np.flatnonzero(cosines >= values).tolist() if k != own]
        return f"{here}; nearly as far above the threshold of {', '.join(others)}"
    if found.decision[row] == "doubtful":
        inside = np.flatnonzero(cosines >= [t.doubtful for t in found.thresholds]).tolist()
        return f"{here}; within the doubtful band of {', '.join(names[k] for k in inside)}"
    return here


@pytest.mark.parametrize("count", [1, 2, 3])
def test_reasons_are_the_same_read_one_by_one_some_or_all(count: int) -> None:
    scores = np.random.default_rng(count).normal(0.3, 0.2, (25_000, count)).astype(np.float32).round(2)
    scores[::97] = np.nan
    found = decide(scores, at(0.6, 0.6, 0.65)[:count], r0=0, r5=count - 1)
    ties = found.tie
    assert ties.any() == (count > 1)
    assert set(found.decision.tolist()) == {"exemplar", "member", "doubtful", "background", "missing"}
    expected = [in_words(found, row, tie) for row, tie in enumerate(ties.tolist())]
    assert found.reasons() == expected
    some = range(20, 20_000, 37)
    assert found.reasons(some) == [expected[row] for row in some]
    assert [found.reason(row) for row in range(300)] == expected[:300]
    assert found.reasons([]) == []


MILLION = """
import numpy as np
from holotype.grouping.groups import ClassThreshold, group

def megabytes(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what)) / 1024

scores = np.random.default_rng(0).normal(0.2, 0.1, (1_000_000, 3)).astype(np.float32)
before = megabytes("VmRSS")
thresholds = ([ClassThreshold(t, t - 0.1, "given", False)] * 3 for t in (0.6, 0.5))
found = [group(["a", "b", "c"], scores, each, {0: 0}, 0.01) for each in thresholds]
print(megabytes("VmHWM") - before, sum(len(g.decision) for g in found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_million_rows_cost_arrays_and_no_text() -> None:
    done = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=True)
    grown, rows = map(float, done.stdout.split())
    assert rows == 2_000_000
    assert grown < 200  # two groupings of 50 MB each, and what is in use for a moment; 500 as text
