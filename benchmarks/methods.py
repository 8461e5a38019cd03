"""The rivals and ourselves: each takes vectors and exemplars, and answers with the rows it takes for each class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.pools import Truth
from holotype import Classifier
from holotype.encoders.encode import l2_normalize
from holotype.errors import GroupError
from holotype.grouping.assign import group_pool
from holotype.grouping.groups import Groups, thresholds_for
from holotype.grouping.ranking import Ranking
from holotype.grouping.search import Search
from holotype.grouping.space import Space, fit_space, fit_wide_space
from holotype.pool.exemplars import Exemplar
from holotype.settings import FitSettings, RankSettings
from holotype.vectors.embeddings import Embeddings

Rows = NDArray[np.int64]
CEILING_NEGATIVES = 4000


@dataclass(frozen=True)
class MethodAnswer:
    """What a method says about each of K classes.

    chosen   per class the rows it takes
    scores   (n, K) by which it ranks, -inf for rows it does not rank
    sure     (n, K) estimated probabilities, where it states any
    """

    chosen: Sequence[Rows]
    scores: NDArray[np.float64]
    sure: NDArray[np.float64] | None = None


Exemplars = Sequence[Rows]
Method = Callable[["Spaces", Exemplars], MethodAnswer]


@dataclass
class Spaces:
    """A pool's vectors, and the same in each space, computed once for all episodes."""

    truth: Truth
    _found: dict[str, tuple[Space, Embeddings]] = field(default_factory=dict)

    def embeddings(self, name: str) -> Embeddings:
        """Return the pool in the space `name`."""
        return self.fitted(name)[1]

    def fitted(self, name: str) -> tuple[Space, Embeddings]:
        """Return the space `name`, and the pool in it."""
        if name not in self._found:
            plain = Embeddings([self.truth.vectors], np.arange(len(self.truth.vectors)), len(self.truth.vectors))
            space = fit_wide_space(plain) if name == "wide" else fit_space(plain, name)  # type: ignore[arg-type]
            moved = np.concatenate([space.transform(block) for _, block in plain.blocks()])
            self._found[name] = space, Embeddings([moved], plain.rows, plain.size)
        return self._found[name]

    def cosine(self, name: str, exemplars: Exemplars) -> NDArray[np.float64]:
        """Return (n, K) cosine to the nearest exemplar of each class in the space `name`; -inf for the exemplars."""
        vectors = np.asarray(self.embeddings(name).shards[0])
        scores = np.stack([(vectors @ vectors[rows].T).max(axis=1) for rows in exemplars], axis=1).astype(np.float64)
        scores[np.concatenate(exemplars)] = -np.inf
        return scores


def fixed(threshold: float) -> Method:
    """Everything above a fixed cosine, in the raw vectors: the method that users know."""

    def method(spaces: Spaces, exemplars: Exemplars) -> MethodAnswer:
        scores = spaces.cosine("raw", exemplars)
        best = scores.argmax(axis=1)
        above = scores.max(axis=1) >= threshold
        return MethodAnswer([np.flatnonzero(above & (best == k)) for k in range(len(exemplars))], scores)

    return method


def null_threshold(space: str) -> Method:
    """Cosine in a space, with a threshold from the median and the left half of the scores."""

    def method(spaces: Spaces, exemplars: Exemplars) -> MethodAnswer:
        scores = spaces.cosine(space, exemplars)
        finite = np.delete(scores, np.concatenate(exemplars), axis=0).astype(np.float32)
        cuts = [threshold.value for threshold in thresholds_for(finite, "auto", 1.0)]
        return MethodAnswer([np.flatnonzero(scores[:, k] >= cut) for k, cut in enumerate(cuts)], scores)

    return method


def expansion(spaces: Spaces, exemplars: Exemplars) -> MethodAnswer:
    """Whitened vectors, two rounds of query expansion (top 20, cosine ** 3), threshold from the null."""
    vectors = np.asarray(spaces.embeddings("whitened").shards[0])
    columns = []
    for rows in exemplars:
        query = vectors[rows].mean(axis=0)
        for _ in range(2):
            cosine = vectors @ (query / np.linalg.norm(query))
            top = np.argpartition(-cosine, 20)[:20]
            query = (np.maximum(cosine[top], 0) ** 3) @ vectors[top]
        columns.append(vectors @ (query / np.linalg.norm(query)))
    scores = np.stack(columns, axis=1).astype(np.float64)
    own = np.concatenate(exemplars)
    cuts = [t.value for t in thresholds_for(np.delete(scores, own, axis=0).astype(np.float32), "auto", 1.0)]
    scores[own] = -np.inf
    return MethodAnswer([np.flatnonzero(scores[:, k] >= cut) for k, cut in enumerate(cuts)], scores)


def pseudo_labels(spaces: Spaces, exemplars: Exemplars) -> MethodAnswer:
    """Logistic regression on the 30 most similar against 1,000 of the less similar half; p >= .5."""
    from sklearn.linear_model import LogisticRegression

    vectors, cosine = spaces.truth.vectors, spaces.cosine("raw", exemplars)
    columns = []
    for k, rows in enumerate(exemplars):
        order = np.argsort(-cosine[:, k])
        top, bottom = order[:30], np.random.default_rng(0).choice(order[len(order) // 2 :], 1000, replace=False)
        X = vectors[np.concatenate([rows, top, bottom])]
        y = np.repeat([1, 0], [len(rows) + len(top), len(bottom)])
        head = LogisticRegression(C=10, class_weight="balanced", max_iter=200).fit(X, y)
        columns.append(head.decision_function(vectors))
    scores = np.stack(columns, axis=1)
    scores[np.concatenate(exemplars)] = -np.inf
    best = scores.argmax(axis=1)
    chosen = [np.flatnonzero((scores[:, k] > 0) & (best == k)) for k in range(len(exemplars))]
    return MethodAnswer(chosen, scores)


def label_spreading(spaces: Spaces, exemplars: Exemplars) -> MethodAnswer:
    """scikit-learn's LabelSpreading (kNN) over the 1,000 nearest of each class; 200 far images are "none"."""
    from sklearn.semi_supervised import LabelSpreading

    vectors, cosine = spaces.truth.vectors, spaces.cosine("raw", exemplars)
    own, count = np.concatenate(exemplars), len(exemplars)
    near = np.unique(np.argpartition(-cosine, 1000, axis=0)[:1000])
    far = np.argsort(cosine.max(axis=1))[len(own) :]
    far = np.setdiff1d(np.random.default_rng(0).choice(far[: len(far) // 2], 200, replace=False), near)
    rows = np.concatenate([own, np.setdiff1d(near, own), far])
    y = np.full(len(rows), -1)
    y[: len(own)] = np.repeat(np.arange(count), [len(one) for one in exemplars])
    y[len(rows) - len(far) :] = count
    model = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.2, max_iter=60, tol=1e-2).fit(vectors[rows], y)
    reached = model.label_distributions_
    scores = np.full((len(vectors), count), -np.inf)
    scores[rows] = reached[:, :count]
    scores[own] = -np.inf
    label = np.where(reached.sum(axis=1) > 0, reached.argmax(axis=1), count)
    return MethodAnswer([np.setdiff1d(rows[label == k], own) for k in range(count)], scores)


def grouped(spaces: Spaces, exemplars: Exemplars, settings: RankSettings) -> Groups:
    """Group the pool as `holotype run` does, in a space that has been applied to it already."""
    space, embeddings = spaces.fitted(settings.space)
    anchors = [spaces.truth.vectors[rows] for rows in exemplars]
    if settings.exemplar_views:  # as `search.Search.pictures`, with views that are kept between episodes
        views = [spaces.truth.views(rows) for rows in exemplars]
        anchors = [l2_normalize(plain + other) for plain, other in zip(anchors, views, strict=True)]
    anchors = [space.transform(vectors) for vectors in anchors]
    names, ids = [f"class {k}" for k in range(len(exemplars))], spaces.truth.pool.ids
    given = [Exemplar(ids[row], k, int(row), b"") for k, rows in enumerate(exemplars) for row in rows]
    scores = np.zeros((embeddings.size, len(exemplars)), np.float32)  # the raw cosines are not needed
    search = Search(names, given, embeddings, scores, 0.0, anchors)
    return group_pool(search, FitSettings(rank=settings), Space.plain(embeddings.dim))


def ranked(spaces: Spaces, exemplars: Exemplars, settings: RankSettings) -> Ranking:
    """Return what the groups of `holotype run` rest on."""
    return _ranking(grouped(spaces, exemplars, settings))


def _ranking(groups: Groups) -> Ranking:
    assert groups.ranking is not None  # diffusion is on
    return groups.ranking


def ours(settings: RankSettings) -> Method:
    """`holotype run` with an automatic threshold, without the head: what its groups hold."""

    def method(spaces: Spaces, exemplars: Exemplars) -> MethodAnswer:
        return answered(grouped(spaces, exemplars, settings))

    return method


def answered(groups: Groups) -> MethodAnswer:
    """Return what `groups` that rest on a ranking say; its exemplars are no members."""
    ranking = _ranking(groups)
    shape = (len(groups.label), len(groups.classes))
    scores, sure = np.full(shape, -np.inf), np.zeros(shape)
    scores[ranking.candidates], sure[ranking.candidates] = ranking.density, ranking.probabilities
    members = groups.decision == "member"
    return MethodAnswer([np.flatnonzero(members & (groups.label == k)) for k in range(shape[1])], scores, sure)


def model(spaces: Spaces, exemplars: Exemplars) -> MethodAnswer:
    """What the trained model answers that `holotype run` saves: the head on our groups, at its own thresholds."""
    truth = spaces.truth
    given = {f"class {k}": [truth.pool.ids[row] for row in rows] for k, rows in enumerate(exemplars)}
    classifier = Classifier(encoder=truth.encoder.name)
    embeddings = Embeddings([truth.vectors], np.arange(len(truth.vectors)), len(truth.vectors))
    try:
        classifier.fit(truth.pool, given, embeddings=embeddings, embeddings_encoder=truth.encoder, cache=truth.folder)
    except GroupError:  # a class without any image but its exemplar
        return MethodAnswer([np.empty(0, np.int64)] * len(given), np.full((len(truth.vectors), len(given)), -np.inf))
    found = classifier.predict_features(truth.pool.ids, truth.features)
    return MethodAnswer([np.flatnonzero(found.numbers == k) for k in range(len(given))], found.probabilities[:, :-1])


def ceiling(spaces: Spaces, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return per class the scores (n,) of logistic regressions on all labels, out of four folds, whitened vectors.

    Each learns from all positives and 4,000 others of the three folds that it does not answer.
    """
    from sklearn.linear_model import LogisticRegression

    vectors, classes = np.asarray(spaces.embeddings("whitened").shards[0]), spaces.truth.classes
    rng = np.random.default_rng(0)
    fold = rng.integers(0, 4, len(vectors))
    found = {}
    for name in names:
        scores = np.empty(len(vectors))
        for part in range(4):
            positive = np.flatnonzero((classes == name) & (fold != part))
            others = np.flatnonzero((classes != name) & (fold != part))
            negative = rng.choice(others, min(CEILING_NEGATIVES, len(others)), replace=False)
            X = vectors[np.concatenate([positive, negative])]
            y = np.repeat([1, 0], [len(positive), len(negative)])
            head = LogisticRegression(C=10, class_weight="balanced", max_iter=100).fit(X, y)
            scores[fold == part] = head.decision_function(vectors[fold == part])
        found[name] = scores
    return found
