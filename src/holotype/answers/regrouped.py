"""What answers are added to, with other exemplars than the run had: people add and withdraw them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from holotype.answers.baseline import ReviewBaseline, pictures_of
from holotype.errors import AnswersError, GroupError
from holotype.grouping.assign import group_pool
from holotype.grouping.search import Search, cosine, joined
from holotype.grouping.space import Matrix, Space
from holotype.grouping.words import WordScores
from holotype.pool.exemplars import Exemplar, names_of
from holotype.settings import FitSettings, TrainSettings
from holotype.vectors.embeddings import Embeddings


def regroup(baseline: ReviewBaseline, exemplars: Sequence[Exemplar], settings: TrainSettings) -> ReviewBaseline:
    """Return `baseline` with the pool grouped again by other `exemplars`; words say what they said.

    Raises `AnswersError` when they cannot be compared with, or reach nothing.
    """
    before = baseline.groups
    classes, each = before.classes, range(len(before.classes))
    queries = [_vectors_of(baseline, exemplars, k) for k in each]
    said = _said_of(baseline.said, baseline, exemplars) if baseline.said is not None else None
    present = np.flatnonzero(~before.missing)
    embeddings = Embeddings([baseline.vectors[present]], present, len(baseline.vectors))
    scores = cosine(embeddings, joined(queries, said))
    search = Search(classes, exemplars, embeddings, scores, 0.0, queries, said=said)
    first = before.thresholds[0]  # that of the run, which may have compared several
    threshold = "auto" if first.provisional else first.value
    fit = FitSettings.parse(settings.model_dump() | {"threshold": threshold})
    try:
        groups = group_pool(search, fit, Space.plain(embeddings.dim), baseline.held_out, before.copy_of)
    except GroupError as error:
        raise AnswersError(f"with these exemplars: {error}") from error
    return replace(
        baseline,
        exemplars=groups.anchors,
        said=said,
        names=names_of(exemplars, len(classes)),
        groups=groups,
        exemplar_rows=search.exemplar_rows,
        pictures=pictures_of(exemplars, len(classes)),
    )


def _vectors_of(baseline: ReviewBaseline, exemplars: Sequence[Exemplar], k: int) -> Matrix:
    """The vectors of the exemplars of a class: as the run had them, and those of the pool."""
    names = baseline.names[k]
    known = dict(zip(names, baseline.exemplars[k][: len(names)], strict=True))
    own = [one for one in exemplars if one.label == k]
    for one in own:
        if one.row is None and one.name not in known:
            raise AnswersError(
                f"{one.name} was no exemplar when the run was done, and is not in the pool, so it has no vector to "
                "compare with: do the run again (holotype run OUT)"
            )
    found = [known[one.name] if one.name in known else np.asarray(baseline.vectors[one.row], np.float32) for one in own]
    return np.array(found, np.float32).reshape(len(found), baseline.vectors.shape[1])


def _said_of(said: WordScores, baseline: ReviewBaseline, exemplars: Sequence[Exemplar]) -> WordScores:
    """What words say beside these exemplars: of each as the run had it, or as of the image of the pool."""
    scores = np.nan_to_num(said.pool)
    pictures = []
    for k, names in enumerate(baseline.names):
        known = dict(zip(names, said.pictures[k], strict=True))
        own = [one for one in exemplars if one.label == k]
        found = [known[one.name] if one.name in known else scores[one.row, k] for one in own]
        pictures.append(np.array(found, np.float32))
    return replace(said, pictures=pictures)
