"""What a saved model says of the images of a pool, and what can be promised of that by the answers."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from holotype.answers.certify import (
    ANSWERS,
    Finding,
    Goal,
    Look,
    TopSet,
    decide,
    parts_of,
    random_numbers,
    sample_sizes,
)
from holotype.answers.index import index_answers, match_answers
from holotype.answers.log import AnswerLog
from holotype.answers.recall import asked_of, estimate_recall, strata
from holotype.answers.records import Answer
from holotype.errors import AnswersError
from holotype.model.classifier import Classifier
from holotype.model.promises import Promise, RecallEstimate, joined
from holotype.names import counted
from holotype.pool.pool import Pool
from holotype.vectors.embeddings import Embeddings


@dataclass(frozen=True)
class Certified:
    """What came of an attempt to promise a precision of a class: `promise` is None where it could not be."""

    label: str
    precision: float
    confidence: float
    decision: Finding
    promise: Promise | None

    def lines(self, say: Callable[[Promise], str] = str) -> Iterator[str]:
        """Yield what a person is told; `say` puts the promise into words."""
        if self.promise is not None:
            yield say(self.promise)
            if self.promise.recall is not None:
                yield f"{self.label}: {self.promise.recall}"
        elif self.decision.next is None:
            yield f"{self.label}: nothing can be promised, as no image of the pool is taken for it more than for others"
            return
        if self.decision.next is not None:
            yield f"{self.label}: {self._of_next()}"

    def _of_next(self) -> str:
        found, look = self.decision, self.decision.next
        assert look is not None  # noqa: S101 - asked for where there is one
        more = f"the {counted(len(look.top), 'image')} from a probability of {look.top.threshold:.3g} on"
        seen = f"{look.yes:,} of {look.asked:,} drawn at random show it" if look.asked else "nothing is answered yet"
        goal = f"{self.precision:.4g} with {100 * self.confidence:.10g} % confidence"
        if self.promise is not None:
            text = f"the next that could be promised are {more}: {seen}"
        elif look.asked:
            yet = "" if found.more is None else " yet"
            text = f"{goal} cannot be promised{yet} of {more}: {seen}; what can is {found.low:.2f}"
        else:
            text = f"{goal} is not promised yet; the first that could be are {more}"
        if found.more is None:
            return f"{text}; more answers will hardly change that"
        some = counted(found.more, "more answer")
        if found.likely is None or found.likely == found.more:
            return f'{text}; {some} would do, all of them "yes"'
        return f'{text}; {some} would do, all of them "yes", or about {found.likely:,} like those'


@dataclass(frozen=True)
class ScoredPool:
    """What a model says of the n images of `pool`.

    model          the digest of the saved model
    classes        K names
    probabilities  (n, K + 1) as the model gives them, "none" last
    eligible       (n,) bool: readable, no exemplar, not of a test set: what a promise is about
    held_out       rows of a test set and what is nearly the same
    """

    pool: Pool
    model: str
    classes: Sequence[str]
    probabilities: NDArray[np.float64] = field(repr=False)
    eligible: NDArray[np.bool_] = field(repr=False)
    held_out: Sequence[int] = ()

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """(n,) who is drawn first."""
        return random_numbers(self.model, self.pool.digests())

    @cached_property
    def images(self) -> str:
        """A digest of the contents of the images that a promise is about, whatever they are called."""
        digests = self.pool.digests()
        found = sorted(digests[row] for row in np.flatnonzero(self.eligible).tolist())
        return hashlib.sha256("\n".join(found).encode()).hexdigest()

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        model: str,
        pool: Pool,
        vectors: Embeddings,
        exemplar_rows: Collection[int] = (),
        held_out: Sequence[int] = (),
    ) -> Self:
        """Let a classifier, of which the saved model has the digest `model`, score the images of a pool.

        vectors   of the pool, in the space of the model
        """
        classes = classifier.classes_[:-1]
        found = np.zeros((len(pool), len(classes) + 1))
        for rows, block in vectors.blocks():
            found[rows] = classifier.predict_features([pool.ids[row] for row in rows], block).probabilities
        eligible = vectors.present.copy()
        eligible[[*exemplar_rows, *held_out]] = False
        return cls(pool, model, classes, found, eligible, held_out)

    def parts(self, label: str, precision: float) -> list[TopSet]:
        """Return what is tested of a class, the strictest first."""
        k = list(self.classes).index(label)
        return parts_of(self.probabilities, k, self.eligible, self.numbers, precision)

    def answered(self, log: AnswerLog) -> list[Answer]:
        """Return the answers that hold of these images, each with the digest of its image's content."""
        matched = match_answers(log.current(), self.classes, self.pool, self.held_out).answers
        there = ((one, self.pool.digest(self.pool.rows[one.id])) for one in matched if one.id in self.pool.rows)
        return [one if one.digest == digest else replace(one, digest=digest) for one, digest in there]

    def certify(
        self,
        log: AnswerLog,
        labels: Sequence[str],
        precision: float,
        confidence: float,
        answers: int | None = None,
        recall: int = 0,
    ) -> list[Certified]:
        """Return what can be promised of each of `labels`, of all of them together, by what is in `log`.

        answers   of a class, that a promise may rest on; None for 60, or what the first part takes if that is more
        recall    answers about other images of which the recall of what is promised is estimated; 0 for none

        It is noted in the log what was to be promised (`AnswerLog.note_goal`). Raises `AnswersError` for what cannot be
        asked, or where that cannot be noted.
        """
        _check(precision, confidence, answers, recall)
        given, found = self.answered(log), list[Certified]()
        contents, digests = said(given, self.classes), self.pool.digests()
        for label in labels:
            shows = contents[list(self.classes).index(label)]
            known = {row: shows[digest] for row, digest in enumerate(digests) if digest in shows}
            place = log.note_goal(label, self.model, self.images, precision)
            goal = Goal.of(precision, confidence, len(labels), place)
            parts = self.parts(label, precision)
            decision = decide(parts, known, goal, answers or _enough(parts, goal))
            if decision.reached is None:
                found.append(Certified(label, precision, confidence, decision, None))
                continue
            sample = {digests[row]: known[row] for row in decision.sample}
            others, estimate = self._recall(label, decision.reached, known, confidence, recall)
            promise = Promise(
                label=label,
                precision=precision,
                confidence=confidence,
                together=len(labels),
                threshold=decision.reached.top.threshold,
                covered=len(decision.reached.top),
                among=int(self.eligible.sum()),
                asked=decision.reached.asked,
                yes=decision.reached.yes,
                sample=sample,
                who=sorted({one.who for one in given if one.digest in sample}),
                pool=self.pool.source,
                images=self.images,
                date=datetime.now(UTC).date().isoformat(),
                contents=joined(digests[row] for row in decision.reached.top.rows.tolist()),
                recall=estimate,
            )
            decision = replace(decision, wanted=list(dict.fromkeys([*decision.wanted, *others])))
            found.append(Certified(label, precision, confidence, decision, promise))
        return found

    def _recall(
        self, label: str, reached: Look, known: Mapping[int, bool], confidence: float, answers: int
    ) -> tuple[list[int], RecallEstimate | None]:
        """Return which other rows are to be asked about, and the estimate where none is."""
        if not answers:
            return [], None
        others = np.setdiff1d(np.flatnonzero(self.eligible), reached.top.rows)
        chance = self.probabilities[others, list(self.classes).index(label)]
        parts = strata(others, chance, self.numbers)
        samples = asked_of(parts, answers)
        wanted = [row for rows in samples for row in rows if row not in known]
        return wanted, estimate_recall(reached, parts, samples, known, confidence)


def _enough(parts: Sequence[TopSet], goal: Goal) -> int:
    """Return how many answers are asked for where nobody says."""
    sizes = sample_sizes(len(parts[0]), goal.precision, goal.level, 1) if parts else ()
    return max(ANSWERS, *sizes[:1]) if sizes else ANSWERS


def _check(precision: float, confidence: float, answers: int | None, recall: int) -> None:
    if not 0 < precision <= 1:
        raise AnswersError(f"expected a precision above 0 and up to 1, got {precision}; .95 is a usual one")
    if not 0 < confidence < 1:
        raise AnswersError(f"expected a confidence between 0 and 1, got {confidence}; .95 is a usual one")
    if answers is not None and answers < 1:
        raise AnswersError(f"expected at least 1 answer, got {answers}")
    if recall < 0:
        raise AnswersError(f"expected no negative number of answers for the recall, got {recall}")


def said(answers: Iterable[Answer], classes: Sequence[str]) -> list[dict[str, bool]]:
    """Return per class, by the content of an image, whether it is said to show it; where nobody can tell, it is not.

    answers   in order of recording, each with the digest of its image: of copies, what was said last holds for all
    """
    answers = list(answers)
    digests = {one.id: one.digest for one in answers if one.digest}  # an old answer knows its image by the name alone
    given = [replace(one, id=one.digest or digests[one.id]) for one in answers if one.digest or one.id in digests]
    contents = list(dict.fromkeys(one.id for one in given))
    index = index_answers(given, classes, {digest: row for row, digest in enumerate(contents)})
    found = []
    for yes, *others in zip(index.positive, index.negative, index.unsure, strict=True):
        known = dict.fromkeys(np.concatenate(others).tolist(), False) | dict.fromkeys(yes.tolist(), True)
        found.append({contents[row]: shows for row, shows in known.items()})
    return found


def fallen(promises: Sequence[Promise], answers: Sequence[Answer]) -> Iterator[str]:
    """Yield a line for each of `promises` that does not hold any more."""
    holding = still_holding(promises, answers)
    for one in promises:
        if one not in holding:
            why = "as answers that it rests on were changed or are gone"
            yield f"{one.label}: what was promised does not hold any more, {why}"


def still_holding(promises: Sequence[Promise], answers: Sequence[Answer]) -> list[Promise]:
    """Return those of `promises` whose answers are still as they were, by all `answers` that hold now."""
    classes = list(dict.fromkeys([*(one.label for one in promises), *(one.label for one in answers)]))
    shows = dict(zip(classes, said(answers, classes), strict=True))
    return [one for one in promises if one.sample.items() <= shows[one.label].items()]
