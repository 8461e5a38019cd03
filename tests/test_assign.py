"""The one way from a search to groups, and what a test set may not give it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_graph import FIRST, LABELS, POOL, SIZES, VECTORS

from holotype.encoders.encode import l2_normalize
from holotype.grouping import graph, space
from holotype.grouping.assign import group_pool, loose_classes
from holotype.grouping.graph import rank
from holotype.grouping.groups import Groups, group_ranked
from holotype.grouping.search import Search, search
from holotype.grouping.space import Matrix, Space, fit_space
from holotype.pool.exemplars import Exemplar
from holotype.settings import FitSettings, RankSettings, Threshold
from holotype.vectors.embeddings import Embeddings

CLASSES = ["a", "b", "c"]


def searched() -> Search:
    return search(POOL, CLASSES, [Exemplar(f"{row}", k, row, b"") for k, row in enumerate(FIRST)], None)


def seeds_of(held_out: NDArray[np.int64], patch: pytest.MonkeyPatch) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    """Where the walks of each class start in the second round, and the candidates; exemplars come before them."""
    starts: list[NDArray[Any]] = []

    def recorded(one: graph.Graph, seeds: NDArray[Any]) -> NDArray[Any]:
        starts.append(seeds)
        return diffuse(one, seeds)

    diffuse = graph.diffuse
    patch.setattr(graph, "diffuse", recorded)
    ranking = group_pool(searched(), FitSettings(), held_out=held_out.tolist()).ranking
    assert ranking is not None
    return [one[len(FIRST) :] for one in starts[len(FIRST) :]], ranking.candidates


def test_self_training_takes_no_labels_from_test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    members = np.flatnonzero(len(SIZES) > LABELS)
    held_out = np.setdiff1d(members[::2], FIRST)
    with monkeypatch.context() as patch:
        seeds, candidates = seeds_of(np.empty(0, np.int64), patch)
    tested = np.isin(candidates, held_out)
    assert all(one[tested].sum() > 0.1 for one in seeds)  # where nothing is held out, they are among the surest
    with monkeypatch.context() as patch:
        seeds, candidates = seeds_of(held_out, patch)
    assert all(one[np.isin(candidates, held_out)].sum() == 0 for one in seeds)
    assert all(one.sum() > 0.1 for one in seeds)  # from the others they start all the same


def test_test_rows_are_grouped_all_the_same() -> None:
    held_out = np.setdiff1d(np.flatnonzero(LABELS == 0)[::2], FIRST)
    groups = group_pool(searched(), FitSettings(), held_out=held_out.tolist())
    assert np.isin(held_out, groups.members(0)).mean() > 0.8


@pytest.mark.parametrize("threshold", [0.8, "auto"])
@pytest.mark.parametrize("diffusion", [True, False])
def test_groups_know_the_space_that_they_were_made_in(threshold: Threshold, diffusion: bool) -> None:
    settings = FitSettings(threshold=threshold, rank=RankSettings(diffusion=diffusion))
    groups = group_pool(searched(), settings)
    if threshold == 0.8:
        assert groups.space is None
        assert groups.score_kind == "cosine"
        return
    assert groups.space is not None
    fitted = fit_space(POOL)
    assert np.array_equal(groups.space.mean, fitted.mean)
    assert groups.score_kind == ("estimate" if diffusion else "cosine")


def test_a_space_that_is_known_is_not_fitted_again() -> None:
    plain = Space.plain(POOL.dim)
    for diffusion in (True, False):
        settings = FitSettings(rank=RankSettings(diffusion=diffusion))
        assert group_pool(searched(), settings, plain).space is plain


def test_groups_are_the_same_in_whatever_order_the_vectors_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that has grown, or whose vectors were elsewhere, has them in another order: of any, the sample is one."""
    monkeypatch.setattr(space, "_SAMPLE", 800)
    monkeypatch.setattr(graph, "_NEGATIVES", 200)
    settings, others = FitSettings(), np.random.default_rng(0).permutation(POOL.size)
    given = searched()
    stored = Embeddings([VECTORS[others]], others, POOL.size)
    one, two = group_pool(given, settings), group_pool(replace(given, embeddings=stored), settings)
    assert one.space is not None
    assert two.space is not None
    assert np.array_equal(one.space.mean, two.space.mean)
    assert np.allclose(one.scores, two.scores, atol=1e-5)


@pytest.fixture(scope="module")
def scattered() -> Embeddings:
    """The classes, among images of which no two are alike."""
    vectors = POOL.take(range(POOL.size)).copy()
    others = np.flatnonzero(len(SIZES) == LABELS)
    vectors[others] = l2_normalize(np.random.default_rng(5).normal(size=(len(others), vectors.shape[1])))
    return Embeddings([vectors], POOL.rows, POOL.size)


def grouped_beside(pool: Embeddings, *odd: Matrix) -> Groups:
    """Group the classes, and one more of each vector of `odd`."""
    ranking = rank(pool, [*(pool.take([row]) for row in FIRST), *odd], FIRST, RankSettings())
    own = {row: k for k, row in enumerate(FIRST)}
    return group_ranked([*CLASSES, "odd"][: len(FIRST) + len(odd)], ranking, own, 1.0, 0.0)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_an_odd_class_is_named_and_takes_nothing_from_the_others(scattered: Embeddings, seed: int) -> None:
    odd = l2_normalize(np.random.default_rng(seed).normal(size=(1, scattered.dim)).astype(np.float32))
    without, beside = grouped_beside(scattered), grouped_beside(scattered, odd)
    assert all(np.array_equal(without.members(k), beside.members(k)) for k in range(len(CLASSES)))
    [why] = loose_classes(beside)
    assert "the pool may hold nothing like the exemplars of 'odd'" in why
    assert loose_classes(without) == []
    assert beside.ranking is not None
    members = beside.members(len(CLASSES))
    assert (beside.ranking.cosine[members].argmax(axis=1) == len(CLASSES)).all()
    above = beside.scores[:, -1] >= np.float32(beside.thresholds[-1].value)
    astray = np.flatnonzero(above & (beside.label == len(CLASSES)) & (beside.decision == "doubtful"))
    assert len(astray)
    assert all(
        reason.endswith("; an exemplar of another class is nearer") for reason in beside.reasons(astray.tolist())
    )
