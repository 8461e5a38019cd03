"""Relevance feedback: what answers about some images of a class say about all the others."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.embeddings import BLOCK
from holotype.space import Matrix

Logits = NDArray[np.float64]

_BACKGROUND = 2000  # rows of the pool that stand for all that is none of the classes
_STRENGTH = 30.0  # inverse of the L2 penalty
_NO = 1.0  # what a "no" weighs, as a "yes" does; the background weighs as much as all of the class
_FOLDS = 5
_STEPS = 20  # of Newton's method
_COMBINED = (-4.43, 0.79, 0.52)  # base, per deviation of the learnt score, per unit of the fading prior
_FADING = 0.1  # the prior counts 1 / (1 + this x positives)
_FAR = 30.0  # logits are kept within


@dataclass(frozen=True)
class Lesson:
    """What was said about one class.

    exemplars   (e, dim) unit vectors that show it
    others      (o, dim) unit vectors of the exemplars of other classes
    rows, yes   (a,) rows of the pool that were asked about, and whether they show the class; no audits
    """

    exemplars: Matrix
    others: Matrix
    rows: NDArray[np.int64]
    yes: NDArray[np.bool_]


@dataclass(frozen=True)
class Learnt:
    """What a lesson leads to.

    logits   (n,) of the estimated probability that a row shows the class
    trusted  whether the answers predict those of them that were held out better than the exemplars alone; else the
             logits are the prior's
    losses   log-loss of held-out answers in nats: by the exemplars alone, and with the answers
    """

    logits: Logits
    trusted: bool
    losses: tuple[float, float]


def learn(vectors: NDArray[Any], prior: Logits, lesson: Lesson, seed: int = 0) -> Learnt:
    """Learn a class from `lesson`.

    A logistic regression tells exemplars and "yes" from "no" and a sample of the pool; its score, in deviations of the
    pool, and the `prior` add up. Answers cannot outvote the exemplars until they predict better: five times a fifth of
    them is held out, and where that is predicted no better than by `prior` alone, the prior stands.

    vectors   (n, dim) unit vectors of the pool, zeros where an image has none
    prior     (n,) logits of what the exemplars alone lead to
    """
    if not len(lesson.rows):
        return Learnt(prior, False, (float("nan"), float("nan")))
    background = _background(len(vectors), lesson.rows, seed)
    sample = np.asarray(vectors[background], dtype=np.float32)
    asked = np.asarray(vectors[lesson.rows], dtype=np.float32)
    count = len(lesson.exemplars) + int(lesson.yes.sum())
    held = _combine(_held_out(asked, lesson, sample), prior[lesson.rows], count)
    losses = _loss(prior[lesson.rows], lesson.yes), _loss(held, lesson.yes)
    if losses[1] >= losses[0]:
        return Learnt(prior, False, losses)
    direction, base = _separate(asked, lesson.yes, lesson, sample)
    return Learnt(_combine(_scores(vectors, direction) - base, prior, count), True, losses)


def _scores(vectors: NDArray[Any], direction: Logits) -> Logits:
    """Return `vectors` @ `direction`, block by block: they may be halves on the disk."""
    blocks = (np.asarray(vectors[i : i + BLOCK], np.float32) for i in range(0, len(vectors), BLOCK))
    along = direction.astype(np.float32)
    return np.concatenate([block @ along for block in blocks]).astype(np.float64)


def _background(count: int, asked: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    drawn = np.random.default_rng(seed).permutation(count)[:_BACKGROUND]
    return np.setdiff1d(drawn, asked)


def _held_out(asked: Matrix, lesson: Lesson, sample: Matrix) -> Logits:
    """Return the learnt score of each answer by the others of five folds, in which yes and no are spread evenly."""
    order = np.argsort(lesson.yes, kind="stable")
    fold = np.empty(len(order), np.int64)
    fold[order] = np.arange(len(order)) % _FOLDS
    scores = np.empty(len(order))
    for part in np.unique(fold):
        out = fold == part
        direction, base = _separate(asked[~out], lesson.yes[~out], lesson, sample)
        scores[out] = asked[out] @ direction - base
    return scores


def _separate(asked: Matrix, yes: NDArray[np.bool_], lesson: Lesson, sample: Matrix) -> tuple[Logits, float]:
    """Return (direction, base): `vectors @ direction - base` is the score in deviations of the pool."""
    positives, negatives = np.concatenate([lesson.exemplars, asked[yes]]), np.concatenate([lesson.others, asked[~yes]])
    X = np.concatenate([positives, negatives, sample])
    mass = len(positives) + 1
    weights = np.repeat([mass / len(positives), _NO, mass / len(sample)], [len(positives), len(negatives), len(sample)])
    direction = _logistic(X, np.arange(len(X)) < len(positives), weights)
    there = sample @ direction
    deviation = max(float(there.std()), 1e-9)
    return direction / deviation, float(there.mean()) / deviation


def _logistic(X: Matrix, y: NDArray[np.bool_], weights: Logits) -> Logits:
    """Return the coefficients (dim,) of a logistic regression by Newton's method; the intercept is left out."""
    X = np.concatenate([X, np.ones((len(X), 1), np.float32)], axis=1)
    penalty = np.append(np.full(X.shape[1] - 1, 1 / _STRENGTH), 1e-4)
    found = np.zeros(X.shape[1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(X @ found, -_FAR, _FAR)))
        slope = X.T @ (weights * (chance - y)).astype(np.float32) + penalty * found
        curve = np.sqrt(weights * np.maximum(chance * (1 - chance), 1e-6)).astype(np.float32)
        scaled = X * curve[:, None]
        step = np.linalg.solve((scaled.T @ scaled).astype(np.float64) + np.diag(penalty), slope)
        found -= step * min(1.0, 5 / max(float(np.linalg.norm(step)), 1e-12))
        if np.linalg.norm(step) < 1e-3 * np.linalg.norm(found):
            break
    return found[:-1]


def _combine(scores: Logits, prior: Logits, positives: int) -> Logits:
    base, by_score, by_prior = _COMBINED
    return np.asarray(base + by_score * scores + by_prior * prior / (1 + _FADING * positives), dtype=np.float64)


def _loss(logits: Logits, yes: NDArray[np.bool_]) -> float:
    return float(np.logaddexp(0, np.where(yes, -logits, logits)).mean())


def best_cut(logits: Logits, found: int = 0) -> float:
    """Return the logit from which on taking all of `logits` has the greatest expected F1, by their own estimates.

    found   rows that are known to show the class and are not among them
    """
    order = np.sort(logits)[::-1]
    chances = sigmoid(order)
    hits = np.cumsum(chances) + found
    taken = np.arange(1, len(order) + 1) + found
    return float(order[int((2 * hits / (taken + chances.sum() + found)).argmax())])


def sigmoid(logits: Logits) -> Logits:
    """Return the probability of each logit."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_FAR, _FAR))), dtype=np.float64)
