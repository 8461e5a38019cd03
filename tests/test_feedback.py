"""What answers bring: they add to the exemplars, and never outvote them without being better."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from reviewer import THREADS, Reviewer, learn_from, plant, say

from holotype.answers import feedback
from holotype.answers.feedback import Correction, Expectation, FeedbackData, FeedbackModel, best_cut, learn, sigmoid
from holotype.answers.refine import exemplar_logits
from holotype.encoders.encode import l2_normalize
from holotype.vectors.embeddings import open_array

DIM, LOOK, OTHERS = 64, 40, 3000


def two_looks(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
    """A class of two looks, of which the exemplar in row 0 has the first; vectors, what shows it, and the prior."""
    rng = np.random.default_rng(seed)
    centres = l2_normalize(rng.normal(size=(202, DIM)))
    own = np.concatenate([np.repeat([0, 1], LOOK), 2 + rng.integers(0, 200, OTHERS)])
    vectors = l2_normalize(centres[own] + 0.8 * rng.normal(size=(len(own), DIM)) / np.sqrt(DIM))
    return vectors, own < 2, np.clip(20 * (vectors @ vectors[0] - 0.5), -9, 9).astype(np.float64)


VECTORS, SHOWS, PRIOR = two_looks()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with THREADS.limit(limits=1):
        yield


def lesson(rows: NDArray[np.int64], yes: NDArray[np.bool_]) -> FeedbackData:
    return FeedbackData(VECTORS[:1], np.empty((0, DIM), np.float32), rows, yes)


def asked(seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    first, second = rng.permutation(np.arange(1, LOOK))[:6], LOOK + rng.permutation(LOOK)[:6]
    return np.concatenate([first, second, 2 * LOOK + rng.permutation(OTHERS)[:12]])


def recall(logits: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
    """The share of the second look, but for the `rows`, among the best so many as show the class."""
    best = np.argsort(-logits)[: SHOWS.sum()]
    wanted = np.setdiff1d(np.arange(LOOK, 2 * LOOK), rows)
    return float(np.isin(wanted, best).mean())


def test_no_answer_changes_nothing() -> None:
    found = learn(VECTORS, PRIOR, lesson(np.empty(0, np.int64), np.empty(0, bool)))
    assert np.array_equal(found.logits, PRIOR)
    assert not found.trusted
    known = plant()
    taught = learn_from(known, [])
    groups = known.start.groups
    assert taught.groups.reasons() == groups.reasons()
    assert np.array_equal(taught.groups.decision, groups.decision)
    assert np.array_equal(taught.groups.label, groups.label)
    assert taught.groups.thresholds == groups.thresholds
    assert np.array_equal(taught.logits, exemplar_logits(groups)[0])


@pytest.mark.parametrize("seed", range(3))
def test_good_answers_are_trusted_and_find_what_the_exemplar_does_not_show(seed: int) -> None:
    rows = asked(seed)
    found = learn(VECTORS, PRIOR, lesson(rows, SHOWS[rows]))
    assert found.trusted
    assert found.losses[1] < found.losses[0]
    assert recall(PRIOR, rows) < 0.2
    assert recall(found.logits, rows) > 0.7


@pytest.mark.parametrize("share", [0.5, 0.7, "prior"])
def test_answers_that_are_noise_do_not_outvote_the_exemplar(share: float | str) -> None:
    """Trusted in at most 4 of 20 reviews, though each is tried after 20 and after 30 answers."""
    trusted = 0
    for seed in range(20):
        known, rng = plant(seed, sizes=(40,), others=1200), np.random.default_rng(seed)
        prior = sigmoid(learn_from(known, []).logits[:, 0])

        def guess(row: int, _: int, rng: np.random.Generator = rng, prior: NDArray[np.float64] = prior) -> bool:
            return bool(rng.random() < (share if isinstance(share, float) else prior[row]))

        reviewer = Reviewer(known, says=guess)
        reviewer.review(0, 20)
        early = reviewer.taught.models[0].trusted
        reviewer.review(0, 10)
        trusted += early or reviewer.taught.models[0].trusted
        if not reviewer.taught.models[0].trusted:
            assert np.array_equal(reviewer.taught.logits[:, 0], exemplar_logits(known.start.groups)[0][:, 0])
    assert trusted <= 4


def each(said: NDArray[np.bool_]) -> FeedbackModel:
    rows = asked()[: len(said)]
    return learn(VECTORS, PRIOR, lesson(rows, said))


@pytest.mark.parametrize(
    "said",
    [[True], [True] * 8, [True, False], [True] + [False] * 20, [False] * 8 + [True], [False], [False] * 8],
)
def test_few_and_one_sided_answers_give_finite_figures(said: list[bool]) -> None:
    found = each(np.array(said))
    assert np.isfinite(found.losses).all() == any(said)
    assert np.isfinite(found.logits).all()
    assert np.isfinite(found.untrusted_logits).all()
    assert np.array_equal(found.logits, found.untrusted_logits if found.trusted else PRIOR)
    assert ((sigmoid(found.logits) >= 0) & (sigmoid(found.logits) <= 1)).all()


def test_halves_on_the_disk_give_what_floats_in_memory_give(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS.astype(np.float16))
    rows = asked()
    one = learn(VECTORS, PRIOR, lesson(rows, SHOWS[rows]))
    other = learn(open_array(tmp_path / "v.npy"), PRIOR, lesson(rows, SHOWS[rows]))
    assert one.trusted
    assert other.trusted
    assert np.abs(one.logits - other.logits).max() < 0.05


@pytest.mark.parametrize("far", [20.7, -20.7, 300.0])
def test_a_prior_that_is_very_sure_gives_finite_figures(far: float) -> None:
    rows = asked()
    prior = np.where(PRIOR > 0, far, -far)
    for said in (SHOWS[rows], ~SHOWS[rows]):
        found = learn(VECTORS, prior, lesson(rows, said))
        assert np.isfinite(found.losses).all()
        assert np.isfinite(found.logits).all()
        assert np.isfinite(sigmoid(found.logits)).all()


def test_a_lesson_is_the_same_whenever_it_is_learnt() -> None:
    rows = asked()
    one, other = (learn(VECTORS, PRIOR, lesson(rows, SHOWS[rows]), seed=3) for _ in range(2))
    assert np.array_equal(one.logits, other.logits)


@pytest.mark.parametrize("share", [0, 2])
@pytest.mark.parametrize("missing", [[], [0]])
def test_a_pool_in_which_everything_was_answered_is_learnt_from_too(share: int, missing: list[int]) -> None:
    small, rows = VECTORS[:12].copy(), np.arange(1, 12)
    small[missing] = 0
    yes = rows % 2 < share / 2
    found = learn(small, PRIOR[:12], FeedbackData(VECTORS[:1], np.empty((0, DIM), np.float32), rows, yes))
    assert np.isfinite(found.losses).all() == yes.any()
    assert np.isfinite(found.logits).all()
    assert np.isfinite(found.untrusted_logits).all()


def test_images_without_a_vector_are_no_part_of_the_pool() -> None:
    rows = asked()
    more = np.concatenate([VECTORS, np.zeros((4000, DIM), np.float32)])
    found = learn(more, np.concatenate([PRIOR, np.full(4000, -9.0)]), lesson(rows, SHOWS[rows]))
    assert found.trusted
    assert recall(found.logits[: len(VECTORS)], rows) > 0.7


@pytest.mark.parametrize("count", [1, 20])
def test_a_class_that_nothing_was_said_to_show_is_not_taken_for_nowhere(count: int) -> None:
    rows = asked()[:count]
    found = learn(VECTORS, PRIOR, lesson(rows, np.zeros(len(rows), bool)))
    assert not found.trusted
    assert np.array_equal(found.logits, PRIOR)


@pytest.mark.parametrize("yes", [[], [1, 2, 3]])
def test_what_to_ask_follows_answers_that_groups_do_not_trust_yet(yes: list[int]) -> None:
    prior = np.where(SHOWS, 8.0, -8.0)  # which no answer predicts better
    wrong = 2 * LOOK + np.arange(8)
    rows = np.concatenate([np.array(yes, np.int64), wrong])
    found = learn(VECTORS, prior, lesson(rows, np.arange(len(rows)) < len(yes)))
    assert not found.trusted
    assert np.array_equal(found.logits, prior)
    likes = [np.setdiff1d(np.argsort(-(VECTORS @ VECTORS[row]))[1:4], [*rows, *np.flatnonzero(SHOWS)]) for row in wrong]
    others = np.setdiff1d(np.arange(2 * LOOK, len(VECTORS)), [*rows, *np.concatenate(likes)])
    assert found.untrusted_logits[np.concatenate(likes)].mean() < found.untrusted_logits[others].mean()


NO_POOL = np.empty(0), 0.0  # as if all images had been asked about


def answered_by(logits: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Answers about images that show the class by these logits."""
    return np.asarray(np.random.default_rng([seed, 1]).random(len(logits)) < sigmoid(logits))


@pytest.mark.parametrize("missed", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("steep", [0.8, 1.0, 1.3])
def test_answers_correct_estimates_that_are_too_low(missed: float, steep: float) -> None:
    """Those of images nobody asked about too, the better, the more answers there are."""
    others, errors = np.linspace(-8, 2, 500), []
    right = sigmoid(steep * others + missed).sum()
    for count in (10, 40, 400):
        sums = []
        for seed in range(20):
            estimates = np.random.default_rng(seed).uniform(-4, 1, count)
            found = Correction.upward(estimates, answered_by(steep * estimates + missed, seed), *NO_POOL)
            sums.append(sigmoid(found.of(others)).sum())
        errors.append(float(np.abs(np.array(sums) - right).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 * (right - sigmoid(others).sum())


@pytest.mark.parametrize("seed", range(5))
def test_answers_never_lower_estimates_nor_change_their_order(seed: int) -> None:
    estimates = np.random.default_rng(seed).uniform(-4, 4, 40)
    assert Correction.upward(estimates, answered_by(estimates - 2, seed), *NO_POOL) == Correction()
    against = np.asarray(estimates < np.median(estimates))  # those shown that were the least likely
    found = Correction.upward(estimates - 4, against, *NO_POOL)
    assert found.shift > 0
    assert (np.diff(found.of(np.sort(estimates))) > 0).all()


def test_all_answers_yes_where_nearly_none_was_expected_correct_within_reason() -> None:
    found = Correction.upward(np.full(60, -20.0), np.ones(60, bool), *NO_POOL)
    assert -20 * found.slope + found.shift > 0
    assert 0 < found.slope <= 1
    assert found.shift < 20


@pytest.mark.parametrize("seed", range(3))
def test_a_class_that_is_larger_than_its_exemplar_shows_is_estimated_so(seed: int) -> None:
    """Of 8 looks, each a hundredth of the pool, the exemplar has one: within three times, not a tenth or less."""
    rng = np.random.default_rng(seed)
    centres = l2_normalize(rng.normal(size=(208, DIM)))
    centres[:8] = l2_normalize(centres[:8] + 0.8 * centres[8])
    own = np.concatenate([np.repeat(np.arange(8), 40), 8 + rng.integers(0, 200, OTHERS)])
    vectors = l2_normalize(centres[own] + 0.8 * rng.normal(size=(len(own), DIM)) / np.sqrt(DIM))
    near = np.clip(20 * (vectors @ vectors[0] - 0.8), -9, 9).astype(np.float64)
    rows, found = np.empty(0, np.int64), learn(vectors, near, lesson(np.empty(0, np.int64), np.empty(0, bool)))
    for _ in range(20):
        doubt = np.abs(found.untrusted_logits)
        doubt[[0, *rows]] = np.inf
        rows = np.append(rows, np.argsort(doubt)[:2])
        found = learn(vectors, near, replace(lesson(rows, own[rows] < 8), exemplars=vectors[:1]))
    assert found.trusted
    plain = sigmoid((found.logits - found.correction.shift) / found.correction.slope).sum()
    assert plain < 32
    assert 320 / 3 < sigmoid(found.logits).sum() < 320 * 3


@pytest.mark.parametrize("denied", [0, 5])
@pytest.mark.parametrize(("first", "known"), [(LOOK, 1), (LOOK, 3), (LOOK, 10), (2 * LOOK, 3)])
def test_yes_to_what_nothing_pointed_to_is_no_yes_to_all_of_the_pool(first: int, known: int, denied: int) -> None:
    """Nor where that is like nothing else: a list of what is known may hold anything, and no question led there."""
    prior = np.where(PRIOR > -2, PRIOR, -9.0)  # as of all that no walk reaches
    rows = np.append(first + np.arange(known), 2 * LOOK + 500 + np.arange(denied))
    found = learn(VECTORS, prior, lesson(rows, np.arange(len(rows)) < known)).logits
    free = np.setdiff1d(np.arange(len(VECTORS)), [0, *rows])
    assert sigmoid(found[free]).sum() < 2 * SHOWS.sum()
    members = free[found[free] >= best_cut(found[free], known)]
    assert 20 < len(members) < SHOWS.sum()
    assert SHOWS[members].mean() > 0.8


@pytest.mark.parametrize("size", [300, 3000])
def test_a_pool_weighs_what_it_weighs_however_large_the_sample_of_it_is(size: int) -> None:
    given = np.linspace(-6, -2, 12), np.arange(12) % 2 == 0
    pool = np.linspace(-8, -5, 300)
    same = Correction.upward(*given, pool, size / 300), Correction.upward(*given, np.repeat(pool, 5), size / 1500)
    assert same[0].slope == pytest.approx(same[1].slope, rel=1e-3)
    assert same[0].shift == pytest.approx(same[1].shift, rel=1e-3)


def test_a_class_without_answers_is_left_alone_beside_one_with_many() -> None:
    """Each "yes" to one class is a "no" to the other."""
    for seed in range(5):
        known = plant(seed, sizes=(40, 40))
        rows = np.flatnonzero(known.truth == 0)[1:25].tolist()
        before = learn_from(known, []).groups
        taught = learn_from(known, [say(i, row, "class 0", "yes") for i, row in enumerate(rows, 1)])
        assert not taught.models[1].trusted
        assert np.array_equal(taught.logits[:, 1], learn_from(known, []).logits[:, 1])
        assert set(before.members(1)) - set(rows) <= set(taught.groups.members(1)) | set(taught.groups.members(0))


def test_the_cut_has_the_greatest_expected_f1() -> None:
    rng = np.random.default_rng(0)
    for found in (0, 3, 40):
        logits = rng.normal(-2, 2, 60)
        chances = sigmoid(logits)

        def worth(cut: float, chances: NDArray[np.float64] = chances, found: int = found) -> float:
            taken = logits >= cut  # noqa: B023
            return float(2 * (chances[taken].sum() + found) / (taken.sum() + found + chances.sum() + found))

        best = best_cut(logits, found)
        assert worth(best) == pytest.approx(max(worth(cut) for cut in [*logits, 100.0]))


def test_where_all_that_shows_a_class_is_known_nothing_else_is_taken() -> None:
    assert best_cut(np.full(50, -9.0), found=30) > -9
    assert best_cut(np.full(50, -9.0)) == -9  # of a class of which nothing is known, the surest are
    assert np.isfinite(best_cut(np.empty(0)))


@pytest.mark.parametrize("begins", [False, True])
def test_of_few_rows_only_the_directions_that_they_span_are_solved_for(begins: bool) -> None:
    """The regression is the same: as in a pool of a hundred images whose vectors have a thousand numbers."""
    rng = np.random.default_rng(0)
    X = l2_normalize(rng.normal(size=(80, 400)) + rng.normal(size=400))
    y, weights = np.arange(80) < 20, np.where(np.arange(80) < 20, 1.0, 0.3)
    near = rng.normal(size=401) if begins else None
    few, all_ = (solve(X, y, weights, near) for solve in (feedback._logistic, feedback._newton))
    assert np.abs(few - all_).max() < 1e-2 * np.abs(all_).max()
    assert np.abs(X @ (few[:-1] - all_[:-1])).max() < 0.02


def expected_and_learnt(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The logits of the likeliest images when four more answers are expected, and when they are given."""
    rows, more, yes = asked(), [5, 6, 50, 51], [True, False, True, True]
    among = np.setdiff1d(np.argsort(-PRIOR)[:150], [0, *rows])
    before = FeedbackData(vectors[:1], vectors[100:101], rows, SHOWS[rows])
    after = replace(before, rows=np.append(rows, more), yes=np.append(SHOWS[rows], yes))
    learnt = learn(vectors, PRIOR, after)
    expected = Expectation(vectors, PRIOR, before, learnt.correction, among)
    expected.logits(more[:2], yes[:2])
    return expected.logits(more, yes), learnt.untrusted_logits[among]


def test_what_is_expected_is_what_would_be_learnt() -> None:
    """An image that is expected to show the class no more stands for the pool, either."""
    expected, learnt = expected_and_learnt(VECTORS)
    assert np.abs(expected - learnt).max() < 0.01


def test_of_many_dimensions_what_is_expected_is_solved_for_in_those_that_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng, solved, newton = np.random.default_rng(0), list[int](), feedback._newton
    wide = l2_normalize(np.concatenate([VECTORS, 0.5 * rng.normal(size=(len(VECTORS), 300)) / 17], axis=1))

    def noted(X: NDArray[np.float32], *given: Any) -> NDArray[np.float64]:
        solved.append(X.shape[1])
        return newton(X, *given)

    monkeypatch.setattr(feedback, "_newton", noted)
    expected, learnt = expected_and_learnt(wide)
    assert max(solved[-2:]) < 200
    assert min(solved[:-2]) == 364
    assert np.corrcoef(expected, learnt)[0, 1] > 0.99
    assert np.abs(expected - learnt).mean() < 0.1 * learnt.std()
