"""The pools that quality is measured on: built, encoded and split into development and report classes, once."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import icons, mixed
from examples.emoji import build as emoji
from examples.emoji.archive import write_tar
from examples.emoji.sources import cache_folder
from holotype import load_encoder, open_pool
from holotype.encoders.encode import l2_normalize
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import HolotypeError
from holotype.model.duplicates import near_duplicates
from holotype.pool.images import decode, middle
from holotype.pool.pool import Pool
from holotype.progress import Terminal
from holotype.settings import TrainSettings
from holotype.vectors.store import EmbeddingStore, embed


@dataclass(frozen=True)
class Truth:
    """A pool's vectors and what they show.

    vectors   (n, dim) float32 of unit length
    classes   (n,) what each image shows
    artists   (n,) who drew it
    development, report   names of the classes that episodes are drawn from
    pool, encoder   the images, and what made the vectors of all of them
    folder    where the raw vectors are, in one named after the encoder
    """

    name: str
    vectors: NDArray[np.float32]
    classes: NDArray[np.str_]
    artists: NDArray[np.str_]
    development: list[str]
    report: list[str]
    pool: Pool
    encoder: OnnxEncoder
    folder: Path

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """(n, dim) raw vectors of the images."""
        store = EmbeddingStore(self.folder / self.encoder.name_on_disk, self.encoder, self.pool)
        return store.take(self.pool.ids)[0]

    @cached_property
    def _views(self) -> dict[int, NDArray[np.float32]]:
        return {}

    def views(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the unit vectors (rows, dim) of the middle of images."""
        for row in rows.tolist():
            if row not in self._views:
                pixels = self.encoder.prepare(middle(decode(self.pool.read(row))))
                self._views[row] = l2_normalize(self.encoder.encode(pixels[None])).ravel()
        return np.stack([self._views[row] for row in rows.tolist()])


@dataclass(frozen=True)
class _Recipe:
    build: Callable[[Path], object]
    least: int  # images of a class that an episode may ask for
    most: int


POOLS = {
    "emoji": _Recipe(lambda out: emoji.build(out, emoji.Settings("full", seed=0, sides=(128, 320))), 40, 92),
    "icons": _Recipe(icons.build, 25, 10_000),
    "mixed": _Recipe(mixed.build, 15, 1_000),
}
BUILT_ON = ("emoji", "icons")  # constants are fitted on these, and results are published of them; "mixed" only checks
ENCODERS = ("efficientnet_lite0", "efficientnet_lite2")


def load(name: str, encoder: str) -> Truth:
    """Return the pool `name` as `encoder` sees it; what is not in the cache yet is built and encoded."""
    recipe, folder = POOLS[name], cache_folder().parent / "benchmarks" / name
    recipe.build(folder)
    pool = open_pool(folder / "images.tar")
    network = load_encoder(encoder)
    embeddings = embed(pool, network, folder / "vectors" / network.name_on_disk, Terminal())
    if len(embeddings.rows) < len(pool):
        raise HolotypeError(f"expected a pool of readable images in {folder}, {embeddings.unreadable} are not")
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["index"]: row for row in csv.DictReader(file)}
    classes = np.array([rows[name]["class"] for name in pool.ids])
    artists = np.array([rows[name]["artist"] for name in pool.ids])
    names = _eligible(classes, artists, recipe)
    return Truth(
        f"{name}, {encoder}",
        embeddings.take(range(len(pool))),
        classes,
        artists,
        [one for one in names if is_development(one)],
        [one for one in names if not is_development(one)],
        pool,
        network,
        folder / "vectors",
    )


def without(truth: Truth, share: float, seed: int) -> tuple[Truth, Truth]:
    """Return what is left of a pool when about `share` of it is taken away, and what was taken: as new images.

    What is nearly the same goes together, so that no new image is known from the pool.
    """
    sets = near_duplicates(truth.vectors, TrainSettings().near_duplicate)
    new = (np.random.default_rng(seed).random(int(sets.max()) + 1) < share)[sets]
    folder = truth.folder.parent / f"without-{share:g}-{seed}"
    if not (folder / "images.tar").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_tar(folder / "images.tar", (truth.pool.read(row) for row in np.flatnonzero(~new).tolist()))
    pool, vectors = open_pool(folder / "images.tar"), truth.encoder.name_on_disk
    EmbeddingStore(folder / "vectors" / vectors, truth.encoder, pool, [truth.folder / vectors]).embed(Terminal())
    kept = replace(_part(truth, np.flatnonzero(~new)), pool=pool, folder=folder / "vectors")
    return kept, _part(truth, np.flatnonzero(new))


def _part(truth: Truth, rows: NDArray[np.int64]) -> Truth:
    return replace(truth, vectors=truth.vectors[rows], classes=truth.classes[rows], artists=truth.artists[rows])


def is_development(name: str) -> bool:
    """Tell whether the method may be built while looking at this class: decided by a fixed hash of its name."""
    return hashlib.sha256(f"holotype {name}".encode()).digest()[0] % 2 == 0


def _eligible(classes: NDArray[np.str_], artists: NDArray[np.str_], recipe: _Recipe) -> list[str]:
    count = Counter(classes.tolist())
    return [
        name
        for name in sorted(count)
        if name and recipe.least <= count[name] <= recipe.most and len(set(artists[classes == name])) >= 3
    ]
