"""The log of answers: it is only ever added to.

What was once asked as part of the random audit is audited for good, whichever way an answer to it comes.
"""

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast
from uuid import uuid4

from holotype.answers.database import AnswerDatabase
from holotype.answers.forms import name_some
from holotype.answers.records import (
    PROTOTYPE,
    Answer,
    Imported,
    NewAnswer,
    Pair,
    Rules,
    Undo,
    Verdict,
    check_text,
    overruled,
    utc,
)
from holotype.answers.schema import (
    ACTS,
    CHANGED,
    CURRENT,
    DRAWN,
    DRAWN_SINCE,
    GOAL,
    GOALS,
    HISTORY,
    LATEST,
    NEWEST,
    OF_ACT,
    PROTOTYPES,
    VALID_OF_ACT,
)
from holotype.errors import AnswersError, HolotypeWarning

_SINCE = HISTORY.replace(" ORDER", " WHERE number > ? ORDER")
_NAMED = "SELECT value FROM json_each(?)"
_ABOUT = CURRENT.replace(" GROUP", f" WHERE id IN ({_NAMED}) OR (digest != '' AND digest IN ({_NAMED})) GROUP")


class AnswerLog:
    """The answers in the SQLite file `path`, which is made where there is none; with `rules`, only those they allow.

    Several threads may share one, and several processes one file; what a method returned has been synced to the disk.
    Raises `AnswersError` when the file is of another program or of a newer holotype, or cannot be used.
    """

    def __init__(self, path: Path | str, rules: Rules | None = None) -> None:
        self.path = Path(path)
        self.rules = rules
        self._file = AnswerDatabase(self.path)
        self._db = self._file.writer
        self._cached: tuple[int, int, list[Answer]] = (-1, 0, [])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.rules)  # a copy, here or in another process, opens the file for itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def check(self) -> None:
        """Raise `AnswersError` where the file is not at its path any more: what is recorded would be lost."""
        self._file.check()

    def add(self, id: str, label: str, verdict: Verdict, *, who: str = "", audit: bool = False) -> Answer:  # noqa: A002
        """Record one answer as an act of its own."""
        return self.record([NewAnswer(id, label, verdict, who, audit)])[0]

    def record(self, new: Sequence[NewAnswer], *, act: str | None = None) -> list[Answer]:
        """Record answers as one act, all or none. An `act` that is known is returned, and not recorded again.

        Raises `AnswersError` when `act` is known with other answers, two of them contradict each other, or the rules
        refuse one.
        """
        if act is not None:
            check_text("the id of an act", act)
        new = [self._complete(one) for one in new]
        for place, against in overruled(new).items():
            one, other = new[place], new[against]
            raise AnswersError(
                f"{one.verdict} to {one.label} and {other.verdict} to {other.label} were answered at once about "
                f"{one.id!r}; nothing was recorded: give one of them"
            )
        with self._file.writing():
            known = self._read(OF_ACT, act)
            if known and not _are_same(new, known):
                raise AnswersError(f"act {act} is recorded with other answers; give these an id of their own")
            if not known and (faults := self._faults(new)):
                raise AnswersError(f"{next(iter(faults.values()))}; nothing was recorded")
            return known or self._write(new, act or uuid4().hex)

    def take(self, new: Iterable[NewAnswer]) -> Imported:
        """Record, as one act, what does not hold already, is no older than what was answered since, and can be.

        Of several answers about one image the last decides (`overruled`). An exemplar shows its class: yes is not new.
        Raises `AnswersError` when there are answers and none of them can be.
        """
        given = list(new)
        ours = [one for one in given if self.rules is None or not self.rules.is_about_another(one)]
        complete, refused = self._all_complete(ours)
        against = overruled(complete)
        refused += [
            _in_words(complete[place], _why(complete[place], complete[other])) for place, other in against.items()
        ]
        last: dict[tuple[str, str, bool], NewAnswer] = {}
        for place, one in enumerate(complete):
            before = last.get(key := (*one.pair, one.verdict in PROTOTYPE))
            newer = before is None or one.when is None or before.when is None or utc(one.when) >= utc(before.when)
            if newer and place not in against:
                last.pop(key, None)
                last[key] = one
        with self._file.writing():
            held = _Held(self._applying(self.current()), self._latest())
            prototypes = self._prototypes_now()
            other = [one for one in last.values() if not (held.has(one) or self._needless(one, prototypes))]
            fresh = [one for one in other if not held.is_newer_than(one)]
            faults = self._faults(fresh)
            refused += [_in_words(fresh[place], why) for place, why in faults.items()]
            possible = [one for place, one in enumerate(fresh) if place not in faults]
            if refused and len(faults) == len(last) and len(ours) == len(given):
                raise AnswersError(f"none of the answers can be, and nothing was recorded: {name_some(refused)}")
            self._write(possible, uuid4().hex)
        return Imported(len(possible), len(other) - len(fresh), len(given) - len(ours), refused)

    def _all_complete(self, given: Sequence[NewAnswer]) -> tuple[list[NewAnswer], list[str]]:
        """Return `given` with the ids and digests of their images, and in words those that have none."""
        complete, refused = list[NewAnswer](), list[str]()
        for one in given:
            try:
                complete.append(self._complete(one))
            except AnswersError as error:
                refused.append(_in_words(one, str(error)))
        return complete, refused

    def _faults(self, new: Sequence[NewAnswer]) -> dict[int, str]:
        return {} if self.rules is None else self.rules.faults(new, self._prototypes_now())

    def _latest(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield the image by its name now, the class, the digest, and when anything was last said of these."""
        for name, label, digest, when in self._file.read(LATEST):
            yield (self.rules.current_id(name, digest) if self.rules else name), label, digest, when

    def _applying(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        return answers if self.rules is None else self.rules.applying(answers)

    def _needless(self, one: NewAnswer, prototypes: Sequence[Answer]) -> bool:
        """Whether an answer makes an exemplar of one, or withdraws what is none."""
        if one.verdict not in PROTOTYPE or self.rules is None:
            return False
        return (one.verdict == "exemplar") == self.rules.is_exemplar(one.pair, prototypes)

    def copy(self, path: Path) -> None:
        """Write all that was recorded to `path` as well. Raises `OutputError` where it cannot be written."""
        self._file.copy(path)

    def draw(self, pairs: Iterable[Pair]) -> None:
        """Note that these images are asked about as part of the random audit: what is answered to that is audited.

        Where nothing can be recorded it warns (`HolotypeWarning`): the same are drawn again where it can be.
        """
        if self._file.read_only:
            warnings.warn(
                f"{self.path} can only be read, so which of these are of the random audit is not noted: ask again in a "
                "copy of the run before anything is answered",
                HolotypeWarning,
                stacklevel=2,
            )
        elif known := {pair for pair in pairs if not self._is_drawn(pair)}:
            with self._file.writing():
                self._draw(known)

    def _draw(self, pairs: Iterable[Pair]) -> None:
        for pair in dict.fromkeys(pairs):
            if not self._is_drawn(pair):
                self._file.append("drawn", pair)

    def note_goal(self, label: str, model: str, images: str, precision: float) -> int:
        """Note what is to be promised of a class; return how many other goals were noted for it and the model before.

        Each is one more chance to promise what is not so, and it stays one whatever becomes of the promise. Raises
        `AnswersError` where nothing can be noted.
        """
        of_model = f"{GOAL}{model}"
        goal = f"{of_model} {images} {precision!r}"
        if goal not in (known := self._goals(label, of_model)):
            with self._file.writing():
                self._draw([(goal, label)])
                known = self._goals(label, of_model)
        return known.index(goal)

    def _goals(self, label: str, of_model: str) -> list[str]:
        return [name for (name,) in self._file.read(GOALS, (label, of_model, of_model))]

    def undo(self, act: str, *, who: str = "") -> bool:
        """Record that `act` does not hold; False, and nothing is recorded, when that is so already.

        Raises `AnswersError` for an act that is unknown, and where what was answered since contradicts what would hold.
        """
        check_text("the id of an act", act)
        if who:
            check_text("who said it", who)
        with self._file.writing():
            if not (known := self._read(OF_ACT, act)):
                raise AnswersError(f"expected an act that was recorded, got {act!r}; nothing was undone")
            if not self._read(VALID_OF_ACT, act):
                return False
            before = self._contradictions(known)
            self._insert(act, None, None, "undo", datetime.now(UTC), who, False, "")
            if new := self._contradictions(known) - before:
                raise AnswersError(f"this cannot be undone, as {min(new)}; undo what was answered since first")
            return True

    def acts(self, start: str) -> list[str]:
        """Return the acts whose ids begin with `start` (ASCII), taken back or not, in order of recording."""
        return [act for (act,) in self._file.read(ACTS, (start, f"{start[:-1]}{chr(ord(start[-1]) + 1)}"))]

    def _contradictions(self, answers: Sequence[Answer]) -> set[str]:
        """What contradicts the exemplars among all that holds of the images of `answers`."""
        if self.rules is None:
            return set()
        names = {one.id for one in answers} | {self.rules.current_id(one.id, one.digest) for one in answers}
        both = json.dumps(sorted(names)), json.dumps(sorted({one.digest for one in answers}))
        return self.rules.contradictions(self._read(_ABOUT, *both))

    def current(self) -> list[Answer]:
        """What holds: of each image, class and kind the last answer that is not undone, in the order of recording."""
        return self._read(CURRENT)

    def prototypes(self) -> list[Answer]:
        """Those of `current` that make or withdraw exemplars."""
        return self._read(PROTOTYPES)

    def history(self) -> list[Answer | Undo]:
        """Everything that was recorded, in order."""
        return [_record(row) for row in self._file.read(HISTORY)]

    def since(self, number: int) -> list[Answer | Undo]:
        """What was recorded after the record `number`, in order."""
        return [_record(row) for row in self._file.read(_SINCE, (number,))]

    def drawn_since(self, number: int) -> list[tuple[int, str, str]]:
        """What was drawn for the audit after the draw `number`, in order: number, image and class."""
        return self._file.read(DRAWN_SINCE, (number,))

    @property
    def version(self) -> int:
        """A number that grows with every record."""
        return int(self._file.read(NEWEST)[0][0])

    def _read(self, query: str, *values: str | None) -> list[Answer]:
        return [cast(Answer, _record(row)) for row in self._file.read(query, values)]

    def _prototypes_now(self) -> list[Answer]:
        """What `prototypes` says within a transaction, read again only when something was said of exemplars."""
        resets, seen, found = self._cached
        if resets != self._file.resets or self._file.read(CHANGED, (seen,)):
            found = self.prototypes()
        self._cached = self._file.resets, self.version, found
        return found

    def _complete(self, one: NewAnswer) -> NewAnswer:
        """Give an answer what the rules know of its image; what was drawn under another name stays an audit."""
        if self.rules is None:
            return one
        found = self.rules.complete(one)
        was_drawn = found.id != one.id and self._is_drawn((one.id, found.label))
        return replace(found, audit=True) if was_drawn else found

    def _is_drawn(self, pair: Pair) -> bool:
        return bool(self._file.read(DRAWN, pair))

    def _write(self, new: Sequence[NewAnswer], act: str) -> list[Answer]:
        now = datetime.now(UTC)
        self._draw(one.pair for one in new if one.audit)
        for one in new:
            self._insert(act, *one.pair, one.verdict, utc(one.when or now), one.who, one.audit, one.digest)
        return self._read(OF_ACT, act)

    def _insert(
        self,
        act: str,
        name: str | None,
        label: str | None,
        verdict: str,
        when: datetime,
        who: str,
        audit: bool,
        digest: str,
    ) -> None:
        self._file.append("record", (act, name, label, verdict, when.isoformat(), who, int(audit), digest))


class _Held:
    """What holds of each image, and when something was last recorded about it."""

    def __init__(self, current: Sequence[Answer], latest: Iterable[tuple[str, str, str, str]]) -> None:
        self._verdicts = {(*_pair(one), one.prototype): one.verdict for one in current}
        shown = [one for one in current if one.verdict in ("yes", "exemplar")]
        self._owner = {one.id: one for one in sorted(shown, key=lambda one: one.number)}
        self._latest = {(name, label, digest): datetime.fromisoformat(when) for name, label, digest, when in latest}

    def has(self, one: NewAnswer) -> bool:
        """Whether `one` holds already: an exemplar shows its class, and of two classes shown the last counts."""
        now, owner = self._verdicts.get((*one.pair, one.verdict in PROTOTYPE)), self._owner.get(one.id)
        if one.verdict != "yes":
            return one.verdict == now
        if owner is None or owner.label != one.label:
            return False
        return now == "yes" or (now is None and self._verdicts.get((*one.pair, True)) == "exemplar")

    def is_newer_than(self, one: NewAnswer) -> bool:
        """Whether something was said since about the image and class of `one`, or that the image shows another."""
        if one.when is None:
            return False
        moments = [self._latest.get((*one.pair, digest)) for digest in {one.digest, ""}]
        owner = self._owner.get(one.id)
        if one.verdict in ("yes", "exemplar") and owner is not None and owner.label != one.label:
            moments.append(owner.when)
        return any(moment is not None and moment > utc(one.when) for moment in moments)


def _pair(answer: Answer) -> Pair:
    return answer.id, answer.label


def _in_words(one: NewAnswer, why: str) -> str:
    return f"{one.where}: {why}" if one.where else why


def _why(one: NewAnswer, other: NewAnswer) -> str:
    """Why an answer does not count that another contradicts."""
    if one.where and one.where == other.where:
        return f"{one.verdict} to {one.label} and {other.verdict} to {other.label} at once about {one.id!r}"
    says = f"{other.where or 'a later one'} says {other.verdict} to {other.label}"
    return f"{says} about {other.id!r}, and the last decides"


def _are_same(new: Sequence[NewAnswer], known: Sequence[Answer]) -> bool:
    """A time that was not given is that of the recording; the log itself knows what is an audit."""
    return len(new) == len(known) and all(
        (one.pair, one.verdict, one.who, one.when and utc(one.when))
        == (_pair(old), old.verdict, old.who, one.when and old.when)
        for one, old in zip(new, known, strict=True)
    )


def _record(row: tuple[Any, ...]) -> Answer | Undo:
    number, act, name, label, verdict, when, who, drawn, digest = row
    if verdict == "undo":
        return Undo(act, datetime.fromisoformat(when), who, number)
    classes = frozenset(json.loads(drawn)) if drawn != "[]" else frozenset()
    return Answer(
        name, label, verdict, datetime.fromisoformat(when), who, label in classes, number, act, digest, classes
    )
