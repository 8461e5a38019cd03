"""The pools that quality is measured on: built, encoded and split into development and report classes, once."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import icons
from examples.emoji import build as emoji
from examples.emoji.sources import cache_folder
from holotype import load_encoder, open_pool
from holotype.embeddings import embed, unit
from holotype.images import decode, middle
from holotype.progress import Terminal


@dataclass(frozen=True)
class Truth:
    """A pool's vectors and what they show.

    vectors   (n, dim) float32 of unit length
    classes   (n,) what each image shows
    artists   (n,) who drew it
    development, report   names of the classes that episodes are drawn from
    views     gives the unit vectors (rows, dim) of the middle of images
    """

    name: str
    vectors: NDArray[np.float32]
    classes: NDArray[np.str_]
    artists: NDArray[np.str_]
    development: list[str]
    report: list[str]
    views: Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True)
class _Recipe:
    build: Callable[[Path], object]
    least: int  # images of a class that an episode may ask for
    most: int


POOLS = {
    "emoji": _Recipe(lambda out: emoji.build(out, emoji.Settings("full", seed=0, sides=(128, 320))), 40, 92),
    "icons": _Recipe(icons.build, 25, 10_000),
}
ENCODERS = ("efficientnet_lite0", "efficientnet_lite2")


def load(name: str, encoder: str) -> Truth:
    """Return the pool `name` as `encoder` sees it; what is not in the cache yet is built and encoded."""
    recipe, folder = POOLS[name], cache_folder().parent / "benchmarks" / name
    recipe.build(folder)
    pool = open_pool(folder / "images.tar")
    network = load_encoder(encoder)
    embeddings = embed(pool, network, folder / "vectors" / encoder, Terminal())
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["index"]: row for row in csv.DictReader(file)}
    shown = [rows[pool.ids[row]] for row in embeddings.rows]
    classes = np.array([row["class"] for row in shown])
    artists = np.array([row["artist"] for row in shown])
    names = _eligible(classes, artists, recipe)
    development = [one for one in names if is_development(one)]
    report = [one for one in names if not is_development(one)]

    @cache
    def view(row: int) -> NDArray[np.float32]:
        image = middle(decode(pool.read(int(embeddings.rows[row]))))
        return unit(network.encode(network.prepare(image)[None])).ravel()

    def views(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack([view(row) for row in rows.tolist()])

    vectors = embeddings.take(embeddings.rows)
    return Truth(f"{name}, {encoder}", vectors, classes, artists, development, report, views)


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
