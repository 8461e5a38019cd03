"""What a classifier is worth: on a test set, and beside what the groups took rows for that it had not learnt from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from holotype.evaluation.metrics import Evaluation, evaluate
from holotype.evaluation.test_set import TestSet
from holotype.grouping.search import cosine
from holotype.model.classifier import Classifier
from holotype.model.predictions import Predictions, classified
from holotype.pool.pool import Pool
from holotype.progress import Progress
from holotype.runs.inputs import RunInputs
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.store import EmbeddingStore


def uncounted_rows(
    inputs: RunInputs, embeddings: Embeddings, exemplars: NDArray[np.float32], rows: Sequence[int]
) -> dict[str, str]:
    """Return those of `rows` that prove nothing: id -> why. They are exemplars, or nearly the same as one.

    exemplars   (e, dim) vectors of the exemplars of `inputs`, by what made the `embeddings`
    """
    found: dict[str, str] = {}
    if not len(exemplars) or not rows:
        return found
    likenesses = cosine(embeddings, [exemplars])[:, 0]
    own = {one.row for one in inputs.exemplars}
    for row in rows:
        if row in own:
            found[inputs.pool.ids[row]] = "an exemplar"
        elif likenesses[row] >= inputs.settings.fit.near_duplicate:
            found[inputs.pool.ids[row]] = "nearly the same as an exemplar"
    return found


def agreement_with_groups(classifier: Classifier, judged: set[str], pool: Pool) -> float:
    """Return macro-F1 by what the groups took the rows in `judged` for, each while it was held out.

    It is over the classes that have any.
    """
    fitted, ids = classifier.cross_fit_, classifier.training_.ids
    kept = np.array([ids[place] in judged for place in fitted.rows], dtype=bool)
    rows = np.array([pool.rows[ids[place]] for place in fitted.rows[kept]], dtype=np.int64)
    y = classifier.groups_.taken_for(rows)
    given = classified(fitted.probabilities[kept], classifier.calibration_.thresholds)
    scores = []
    for k in range(len(classifier.classes_) - 1):
        if (y == k).any():
            hits = float(((given == k) & (y == k)).sum())
            scores.append(2 * hits / float((given == k).sum() + (y == k).sum()))
    return float(np.mean(scores)) if scores else 0.0


def judge(
    classifier: Classifier,
    pool: Pool,
    test_set: TestSet,
    store: EmbeddingStore,
    not_counted: Mapping[str, str],
    progress: Progress,
) -> tuple[Predictions, Evaluation | None, dict[str, str]]:
    """Return predictions of the readable test rows, what those that count are worth, and the unreadable."""
    store.ensure(test_set.ids, lambda name: pool.read(pool.rows[name]), progress, "encode test rows")
    features, unreadable = store.take(test_set.ids)
    kept = [place for place, name in enumerate(test_set.ids) if name not in unreadable]
    predictions = classifier.predict_features([test_set.ids[place] for place in kept], features)
    predictions = replace(predictions, paths=[pool.path(pool.rows[name]) for name in predictions.ids])
    counted = np.array([name not in not_counted for name in predictions.ids], dtype=bool)
    truth = test_set.truth[kept][counted]
    return predictions, evaluate(predictions[counted], truth) if counted.any() else None, unreadable
