"""A run under review: the questions, the answers, and what they lead to. The page and the command line call it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any, Literal, Self

import numpy as np

from holotype.answers.baseline import ReviewBaseline
from holotype.answers.feedback import sigmoid
from holotype.answers.forms import form_lines
from holotype.answers.index import MatchedAnswers
from holotype.answers.log import AnswerLog
from holotype.answers.records import Answer, Imported, NewAnswer, Verdict
from holotype.answers.refine import refine
from holotype.answers.regrouped import regroup
from holotype.answers.rules import AnswerRules
from holotype.answers.scored import fallen
from holotype.errors import AnswersError
from holotype.model.promises import read_promises
from holotype.names import command, counted
from holotype.pool.exemplars import Exemplar, names_of
from holotype.pool.images import Source, decode, thumbnail
from holotype.pool.pool import Pool
from holotype.progress import Progress, long
from holotype.review.answers import AnswerLayout, ReviewAnswers
from holotype.review.generation import Generation
from holotype.review.items import Item, Neighbour, Question, Shown
from holotype.review.neighbours import Neighbours
from holotype.review.passed import WithoutPassed, closing
from holotype.review.pictures import Pictures
from holotype.review.queries import (
    AnswerTally,
    DiverseUncertainty,
    PageOfBoth,
    Query,
    QueryContext,
    Seen,
    Strategy,
    next_queries,
)
from holotype.review.status import Changes, ClassStatus, Part, ReviewState, without_last
from holotype.runs.folder import RunFolder
from holotype.runs.images import open_images
from holotype.runs.places import find_inputs
from holotype.runs.results import RunResult
from holotype.runs.sweep import repeat
from holotype.settings import Settings


class Review:
    """The run in a folder, under review; several threads may use one. Every answer is checked by `AnswerRules`."""

    def __init__(
        self, folder: RunFolder, settings: Settings, pool: Pool, baseline: ReviewBaseline, strategy: Strategy
    ) -> None:
        self.folder, self.settings, self.pool, self.strategy = folder, settings, pool, strategy
        self.classes = list(settings.exemplars)
        self._refitting = RLock()
        self.pictures = Pictures(pool)
        self._baseline, self._neighbours = baseline, Neighbours(folder, settings, pool, baseline)
        self.generation = Generation(folder, settings, baseline.key)
        self.answers: AnswerLog = folder.open_answers()
        try:
            self._answers = ReviewAnswers(self.answers, self._rules())
            version, current = self.answers.version, self._answers.current()
            self._state = self._learn(version, current, baseline)
        except BaseException:
            self.answers.close()
            raise
        self._seen: tuple[ReviewBaseline, list[Seen]] | None = None
        self._earlier = earlier if len(earlier := without_last(current, self.classes)) < len(current) else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.out, self.strategy)  # a copy opens the run for itself

    def _rules(self) -> AnswerRules:
        given = self._baseline.given(self.settings.exemplars, self.pool)
        missing, closed = self._baseline.groups.missing, frozenset(self._baseline.held_out)
        worded = self._baseline.described
        return AnswerRules(self.pool, self.classes, given, missing, closed, worded, self.generation.check)

    @classmethod
    def open(cls, out: Path | str, strategy: Strategy | None = None, progress: Progress | None = None) -> Self:
        """Open the run in `out`. Raises `HolotypeError` where there is none, or it cannot be reviewed."""
        folder = RunFolder(out)
        with long(progress, f"open the run in {out}"):
            with folder.reading():
                settings = find_inputs(folder, needed=["images"])
                pool = open_images(folder, settings, progress)
                baseline = folder.read_baseline(list(settings.exemplars), pool)
            return cls(folder, settings, pool, baseline, strategy or DiverseUncertainty())

    def check(self) -> None:
        """Raise `HolotypeError` where the run, or the file of the answers, is gone or another than was opened."""
        self.generation.check()
        self.answers.check()

    @property
    def out(self) -> Path:
        """The folder of the run."""
        return self.folder.path

    def __len__(self) -> int:
        return len(self.pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file of the answers, and let the pictures go."""
        self.answers.close()
        self.pictures.clear()

    @property
    def ids(self) -> Sequence[str]:
        """The id of each row of the pool."""
        return self.pool.ids

    @property
    def state(self) -> ReviewState:
        """What was learnt from the answers, up to the last time."""
        return self._state

    @property
    def version(self) -> int:
        """A number that grows with every answer."""
        return self.answers.version

    def exemplars(self, label: str) -> list[Shown]:
        """Return the exemplars that stand for the class `label` by the answers so far."""
        k = self._number(label)
        found = self._answers.exemplars()
        return [Shown(i, one.row, one.name) for i, one in enumerate(found) if one.label == k]

    def queue(self, label: str) -> "Queue":
        """Return the questions about the class `label`."""
        self._number(label)
        return Queue(self, label)

    def next(
        self, n: int, label: str, exclude: Collection[int] = (), passed: Collection[int] = (), *, page: bool = False
    ) -> list[Question]:
        """Return the next `n` questions about the class `label`, without the rows to `exclude`.

        passed   rows that were shown and not answered: asked about again only where the audit waits for them
        page     chosen to be looked over together, as thumbnails
        """
        k, state, current = self._number(label), self._state, self._answers.current()
        about = [one for one in current if one.label == label and one.verdict in ("yes", "no", "unsure")]
        asked = [self.pool.rows[one.id] for one in about]
        known = {*asked, *state.known(k, current, self.pool.rows, self._answers.undone)}
        closed = [*exclude, *state.baseline.held_out]
        context = QueryContext.of(state.baseline, state.refined, k, known, closed, self._seen_of(state.baseline, k))
        tally = AnswerTally(len(asked), sum(one.audit for one in about))
        numbers = state.baseline.numbers
        sampled = closing(state.refined.sampled[k], numbers, {*known, *closed}, passed)
        strategy = WithoutPassed(PageOfBoth() if page else self.strategy, passed)
        queries = next_queries(context, strategy, n, tally, sampled, numbers, known)
        return [self._question(state, one, k) for one in queries]

    def _seen_of(self, baseline: ReviewBaseline, k: int) -> Seen:
        """What is known of class `k`, as long as its exemplars are those of `baseline`."""
        if self._seen is None or self._seen[0] is not baseline:
            self._seen = baseline, [Seen(baseline.vectors, exemplars) for exemplars in baseline.exemplars]
        return self._seen[1][k]

    def _question(self, state: ReviewState, asked: Query, k: int) -> Question:
        logit, cut = float(state.refined.logits[asked.row, k]), float(state.refined.cuts[k])
        score = float(sigmoid(np.array(logit)))
        why = "found so far" if logit >= cut else ""  # the same of an audit: it must not sway the answer
        return Question(asked.row, self.ids[asked.row], self.classes[k], asked.audit, score, why)

    def known(self, label: str) -> dict[str, Verdict]:
        """Return what is answered about images of the pool by the class `label`, and which are its exemplars, by id."""
        k = self._number(label)
        found = {one.id: one.verdict for one in self._answers.current() if one.label == label and not one.prototype}
        exemplars = self._answers.exemplars()
        return found | {one.name: "exemplar" for one in exemplars if one.label == k and one.row is not None}

    def record(self, new: Sequence[NewAnswer], act: str | None = None) -> None:
        """Record answers as one act: on the disk when this returns. Raises `AnswersError` for what cannot be."""
        self.answers.record(new, act=act)

    def take(self, new: Sequence[NewAnswer]) -> int:
        """Record answers that come from elsewhere, but for those that hold already; return how many were new."""
        return self.answers.take(new).new

    def read(self, path: Path, who: str = "") -> int:
        """Take the answers of a file, as `load` does; return how many were new."""
        return self.load(path, who).new

    def load(self, path: Path, who: str = "") -> Imported:
        """Take the answers of a CSV, or of an export of Label Studio (JSON or CSV), and learn from them.

        who   whose they are, where the file does not say
        """
        taken = self._answers.load(path, who)
        self.refit()
        return taken

    def export(self, path: Path) -> None:
        """Write the answers that hold to `path`: a CSV, or the tasks of Label Studio (.json)."""
        self._answers.export(path)

    def answers_as(self, layout: AnswerLayout) -> str:
        """Return the answers that hold as a CSV, or as the tasks of Label Studio."""
        return self._answers.written(layout)

    @property
    def matched(self) -> MatchedAnswers:
        """The answers that hold: those that apply to the run, and why others decide nothing."""
        return self._answers.matched()

    def form(self, n: int, labels: Sequence[str]) -> Iterator[str]:
        """Yield the lines of a CSV with the next `n` questions about each class, in which the answers are missing.

        Which of them are of the audit is kept in the log, and not shown: it must not sway the answer.
        """
        for label in labels:
            self._number(label)
        yield from form_lines(self._asked(n, labels), self.pool)

    def _asked(self, n: int, labels: Sequence[str]) -> Iterator[tuple[int, str]]:
        for label in labels:
            questions = self.next(n, label)
            self.answers.draw((one.id, label) for one in questions if one.audit)
            yield from ((one.row, one.label) for one in questions)

    def summary(self) -> Iterator[str]:
        """Yield a line per class: what was answered and found, what that is worth, and what the audit waits for."""
        if self.matched.set_aside:
            yield f"answers: {self.matched}"
        if new := self._baseline.unknown:
            takes_in = f"{command('run', self.out, '--resume')} takes in what is new"
            yield f"new since the run: {counted(new, 'image')}; {takes_in}"
        for label in self.classes:
            yield f"{label}: {self.standing(label)}"
        yield from fallen(read_promises(self.folder.model), self.answers.current())

    def undo(self, act: str, who: str = "") -> bool:
        """Take an act back; False when it was taken back before."""
        return self.answers.undo(act, who=who)

    def refit(self) -> None:
        """Learn from the answers given since the last time, if there are any."""
        with self._refitting:
            if self._state.version != self.answers.version:
                self._look_back()
                version, current = self.answers.version, self._answers.current()
                after = self._learn(version, current, self._baseline, self._state.baseline)
                self._state = after.following(self._state)

    def _look_back(self) -> None:
        """Find out, once, what the last answers of an earlier sitting changed: the first question does not wait."""
        if self._earlier is None:
            return
        with self._refitting:
            if self._earlier is not None:
                before = self._learn(self._state.version, self._earlier, self._baseline, self._state.baseline)
                self._state = self._state.following(before)
                self._earlier = None

    def _learn(self, version: int, current: Sequence[Answer], *baselines: ReviewBaseline) -> ReviewState:
        baseline = self._with_exemplars(self._answers.exemplars(current), baselines)
        return ReviewState.first(version, baseline, refine(baseline, current, self.pool.rows, self.settings.fit))

    def _with_exemplars(self, exemplars: Sequence[Exemplar], baselines: Sequence[ReviewBaseline]) -> ReviewBaseline:
        """What the answers are added to: grouped again where the exemplars are others than those of all `baselines`."""
        names = names_of(exemplars, len(self.classes))
        same = (one for one in baselines if [list(of_class) for of_class in one.names] == names)
        return next(same, None) or regroup(self._baseline, exemplars, self.settings.fit)

    @property
    def compared(self) -> bool:
        """Whether what the last answers of an earlier sitting changed is found out, or need not be."""
        return self._earlier is None

    def standing(self, label: str, *, compare: bool = True) -> ClassStatus:
        """Return where the class `label` stands; without `compare` at once, even where it is not known what moved."""
        if compare:
            self._look_back()
        verdicts = [one.verdict for one in self._answers.current() if one.label == label]
        return self._state.status(self._number(label), verdicts)

    def changes(self, label: str) -> Changes:
        """Return what the last refit took into the class `label`, and out of it."""
        self._look_back()
        return self._state.changes(self._number(label))

    def gallery(
        self,
        label: str,
        part: Part,
        *,
        sort: Literal["best", "worst"] = "best",
        text: str = "",
        answered: bool | None = None,
        start: int = 0,
        count: int = 60,
    ) -> tuple[list[Item], int]:
        """Return images of a class from `start` on, and how many there are in all.

        text       part of their ids; answered: only those with an answer, or only those without
        """
        k, state = self._number(label), self._state
        verdicts = {one.id: one.verdict for one in self._answers.current() if one.label == label}
        rows = state.rows(part, k)
        kept: list[int] = [
            row
            for row in rows.tolist()
            if text in self.ids[row] and (answered is None or answered == (self.ids[row] in verdicts))
        ]
        if sort == "worst":
            kept.reverse()
        shown, refined = kept[start : start + count], state.refined
        probabilities = sigmoid(refined.logits[:, k][shown])
        items = [
            Item(row, self.ids[row], float(score), part, verdicts.get(self.ids[row]), refined.reason(row))
            for row, score in zip(shown, probabilities, strict=True)
        ]
        return items, len(kept)

    def around(self, row: int, label: str, n: int, start: int = 0) -> list[Neighbour]:
        """Return the `n` images that are most like that of `row`, from place `start` on, with what `label` is to them.

        They are compared in the space that the pool was ranked in. Images of the test set and copies are left out.
        Raises `AnswersError` where there is no such row, or it has no vector.
        """
        return self._alike(self._neighbours.of_row(row, n, start), label)

    def search(self, picture: Source, label: str, n: int, start: int = 0) -> list[Neighbour]:
        """Return the `n` images that are most like another `picture` (a path, encoded bytes, ...), as `around` does.

        Raises `UnreadableImage`, and `AnswersError` where no encoder is known that a vector to compare comes from.
        """
        return self._alike(self._neighbours.of_picture(picture, n, start), label)

    def _alike(self, found: Sequence[tuple[int, float]], label: str) -> list[Neighbour]:
        known = self.known(label)
        return [Neighbour(row, self.ids[row], cosine, known.get(self.ids[row], "")) for row, cosine in found]

    def picture(self, row: int, side: int) -> bytes:
        """Return the image of `row` as a JPEG of at most `side` pixels. Raises `UnreadableImage`."""
        return self.pictures.draw(row, side).jpeg

    def exemplar_picture(self, number: int, side: int) -> bytes:
        """Return an exemplar, by its number in `exemplars`, as `picture` does."""
        found = self._answers.exemplars()
        if not 0 <= number < len(found):
            raise AnswersError(f"expected the number of one of the {len(found)} exemplars, got {number}")
        return thumbnail(decode(found[number].data, fit=side), side)

    def apply(self, progress: Progress | None = None) -> RunResult:
        """Do the run again with the answers: groups, head, calibration and report follow them.

        It is the run as it is in the folder now. Raises `HolotypeError` where that is about something else (`check`).
        """
        self.check()
        result = repeat(self.out, self._following, doing="holotype answer --apply", progress=progress)
        with self._refitting:
            with self.folder.reading():
                self._baseline = self.folder.read_baseline(self.classes, self.pool)
            self._neighbours = Neighbours(self.folder, self.settings, self.pool, self._baseline)
            self._answers.follow(self._rules())
            after = self._learn(self.answers.version, self._answers.current(), self._baseline)
            self._state = replace(after, moves=self._state.moves, still=self._state.still)
        return result

    def _following(self, settings: Settings) -> Settings:
        """The settings of the run in the folder now, which this review is about from now on."""
        self.check()
        self.settings = settings.in_order(self.classes)
        return self.settings

    def _number(self, label: str) -> int:
        if label not in self.classes:
            raise AnswersError(f"expected one of the classes {', '.join(self.classes)}, got {label!r}")
        return self.classes.index(label)


@dataclass(frozen=True)
class Queue:
    """The questions about one class of a review."""

    review: Review
    label: str

    def next(self, n: int, exclude: Collection[int] = ()) -> list[Question]:
        """Return the next `n` questions, without the rows to `exclude`: an image stays first until it is answered.

        Who answers gives the question's `audit` on with the answer (`review.answers.add(..., audit=question.audit)`):
        what is audited is not learnt from.
        """
        return self.review.next(n, self.label, exclude)
