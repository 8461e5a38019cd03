"""What pictures alone, words alone and both together find of a class, and where they differ."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.errors import GroupError
from holotype.grouping.assign import group_pool
from holotype.grouping.groups import Groups
from holotype.grouping.search import Search, cosine, joined
from holotype.settings import FitSettings

DISAGREE = 0.5  # deviations below which words hardly describe the pictures: docs/tried.md#words has those of both kinds


@dataclass(frozen=True)
class ClassWays:
    """Pool rows that were found of a class that has pictures and words, the surest first; exemplars are none of them.

    picture, words   by one of the two alone
    both             by both
    agreement        how far the words describe the pictures (`Ranking`); nan where a cosine decides
    heard            whether they do so well enough to count beside these
    """

    picture: NDArray[np.int64]
    words: NDArray[np.int64]
    both: NDArray[np.int64]
    agreement: float
    heard: bool

    @property
    def disagree(self) -> bool:
        """Whether the words seem to mean something else than the pictures show."""
        return bool(self.agreement < DISAGREE)

    @property
    def common(self) -> int:
        """How many images each of the two alone finds."""
        return len(np.intersect1d(self.picture, self.words))

    @property
    def only_picture(self) -> NDArray[np.int64]:
        """The rows that the pictures alone find, and the words do not."""
        return self.picture[~np.isin(self.picture, self.words)]

    @property
    def only_words(self) -> NDArray[np.int64]:
        """The rows that the words alone find, and the pictures do not."""
        return self.words[~np.isin(self.words, self.picture)]

    def to_json(self) -> dict[str, Any]:
        """How many images each way finds, as plain values."""
        counts = {"picture": len(self.picture), "words": len(self.words), "both": len(self.both)}
        agreement = None if np.isnan(self.agreement) else round(self.agreement, 4)
        return counts | {"common": self.common, "agreement": agreement, "heard": self.heard}


def compare_ways(
    search: Search, groups: Groups, settings: FitSettings, held_out: Collection[int] = ()
) -> list[ClassWays | None]:
    """Group by each of the two alone, in the space of `groups`, which rest on both; None for a class without both."""
    said = search.said
    has_both = [said is not None and len(own) > 0 and len(said.anchors[k]) > 0 for k, own in enumerate(search.queries)]
    if said is None or not any(has_both):
        return [None] * len(has_both)
    silent = [anchors[:0] if both else anchors for anchors, both in zip(said.anchors, has_both, strict=True)]
    unseen = [own[:0] if both else own for own, both in zip(search.queries, has_both, strict=True)]
    scores = [own[:0] if both else own for own, both in zip(said.pictures, has_both, strict=True)]
    left = [one for one in search.exemplars if not has_both[one.label]]
    seen = replace(search, said=replace(said, anchors=silent))
    told = replace(search, exemplars=left, queries=unseen, said=replace(said, pictures=scores))
    picture, words = (_grouped(one, groups, settings, held_out) for one in (seen, told))
    own_rows = list(search.exemplar_rows)
    found = [[_found(one, k, own_rows) for k in range(len(has_both))] for one in (picture, words, groups)]
    each = zip(*found, *_hearings(groups), strict=True)
    return [ClassWays(*one) if both else None for one, both in zip(each, has_both, strict=True)]


def _hearings(groups: Groups) -> tuple[list[float], list[bool]]:
    """Per class the agreement of words and pictures, and whether the words are heard."""
    if groups.ranking is None:
        return [float("nan")] * len(groups.classes), [False] * len(groups.classes)
    return groups.ranking.agreement.tolist(), groups.ranking.heard.tolist()


def _grouped(search: Search, groups: Groups, settings: FitSettings, held_out: Collection[int]) -> Groups | None:
    scores = cosine(search.embeddings, joined(search.queries, search.said))
    try:
        return group_pool(replace(search, scores=scores), settings, groups.space, held_out, groups.copy_of)
    except GroupError:  # nothing can be compared by this way
        return None


def _found(groups: Groups | None, k: int, exemplars: Sequence[int]) -> NDArray[np.int64]:
    if groups is None:
        return np.empty(0, np.int64)
    rows = np.setdiff1d(groups.found(k), exemplars)
    return np.asarray(rows[np.argsort(-groups.scores[rows, k], kind="stable")])
