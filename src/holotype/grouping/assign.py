"""The one way from a search to groups."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from holotype.errors import GroupError
from holotype.grouping.copies import find_copies
from holotype.grouping.graph import rank
from holotype.grouping.groups import NO_VECTORS, Groups, group, group_ranked, thresholds_for
from holotype.grouping.search import Search, cosine
from holotype.grouping.space import Space, fit_space
from holotype.settings import FitSettings


def group_pool(
    search: Search,
    settings: FitSettings,
    space: Space | None = None,
    held_out: Collection[int] = (),
    copy_of: NDArray[np.int64] | None = None,
) -> Groups:
    """Return the groups at the threshold of `settings`; images that are copies share a decision (`find_copies`).

    A number is a cosine between the vectors as they are. An automatic threshold ranks the pool along its graph in a
    fitted space, or by the cosine there where diffusion is off. A class may have no image but its exemplars
    (`refuse_empty_class`). Raises `GroupError` when there is nothing to compare.

    space      to compare in, where it is known; else it is fitted on the pool
    held_out   pool rows of a test set: they are grouped, and nothing is learnt from them
    copy_of    (n,) which rows are copies of which, where it is known
    """
    copies = find_copies(search, copy_of)
    held_out = np.unique(copies.copy_of[np.array(list(held_out), np.int64)]).tolist()
    return copies.share(_group_distinct(copies.without(search), settings, space, held_out), search.exemplar_rows)


def _group_distinct(search: Search, settings: FitSettings, space: Space | None, held_out: Collection[int]) -> Groups:
    rows, ranks = search.exemplar_rows, settings.rank
    refuse_no_vectors(search.scores, rows)
    if settings.threshold != "auto":
        return replace(_group_by_cosine(search, search.scores, settings), anchors=search.queries)
    anchors = search.anchors(ranks.exemplar_views)
    if ranks.diffusion:
        seed = settings.seed
        ranking = rank(search.embeddings, anchors, rows, ranks, seed=seed, space=space, held_out=held_out)
        groups = group_ranked(search.classes, ranking, rows, settings.doubtful_band, settings.ambiguity)
        return replace(groups, space=ranking.space, anchors=anchors)
    space = space or fit_space(search.embeddings, ranks.space, settings.seed)
    groups = _group_by_cosine(search, cosine(search.embeddings, anchors, space), settings)
    return replace(groups, space=space, anchors=anchors)


def _group_by_cosine(search: Search, scores: NDArray[np.float32], settings: FitSettings) -> Groups:
    """Return the groups at a threshold on the cosines `scores` (n, K)."""
    rows = search.exemplar_rows
    others = np.delete(scores, list(rows), axis=0)
    thresholds = thresholds_for(others, settings.threshold, settings.doubtful_band)
    return group(search.classes, scores, thresholds, rows, settings.ambiguity)


def refuse_no_vectors(scores: NDArray[np.float32], exemplars: Collection[int]) -> None:
    """Raise `GroupError` when no row of `scores` (n, K) but the `exemplars` has a vector."""
    others = np.delete(scores, list(exemplars), axis=0)
    if np.isnan(others).any(axis=1).all():
        raise GroupError(NO_VECTORS)


def refuse_empty_class(groups: Groups, exemplars: Collection[int]) -> None:
    """Raise `GroupError` when a class has no image but its `exemplars`."""
    for number, name in enumerate(groups.classes):
        if np.any(groups.decision[groups.members(number)] == "member"):
            continue
        nearest = np.nanmax(np.delete(groups.scores[:, number], list(exemplars)))
        threshold = groups.thresholds[number].value
        taken = ", but is as far above the threshold of another class" if nearest >= threshold else ""
        advice = "Lower --threshold, take --threshold auto, or give more exemplars"
        if groups.score_kind == "estimate":
            advice = "Give other exemplars (two classes may show the same), or a cosine as --threshold"
        raise GroupError(
            f"no image but the exemplar is in the group of {name!r} at threshold {threshold:.3f}; the most similar "
            f"image has {'a cosine' if groups.score_kind == 'cosine' else 'an estimate'} of {nearest:.3f}{taken}. "
            f"{advice}"
        )
