"""What is answered about an image and a class.

An answer is one of two statements, and of each kind the last counts. "yes", "no" and "unsure" say whether the image
shows the class; "exemplar" and "withdrawn" whether it is a good picture to find others by. An exemplar shows its class;
a withdrawn one may still do so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol, get_args

from holotype.errors import AnswersError
from holotype.model.predictions import NONE

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

    Raises `AnswersError` for what no answer can be.
    """

    id: str
    label: str
    verdict: Verdict
    who: str = ""
    audit: bool = False
    when: datetime | None = None
    digest: str = ""

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
    """

    new: int
    older: int = 0
    other: int = 0


class Rules(Protocol):
    """Which answers can be, in a run: every way of writing one asks here."""

    def complete(self, answer: NewAnswer) -> NewAnswer:
        """Return `answer` with the digest of its image. Raises `AnswersError` for an image or class that is unknown."""

    def is_about_another(self, answer: NewAnswer) -> bool:
        """Whether an answer is about another picture than the one that has its id now."""

    def applying(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        """Return those of `answers` that are about the images and classes of the run, the last of each kind."""

    def check(self, new: Sequence[NewAnswer], prototypes: Sequence[Answer]) -> None:
        """Raise `AnswersError` where one of `new` contradicts what holds, or one before it.

        prototypes   what holds of exemplars and withdrawn ones
        """

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
