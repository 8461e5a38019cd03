"""What is answered about an image and a class.

An answer is one of two statements, and of each kind the last counts. "yes", "no" and "unsure" say whether the image
shows the class; "exemplar" and "withdrawn" whether it is a good picture to find others by. An exemplar shows its class;
a withdrawn one may still do so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol, cast, get_args

from holotype.errors import AnswersError
from holotype.model.predictions import NONE
from holotype.names import counted

Verdict = Literal["yes", "no", "unsure", "exemplar", "withdrawn"]
Pair = tuple[str, str]  # the id of an image, and a class
PROTOTYPE: frozenset[Verdict] = frozenset(["exemplar", "withdrawn"])


@dataclass(frozen=True)
class NewAnswer:
    """What is to be recorded: does image `id` show class `label`? Without `when` it is said now.

    "exemplar" makes the image one more exemplar of the class; "withdrawn" says that it is none any more, and nothing
    about what it shows.

    audit    asked as part of the random audit, and never learnt from
    digest   of the image's bytes (`Pool.digest`): the answer is about that picture, whatever bears its id later
    where    in the file that it comes from: "line 5", "task 3"

    Raises `AnswersError` for what no answer can be.
    """

    id: str
    label: str
    verdict: Verdict
    who: str = ""
    audit: bool = False
    when: datetime | None = None
    digest: str = ""
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_text("the id of an image", self.id)
        check_text("the name of a class", self.label)
        if self.label.casefold() == NONE:
            raise AnswersError(f"expected a class, got {self.label!r}; say no to each class instead")
        if self.verdict not in get_args(Verdict):
            raise AnswersError(f"expected one of {', '.join(get_args(Verdict))} as answer, got {self.verdict!r}")
        if self.who:
            check_text("who said it", self.who)
        if self.when is not None:
            utc(self.when)

    @property
    def pair(self) -> Pair:
        """The image and the class that it is about."""
        return self.id, self.label


@dataclass(frozen=True)
class Answer:
    """What was recorded. `number` is its place in the log, `when` is UTC, `act` is what it is undone with.

    audit   the image was asked about as part of the random audit of this class
    drawn   the classes that it was asked about so for: a "yes" to another class is a "no" to each of them
    """

    id: str
    label: str
    verdict: Verdict
    when: datetime
    who: str
    audit: bool
    number: int
    act: str
    digest: str = ""
    drawn: frozenset[str] = frozenset()

    @property
    def prototype(self) -> bool:
        """Whether it is about the image as an exemplar, and not about what it shows."""
        return self.verdict in PROTOTYPE


@dataclass(frozen=True)
class Imported:
    """What became of answers from elsewhere, but for those that held already.

    new     recorded
    older   left out, as something was answered since
    other   left out, as they are about other pictures than those that have their ids now
    refused left out, each as "line 5: why": they cannot be, or a later one of the same file contradicts them
    """

    new: int
    older: int = 0
    other: int = 0
    refused: Sequence[str] = ()

    def lines(self) -> Iterator[str]:
        """Yield what a person is told."""
        older = f"; {self.older:,} are older than what was answered since, and left out" if self.older else ""
        other = f"; {self.other:,} are about other pictures, and left out" if self.other else ""
        refused = f"; {len(self.refused):,} cannot be, and are left out:" if self.refused else ""
        yield f"{counted(self.new, 'new answer')}{older}{other}{refused}"
        yield from self.refused


class Rules(Protocol):
    """Which answers can be, in a run: every way of writing one asks here."""

    def complete(self, answer: NewAnswer) -> NewAnswer:
        """Return `answer` with the id and the digest of its image. Raises `AnswersError` where there is none."""

    def is_about_another(self, answer: NewAnswer) -> bool:
        """Whether an answer is about another picture than the one that has its id now."""

    def current_id(self, name: str, digest: str) -> str:
        """Return what the image that was called `name` is called now; `name` where it is not there."""

    def applying(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        """Return those of `answers` that are about the images and classes of the run, the last of each kind."""

    def faults(self, new: Sequence[NewAnswer], prototypes: Sequence[Answer]) -> dict[int, str]:
        """Return the places of those of `new` that contradict what holds, or one before them, and why.

        prototypes   what holds of exemplars and withdrawn ones
        """

    def contradictions(self, current: Sequence[Answer]) -> set[str]:
        """Return, in words, where answers that hold contradict the exemplars that stand."""

    def is_exemplar(self, pair: Pair, prototypes: Sequence[Answer]) -> bool:
        """Whether an image is an exemplar of a class, by the run or by an answer."""


@dataclass(frozen=True)
class Undo:
    """The record that all answers of `act` do not hold."""

    act: str
    when: datetime
    who: str
    number: int


def utc(when: datetime) -> datetime:
    """Return `when` in UTC. Raises `AnswersError` when it has no zone."""
    try:
        if when.utcoffset() is not None:
            return when.astimezone(UTC)
    except OverflowError:
        pass
    raise AnswersError(f"expected a time with its zone, such as 2026-05-01T12:00:00Z, got {when.isoformat()}")


def check_text(what: str, value: object) -> None:
    """Raise `AnswersError` unless `value` is text that is not empty and can be stored."""
    try:
        if isinstance(value, str) and value.encode():
            return
    except UnicodeEncodeError:
        pass
    raise AnswersError(f"expected {what} as text in UTF-8, got {value!a}")


def overruled(new: Sequence[NewAnswer]) -> dict[int, int]:
    """Return the places of those of `new` that a later one about the same image contradicts, each with its place.

    Yes and no to one class contradict each other, and yes to two: the last decides, by time where all of an image have
    one, else by place; of two that a single line or task says, none. What was answered at another time is no
    contradiction: somebody changed his mind.
    """
    images: dict[str, list[int]] = {}
    for place, one in enumerate(new):
        images.setdefault(one.id, []).append(place)
    found: dict[int, int] = {}
    for places in images.values():
        if all(new[place].when is not None for place in places):
            places.sort(key=lambda place: utc(cast(datetime, new[place].when)))
        last: list[int] = []
        for place in reversed(places):
            against = next((other for other in last if _contradict(new[place], new[other])), None)
            if against is None:
                last.append(place)
            else:
                found[place] = against
                if new[place].where and new[place].where == new[against].where:  # at once: neither is the last
                    found[against] = place
    return found


def _contradict(one: NewAnswer, other: NewAnswer) -> bool:
    if one.when is not None and other.when is not None and utc(one.when) != utc(other.when):
        return False
    if "withdrawn" in (one.verdict, other.verdict):
        return one.label == other.label and "exemplar" in (one.verdict, other.verdict)
    first, second = ("yes" if verdict == "exemplar" else verdict for verdict in (one.verdict, other.verdict))
    return first != second if one.label == other.label else first == second == "yes"
