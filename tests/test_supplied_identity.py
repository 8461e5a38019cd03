"""Vectors of others are those of this pool: made for it, by this encoder, in its order."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeTar
from numpy.typing import NDArray
from pictures import blurred, encoded
from PIL import Image

from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import EmbeddingsError
from holotype.pool.pool import Pool, open_pool
from holotype.vectors.store import EmbeddingStore, embed
from holotype.vectors.supplied import check_identity, import_embeddings


@pytest.fixture(scope="session")
def encoder(network: str, tmp_path_factory: pytest.TempPathFactory) -> OnnxEncoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return load_encoder(network)


@pytest.fixture
def pool(make_tar: MakeTar) -> Pool:
    return open_pool(make_tar([(f"{row}.jpg", encoded(blurred(row))) for row in range(40)]))


def vectors(count: int, dim: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)


def test_vectors_of_other_images_or_of_views_are_those_of_no_image_here(
    pool: Pool, encoder: OnnxEncoder, make_tar: MakeTar, tmp_path: Path
) -> None:
    """Their names and sizes may be the same."""
    embed(pool, encoder, tmp_path / "v")
    members = [(f"{name}.jpg", pool.read(row)[:-2] + b"xx") for row, name in enumerate(pool.ids)]
    other = open_pool(make_tar(members, "other.tar"))
    message = r"v holds no vector of an image of .*other\.tar: .* embedded other images there"
    with pytest.raises(EmbeddingsError, match=message):
        import_embeddings(tmp_path / "v", other)
    views = [f"{name}#view0@" for name in pool.ids]
    pixels = {view: encoder.prepare(pool.read(row)) for row, view in enumerate(views)}
    EmbeddingStore(tmp_path / "views", encoder, pool).ensure(views, pixels.__getitem__)
    with pytest.raises(EmbeddingsError, match="views holds no vector of an image of"):
        import_embeddings(tmp_path / "views", pool)


def alike_pool(make_tar: MakeTar) -> Pool:
    """Frames of one film: each is much like the one before, so that cosines are high throughout."""
    scenes = [np.asarray(blurred(row), float) for row in (1, 2, 3)]
    blends = [(scenes[n // 20], scenes[n // 20 + 1], n % 20 / 20) for n in range(40)]
    frames = [Image.fromarray((a + (b - a) * share).astype(np.uint8)) for a, b, share in blends]
    return open_pool(make_tar([(f"{n}.png", encoded(frame, "PNG")) for n, frame in enumerate(frames)]))


WRONG: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "shuffled": lambda right: np.random.default_rng(0).permutation(right),
    "shifted forward": lambda right: np.roll(right, 1, axis=0),
    "shifted back": lambda right: np.roll(right, -1, axis=0),
    "shifted from the middle on": lambda right: np.concatenate([right[:20], right[21:], right[20:21]]),
    "shifted from behind the middle on": lambda right: np.concatenate([right[:28], right[29:], right[28:29]]),
    "another encoder": lambda right: right @ np.linalg.qr(vectors(right.shape[1], right.shape[1]))[0],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("kind", ["different", "alike"])
def test_rows_of_other_images(
    wrong: str, kind: str, pool: Pool, make_tar: MakeTar, encoder: OnnxEncoder, tmp_path: Path
) -> None:
    if kind == "alike":
        pool = alike_pool(partial(make_tar, name="alike.tar"))
    right = embed(pool, encoder, tmp_path / "v").take(range(len(pool)))
    np.save(tmp_path / "e.npy", right)
    assert check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder) > 0.999
    np.save(tmp_path / "e.npy", WRONG[wrong](right))
    with pytest.raises(EmbeddingsError, match="belong to other images, or another encoder"):
        check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder)


def test_identity_with_copies_and_unreadable_images(make_tar: MakeTar, encoder: OnnxEncoder, tmp_path: Path) -> None:
    """Copies of one image are no strangers, and unreadable images are passed over."""
    pool = open_pool(make_tar([(f"{n}.jpg", b"" if n % 3 == 0 else encoded(blurred(n // 9))) for n in range(60)]))
    found = embed(pool, encoder, tmp_path / "v")
    given = np.ones((60, encoder.dim), np.float32)
    given[found.rows] = found.take(found.rows)
    np.save(tmp_path / "e.npy", given)
    assert check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder) > 0.999


def test_identity_that_cannot_be_checked(make_tar: MakeTar, encoder: OnnxEncoder, pool: Pool, tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", vectors(40))
    with pytest.raises(EmbeddingsError, match=r"have 6 dimensions, .* gives 48"):
        check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder)
    broken = open_pool(make_tar([(f"{n}.jpg", b"") for n in range(40)], "broken.tar"))
    with pytest.raises(EmbeddingsError, match="none of 32 sampled images"):
        check_identity(import_embeddings(tmp_path / "e.npy", broken), broken, encoder)
