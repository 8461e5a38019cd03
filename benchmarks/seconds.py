"""What a person's seconds are worth: `python -m benchmarks.quality --seconds` calls it.

A simulated person reviews each class for so many seconds, in one of several ways: single questions, or pages of
thumbnails on which what shows the class is marked and the rest is "no". All learn from the answers in the same way.
Judged are the groups of the pool, and the saved model on images that were never in the pool (benchmarks.new_images).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks import answers, learners, methods
from benchmarks.answers import Record, RowsById, asked
from benchmarks.episodes import CLASSES, Episode, on_every_core
from benchmarks.figures import interval, judge, opening
from benchmarks.methods import Exemplars, MethodAnswer
from benchmarks.new_images import NAIVE, Prepared, ceiling, judged, known_of, ours
from benchmarks.pools import Truth
from holotype.answers.audit import permanent_random_numbers
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.refine import Refined, refine
from holotype.review.queries import (
    ANSWERS_PER_REFIT,
    CANDIDATES,
    DiverseUncertainty,
    MostLikely,
    PageOfBoth,
    Query,
    QueryContext,
    Random,
    Strategy,
    cover,
)
from holotype.settings import FitSettings

BUDGETS = (0, 30, 60, 120, 240)
POOL, NEW = "groups of the pool", "model on new images"


@dataclass(frozen=True)
class Costs:
    """What a person's acts take, in seconds.

    A question about one image: verification of an image by crowd workers who are not hurried takes one to two seconds.
    A thumbnail that is looked over: in the same experiments images were judged at a tenth of a second each, with many
    errors that were corrected afterwards (Krishna et al., Embracing error to enable rapid crowdsourcing, CHI 2016); a
    page is looked over slower than that. What a mark takes, with the way of the pointer, is an assumption.
    """

    question: float = 1.2
    thumbnail: float = 0.35
    mark: float = 0.8


SLOW = Costs(thumbnail=0.7)  # to see whether what follows hangs on it


@dataclass(frozen=True)
class Way:
    """How a person reviews: what a strategy asks, so many images at a time, at which costs, and with which errors.

    missed, wrong   shares of the class's images that are overlooked, and of the others that are marked
    audits          whether a part of what is asked is the random audit
    """

    strategy: Strategy
    size: int
    costs: Costs = field(default_factory=Costs)
    missed: float = 0.0
    wrong: float = 0.0
    audits: bool = True

    @property
    def paged(self) -> bool:
        """Whether images are looked over on pages; else they are questions, one at a time."""
        return self.size > ANSWERS_PER_REFIT

    def seconds(self, yes: bool) -> float:
        """Return what an answer takes."""
        return self.costs.thumbnail + self.costs.mark * yes if self.paged else self.costs.question


@dataclass(frozen=True)
class Cover:
    """The images that are nearest to what was not seen, weighed by nothing else: facility location.

    Among the 1,000 most likely (Bilmes, Submodularity in machine learning and artificial intelligence, 2022).
    """

    foresees: ClassVar[bool] = False

    def choose(self, context: QueryContext, n: int) -> list[int]:
        """Return the rows that cover most."""
        likely = np.array(MostLikely().choose(context, CANDIDATES), np.int64)
        return cover(context.vectors, likely, context.seen, np.ones(len(likely), np.float32), n)


SINGLE, PAGES = "single questions", "pages of 24"
WAYS: dict[str, Way] = {
    SINGLE: Way(DiverseUncertainty(), ANSWERS_PER_REFIT),
    PAGES: Way(PageOfBoth(), 24),
    "pages of 48": Way(PageOfBoth(), 48),
    "24, the most likely": Way(MostLikely(), 24),
    "24, as single questions are chosen": Way(DiverseUncertainty(), 24),
    "24, cover": Way(Cover(), 24),
    "24, random": Way(Random(), 24),
    f"{SINGLE}, 10 % missed, 2 % wrong": Way(DiverseUncertainty(), ANSWERS_PER_REFIT, missed=0.1, wrong=0.02),
    f"{PAGES}, 10 % missed, 2 % wrong": Way(PageOfBoth(), 24, missed=0.1, wrong=0.02),
    f"{PAGES}, thumbnails twice as slow": Way(PageOfBoth(), 24, SLOW),
    "24, the most likely, thumbnails twice as slow": Way(MostLikely(), 24, SLOW),
}

_SHARED: dict[str, Any] = {}


@dataclass
class _Person:
    """Someone who reviews class `k` by the clock: rows on the screen wait for an answer."""

    k: int
    positive: NDArray[np.bool_]
    clock: float = 0.0
    waiting: list[Query] = field(default_factory=list)

    def answer(self, way: Way, record: Record, until: float, rng: np.random.Generator) -> None:
        """Answer what waits, as far as it goes."""
        while self.waiting and self.clock < until:
            query = self.waiting.pop(0)
            yes = rng.random() >= way.missed if self.positive[query.row] else rng.random() < way.wrong
            record.add(query.row, self.k, bool(yes), query.audit)
            self.clock += way.seconds(bool(yes))


def review(
    truth: Truth, episode: Episode, start: ReviewBaseline, way: Way, seed: int, budgets: Sequence[int] = BUDGETS
) -> Iterator[tuple[int, Refined]]:
    """Yield (seconds per class, what the answers led to) at each of the budgets.

    As in the browser: all is learnt anew after each page, and a page is chosen while the one before it is looked over,
    by what was learnt till then. A page that is cut off by a budget goes on after it.
    """
    rng, record, rows = np.random.default_rng(seed), Record(), RowsById(len(truth.vectors))
    numbers = permanent_random_numbers(len(truth.vectors), start.key)
    people = [_Person(k, truth.classes == name) for k, name in enumerate(episode.names)]
    before = refined = refine(start, record.answers, rows, FitSettings())
    for budget in budgets:
        while busy := [one for one in people if one.clock < budget]:
            for person in busy:
                learnt = before if way.paged else refined
                person.waiting = person.waiting or asked(
                    start, learnt, way.strategy, person.k, record, numbers, way.size, audits=way.audits
                )
                if not person.waiting:
                    person.clock = float("inf")  # all was asked
                person.answer(way, record, budget, rng)
            before, refined = refined, refine(start, record.answers, rows, FitSettings())
        yield budget, refined


def measure(truth: Truth, names: Sequence[str], triples: int, draws: int) -> dict[str, Any]:
    """Return all figures of one pool and encoder; episodes are shared among the cores."""
    prepared = _SHARED["prepared"] = Prepared.of(truth, names, triples, draws)
    done = prepared.episodes
    drawn = sorted({name for episode in done for name in episode.names})
    _SHARED["ceiling"] = methods.ceiling(prepared.spaces, drawn)
    found = on_every_core(_one, len(done), truth.name)
    return prepared.about | _summary(done, found)


def _one(number: int) -> dict[str, Any]:
    """Return the figures of one episode: naive, ceiling, and those of each way at each budget."""
    from threadpoolctl import threadpool_limits

    prepared: Prepared = _SHARED["prepared"]
    spaces, episode = prepared.spaces, prepared.episodes[number]
    pool, exemplars = spaces.truth, episode.first(1)
    with threadpool_limits(1):
        columns = np.stack([_SHARED["ceiling"][name] for name in episode.names], axis=1)
        best = judge(pool, episode, exemplars, MethodAnswer([np.empty(0, int)] * CLASSES, columns))
        naive = judge(pool, episode, exemplars, methods.fixed(0.75)(spaces, exemplars))
        start = answers.begin(spaces, exemplars, str(number))
        found: dict[str, Any] = {"naive": naive, "best": best, "ways": {}}
        found |= _ends_of_new(prepared, episode, start, exemplars)
        for name, way in WAYS.items():
            found["ways"][name] = {
                budget: _figures(prepared, episode, start, refined)
                for budget, refined in review(pool, episode, start, way, number)
            }
    return found


def _ends_of_new(prepared: Prepared, episode: Episode, start: ReviewBaseline, exemplars: Exemplars) -> dict[str, Any]:
    """Return the figures on new images of the naive method, and of what learnt from all labels."""
    pool, new = prepared.spaces.truth, prepared.new
    known = known_of(refine(start, [], RowsById(len(pool.vectors)), FitSettings()), exemplars)
    naive = learners.RIVALS[NAIVE]()(pool.vectors, known)
    return {"naive of new": judged(new, pool, episode, naive(new.vectors)), "best of new": ceiling(prepared, episode)}


def _figures(prepared: Prepared, episode: Episode, start: ReviewBaseline, refined: Refined) -> dict[str, Any]:
    pool, exemplars = prepared.spaces.truth, episode.first(1)
    model = ours(prepared.spaces, start, refined, episode)
    kept = ("f1", "f1 other artists", "precision", "recall")
    groups = answers.figures(pool, episode, exemplars, refined)
    new = judged(prepared.new, pool, episode, model(prepared.new.vectors))
    index = refined.index
    return {
        POOL: {key: groups[key] for key in kept},
        NEW: {key: new[key] for key in (*kept, "oracle f1")},
        "yes": float(np.mean([len(rows) for rows in index.positive])),
        "no": float(np.mean([len(rows) for rows in index.negative])),
    }


_CEILINGS = {  # what a figure is compared with: its key in the naive method and in all labels, and which all labels
    "all": (POOL, "f1", "naive", "f1", "best", "oracle f1"),
    "other artists": (POOL, "f1 other artists", "naive", "f1 other artists", "best", "oracle f1 other artists"),
    "new images": (NEW, "f1", "naive of new", "f1", "best of new", "f1"),
}


def _summary(done: Sequence[Episode], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    triples = np.array([episode.triple for episode in done])
    ways = {
        name: {budget: _row([one["ways"][name][budget] for one in found], found, triples) for budget in BUDGETS}
        for name in found[0]["ways"]
    }
    ends = {
        part: {
            "naive": float(np.mean([one[low][below] for one in found])),
            "all labels": float(np.mean([one[high][above] for one in found])),
        }
        for part, (_, _, low, below, high, above) in _CEILINGS.items()
    }
    return {"ends": ends, "ways": ways}


def _row(
    figures: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], triples: NDArray[np.int64]
) -> dict[str, Any]:
    row: dict[str, Any] = {key: float(np.mean([one[key] for one in figures])) for key in ("yes", "no")}
    for part, (where, key, low, below, high, above) in _CEILINGS.items():
        own, least, most = (
            np.array(values)
            for values in (
                [one[where][key] for one in figures],
                [one[low][below] for one in found],
                [one[high][above] for one in found],
            )
        )
        row[part] = {
            "f1": float(np.nanmean(own)),
            "f1, interval": interval(own, triples, np.nanmean),
            "share of the gap": float(np.nanmean(own - least) / np.nanmean(most - least)),
        }
    for where in (POOL, NEW):
        for key in ("precision", "recall"):
            row[f"{key}, {where}"] = float(np.mean([one[where][key] for one in figures]))
    return row


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as Markdown: a table for each pool, encoder and what is judged."""
    lines = []
    for result in results:
        for part, ends in result["ends"].items():
            where = "the model, on new images" if part == "new images" else f"the groups of the pool, {part}"
            about = (
                f"F1 of {where} (share of the gap from {ends['naive']:.3f}, a cosine of .75, to "
                f"{ends['all labels']:.3f}, all labels), after so many seconds of a person's time per class."
            )
            titled = result | {"pool": f"{result['pool']}, {part}"}
            lines += opening(titled, ("way", *(f"{budget} s" for budget in BUDGETS), "yes, no at 120 s"), about)
            lines += [_line(name, row, part) for name, row in result["ways"].items()]
            lines.append("")
    return "\n".join(lines)


def _line(name: str, row: Mapping[int, Any], part: str) -> str:
    cells = [f"{row[b][part]['f1']:.3f} ({row[b][part]['share of the gap']:.2f})" for b in BUDGETS]
    return f"| {name} | {' | '.join(cells)} | {row[120]['yes']:.0f}, {row[120]['no']:.0f} |"
