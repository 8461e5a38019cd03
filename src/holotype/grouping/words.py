"""Words as exemplars: which images of the pool a description finds, and the picture that stands for them.

Vectors of texts and of images lie apart, even where both towers of an encoder were made for each other (the modality
gap: Liang et al., NeurIPS 2022). So no cosine between them is read as it is: an image counts by how many deviations of
the pool it lies above its median, and what walks start from is the mean of the images that stand out most.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.encode import in_order, l2_normalize
from holotype.encoders.registry import load_text_encoder
from holotype.encoders.runtimes import Encoder, cores
from holotype.errors import EncoderError, GroupError
from holotype.grouping.spread import robust_spread
from holotype.pool.descriptions import Description
from holotype.progress import Progress
from holotype.vectors.embeddings import Embeddings

Matrix = NDArray[np.float32]

# docs/tried.md#words has the figures
_FOUND = 20  # images that words find first, whose mean stands for a text
_SHARPNESS = 2  # they weigh deviations ** 2
_SAMPLE = 16_384  # rows of the pool that its centre is taken of
_SAME = 1e-6  # images whose scores differ by less are copies


@dataclass(frozen=True)
class Words:
    """Descriptions of the classes of a search, as vectors that can be compared with its images.

    descriptions   the texts, each of a class
    vectors        (texts, dim) float32 unit vectors of the text tower
    fingerprint    of the text tower
    """

    descriptions: Sequence[Description]
    vectors: Matrix
    fingerprint: str

    @property
    def premise(self) -> list[Any]:
        """What groups rest on where words are given: the texts, and what made vectors of them."""
        return [self.fingerprint, *([one.label, one.text] for one in self.descriptions)]


def hear(
    descriptions: Sequence[Description], encoder: Encoder | None, progress: Progress | None = None
) -> Words | None:
    """Return `descriptions` as vectors by the text tower that belongs to `encoder`, None where there are none.

    Raises `EncoderError` where it is not known, or knows no words, and for a text that its tower does not take.
    """
    if not descriptions:
        return None
    if encoder is None:
        raise EncoderError(
            "words are compared with vectors of an encoder that knows words, and what made these vectors is not known: "
            "name it (--embeddings-encoder; in Python embeddings_encoder), or give no embeddings"
        )
    tower = load_text_encoder(encoder.name, encoder.runtime, progress)
    if tower.dim != encoder.dim:
        raise EncoderError(
            f"the words of {encoder.name} have {tower.dim} dimensions and its images {encoder.dim}: the two towers do "
            "not belong together"
        )
    return Words(descriptions, tower.encode([one.text for one in descriptions]), tower.fingerprint)


@dataclass(frozen=True)
class WordScores:
    """What the descriptions of K classes say of a pool.

    pool       (n, K) float32 deviations of the pool above its median, by the text of the class that says most; nan
               without a vector, and for a class that no words describe
    pictures   per class the same of its exemplars (exemplars of the class,), -inf where no words describe it
    anchors    per class (texts, dim) unit vectors: the mean of the images that each text finds
    found      per text the rows of these images, the surest first
    """

    pool: Matrix
    pictures: Sequence[NDArray[np.float32]]
    anchors: Sequence[Matrix]
    found: Sequence[NDArray[np.int64]]

    def at(self, places: NDArray[np.int64]) -> "WordScores":
        """Return it for other rows: those that were at `places` (m,), and new ones (-1), of which nothing is said."""
        pool = np.where(places[:, None] >= 0, self.pool[places], np.nan).astype(np.float32)
        return replace(self, pool=pool)

    def in_order(self, classes: Sequence[int]) -> "WordScores":
        """Return it for the classes of these numbers."""
        pictures, anchors = ([of[k] for k in classes] for of in (self.pictures, self.anchors))
        return WordScores(np.ascontiguousarray(self.pool[:, classes]), pictures, anchors, self.found)


@dataclass(frozen=True)
class TextScale:
    """How texts are compared with images: (texts, dim) unit vectors, and how the cosines of a pool to them lie.

    centre      (dim,) of the pool: what all its images have in common says nothing of any
    medians, deviations   (texts,) of the cosines of the pool's images, centred
    """

    vectors: Matrix
    centre: Matrix
    medians: Matrix
    deviations: Matrix

    def scores(self, images: Matrix) -> Matrix:
        """Return (m, texts) float32: how many deviations of the pool each of `images` (m, dim) lies above its median.

        They are unit vectors.
        """
        return np.asarray((self.cosines(images) - self.medians) / self.deviations, np.float32)

    def cosines(self, images: Matrix) -> Matrix:
        """Return (m, texts) float32 cosines of `images` (m, dim), centred."""
        return np.asarray(l2_normalize(images - self.centre) @ self.vectors.T, np.float32)


def compare_texts(embeddings: Embeddings, vectors: Matrix) -> tuple[Matrix, TextScale]:
    """Compare texts, (texts, dim) unit vectors, with a pool.

    Return (n, texts) scores, nan without a vector, and how images are scored.
    """
    centre = np.zeros(embeddings.dim, np.float32)
    if len(embeddings.rows):
        rows = np.random.default_rng(0).permutation(embeddings.fair)[:_SAMPLE]
        centre = np.asarray(embeddings.take(np.sort(rows)).mean(axis=0), np.float32)
    even = np.ones(len(vectors), np.float32)
    plain = TextScale(vectors, centre, 0 * even, even)

    def compare(block: tuple[NDArray[np.int64], NDArray[Any]]) -> tuple[NDArray[np.int64], Matrix]:
        return block[0], plain.cosines(l2_normalize(block[1]))

    scores = np.full((embeddings.size, len(vectors)), np.nan, np.float32)
    for rows, cosines in in_order(compare, embeddings.stored(), cores()):
        scores[rows] = cosines
    if not len(embeddings.rows):
        return scores, plain
    spreads = [robust_spread(column[embeddings.fair]) for column in scores.T]
    medians, deviations = np.array(spreads, np.float32).reshape(-1, 2).T
    return (scores - medians) / deviations, replace(plain, medians=medians, deviations=deviations)


def score_words(
    embeddings: Embeddings, words: Words, queries: Sequence[Matrix], held_out: Collection[int] = ()
) -> WordScores:
    """Compare `words` with the pool and with its exemplars, `queries`: per class (exemplars of the class, dim).

    held_out   pool rows of a test set: they are compared, and no picture that stands for words is made of them
    """
    scores, scale = compare_texts(embeddings, words.vectors)
    labels = np.array([one.label for one in words.descriptions])
    pool = np.full((embeddings.size, len(queries)), np.nan, np.float32)
    found = [found_first(column, held_out) for column in scores.T]
    for one, rows in zip(words.descriptions, found, strict=True):
        if not len(rows):
            raise GroupError(f"no image stands out by the words {one.text!r}: describe it in others, or give a picture")
    means = [_mean(embeddings, rows, column[rows]) for rows, column in zip(found, scores.T, strict=True)]
    pictures, anchors = list[Matrix](), list[Matrix]()
    for k, own in enumerate(queries):
        of_class = np.flatnonzero(labels == k)
        anchors.append(np.array(means, np.float32)[of_class])
        pictures.append(scale.scores(own)[:, of_class].max(axis=1, initial=-np.inf))
        if len(of_class):
            pool[:, k] = scores[:, of_class].max(axis=1)
    return WordScores(pool, pictures, anchors, found)


def found_first(scores: NDArray[np.float32], left_out: Collection[int]) -> NDArray[np.int64]:
    """Return the rows that words find first, above the median of the pool; one of those that are copies of each other.

    scores     (n,) what the words say of the pool; nan where that is not known
    left_out   rows that do not count, as those of a test set
    """
    usable = np.setdiff1d(np.flatnonzero(np.nan_to_num(scores) > 0), list(left_out))
    ordered = usable[np.argsort(-scores[usable], kind="stable")]
    other = np.diff(scores[ordered], prepend=np.inf) < -_SAME
    return np.asarray(ordered[other][:_FOUND])


def _mean(embeddings: Embeddings, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> Matrix:
    """The unit vector (dim,) that stands for a text: the mean of the images that it finds, weighed by its scores."""
    return l2_normalize((scores**_SHARPNESS @ embeddings.take(rows))[None]).ravel()
