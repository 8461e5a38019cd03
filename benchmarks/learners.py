"""Ways to learn a classifier from the same few answers: ours, and what others do. Each then judges new images.

A learner gets what is known of three classes (`Known`) and the pool's raw vectors, and returns a function from new
vectors to what it says of them. No way but ours and the ceiling sees anything else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.grouping.space import Matrix

Rows = NDArray[np.int64]
_DRAWN = 2000  # images of the pool that stand for "none"


@dataclass(frozen=True)
class Known:
    """What is known: per class the rows that show it, exemplars first, and those of which somebody said "no"."""

    positive: Sequence[Rows]
    negative: Sequence[Rows]
    exemplars: Sequence[Rows]


@dataclass(frozen=True)
class Said:
    """What a learner says of n images: `scores` (n, K) by which it ranks, `chosen` (n,) its class or K.

    sure   (n, K) probabilities, where it states any
    """

    scores: NDArray[np.float64]
    chosen: NDArray[np.int64]
    sure: NDArray[np.float64] | None = None


Judge = Callable[[Matrix], Said]
Learner = Callable[[Matrix, Known], Judge]


def _decide(scores: NDArray[np.float64], cuts: NDArray[np.float64] | float) -> NDArray[np.int64]:
    margins = scores - cuts
    return np.where(margins.max(axis=1) >= 0, margins.argmax(axis=1), scores.shape[1])


def _drawn(known: Known, k: int, count: int) -> Rows:
    """Rows at random that stand for what does not show class `k`."""
    return np.setdiff1d(np.random.default_rng(0).permutation(count)[:_DRAWN], known.positive[k])


def nearest(threshold: float) -> Learner:
    """The cosine to the nearest exemplar, above a fixed threshold; answers change nothing."""

    def learner(vectors: Matrix, known: Known) -> Judge:
        def judge(new: Matrix) -> Said:
            scores = np.stack([(new @ vectors[rows].T).max(axis=1) for rows in known.exemplars], axis=1)
            return Said(scores.astype(np.float64), _decide(scores.astype(np.float64), threshold))

        return judge

    return learner


def _binary(
    fit: Callable[[Matrix, NDArray[np.int64], NDArray[np.float64]], Callable[[Matrix], NDArray[np.float64]]],
    weak: float = 1.0,
) -> Learner:
    """One model for each class: positives against each "no" and random images, which weigh `weak`; p >= .5."""

    def learner(vectors: Matrix, known: Known) -> Judge:
        models = []
        for k, positive in enumerate(known.positive):
            negative = np.setdiff1d(known.negative[k], positive)
            rows = np.concatenate([positive, negative, drawn := np.setdiff1d(_drawn(known, k, len(vectors)), negative)])
            y = (np.arange(len(rows)) < len(positive)).astype(np.int64)
            models.append(fit(vectors[rows], y, np.repeat([1.0, weak], [len(rows) - len(drawn), len(drawn)])))

        def judge(new: Matrix) -> Said:
            sure = np.stack([model(new) for model in models], axis=1)
            return Said(sure, _decide(sure, 0.5), sure)

        return judge

    return learner


def balanced_logistic(strength: float) -> Learner:
    """Logistic regression with balanced class weights."""
    from sklearn.linear_model import LogisticRegression

    def fit(X: Matrix, y: NDArray[np.int64], w: NDArray[np.float64]) -> Callable[[Matrix], NDArray[np.float64]]:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=200, tol=1e-3).fit(X, y, w)
        return lambda new: np.asarray(model.predict_proba(new)[:, 1])

    return _binary(fit)


def weak_negatives() -> Learner:
    """A linear head with weak random negatives (.05), as perch-hoplite trains one."""
    from sklearn.linear_model import LogisticRegression

    def fit(X: Matrix, y: NDArray[np.int64], w: NDArray[np.float64]) -> Callable[[Matrix], NDArray[np.float64]]:
        model = LogisticRegression(C=10, max_iter=200, tol=1e-3).fit(X, y, w)
        return lambda new: np.asarray(model.predict_proba(new)[:, 1])

    return _binary(fit, weak=0.05)


def forest() -> Learner:
    """A random forest on the vectors, as LightlyStudio trains one."""
    from sklearn.ensemble import RandomForestClassifier

    def fit(X: Matrix, y: NDArray[np.int64], w: NDArray[np.float64]) -> Callable[[Matrix], NDArray[np.float64]]:
        model = RandomForestClassifier(100, class_weight="balanced", random_state=0).fit(X, y, w)
        return lambda new: np.asarray(model.predict_proba(new)[:, 1])

    return _binary(fit)


def elkan_noto() -> Learner:
    """Positive against unlabelled, divided by what known positives get when held out (Elkan and Noto, KDD 2008)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    def fit(X: Matrix, y: NDArray[np.int64], w: NDArray[np.float64]) -> Callable[[Matrix], NDArray[np.float64]]:
        model, folds = LogisticRegression(C=10, max_iter=200, tol=1e-3), min(5, int(y.sum()))
        model.fit(X, y, w)
        chance = (
            cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
            if folds > 1
            else model.predict_proba(X)[:, 1]
        )
        labelled = max(float(chance[y == 1].mean()), 1e-6)
        return lambda new: np.minimum(np.asarray(model.predict_proba(new)[:, 1]) / labelled, 1.0)

    return _binary(fit)


def nnpu(prior: float = 0.003) -> Learner:
    """A linear model with the non-negative risk of positive-unlabelled learning (Kiryo et al., NeurIPS 2017)."""
    import torch

    def fit(X: Matrix, y: NDArray[np.int64], _: NDArray[np.float64]) -> Callable[[Matrix], NDArray[np.float64]]:
        torch.manual_seed(0)
        known, other = torch.from_numpy(X[y == 1]), torch.from_numpy(X[y == 0])
        line = torch.nn.Linear(X.shape[1], 1)
        optimiser = torch.optim.Adam(line.parameters(), lr=0.02, weight_decay=1e-4)
        for _step in range(200):
            optimiser.zero_grad()
            shown, rest = line(known), line(other)
            below = torch.sigmoid(rest).mean() - prior * torch.sigmoid(shown).mean()
            (prior * torch.sigmoid(-shown).mean() + torch.relu(below)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        weights, bias = line.weight.detach().numpy()[0], line.bias.item()
        return lambda new: np.asarray(1 / (1 + np.exp(-(new @ weights + bias))), dtype=np.float64)

    return _binary(fit)


def rocchio(vectors: Matrix, known: Known) -> Judge:
    """Rocchio's prototypes (1, .75, .15), as FiftyOne's panel of similar images; cut where the answers' F1 is best."""
    queries, cuts = [], []
    for k, exemplars in enumerate(known.exemplars):
        positive, negative = known.positive[k], known.negative[k]
        query = vectors[exemplars].mean(axis=0) + 0.75 * vectors[positive].mean(axis=0)
        query -= 0.15 * vectors[negative].mean(axis=0) if len(negative) else 0
        queries.append(query / np.linalg.norm(query))
        drawn = np.setdiff1d(_drawn(known, k, len(vectors)), negative)
        rows = np.concatenate([positive, negative, drawn])
        scores, y = vectors[rows] @ queries[-1], np.arange(len(rows)) < len(positive)
        order = np.argsort(-scores)
        f1 = 2 * np.cumsum(y[order]) / (np.arange(1, len(rows) + 1) + y.sum())
        cuts.append(float(scores[order[int(f1.argmax())]]))

    def judge(new: Matrix) -> Said:
        scores = (new @ np.stack(queries).T).astype(np.float64)
        return Said(scores, _decide(scores, np.array(cuts)))

    return judge


RIVALS: dict[str, Callable[[], Learner]] = {
    "nearest exemplar, cosine .75": lambda: nearest(0.75),
    "balanced logistic, C = 1": lambda: balanced_logistic(1.0),
    "balanced logistic, C = 10": lambda: balanced_logistic(10.0),
    "Elkan and Noto": elkan_noto,
    "nnPU": nnpu,
    "Rocchio": lambda: rocchio,
    "random forest": forest,
    "linear, weak negatives": weak_negatives,
}


def ceiling(vectors: Matrix, classes: NDArray[np.str_], names: Sequence[str]) -> Judge:
    """All labels of the pool: balanced logistic regressions, each cut where its F1 is best in four folds."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    fold = rng.integers(0, 4, len(vectors))
    models, cuts = [], []
    for name in names:
        positive = np.flatnonzero(classes == name)
        drawn = rng.choice(np.flatnonzero(classes != name), min(4000, int((classes != name).sum())), replace=False)
        rows = np.concatenate([positive, drawn])
        y = np.arange(len(rows)) < len(positive)
        scores = np.empty(len(rows))
        for part in range(4):
            held = fold[rows] == part
            model = LogisticRegression(C=10, class_weight="balanced", max_iter=100, tol=1e-3).fit(
                vectors[rows[~held]], y[~held]
            )
            scores[held] = model.decision_function(vectors[rows[held]])
        order = np.argsort(-scores)
        stands = np.where(y, 1.0, (len(vectors) - len(positive)) / len(drawn))[order]
        f1 = 2 * np.cumsum(y[order]) / (np.cumsum(stands) + y.sum())
        cuts.append(float(scores[order[int(f1.argmax())]]))
        models.append(LogisticRegression(C=10, class_weight="balanced", max_iter=100, tol=1e-3).fit(vectors[rows], y))

    def judge(new: Matrix) -> Said:
        scores = np.stack([model.decision_function(new) for model in models], axis=1)
        return Said(scores, _decide(scores, np.array(cuts)))

    return judge
