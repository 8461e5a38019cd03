"""Search equals plain arithmetic over the whole pool, whatever the shards, and says when it cannot compare_searches."""

import io
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from conftest import Picture
from numpy.typing import NDArray
from PIL import Image

from holotype.encoders.encode import l2_normalize
from holotype.encoders.registry import load_encoder
from holotype.errors import ExemplarError
from holotype.grouping.search import Search, cosine, search, top_k
from holotype.pool.exemplars import Exemplar
from holotype.pool.images import decode, middle
from holotype.runs.comparison import compare_searches
from holotype.vectors.embeddings import Embeddings

Vectors = NDArray[np.float32]


def vectors(count: int, dim: int = 24, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32) * 3


def embeddings(found: Vectors, cuts: tuple[int, ...] = (), missing: int = 0) -> Embeddings:
    """`found` in shards, its rows shuffled over a pool with `missing` more images."""
    rows = np.random.default_rng(1).permutation(len(found) + missing)[: len(found)]
    return Embeddings(np.split(found, cuts), rows.astype(np.int64), len(found) + missing)


def exemplar(row: int | None, label: int = 0, data: bytes = b"") -> Exemplar:
    return Exemplar(f"picture {row}", label, row, data)


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def of(scores: list[list[float]]) -> Search:
    table = np.array(scores, np.float32)
    pool = Embeddings([vectors(len(table))], np.arange(len(table)), len(table))
    return Search([f"class {k}" for k in range(table.shape[1])], [], pool, table, 0.0)


@pytest.mark.parametrize("cuts", [(), (1,), (7, 7, 40), tuple(range(1, 60))])
def test_cosine_is_plain_arithmetic_in_float64_over_any_shards(cuts: tuple[int, ...]) -> None:
    found, queries = vectors(60), [vectors(1, seed=2), vectors(4, seed=3), vectors(2, seed=4)]
    pool = embeddings(found, cuts, missing=5)
    scores = cosine(pool, queries)
    exact = found.astype(np.float64) / np.linalg.norm(found.astype(np.float64), axis=1, keepdims=True)
    for k, own in enumerate(queries):
        wanted = own.astype(np.float64) / np.linalg.norm(own.astype(np.float64), axis=1, keepdims=True)
        assert np.allclose(scores[pool.rows, k], (exact @ wanted.T).max(axis=1), atol=1e-6)
    assert np.isnan(scores[~pool.present]).all()
    assert np.isnan(scores).sum() == 5 * 3


def test_blocks_smaller_than_a_shard_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, queries = embeddings(vectors(50), (20,), missing=2), [vectors(2, seed=2)]
    whole = cosine(pool, queries)
    monkeypatch.setattr("holotype.vectors.embeddings.BLOCK", 3)
    assert np.allclose(cosine(pool, queries), whole, atol=1e-6, equal_nan=True)


def test_the_length_of_a_vector_has_no_say() -> None:
    found = vectors(30)
    longer = found * np.linspace(0.01, 100, 30, dtype=np.float32)[:, None]
    query = [vectors(1, seed=2)]
    assert np.allclose(cosine(embeddings(found), query), cosine(embeddings(longer), query), atol=1e-6)


def test_half_precision_costs_little() -> None:
    found, query = vectors(200), [vectors(1, seed=2)]
    half = Embeddings([found.astype(np.float16)], np.arange(200), 200)
    assert np.abs(cosine(half, query) - cosine(Embeddings([found], np.arange(200), 200), query)).max() < 1e-3


def test_several_exemplars_of_a_class_are_the_nearest_of_each() -> None:
    pool = embeddings(vectors(40), (11,))
    alone = [search(pool, ["a"], [exemplar(row)], None).scores[:, 0] for row in (3, 9, 20)]
    order = [exemplar(3, 0), exemplar(20, 1), exemplar(9, 0)]  # the second class stands between
    both = search(pool, ["a", "b"], order, None).scores
    assert np.allclose(both[:, 0], np.maximum(alone[0], alone[1]), atol=1e-6)
    assert np.allclose(both[:, 1], alone[2], atol=1e-6)
    assert np.allclose(both[[3, 9, 20], [0, 0, 1]], 1, atol=1e-6)  # each finds itself


def test_top_k_is_the_best_first_without_nan() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=200).astype(np.float32)
    scores[random.permutation(200)[:50]] = np.nan
    for k in (1, 10, 149, 150):
        assert scores[top_k(scores, k)].tolist() == sorted(scores[~np.isnan(scores)].tolist(), reverse=True)[:k]
    assert sorted(top_k(scores, 1000)) == np.flatnonzero(~np.isnan(scores)).tolist()
    assert len(top_k(scores, 0)) == len(top_k(np.full(3, np.nan, np.float32), 5)) == 0


def test_top_k_with_ties_takes_each_row_once() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.9, 0.1, 0.5], np.float32)
    for k in range(1, 7):
        rows = top_k(scores, k)
        assert len(set(rows.tolist())) == k
        assert scores[rows].tolist() == sorted(scores.tolist(), reverse=True)[:k]


def test_a_search_agrees_with_itself() -> None:
    pool = embeddings(vectors(120), missing=3)
    one = search(pool, ["a", "b"], [exemplar(0, 0), exemplar(1, 1)], None)
    same = compare_searches(one, one)
    assert list(same.overlap) == [{10: 1.0, 50: 1.0, 100: 1.0}] * 2
    assert np.allclose(same.spearman, 1)
    assert same.rows == 120


def test_a_search_that_only_orders_alike_agrees_too_and_one_turned_round_does_not() -> None:
    pool = embeddings(vectors(60))
    one = search(pool, ["a"], [exemplar(0)], None)
    cubed = Search(one.classes, one.exemplars, pool, one.scores**3, 0.0)
    turned = Search(one.classes, one.exemplars, pool, -one.scores, 0.0)
    assert np.allclose(compare_searches(one, cubed).spearman, 1)
    assert compare_searches(one, cubed).overlap[0] == {10: 1.0, 50: 1.0}  # a hundred are not there
    assert np.allclose(compare_searches(one, turned).spearman, -1)
    assert compare_searches(one, turned).overlap[0][10] == 0


def test_rows_that_only_one_search_has_are_left_out() -> None:
    scores = np.linspace(0, 1, 30)
    first, second = scores.copy(), scores.copy()
    first[[29, 28]], second[[27, 3]] = np.nan, np.nan
    comparison = compare_searches(of([[x] for x in first]), of([[x] for x in second]))
    assert comparison.rows == 26
    assert comparison.overlap[0] == {10: 1.0}
    assert comparison.spearman[0] == pytest.approx(1)


def test_with_one_row_in_common_the_correlation_is_undefined() -> None:
    comparison = compare_searches(of([[0.1], [np.nan], [0.3]]), of([[0.1], [0.2], [np.nan]]))
    assert comparison.rows == 1
    assert np.isnan(comparison.spearman[0])
    assert comparison.overlap[0] == {}


def test_an_exemplar_from_outside_needs_the_encoder_of_the_vectors(
    network: str, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path))
    encoder = load_encoder(network)
    data = as_png(picture(0))
    pixels = np.stack([encoder.prepare(picture(row)) for row in range(20)])
    pool = Embeddings([encoder.encode(pixels)], np.arange(20), 20)
    outside = Exemplar("mario.png", 0, None, data)
    with pytest.raises(ExemplarError, match=r"mario\.png has no row in the embeddings.*name their encoder"):
        search(pool, ["a"], [outside], None)
    scores = search(pool, ["a"], [outside], encoder).scores
    assert np.allclose(scores, search(pool, ["a"], [exemplar(0)], None).scores, atol=1e-3)
    # one in the pool whose vector was not supplied is treated alike
    part = Embeddings([pool.shards[0][1:]], np.arange(1, 20), 20)
    with pytest.raises(ExemplarError, match="picture 0 has no row"):
        search(part, ["a"], [exemplar(0)], None)
    again = search(part, ["a"], [Exemplar("0", 0, 0, data)], encoder).scores
    assert np.isnan(again[0, 0])
    assert np.allclose(again[1:], scores[1:], atol=1e-3)


def test_the_middle_of_an_exemplar_is_looked_at_where_an_encoder_is_at_hand(picture: Picture, network: str) -> None:
    encoder, found = load_encoder(network), [as_png(picture(number)) for number in (1, 2, 3)]
    pool = Embeddings([vectors(40, 48)], np.arange(40), 40)
    given = [exemplar(None, label, data) for label, data in zip((0, 0, 1), found, strict=True)]
    searched = search(pool, ["a", "b"], given, encoder)
    closer = l2_normalize(encoder.encode(np.stack([encoder.prepare(middle(decode(data))) for data in found])))
    anchors = searched.pictures(True)
    assert [len(vectors) for vectors in anchors] == [2, 1]
    assert np.allclose(np.concatenate(anchors), l2_normalize(np.concatenate(searched.queries) + closer), atol=1e-5)
    assert searched.pictures(False) is searched.queries
    without = search(pool, ["a"], [exemplar(3)], None)
    assert without.pictures(True) is without.queries


def test_the_middle_of_a_huge_jpeg_is_looked_at_scaled_like_the_whole(network: str) -> None:
    encoder, buffer = load_encoder(network), io.BytesIO()
    Image.new("RGB", (12_000, 9_000), (200, 30, 40)).save(buffer, "JPEG")
    pool = Embeddings([vectors(20, 48)], np.arange(20), 20)
    searched = search(pool, ["a"], [exemplar(None, 0, buffer.getvalue())], encoder)
    assert np.isfinite(searched.pictures(True)[0]).all()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dim", [1, 5, 31, 512])
def test_half_precision_shards_are_compared_as_exactly_as_they_are_stored(dim: int, order: Literal["C", "F"]) -> None:
    found = np.asarray(vectors(20_000, dim), np.float16, order=order)
    found[7] = 0
    queries = [vectors(1, dim, seed=2), vectors(3, dim, seed=3)]
    scores = cosine(Embeddings([found[:50], found[50:]], np.arange(len(found)), len(found)), queries)
    wanted = np.stack([(l2_normalize(found) @ l2_normalize(own).T).max(axis=1) for own in queries], axis=1)
    assert abs(scores - wanted).max() < 1e-3 / np.sqrt(dim) + 1e-6
    assert (scores[7] == 0).all()


@pytest.mark.parametrize(("value", "why"), [(0.0, "only zeros"), (np.nan, "no finite vector")])
def test_an_exemplar_that_nothing_can_be_compared_with_is_refused(
    network: str, picture: Picture, monkeypatch: pytest.MonkeyPatch, value: float, why: str
) -> None:
    """All would be equally far from it, and the order that of the pool."""
    encoder = load_encoder(network)
    monkeypatch.setattr(encoder, "encode", lambda pixels: np.full((len(pixels), 24), value, np.float32))
    pool = Embeddings([vectors(5)], np.arange(1, 6), 6)
    with pytest.raises(ExemplarError, match=f"nothing can be compared with picture 0: .* {why};"):
        search(pool, ["red"], [exemplar(0, data=as_png(picture(0)))], encoder)
    zeros = Embeddings([np.zeros((6, 24), np.float32)], np.arange(6), 6)
    with pytest.raises(ExemplarError, match="only zeros"):
        search(zeros, ["red"], [exemplar(0)], None)
