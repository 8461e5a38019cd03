"""What the answers so far lead to: where each class stands, what moved, and what a gallery of it shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from holotype.answers import Said
from holotype.classifier import Classifier
from holotype.embeddings import Embeddings
from holotype.errors import AnswersError, GroupError
from holotype.exemplars import Exemplar, names_of
from holotype.feedback import sigmoid
from holotype.groups import Estimate, estimates
from holotype.settings import Settings
from holotype.similarity import Search, cosine
from holotype.teaching import Said as SaidByRow
from holotype.teaching import Start, Taught, plain_space

Part = Literal["found", "doubtful", "rejected"]
Rows = NDArray[np.int64]

_MOVED = 24  # images that are shown of those that joined or left
USUAL = 20  # answers about a class, the first, that bring the most
_STILL = 0.02  # share of a class that may move while it counts as standing still;
LONG = 10  # after so many answers about it meanwhile, more hardly help


@dataclass(frozen=True)
class Standing:
    """Where a class stands.

    found, doubtful   images
    size              estimated images of the class in the pool: a model's figure, no bound
    precision         of what was found, by the audit: the share, and with 95 % confidence the least; None without
    whole             all of it was looked at, and what was wrong is out
    joined, left      images, by the last refit
    hint              whether more answers will help
    """

    label: str
    answered: int
    yes: int
    no: int
    unsure: int
    audited: int
    audited_yes: int
    found: int
    doubtful: int
    size: float
    precision: float | None
    precision_low: float | None
    whole: bool
    joined: int
    left: int
    hint: str


@dataclass(frozen=True)
class Moved:
    """Rows that the last refit took into a class, and out of it: the surest first, at most 24 each."""

    joined: list[int]
    left: list[int]


@dataclass(frozen=True)
class State:
    """What the answers up to `version` lead to.

    moves   per class the rows that the last refit took in, and those that it let go
    still   per class how many times it was answered yes or no since it last moved
    """

    version: int
    start: Start
    said: SaidByRow
    taught: Taught
    moves: Sequence[tuple[Rows, Rows]]
    still: Sequence[int]

    @classmethod
    def first(cls, version: int, start: Start, said: SaidByRow, taught: Taught) -> Self:
        """Return the state that follows none."""
        nothing = np.empty(0, np.int64)
        count = len(taught.learnt)
        return cls(version, start, said, taught, [(nothing, nothing)] * count, [0] * count)

    def following(self, before: "State") -> Self:
        """Return this state as the one that comes after another."""
        moves, still = [], []
        for k, lasted in enumerate(before.still):
            then, now = before.taught.groups.members(k), self.taught.groups.members(k)
            joined, left = np.setdiff1d(now, then), np.setdiff1d(then, now)
            moves.append((joined, left))
            new = self.said.told[k].decided - before.said.told[k].decided
            still.append(0 if len(joined) + len(left) > _STILL * len(now) else lasted + max(new, 0))
        return replace(self, moves=moves, still=still)

    def standing(self, k: int, said: Sequence[Said]) -> Standing:
        """Return where class `k` stands, about which that was `said`."""
        groups, audit = self.taught.groups, self.taught.audits[k]
        own = groups.label == k
        joined, left = self.moves[k]
        whole = audit.asked == audit.among > 0
        counts = {name: said.count(name) for name in ("yes", "no", "unsure")}
        return Standing(
            groups.classes[k],
            sum(counts.values()),
            counts["yes"],
            counts["no"],
            counts["unsure"],
            audit.asked,
            audit.yes,
            int((own & (groups.decision == "member")).sum()),
            int((own & (groups.decision == "doubtful")).sum()),
            self._size(k),
            1.0 if whole else audit.precision,  # what was wrong is out
            audit.low,
            whole,
            len(joined),
            len(left),
            self._hint(k, sum(counts.values())),
        )

    @cached_property
    def _stated(self) -> list[Estimate]:
        return estimates(self.taught.groups)

    def _size(self, k: int) -> float:
        """Estimated images of a class: those said to show it, and the sum of the probabilities of the others."""
        if self._stated:
            return self._stated[k].size
        logits = self.taught.logits[:, k].copy()
        shown = {*self.said.shown[k].tolist(), *(row for row, owner in self.start.own.items() if owner == k)}
        logits[[*self.said.hidden[k], *shown, *self.start.own]] = -np.inf
        likely = sigmoid(logits[logits > self.taught.cuts[k] - 3])
        return float(likely.sum()) + len(shown)

    def _hint(self, k: int, answered: int) -> str:
        if answered < USUAL:
            return f"The first {USUAL} answers bring the most: {USUAL - answered} to go."
        if self.still[k] < LONG:
            return "A few more answers may still move this class."
        return (
            "The last answers changed almost nothing: more will hardly help. If other images show it in another way, "
            "make one of those an exemplar."
        )

    def moved(self, k: int) -> Moved:
        """Return what the last refit took into class `k`, and out of it."""
        joined, left = (self._likely(rows, k)[:_MOVED].tolist() for rows in self.moves[k])
        return Moved(joined, left)

    def rows(self, part: Part, k: int) -> Rows:
        """Return the images of a part of class `k`, the most likely first; "rejected" are all in no class."""
        groups = self.taught.groups
        own, decision = groups.label == k, groups.decision
        if part == "found":
            return self._likely(np.flatnonzero(own & (decision == "member")), k)
        if part == "doubtful":
            return self._likely(np.flatnonzero(own & (decision == "doubtful")), k)
        return self._likely(np.union1d(np.flatnonzero(decision == "background"), self.said.hidden[k]), k)

    def _likely(self, rows: Rows, k: int) -> Rows:
        return np.asarray(rows[np.argsort(-self.taught.logits[rows, k], kind="stable")])


def rank_again(start: Start, exemplars: Sequence[Exemplar], settings: Settings, out: Path) -> Start:
    """Return what answers are added to where the `exemplars` are others than those of the run in `out`.

    Raises `AnswersError` when they cannot be compared with, or reach nothing.
    """
    classes, own = start.groups.classes, {one.row: one.label for one in exemplars if one.row is not None}
    queries = [_vectors(start, exemplars, k, out) for k in range(len(classes))]
    present = np.flatnonzero(~start.groups.missing)
    embeddings = Embeddings([start.vectors[present]], present, len(start.vectors))
    search = Search(classes, exemplars, embeddings, cosine(embeddings, queries), 0.0, queries)
    first = start.groups.thresholds[0]  # that of the run, which may have compared several
    classifier = Classifier(**dict(settings.fit) | {"threshold": "auto" if first.provisional else first.value})
    try:
        groups = classifier.group(search, plain_space(embeddings.dim))
    except GroupError as error:
        raise AnswersError(f"with these exemplars: {error}") from error
    names = names_of(exemplars, len(classes))
    return replace(start, exemplars=queries, names=names, groups=groups, own=own)


def _vectors(start: Start, exemplars: Sequence[Exemplar], k: int, out: Path) -> NDArray[np.float32]:
    """The vectors of the exemplars of a class: as the run had them, and those of the pool."""
    known = dict(zip(start.names[k], start.exemplars[k], strict=True))
    for one in exemplars:
        if one.label == k and one.row is None and one.name not in known:
            raise AnswersError(
                f"{one.name} was no exemplar when the run was done, and is not in the pool, so it has no vector to "
                f"compare with: do the run again, holotype run {out} --resume"
            )
    return np.stack(
        [
            known[one.name] if one.name in known else np.asarray(start.vectors[one.row], np.float32)
            for one in exemplars
            if one.label == k
        ]
    )
