"""What the answers so far lead to: where each class stands, what moved, and what a gallery of it shows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from holotype.answers.audit import in_percent
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.index import index_answers
from holotype.answers.records import Answer, Verdict
from holotype.answers.refine import Refined
from holotype.grouping.groups import Estimate, Strength, estimates, strength_basis
from holotype.names import counted
from holotype.review.queries import FIRST_ANSWERS

Part = Literal["found", "doubtful", "rejected"]
Rows = NDArray[np.int64]

_MOVED = 24  # images that are shown of those that joined or left
_STILL = 0.02  # share of a class that may move while it counts as standing still;
LONG = 10  # after so many answers about it meanwhile, other ways help more


@dataclass(frozen=True)
class ClassStatus:
    """Where a class stands.

    found, doubtful   images
    at_least          images of the class in the pool that are known of: those said to show it and the exemplars, or
                      what the audit proves of those found (95 % confidence), if that is more
    strength          in a word how well what was found hangs together; "" where a threshold was given
    strength_basis    what the word rests on
    precision         of what was found, by the audit: the share, and with 95 % confidence the least; None without
    whole             all that was found was looked at, and what was wrong is out; others may be missing
    audit_needs       what answered audits wait for, "" where all count
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
    at_least: int
    strength: Strength | Literal[""]
    strength_basis: str
    precision: float | None
    precision_low: float | None
    whole: bool
    audit_needs: str
    joined: int
    left: int
    hint: str

    def __str__(self) -> str:
        known = f"{counted(self.answered, 'answer')}, {self.found:,} found, at least {self.at_least:,} in the pool"
        needs = f"; audits: {self.audit_needs}" if self.audit_needs else ""
        return f"{known}; {self._worth()}{needs}"

    def _worth(self) -> str:
        if self.whole:
            return "all that was found was looked at; others may be missing"
        if self.precision_low is not None:
            bound = in_percent(self.precision_low) / 100
            return f"precision at least {bound:.2f} ({self.audited_yes:,} of {self.audited:,} audited)"
        strength = f"{self.strength}, {self.strength_basis}; " if self.strength else ""
        said = f"; {self.yes:,} of {self.yes + self.no:,} answered show it" if self.yes + self.no else ""
        return f"{strength}precision not known yet{said}"


@dataclass(frozen=True)
class Changes:
    """Rows that the last refit took into a class, and out of it: the surest first, at most 24 each."""

    joined: list[int]
    left: list[int]


@dataclass(frozen=True)
class ReviewState:
    """What the answers up to `version` lead to.

    moves   per class the rows that the last refit took in, and those that it let go
    still   per class how many times it was answered yes or no since it last moved
    """

    version: int
    baseline: ReviewBaseline
    refined: Refined
    moves: Sequence[tuple[Rows, Rows]]
    still: Sequence[int]
    _held: dict[int, tuple[int, int, int]] = field(default_factory=dict, repr=False)

    @classmethod
    def first(cls, version: int, baseline: ReviewBaseline, refined: Refined) -> Self:
        """Return the state that follows none."""
        nothing = np.empty(0, np.int64)
        count = len(refined.models)
        return cls(version, baseline, refined, [(nothing, nothing)] * count, [0] * count)

    def following(self, before: "ReviewState") -> Self:
        """Return this state as the one that comes after another."""
        moves, still = [], []
        for k, lasted in enumerate(before.still):
            then, now = before.refined.groups.members(k), self.refined.groups.members(k)
            joined, left = np.setdiff1d(now, then), np.setdiff1d(then, now)
            moves.append((joined, left))
            new = self.refined.counts[k].decided - before.refined.counts[k].decided
            still.append(0 if len(joined) + len(left) > _STILL * len(now) else lasted + max(new, 0))
        return replace(self, moves=moves, still=still)

    def status(self, k: int, verdicts: Sequence[Verdict]) -> ClassStatus:
        """Return where class `k` stands, about which `verdicts` were given."""
        audit = self.refined.audits[k]
        found, doubtful, at_least = self._held[k] = self._held.get(k) or self._count(k)
        joined, left = self.moves[k]
        strength = self._stated[k].strength if self._stated else ""
        basis = strength_basis(self.refined.counts[k].trusted)
        counts = {name: verdicts.count(name) for name in ("yes", "no", "unsure")}
        return ClassStatus(
            self.refined.groups.classes[k],
            sum(counts.values()),
            counts["yes"],
            counts["no"],
            counts["unsure"],
            audit.asked,
            audit.yes,
            found,
            doubtful,
            at_least,
            strength,
            basis if strength else "",
            1.0 if audit.whole else audit.precision,  # what was wrong is out
            audit.low,
            audit.whole,
            audit.needs,
            len(joined),
            len(left),
            self._hint(k, sum(counts.values())),
        )

    def _count(self, k: int) -> tuple[int, int, int]:
        """Images that were found of a class, doubtful ones, and how many there are at the least."""
        own = self.refined.groups.decision[self.refined.groups.label == k]
        return int((own == "member").sum()), int((own == "doubtful").sum()), self._at_least(k)

    @cached_property
    def _stated(self) -> list[Estimate]:
        return estimates(self.refined.groups, self.refined.decided)

    def _at_least(self, k: int) -> int:
        audit = self.refined.audits[k]
        shown = {
            *self.refined.index.positive[k].tolist(),
            *(row for row, owner in self.baseline.exemplar_rows.items() if owner == k),
        }
        return max(len(shown), math.floor((audit.low or 0) * audit.among))

    def _hint(self, k: int, answered: int) -> str:
        if answered < FIRST_ANSWERS:
            return f"The first {FIRST_ANSWERS} answers bring the most: {FIRST_ANSWERS - answered} to go."
        if self.still[k] < LONG:
            return "A few more answers may still move this class."
        return (
            "The last answers changed almost nothing. Where other images show it in another way, one of them finds the "
            "rest: look around it (A), search with a picture (F), or look at the map (M)."
        )

    def known(self, k: int, current: Sequence[Answer], rows: Mapping[str, int], undone: int) -> set[int]:
        """Return the rows of which is known whether they show class `k`, by what was learnt and by newer answers.

        current   the answers that hold, in order of recording: some may be newer than the last refit
        rows      id -> row
        undone    the number of the last record that took something back
        """
        groups, index = self.refined.groups, self.refined.index
        if undone > self.version:  # some of what was learnt from does not hold any more
            index = index_answers(current, groups.classes, rows, self.baseline.held_out)
            return self._with_copies([*index.positive[k].tolist(), *index.negative[k].tolist()])
        label, new = groups.classes[k], list[int]()
        for one in reversed(current):
            if one.number <= self.version:
                break
            if one.verdict in ("yes", "exemplar") or (one.label == label and one.verdict == "no"):
                new.append(rows[one.id])
        return {*index.positive[k].tolist(), *index.negative[k].tolist(), *self._with_copies(new)}

    def _with_copies(self, rows: Sequence[int]) -> set[int]:
        copy_of = self.refined.groups.copy_of
        if not rows or copy_of is None:
            return set(rows)
        return set(np.flatnonzero(np.isin(copy_of, copy_of[list(rows)])).tolist())

    def changes(self, k: int) -> Changes:
        """Return what the last refit took into class `k`, and out of it."""
        joined, left = (self._likely(rows, k)[:_MOVED].tolist() for rows in self.moves[k])
        return Changes(joined, left)

    def rows(self, part: Part, k: int) -> Rows:
        """Return the images of a part of class `k`, the most likely first; "rejected" are all in no class."""
        groups = self.refined.groups
        own, decision = groups.label == k, groups.decision
        if part == "found":
            return self._likely(groups.found(k), k)
        if part == "doubtful":
            return self._likely(np.flatnonzero(own & (decision == "doubtful")), k)
        return self._likely(np.union1d(np.flatnonzero(decision == "background"), self.refined.index.negative[k]), k)

    def _likely(self, rows: Rows, k: int) -> Rows:
        return np.asarray(rows[np.argsort(-self.refined.logits[rows, k], kind="stable")])


def without_last(answers: Sequence[Answer], classes: Sequence[str]) -> list[Answer]:
    """Return `answers` without the last `LONG` that decided about each class that has had its first."""
    out = set[int]()
    for label in classes:
        decided = [i for i, one in enumerate(answers) if one.label == label and one.verdict in ("yes", "no")]
        if len(decided) >= FIRST_ANSWERS:
            out.update(decided[-LONG:])
    return [one for i, one in enumerate(answers) if i not in out]
