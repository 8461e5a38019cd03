"""Augmented views: of the rarer classes, of rows that are learnt from, each in its own way, and repeatable."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import Picture
from PIL import Image
from training import B, N, train, write

from holotype.encoders.runtimes import OnnxEncoder
from holotype.model import augment
from holotype.pool.pool import Pool, open_pool
from holotype.settings import FitSettings
from holotype.vectors.store import EmbeddingStore


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Pool:
    return write(tmp_path_factory.mktemp("pool"), picture)


@pytest.fixture(scope="module")
def store(pool: Pool, encoder: OnnxEncoder, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    return EmbeddingStore(tmp_path_factory.mktemp("vectors") / "v", encoder, pool)


def test_views_are_of_rows_learnt_from_and_fill_up_the_rarer_classes(pool: Pool, store: EmbeddingStore) -> None:
    settings = FitSettings(negatives=50, balance="augment", views=3)
    training, plain = train(pool, store, settings=settings), train(pool, store)
    count = len(training.ids)
    assert training.ids == plain.ids
    for name in ("X", "targets", "told", "fold", "stands"):
        assert np.array_equal(getattr(training, name)[:count], getattr(plain, name))
    sizes, before = np.bincount(training.y), np.bincount(plain.y)
    assert training.counts["augmented views"] == sizes.sum() - before.sum() > 0
    assert sizes[2] == before[2]  # the largest class has enough
    assert (before < sizes)[1]
    assert (sizes <= before.max()).all()
    assert (sizes <= before * 4).all()
    assert not training.stands[count:].any()  # no view is an image of the pool
    viewed = [
        name.rpartition("#view")[0]
        for path in store.folder.parent.glob("*-views-0/metadata/*.parquet")
        for name in read_ids(path)
    ]
    assert viewed
    assert set(viewed) <= set(training.ids)
    folds = dict(zip(plain.ids, plain.fold.tolist(), strict=True))
    assert sorted(training.fold[count:].tolist()) == sorted(folds[name] for name in viewed)  # each with its image
    for fold in training.folds:
        assert np.array_equal(training.held_out(fold).X, plain.held_out(fold).X)


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
    lost = next(name for name in first.ids if int(name) in B and name != "030")
    (tmp_path / "pool" / f"{lost}.png").unlink()
    training = train(pool, store, settings=FitSettings(negatives=50, balance="augment", views=2))
    assert len(training.X) == len(training.y) == len(training.fold) == len(training.told) == len(training.stands)
    assert training.counts["augmented views"] == len(training.y) - len(training.ids) > 0


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
    views = training.X[len(training.ids) :][training.y[len(training.ids) :] == 0]
    assert len(views) > 10
    assert len(np.unique(views.round(3), axis=0)) > 5
