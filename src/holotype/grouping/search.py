"""Exact cosine similarity of the pool to the exemplars, in one streaming pass."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.encode import in_order, l2_normalize
from holotype.encoders.runtimes import Encoder, cores
from holotype.errors import ExemplarError
from holotype.grouping.space import Space, fit_wide_space
from holotype.grouping.words import Words, WordScores, score_words
from holotype.pool.exemplars import Exemplar
from holotype.pool.images import Source, decode, middle
from holotype.vectors.embeddings import Embeddings

_Block = tuple[NDArray[np.int64], NDArray[Any]]


@dataclass(frozen=True)
class Search:
    """How similar the pool is to the exemplars.

    classes     K names
    exemplars   one or more per class
    embeddings  the search space
    scores      (n, K) float32 cosine to the nearest exemplar of each class; of one that words alone describe, to the
                picture that stands for these; nan without a vector
    seconds     what it took, the embeddings being there
    queries     per class the unit vectors (exemplars of the class, dim); none of a class that words alone describe
    encoder     what made the embeddings, where that is known
    words       what describes the classes, and
    said        what that says of the pool; None where nothing does
    """

    classes: Sequence[str]
    exemplars: Sequence[Exemplar]
    embeddings: Embeddings
    scores: NDArray[np.float32]
    seconds: float
    queries: Sequence[NDArray[np.float32]] = ()
    encoder: Encoder | None = None
    words: Words | None = None
    said: WordScores | None = None

    @property
    def exemplar_rows(self) -> dict[int, int]:
        """The exemplars that are in the pool: row -> class."""
        return {e.row: e.label for e in self.exemplars if e.row is not None}

    @cached_property
    def wide(self) -> Space:
        """The space in which what people say of these images is learnt."""
        return fit_wide_space(self.embeddings)

    def pictures(self, views: bool) -> Sequence[NDArray[np.float32]]:
        """Return what ranking starts from: `queries`; with `views` each averaged with the middle of its exemplar.

        Where the encoder is not known there is no view.
        """
        if not views or self.encoder is None or not self.exemplars:
            return self.queries
        size = 2 * max(self.encoder.size)
        closer = [encoded(middle(decode(e.data, fit=size)), self.encoder) for e in self.exemplars]
        labels = np.array([exemplar.label for exemplar in self.exemplars])
        return [l2_normalize(plain + np.stack(closer)[labels == k]) for k, plain in enumerate(self.queries)]


def search(
    embeddings: Embeddings,
    classes: Sequence[str],
    exemplars: Sequence[Exemplar],
    encoder: Encoder | None,
    words: Words | None = None,
    held_out: Collection[int] = (),
) -> Search:
    """Compare the pool with the exemplars, and with `words`. A class has one of both at least.

    held_out   pool rows of a test set, by which no words are understood

    An exemplar that is not in the pool needs the `encoder` of the embeddings.

    Raises `ExemplarError` where that encoder is not known, and for one whose vector is zeros or not finite.
    """
    started = time.perf_counter()
    vectors = exemplar_vectors(embeddings, exemplars, encoder)
    labels = np.array([exemplar.label for exemplar in exemplars], np.int64)
    queries = [l2_normalize(vectors[labels == k]) for k in range(len(classes))]
    said = None if words is None else score_words(embeddings, words, queries, held_out)
    scores = cosine(embeddings, joined(queries, said))
    seconds = time.perf_counter() - started
    return Search(classes, exemplars, embeddings, scores, seconds, queries, encoder, words, said)


def exemplar_vectors(
    embeddings: Embeddings, exemplars: Sequence[Exemplar], encoder: Encoder | None
) -> NDArray[np.float32]:
    """Return the vectors (exemplars, dim) of exemplars. Raises `ExemplarError`, as `search` does."""
    found = [_vector(embeddings, exemplar, encoder) for exemplar in exemplars]
    return np.array(found, np.float32).reshape(len(exemplars), embeddings.dim)


def joined(
    pictures: Sequence[NDArray[np.float32]], said: WordScores | None, heard: Collection[int] = ()
) -> Sequence[NDArray[np.float32]]:
    """Return per class the vectors that stand for it: of its pictures, and behind them of its words.

    Of the words only for the classes `heard`, and for those without a picture: what stands for words is a mean, to
    which all cosines are greater, so that beside a picture it would hide this.
    """
    if said is None:
        return pictures
    return [
        np.concatenate([own, anchors]) if k in heard or not len(own) else own
        for k, (own, anchors) in enumerate(zip(pictures, said.anchors, strict=True))
    ]


def encoded(source: Source, encoder: Encoder) -> NDArray[np.float32]:
    """Return the unit vector (dim,) that `encoder` gives one image. Raises `UnreadableImage`."""
    return l2_normalize(encoder.encode(encoder.prepare(source)[None])).ravel()


def _vector(embeddings: Embeddings, exemplar: Exemplar, encoder: Encoder | None) -> NDArray[np.float32]:
    if exemplar.row is not None and embeddings.present[exemplar.row]:
        return _compared(embeddings.take([exemplar.row]).ravel(), exemplar)
    if encoder is not None:
        return _compared(encoded(exemplar.data, encoder), exemplar)
    raise ExemplarError(
        f"{exemplar.name} has no row in the embeddings, and what made them is not known: name their encoder, give the "
        "id of an image in the pool, or search with an encoder of your own in place of them"
    )


def _compared(vector: NDArray[np.float32], exemplar: Exemplar) -> NDArray[np.float32]:
    """Return the vector of an exemplar if anything can be compared with it."""
    if np.isfinite(vector).all() and vector.any():
        return vector
    raise ExemplarError(
        f"nothing can be compared with {exemplar.name}: what made the vectors gives it "
        f"{'only zeros' if np.isfinite(vector).all() else 'no finite vector'}; give another image as exemplar, or take "
        "another encoder"
    )


def cosine(
    embeddings: Embeddings, exemplars: Sequence[NDArray[np.float32]], space: Space | None = None
) -> NDArray[np.float32]:
    """Return (pool rows, K) float32: the cosine to the nearest exemplar of each class, nan without a vector.

    exemplars: per class an array (exemplars of the class, dim). With `space`, all are compared there.
    """
    queries = l2_normalize(np.concatenate(exemplars))
    starts = np.cumsum([0, *(len(vectors) for vectors in exemplars[:-1])])
    compare = _comparison(queries if space is None else space.transform(queries), space)

    def nearest(block: _Block) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows, vectors = block
        return rows, np.maximum.reduceat(compare(vectors), starts, axis=1)

    scores = np.full((embeddings.size, len(exemplars)), np.nan, np.float32)
    for rows, found in in_order(nearest, embeddings.stored(), cores()):
        scores[rows] = found
    return scores


def _comparison(queries: NDArray[np.float32], space: Space | None) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Return what gives the cosines (m, queries) of stored vectors (m, dim).

    Float16 vectors are compared as they are, with queries rounded to float16 too.
    """
    import numkong

    half = numkong.dots_pack(queries.astype(np.float16))

    def compare(vectors: NDArray[Any]) -> NDArray[np.float32]:
        if space is not None:
            return space.transform(l2_normalize(vectors)) @ queries.T
        if vectors.dtype != np.float16:
            return l2_normalize(vectors) @ queries.T
        distances: NDArray[np.float32] = np.asarray(numkong.angulars_packed(np.ascontiguousarray(vectors), half))
        np.subtract(1, distances, out=distances)
        distances[np.isnan(distances)] = 0  # a vector of zeros is like nothing
        return distances

    return compare


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the rows of the `k` greatest of `scores` (n,), best first; nan counts as absent."""
    usable = np.flatnonzero(~np.isnan(scores))
    k = min(k, len(usable))
    if k == 0:
        return usable[:0]
    part = usable[np.argpartition(-scores[usable], k - 1)[:k]]
    return part[np.argsort(-scores[part], kind="stable")]
