"""Promises: how precise a class is, at the least, where a model gives it with a probability from a threshold on.

A fixed sequence of thresholds is tested from the strict end, and the first that is not proven ends it (Learn then
Test, Angelopoulos et al. 2021; selection with guaranteed risk, Geifman and El-Yaniv 2017). It is fixed by the model
alone, and what is tested with is a random sample, so a promise holds with its confidence whatever the probabilities
are.

How many rows of a sample may be wrong is fixed for every size that it may grow to (`sample_sizes`): one may look after
each answer, stop at any, and go on later. So answers that were given before count, and no look needs to be counted.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

PRECISION, ANSWERS = 0.95, 60
_FIRST_GOAL = 63 / 64  # of the chance to err: the first precision that is asked of a class; the others share the rest
_NO_ERROR = 15 / 16  # of that: a sample without a wrong row. So 60 of 60 prove .95, as 59 would if nobody looked again
_GROWTH = 1.1  # from one set of the sequence to the next
_FEW, _SMALL = (
    20,
    300,
)  # rows that are the least to begin with; up to which sets grow row by row, where all is looked at
_DOUBT = 2.0  # images are taken to be wrong so many times as often as the model says, where the sequence begins
_STRICT = 100  # rows at the most whose mean probability tells what the model is sure of
_FALL = 0.5  # of that and of the precision, below which no image is tested: there the class is at its end
_REFERENCE = 0.05  # the chance to err with which the first set is chosen
_HOPELESS = 0.01  # chance of so many wrong rows at the precision that is asked for, from which on nobody is asked more
_COUNTS = 4  # numbers of wrong rows that are computed together at the least
_MOST_WRONG = 256  # up to which it is computed how many answers would do
_GRID = 100  # bounds are in percent


@dataclass(frozen=True)
class Goal:
    """What is to be proven: a `precision`, with a chance of at most `level` that it is claimed and not so."""

    precision: float
    level: float

    @classmethod
    def of(cls, precision: float, confidence: float, together: int = 1, place: int = 0) -> "Goal":
        """Return the goal of one class.

        together   classes that are promised at once: all promises hold with the confidence (Bonferroni)
        place      how many other precisions were asked for of this class before: each is one more chance to err
        """
        return cls(precision, (1 - confidence) / together * _share(place, _FIRST_GOAL))


def _share(place: int, first: float) -> float:
    """Return parts of 1: the `first`, and then less and less, as 1 / 2, 1 / 6, 1 / 12, ... of the rest."""
    return first if place == 0 else (1 - first) / (place * (place + 1))


@dataclass(frozen=True)
class TopSet:
    """The images that a model gives a class with a probability of `threshold` or more.

    rows   in the order in which they are drawn: any first ones are a random sample
    """

    threshold: float
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def shown(self, known: Mapping[int, bool]) -> list[bool]:
        """Return what is known of its rows, up to the first of which nothing is."""
        found = list[bool]()
        for row in self.rows.tolist():
            if row not in known:
                break
            found.append(known[row])
        return found


@dataclass(frozen=True)
class Look:
    """What was seen of a set: `yes` of the first `asked` rows show the class."""

    top: TopSet
    asked: int
    yes: int


@dataclass(frozen=True)
class Finding:
    """What can be promised of a class, and what it would take to promise more.

    reached   the largest part with the precision that was asked for; None where there is none
    sample    rows that this rests on
    next      the part after it, as far as it was looked at; None where all were reached
    low       the precision of `next` that holds at the least
    wanted    rows to ask about, in the order in which they are needed
    more      how many answers about `next` would do if all of them were "yes"; None where none would
    likely    how many, if as many are "yes" as so far
    enough    rows that are looked at in all, then
    """

    reached: Look | None
    sample: Sequence[int]
    next: Look | None = None
    low: float = 0.0
    wanted: Sequence[int] = ()
    more: int | None = None
    likely: int | None = None
    enough: int | None = None


def random_numbers(model: str, digests: Sequence[str]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each image, by its content and the digest of a model: who is drawn first.

    A model may have learnt from answers to the audit, whose numbers stay with the images. These are as good as new for
    each model, and the same whenever its promises are looked at: the answers of one class and time serve the others.
    """
    copies: Counter[str] = Counter()
    numbers = np.empty(len(digests))
    for row, digest in enumerate(digests):
        found = hashlib.sha256(f"certify {model} {digest} {copies[digest]}".encode()).digest()
        numbers[row] = int.from_bytes(found[:8], "big") / 2**64
        copies[digest] += 1
    return numbers


def parts_of(
    probabilities: NDArray[np.float64],
    k: int,
    eligible: NDArray[np.bool_],
    numbers: NDArray[np.float64],
    precision: float,
) -> list[TopSet]:
    """Return the parts of class `k` that are tested one after the other, the strictest first, each a part of the next.

    They depend on the probabilities and the precision alone. The first is where most images are to be expected that
    the least sample proves, if the model errs twice as often as it says; rows of one probability stay together.

    probabilities   (n, K + 1), "none" last: an image counts for the likeliest of the K classes
    eligible        (n,) which rows a promise is about
    """
    rows = np.flatnonzero(eligible & (probabilities[:, :-1].argmax(axis=1) == k))
    chance = probabilities[rows, k]
    order = np.argsort(-chance, kind="stable")
    rows, chance = rows[order], chance[order]
    drawn = np.argsort(numbers[rows], kind="stable")
    return [TopSet(float(chance[size - 1]), rows[drawn[drawn < size]]) for size in _sizes(chance, precision)]


def _sizes(chance: NDArray[np.float64], precision: float) -> list[int]:
    """Return how many of the likeliest rows each part has; `chance` falls."""
    strict = math.ceil(min(1 / max(1 - precision, 1e-9), _STRICT))  # rows of which one may be wrong
    count = int((chance >= _FALL * precision * chance[:strict].mean()).sum()) if len(chance) else 0
    ends = np.append(np.flatnonzero(np.diff(chance[:count])) + 1, count)
    need = math.log(_REFERENCE) / math.log(precision) if precision < 1 else math.inf  # answers, all of them "yes"
    found, least = list[int](), strict if count > strict else _FEW
    if count > need:  # else nearly all is looked at anyway
        right = np.maximum(np.cumsum(chance)[ends - 1] / ends, 1e-300)
        worth = np.log(ends) + _DOUBT * need * np.log(right)
        least = int(ends[np.where(ends < need, -np.inf, worth).argmax()])
    for end in ends.tolist() if count else ():
        if end >= least or end == count:
            found.append(end)
            least = end + 1 if end < min(need, _SMALL) else math.ceil(end * _GROWTH)
    return found


def decide(parts: Sequence[TopSet], known: Mapping[int, bool], goal: Goal, answers: int = ANSWERS) -> Finding:
    """Return what can be promised of a class by what is known.

    parts     that are tested, the strictest first (`parts_of`)
    known     row -> whether it shows the class; whoever said so, and whenever, as it holds now
    answers   rows that may be looked at in all, those known before included
    """
    reached, sample, next_ = None, dict[int, None](), None
    shown: list[bool] = []
    for part in parts:
        shown = part.shown(known)
        passed = _passes(shown, len(part), goal)
        if passed is None:
            next_ = Look(part, len(shown), sum(shown))
            break
        reached = Look(part, passed, sum(shown[:passed]))
        sample |= dict.fromkeys(part.rows[:passed].tolist())
    if next_ is None:
        return Finding(reached, list(sample))
    low, order = _low(shown, len(next_.top), goal.level), next_.top.rows
    if _is_hopeless(next_, goal):
        return Finding(reached, list(sample), next_, low)
    wanted = _wanted(parts, known, goal, answers)
    more, likely = (None if size is None else order[:size].tolist() for size in _needed(next_, goal))
    return Finding(
        reached,
        list(sample),
        next_,
        low,
        wanted,
        None if more is None else sum(row not in known for row in more),
        None if likely is None else sum(row not in known for row in likely),
        None if likely is None else len({*sample, *likely}),
    )


def _wanted(parts: Sequence[TopSet], known: Mapping[int, bool], goal: Goal, answers: int) -> list[int]:
    """Return the rows to ask about, as many as the parts need that can be reached if all of them are right."""
    looked, wanted = set[int](), list[int]()
    for part in parts:
        rows = part.rows[:answers].tolist()
        passed = _passes([known.get(row, True) for row in rows], len(part), goal)
        if passed is None or len(looked.union(rows[:passed])) > answers:
            break
        wanted += [row for row in rows[:passed] if row not in known and row not in looked]
        looked.update(rows[:passed])
    return wanted


def _is_hopeless(look: Look, goal: Goal) -> bool:
    """Whether so many were wrong that more answers will hardly prove the precision."""
    from scipy.special import bdtr

    wrong, part = look.asked - look.yes, look.top
    if wrong >= _too_many(len(part), goal.precision):
        return True
    return wrong > 0 and float(bdtr(look.yes, look.asked, goal.precision)) < _HOPELESS


def _needed(look: Look, goal: Goal) -> tuple[int | None, int | None]:
    """Return how large a sample of a part would do, if all others were right, and if as many as so far."""
    wrong, asked = look.asked - look.yes, look.asked
    rate, counts = wrong / asked if asked else 0.0, _COUNTS
    while True:
        counts = max(counts, 1 << wrong.bit_length())
        sizes = sample_sizes(len(look.top), goal.precision, goal.level, counts)
        likely = [n for may_be, n in enumerate(sizes) if may_be >= wrong and wrong + (n - asked) * rate <= may_be]
        if likely or len(sizes) < counts or counts > _MOST_WRONG:
            return (sizes[wrong] if wrong < len(sizes) else None), (likely[0] if likely else None)
        counts *= 2


def _low(shown: Sequence[bool], size: int, level: float) -> float:
    """Return the greatest precision, in whole percent, that what was shown of a part proves.

    Parts before it have the precision that was asked for, so a claim below that about this one is no further test.
    """
    least, above = 0, _GRID
    while above - least > 1:
        middle = (least + above) // 2
        if _passes(shown, size, Goal(middle / _GRID, level)) is None:
            above = middle
        else:
            least = middle
    return least / _GRID


def _passes(shown: Sequence[bool], size: int, goal: Goal) -> int | None:
    """Return after how many rows of a sample, in order, the goal is proven; None where it is not."""
    wrong = np.cumsum(~np.asarray(shown, bool))
    if not len(wrong):
        return None
    counts = max(_COUNTS, 1 << int(wrong[-1]).bit_length())
    sizes = sample_sizes(size, goal.precision, goal.level, counts)
    return next((n for may_be, n in enumerate(sizes) if n <= len(wrong) and wrong[n - 1] <= may_be), None)


def _too_many(size: int, precision: float) -> int:
    """Return the least number of wrong rows with which `size` rows have not the precision."""
    wrong = max(math.floor(size * (1 - precision)) - 1, 0)
    while (size - wrong) / size >= precision:
        wrong += 1
    return wrong


@lru_cache(maxsize=8192)
def sample_sizes(size: int, precision: float, level: float, counts: int) -> tuple[int, ...]:
    """Return the sizes of a sample at which 0, 1, 2, ... of its rows may be wrong: then the precision is proven.

    Of `size` rows with a lower precision, drawn one after the other, the chance that any of this is ever so is at most
    `level`: each size is the least at which the chance to come to it with so many wrong rows, and to have passed with
    none fewer, is at most its share of the level. The chances are exact (hypergeometric), for the least number of wrong
    rows that is too many: with more of them they are less. For a greater precision no size is less.
    """
    too_many = _too_many(size, precision)
    wrong = np.arange(min(counts, too_many))
    chance = np.zeros(len(wrong))  # of so many wrong rows so far, without having passed
    chance[0] = 1.0
    found = list[int]()
    for drawn in range(size):
        is_wrong = (too_many - wrong) / (size - drawn)
        chance[1:] = chance[1:] * (1 - is_wrong[1:]) + chance[:-1] * is_wrong[:-1]
        chance[0] *= 1 - is_wrong[0]
        while len(found) < len(wrong) and chance[len(found)] <= level * _share(len(found), _NO_ERROR):
            chance[len(found)] = 0.0
            found.append(drawn + 1)
        if len(found) == len(wrong):
            break
    return tuple(found)
