"""Which answers can be given in a run: every way of writing one goes through here."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from holotype.answers.index import OTHER, current_exemplars, find_row, match_answers
from holotype.answers.records import Answer, NewAnswer, Pair
from holotype.errors import AnswersError, HolotypeError
from holotype.names import composed
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
    described classes that words describe: they need no exemplar
    check_run raises where the run is not there any more, or is another
    """

    pool: Pool
    classes: Sequence[str]
    given: Sequence[Exemplar]
    missing: NDArray[np.bool_] = field(repr=False)
    held_out: Collection[int] = ()
    described: Collection[str] = ()
    check_run: Callable[[], None] | None = None

    def complete(self, answer: NewAnswer) -> NewAnswer:
        """Return `answer` with the id and the digest of its image, and the class as it is written in the run.

        Raises `AnswersError` for an image or a class that is unknown.
        """
        if self.check_run is not None:
            self.check_run()
        answer = replace(answer, label=self._class(answer.label))
        if answer.verdict == "withdrawn" and any(one.row is None and one.name == answer.id for one in self.given):
            return answer
        row, why = find_row(self.pool, answer.id, answer.digest, longer=True)
        if why == OTHER:
            raise AnswersError(
                f"the answer about {answer.id!r} is about another picture than the one that has this id in "
                f"{self.pool.source}"
            )
        if row is None:
            raise AnswersError(f"expected the id of an image in {self.pool.source}, got {answer.id!r}")
        return replace(answer, id=self.pool.ids[row], digest=self.pool.digest(row))

    def _class(self, label: str) -> str:
        """The class that `label` names: as it is, else without blanks around it and in whichever form of Unicode."""
        if label in self.classes:
            return label
        alike = [name for name in self.classes if composed(name) == composed(label.strip())]
        if len(alike) == 1:
            return alike[0]
        raise AnswersError(f"expected one of the classes {', '.join(self.classes)}, got {label!r}")

    def is_about_another(self, answer: NewAnswer) -> bool:
        """Whether an answer is about another picture than the one that has its id now."""
        return find_row(self.pool, answer.id, answer.digest, longer=True)[1] == OTHER

    def current_id(self, name: str, digest: str) -> str:
        """Return what the image that was called `name` is called now; `name` where it is not there."""
        row, _ = find_row(self.pool, name, digest)
        return name if row is None else self.pool.ids[row]

    def faults(self, new: Sequence[NewAnswer], prototypes: Sequence[Answer]) -> dict[int, str]:
        """Return the places of those of `new` that contradict the exemplars that hold, those before it included.

        A class that no words describe keeps an exemplar: the last withdrawal that would leave it none is at fault.
        """
        before, kept = self._exemplars(prototypes), dict[int, str]()
        while True:
            found, after = self._go_through(new, before, kept)
            need = [k for k, name in enumerate(self.classes) if name not in self.described]
            empty = [self.classes[k] for k in need if all(one.label != k for one in after)]
            last = {
                one.label: place
                for place, one in enumerate(new)
                if one.verdict == "withdrawn" and one.label in empty and place not in found
            }
            if not last:
                return found
            kept |= {
                place: f"{label} has no other exemplar: add one before this one is withdrawn"
                for label, place in last.items()
            }

    def _go_through(
        self, new: Sequence[NewAnswer], exemplars: list[Exemplar], kept: Mapping[int, str]
    ) -> tuple[dict[int, str], list[Exemplar]]:
        """Return what is at fault in `new`, taken one after the other without those in `kept`, and who stands then."""
        found = dict(kept)
        for place, one in enumerate(new):
            try:
                if place not in kept:
                    exemplars = self._after(one, exemplars)
            except HolotypeError as error:
                found[place] = str(error)
        return found, exemplars

    def _after(self, one: NewAnswer, exemplars: list[Exemplar]) -> list[Exemplar]:
        """Return the exemplars after an answer. Raises `HolotypeError` where it contradicts them."""
        if one.verdict == "exemplar":
            return [*exemplars, *self._checked_exemplar(one, exemplars)]
        if one.verdict != "withdrawn":
            self._check_shown(one, exemplars)
            return exemplars
        left = [other for other in exemplars if (other.name, other.label) != self._place(one)]
        if len(left) == len(exemplars):
            raise AnswersError(f"expected an exemplar of {one.label}, got {one.id!r}")
        return left

    def contradictions(self, current: Sequence[Answer]) -> set[str]:
        """Return, in words, where answers that hold contradict the exemplars that stand."""
        if self.check_run is not None:
            self.check_run()
        stands = {(one.name, self.classes[one.label]): 0 for one in self.given}
        applying = match_answers(current, self.classes, self.pool, self.held_out).answers
        for one in applying:
            if one.verdict == "withdrawn":
                stands.pop((one.id, one.label), None)
            elif one.verdict == "exemplar":
                stands[one.id, one.label] = one.number
        found = {
            f"{name} would be an exemplar of {label} and of {other}"
            for name, label in stands
            for other in self.classes
            if label < other and (name, other) in stands
        }
        for one in applying:
            for label in self.classes:
                since = stands.get((one.id, label), one.number)
                if not one.prototype and since < one.number and (one.label == label) != (one.verdict == "yes"):
                    found.add(
                        f"{one.id} would be an exemplar of {label}, and {one.verdict} to {one.label} was answered"
                    )
        return found

    def applying(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        """Return those of `answers` that are about the images and classes of the run, the last of each kind."""
        return match_answers(answers, self.classes, self.pool).answers

    def is_exemplar(self, pair: Pair, prototypes: Sequence[Answer]) -> bool:
        """Whether an image is an exemplar of a class, by the run or by an answer."""
        place = pair[0], self.classes.index(pair[1])
        return any((one.name, one.label) == place for one in self._exemplars(prototypes))

    def _exemplars(self, prototypes: Sequence[Answer]) -> list[Exemplar]:
        applying = match_answers(prototypes, self.classes, self.pool, self.held_out).answers
        return current_exemplars(self.given, applying, self.classes, self.pool, self.described)

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
