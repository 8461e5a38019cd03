"""Relevance feedback: what answers about some images of a class say about all the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numkong
import numpy as np
from numpy.typing import NDArray

from holotype.grouping.space import Matrix
from holotype.vectors.embeddings import BLOCK

Logits = NDArray[np.float64]

# `python -m benchmarks.constants --feedback` fits _COMBINED to simulated reviews of development classes, and varies
# _STRENGTH, _NO and _FADING; its figures are in docs/solvers.md.
_BACKGROUND = 2000  # rows of the pool that stand for all that is none of the classes: a limit of time
_STRENGTH = 30.0  # inverse of the L2 penalty
_NO = 1.0  # what a "no" weighs, as a "yes" does; the background weighs as much as all of the class
_FOLDS = 5  # of held-out answers: a limit of time, as each is a fit
_CLOSE = 3e-4  # a step of this share of the coefficients is the last
_SHRINKS = 0.5  # of the step before is the most for a step, or the curve is computed anew: a choice of speed
_HALF = 2048  # what float16 rounds away is less than 1 / this
_STEPS = 40  # of Newton's method at the most, a limit of time: it takes 5 to 20
_COMBINED = (-4.43, 0.79, 0.52)  # base, per deviation of the learnt score, per unit of the fading prior
_FADING = 0.1  # the prior counts 1 / (1 + this x positives)
_SLOPE, _SHIFT = 0.3, 2.0  # how far answers are expected to correct estimates: deviations around 1 and 0
_FLATTEST = 0.2  # slope of a correction: the order stays
_UNLIKE, _WEIGHT = 0.5, 0.1  # share of a pool, the least likely, that counts as "no", and what an image of it weighs
_FAR = 30.0  # logits are kept within, a limit of precision: the probability there is 1e-13 from 0 or 1
_ABOVE = 0.1  # logits from the surest image to a cut that none of the others reaches; whatever is above 0 does


@dataclass(frozen=True)
class FeedbackData:
    """What was answered about one class.

    exemplars   (e, dim) unit vectors that show it
    others      (o, dim) unit vectors of the exemplars of other classes
    rows, yes   (a,) rows of the pool that were asked about, and whether they show the class; no audits
    """

    exemplars: Matrix
    others: Matrix
    rows: NDArray[np.int64]
    yes: NDArray[np.bool_]


@dataclass(frozen=True)
class Correction:
    """What answers say of how sure estimates are: the logit of an image is slope x its estimate + shift."""

    slope: float = 1.0
    shift: float = 0.0

    @classmethod
    def upward(cls, held: Logits, yes: NDArray[np.bool_], pool: Logits, stands: float) -> Self:
        """Return the likeliest by answers (a,) about images that were estimated at the logits `held` (a,) without them.

        pool     (m,) logits of a sample of the images that were not asked about
        stands   for how many images each of these stands

        Where questions follow estimates, and not what images show beyond that, the answers tell how often such
        estimates are right (Platt, 1999), of images that were not asked about, too. But a person may say "yes" to
        images that nothing pointed to, estimated as low as all of the pool: so the less likely half of it counts as
        "no", a tenth of an image each. Few answers say little: a slope of 1 and a shift of 0 are expected, with
        deviations of .3 and 2. Where no more is shown than was to be expected, nothing is corrected.
        """
        if yes.sum() <= sigmoid(held).sum():
            return cls()
        from scipy.optimize import minimize

        unlike = np.sort(pool)[: int(_UNLIKE * len(pool))]
        given, shown = np.append(held, unlike), np.append(yes, np.zeros(len(unlike), bool))
        weights = np.repeat([1.0, _WEIGHT * stands], [len(held), len(unlike)])
        expected, deviations = np.array([1.0, 0.0]), np.array([_SLOPE, _SHIFT])

        def loss(found: Logits) -> tuple[float, Logits]:
            logits, away = found[0] * given + found[1], (found - expected) / deviations
            left = weights * (sigmoid(logits) - shown)
            nats = weights @ np.logaddexp(0, np.where(shown, -logits, logits)) + 0.5 * (away**2).sum()
            return float(nats), np.array([given @ left, left.sum()]) + away / deviations

        found = minimize(loss, expected, jac=True, method="L-BFGS-B", bounds=[(_FLATTEST, None), (None, None)]).x
        return cls(float(found[0]), float(found[1]))

    def of(self, estimates: Logits) -> Logits:
        """Return the corrected logits (n,) of `estimates` (n,)."""
        return self.slope * estimates + self.shift


@dataclass(frozen=True)
class FeedbackModel:
    """What answers about a class lead to.

    logits             (n,) of the estimated probability that a row shows the class
    untrusted_logits   (n,) the same with the answers in any case: what to ask next follows them
    trusted            whether the answers predict those of them that were held out better than the exemplars alone;
                       else the logits are the prior's
    losses             log-loss of held-out answers in nats: by the exemplars alone, and with the answers; nan without a
                       "yes"
    correction         of what the learnt score and the prior add up to, where the answers are trusted
    """

    logits: Logits
    untrusted_logits: Logits
    trusted: bool
    losses: tuple[float, float]
    correction: Correction = Correction()


def learn(
    vectors: NDArray[Any],
    prior: Logits,
    data: FeedbackData,
    seed: int = 0,
    distinct: NDArray[np.bool_] | None = None,
) -> FeedbackModel:
    """Learn a class from `data`.

    A logistic regression tells exemplars and "yes" from "no" and a sample of the pool; its score, in deviations of the
    pool, and the `prior` add up. Answers cannot outvote the exemplars until they predict better: five times a fifth of
    them is held out, and where that is predicted no better than by `prior` alone, the prior stands; so it does without
    a single "yes". Only the `untrusted_logits` follow the answers from the first on. Where more of those held out show
    the class than was estimated of them, all estimates are corrected by that.

    vectors    (n, dim) unit vectors of the pool, zeros where an image has none
    prior      (n,) logits of what the exemplars alone lead to
    distinct   (n,) which images are no copies of another: of copies, one stands for the pool; None for all
    """
    unknown = float("nan"), float("nan")
    if not len(data.rows):
        return FeedbackModel(prior, prior, False, unknown)
    drawn = _background(vectors, data.rows, seed, distinct)
    sample = np.asarray(vectors[drawn], np.float32)
    asked = np.asarray(vectors[data.rows], dtype=np.float32)
    count = len(data.exemplars) + int(data.yes.sum())
    found = _separate(asked, data.yes, data, sample)
    direction, base = _in_deviations(found, sample)
    logits = _combine(_scores(vectors, direction) - base, prior, count)
    if not data.yes.any():  # a class that is nowhere would predict that best
        return FeedbackModel(prior, logits, False, unknown)
    held = _combine(_held_out(asked, data, sample, found), prior[data.rows], count)
    losses = _loss(prior[data.rows], data.yes), _loss(held, data.yes)
    if losses[1] >= losses[0]:
        return FeedbackModel(prior, logits, False, losses)
    size = len(vectors) if distinct is None else int(distinct.sum())
    correction = Correction.upward(held, data.yes, logits[drawn], size / len(drawn))
    logits = correction.of(logits)
    return FeedbackModel(logits, logits, True, losses, correction)


class Expectation:
    """What a class would be learnt to be, were images that are asked about together answered as is expected.

    vectors, prior, data, seed, distinct   as `learn` takes them
    correction                             what it returned
    among                                  (m,) the rows whose logits are wanted

    It is learnt in the directions that these rows, the answers and the exemplars span: what else tells the pool from
    the class hardly moves them, and a pool may have many more dimensions.
    """

    def __init__(
        self,
        vectors: NDArray[Any],
        prior: Logits,
        data: FeedbackData,
        correction: Correction,
        among: NDArray[np.int64],
        seed: int = 0,
        distinct: NDArray[np.bool_] | None = None,
    ) -> None:
        self._vectors, self._prior, self._correction = vectors, prior[among], correction
        asked, wanted = (np.asarray(vectors[rows], np.float32) for rows in (data.rows, among))
        spanning = np.concatenate([data.exemplars, data.others, asked, wanted])
        self._basis = np.linalg.qr(spanning.T)[0] if len(spanning) < vectors.shape[1] else None
        self._data = replace(data, exemplars=self._within(data.exemplars), others=self._within(data.others))
        self._drawn = _background(vectors, data.rows, seed, distinct)
        self._sample = self._within(np.asarray(vectors[self._drawn], np.float32))
        self._asked, self._wanted = self._within(asked), self._within(wanted)
        self._near: Logits | None = None

    def logits(self, rows: Sequence[int], yes: Sequence[bool]) -> Logits:
        """Return (m,) logits after `rows` too were answered with `yes`, or with "no"."""
        asked = np.concatenate([self._asked, self._within(np.asarray(self._vectors[list(rows)], np.float32))])
        shown = np.append(self._data.yes, np.array(yes, bool))
        others = ~np.isin(self._drawn, rows)
        sample = self._sample[others] if others.any() else self._sample
        self._near = _separate(asked, shown, self._data, sample, self._near)
        direction, base = _in_deviations(self._near, sample)
        count = len(self._data.exemplars) + int(shown.sum())
        return self._correction.of(_combine(self._wanted @ direction - base, self._prior, count))

    def _within(self, vectors: Matrix) -> Matrix:
        """Return the parts of `vectors` in the directions that are solved for."""
        return vectors if self._basis is None else vectors @ self._basis


def _scores(vectors: NDArray[Any], direction: Logits) -> Logits:
    """Return `vectors` @ `direction`, block by block: they may be halves on the disk.

    Halves are multiplied as they are, with a direction of two halves: what the first leaves over is in the second.
    """
    blocks = (vectors[i : i + BLOCK] for i in range(0, len(vectors), BLOCK))
    if vectors.dtype != np.float16:
        along = direction.astype(np.float32)
        return np.concatenate([np.asarray(block, np.float32) @ along for block in blocks]).astype(np.float64)
    scale = max(float(np.abs(direction).max()), 1e-300)
    first = (direction / scale).astype(np.float16)
    rest = ((direction / scale - first) * _HALF).astype(np.float16)
    packed = numkong.dots_pack(np.stack([first, rest]))
    found = [np.asarray(numkong.dots_packed(np.ascontiguousarray(block), packed), np.float64) for block in blocks]
    return np.asarray(np.concatenate(found) @ [scale, scale / _HALF])


def _background(
    vectors: NDArray[Any], asked: NDArray[np.int64], seed: int, distinct: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Return a sample of the images with a vector, without what was `asked`, unless that is all there is."""
    drawn = np.random.default_rng(seed).permutation(len(vectors))
    drawn = np.union1d((drawn if distinct is None else drawn[distinct[drawn]])[:_BACKGROUND], asked)
    there = drawn[vectors[drawn].any(axis=1)]
    others = there[~np.isin(there, asked)]
    return others if len(others) else there


def _held_out(asked: Matrix, data: FeedbackData, sample: Matrix, near: Logits) -> Logits:
    """Return the learnt score of each answer by the others of five folds, in which yes and no are spread evenly."""
    order = np.argsort(data.yes, kind="stable")
    fold = np.empty(len(order), np.int64)
    fold[order] = np.arange(len(order)) % _FOLDS
    scores = np.empty(len(order))
    for part in np.unique(fold):
        out = fold == part
        found = _separate(asked[~out], data.yes[~out], data, sample, near)
        direction, base = _in_deviations(found, sample)
        scores[out] = asked[out] @ direction - base
    return scores


def _separate(
    asked: Matrix, yes: NDArray[np.bool_], data: FeedbackData, sample: Matrix, near: Logits | None = None
) -> Logits:
    """Return the direction (dim + 1,) from what does not show the class to what does; the last is the intercept."""
    positives, negatives = np.concatenate([data.exemplars, asked[yes]]), np.concatenate([data.others, asked[~yes]])
    X = np.concatenate([positives, negatives, sample])
    mass = len(positives) + 1
    weights = np.repeat([mass / len(positives), _NO, mass / len(sample)], [len(positives), len(negatives), len(sample)])
    return _logistic(X, np.arange(len(X)) < len(positives), weights, near)


def _in_deviations(found: Logits, sample: Matrix) -> tuple[Logits, float]:
    """Return (direction, base): `vectors @ direction - base` is the score in deviations of the pool."""
    direction = found[:-1]
    there = (sample @ direction.astype(np.float32)).astype(np.float64)
    deviation = max(float(there.std()), 1e-9)
    return direction / deviation, float(there.mean()) / deviation


def _logistic(X: Matrix, y: NDArray[np.bool_], weights: Logits, near: Logits | None) -> Logits:
    """Return the coefficients (dim + 1,) of a logistic regression that begins at `near`; the intercept comes last.

    They are a sum of rows of X (n, dim), so that of few rows only the directions that these span are solved for.
    """
    if len(X) >= X.shape[1]:
        return _newton(X, y, weights, near)
    basis, parts = np.linalg.qr(X.T)
    begin = None if near is None else np.append(near[:-1] @ basis, near[-1])
    found = _newton(np.ascontiguousarray(parts.T), y, weights, begin)
    return np.append(basis @ found[:-1], found[-1])


def _newton(X: Matrix, y: NDArray[np.bool_], weights: Logits, near: Logits | None) -> Logits:
    """Return the coefficients (dim + 1,) by Newton's method; the intercept is hardly held back.

    The curve is computed anew only where steps do not shrink fast enough with it. Why this is not scikit-learn's:
    docs/solvers.md.
    """
    from scipy.linalg import cho_factor, cho_solve

    X = np.concatenate([X, np.ones((len(X), 1), np.float32)], axis=1)
    penalty = np.append(np.full(X.shape[1] - 1, 1 / _STRENGTH), 1e-4)
    found = np.zeros(X.shape[1]) if near is None else near.copy()
    factor, before = None, np.inf
    for _ in range(_STEPS):
        chance = sigmoid((X @ found.astype(np.float32)).astype(np.float64))
        slope = X.T @ (weights * (chance - y)).astype(np.float32) + penalty * found
        if factor is None:
            curve = np.sqrt(weights * np.maximum(chance * (1 - chance), 1e-6)).astype(np.float32)
            scaled = X * curve[:, None]
            square = scaled.T @ scaled
            square[np.diag_indices_from(square)] += penalty.astype(np.float32)
            factor = cho_factor(square, overwrite_a=True, check_finite=False)
        step = cho_solve(factor, slope.astype(np.float32), check_finite=False).astype(np.float64)
        length = float(np.linalg.norm(step))
        found -= step * min(1.0, 5 / max(length, 1e-12))
        if length < _CLOSE * np.linalg.norm(found):
            break
        if length > _SHRINKS * before:
            factor = None
        before = length
    return found


def _combine(scores: Logits, prior: Logits, positives: int) -> Logits:
    base, by_score, by_prior = _COMBINED
    return np.asarray(base + by_score * scores + by_prior * prior / (1 + _FADING * positives), dtype=np.float64)


def _loss(logits: Logits, yes: NDArray[np.bool_]) -> float:
    return float(np.logaddexp(0, np.where(yes, -logits, logits)).mean())


def best_cut(logits: Logits, found: int = 0) -> float:
    """Return the logit from which on taking all of `logits` has the greatest expected F1, by their own estimates.

    found   rows that are known to show the class and are not among them: where there are any, none may be the best
    """
    if not len(logits):
        return 0.0
    order = np.sort(logits)[::-1]
    probabilities = sigmoid(order)
    hits = np.cumsum(probabilities) + found
    taken = np.arange(1, len(order) + 1) + found
    worth = 2 * hits / (taken + probabilities.sum() + found)
    best = int(worth.argmax())
    if found and 2 * found / (2 * found + probabilities.sum()) > worth[best]:
        return float(order[0]) + _ABOVE
    return float(order[best])


def sigmoid(logits: Logits) -> Logits:
    """Return the probability of each logit."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_FAR, _FAR))), dtype=np.float64)
