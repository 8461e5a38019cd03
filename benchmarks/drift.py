"""python -m benchmarks.drift: which distance tells best that images are others than those of a pool.

Development classes alone. Of each pool 1,000 images are taken away: they are the same as the pool, and the distance has
to say so. Others are images of the other pool, and some of this one that were blurred, turned, inverted, or made grey.
Each figure is the population stability index of their distances against those of the pool; above .25 they are others.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from benchmarks.pools import BUILT_ON, Truth, is_development, load
from holotype.encoders.encode import l2_normalize
from holotype.evaluation.drift import stability_index
from holotype.grouping.space import fit_space
from holotype.model.pool_sample import nearest
from holotype.pool.images import decode
from holotype.vectors.embeddings import Embeddings

AWAY, CHANGED = 1000, 300  # images that are taken away, and of these that are changed
OUT = Path("benchmarks/results/drift.md")
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(max(image.size) / 40)),
    "turned": lambda image: image.rotate(90, expand=True),
    "inverted": ImageOps.invert,
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
}

Matrix = NDArray[np.float32]
Distance = Callable[[Matrix], NDArray[np.float64]]


def distances(pool: Matrix, random: np.random.Generator) -> Iterator[tuple[str, Distance]]:
    """Yield each distance of unit vectors from `pool` (n, dim), by its name."""
    for count in (3, 256, 1024, 4096):
        sample = pool[random.choice(len(pool), count, replace=False)]
        name = "the nearest of 3 exemplars" if count == 3 else f"the nearest of {count:,}"
        yield name, lambda vectors, sample=sample: nearest(vectors, sample)
    space = fit_space(Embeddings([pool], np.arange(len(pool)), len(pool)), "whitened")
    white = space.transform(sample[:1024])
    yield "the nearest of 1,024, whitened", lambda vectors: nearest(space.transform(vectors), white)
    mean = pool.mean(axis=0)
    towards = mean / np.linalg.norm(mean)
    yield "1 - cosine to the mean", lambda vectors: np.asarray(1 - vectors @ towards, np.float64)
    covariance = np.cov((pool - mean).T)
    shrunk = covariance + 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    root = np.linalg.cholesky(np.linalg.inv(shrunk))
    yield "Mahalanobis", lambda vectors: np.asarray(np.linalg.norm((vectors - mean) @ root, axis=1), np.float64)


def measure(home: Truth, other: Truth) -> list[str]:
    """Return the lines of a table about the pool `home`."""
    random = np.random.default_rng(1)
    away, rest = np.split(random.permutation(_development(home)), [AWAY])
    pool = home.vectors[rest]
    seen = {"the same": home.vectors[away]}
    seen |= {"the other pool": other.vectors[random.permutation(_development(other))[:AWAY]]}
    seen |= {name: _encoded(home, away[:CHANGED], change) for name, change in CHANGES.items()}
    lines = [f"### {home.name}: {len(pool):,} images", "", f"| distance to | {' | '.join(seen)} |"]
    lines.append("|---" * (len(seen) + 1) + "|")
    for name, distance in distances(pool, random):
        expected = distance(pool)
        lines.append(
            f"| {name} | {' | '.join(f'{stability_index(expected, distance(v)):.2f}' for v in seen.values())} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def _development(truth: Truth) -> NDArray[np.int64]:
    names = [name for name in np.unique(truth.classes).tolist() if name and is_development(name)]
    return np.flatnonzero(np.isin(truth.classes, names))


def _encoded(truth: Truth, rows: NDArray[np.int64], change: Callable[[Image.Image], Image.Image]) -> Matrix:
    pixels = (truth.encoder.prepare(change(decode(truth.pool.read(row)))) for row in rows.tolist())
    return l2_normalize(np.concatenate([truth.encoder.encode(one[None]) for one in pixels]))


def main(_: Sequence[str] | None = None) -> int:
    """Measure both pools; print the tables, and write them."""
    pools = [load(name, "efficientnet_lite0") for name in BUILT_ON]
    text = "\n".join([*measure(*pools), *measure(*reversed(pools))])
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
