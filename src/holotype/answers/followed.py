"""The answers that apply, followed record by record: for each new one, thousands need not be read again."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from holotype.answers.index import MatchedAnswers, match_answers, placed
from holotype.answers.records import Answer, Undo
from holotype.pool.pool import Pool

_Kind = tuple[str, str, bool]  # image and class, and whether it is about an exemplar


class FollowedAnswers:
    """What `match_answers` says of all that holds in a log, after each `follow` of what was recorded since.

    seen        the number of the last record
    seen_drawn  the number of the last draw for the audit
    undone      the number of the last record that took something back
    """

    def __init__(self, classes: Sequence[str], pool: Pool, held_out: Collection[int] = ()) -> None:
        self.seen = self.seen_drawn = self.undone = 0
        self._classes, self._pool, self._held_out = classes, pool, frozenset(held_out)
        self._acts: dict[str, set[str]] = {}  # the images that each is about
        self._undone: set[str] = set()
        self._about: dict[str, list[Answer]] = {}  # by image, as it is called now: what was recorded and is not undone
        self._drawn: dict[str, frozenset[str]] = {}  # by what an image was called
        self._called: dict[str, set[str]] = {}  # the images that were called so
        self._matched: dict[str, MatchedAnswers] = {}  # by image
        self._last: dict[_Kind, Answer] = {}  # in order of recording
        self._reasons: Counter[str] = Counter()

    def follow(self, records: Iterable[Answer | Undo], drawn: Iterable[tuple[int, str, str]] = ()) -> MatchedAnswers:
        """Take the `records` after `seen`, and what was `drawn` after `seen_drawn`; return what applies then."""
        images: dict[str, None] = {}
        for record in records:
            self.seen = record.number
            images |= dict.fromkeys(self._undo(record) if isinstance(record, Undo) else self._add(record))
        for self.seen_drawn, name, label in drawn:
            images |= dict.fromkeys(self._draw(name, label))
        last, new = next(reversed(self._last.values()), None), list[Answer]()
        for image in images:
            new += self._match(image)
        new.sort(key=_number)
        self._last |= {_kind(one): one for one in new}
        if new and last is not None and new[0].number < last.number:
            self._last = {_kind(one): one for one in sorted(self._last.values(), key=_number)}
        return MatchedAnswers(list(self._last.values()), +self._reasons)

    def _add(self, answer: Answer) -> Iterable[str]:
        """Return the images about which something else may apply now."""
        if answer.act in self._undone:
            return ()
        found = placed(answer, self._classes, self._pool, self._held_out)
        image = answer.id if isinstance(found, str) else found.id
        self._about.setdefault(image, []).append(answer)
        self._acts.setdefault(answer.act, set()).add(image)
        called = self._called.setdefault(answer.id, set())
        called.add(image)
        before, self._drawn[answer.id] = self._drawn.get(answer.id), answer.drawn
        return (image,) if answer.drawn == before else called

    def _draw(self, name: str, label: str) -> Iterable[str]:
        if name not in self._drawn:  # nothing was said of it: what will be comes with its classes
            return ()
        self._drawn[name] |= {label}
        return self._called[name]

    def _undo(self, record: Undo) -> Iterable[str]:
        self.undone = record.number
        self._undone.add(record.act)
        images = self._acts.pop(record.act, set())
        for image in images:
            self._about[image] = [one for one in self._about[image] if one.act != record.act]
        return images

    def _match(self, image: str) -> list[Answer]:
        """Match anew what is said about an image; return those that are in no order yet."""
        current = {(one.id, one.label, one.prototype, one.digest): one for one in self._about[image]}
        said = [replace(one, drawn=self._drawn[one.id]) for one in sorted(current.values(), key=_number)]
        before = self._matched.get(image, MatchedAnswers([], {}))
        after = self._matched[image] = match_answers(said, self._classes, self._pool, self._held_out)
        self._reasons.subtract(before.set_aside)
        self._reasons.update(after.set_aside)
        stays = {_kind(one): one for one in after.answers}
        new = []
        for kind, number in {_kind(one): one.number for one in before.answers}.items():
            if kind not in stays or stays[kind].number != number:
                del self._last[kind]
        for kind, one in stays.items():
            if kind in self._last:
                self._last[kind] = one
            else:
                new.append(one)
        return new


def _kind(answer: Answer) -> _Kind:
    return answer.id, answer.label, answer.prototype


def _number(answer: Answer) -> int:
    return answer.number
