"""The space that a pool is ranked in: what tells its images apart counts, what varies between near twins does not."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.encode import l2_normalize
from holotype.progress import Step, no_step
from holotype.settings import SpaceName
from holotype.vectors.embeddings import Embeddings

# Where the comment does not say otherwise, `python -m benchmarks.constants --space` varies a constant on development
# classes; docs/tried.md has other figures.
_SAMPLE = 16_384  # rows of the pool that a space is fitted on: a limit of time (`python -m benchmarks.scale`)
_COARSE = 256  # directions in which neighbours are looked for
_PAIRED, _PAIRED_AGAIN = 5, 10  # neighbours that are pairs, in the first round and in the second
_AVERAGED, _PER = 2, 8192  # before the second round an image is averaged with one neighbour for every 8,192, 1 or 2
_SHARPNESS = 3  # they weigh cosine ** 3
_DIRECTIONS = 256  # at most so many are kept
_WIDE = 512  # of the whitened space, where people's answers are learnt; docs/tried.md has the figures
_SHRINKAGE = 0.05  # of the scatter within pairs towards its mean eigenvalue, where pairs abound
_WIDEST, _STRONGEST = 2048, 1024  # of more dimensions only those of the greatest variance are fitted: a limit of time
_MORE = 64  # directions that are looked for besides
_ROUNDING = 1e-6  # of the greatest variance: what is below is noise of float32
_TOGETHER = 32  # columns of which only the greatest is looked at first: a choice of speed, the outcome is the same
_LEAST = 256  # rows below which nothing but the centre is fitted: with fewer rows than directions a scatter is noise

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Space:
    """Unit vectors (n, dim) to unit vectors (n, directions): root, centre, project.

    power        whether the square root is taken first, of features that are never negative
    mean         (dim,) of the rooted pool
    projection   (dim, directions), None where vectors are only centred
    """

    power: bool
    mean: Matrix
    projection: Matrix | None

    def transform(self, vectors: Matrix) -> Matrix:
        """Return the unit vectors of `vectors` in this space."""
        moved = (np.sqrt(np.maximum(vectors, 0)) if self.power else vectors) - self.mean
        return l2_normalize(moved if self.projection is None else moved @ self.projection)

    @classmethod
    def plain(cls, dim: int) -> "Space":
        """Return the space of `dim` dimensions in which nothing changes."""
        return cls(False, np.zeros(dim, np.float32), None)

    def arrays(self) -> dict[str, Matrix]:
        """What a saved model holds of this space; `from_arrays` takes it back."""
        found = {"space_mean": self.mean, "space_power": np.array([self.power], np.float32)}
        return found if self.projection is None else found | {"space_projection": self.projection}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "Space":
        """Return the space whose `arrays` these are."""
        return cls(bool(arrays["space_power"][0]), arrays["space_mean"], arrays.get("space_projection"))


def fit_space(embeddings: Embeddings, name: SpaceName = "neighbours", seed: int = 0, step: Step = no_step) -> Space:
    """Fit a space on a sample of at most 16,384 rows of the pool.

    raw         nothing is changed
    whitened    the pool's covariance, shrunk by its mean eigenvalue, is divided out
    pairs       a discriminant analysis whose classes are pairs of mutual neighbours: the scatter within the pairs is
                divided out, and the directions in which the pool varies most against it are kept (at most 256)
    neighbours  the same again, after each image has been averaged with its neighbours there: what is particular to
                one picture fades, so the pairs of this round show what differs between pictures of the same thing

    All but raw take the square root of features that are never negative, and centre. A pool of fewer than 256 images
    is only centred. `step` is called at the end of each of three steps or less.

    Of vectors of more than 2,048 dimensions, the 1,024 directions of the greatest variance are used.
    """
    if name == "raw":
        return Space.plain(embeddings.dim)
    rows = np.random.default_rng(seed).permutation(embeddings.fair)[:_SAMPLE]
    vectors = embeddings.take(np.sort(rows))
    power = bool(vectors.min() >= 0)
    vectors = np.sqrt(vectors) if power else vectors
    mean = vectors.mean(axis=0)
    vectors = vectors - mean
    if len(vectors) < _LEAST:
        return Space(power, mean, None)
    if vectors.shape[1] > _WIDEST:
        axes = _strongest(vectors, seed)
        step()
        return Space(power, mean, np.ascontiguousarray(axes @ _projection(vectors @ axes, name, step)))
    return Space(power, mean, _projection(vectors, name, step))


def fit_wide_space(embeddings: Embeddings) -> Space:
    """Fit the whitened space, of which the strongest directions are kept, at most 512.

    What people say of a class may hang on what the ranking's space leaves out, so their answers are learnt here.
    """
    space = fit_space(embeddings, "whitened")
    if space.projection is None:
        return space
    return replace(space, projection=np.ascontiguousarray(space.projection[:, -_WIDE:]))


def moved_vectors(
    embeddings: Embeddings,
    space: Space,
    known: NDArray[np.int64] | None = None,
    earlier: NDArray[Any] | None = None,
) -> NDArray[np.float16]:
    """Return (n, directions) the vectors of a pool in `space`, zeros without one.

    known     (n,) where the vector of a row is in `earlier`, which are in that space already; -1 where it is not
    """
    dim = len(space.mean) if space.projection is None else space.projection.shape[1]
    vectors = np.zeros((embeddings.size, dim), np.float16)
    if known is None or earlier is None:
        for rows, block in embeddings.blocks():
            vectors[rows] = space.transform(block)
        return vectors
    there = (known >= 0) & embeddings.present
    vectors[there] = earlier[known[there]]
    rest = np.flatnonzero(embeddings.present & ~vectors.any(axis=1))
    vectors[rest] = space.transform(embeddings.take(rest))
    return vectors


def _strongest(vectors: Matrix, seed: int) -> Matrix:
    """Return at most 1,024 directions (d, m) in which centred `vectors` (n, d) vary most."""
    rows = vectors if len(vectors) <= _WIDEST else _sketched(vectors, seed)
    values, axes = np.linalg.eigh(rows @ rows.T)
    kept = slice(-min(_STRONGEST, max(int((values > values[-1] * _ROUNDING).sum()), 1)), None)
    return np.asarray(rows.T @ (axes[:, kept] / np.sqrt(np.maximum(values[kept], 1e-12))), np.float32)


def _sketched(vectors: Matrix, seed: int) -> Matrix:
    """Return few rows (m, d) that vary as `vectors` (n, d) do where these vary most (Halko et al., SIAM Rev. 2011)."""
    drawn = np.random.default_rng(seed).normal(size=(vectors.shape[1], _STRONGEST + _MORE)).astype(np.float32)
    basis = np.linalg.qr(vectors @ (vectors.T @ (vectors @ drawn)))[0]
    return np.asarray(basis.T @ vectors, np.float32)


def _projection(vectors: Matrix, name: SpaceName, step: Step) -> Matrix:
    """Return what takes centred `vectors` (n, d) to the space `name`: (d, directions)."""
    total = _covariance(vectors)
    whitening = _inverse_root(total, 1.0)
    if name == "whitened":
        return whitening
    coarse = l2_normalize(vectors @ whitening[:, -_COARSE:])
    step()
    first = _discriminant(vectors, total, *mutual_neighbours(coarse, _PAIRED)[:2])
    step()
    if name == "pairs":
        return first
    moved = l2_normalize(vectors @ first)
    nearest, cosine = nearest_neighbours(moved, min(max(len(moved) // _PER, 1), _AVERAGED))
    weights = np.maximum(cosine, 0) ** _SHARPNESS
    averaged, averaged_there = _averaged(vectors, nearest, weights), l2_normalize(_averaged(moved, nearest, weights))
    pairs = mutual_neighbours(averaged_there, _PAIRED_AGAIN)[:2]
    return _discriminant(averaged, _covariance(averaged), *pairs)


def _covariance(vectors: Matrix) -> Matrix:
    """Return the covariance (d, d) of centred `vectors` (n, d)."""
    return np.asarray(vectors.T @ vectors / len(vectors), dtype=np.float32)


def _averaged(vectors: Matrix, nearest: NDArray[np.int64], weights: Matrix) -> Matrix:
    """Return the weighted sum of each of `vectors` (weight 1) and of its `nearest` (n, k), with `weights` (n, k)."""
    found = vectors.copy()
    for column, weight in zip(nearest.T, weights.T, strict=True):
        found += weight[:, None] * vectors[column]
    return found


def _discriminant(vectors: Matrix, total: Matrix, i: NDArray[np.int64], j: NDArray[np.int64]) -> Matrix:
    """Return the directions (d, directions) in which `vectors` (n, d) vary most against what differs in pairs."""
    from scipy.sparse import coo_array

    pairs = max(len(i), 1)
    graph = coo_array((np.ones(len(i), np.float32), (i, j)), shape=(len(vectors), len(vectors))).tocsr()
    graph = graph + graph.T
    # the sum of (a - b)(a - b)' over the pairs, without an array of them
    apart = graph.sum(axis=1)[:, None] * vectors - graph @ vectors
    within = np.asarray(vectors.T @ apart / (2 * pairs), dtype=np.float32)
    shrinkage = max(_SHRINKAGE, vectors.shape[1] / pairs)
    whitening = _inverse_root(within, shrinkage)
    _, axes = np.linalg.eigh(whitening.T @ total @ whitening)
    kept = min(_DIRECTIONS, len(vectors) // 8)
    return np.ascontiguousarray(whitening @ axes[:, ::-1][:, :kept], dtype=np.float32)


def _inverse_root(scatter: Matrix, shrinkage: float) -> Matrix:
    """Return the eigenvectors (d, d) of `scatter`, scaled so that it becomes white; the strongest come last."""
    values, axes = np.linalg.eigh(scatter)
    return np.asarray(axes / np.sqrt(np.maximum(values, 0) + shrinkage * values.mean() + 1e-12), dtype=np.float32)


def mutual_neighbours(vectors: Matrix, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Matrix]:
    """Return (i, j, cosine) of the pairs i < j of unit `vectors` (n, d) that are among each other's `k` nearest."""
    nearest, cosine = nearest_neighbours(vectors, k)
    count, k = nearest.shape
    one, other = np.repeat(np.arange(count), k), nearest.ravel()
    both = np.isin(one * count + other, other * count + one) & (one < other)
    return one[both], other[both], cosine.ravel()[both]


def _greatest(scores: Matrix, k: int) -> NDArray[np.int64]:
    """Return (m, k) the columns of the `k` greatest of each row of `scores` (m, n), in no order.

    They are among the columns that are looked at together with one of the `k` greatest of the greatest.
    """
    count = scores.shape[1]
    parts = count // _TOGETHER
    if parts <= k:
        return np.argpartition(scores, count - k, axis=1)[:, count - k :]
    whole = parts * _TOGETHER
    greatest = scores[:, :whole].reshape(-1, _TOGETHER, parts).max(axis=1)
    best = np.argpartition(greatest, parts - k, axis=1)[:, parts - k :]
    among = (best[:, :, None] + np.arange(0, whole, parts)).reshape(len(scores), -1)
    rest = np.broadcast_to(np.arange(whole, count), (len(scores), count - whole))
    among = np.concatenate([among, rest], axis=1)
    found = np.argpartition(np.take_along_axis(scores, among, axis=1), among.shape[1] - k, axis=1)[:, -k:]
    return np.take_along_axis(among, found, axis=1)


def nearest_neighbours(vectors: Matrix, k: int, block: int = 1024) -> tuple[NDArray[np.int64], Matrix]:
    """Return (nearest, cosine), both (n, k): for each of the unit `vectors` (n, d) its `k` nearest, in no order."""
    count = len(vectors)
    k = max(min(k, count - 1), 0)
    nearest, cosine = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
    block = max(min(block, 2**25 // max(count, 1)), 1)
    for start in range(0, count if k else 0, block):
        scores = vectors[start : start + block] @ vectors.T
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        found = _greatest(scores, k)
        nearest[start : start + block] = found
        cosine[start : start + block] = np.take_along_axis(scores, found, axis=1)
    return nearest, cosine
