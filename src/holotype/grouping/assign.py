"""The one way from a search to groups."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from holotype.errors import GroupError
from holotype.grouping.copies import Copies, find_copies
from holotype.grouping.graph import rank
from holotype.grouping.groups import NO_VECTORS, Groups, group, group_ranked, said_of_connections, thresholds_for
from holotype.grouping.premises import Premises, premises_of
from holotype.grouping.search import Search, cosine, joined
from holotype.grouping.space import Space, fit_space
from holotype.progress import Progress, Step, in_steps
from holotype.settings import FitSettings

_STEPS = 6  # that are shown, and two for each class


def group_pool(
    search: Search,
    settings: FitSettings,
    space: Space | None = None,
    held_out: Collection[int] = (),
    copy_of: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
    before: Groups | None = None,
    keeps_space: bool = False,
) -> Groups:
    """Return the groups at the threshold of `settings`; images that are copies share a decision (`find_copies`).

    A number is a cosine between the vectors as they are. An automatic threshold ranks the pool along its graph in a
    fitted space, or by the cosine there where diffusion is off. A class may have no image but its exemplars
    (`lonely_classes`). Raises `GroupError` when there is nothing to compare.

    space         to compare in, where it is known; else it is fitted on the pool
    held_out      pool rows of a test set: they are grouped, and nothing is learnt from them
    copy_of       (n,) which rows are copies of which, where it is known
    before        groups that were found earlier: they, or their space alone, are taken where they rest on the same
    keeps_space   their space is taken for other images, too (`premises_of`)
    """
    refuse_no_vectors(search.scores, search.exemplar_rows)
    with in_steps(progress, "group images", _STEPS + 2 * len(search.classes)) as step:
        found_in = None if before is None else before.premises
        premises = None
        if space is None:
            premises = premises_of(search, settings, held_out, found_in, keeps_space=keeps_space)
        if before is not None and premises is not None and found_in == premises:
            return before
        copies = find_copies(search, copy_of)
        if before is not None and premises is not None and _is_space_of(before, premises, copies):
            space = before.space
        step()
        held_out = np.unique(copies.copy_of[np.array(list(held_out), np.int64)]).tolist()
        distinct = _group_distinct(copies.without(search), settings, space, held_out, step)
        wide = before.wide if before is not None and distinct.space is before.space else None
        return replace(copies.share(distinct, search.exemplar_rows), premises=premises, wide=wide)


def _is_space_of(before: Groups, premises: Premises, copies: Copies) -> bool:
    """Whether the space of groups that were found before is the one that `premises` tell."""
    if before.premises is None or before.premises.space != premises.space:
        return False
    fitted_on_others = premises.space != premises.vectors
    return fitted_on_others or np.array_equal(copies.distinct, before.distinct)


def _group_distinct(
    search: Search, settings: FitSettings, space: Space | None, held_out: Collection[int], step: Step
) -> Groups:
    rows, ranks = search.exemplar_rows, settings.rank
    if settings.threshold != "auto":
        groups = _group_by_cosine(search, search.scores, settings)
        return replace(groups, anchors=joined(search.queries, search.said))
    pictures, said = search.pictures(ranks.exemplar_views), search.said
    if ranks.diffusion:
        seed = settings.seed
        ranking = rank(
            search.embeddings, pictures, rows, ranks, seed=seed, space=space, held_out=held_out, said=said, step=step
        )
        groups = group_ranked(search.classes, ranking, rows, settings.doubtful_band, settings.ambiguity)
        return replace(groups, space=ranking.space, anchors=joined(pictures, said, np.flatnonzero(ranking.heard)))
    space = space or fit_space(search.embeddings, ranks.space, settings.seed, step)
    anchors = joined(pictures, said)
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


def lonely_classes(groups: Groups, exemplars: Collection[int]) -> dict[str, str]:
    """Return the classes that have no image but their `exemplars` (pool rows), and a sentence why and what may help."""
    others = np.setdiff1d(np.flatnonzero(~groups.missing), list(exemplars))
    return {
        name: f"no image but the exemplars is in the group of {name!r}: {_why_lonely(groups, k, others)}"
        for k, name in enumerate(groups.classes)
        if not len(groups.found(k))
    }


def loose_classes(groups: Groups) -> list[str]:
    """Return a sentence for each class that has images, but hardly hangs together: its exemplars may be like none."""
    if groups.ranking is None:
        return []
    return [
        f"the pool may hold nothing like the exemplars of {name!r}: {said_of_connections(groups.ranking, k)}, so most "
        "of what it found may well be wrong; look at that, and at the exemplars"
        for k, name in enumerate(groups.classes)
        if groups.ranking.loose[k] and len(groups.found(k))
    ]


def poor_vectors(search: Search, groups: Groups) -> list[str]:
    """Return a sentence where the vectors of a search can tell its images apart hardly or not at all."""
    count, distinct = len(search.embeddings.rows), int((groups.distinct & ~groups.missing).sum())
    others = np.delete(search.scores, list(search.exemplar_rows), axis=0)
    if distinct == 1:
        return [f"the vectors of all {count:,} images are the same: nothing can be told apart by them"]
    if search.embeddings.dim == 1:
        return ["the vectors have one dimension, so that any two images are the same or opposite: take others"]
    if not np.any(np.abs(others[~np.isnan(others)]) > 1e-6):
        return ["no image has anything in common with an exemplar (each cosine is 0): take other vectors"]
    return []


def _why_lonely(groups: Groups, k: int, others: NDArray[np.int64]) -> str:
    more, one = "more exemplars of it help", groups.thresholds[k]
    if not len(others):
        return "no other image has a vector"
    scores = groups.scores[others]
    if taken := int((groups.tie[others] & (scores[:, k] >= np.float32(one.value))).sum()):
        rivals = (scores >= [threshold.value for threshold in groups.thresholds]).sum(axis=0)
        rivals[k] = -1
        return (
            f"{taken:,} of the others are as near to {groups.classes[int(rivals.argmax())]!r}. Two classes may show "
            "the same: give other exemplars"
        )
    nearest = float(scores[:, k].max())
    if groups.score_kind == "cosine":
        lower = "" if one.provisional else "lower --threshold, or take --threshold auto; "
        other = "another class is nearer to it" if nearest >= one.value else f"the threshold is {one.value:.3f}"
        return f"the most similar image has a cosine of {nearest:.3f}, and {other}; {lower}{more}"
    if nearest <= 0:
        return f"nothing in the pool is linked to its exemplars; {more}"
    return f"what is most like its exemplars is nearer to another class, or too unlike; {more}"
