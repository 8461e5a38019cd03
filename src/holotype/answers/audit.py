"""The random audit: answers that are never learnt from, and the exact bound that they give on a precision."""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0.6180339887498949  # of its multiples, any few lie well apart
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Audit:
    """A random sample of what a class holds: `yes` of `asked` images show it; `among` is how many it was drawn from.

    waiting   answered audits that do not count yet: images before them, in the order of the audit, have no answer
    missing   answers that are needed before all of those count
    """

    asked: int
    yes: int
    among: int
    waiting: int = 0
    missing: int = 0

    @property
    def needs(self) -> str:
        """Say what answered audits wait for; nothing where all count."""
        more = "1 image before them has" if self.missing == 1 else f"{self.missing:,} images before them have"
        return f"{self.waiting:,} answered, which count once {more} an answer too" if self.missing else ""

    @property
    def whole(self) -> bool:
        """Whether all that was found was looked at: what was wrong is out, and others may be missing."""
        return self.asked == self.among > 0

    @property
    def precision(self) -> float | None:
        """The share of the sample that shows the class; None without one."""
        return self.yes / self.asked if self.asked else None

    @property
    def low(self) -> float | None:
        """The precision that holds at the least, with 95 % confidence; None without a sample.

        So it is where all of a class was looked at: a person errs now and then.
        """
        return lower_bound(self.yes, self.asked) if self.asked else None


def in_percent(bound: float) -> int:
    """Return what holds at the least in percent: it is not rounded up."""
    return math.floor(100 * bound)


def lower_bound(yes: int, asked: int, confidence: float = CONFIDENCE) -> float:
    """Return the exact one-sided lower bound of a binomial share (Clopper and Pearson, Biometrika 1934)."""
    from scipy.special import betaincinv  # the quantile of a beta distribution, without all of scipy.stats

    return float(betaincinv(yes, asked - yes + 1, 1 - confidence)) if yes else 0.0


def permanent_random_numbers(count: int, key: str) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each of `count` rows, the same for the same `key`: who is audited first.

    Permanent random numbers (Ohlsson, 1995): as the set changes with what is learnt, those of its rows with the least
    numbers are a random sample of it at any time, and answers that were given stay in use.
    """
    seed = int.from_bytes(hashlib.sha256(f"audit {key}".encode()).digest()[:8], "big")
    return np.random.default_rng(seed).random(count)


def numbers_of(digests: Sequence[str]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each image, by its content: it stays when the pool changes. Copies have their own.

    They are permanent random numbers (see above): a SHA-256 is as good as random.
    """
    numbers = np.array([int(digest[:13] or "0", 16) for digest in digests], np.float64) / 16**13
    copies: Counter[str] = Counter()
    for row, digest in enumerate(digests if len({*digests}) < len(digests) else ()):
        numbers[row] = (numbers[row] + copies[digest] * _GOLDEN) % 1
        copies[digest] += 1
    return numbers


def audit_order(rows: NDArray[np.int64], numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return `rows` in the order in which they are audited."""
    return np.asarray(rows[np.argsort(numbers[rows], kind="stable")])


def audit(
    rows: NDArray[np.int64], numbers: NDArray[np.float64], known: Mapping[int, bool], audited: Collection[int]
) -> Audit:
    """Return what is known of the random sample of `rows`: in the order of the audit, up to the last audited.

    It ends before the first unknown, and at an audited row: what was learnt from is known to be right, and would
    lengthen the sample by its hits alone. Where all is known, it is all.

    rows    what a class holds by what was learnt, whatever the audit said; without images nobody could decide on
    known   row -> whether it shows the class. An image that was learnt from is among `rows` only after a "yes", and a
            false one that was audited stays among them: where this errs, the sample looks worse than the set.
    """
    sample: list[int] = []
    order = audit_order(rows, numbers).tolist()
    for row in order:
        if row not in known:
            break
        sample.append(row)
    while len(sample) < len(rows) and sample and sample[-1] not in audited:
        sample.pop()
    behind = order[len(sample) :]
    waiting = [place for place, row in enumerate(behind) if row in known and row in audited]
    missing = sum(row not in known for row in behind[: waiting[-1]]) if waiting else 0
    return Audit(len(sample), sum(known[row] for row in sample), len(rows), len(waiting), missing)
