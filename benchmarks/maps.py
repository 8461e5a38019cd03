"""Linear maps from images and from names into one space: how the small CLIP of benchmarks.towers is learnt.

They begin where the covariance of whitened images and names is largest, and InfoNCE then changes them a little: most of
what they know is in the beginning. What was tried is in docs/tried.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from holotype.encoders.encode import l2_normalize

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

_LEAST = 1e-12


@dataclass(frozen=True)
class Recipe:
    """How the maps are learnt; chosen on the folds of development classes, see docs/tried.md.

    directions, shrinkage   how many directions of images and texts are whitened, and what is added to their variances,
                            in mean variances
    dim                     of the common space
    epochs, rate, batch     of InfoNCE; the rate falls to 0
    dropout, scale          of what goes into the maps, and of the cosines
    """

    directions: tuple[int, int] = (800, 384)
    shrinkage: tuple[float, float] = (1.0, 0.2)
    dim: int = 380
    epochs: int = 16
    rate: float = 1e-4
    batch: int = 512
    dropout: float = 0.3
    scale: float = 10.0
    seed: int = 0


@dataclass(frozen=True)
class Examples:
    """What is learnt from.

    images   (n, features) unit vectors
    shows    (n,) which of `names` an image shows
    names    words
    texts    (templates, names, 384) unit vectors of the names in each template
    """

    images: Array
    shows: Rows
    names: Sequence[str]
    texts: Array

    def of(self, names: Rows) -> "Examples":
        """Return what shows one of `names`."""
        kept = np.flatnonzero(np.isin(self.shows, names))
        shows = np.searchsorted(names, self.shows[kept])
        return Examples(self.images[kept], shows, [self.names[k] for k in names.tolist()], self.texts[:, names])


@dataclass(frozen=True)
class Map:
    """Takes `mean` away, then multiplies with `matrix`."""

    mean: Array
    matrix: Array

    def __call__(self, vectors: Array) -> Array:
        """Return (..., dim) of `vectors` (..., features)."""
        return np.asarray((vectors - self.mean) @ self.matrix, np.float32)

    def then(self, matrix: Array) -> "Map":
        """Return the map that multiplies with `matrix` as well."""
        return Map(self.mean, np.asarray(self.matrix @ matrix, np.float32))


@dataclass(frozen=True)
class Maps:
    """Of the roots of an image's features, and of a text's vector."""

    image: Map
    text: Map

    def images(self, vectors: Array) -> Array:
        """Return (n, dim) unit vectors of an image encoder's `vectors`, of any length."""
        return l2_normalize(self.image(_roots(vectors)))

    def names(self, texts: Array) -> Array:
        """Return (names, dim) unit vectors as a `TextEncoder` gives them, of `texts` (templates, names, features)."""
        return l2_normalize(np.mean([l2_normalize(self.text(one)) for one in texts], axis=0))

    def save(self, path: Path, fingerprint: str) -> None:
        """Write the maps, and the `fingerprint` of the encoder whose features they are for."""
        arrays = dict(zip(("image_mean", "image_matrix", "text_mean", "text_matrix"), self._arrays(), strict=True))
        np.savez(path, encoder=fingerprint, **arrays)

    def _arrays(self) -> tuple[Array, ...]:
        return self.image.mean, self.image.matrix, self.text.mean, self.text.matrix


def fit(examples: Examples, recipe: Recipe) -> Maps:
    """Learn the maps. The same examples give the same maps, on the same machine."""
    roots = _roots(examples.images)
    image = _whitening(roots, recipe.directions[0], recipe.shrinkage[0])
    text = _whitening(examples.texts.reshape(-1, examples.texts.shape[-1]), recipe.directions[1], recipe.shrinkage[1])
    x, y = image(roots), text(examples.texts).mean(axis=0)
    first, second = _learn(x, y, examples.shows, _beginning(x, y, examples.shows, recipe.dim), recipe)
    return Maps(image.then(first), text.then(second))


def _roots(vectors: Array) -> Array:
    """Roots of unit vectors (Hellinger): what is strong in a few images counts less."""
    return np.sqrt(np.maximum(l2_normalize(vectors), 0))


def _whitening(vectors: Array, directions: int, shrinkage: float) -> Map:
    """Return the map to the strongest directions, of variance about 1 each, where vectors are of about length 1."""
    mean = vectors.mean(axis=0)
    covariance = np.cov(vectors, rowvar=False, bias=True).astype(np.float64)
    variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1][:directions], axes[:, ::-1][:, :directions]
    matrix = axes / np.sqrt(variances + shrinkage * np.trace(covariance) / len(covariance))
    lengths = np.linalg.norm((vectors - mean) @ matrix, axis=1)
    return Map(mean, np.asarray(matrix / lengths.mean(), np.float32))


def _weights(shows: Rows) -> Array:
    """Return what an image counts: less where its class is large."""
    return np.asarray(1 / np.sqrt(np.bincount(shows)[shows]), np.float32)


def _beginning(x: Array, y: Array, shows: Rows, dim: int) -> tuple[Array, Array]:
    """Return matrices of images `x` and texts `y`, from the strongest parts of their covariance."""
    left, strengths, right = np.linalg.svd((x * _weights(shows)[:, None]).T @ y[shows])
    scale = np.sqrt(strengths[:dim] / strengths[0])
    return left[:, : len(scale)] * scale, right[: len(scale)].T * scale


def _learn(x: Array, y: Array, shows: Rows, beginning: tuple[Array, Array], recipe: Recipe) -> tuple[Array, Array]:
    """Change the matrices by InfoNCE: a batch's images against its names."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would be other maps
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            return _descend(torch.tensor(x), torch.tensor(y), torch.tensor(shows), beginning, recipe)
    finally:
        torch.set_num_threads(threads)


def _descend(
    x: torch.Tensor, y: torch.Tensor, shows: torch.Tensor, beginning: tuple[Array, Array], recipe: Recipe
) -> tuple[Array, Array]:
    first, second = (torch.tensor(matrix) for matrix in beginning)
    changes = [torch.zeros_like(matrix, requires_grad=True) for matrix in (first, second)]
    optimiser = torch.optim.Adam(changes, lr=recipe.rate)
    steps = recipe.epochs * max(1, len(x) // recipe.batch)
    fall = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / max(1, steps))
    weights = torch.tensor(_weights(shows.numpy()))
    for _ in range(steps):
        rows = torch.multinomial(weights, recipe.batch, replacement=True)
        names, pairs = torch.unique(shows[rows], return_inverse=True)
        left, right = (
            torch.nn.functional.normalize(torch.nn.functional.dropout(of, recipe.dropout) @ (matrix + change), dim=1)
            for of, matrix, change in zip((x[rows], y[names]), (first, second), changes, strict=True)
        )
        loss = _info_nce(recipe.scale * left @ right.T, pairs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        fall.step()
    return tuple((matrix + change).detach().numpy() for matrix, change in zip((first, second), changes, strict=True))


def _info_nce(cosines: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Return the loss of `cosines` (images, names); `pairs` says which name an image shows, several the same one."""
    own = torch.nn.functional.one_hot(pairs, cosines.shape[1]).float()
    by_image = torch.nn.functional.cross_entropy(cosines, pairs)
    by_name = (torch.log_softmax(cosines.T, 1) * (own / own.sum(0)).T).sum(1).mean()
    return by_image - by_name
