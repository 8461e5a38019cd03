"""What tests of answers share: a pool of known classes, and somebody who knows them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from holotype.answers.audit import permanent_random_numbers
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.index import index_answers
from holotype.answers.records import Answer, NewAnswer, Verdict
from holotype.answers.refine import Refined, refine
from holotype.encoders.encode import l2_normalize
from holotype.grouping.groups import ClassThreshold, group
from holotype.review.passed import WithoutPassed, closing
from holotype.review.queries import AnswerTally, DiverseUncertainty, Query, QueryContext, Strategy, next_queries
from holotype.review.review import Review
from holotype.settings import TrainSettings

SETTINGS = TrainSettings(doubtful_band=0.25, ambiguity=0.01)
THREADS = ThreadpoolController()  # more than one wait for each other where others compute as well


@dataclass(frozen=True)
class Known:
    """A start, and the class number of each row; those of none come last."""

    start: ReviewBaseline
    truth: NDArray[np.int64]

    @property
    def ids(self) -> dict[str, int]:
        return {str(row): row for row in range(len(self.truth))}

    @property
    def classes(self) -> list[str]:
        return list(self.start.groups.classes)


def plant(
    seed: int = 0, sizes: Sequence[int] = (40, 30), others: int = 2000, noise: float = 1.0, threshold: float = 0.4
) -> Known:
    """Classes around centres of their own among images around many; the first of each is its exemplar."""
    rng, dim = np.random.default_rng(seed), 48
    centres = l2_normalize(rng.normal(size=(len(sizes) + 200, dim)))
    truth = np.repeat(np.arange(len(sizes) + 1), [*sizes, others])
    own = np.concatenate([truth[truth < len(sizes)], len(sizes) + rng.integers(0, 200, others)])
    vectors = l2_normalize(centres[own] + noise * rng.normal(size=(len(own), dim)) / np.sqrt(dim))
    first = [int(np.flatnonzero(truth == k)[0]) for k in range(len(sizes))]
    return Known(started(vectors, first, threshold, f"{seed}"), truth)


def started(vectors: NDArray[np.float32], first: Sequence[int], threshold: float, key: str) -> ReviewBaseline:
    """Groups by a cosine, whose exemplars are the rows `first`; a vector of zeros is none."""
    names = [f"class {k}" for k in range(len(first))]
    scores = (vectors @ vectors[list(first)].T).astype(np.float32)
    scores[~vectors.any(axis=1)] = np.nan
    own = {row: k for k, row in enumerate(first)}
    thresholds = [ClassThreshold(threshold, threshold - 0.1, "given", False)] * len(first)
    groups = group(names, scores, thresholds, own, SETTINGS.ambiguity)
    exemplars = [vectors[[row]] for row in first]
    return ReviewBaseline(vectors.astype(np.float16), exemplars, [[str(row)] for row in first], groups, own, key)


def say(number: int, row: int, label: str, said: Verdict, audit: bool = False, who: str = "") -> Answer:
    """An answer as the log gives it."""
    return Answer(str(row), label, said, datetime(2026, 1, 1, tzinfo=UTC), who, audit, number, str(number))


def learn_from(known: Known, answers: Sequence[Answer], held_out: Sequence[int] = ()) -> Refined:
    """What the answers lead to."""
    return refine(replace(known.start, held_out=held_out), answers, known.ids, SETTINGS)


def tell(known: Known, *said: tuple[int, str, Verdict]) -> Refined:
    """The groups after (row, class, answer)s."""
    return learn_from(known, [say(i, *one) for i, one in enumerate(said, 1)])


@dataclass
class Reviewer:
    """Answers questions about a pool by what is true, or by `says`, as the page would ask them."""

    known: Known
    strategy: Strategy = field(default_factory=DiverseUncertainty)
    says: Callable[[int, int], bool] | None = None
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.taught = learn_from(self.known, self.answers)
        self._lot = permanent_random_numbers(len(self.known.truth), self.known.start.key)

    def questions(self, k: int, n: int, out: Collection[int] = (), passed: Collection[int] = ()) -> list[Query]:
        label = self.known.classes[k]
        about = [one for one in self.answers if one.label == label]
        said = index_answers(self.answers, self.known.classes, self.known.ids)
        asked = {int(one.id) for one in about} | {*said.positive[k].tolist(), *said.negative[k].tolist()}
        view = QueryContext.of(self.known.start, self.taught, k, asked, out)
        tally = AnswerTally(len(about), sum(one.audit for one in about))
        sampled = closing(self.taught.sampled[k], self._lot, asked, passed)
        return next_queries(view, WithoutPassed(self.strategy, passed), n, tally, sampled, self._lot, asked)

    def review(self, k: int, n: int) -> None:
        """Answer `n` questions about class `k`; what they refine is learnt afterwards."""
        self._answer(k, self.questions(k, n))

    def _answer(self, k: int, asked: Sequence[Query]) -> None:
        for one in asked:
            yes = bool(self.known.truth[one.row] == k) if self.says is None else self.says(one.row, k)
            given: Verdict = "yes" if yes else "no"
            self.answers.append(say(len(self.answers) + 1, one.row, self.known.classes[k], given, one.audit))
        self.taught = learn_from(self.known, self.answers)

    def review_grids(self, k: int, count: int, marks: Callable[[int], bool]) -> None:
        """Answer on grids of 24 the images that he `marks`; as on the page, the next grid is asked for meanwhile."""
        passed = set[int]()
        grid = self.questions(k, 24)
        for _ in range(count):
            ahead = self.questions(k, 24, out={one.row for one in grid}, passed=passed - {one.row for one in grid})
            marked = [one for one in grid if marks(one.row)]
            self._answer(k, marked)
            passed = (passed | {one.row for one in grid if one not in marked}) - {one.row for one in ahead}
            grid = ahead


def answer(review: Review, label: str, n: int) -> list[NewAnswer]:
    """Answer by what is true, and learn."""
    k = review.classes.index(label)
    given = [
        NewAnswer(one.id, label, "yes" if int(one.id) % 10 == k else "no", "ann", one.audit)
        for one in review.next(n, label)
    ]
    review.record(given)
    review.refit()
    return given


def groups_of(out: Path) -> dict[str, dict[str, object]]:
    return {str(row["id"]): row for row in pq.read_table(out / "groups.parquet").to_pylist()}
