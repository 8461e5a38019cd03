"""Answers by the rows of a pool: which of them apply to it, and what they say of each class."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.answers.records import Answer
from holotype.pool.exemplars import Exemplar
from holotype.pool.pool import Pool

_WORDS = {
    "yes": "was said to show {}",
    "no": "was said not to show {}",
    "unsure": "nobody could tell whether it shows {}",
    "exemplar": "was made an exemplar of {}",
}


GONE = "about an image that is not in the pool"
OTHER = "about another picture than the one that has its id now"
OTHER_CLASS = "about a class that is not among those of the run"
TESTED = "about an image of the test set, or nearly the same"


@dataclass(frozen=True)
class MatchedAnswers:
    """The `answers` that apply to a pool and its classes, in order of recording; `set_aside`: why others do not.

    Each bears the id that its image has now.
    """

    answers: Sequence[Answer]
    set_aside: Mapping[str, int]

    @property
    def count(self) -> int:
        """How many there are in all."""
        return len(self.answers) + sum(self.set_aside.values())

    def explain(self) -> str:
        """Say how many decide nothing, and why; nothing where none is so."""
        return "; ".join(f"{count:,} set aside: {why}" for why, count in self.set_aside.items())

    def __str__(self) -> str:
        aside = self.explain()
        return f"{len(self.answers):,} of {self.count:,} apply; {aside}" if aside else f"{self.count:,}"

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        return {"applying": len(self.answers), "set_aside": dict(self.set_aside)}


def find_row(pool: Pool, name: str, digest: str = "", *, longer: bool = False) -> tuple[int | None, str]:
    """Return the row of the image that an answer is about; None and why (`GONE`, `OTHER`) where there is none.

    It is about the picture that has the `digest`, under whichever name; without one, about what has the `name`. Of
    several images of one content it is that of the name, else the first: an answer decides one row, so that the audit
    stays a sample of rows.

    longer   a path of which an end is an id means that image, as people may write it; in the log it is an exemplar from
             outside the pool
    """
    row = pool.rows.get(name)
    row = pool.find(name, longer=longer) if row is None else row
    if row is not None and (not digest or digest == pool.digest(row)):
        return row, ""
    moved = pool.by_digest.get(digest) if digest else None
    if moved is not None:
        return moved, ""
    return None, GONE if row is None else OTHER


def match_answers(
    answers: Iterable[Answer], classes: Sequence[str], pool: Pool, held_out: Collection[int] = ()
) -> MatchedAnswers:
    """Return those of `answers` that apply to `pool`, the last of each kind about an image and a class.

    An answer is about a picture (`find_row`), and what was once drawn for the audit stays so under any name.

    held_out   rows of a test set, and what is nearly the same: answers about them decide nothing
    """
    kept: dict[tuple[str, str, bool], Answer] = {}
    drawn: dict[str, frozenset[str]] = {}
    reasons: Counter[str] = Counter()
    closed = set(held_out)
    for answer in answers:
        found = placed(answer, classes, pool, closed)
        if isinstance(found, str):
            reasons[found] += 1
        else:
            drawn[found.id] = drawn.get(found.id, frozenset()) | found.drawn
            kept.pop(key := (found.id, found.label, found.prototype), None)
            kept[key] = found
    return MatchedAnswers([_drawn_for(one, drawn[one.id]) for one in kept.values()], reasons)


def _drawn_for(one: Answer, drawn: frozenset[str]) -> Answer:
    audit = one.audit or one.label in drawn
    return one if (one.drawn, one.audit) == (drawn, audit) else replace(one, drawn=drawn, audit=audit)


def placed(answer: Answer, classes: Sequence[str], pool: Pool, held_out: Collection[int]) -> Answer | str:
    """Return an answer with the id that its image has now, or why it does not apply."""
    if answer.label not in classes:
        return OTHER_CLASS
    row, why = find_row(pool, answer.id, answer.digest)
    if row is None:  # an exemplar from outside the pool can be withdrawn
        return answer if answer.verdict == "withdrawn" and why == GONE else why
    if row in held_out:
        return TESTED
    return answer if answer.id == pool.ids[row] else replace(answer, id=pool.ids[row])


def current_exemplars(
    given: Sequence[Exemplar],
    answers: Iterable[Answer],
    classes: Sequence[str],
    pool: Pool,
    described: Collection[str] = (),
) -> list[Exemplar]:
    """Return the exemplars `given`, with those that `answers` add, without those that they withdraw.

    The last exemplar of a class stays, unless words describe the class too (`described`). An image stands for one
    class: the first.
    """
    found, withdrawn = list(given), list[Exemplar]()
    for answer in answers:
        if answer.label not in classes:
            continue
        k, row = classes.index(answer.label), pool.rows.get(answer.id)
        if answer.verdict == "exemplar" and row is not None and all(one.row != row for one in found):
            found.append(Exemplar(answer.id, k, row, pool.read(row)))
        elif answer.verdict == "withdrawn":
            withdrawn += [one for one in found if (one.name, one.label) == (answer.id, k)]
            found = [one for one in found if one not in withdrawn]
    needed = [one for one in withdrawn if classes[one.label] not in described]
    last = {one.label: one for one in needed if all(other.label != one.label for other in found)}
    return found + [last[k] for k in sorted(last)]


@dataclass(frozen=True)
class AnswerCounts:
    """How many answers of each kind there are about a class, those of the audit included.

    trusted   whether the class follows them beyond the images that were answered
    """

    yes: int
    no: int
    unsure: int
    trusted: bool = False

    @property
    def answers(self) -> int:
        """All of them."""
        return self.decided + self.unsure

    @property
    def decided(self) -> int:
        """Those that were yes or no."""
        return self.yes + self.no


@dataclass(frozen=True)
class AnswerIndex:
    """What was answered about images of a pool, by row.

    positive   per class the rows that show it; `negative` those that do not; `unsure` those nobody could tell
    audited    per class the rows that were asked about as the audit, which are not learnt from
    words      row -> what was answered, in words
    counts     per class how often each answer was given, before one about another class decided
    drawn      those of `audited` that were asked about themselves; of the others a copy was
    """

    positive: Sequence[NDArray[np.int64]]
    negative: Sequence[NDArray[np.int64]]
    unsure: Sequence[NDArray[np.int64]]
    audited: Sequence[NDArray[np.int64]]
    words: Mapping[int, str]
    counts: Sequence[AnswerCounts]
    drawn: Sequence[NDArray[np.int64]]

    def learnable(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of `positive` and of `negative` that class `k` is learnt from: those that were no audits."""
        audited = self.audited[k]
        return np.setdiff1d(self.positive[k], audited), np.setdiff1d(self.negative[k], audited)


def index_answers(
    answers: Iterable[Answer], classes: Sequence[str], rows: Mapping[str, int], held_out: Collection[int] = ()
) -> AnswerIndex:
    """Sort `answers` by class and row; those about other images or classes, or rows `held_out`, are left out.

    An image shows one class: "yes" to one is "no" to the others, and of two the last counts. What was made an exemplar
    is learnt from, whatever it was asked for. What was withdrawn as one shows what else was answered about it.
    """
    last = _last(answers, classes, rows, set(held_out))
    owner = {row: k for (row, k), answer in last.items() if answer.verdict in ("yes", "exemplar")}
    parts: dict[str, list[list[int]]] = {
        name: [[] for _ in classes] for name in ("positive", "negative", "unsure", "audited")
    }
    for (row, k), answer in last.items():
        part = {"unsure": "unsure", "no": "negative"}.get(answer.verdict, "positive")
        parts["negative" if part == "positive" and owner[row] != k else part][k].append(row)
        if _is_audit(answer):
            parts["audited"][k].append(row)
    for row, k in owner.items():
        for other in range(len(classes)):
            if other != k and (row, other) not in last:
                parts["negative"][other].append(row)
                if _is_audit(last[row, k]) or classes[other] in last[row, k].drawn:
                    parts["audited"][other].append(row)
    arrays = {name: [np.array(sorted(one), np.int64) for one in lists] for name, lists in parts.items()}
    verdicts = [[answer.verdict for (_, j), answer in last.items() if j == k] for k in range(len(classes))]
    counts = [AnswerCounts(one.count("yes"), one.count("no"), one.count("unsure")) for one in verdicts]
    return AnswerIndex(**arrays, words=_all_words(last, owner), counts=counts, drawn=arrays["audited"])


def _last(
    answers: Iterable[Answer], classes: Sequence[str], rows: Mapping[str, int], held_out: Collection[int]
) -> dict[tuple[int, int], Answer]:
    """What decides about each row and class: the last that says what the image shows, a withdrawn exemplar aside."""
    shows: dict[tuple[int, int], Answer] = {}
    exemplars: dict[tuple[int, int], Answer] = {}
    for answer in answers:
        row = rows.get(answer.id)
        if row is None or row in held_out or answer.label not in classes:
            continue
        key = row, classes.index(answer.label)
        if answer.verdict == "withdrawn":
            exemplars.pop(key, None)
        else:
            kind = exemplars if answer.verdict == "exemplar" else shows
            kind.pop(key, None)
            kind[key] = answer
    both = sorted([*shows.items(), *exemplars.items()], key=lambda item: item[1].number)
    last: dict[tuple[int, int], Answer] = {}
    for key, answer in both:
        last.pop(key, None)
        last[key] = answer
    return last


def _is_audit(answer: Answer) -> bool:
    return answer.audit and answer.verdict != "exemplar"


def _all_words(last: Mapping[tuple[int, int], Answer], owner: Mapping[int, int]) -> dict[int, str]:
    """What was answered about each row: the "yes" where there is one, else all of it."""
    words: dict[int, list[str]] = {}
    for (row, k), answer in last.items():
        if owner.get(row, k) == k:
            words.setdefault(row, []).append(_in_words(answer))
    return {row: "; ".join(parts) for row, parts in words.items()}


def _in_words(answer: Answer) -> str:
    by = f" by {answer.who}" if answer.who else ""
    return f"{_WORDS[answer.verdict].format(answer.label)}{by}"
