"""Which images of a class to ask about next: strategies behind one method, and the queue that mixes in the audit."""

import csv
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from threading import RLock
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from holotype.answers.audit import audit_order
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.feedback import Expectation, Logits, sigmoid
from holotype.answers.opinion import second_opinion
from holotype.answers.refine import Refined, expectation, on_one_core
from holotype.grouping.space import Matrix

ANSWERS_PER_REFIT = 2  # answers about a class after which the page learns anew

# `python -m benchmarks.constants --questions` varies them on development classes; docs/tried.md has other figures.
FIRST_ANSWERS = 20  # those about a class that bring the most: it moves so much that a sample for an audit is lost
_AUDITED = 3  # one answer of so many is an audit, in the end
_DEEP = 400  # images that are looked at: the most likely
_WIDE = 4.0  # logits from even odds count as much as ...
_APART = 0.5  # ... this share of the way from nothing in common to the same image
CANDIDATES = 1000  # images that a page covers: the most likely
_FIRST = 2.0  # logit of the first of those candidates, of which ranks are all that is known
_NEARNESS = 4  # power of the cosine that says how far an image stands for another; `benchmarks.quality --seconds`
_ROUND = 10  # questions of a class, from which on asking in rounds brings more
_TINY = 10.0  # estimated images left of a class that is walked from the top ...
_LIKELY = -3.0  # ... counted from this logit on: the pool is large, and its unlikely images add up

Rows = NDArray[np.int64]


class Seen:
    """What is known of a class: `exemplars` (e, dim), and rows of `vectors` (n, dim); several threads may share one.

    Which images are near to it is kept, and only what became known since is compared.
    """

    def __init__(self, vectors: NDArray[Any], exemplars: Matrix) -> None:
        self._vectors, self._exemplars = vectors, exemplars
        self._turn = RLock()
        self._start([])

    def _start(self, known: Collection[int]) -> None:
        self._rows = dict.fromkeys(known)
        self._near = np.zeros(len(self._vectors), np.float32)
        self._compared = np.zeros(len(self._vectors), np.int64)  # with so many of all

    def __len__(self) -> int:
        return len(self._exemplars) + len(self._rows)

    def follow(self, known: Collection[int]) -> None:
        """Take the rows that are known now."""
        with self._turn:
            if self._rows.keys() <= set(known):
                self._rows |= dict.fromkeys(known)
            else:  # something was taken back
                self._start(known)

    def ahead(self, rows: Collection[int]) -> "Seen":
        """Return what is known when `rows` are known too."""
        other = Seen(self._vectors, self._exemplars)
        with self._turn:
            other._rows = self._rows | dict.fromkeys(rows)
            other._near, other._compared = self._near.copy(), self._compared.copy()
        return other

    def vectors(self, start: int = 0) -> Matrix:
        """Return the vectors (s, dim) of all of it from the place `start` on: the exemplars, and rows as they came."""
        rows = list(self._rows)[max(start - len(self._exemplars), 0) :]
        return np.concatenate([self._exemplars[start:], np.asarray(self._vectors[rows], np.float32)])

    def nearest(self, rows: Rows) -> NDArray[np.float32]:
        """Return for each of `rows` the greatest cosine to what is known, from 0 to 1."""
        with self._turn:
            for start in np.unique(self._compared[rows]).tolist():
                those = rows[self._compared[rows] == start]
                if start < len(self):
                    cosines = np.asarray(self._vectors[those], np.float32) @ self.vectors(start).T
                    self._near[those] = np.clip(np.maximum(self._near[those], cosines.max(axis=1)), 0, 1)
            self._compared[rows] = len(self)
            return self._near[rows]


@dataclass(frozen=True)
class QueryContext:
    """What a strategy sees of a class.

    vectors    (n, dim) unit vectors of the pool
    logits     (n,) of the estimated probability that an image shows the class
    free       (n,) bool: may be asked about
    seen       the exemplars, and what is known
    distinct   (n,) bool: no copy of another image, which is asked about in its place; None for all
    expect     gives what answers to come would make of some rows; None where several questions are chosen as if alone
    opinion    gives (n,) scores of a second opinion, or None: where there is none (yet)
    """

    vectors: NDArray[Any]
    logits: Logits
    free: NDArray[np.bool_]
    seen: Seen
    distinct: NDArray[np.bool_] | None = None
    expect: Callable[[Rows], Expectation] | None = None
    opinion: Callable[[], NDArray[np.float32] | None] = lambda: None

    @classmethod
    def of(
        cls,
        baseline: ReviewBaseline,
        refined: Refined,
        k: int,
        known: Collection[int],
        closed: Collection[int],
        seen: Seen | None = None,
        seed: int = 0,
    ) -> Self:
        """Return the context of class `k`: rows of which is `known` whether they show it, others that are `closed`.

        seen   of an earlier context of the class, to compare nothing twice
        seed   of what is learnt
        """
        free: NDArray[np.bool_] = ~baseline.groups.missing
        free[[*known, *closed, *baseline.exemplar_rows]] = False
        seen = seen or Seen(baseline.vectors, baseline.exemplars[k])
        seen.follow(known)
        logits, distinct = refined.untrusted_logits[:, k], baseline.groups.distinct
        expect, opinion = (
            partial(expectation, baseline, refined, k, seed),
            partial(_opinion, baseline, refined, k, seed),
        )
        return cls(baseline.vectors, logits, free, seen, distinct, expect, opinion)


def _opinion(baseline: ReviewBaseline, refined: Refined, k: int, seed: int) -> NDArray[np.float32] | None:
    if baseline.wide is None:
        return None
    own = [row for row, label in baseline.exemplar_rows.items() if label == k]
    positive = np.union1d(refined.index.positive[k], np.array(own, np.int64))
    there = np.flatnonzero(~baseline.groups.missing & baseline.groups.distinct)
    with on_one_core():
        return second_opinion(baseline.wide, positive.tolist(), refined.index.negative[k].tolist(), there, seed)


def choose_together(strategy: "Strategy", context: QueryContext, n: int, answered: int) -> list[int]:
    """Return `n` free rows to ask about together, by what the answers to the first would lead to.

    A few are chosen as the page does, answered as is expected, learnt from, and the next follow. Of the first answers
    the likelier one is expected; later "no" of each, so that questions go on to where the class may be besides.

    answered   how many answers about the class there are
    """
    if not strategy.foresees or context.expect is None or n <= ANSWERS_PER_REFIT:
        return strategy.choose(context, n)
    among = _least(np.where(context.free, -context.logits, np.inf), _DEEP)
    chosen, yes = list[int](), list[bool]()
    ahead = replace(context, logits=context.logits.copy(), free=context.free.copy())
    with on_one_core():
        expected = context.expect(among)
        while some := strategy.choose(ahead, min(ANSWERS_PER_REFIT, n - len(chosen))):
            yes += [answered < FIRST_ANSWERS and ahead.logits[row] > 0 for row in some]
            chosen += some
            if len(chosen) >= n:
                break
            ahead.free[some] = False
            ahead.logits[among] = expected.logits(chosen, yes)
            ahead = replace(ahead, seen=ahead.seen.ahead(some))
    return chosen


def better_rounds(form: Iterable[str]) -> str:
    """Return how the questions of a form (its lines) are better asked, in words; nothing where they are few.

    docs/tried.md has what questions bring that are asked 2, 10, 20 and 24 at a time.
    """
    n = max(Counter(line["class"] for line in csv.DictReader(form)).values(), default=0)
    if n <= _ROUND:
        return ""
    return (
        f"{n} questions of a class at once bring less than {-(-n // _ROUND)} rounds of {_ROUND}: give what is answered "
        f"to holotype answer, and ask for the next (-n {_ROUND})"
    )


class Strategy(Protocol):
    """Chooses what to learn from.

    foresees   whether several images are chosen by what the answers to the first of them would lead to
    """

    @property
    def foresees(self) -> bool: ...

    def choose(self, context: QueryContext, n: int) -> list[int]:
        """Return up to `n` free rows, the first to ask first."""


@dataclass(frozen=True)
class Random:
    """Any image of the pool."""

    foresees: ClassVar[bool] = False

    seed: int = 0

    def choose(self, context: QueryContext, n: int) -> list[int]:
        rows = np.flatnonzero(context.free)
        rng = np.random.default_rng([self.seed, len(context.seen)])
        return [int(row) for row in rng.permutation(rows)[:n]]


@dataclass(frozen=True)
class UncertaintySampling:
    """The images whose estimated probability is nearest to one half (Lewis and Gale, SIGIR 1994)."""

    foresees: ClassVar[bool] = True

    def choose(self, context: QueryContext, n: int) -> list[int]:
        return [int(row) for row in _least(np.where(context.free, np.abs(context.logits), np.inf), n)]


@dataclass(frozen=True)
class MostLikely:
    """The most likely images."""

    foresees: ClassVar[bool] = False

    def choose(self, context: QueryContext, n: int) -> list[int]:
        return [int(row) for row in _least(np.where(context.free, -context.logits, np.inf), n)]


@dataclass(frozen=True)
class DiverseUncertainty:
    """Near even odds, and unlike what was asked before; where little is left of a class, the most likely images."""

    foresees: ClassVar[bool] = True

    def choose(self, context: QueryContext, n: int) -> list[int]:
        left = context.logits[context.free & (context.logits > _LIKELY)]
        if float(sigmoid(left).sum()) < _TINY:
            return MostLikely().choose(context, n)
        likely = _least(np.where(context.free, -context.logits, np.inf), _DEEP)
        vectors = np.asarray(context.vectors[likely], np.float32)
        gain = -np.abs(context.logits[likely]) / _WIDE
        near = context.seen.nearest(likely)
        chosen: list[int] = []
        for _ in range(min(n, len(likely))):
            best = int((gain - _APART * near).argmax())
            chosen.append(int(likely[best]))
            near = np.maximum(near, np.clip(vectors @ vectors[best], 0, 1))
            gain[best] = -np.inf
        return chosen


@dataclass(frozen=True)
class PageOfBoth:
    """A page of thumbnails: half of it the most likely images, half what is unlike all that was seen.

    Likely is what either the estimate or the second opinion ranks high. The other half covers these candidates:
    facility location (Bilmes, Submodularity in machine learning and artificial intelligence, 2022), in which an image
    weighs the more the likelier it is. So it shows a part of the class that resembles none of what is known.
    """

    foresees: ClassVar[bool] = False

    def choose(self, context: QueryContext, n: int) -> list[int]:
        opinion = context.opinion()
        logits = context.logits if opinion is None else _of_ranks(context.logits, opinion, context.free)
        context = replace(context, logits=logits)
        likely = MostLikely().choose(context, (n + 1) // 2)
        free = context.free.copy()
        free[likely] = False
        return likely + _cover(replace(context, free=free), context.seen.ahead(likely), n - len(likely))


def _of_ranks(logits: Logits, opinion: NDArray[np.float32], free: NDArray[np.bool_]) -> Logits:
    """Return logits by the better of a free row's two ranks: that of rank r falls as log(1 + r)."""
    best = np.full(len(logits), np.inf)
    for scores in (logits, opinion):
        order = np.argsort(np.where(free, -scores.astype(np.float64), np.inf), kind="stable")
        best[order] = np.minimum(best[order], np.arange(len(order)))
    return np.asarray(_FIRST - np.log1p(best))


def _cover(context: QueryContext, seen: Seen, n: int) -> list[int]:
    """Return `n` of the likelier free rows that cover them, each weighed by the root of its probability."""
    rows = _least(np.where(context.free, -context.logits, np.inf), max(CANDIDATES, n))
    return cover(context.vectors, rows, seen, np.sqrt(sigmoid(context.logits[rows])).astype(np.float32), n)


def cover(vectors: NDArray[Any], rows: Rows, seen: Seen, weights: NDArray[np.float32], n: int) -> list[int]:
    """Return `n` of `rows` to which the others are nearest that are far from all that was `seen`.

    weights   (rows,) how much it counts that something is near to each
    """
    some = np.asarray(vectors[rows], np.float32)
    alike = np.clip(some @ some.T, 0, 1) ** _NEARNESS
    covered, open_, chosen = seen.nearest(rows) ** _NEARNESS, np.ones(len(rows), bool), list[int]()
    for _ in range(min(n, len(rows))):
        gain = np.maximum(alike - covered, 0) @ weights
        best = int(np.where(open_, gain, -1).argmax())
        covered, open_[best] = np.maximum(covered, alike[best]), False
        chosen.append(int(rows[best]))
    return chosen


def _least(values: NDArray[np.float64], n: int) -> Rows:
    """Return the places of the `n` least finite `values`, the least first."""
    n = min(n, int(np.isfinite(values).sum()))
    if n == 0:
        return np.empty(0, np.int64)
    part = np.argpartition(values, n - 1)[:n]
    return np.asarray(part[np.argsort(values[part], kind="stable")])


@dataclass(frozen=True)
class Query:
    """A question: does the image in `row` show the class? `audit`: drawn at random, and never learnt from."""

    row: int
    audit: bool


@dataclass(frozen=True)
class AnswerTally:
    """How many answers about a class there are, and how many of them are audits."""

    answered: int
    audited: int


def next_queries(
    context: QueryContext,
    strategy: Strategy,
    n: int,
    done: AnswerTally,
    sampled: Rows,
    numbers: NDArray[np.float64],
    known: Collection[int],
) -> list[Query]:
    """Return the next `n` questions: by the `strategy`, and after the first ones also audits, a third in the end.

    sampled   what the audit is a sample of
    numbers   (n,) by which its order is drawn
    known     rows about which it is known whether they show the class
    """
    open_ = context.free.copy()
    open_[list(known)] = False
    waiting: list[int] = audit_order(sampled[open_[sampled]], numbers).tolist()
    turns = _turns(done, n, len(waiting))
    audits, taken = waiting[: sum(turns)], context.free.copy()
    if context.distinct is not None:
        taken &= context.distinct
    taken[audits] = False
    others = choose_together(strategy, replace(context, free=taken), n - len(audits), done.answered)
    found: list[Query] = []
    for turn in turns:
        source = audits if turn and audits else others or audits
        if source:
            found.append(Query(source.pop(0), source is audits))
    return found


def _turns(done: AnswerTally, n: int, waiting: int) -> list[bool]:
    """Tell which of the next `n` questions are audits: none of the first 20, then every second until a third of all is.

    From there on it is every third.
    """
    turns: list[bool] = []
    answered, audited = done.answered, done.audited
    for _ in range(n):
        behind = answered >= FIRST_ANSWERS and _AUDITED * audited < answered + 1
        turn = behind and audited - done.audited < waiting and not (turns and turns[-1])
        turns.append(turn)
        answered, audited = answered + 1, audited + turn
    return turns
