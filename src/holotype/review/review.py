"""A run under review: the questions, the answers, and what they lead to. The page and the command line call it."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import Literal, Self

import numpy as np

from holotype import files
from holotype.answers import Answer, Answers, Given
from holotype.audit import lots
from holotype.errors import AnswersError
from holotype.evaluation import read_test_set
from holotype.exchange import label_studio_tasks, read_csv, read_label_studio, write_csv
from holotype.exemplars import Exemplar, names_of, resolve
from holotype.feedback import sigmoid
from holotype.images import decode, thumbnail
from holotype.job import ANSWERS, START, answerable, revised, settings_of
from holotype.pipeline import run
from holotype.pool import Pool, open_pool
from holotype.predictions import csv_line
from holotype.progress import Progress, Silent
from holotype.results import Result
from holotype.review.queue import Ask, Spread, Strategy, Tally, View, ask
from holotype.review.state import LONG, USUAL, Moved, Part, Standing, State, rank_again
from holotype.settings import Settings
from holotype.teaching import Start, gather, teach

_PICTURES = 256  # that are kept in memory


@dataclass(frozen=True)
class Question:
    """Does the image `id` show the class `label`? `score` is the estimated probability, `why` it is asked in words."""

    row: int
    id: str
    label: str
    audit: bool
    score: float
    why: str


@dataclass(frozen=True)
class Item:
    """An image in the gallery of a class: `said` is what was answered, `reason` why it is where it is."""

    row: int
    id: str
    score: float
    part: Part
    said: str | None
    reason: str


@dataclass(frozen=True)
class Shown:
    """An exemplar; `number` counts those of all classes, `row` is None for a picture from outside the pool."""

    number: int
    row: int | None
    name: str


class Review:
    """The run in `out`, under review; several threads may use one."""

    def __init__(
        self, out: Path, settings: Settings, pool: Pool, start: Start, answers: Answers, strategy: Strategy
    ) -> None:
        self.out, self.settings, self.pool, self.answers, self.strategy = out, settings, pool, answers, strategy
        self.classes = list(settings.exemplars)
        self._lot = lots(len(pool), start.key)
        self._tested = read_test_set(Path(settings.test_set), self.classes, pool).rows if settings.test_set else []
        self._answerable = answerable(pool, self._tested)
        self._given = resolve(pool, settings.exemplars)
        self._refitting, self._changing = RLock(), RLock()
        self._read: tuple[int, list[Answer]] = (-1, [])
        self._picture = lru_cache(maxsize=_PICTURES)(self._render)
        self._start = start
        version, current = self.answers.version, self._current()
        self._state = self._learn(version, current, start)
        earlier = _without_last(current, self.classes)
        self._earlier = earlier if len(earlier) < len(current) else None

    @classmethod
    def open(cls, out: Path | str, strategy: Strategy | None = None) -> Self:
        """Open the run in `out`. Raises `HolotypeError` where there is none, or it cannot be reviewed."""
        out = Path(out)
        settings = settings_of(out)
        pool = open_pool(settings.images, allow_truncated=settings.allow_truncated)
        start = Start.load(out / START)
        if len(start.vectors) != len(pool) or start.key != pool.fingerprint:
            raise AnswersError(f"{pool.source} has changed since the run in {out}: do the run again with --force")
        answers = Answers(out / ANSWERS)
        try:
            return cls(out, settings, pool, start, answers, strategy or Spread())
        except BaseException:
            answers.close()
            raise

    def __len__(self) -> int:
        return len(self.pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file of the answers, and let the pictures go."""
        self.answers.close()
        self._picture.cache_clear()

    @property
    def ids(self) -> Sequence[str]:
        """The id of each row of the pool."""
        return self.pool.ids

    @property
    def version(self) -> int:
        """A number that grows with every answer."""
        return self.answers.version

    def exemplars(self, label: str) -> list[Shown]:
        """Return the exemplars that stand for the class `label` by the answers so far."""
        k = self._number(label)
        found = self._exemplars()
        return [Shown(i, one.row, one.name) for i, one in enumerate(found) if one.label == k]

    def queue(self, label: str) -> "Queue":
        """Return the questions about the class `label`."""
        self._number(label)
        return Queue(self, label)

    def next(self, n: int, label: str, exclude: Collection[int] = ()) -> list[Question]:
        """Return the next `n` questions about the class `label`, without the rows to `exclude`."""
        k, state, current = self._number(label), self._state, self._current()
        about = [one for one in current if one.label == label and one.said in ("yes", "no", "unsure")]
        asked = [self.pool.rows[one.id] for one in about if one.id in self.pool.rows]
        said = gather(current, self.classes, self._answerable)  # there may be answers that are not learnt from yet
        known = {*asked, *said.shown[k].tolist(), *said.hidden[k].tolist()}
        view = View.of(state.start, state.taught, k, known, [*exclude, *self._tested])
        tally = Tally(len(asked), sum(one.audit for one in about))
        questions = ask(view, self.strategy, n, tally, state.taught.sampled[k], self._lot, known)
        return [self._question(state, one, k) for one in questions]

    def _question(self, state: State, asked: Ask, k: int) -> Question:
        logit, cut = float(state.taught.logits[asked.row, k]), float(state.taught.cuts[k])
        score = float(sigmoid(np.array(logit)))
        if asked.audit:
            why = "drawn at random from what was found: it checks the precision, and is not learnt from"
        elif logit >= cut:
            why = "found, and unlike what was asked before"
        else:
            why = "outside so far, and unlike what was asked before"
        return Question(asked.row, self.ids[asked.row], self.classes[k], asked.audit, score, why)

    def record(self, given: Sequence[Given], act: str | None = None) -> None:
        """Record answers as one act: on the disk when this returns. Raises `AnswersError` for what cannot be."""
        with self._changing:
            exemplars = self._exemplars()
            self.answers.record([self._checked(one, exemplars) for one in given], act=act)

    def _checked(self, given: Given, exemplars: Sequence[Exemplar]) -> Given:
        k = self._check(given)
        own = [one.name for one in exemplars if one.label == k]
        if given.said == "withdrawn":
            if given.id not in own:
                raise AnswersError(f"expected an exemplar of {given.label}, got {given.id!r}; nothing was recorded")
            if len(own) == 1:
                raise AnswersError(f"{given.label} has no other exemplar: add one before this one is withdrawn")
        elif given.said == "exemplar":
            self._check_exemplar(given, k, exemplars)
        elif given.id in own and given.said == "yes":
            return replace(given, said="exemplar")  # which says more: it may have become one since it was asked about
        else:
            self._refuse_exemplar(given, k, exemplars)
        return given

    def _refuse_exemplar(self, given: Given, k: int, exemplars: Sequence[Exemplar]) -> None:
        """Refuse an answer that contradicts an exemplar."""
        for one in exemplars:
            if one.name == given.id and (one.label == k) != (given.said == "yes"):
                raise AnswersError(f"{given.id} is an exemplar of {self.classes[one.label]}: withdraw it there first")

    def _check(self, given: Given) -> int:
        """Return the number of the class that an answer is about, an image of the pool or an exemplar."""
        k = self._number(given.label)
        exemplar = given.said == "withdrawn" and any((one.name, one.label) == (given.id, k) for one in self._given)
        if given.id not in self.pool.rows and not exemplar:
            raise AnswersError(f"expected the id of an image in {self.pool.source}, got {given.id!r}")
        return k

    def _check_exemplar(self, given: Given, k: int, exemplars: Sequence[Exemplar]) -> None:
        row = self.pool.rows[given.id]
        decode(self.pool.read(row), fit=64)
        if np.isnan(self._start.groups.scores[row]).any():
            raise AnswersError(f"{given.id} has no vector to be compared with: choose another exemplar")
        owners = [one.label for one in exemplars if one.row == row and one.label != k]
        if owners:
            raise AnswersError(f"{given.id} is an exemplar of {self.classes[owners[0]]}: withdraw it there first")

    def take(self, given: Sequence[Given]) -> int:
        """Record answers that come from elsewhere, but for those that stand already; return how many were new."""
        with self._changing:
            exemplars = self._exemplars()
            for one in given:
                k = self._check(one)
                if one.said == "exemplar":
                    self._check_exemplar(one, k, exemplars)
            return self.answers.take(given)

    def read(self, path: Path, who: str = "") -> int:
        """Take the answers of a CSV, or of an export of Label Studio (.json); return how many were new.

        who   whose they are, where the file does not say
        """
        label_studio = path.suffix.lower() == ".json"
        given = read_label_studio(path, self.classes) if label_studio else read_csv(path)
        new = self.take([one if one.who else replace(one, who=who) for one in given])
        self.refit()
        return new

    def export(self, path: Path) -> None:
        """Write the answers that hold to `path`: a CSV, or the tasks of Label Studio (.json)."""
        tasks = path.suffix.lower() == ".json"
        current = self._current()
        text = json.dumps(label_studio_tasks(current, self.classes), indent=1) if tasks else write_csv(current)
        files.write(path, text)

    def form(self, n: int, labels: Sequence[str]) -> Iterator[str]:
        """Yield the lines of a CSV with the next `n` questions about each class, in which the answers are missing."""
        yield "id,class,answer,audit"
        for label in labels:
            for one in self.next(n, label):
                yield csv_line([one.id, one.label, "", int(one.audit)]).rstrip("\r\n")

    def summary(self) -> Iterator[str]:
        """Yield a line per class: what was answered and found, and what that is worth."""
        tested = sum(self.pool.rows.get(one.id) in self._tested for one in self._current())
        if tested:
            yield f"{tested:,} answers are about images of the test set, and decide nothing"
        for label in self.classes:
            one = self.standing(label)
            worth = "precision not known yet"
            if one.whole:
                worth = "all of it was looked at"
            elif one.precision_low is not None:
                worth = f"precision at least {one.precision_low:.2f} ({one.audited_yes} of {one.audited} audited)"
            yield f"{label}: {one.answered} answers, {one.found:,} found, about {one.size:,.0f} in the pool; {worth}"

    def undo(self, act: str, who: str = "") -> bool:
        """Take an act back; False when it was taken back before."""
        return self.answers.undo(act, who=who)

    def refit(self) -> None:
        """Learn from the answers given since the last time, if there are any."""
        with self._refitting:
            if self._state.version != self.answers.version:
                self._look_back()
                version, current = self.answers.version, self._current()
                after = self._learn(version, current, self._start, self._state.start)
                self._state = after.following(self._state)

    def _look_back(self) -> None:
        """Find out, once, what the last answers of an earlier sitting changed: the first question does not wait."""
        if self._earlier is None:
            return
        with self._refitting:
            if self._earlier is not None:
                before = self._learn(self._state.version, self._earlier, self._start, self._state.start)
                self._state = self._state.following(before)
                self._earlier = None

    def _learn(self, version: int, current: Sequence[Answer], *starts: Start) -> State:
        exemplars = revised(self._given, current, self.classes, self.pool)
        start = self._started(exemplars, starts)
        said, fit = gather(current, self.classes, self._answerable), self.settings.fit
        taught = teach(start, said, fit.doubtful_band, fit.ambiguity, fit.seed, self._tested)
        return State.first(version, start, said, taught)

    def _started(self, exemplars: Sequence[Exemplar], starts: Sequence[Start]) -> Start:
        """What the answers are added to: ranked again where the exemplars are others than those of all `starts`."""
        names = names_of(exemplars, len(self.classes))
        same = (start for start in starts if [list(one) for one in start.names] == names)
        return next(same, None) or rank_again(self._start, exemplars, self.settings, self.out)

    def standing(self, label: str) -> Standing:
        """Return where the class `label` stands."""
        self._look_back()
        said = [one.said for one in self._current() if one.label == label]
        return self._state.standing(self._number(label), said)

    def moved(self, label: str) -> Moved:
        """Return what the last refit took into the class `label`, and out of it."""
        self._look_back()
        return self._state.moved(self._number(label))

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
        said = {one.id: one.said for one in self._current() if one.label == label}
        rows = state.rows(part, k)
        kept: list[int] = [
            row
            for row in rows.tolist()
            if text in self.ids[row] and (answered is None or answered == (self.ids[row] in said))
        ]
        if sort == "worst":
            kept.reverse()
        reasons = state.taught.groups.reasons
        chances = sigmoid(state.taught.logits[:, k][kept[start : start + count]])
        items = [
            Item(row, self.ids[row], float(chance), part, said.get(self.ids[row]), reasons[row])
            for row, chance in zip(kept[start : start + count], chances, strict=True)
        ]
        return items, len(kept)

    def picture(self, row: int, side: int) -> bytes:
        """Return the image of `row` as a JPEG of at most `side` pixels. Raises `UnreadableImage`."""
        return self._picture(row, side)

    def _render(self, row: int, side: int) -> bytes:
        return thumbnail(decode(self.pool.read(row), fit=side), side)

    def exemplar_picture(self, number: int, side: int) -> bytes:
        """Return an exemplar, by its number in `exemplars`, as `picture` does."""
        found = self._exemplars()
        if not 0 <= number < len(found):
            raise AnswersError(f"expected the number of one of the {len(found)} exemplars, got {number}")
        return thumbnail(decode(found[number].data, fit=side), side)

    def apply(self, progress: Progress | None = None) -> Result:
        """Do the run again with the answers: groups, head, calibration and report follow them."""
        result = run(self.settings, self.out, force=True, progress=progress or Silent())
        with self._refitting:
            self._start = Start.load(self.out / START)
            after = self._learn(self.answers.version, self._current(), self._start)
            self._state = replace(after, moves=self._state.moves, still=self._state.still)
        return result

    def _current(self) -> list[Answer]:
        """The answers that hold, read again only when there are new ones."""
        version = self.answers.version
        if self._read[0] != version:
            self._read = version, self.answers.current()
        return self._read[1]

    def _exemplars(self) -> list[Exemplar]:
        """Those that stand by the answers so far."""
        return revised(self._given, self._current(), self.classes, self.pool)

    def _number(self, label: str) -> int:
        if label not in self.classes:
            raise AnswersError(f"expected one of the classes {', '.join(self.classes)}, got {label!r}")
        return self.classes.index(label)


def _without_last(answers: Sequence[Answer], classes: Sequence[str]) -> list[Answer]:
    """Return `answers` without the last `LONG` that decided about each class that has had its first."""
    out = set[int]()
    for label in classes:
        decided = [i for i, one in enumerate(answers) if one.label == label and one.said in ("yes", "no")]
        if len(decided) >= USUAL:
            out.update(decided[-LONG:])
    return [one for i, one in enumerate(answers) if i not in out]


@dataclass(frozen=True)
class Queue:
    """The questions about one class of a review."""

    review: Review
    label: str

    def next(self, n: int, exclude: Collection[int] = ()) -> list[Question]:
        """Return the next `n` questions, without the rows to `exclude`: an image stays first until it is answered.

        Give its `audit` to `Answers.add` with the answer: what is audited is not learnt from.
        """
        return self.review.next(n, self.label, exclude)
