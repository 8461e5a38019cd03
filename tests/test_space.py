"""The space that a pool is ranked in."""

import numpy as np
import pytest
from numpy.typing import NDArray

from holotype.encoders.encode import l2_normalize
from holotype.grouping.space import Space, fit_space, mutual_neighbours, nearest_neighbours
from holotype.vectors.embeddings import Embeddings


def pool_of(vectors: NDArray[np.float32]) -> Embeddings:
    half = len(vectors) // 2
    return Embeddings([vectors[:half], vectors[half:]], np.arange(len(vectors)), len(vectors))


def noisy_twins(count: int = 300, each: int = 4, dim: int = 48) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`count` things, each seen `each` times; what varies most has nothing to do with the thing."""
    rng = np.random.default_rng(0)
    things = rng.normal(size=(count, dim)) * np.where(np.arange(dim) < 32, 1.0, 0.05)
    nuisance = rng.normal(size=(count * each, dim)) * np.where(np.arange(dim) < 32, 0.35, 2.0)
    labels = np.repeat(np.arange(count), each)
    order = rng.permutation(len(labels))
    return (things[labels] + nuisance)[order].astype(np.float32), labels[order]


def share_of_twins(vectors: NDArray[np.float32], labels: NDArray[np.int64], each: int = 4) -> float:
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2)
    nearest = np.argsort(-cosine, axis=1)[:, : each - 1]
    return float((labels[nearest] == labels[:, None]).mean())


def test_what_varies_between_twins_is_divided_out() -> None:
    vectors, labels = noisy_twins()
    pool = pool_of(vectors)
    found = {
        name: share_of_twins(fit_space(pool, name).transform(l2_normalize(vectors)), labels)
        for name in ("raw", "whitened", "pairs", "neighbours")
    }
    assert found["pairs"] > found["whitened"] > found["raw"]
    assert found["neighbours"] > max(found["whitened"], found["pairs"] - 0.05)
    assert found["neighbours"] > found["raw"] + 0.2


def test_raw_changes_nothing() -> None:
    vectors = l2_normalize(noisy_twins()[0])
    assert np.allclose(fit_space(pool_of(vectors), "raw").transform(vectors), vectors, atol=1e-6)


@pytest.mark.parametrize("name", ["whitened", "pairs", "neighbours"])
@pytest.mark.parametrize("count", [1, 2, 30, 255])
def test_a_small_pool_is_only_centred(name: str, count: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, 600)).astype(np.float32)
    space = fit_space(pool_of(vectors), name)  # type: ignore[arg-type]
    assert space.projection is None
    assert space.transform(l2_normalize(vectors)).shape == (count, 600)
    assert np.isfinite(space.transform(l2_normalize(vectors))).all()


def test_the_root_is_taken_only_of_what_is_never_negative() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
    assert not fit_space(pool_of(vectors)).power
    assert fit_space(pool_of(np.abs(vectors))).power


def test_dimensions_that_are_always_zero_do_no_harm() -> None:
    vectors = np.abs(noisy_twins()[0])
    vectors[:, 40:] = 0
    moved = fit_space(pool_of(vectors)).transform(l2_normalize(vectors))
    assert np.isfinite(moved).all()
    assert np.allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-4)


def test_a_pool_of_copies_gives_finite_vectors() -> None:
    vectors = np.tile(np.random.default_rng(0).normal(size=(1, 24)), (400, 1)).astype(np.float32)
    assert np.isfinite(fit_space(pool_of(vectors)).transform(l2_normalize(vectors))).all()


def test_a_space_comes_back_from_its_arrays() -> None:
    vectors = l2_normalize(noisy_twins()[0])
    for count in (len(vectors), 100):
        space = fit_space(pool_of(vectors[:count]))
        again = Space.from_arrays(space.arrays())
        assert np.array_equal(again.transform(vectors), space.transform(vectors))


def test_the_same_seed_gives_the_same_space() -> None:
    pool = pool_of(noisy_twins()[0])
    one, two = fit_space(pool, seed=3), fit_space(pool, seed=3)
    assert one.projection is not None
    assert two.projection is not None
    assert np.array_equal(one.projection, two.projection)


def test_mutual_neighbours_are_those_of_a_plain_search() -> None:
    vectors = l2_normalize(np.random.default_rng(0).normal(size=(60, 8)))
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2)
    nearest = [set(row[:4].tolist()) for row in np.argsort(-cosine, axis=1)]
    expected = {(i, j) for i in range(60) for j in nearest[i] if i < j and i in nearest[j]}
    one, other, found = mutual_neighbours(vectors, 4)
    assert set(zip(one.tolist(), other.tolist(), strict=True)) == expected
    assert np.allclose(found, cosine[one, other], atol=1e-6)


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_neighbours_are_the_same_in_any_blocks(block: int) -> None:
    vectors = l2_normalize(np.random.default_rng(0).normal(size=(60, 8)))
    expected = np.argsort(-(vectors @ vectors.T - 3 * np.eye(60)), axis=1)[:, :4]
    nearest, cosine = nearest_neighbours(vectors, 4, block)
    assert np.array_equal(np.sort(nearest, axis=1), np.sort(expected, axis=1))
    assert np.allclose(cosine, (vectors[:, None] * vectors[nearest]).sum(axis=2), atol=1e-6)


@pytest.mark.parametrize("k", [1, 5, 12])
@pytest.mark.parametrize("count", [95, 384, 447])
def test_neighbours_of_many_are_those_of_a_plain_search(count: int, k: int) -> None:
    """Also where they stand together in the last columns, and where many are equal."""
    vectors = l2_normalize(np.random.default_rng(k).normal(size=(count, 6)))
    vectors[-20:] = l2_normalize(vectors[-1:] + 1e-3 * vectors[:20])
    vectors[:40] = vectors[0]
    cosine = vectors @ vectors.T - 3 * np.eye(count)
    found, values = nearest_neighbours(vectors, k)
    assert all(len(set(row)) == k for row in found.tolist())
    assert np.allclose(np.sort(values, axis=1), np.sort(cosine, axis=1)[:, -k:], atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_vectors_have_few_neighbours(count: int) -> None:
    one, _, _ = mutual_neighbours(l2_normalize(np.eye(4)[:count]), 5)
    assert len(one) == max(count - 1, 0)


def test_of_very_many_dimensions_the_strongest_are_fitted() -> None:
    """All that varies lies in 40 of 2,100 dimensions, and four groups of 100 images are told apart there."""
    random = np.random.default_rng(1)
    groups = np.repeat(random.normal(size=(4, 40)), 100, axis=0) + 0.5 * random.normal(size=(400, 40))
    wide = groups @ np.linalg.qr(random.normal(size=(2100, 40)))[0].T
    vectors = np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), np.float32)
    space = fit_space(pool_of(vectors))
    assert space.projection is not None
    assert space.projection.shape == (2100, 40)
    nearest = nearest_neighbours(space.transform(vectors), 5)[0]
    assert (nearest // 100 == np.arange(400)[:, None] // 100).mean() > 0.95
