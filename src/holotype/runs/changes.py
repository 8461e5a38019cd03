"""What is to be another in a run: images that are added, and classes that come, go or are called otherwise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from holotype.answers.records import Answer, NewAnswer, Verdict
from holotype.errors import AnswersError, HolotypeError
from holotype.names import same_name
from holotype.pool.exemplars import check_class_names
from holotype.runs.inputs import absolute
from holotype.settings import Addition, Settings
from holotype.stores.copies import address


@dataclass(frozen=True)
class RunChanges:
    """What is to be another in a run; what is so already stays as it is, so that it may be asked for again.

    images         that are added, each with its vectors where those of the run were supplied
    exemplars      class -> ids or paths; a class that is not there yet is a new one
    descriptions   class -> words that describe it, the same
    renamed        class -> what it is to be called; of two that are to be called the same, one class is made
    removed        classes that are taken away: what shows them is none of the others
    test_set       another one, as with other classes it must be
    """

    images: Sequence[Addition] = ()
    exemplars: Mapping[str, Sequence[str]] = field(default_factory=dict)
    descriptions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    removed: Sequence[str] = ()
    test_set: str | None = None

    def of(self, classes: Sequence[str]) -> "RunChanges":
        """Return these changes without what is so already in a run with these `classes`, each by its name there.

        Raises `HolotypeError` for a class that is not there, and for a name that cannot be taken.
        """
        check_class_names([*self.exemplars, *self.descriptions, *self.renamed.values()])
        return self._spelled_as(classes)._left_of(classes)

    def _spelled_as(self, classes: Sequence[str]) -> "RunChanges":
        """Return them with the form of Unicode that the names of `classes` have."""

        def spelled(name: str) -> str:
            return same_name(name, classes)

        return replace(
            self,
            exemplars={spelled(name): values for name, values in self.exemplars.items()},
            descriptions={spelled(name): values for name, values in self.descriptions.items()},
            renamed={spelled(old): spelled(new) for old, new in self.renamed.items()},
            removed=list(map(spelled, self.removed)),
        )

    def _left_of(self, classes: Sequence[str]) -> "RunChanges":
        for name in (*self.exemplars, *self.descriptions):
            if name in self.renamed or name in self.removed:
                raise HolotypeError(
                    f"{name!r} is to be renamed, or to be taken away, and exemplars or words are given for it: give "
                    "them for what it is called then, or do one after the other"
                )
        given = self.renamed.items()
        renamed = {old: new for old, new in given if (old in classes and old != new) or new not in classes}
        for old, new in renamed.items():
            if old not in classes:
                raise HolotypeError(f"expected one of the classes {', '.join(classes)}, got {old!r}")
            if new in classes:
                raise HolotypeError(
                    f"{new!r} is a class already, and an image that was said not to show it may show {old!r}: to make "
                    f"one class of both, give them a name that is new ({old}=NAME and {new}=NAME)"
                )
            if old in self.removed:
                raise HolotypeError(f"{old!r} is to be renamed, and to be taken away: give one of the two")
        removed = [name for name in dict.fromkeys(self.removed) if name in classes]
        return replace(self, renamed=renamed, removed=removed)

    def change(self, settings: Settings) -> Settings:
        """Return the settings of a run as they are to be, with whole paths; these are changes `of` its classes.

        Raises `HolotypeError` where no class is left.
        """
        exemplars = self._reassigned(settings.exemplars, self.exemplars)
        descriptions = self._reassigned(settings.descriptions, self.descriptions)
        if not exemplars:
            raise HolotypeError("no class would be left: give another one with --exemplar NAME=ID")
        added = absolute(settings.model_copy(update={"more": list(self.images)})).more
        known = set(absolute(settings).sources)
        more = [*settings.more, *(one for one in dict.fromkeys(added) if one.images not in known)]
        values = settings.model_dump() | {"exemplars": exemplars, "descriptions": descriptions}
        values |= {"more": [one.model_dump() for one in more]}
        values |= {} if self.test_set is None else {"test_set": address(self.test_set)}
        return Settings.parse(values)

    def _reassigned(self, given: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        kept = ((self.renamed.get(name, name), values) for name, values in given.items() if name not in self.removed)
        for name, values in (*kept, *new.items()):
            known = found.setdefault(same_name(name, found), [])
            known += [one for one in values if one not in known]
        return found

    def answers(self, held: Sequence[Answer], classes: Sequence[str], since: int = 0) -> Iterator[NewAnswer]:
        """Yield what is to be recorded so that the answers that hold say of the `classes` that are left what they can.

        Of a class that is called otherwise all holds, and what was asked about at random stays so. Of two that become
        one, what shows either shows it, and what shows neither does not; a random sample of one is none of both. What
        shows a class that is taken away shows none of the others.

        since   the number of the record up to which the run knows them: later ones about a new name are of an update
                that did not come to its end

        Raises `AnswersError` where the run knows answers about a new name: they were about another class.
        """
        names = list(self.renamed.values())
        if taken := {one.label for one in held if one.number <= since} & {*names}:
            raise AnswersError(
                f"there are answers about an earlier class {min(taken)!r}, which would count for this one: choose "
                "another name"
            )
        held = [one for one in held if one.label not in names]
        parts = {new: {old for old, name in self.renamed.items() if name == new} for new in names}
        shown = {_image(one): one.label for one in held if one.verdict in ("yes", "exemplar")}  # the last counts
        denied: dict[tuple[str, str, str], set[str]] = {}
        for one in held:
            new, shows = self.renamed.get(one.label), shown.get(_image(one))
            if one.verdict == "yes" and one.label == shows and one.label in self.removed:
                yield from (_said_again(one, label, "no") for label in classes)
            if new is None:
                continue
            is_shown = shows in parts[new]
            if one.verdict == "exemplar":
                yield _said_again(one, one.label, "withdrawn")  # else it would be one of a later class of that name
            if one.verdict in ("exemplar", "withdrawn"):
                yield from [_said_again(one, new, one.verdict)] if is_shown or one.verdict == "withdrawn" else []
            elif one.verdict == "yes" and is_shown:
                yield _said_again(one, new, "yes", alone=len(parts[new]) == 1)
            elif not is_shown:
                (said := denied.setdefault((*_image(one), new), set())).add(one.label)
                if said == parts[new]:
                    yield _said_again(one, new, "unsure" if one.verdict == "unsure" else "no", alone=len(said) == 1)


def _image(one: Answer) -> tuple[str, str]:
    return one.id, one.digest


def _said_again(one: Answer, label: str, verdict: Verdict, *, alone: bool = False) -> NewAnswer:
    """What was answered about an image, as an answer about the class `label`.

    alone   which is the old class and nothing besides, so that a random sample of this is one of that
    """
    audit = alone and (one.audit or one.label in one.drawn)
    return NewAnswer(one.id, label, verdict, one.who, audit, one.when, one.digest)
