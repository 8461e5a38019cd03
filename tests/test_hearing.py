"""Words beside pictures: heard where they describe these, and without any effect where they do not."""

import numpy as np
import pytest
from numpy.typing import NDArray
from test_graph import DIM, FIRST, LABELS, POOL, SIZES, VECTORS

from holotype.encoders.encode import l2_normalize
from holotype.grouping.departure import Departure
from holotype.grouping.graph import rank
from holotype.grouping.ranking import Ranking
from holotype.grouping.words import WordScores
from holotype.settings import RankSettings
from holotype.vectors.embeddings import Embeddings

NOISE = np.random.default_rng(1).normal(size=(len(VECTORS), len(SIZES))).astype(np.float32)
DESCRIBED = 8.0  # deviations that words which know a class find its images by


def said_of(known: dict[int, NDArray[np.int64]]) -> WordScores:
    """Return what the words of each class say that know, of class k, the rows `known[k]`, and others nothing."""
    pool = NOISE.copy()
    for k, rows in known.items():
        pool[rows, k] += DESCRIBED
    found = [np.argsort(-pool[:, k], kind="stable")[:20] for k in range(len(SIZES))]
    anchors = [l2_normalize(VECTORS[rows].mean(axis=0, keepdims=True)) for rows in found]
    return WordScores(pool, [pool[[row], k] for k, row in enumerate(FIRST)], anchors, found)


def ranking_by(said: WordScores | None, settings: RankSettings | None = None) -> Ranking:
    return rank(POOL, [POOL.take([row]) for row in FIRST], FIRST, settings or RankSettings(), said=said)


def density_of(ranking: Ranking, k: int) -> NDArray[np.float64]:
    """(n,) density of class `k` of every row of the pool, 0 of those that are no candidates."""
    found = np.zeros(len(VECTORS))
    found[ranking.candidates] = ranking.density[:, k]
    return found


@pytest.mark.parametrize("settings", [RankSettings(), RankSettings(self_training=False)])
def test_words_that_are_not_heard_change_nothing_even_where_those_of_another_class_are(settings: RankSettings) -> None:
    plain = ranking_by(None, settings)
    ranking = ranking_by(said_of({0: np.flatnonzero(LABELS == 0)}), settings)
    assert ranking.heard.tolist() == [True, False, False]
    assert ranking.agreement[0] > DESCRIBED / 2
    for k in (1, 2):
        assert abs(ranking.agreement[k]) < 2
        assert np.array_equal(density_of(ranking, k), density_of(plain, k))
        assert np.array_equal(np.sort(ranking.members(k)), np.sort(plain.members(k)))
        assert ranking.cuts[k].conductance == plain.cuts[k].conductance
        assert ranking.rounds[k] == plain.rounds[k]


def test_words_that_nothing_hears_leave_the_ranking_as_it_is() -> None:
    plain, ranking = ranking_by(None), ranking_by(said_of({}))
    assert not ranking.heard.any()
    assert np.array_equal(ranking.candidates, plain.candidates)
    assert np.array_equal(ranking.density, plain.density)


def test_words_of_a_relative_agree_with_the_picture_and_are_not_heard() -> None:
    plain, said = ranking_by(None), said_of({0: np.flatnonzero(LABELS == 1)})
    said.pool[LABELS == 0, 0] += 3
    said.pictures[0][:] += 3
    ranking = ranking_by(said)
    assert ranking.agreement[0] > 2
    assert not ranking.heard.any()
    assert np.array_equal(ranking.density, plain.density)


def test_words_that_describe_the_picture_lead_to_looks_that_it_does_not_reach() -> None:
    both = np.flatnonzero((LABELS == 0) | (LABELS == 1))
    alone = ranking_by(None)
    ranking = rank(POOL, [POOL.take(FIRST[:1])], FIRST[:1], RankSettings(), said=of_one(said_of({0: both})))
    others = np.flatnonzero(LABELS == 1)
    assert np.isin(alone.members(0), others).mean() < 0.1
    assert np.isin(others, ranking.members(0)).mean() > 0.7
    assert np.isin(ranking.members(0), both).mean() > 0.9


def test_of_what_pictures_reach_the_described_come_first() -> None:
    rows = np.flatnonzero(LABELS == 2)
    right = np.random.default_rng(0).permutation(rows)[: len(rows) // 2]  # half of what looks alike is meant
    said = of_one(said_of({0: np.union1d(right, FIRST[2:])}))
    said.pictures[0][:] = DESCRIBED
    ranking = rank(POOL, [POOL.take(FIRST[2:])], FIRST[2:], RankSettings(), said=said)
    ordered = ranking.candidates[np.argsort(-ranking.density[:, 0], kind="stable")]
    assert np.isin(ordered[: len(right) - 1], right).mean() > 0.9


def test_a_row_of_which_nothing_is_said_keeps_its_place_among_those_like_it() -> None:
    said = said_of({0: np.flatnonzero(LABELS == 0)})
    said.pool[7:12] = np.nan
    ranking = ranking_by(said)
    assert np.isfinite(ranking.density).all()
    assert np.isfinite(ranking.agreement).all()


@pytest.mark.parametrize("count", [5, 8, 30])
def test_words_are_judged_by_the_images_of_the_class_however_few(count: int) -> None:
    rng = np.random.default_rng(2)
    own, *heaps = l2_normalize(rng.normal(size=(3, DIM)))
    parts = [np.repeat(own[None], count, axis=0), np.repeat(np.stack(heaps), 200, axis=0)]
    vectors = l2_normalize(np.concatenate(parts) + 0.05 * rng.normal(size=(count + 400, DIM)))
    scores = rng.normal(size=(len(vectors), 1)).astype(np.float32)
    scores[:count] += DESCRIBED
    for order in (np.arange(len(vectors)), np.arange(len(vectors))[::-1]):
        row = int(np.flatnonzero(order == 0)[0])
        pool = Embeddings([vectors[order]], np.arange(len(order)), len(order))
        anchors = [l2_normalize(vectors[:count].mean(axis=0, keepdims=True))]
        said = WordScores(scores[order], [scores[order][[row], 0]], anchors, [])
        ranking = rank(pool, [pool.take([row])], [row], RankSettings(), said=said)
        assert ranking.agreement[0] == pytest.approx(DESCRIBED, abs=1.5)


def test_what_walks_do_not_reach_stays_out_of_reach_whatever_words_say() -> None:
    departure = Departure(np.ones(1), evidence=np.array([0.0, 9.0, 9.0, -1.0]))
    assert departure.in_order(np.array([1.0, 0.0, 0.5, 0.25])).tolist() == [0.5, 0.0, 1.0, 0.25]


def of_one(said: WordScores) -> WordScores:
    """Return what is said of the first class alone."""
    return said.in_order([0])
