"""What the tests of training rows share: a small pool, vectors to search it with, and groups of two classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from conftest import Picture
from numpy.typing import NDArray
from PIL import Image

from holotype.encoders.encode import l2_normalize
from holotype.grouping.groups import ClassThreshold, Groups, group
from holotype.grouping.search import Search, search
from holotype.model.rows import PoolLabels, Training, build, plan
from holotype.pool.exemplars import Exemplar
from holotype.pool.pool import Pool, open_pool
from holotype.progress import Silent
from holotype.settings import FitSettings
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.store import EmbeddingStore

N = 120
A, B = range(30), range(30, 45)  # what resembles the exemplars 0 and 30
DOUBTFUL = range(45, 55)  # a little like a
BROKEN = (5, 60, 61)
SETTINGS = FitSettings(negatives=50)


def write(folder: Path, picture: Picture) -> Pool:
    for row in range(N):
        Image.fromarray(picture(row)).save(folder / f"{row:03}.png")
        if row in BROKEN:
            (folder / f"{row:03}.png").write_bytes(b"no image")
    return open_pool(folder)


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
