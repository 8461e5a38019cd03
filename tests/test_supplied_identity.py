"""Vectors of others are those of this pool: made for it, by this encoder, in its order."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeTar
from numpy.typing import NDArray
from pictures import blurred, encoded
from PIL import Image

from holotype.encoders.encode import l2_normalize
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import EmbeddingsError
from holotype.pool.pool import Pool, open_pool
from holotype.progress import Silent
from holotype.vectors import identity
from holotype.vectors.identity import check_identity
from holotype.vectors.store import EmbeddingStore, embed
from holotype.vectors.supplied import import_embeddings


def vectors(count: int, dim: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vectors" / "checked"


def test_what_was_checked_is_not_encoded_again(
    make_tar: MakeTar, encoder: OnnxEncoder, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another vector, another state of the pool or a damaged note is another matter."""

    def opened(name: str) -> Pool:
        return open_pool(make_tar([(f"{n}.jpg", encoded(blurred(n))) for n in range(20)], name))

    first, again = opened("first.tar"), opened("again.tar")
    np.save(tmp_path / "e.npy", right := embed(first, encoder, tmp_path / "v").take(range(20)))
    median = check_identity(import_embeddings(tmp_path / "e.npy", first), first, encoder)
    with monkeypatch.context() as patch:
        patch.setattr(identity, "encode_images", None)
        assert check_identity(import_embeddings(tmp_path / "e.npy", first), first, encoder) == median
        with pytest.raises(TypeError):
            check_identity(import_embeddings(tmp_path / "e.npy", again), again, encoder)
    for damaged in ("", "[]", '{"median": 2', '{"median": 0.1}'):
        next(cache.iterdir()).write_text(damaged)
        assert check_identity(import_embeddings(tmp_path / "e.npy", first), first, encoder) == median
    np.save(tmp_path / "e.npy", np.roll(right, 1, axis=0))
    with pytest.raises(EmbeddingsError, match="belong to other images, or another encoder"):
        check_identity(import_embeddings(tmp_path / "e.npy", first), first, encoder)


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
    with pytest.raises(EmbeddingsError, match=r"none of \d+ sampled images"):
        check_identity(import_embeddings(tmp_path / "e.npy", broken), broken, encoder)


class Repeated:
    """Many rows of few pictures, of which no two alike lie near each other."""

    def __init__(self) -> None:
        self.pictures = [encoded(blurred(n)) for n in range(40)]

    def read(self, row: int) -> bytes:
        return self.pictures[row * 7 % 40]


@pytest.fixture(scope="module")
def many(encoder: OnnxEncoder) -> tuple[Pool, NDArray[np.float32]]:
    reader, count = Repeated(), 3200
    pool = Pool("many", [str(row) for row in range(count)], [1] * count, reader)
    own = np.concatenate([encoder.encode(encoder.prepare(picture)[None]) for picture in reader.pictures])
    return pool, own[np.arange(count) * 7 % 40]


def rolled(first: int, end: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    return lambda right: np.concatenate([right[:first], np.roll(right[first:end], 1, axis=0), right[end:]])


SHIFTS = [(0, 220), (100, 400), (1500, 1720), (2000, 2300), (2900, 3200), (3190, 3200), (3195, 3200)]


@pytest.mark.parametrize(("first", "end"), SHIFTS)
def test_rows_that_are_shifted_anywhere_are_seen(
    first: int, end: int, many: tuple[Pool, NDArray[np.float32]], encoder: OnnxEncoder, tmp_path: Path
) -> None:
    pool, right = many
    np.save(tmp_path / "e.npy", rolled(first, end)(right))
    with pytest.raises(EmbeddingsError, match=r"from about row \d+ on, images fit the row -1 from their own|belong to"):
        check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder)


def reversed_block(right: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([right[:1510], right[1510:1720][::-1], right[1720:]])


def exchanged_blocks(right: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([right[:300], right[2003:2213], right[510:2003], right[300:510], right[2213:]])


@pytest.mark.parametrize("wrong", [reversed_block, exchanged_blocks])
def test_rows_that_are_in_another_order_anywhere_are_seen(
    wrong: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    many: tuple[Pool, NDArray[np.float32]],
    encoder: OnnxEncoder,
    tmp_path: Path,
) -> None:
    pool, right = many
    np.save(tmp_path / "e.npy", wrong(right))
    with pytest.raises(EmbeddingsError, match=r"around row \d+ most images fit another row better|belong to other"):
        check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder)


def test_how_sure_the_check_is_is_said(
    many: tuple[Pool, NDArray[np.float32]], encoder: OnnxEncoder, tmp_path: Path
) -> None:
    class Said(Silent):
        def say(self, text: str) -> None:
            lines.append(text)

    lines: list[str] = []
    pool, right = many
    noise = np.random.default_rng(0).normal(size=(40, right.shape[1])).astype(np.float32) * right.std() * 0.1
    np.save(tmp_path / "e.npy", right + noise[np.arange(len(pool)) * 7 % 40])  # an encoder that computes otherwise
    assert check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder, Said()) > 0.9
    assert re.fullmatch(
        r"embeddings: of 3,200 rows \d\d were encoded again with .*, median cosine 0\.9\d\d; 200 rows that are shifted "
        "would be seen anywhere, 4 at the end",
        lines[-1],
    )


@pytest.mark.parametrize(("scale", "kind"), [(1e25, "f4"), (1e-25, "f4"), (1e200, "f8"), (1e-200, "f8")])
def test_vectors_of_any_length_are_scaled(scale: float, kind: str, pool: Pool, tmp_path: Path) -> None:
    given = vectors(40).astype(np.float64)
    np.save(tmp_path / "e.npy", (given * scale).astype(kind))
    found = import_embeddings(tmp_path / "e.npy", pool)
    assert np.allclose(found.take(range(40)), l2_normalize(given), atol=1e-5)
    (block,) = [block for _, block in found.blocks()]
    assert np.allclose(np.linalg.norm(block, axis=1), 1, atol=1e-5)
