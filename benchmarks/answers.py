"""What answers are worth: a simulated reviewer answers what each strategy asks, in the loop of `holotype review`.

`python -m benchmarks.quality --answers` calls it. An episode is one of benchmarks.episodes; questions are asked
`ANSWERS_PER_REFIT` at a time for each class, and everything is learnt anew after them, as on the page.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks import methods
from benchmarks.episodes import CLASSES, Episode, episodes, on_every_core
from benchmarks.figures import closed_figures, gap_closed, interval, judge, opening
from benchmarks.methods import Exemplars, MethodAnswer, Spaces
from benchmarks.pools import Truth
from holotype.answers.audit import permanent_random_numbers
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.records import Answer, Verdict
from holotype.answers.refine import Refined, refine
from holotype.review.queries import (
    ANSWERS_PER_REFIT,
    AnswerTally,
    DiverseUncertainty,
    MostLikely,
    Query,
    QueryContext,
    Random,
    Strategy,
    UncertaintySampling,
    next_queries,
)
from holotype.settings import FitSettings, RankSettings

_WHEN = datetime(2026, 1, 1, tzinfo=UTC)
BUDGETS = (0, 10, 20, 30, 50)
OURS = "ours"


@dataclass(frozen=True)
class Herding:
    """scikit-activeml's MaxHerding (Bae et al., ECCV 2024), for few labels, among the 400 most likely images."""

    foresees: ClassVar[bool] = False

    def choose(self, context: QueryContext, n: int) -> list[int]:
        """Return the rows that cover most of what was not seen."""
        from skactiveml.pool import MaxHerding

        likely = np.array(MostLikely().choose(context, 400))
        X = np.concatenate([context.seen.vectors(), np.asarray(context.vectors[likely], np.float32)])
        y = np.append(np.zeros(len(context.seen)), np.full(len(likely), np.nan))
        chosen = MaxHerding(random_state=0).query(X, y, batch_size=min(n, len(likely)))
        return [int(row) for row in likely[chosen - len(context.seen)]]


@dataclass(frozen=True)
class Reviewer:
    """Who answers: how often wrongly, what a strategy asks, and whether a third of it is an audit."""

    strategy: Strategy
    error: float = 0.0
    audits: bool = True


REVIEWERS: dict[str, Reviewer] = {
    OURS: Reviewer(DiverseUncertainty()),
    "ours, 5 % of the answers wrong": Reviewer(DiverseUncertainty(), error=0.05),
    "ours, no audit": Reviewer(DiverseUncertainty(), audits=False),
    "pure uncertainty": Reviewer(UncertaintySampling()),
    "MaxHerding": Reviewer(Herding()),
    "random": Reviewer(Random()),
}


@dataclass
class Record:
    """What was answered in an episode so far, in order."""

    answers: list[Answer] = field(default_factory=list)

    def about(self, k: int) -> list[Answer]:
        """Return the answers about class `k`."""
        return [one for one in self.answers if one.label == _name(k)]

    def add(self, row: int, k: int, yes: bool, audit: bool) -> None:
        """Take one more."""
        number = len(self.answers) + 1
        verdict: Verdict = "yes" if yes else "no"
        self.answers.append(Answer(str(row), _name(k), verdict, _WHEN, "", audit, number, str(number)))


def _name(k: int) -> str:
    return f"class {k}"


def begin(spaces: Spaces, exemplars: Exemplars, key: str) -> ReviewBaseline:
    """Return what `holotype run` leaves for a review; the audit is drawn by `key`."""
    groups = methods.grouped(spaces, exemplars, RankSettings())
    own = {int(row): k for k, rows in enumerate(exemplars) for row in rows}
    vectors = np.asarray(spaces.embeddings("neighbours").shards[0])
    names = [[_name(k)] for k in range(CLASSES)]
    wide = np.asarray(spaces.embeddings("wide").shards[0])
    return ReviewBaseline(vectors, [vectors[rows] for rows in exemplars], names, groups, own, key, wide=wide)


def review(
    truth: Truth,
    episode: Episode,
    start: ReviewBaseline,
    who: Reviewer,
    seed: int,
    together: int = ANSWERS_PER_REFIT,
    budgets: Sequence[int] = BUDGETS,
) -> Iterator[tuple[int, Refined]]:
    """Yield (answers per class, what they led to) at each of the budgets; `together` are asked before it learns."""
    rng, record, rows = np.random.default_rng(seed), Record(), RowsById(len(truth.vectors))
    numbers = permanent_random_numbers(len(truth.vectors), start.key)
    refined = refine(start, record.answers, rows, FitSettings())
    for answered in range(0, max(budgets) + 1, together):
        if answered in budgets:
            yield answered, refined
        if answered == max(budgets):
            return
        for k, name in enumerate(episode.names):
            _answer(record, k, truth.classes == name, start, refined, who, numbers, rng, together)
        refined = refine(start, record.answers, rows, FitSettings())


class RowsById(dict[str, int]):
    """Each row by its number as text."""

    def __init__(self, count: int) -> None:
        super().__init__((str(row), row) for row in range(count))


def _answer(
    record: Record,
    k: int,
    positive: NDArray[np.bool_],
    start: ReviewBaseline,
    refined: Refined,
    who: Reviewer,
    numbers: NDArray[np.float64],
    rng: np.random.Generator,
    together: int,
) -> None:
    for query in asked(start, refined, who.strategy, k, record, numbers, together, audits=who.audits):
        yes = bool(positive[query.row]) ^ bool(rng.random() < who.error)
        record.add(query.row, k, yes, query.audit)


def asked(
    start: ReviewBaseline,
    refined: Refined,
    strategy: Strategy,
    k: int,
    record: Record,
    numbers: NDArray[np.float64],
    together: int,
    *,
    audits: bool = True,
) -> list[Query]:
    """Return the next `together` questions about class `k`, as the page asks them."""
    about = record.about(k)
    known = {int(one.id) for one in about}
    context = QueryContext.of(start, refined, k, known, ())
    tally = AnswerTally(len(known), sum(one.audit for one in about))
    sampled = refined.sampled[k] if audits else np.empty(0, np.int64)
    return next_queries(context, strategy, together, tally, sampled, numbers, known)


def figures(truth: Truth, episode: Episode, exemplars: Exemplars, refined: Refined) -> dict[str, Any]:
    """Return the figures of the groups after answers, and per class what the audit said and what is true.

    The bound is one on what a class holds before the audit corrects it, so that is what it is compared with.
    """
    groups = refined.groups
    chosen = [np.setdiff1d(groups.members(k), np.concatenate(exemplars)) for k in range(CLASSES)]
    found = judge(truth, episode, exemplars, MethodAnswer(chosen, refined.logits))
    bounds = []
    for k, name in enumerate(episode.names):
        audit, rows = refined.audits[k], refined.sampled[k]
        if audit.low is not None:
            bounds.append((audit.asked, audit.low, float((truth.classes[rows] == name).mean())))
    return found | {"bounds": bounds, "trusted": float(np.mean([one.trusted for one in refined.models]))}


_SHARED: dict[str, Any] = {}


def _one(number: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[int, Any]]]:
    """Return naive figures, those of the ceiling, and those of each reviewer at each budget, of an episode."""
    from threadpoolctl import threadpool_limits

    spaces, episode = _SHARED["spaces"], _SHARED["episodes"][number]
    truth, exemplars = spaces.truth, episode.first(1)
    with threadpool_limits(1):
        naive = judge(truth, episode, exemplars, methods.fixed(0.75)(spaces, exemplars))
        columns = np.stack([_SHARED["ceiling"][name] for name in episode.names], axis=1)
        best = judge(truth, episode, exemplars, MethodAnswer([np.empty(0, int)] * CLASSES, columns))
        start = begin(spaces, exemplars, str(number))
        found = {
            name: {
                answered: figures(truth, episode, exemplars, refined)
                for answered, refined in review(truth, episode, start, who, number)
            }
            for name, who in _SHARED["reviewers"].items()
        }
    return naive, best, found


def measure(
    truth: Truth, names: Sequence[str], triples: int, draws: int, reviewers: Mapping[str, Reviewer] = REVIEWERS
) -> dict[str, Any]:
    """Return all figures of one pool and encoder; episodes are shared among the cores."""
    spaces = Spaces(truth)
    done = list(episodes(truth, names, triples, draws))
    truth.views(np.unique(np.concatenate([rows for episode in done for rows in episode.first(1)])))
    for space in ("raw", "whitened", "neighbours"):
        spaces.embeddings(space)
    best = methods.ceiling(spaces, sorted({name for episode in done for name in episode.names}))
    _SHARED.update(spaces=spaces, episodes=done, ceiling=best, reviewers=reviewers)
    found = on_every_core(_one, len(done), truth.name)
    return {"pool": truth.name, "images": len(truth.vectors), "episodes": len(done)} | _summary(done, found, reviewers)


def _summary(done: Sequence[Episode], found: Sequence[Any], reviewers: Mapping[str, Reviewer]) -> dict[str, Any]:
    triples = np.array([episode.triple for episode in done])
    low, high = ({key: np.array([one[i][key] for one in found]) for key in found[0][i]} for i in (0, 1))
    rows: dict[str, dict[int, Any]] = {}
    for name in reviewers:
        rows[name] = {}
        for budget in BUDGETS:
            here = [one[2][name][budget] for one in found]
            own = {key: np.array([one[key] for one in here]) for key in ("f1", "f1 other artists", "precision")}
            row: dict[str, Any] = {key: float(values.mean()) for key, values in own.items()}
            for key in ("f1", "f1 other artists"):
                closed = gap_closed(own[key], low[key], high[f"oracle {key}"])
                row |= closed_figures(key, closed, triples)
            base = np.array([one[2][OURS][budget]["f1"] for one in found])
            row |= {"ours minus": float((base - own["f1"]).mean())}
            row |= {"ours minus, interval": interval(base - own["f1"], triples, np.mean)}
            row |= _bounds([bound for one in here for bound in one["bounds"]])
            row["trusted"] = float(np.mean([one["trusted"] for one in here]))
            rows[name][budget] = row
    return {"naive": float(low["f1"].mean()), "ceiling": float(high["oracle f1"].mean()), "reviewers": rows}


def _bounds(bounds: Sequence[tuple[int, float, float]]) -> dict[str, Any]:
    if not bounds:
        return {"bounds": 0, "covered": None, "audited": 0.0, "bound": None, "true precision": None}
    asked, low, true = (np.array(column, dtype=np.float64) for column in zip(*bounds, strict=True))
    means = {"audited": float(asked.mean()), "bound": float(low.mean()), "true precision": float(true.mean())}
    return {"bounds": len(bounds), "covered": float((low <= true).mean())} | means


_COLUMNS = (
    "F1 (gap closed) after answers per class:",
    *map(str, BUDGETS),
    "ours minus, at 30",
    "at 30: audited, bound, true precision; bounds that hold",
)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = []
    for result in results:
        about = f"F1 of the naive method {result['naive']:.3f}, of the ceiling {result['ceiling']:.3f}."
        lines += opening(result, _COLUMNS, about)
        for name, row in result["reviewers"].items():
            cells = [f"{row[b]['f1']:.3f} ({row[b]['gap closed, f1']:.2f})" for b in BUDGETS]
            less, more = row[30]["ours minus, interval"]
            apart = "" if name == OURS else f"{row[30]['ours minus']:+.3f} ({less:+.3f} to {more:+.3f})"
            lines.append(f"| {name} | {' | '.join(cells)} | {apart} | {_audit(row)} |")
        lines.append("")
    return "\n".join(lines)


def _audit(row: dict[int, Any]) -> str:
    """The audit at 30 answers, and how often the bounds at 20, 30 and 50 held."""
    counted = [row[b] for b in (20, 30, 50) if row[b]["bounds"]]
    if not counted:
        return ""
    held = sum(one["covered"] * one["bounds"] for one in counted) / sum(one["bounds"] for one in counted)
    at = row[30]
    stated = f"{at['audited']:.0f}, {at['bound']:.2f}, {at['true precision']:.2f}" if at["bounds"] else "-"
    return f"{stated}, {held:.3f}"
