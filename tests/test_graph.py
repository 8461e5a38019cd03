"""Walks along the graph of the pool, and where a class ends."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from holotype.encoders.encode import l2_normalize
from holotype.errors import GroupError
from holotype.grouping.assign import refuse_no_vectors
from holotype.grouping.graph import Graph, build_graph, diffuse, rank, sweep_cut
from holotype.grouping.groups import estimates, group_ranked
from holotype.grouping.ranking import Ranking
from holotype.settings import RankSettings
from holotype.vectors.embeddings import Embeddings

SIZES = (40, 25, 60)
DIM = 64


def planted(others: int = 1500) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three classes of `SIZES` images, each a crescent of overlapping looks, among `others` that are in small heaps."""
    rng = np.random.default_rng(0)
    parts, labels = [], []
    for k, size in enumerate(SIZES):
        one, other = l2_normalize(rng.normal(size=(2, DIM)))
        turn = np.linspace(0, 1.3, size)[:, None]
        parts.append(np.cos(turn) * one + np.sin(turn) * other + 0.07 * rng.normal(size=(size, DIM)))
        labels.append(np.full(size, k))
    heaps = l2_normalize(rng.normal(size=(others // 10, DIM)))
    parts.append(np.repeat(heaps, 10, axis=0) + 0.09 * rng.normal(size=(len(heaps) * 10, DIM)))
    labels.append(np.full(len(heaps) * 10, len(SIZES)))
    return l2_normalize(np.concatenate(parts)), np.concatenate(labels)


VECTORS, LABELS = planted()
POOL = Embeddings([VECTORS], np.arange(len(VECTORS)), len(VECTORS))
FIRST = [int(np.flatnonzero(k == LABELS)[0]) for k in range(len(SIZES))]


def ranking_of(rows: list[list[int]], settings: RankSettings | None = None, pool: Embeddings = POOL) -> Ranking:
    own = [row for one in rows for row in one]
    return rank(pool, [pool.take(one) for one in rows], own, settings or RankSettings())


def f1(found: NDArray[np.int64], k: int) -> float:
    hits = (LABELS[found] == k).sum()
    return float(2 * hits / (len(found) + SIZES[k] - 1))


def test_a_class_is_followed_to_looks_that_its_exemplar_does_not_have() -> None:
    ranking = ranking_of([[row] for row in FIRST])
    for k, row in enumerate(FIRST):
        cosine = VECTORS @ VECTORS[row]
        cosine[FIRST] = -1
        best = max(f1(np.flatnonzero(cosine >= threshold), k) for threshold in np.linspace(0.1, 0.95, 60))
        assert f1(ranking.members(k), k) > 0.8
        assert f1(ranking.members(k), k) > best + 0.02


def test_each_stage_can_be_switched_off() -> None:
    assert set(ranking_of([[row] for row in FIRST], RankSettings(self_training=False)).rounds) == {1}
    for name in ("raw", "whitened", "pairs", "neighbours"):
        ranking = ranking_of([[row] for row in FIRST], RankSettings(space=name))
        assert all(f1(ranking.members(k), k) > 0.6 for k in range(len(SIZES)))


def test_exemplars_and_rows_without_a_vector_are_no_candidates() -> None:
    rows = np.delete(np.arange(len(VECTORS)), [3, 50])
    pool = Embeddings([VECTORS[rows]], rows, len(VECTORS))
    ranking = ranking_of([[row] for row in FIRST], pool=pool)
    assert not np.isin([3, 50, *FIRST], ranking.candidates).any()
    assert np.isnan(ranking.cosine[[3, 50]]).all()
    groups = group_ranked(["a", "b", "c"], ranking, {row: k for k, row in enumerate(FIRST)}, 1.0, 0.01)
    assert groups.decision[[3, 50]].tolist() == ["missing"] * 2
    assert groups.decision[FIRST].tolist() == ["exemplar"] * 3


def test_more_exemplars_are_all_started_from() -> None:
    ends = [[int(r) for r in np.flatnonzero(k == LABELS)[[0, -1]]] for k in range(len(SIZES))]
    ranking = ranking_of(ends)
    assert all(f1(ranking.members(k), k) > 0.75 for k in range(len(SIZES)))
    assert not np.isin(np.ravel(ends), ranking.candidates).any()


def test_other_classes_do_not_change_where_a_class_ends() -> None:
    rng = np.random.default_rng(0)
    heaps = l2_normalize(rng.normal(size=(30, DIM)))
    vectors = l2_normalize(np.repeat(heaps, 20, axis=0) + 0.1 * rng.normal(size=(600, DIM)))
    pool = Embeddings([vectors], np.arange(600), 600)
    alone, many = ranking_of([[0]], pool=pool), ranking_of([[20 * k] for k in range(30)], pool=pool)
    assert many.cuts[0].conductance == pytest.approx(alone.cuts[0].conductance, abs=0.1)
    assert set(many.members(0)) == set(range(1, 20))


def test_without_any_image_that_has_a_vector_the_error_says_so() -> None:
    with pytest.raises(GroupError, match="no image but the exemplars has a vector"):
        refuse_no_vectors(np.array([[0.5], [np.nan]], np.float32), [0])


def test_an_exemplar_that_is_like_nothing_still_reaches_its_nearest() -> None:
    odd = l2_normalize(-VECTORS[LABELS == 0].mean(axis=0, keepdims=True))
    ranking = rank(POOL, [odd], [], RankSettings())
    assert 1 <= len(ranking.cuts[0].rows) < 200


@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_a_tiny_pool_is_ranked_too(count: int) -> None:
    pool = Embeddings([VECTORS[:count]], np.arange(count), count)
    ranking = ranking_of([[0]], pool=pool)
    assert len(ranking.candidates) == count - 1
    assert np.isfinite(ranking.density).all()
    assert len(ranking.members(0)) >= 1


def test_estimates_are_probabilities_and_zero_out_of_reach() -> None:
    ranking = ranking_of([[row] for row in FIRST])
    assert ((ranking.probabilities >= 0) & (ranking.probabilities <= 1)).all()
    assert (ranking.probabilities[ranking.density == 0] == 0).all()
    for k in range(len(SIZES)):
        order = np.argsort(ranking.density[:, k])
        assert (np.diff(ranking.probabilities[order, k]) >= 0).all()


def test_groups_hold_what_the_ranking_found_and_say_why() -> None:
    ranking = ranking_of([[row] for row in FIRST])
    groups = group_ranked(["a", "b", "c"], ranking, {row: k for k, row in enumerate(FIRST)}, 1.0, 0.0)
    for k, row in enumerate(FIRST):
        assert np.array_equal(np.setdiff1d(groups.members(k), [row]), np.sort(ranking.members(k)))
    member = int(groups.members(0)[1])
    assert "estimate" in groups.reason(member)
    assert ", found from the " in groups.reason(member)
    unreached = int(np.flatnonzero((len(SIZES) == LABELS) & (groups.scores.max(axis=1) == 0))[0])
    assert groups.decision[unreached] == "background"
    assert groups.label[unreached] == ranking.cosine[unreached].argmax()


def test_what_is_estimated_adds_up() -> None:
    ranking = ranking_of([[row] for row in FIRST])
    groups = group_ranked(["a", "b", "c"], ranking, {row: k for k, row in enumerate(FIRST)}, 1.0, 0.01)
    for k, found in enumerate(estimates(groups)):
        assert found.found == len(groups.members(k)) - 1
        assert 0 < found.estimated_precision <= 1
        assert found.estimated_size >= found.estimated_precision * found.found
        assert found.below + found.tied == ((groups.label == k) & (groups.decision == "doubtful")).sum()
        assert found.confused is None or found.confused[0] != "abc"[k]


def test_walks_end_where_the_linear_system_says() -> None:
    graph = build_graph(VECTORS[:200])
    seeds = np.zeros(200)
    seeds[0] = 1
    exact = np.linalg.solve(np.eye(200) - 0.9 * graph.steps.toarray(), 0.1 * seeds)
    assert np.allclose(diffuse(graph, seeds), exact, atol=2e-3)


def test_the_graph_is_symmetric_and_reaches_from_each_exemplar() -> None:
    graph = build_graph(np.concatenate([l2_normalize(-VECTORS[:1]), VECTORS[:300]]), exemplars=1)
    assert abs(graph.weights - graph.weights.T).max() < 1e-12
    assert graph.weights[[0]].nnz >= 5


def test_the_cut_is_between_two_halves() -> None:
    weights = np.zeros((40, 40))
    weights[:20, :20] = weights[20:, 20:] = 1
    weights[19, 20] = weights[20, 19] = 0.5
    np.fill_diagonal(weights, 0)
    degree = weights.sum(axis=1)
    graph = Graph(csr_array(weights), degree, csr_array(weights / np.sqrt(np.outer(degree, degree))))
    density = np.linspace(1, 0.025, 40)
    cut = sweep_cut(graph, density, np.array([0]), 1, 30)
    assert cut.rows.tolist() == list(range(19))
    assert cut.conductance == pytest.approx(0.5 / degree[:20].sum())


@pytest.mark.parametrize(("leaks", "found"), [(0.1, 19), (0.0, 419)])
def test_a_crowd_that_the_walks_hardly_reach_is_no_part_of_a_class_unless_all_is_apart(
    leaks: float, found: int
) -> None:
    """20 images beside a crowd of 400, from which hardly an edge leads on; the walks have thinned out by then."""
    weights = np.zeros((520, 520))
    weights[:20, :20] = 1
    weights[20:420, 20:420] = 0.1
    weights[420:, 420:] = 0.1
    weights[0, 20:40] = weights[20:40, 0] = 1
    weights[40:60, 420:440] = weights[420:440, 40:60] = leaks
    np.fill_diagonal(weights, 0)
    degree = weights.sum(axis=1)
    graph = Graph(csr_array(weights), degree, csr_array(weights / np.sqrt(np.outer(degree, degree))))
    density = np.concatenate([np.linspace(1, 0.5, 20), np.full(400, 0.02), np.full(100, 0.001)])
    cut = sweep_cut(graph, density, np.array([0]), 1, 500)
    assert len(cut.rows) == found
