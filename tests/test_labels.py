"""What a row is learnt as: what nobody answered is as sure as the groups are, and what people said is certain."""

from collections.abc import Sequence

import numpy as np
import pytest

from holotype.grouping.groups import ClassThreshold, Groups, ScoreKind
from holotype.model.rows import PoolLabels, Training

CLASSES = ["a", "b"]
Row = tuple[str, int, list[float]]  # decision, class, scores


def groups(rows: Sequence[Row], kind: ScoreKind = "estimate") -> Groups:
    thresholds = [ClassThreshold(0.5, 0.25, "given", False)] * 2
    decision, label, scores = zip(*rows, strict=True)
    count = len(rows)
    return Groups(
        CLASSES,
        np.array(scores, np.float32),
        np.array(label),
        np.array(decision, dtype="<U10"),
        thresholds,
        np.zeros(count, bool),
        np.zeros(count, np.int8),
        kind,
    )


def labels(
    rows: Sequence[Row],
    answered: Sequence[int] = (),
    denied: Sequence[Sequence[int]] = (),
    kind: ScoreKind = "estimate",
) -> PoolLabels:
    each = [np.array(one, np.int64) for one in denied]
    return PoolLabels(groups(rows, kind), np.array(answered, np.int64), each)


def targets(found: PoolLabels) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in found.targets(np.arange(len(found.groups.decision))).tolist()]


GUESSED: list[Row] = [
    ("exemplar", 0, [0.3, 0.0]),
    ("member", 0, [0.6, 0.1]),
    ("doubtful", 0, [0.3, 0.2]),
    ("background", 1, [0.0, 0.15]),
    ("background", 0, [0.01, 0.015]),  # so little is nothing
    ("member", 1, [0.9, 0.9]),
    ("missing", 0, [np.nan, np.nan]),
]


def test_what_nobody_answered_is_as_sure_as_the_estimate() -> None:
    """What may show a class is no example of "none", whatever the groups decided."""
    assert targets(labels(GUESSED))[:-1] == [
        [1, 0, 0],
        [0.6, 0.1, 0.3],
        [0.3, 0.2, 0.5],
        [0, 0.15, 0.85],
        [0, 0, 1],
        [0.5, 0.5, 0],
    ]
    assert np.isnan(targets(labels(GUESSED))[-1]).all()


def test_what_people_said_is_certain_whatever_was_estimated() -> None:
    """Row 1 was said to show b, 2 to show a; 3 and 5 to show neither."""
    rows = list(GUESSED)
    rows[1], rows[2], rows[5] = ("member", 1, [0.6, 0.1]), ("member", 0, [0.3, 0.2]), ("background", 1, [0.9, 0.9])
    found = targets(labels(rows, answered=[1, 2, 3, 5], denied=[[3, 5], [3, 5]]))
    assert [found[row] for row in (1, 2, 3, 5)] == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert found[0] == [1, 0, 0]  # an exemplar needs no answer


def test_what_was_said_of_a_class_is_yes_or_no_and_yes_to_another_says_nothing_of_it() -> None:
    """Row 1 was said to show b, which is "no" to a; 2 not to show a, 3 neither; 5 and 6 are what the groups say."""
    rows: list[Row] = [*GUESSED[:1], ("member", 1, [0.6, 0.1]), *GUESSED[2:]]
    found = labels(rows, answered=[1, 3], denied=[[1, 2, 3], [3]]).said(np.arange(7))
    assert found[:, 0].tolist() == [True, False, True, True, False, False, False]
    assert found[:, 1].tolist() == [False, True, False, True, False, False, False]
    assert not labels(rows).said(np.arange(1, 7)).any()


def test_a_class_that_was_denied_is_not_shown_and_another_may_be() -> None:
    rows: list[Row] = [("background", 0, [0.6, 0.3]), ("member", 1, [0.6, 0.8]), ("background", 0, [0.6, 0.0])]
    assert targets(labels(rows, answered=[0, 2], denied=[[0, 1, 2], []])) == [[0, 0.3, 0.7], [0, 0.8, 0.2], [0, 0, 1]]
    assert targets(labels(rows, answered=[1], denied=[[0, 1, 2], []]))[1] == [0, 1, 0]  # denied a, and said to show b


def test_an_answer_that_leaves_two_classes_open_is_not_learnt_from() -> None:
    rows: list[Row] = [("doubtful", 0, [0.6, 0.3]), ("doubtful", 0, [0.6, 0.3])]
    found = targets(labels(rows, answered=[0]))
    assert np.isnan(found[0]).all()
    assert found[1] == [0.6, 0.3, 0.1]


def test_where_a_cosine_decides_nothing_is_estimated_and_the_doubtful_are_left_out() -> None:
    rows: list[Row] = [
        ("exemplar", 0, [1, 0.2]),
        ("member", 1, [0.1, 0.7]),
        ("doubtful", 0, [0.4, 0.1]),
        ("background", 0, [0.2, 0.1]),
        ("missing", 0, [np.nan, np.nan]),
    ]
    found = targets(labels(rows, kind="cosine"))
    assert [found[row] for row in (0, 1, 3)] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert np.isnan([found[2], found[4]]).all()


@pytest.mark.parametrize("seed", range(5))
def test_targets_are_probabilities(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows: list[Row] = [
        (str(random.choice(["member", "doubtful", "background", "exemplar"])), int(random.integers(2)), one)
        for one in random.random((60, 2)).tolist()
    ]
    answered = [row for row in range(30) if rows[row][0] != "doubtful"]
    found = labels(rows, answered, random.choice(60, (2, 20)).tolist())
    values = found.targets(np.arange(60))
    known = ~np.isnan(values).any(axis=1)
    assert known.all()
    assert np.allclose(values.sum(axis=1), 1)
    assert values.min() >= 0
    told = found.told(np.arange(60))
    assert told.tolist() == [row in answered or rows[row][0] == "exemplar" for row in range(60)]
    part = random.permutation(60)[:20]  # of some rows they are the same as of all
    assert np.array_equal(found.targets(part), values[part])
    assert found.of(part) == {row: int(values[row].argmax()) for row in part.tolist() if rows[row][0] != "doubtful"}


def learnt(found: PoolLabels, fold: Sequence[int] | None = None) -> Training:
    """Each row's only feature is its number."""
    rows = np.arange(len(found.groups.decision))
    return Training(
        classes=["a", "b", "none"],
        ids=[str(row) for row in rows],
        X=rows[:, None].astype(np.float32),
        targets=found.targets(rows),
        told=found.told(rows),
        said=found.said(rows),
        fold=np.array(fold if fold is not None else [-1] * len(rows)),
        stands=np.ones(len(rows)),
        balance="none",
        space=None,
        dropped={},
        unreadable={},
        counts={},
    )


def weights(training: Training, fold: int | None = None) -> dict[tuple[int, int], float]:
    """(row, class) -> what it weighs, of what is certain."""
    rows = training.without(*([] if fold is None else [fold]))
    pairs = zip(rows.X[:, 0].astype(int).tolist(), rows.y.tolist(), strict=True)
    return dict(zip(pairs, (rows.weights / rows.weights.max()).tolist(), strict=True))


def test_a_no_is_an_example_of_none_and_a_member_that_nobody_answered_hardly_is() -> None:
    rows: list[Row] = [
        ("exemplar", 0, [1, 0]),
        ("member", 0, [0.9, 0]),
        ("background", 0, [0.9, 0]),
        ("exemplar", 1, [0, 1]),
        ("background", 0, [0, 0]),
    ]
    found = weights(learnt(labels(rows, answered=[2], denied=[[2], []])))
    assert found[2, 2] == found[0, 0] == found[4, 2] == 1
    assert (2, 0) not in found
    assert (4, 0) not in found
    assert found[1, 2] < 0.1
    assert found[1, 0] > 5 * found[1, 2]


def test_a_row_is_learnt_as_each_class_in_the_measure_of_its_probability() -> None:
    rows: list[Row] = [("exemplar", 0, [1, 0]), ("exemplar", 1, [0, 1]), ("doubtful", 0, [0.4, 0.2])]
    found = weights(learnt(labels(rows)))
    assert found[2, 0] == pytest.approx(2 * found[2, 1])
    assert found[2, 2] == pytest.approx(2 * found[2, 1])


def test_the_more_is_answered_of_a_class_the_less_an_estimate_of_it_weighs() -> None:
    """The estimates of another class, and "none", weigh what they did."""
    guesses: list[Row] = [("member", 0, [0.8, 0]), ("member", 1, [0, 0.8]), ("background", 0, [0, 0])]
    exemplars: list[Row] = [("exemplar", 0, [1, 0]), ("exemplar", 1, [0, 1])]
    before: dict[tuple[int, int], float] = {}
    for count in (0, 1, 5, 30):
        rows = [*guesses, *exemplars, *[("member", 0, [0.5, 0.0])] * count]
        found = weights(learnt(labels(rows, answered=range(5, 5 + count))))
        assert all(found[row, 0] == 1 for row in range(5, 5 + count))
        if before:
            assert found[0, 0] < before[0, 0]
            assert found[1, 1] == before[1, 1]
            assert found[2, 2] == before[2, 2] == 1
        before = found
    assert before[0, 0] < 0.25  # of .8 with no answer


def test_views_of_an_answer_are_no_more_answers() -> None:
    rows: list[Row] = [("member", 0, [0.8, 0]), ("exemplar", 0, [1, 0]), ("exemplar", 1, [0, 1])]
    training = learnt(labels([*rows, ("exemplar", 0, [1, 0]), ("exemplar", 0, [1, 0])]))
    training.ids[3:] = []  # they are views of the exemplar
    assert weights(training)[0, 0] == weights(learnt(labels(rows)))[0, 0]


def test_while_a_fold_is_held_out_nothing_of_it_is_learnt() -> None:
    training = learnt(labels(GUESSED[:-1]), fold=[-1, 0, 1, 1, 0, -1])
    assert {row for row, _ in weights(training, 0)} == {0, 2, 3, 5}
    assert {row for row, _ in weights(training, 1)} == {0, 1, 4, 5}
    assert {row for row, _ in weights(training)} == set(range(6))
    assert training.held_out(1).X[:, 0].tolist() == [2, 3]
    assert training.held_out(1).y.tolist() == [2, 2]
    assert training.held_out(1, {"3", "5"}).X[:, 0].tolist() == [3]
    assert training.folds == [0, 1]
