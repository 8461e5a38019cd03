"""Which answers can be given in a run: every way of writing one goes through here."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from holotype.answers.index import current_exemplars, match_answers
from holotype.answers.records import Answer, NewAnswer, Pair
from holotype.errors import AnswersError
from holotype.pool.exemplars import Exemplar
from holotype.pool.images import decode
from holotype.pool.pool import Pool


@dataclass(frozen=True)
class AnswerRules:
    """What can be answered about the images of `pool`.

    classes   K names
    given     the exemplars of the run, before any answer
    missing   (n,) bool: images without a vector, which no exemplar can be
    held_out  rows of a test set and what is nearly the same, which no exemplar can be
    """

    pool: Pool
    classes: Sequence[str]
    given: Sequence[Exemplar]
    missing: NDArray[np.bool_] = field(repr=False)
    held_out: Collection[int] = ()

    def complete(self, answer: NewAnswer) -> NewAnswer:
        """Return `answer` with the digest of its image. Raises `AnswersError` for an image or class that is unknown."""
        if answer.label not in self.classes:
            raise AnswersError(f"expected one of the classes {', '.join(self.classes)}, got {answer.label!r}")
        row = self.pool.rows.get(answer.id)
        if row is None:
            if answer.verdict == "withdrawn" and any(one.name == answer.id for one in self.given):
                return answer
            raise AnswersError(f"expected the id of an image in {self.pool.source}, got {answer.id!r}")
        if self.is_about_another(answer):
            raise AnswersError(
                f"the answer about {answer.id!r} is about another picture than the one that has this id in "
                f"{self.pool.source}; nothing was recorded"
            )
        return replace(answer, digest=self.pool.digest(row))

    def is_about_another(self, answer: NewAnswer) -> bool:
        """Whether an answer is about another picture than the one that has its id now."""
        row = self.pool.rows.get(answer.id)
        return bool(answer.digest) and row is not None and answer.digest != self.pool.digest(row)

    def check(self, new: Sequence[NewAnswer], prototypes: Sequence[Answer]) -> None:
        """Raise `AnswersError` where one of `new` contradicts the exemplars that hold, those before it included."""
        exemplars = self._exemplars(prototypes)
        for one in new:
            if one.verdict == "withdrawn":
                if not any((other.name, other.label) == self._place(one) for other in exemplars):
                    raise AnswersError(f"expected an exemplar of {one.label}, got {one.id!r}; nothing was recorded")
                exemplars = [other for other in exemplars if (other.name, other.label) != self._place(one)]
            elif one.verdict == "exemplar":
                exemplars = [*exemplars, *self._checked_exemplar(one, exemplars)]
            else:
                self._check_shown(one, exemplars)
        for k, label in enumerate(self.classes):
            if all(other.label != k for other in exemplars):
                raise AnswersError(f"{label} has no other exemplar: add one before this one is withdrawn")

    def applying(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        """Return those of `answers` that are about the images and classes of the run, the last of each kind."""
        return match_answers(answers, self.classes, self.pool).answers

    def is_exemplar(self, pair: Pair, prototypes: Sequence[Answer]) -> bool:
        """Whether an image is an exemplar of a class, by the run or by an answer."""
        place = pair[0], self.classes.index(pair[1])
        return any((one.name, one.label) == place for one in self._exemplars(prototypes))

    def _exemplars(self, prototypes: Sequence[Answer]) -> list[Exemplar]:
        applying = match_answers(prototypes, self.classes, self.pool, self.held_out).answers
        return current_exemplars(self.given, applying, self.classes, self.pool)

    def _place(self, one: NewAnswer) -> tuple[str, int]:
        return one.id, self.classes.index(one.label)

    def _checked_exemplar(self, one: NewAnswer, exemplars: Sequence[Exemplar]) -> list[Exemplar]:
        """Return the exemplar that an answer adds; none where it is one already."""
        (name, k), row = self._place(one), self.pool.rows[one.id]
        data = self.pool.read(row)
        decode(data, fit=64)
        if self.missing[row]:
            raise AnswersError(f"{name} has no vector to be compared with: choose another exemplar")
        if row in self.held_out:
            raise AnswersError(f"{name} is of the test set, or nearly the same as one of it: choose another exemplar")
        owners = [other.label for other in exemplars if other.row == row]
        if any(label != k for label in owners):
            raise AnswersError(f"{name} is an exemplar of {self.classes[owners[0]]}: withdraw it there first")
        return [] if owners else [Exemplar(name, k, row, data)]

    def _check_shown(self, one: NewAnswer, exemplars: Sequence[Exemplar]) -> None:
        """Refuse an answer that contradicts an exemplar."""
        name, k = self._place(one)
        for other in exemplars:
            if other.name == name and (other.label == k) != (one.verdict == "yes"):
                raise AnswersError(f"{name} is an exemplar of {self.classes[other.label]}: withdraw it there first")
