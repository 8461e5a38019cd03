"""Which rows are learnt from: never a test row, never a doubtful one, and none that is shifted or silently gone."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Picture
from numpy.typing import NDArray
from PIL import Image

from holotype.encoders.encode import l2_normalize
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import GroupError
from holotype.grouping.groups import ClassThreshold, Groups, group
from holotype.grouping.search import Search, search
from holotype.model import augment
from holotype.model.calibration import calibrate
from holotype.model.heads import fit_head
from holotype.model.rows import PoolLabels, Training, agreed, build, plan
from holotype.pool.exemplars import Exemplar
from holotype.pool.pool import Pool, open_pool
from holotype.progress import Silent
from holotype.settings import FitSettings, HeadSettings
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.store import EmbeddingStore

N = 120
ROWS = np.arange(N)
A, B = range(30), range(30, 45)  # what resembles the exemplars 0 and 30
DOUBTFUL = range(45, 55)  # a little like a
BROKEN = (5, 60, 61)
SETTINGS = FitSettings(negatives=50)


@pytest.fixture(scope="module")
def encoder(network: str, tmp_path_factory: pytest.TempPathFactory) -> OnnxEncoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_encoder(network)


def write(folder: Path, picture: Picture) -> Pool:
    for row in range(N):
        Image.fromarray(picture(row)).save(folder / f"{row:03}.png")
        if row in BROKEN:
            (folder / f"{row:03}.png").write_bytes(b"no image")
    return open_pool(folder)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Pool:
    return write(tmp_path_factory.mktemp("pool"), picture)


@pytest.fixture(scope="module")
def store(pool: Pool, encoder: OnnxEncoder, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    return EmbeddingStore(tmp_path_factory.mktemp("vectors") / "v", encoder, pool)


def supplied(seed: int = 0) -> NDArray[np.float32]:
    """Vectors of the search space: no two nearly the same, the members of a class at .9 to its exemplar."""
    vectors = l2_normalize(np.random.default_rng(seed).normal(size=(N, 256)))
    for rows, cosine in ((A, 0.9), (B, 0.9), (DOUBTFUL, 0.7)):
        centre = vectors[30] if rows is B else vectors[0]
        others = [row for row in rows if row not in (0, 30)]
        away = l2_normalize(vectors[others] - (vectors[others] @ centre)[:, None] * centre)
        vectors[others] = cosine * centre + np.sqrt(1 - cosine**2) * away
    return vectors


def exemplars(pool: Pool, rows: Sequence[int] = (0, 30)) -> list[Exemplar]:
    return [Exemplar(pool.ids[row], label, row, pool.read(row)) for label, row in enumerate(rows)]


def find(pool: Pool, vectors: NDArray[np.float32] | None = None) -> Search:
    vectors = supplied() if vectors is None else vectors
    return search(Embeddings([vectors], np.arange(N), N), ["a", "b"], exemplars(pool), None)


def groups_at(searched: Search, value: float = 0.8, doubtful: float = 0.6) -> Groups:
    own = {e.row: e.label for e in searched.exemplars if e.row is not None}
    return group(searched.classes, searched.scores, [ClassThreshold(value, doubtful, "given", False)] * 2, own, 0.01)


def train(
    pool: Pool,
    store: EmbeddingStore,
    searched: Search | None = None,
    held_out: Sequence[int] = (),
    settings: FitSettings = SETTINGS,
) -> Training:
    searched = searched or find(pool)
    labels = PoolLabels(groups_at(searched))
    parts = plan(searched, [labels], held_out, settings)
    return build(parts, labels, searched, pool, store, settings, Silent())


def numbers(ids: Sequence[str]) -> set[int]:
    return {int(name) for name in ids}


def test_rows_carry_their_own_vector_and_label(pool: Pool, store: EmbeddingStore, encoder: OnnxEncoder) -> None:
    training = train(pool, store)
    for ids, rows in ((training.fit_ids, training.fit), (training.validation_ids, training.validation)):
        assert len(ids) == len(rows.y) == len(rows.X) == len(rows.weights)
        pixels = np.stack([encoder.prepare(pool.read(pool.row(name))) for name in ids])
        assert np.allclose(rows.X, encoder.encode(pixels), atol=1e-2)
        assert rows.y.tolist() == [0 if int(name) in A else 1 if int(name) in B else 2 for name in ids]
    assert not set(training.fit_ids) & set(training.validation_ids)
    assert {"000", "030"} <= set(training.fit_ids)  # the exemplars
    assert len(training.validation_ids) == 6 + 3 + 10 - len(numbers(list(training.unreadable)) & validation_rows(pool))


def validation_rows(pool: Pool) -> set[int]:
    searched = find(pool)
    return set(plan(searched, [PoolLabels(groups_at(searched))], [], SETTINGS).validation.tolist())


@pytest.mark.parametrize("seed", range(4))
def test_test_rows_and_their_like_are_in_no_part(pool: Pool, store: EmbeddingStore, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = supplied()
    held_out = random.permutation(np.setdiff1d(np.arange(N), [0, 30]))[:40]
    twin = int(np.setdiff1d(range(70, 120), held_out)[0])
    vectors[twin] = l2_normalize(vectors[held_out[:1]] + 0.001)
    training = train(pool, store, find(pool, vectors), held_out.tolist(), FitSettings(negatives=50, seed=seed))
    learnt = numbers([*training.fit_ids, *training.validation_ids])
    assert not learnt & {*held_out.tolist(), twin}
    assert all(training.dropped[pool.ids[row]] == "a test row" for row in held_out if row in (*A, *B))
    assert training.dropped.get(pool.ids[twin], "not sampled") in ("nearly the same as a test row", "not sampled")


def test_doubtful_rows_are_in_no_part(pool: Pool, store: EmbeddingStore) -> None:
    everything = FitSettings(negatives=1000)
    training = train(pool, store, settings=everything)
    learnt = numbers([*training.fit_ids, *training.validation_ids])
    assert not learnt & set(DOUBTFUL)
    assert learnt == set(range(N)) - set(DOUBTFUL) - set(BROKEN)  # all else is


def test_unreadable_rows_are_reported_and_shift_nothing(pool: Pool, store: EmbeddingStore) -> None:
    training = train(pool, store, settings=FitSettings(negatives=1000))
    assert numbers(list(training.unreadable)) == set(BROKEN)
    assert all(why.startswith("not an image") for why in training.unreadable.values())
    assert training.counts["fit a"] + training.counts["validation a"] == len(A) - 1


def test_the_sample_of_none_is_limited_and_the_counts_say_what_was_taken(pool: Pool, store: EmbeddingStore) -> None:
    training = train(pool, store, settings=FitSettings(negatives=20))
    broken = len(set(training.unreadable) - {"005"})
    assert training.counts["fit none"] + training.counts["validation none"] == 20 - broken
    for part, rows in (("fit", training.fit), ("validation", training.validation)):
        found = [training.counts[f"{part} {name}"] for name in ("a", "b", "none")]
        assert found == np.bincount(rows.y, minlength=3).tolist()


def test_the_same_seed_learns_from_the_same_rows(pool: Pool, store: EmbeddingStore) -> None:
    first, again = (train(pool, store, settings=FitSettings(negatives=20, seed=1)) for _ in range(2))
    other = train(pool, store, settings=FitSettings(negatives=20, seed=2))
    assert first.fit_ids == again.fit_ids
    assert set(first.fit_ids) != set(other.fit_ids)


def test_test_rows_do_not_use_up_the_sample_of_none(pool: Pool, store: EmbeddingStore) -> None:
    training = train(pool, store, held_out=list(range(70, 110)), settings=FitSettings(negatives=10))
    assert training.counts["fit none"] + training.counts["validation none"] >= 10 - 2


def test_the_sample_of_none_stays_when_an_image_leaves_the_background(pool: Pool) -> None:
    searched, settings = find(pool), SETTINGS.model_copy(update={"negatives": 40})
    groups = groups_at(searched)
    decision = groups.decision.copy()
    decision[np.flatnonzero(decision == "background")[0]] = "doubtful"
    one, other = (
        plan(searched, [PoolLabels(each)], (), settings) for each in (groups, replace(groups, decision=decision))
    )
    rows, again = (set(np.concatenate([part.fit, part.validation]).tolist()) for part in (one, other))
    assert len(rows - again) <= 1


def test_each_grouping_labels_the_common_rows_in_its_own_way(pool: Pool, store: EmbeddingStore) -> None:
    searched = find(pool)
    strict, loose = PoolLabels(groups_at(searched, 0.8)), PoolLabels(groups_at(searched, 0.65, 0.6))
    settings = FitSettings(negatives=1000)
    parts = plan(searched, [strict, loose], [], settings)
    one, two = (build(parts, labels, searched, pool, store, settings, Silent()) for labels in (strict, loose))
    assert numbers([*two.fit_ids, *two.validation_ids]) - numbers([*one.fit_ids, *one.validation_ids]) == set(DOUBTFUL)
    assert set(one.fit_ids) <= set(two.fit_ids)
    assert set(one.validation_ids) <= set(two.validation_ids)
    common = {pool.ids[row] for row in agreed([strict, loose], ROWS)}
    assert not numbers(list(common)) & set(DOUBTFUL)
    (fit, judged), (_, judged_too) = one.judged_by(common), two.judged_by(common)
    assert fit is one.fit
    assert np.array_equal(judged.y, judged_too.y)
    assert np.array_equal(judged.X, judged_too.X)
    assert np.allclose(judged.weights, judged_too.weights)


def test_rows_agreed_on_are_those_that_each_labels_alike(pool: Pool) -> None:
    searched = find(pool)
    one, strict = groups_at(searched, 0.8), groups_at(searched, 0.8)
    label, decision = strict.label.copy(), strict.decision.copy()
    label[3], decision[4], decision[100] = 1, "doubtful", "member"
    other = replace(strict, label=label, decision=decision)
    assert agreed([PoolLabels(one)], ROWS) == set(PoolLabels(one).of(ROWS)) == set(range(N)) - set(DOUBTFUL)
    assert agreed([PoolLabels(one), PoolLabels(other)], ROWS) == agreed([PoolLabels(one)], ROWS) - {3, 4, 100}
    assert agreed([PoolLabels(other), PoolLabels(one)], ROWS) == agreed([PoolLabels(one), PoolLabels(other)], ROWS)


def test_judged_rows_weigh_alike_for_each_class(pool: Pool, store: EmbeddingStore) -> None:
    training = train(pool, store)
    ids = set(training.validation_ids) - {training.validation_ids[0]}
    _, judged = training.judged_by(ids)
    assert len(judged.y) == len(ids)
    per_class = np.bincount(judged.y, judged.weights)
    assert np.allclose(per_class, per_class[0])
    with pytest.raises(GroupError, match="no validation row"):
        training.judged_by(set())


def test_nothing_left_for_none(pool: Pool, store: EmbeddingStore) -> None:
    tested = "nothing is learnt of 'none', so it is never predicted: the 65 images outside the classes are rows of the"
    (why,) = train(pool, store, held_out=list(range(55, N))).warnings
    assert why.startswith(tested)
    (why,) = train(pool, store, held_out=[row for row in range(55, N) if row not in BROKEN]).warnings
    assert why.startswith(tested)
    assert why.endswith("leave some of them out of the test set")
    vectors = supplied()
    vectors[55:] = vectors[70] + np.random.default_rng(0).normal(0, 1e-3, (N - 55, 256))
    training = train(pool, store, find(pool, vectors), held_out=[70])
    assert len(training.warnings) == 1
    assert not training.counts["fit none"]
    head = fit_head("linear", HeadSettings(), training.fit, training.validation, 3, 0)
    prior = np.array([0.1, 0.1, 0.8])
    scores, learnt = head.scores(training.fit.X), np.array([0.5, 0.5, 0])
    seen = calibrate(scores, training.fit.y, trained_prior=learnt, pool_prior=prior)
    assert seen.probabilities(scores)[:, 2].max() < 1e-6


def test_an_exemplar_whose_vector_was_not_supplied_is_learnt_from_all_the_same(
    pool: Pool, store: EmbeddingStore, encoder: OnnxEncoder
) -> None:
    pixels = np.stack([encoder.prepare(pool.read(row)) for row in range(N) if row not in BROKEN])
    there = np.array([row for row in range(N) if row not in BROKEN])
    whole = Embeddings([encoder.encode(pixels)], there, N)
    part = Embeddings([whole.shards[0][1:]], there[1:], N)
    chosen = exemplars(pool, (0, 1))  # red and green
    found = []
    for embeddings in (whole, part):
        searched = search(embeddings, ["a", "b"], chosen, encoder)
        labels = PoolLabels(groups_at(searched, 0.95, 0.9))
        settings = FitSettings(near_duplicate=1.0)
        parts = plan(searched, [labels], [], settings)
        training = build(parts, labels, searched, pool, store, settings, Silent())
        found.append(training)
        assert training.fit.y.tolist().count(0) == training.counts["fit a"] > 1
    assert chosen[0].key in found[1].fit_ids
    assert found[0].counts["fit a"] + found[0].counts["validation a"] == (
        found[1].counts["fit a"] + found[1].counts["validation a"]
    )


def test_an_exemplar_from_outside_is_learnt_from(pool: Pool, store: EmbeddingStore, encoder: OnnxEncoder) -> None:
    searched = find(pool)
    outside = Exemplar("mario.png", 0, None, pool.read(80))
    training = train(pool, store, replace(searched, exemplars=[*searched.exemplars, outside]))
    place = training.fit_ids.index(outside.key)
    assert training.fit.y[place] == 0
    assert np.allclose(training.fit.X[place], encoder.encode(encoder.prepare(pool.read(80))[None])[0], atol=1e-2)
    assert outside.key not in training.validation_ids


def test_views_are_of_fit_rows_and_fill_up_the_rarer_classes(pool: Pool, store: EmbeddingStore) -> None:
    settings = FitSettings(negatives=50, balance="augment", views=3)
    training, plain = train(pool, store, settings=settings), train(pool, store)
    count = len(training.fit_ids)
    assert training.fit_ids == plain.fit_ids
    assert np.array_equal(training.fit.X[:count], plain.fit.X)
    assert training.validation_ids == plain.validation_ids
    assert np.array_equal(training.validation.X, plain.validation.X)
    sizes, before = np.bincount(training.fit.y), np.bincount(plain.fit.y)
    assert training.counts["augmented views"] == sizes.sum() - before.sum() > 0
    assert sizes[2] == before[2]  # the largest class has enough
    assert (before < sizes)[1]
    assert (sizes <= before.max()).all()
    assert (sizes <= before * 4).all()
    assert np.array_equal(training.fit.weights, np.ones(len(training.fit.y)))
    viewed = {
        name.rpartition("#view")[0]
        for path in store.folder.parent.glob("*-views-0/metadata/*.parquet")
        for name in read_ids(path)
    }
    assert viewed
    assert viewed <= set(training.fit_ids)


def read_ids(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return [str(name) for name in pq.read_table(path)["id"].to_pylist()]


def test_an_image_that_is_gone_before_its_views_are_made_shifts_no_label(
    picture: Picture, encoder: OnnxEncoder, tmp_path: Path
) -> None:
    (tmp_path / "pool").mkdir()
    pool = write(tmp_path / "pool", picture)
    store = EmbeddingStore(tmp_path / "v", encoder, pool)
    first = train(pool, store)
    lost = next(name for name in first.fit_ids if int(name) in B and name != "030")
    (tmp_path / "pool" / f"{lost}.png").unlink()
    training = train(pool, store, settings=FitSettings(negatives=50, balance="augment", views=2))
    assert len(training.fit.X) == len(training.fit.y)
    assert training.counts["augmented views"] == len(training.fit.y) - len(training.fit_ids) > 0


def test_views_are_random_repeatable_and_leave_the_global_generators_alone(picture: Picture) -> None:
    import torch

    pixels = np.asarray(Image.fromarray(picture(0)).resize((32, 32)))
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (augment.views(pixels, 4, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.rand(3), wanted)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({view.tobytes() for view in first}) == 4
    assert first.shape == (4, 32, 32, 3)
    assert first.dtype == np.uint8


def test_views_are_the_same_from_many_threads(picture: Picture) -> None:
    import torch

    pixels = np.asarray(Image.fromarray(picture(0)).resize((32, 32)))
    alone = [augment.views(pixels, 1, seed) for seed in range(40)]
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda seed: augment.views(pixels, 1, seed), range(40)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
    assert torch.equal(torch.rand(3), wanted)


def test_two_images_are_not_changed_in_the_same_way(picture: Picture, encoder: OnnxEncoder, tmp_path: Path) -> None:
    """Copies of one picture under several ids: their views must differ, or the views add little."""
    buffer = io.BytesIO()
    Image.fromarray(picture(13)).save(buffer, "PNG")
    for row in range(30):
        (tmp_path / f"{row:03}.png").write_bytes(buffer.getvalue())
    for row in range(30, N):
        Image.fromarray(picture(row)).save(tmp_path / f"{row:03}.png")
    pool = open_pool(tmp_path)
    store = EmbeddingStore(tmp_path / "v", encoder, pool)
    training = train(pool, store, settings=FitSettings(negatives=200, balance="augment", views=1))
    views = training.fit.X[len(training.fit_ids) :][training.fit.y[len(training.fit_ids) :] == 0]
    assert len(views) > 10
    assert len(np.unique(views.round(3), axis=0)) > 5
