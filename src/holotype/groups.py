"""From similarity to groups: each pool row joins a class, is doubtful, or is background, with the reason."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from holotype.errors import GroupError

Decision = Literal["exemplar", "member", "doubtful", "background", "missing"]

_AUTO_NULL = 1e-3  # share of a normal null that may pass an automatic threshold
_AUTO_LEAST = 5  # images that an automatic threshold lets in at the least
_BLOCK = 10_000  # rows that are put into words at a time


@dataclass(frozen=True)
class Threshold:
    """A class's cosine threshold, the lower edge of its doubtful band, and where both come from."""

    value: float
    doubtful: float
    basis: str
    provisional: bool


@dataclass(frozen=True, eq=False)
class Reasons(Sequence[str]):
    """Why each of n rows was decided as it was: arrays, put into words only where a row is looked at.

    tie  (n,) bool: nearly as far above a second threshold; the other fields are those of `Groups`
    """

    classes: Sequence[str]
    scores: NDArray[np.float32]
    label: NDArray[np.int64]
    decision: NDArray[np.str_]
    tie: NDArray[np.bool_]
    thresholds: Sequence[Threshold]

    def __len__(self) -> int:
        return len(self.decision)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return list(self._words(range(len(self))[index]))
        row = range(len(self))[index]
        return next(self._words(range(row, row + 1)))

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _BLOCK):
            yield from self._words(range(start, min(start + _BLOCK, len(self))))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reasons | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list

    def _words(self, rows: range) -> Iterator[str]:
        values = _values(self.thresholds).tolist()
        columns = (array[rows].tolist() for array in (self.label, self.decision, self.tie, self.scores))
        for own, what, tie, cosines in zip(*columns, strict=True):
            if what == "missing":
                yield "the image has no vector: it is unreadable"
            elif what == "exemplar":
                yield f"given as an exemplar of {self.classes[own]}"
            else:
                here = f"{self.classes[own]}: cosine {cosines[own]:.3f}, threshold {values[own]:.3f}"
                yield f"{here}{self._doubt(own, tie, cosines, values) if what == 'doubtful' else ''}"

    def _doubt(self, own: int, tie: bool, cosines: list[float], values: list[float]) -> str:
        if tie:
            others = [self.classes[k] for k, value in enumerate(values) if cosines[k] >= value and k != own]
            return f"; nearly as far above the threshold of {', '.join(others)}"
        bands = enumerate(threshold.doubtful for threshold in self.thresholds)
        return f"; within the doubtful band of {', '.join(self.classes[k] for k, edge in bands if cosines[k] >= edge)}"


@dataclass(frozen=True)
class Groups:
    """One entry per pool row.

    classes     K names
    scores      (n, K) cosine, nan where the image has no vector
    label       (n,) int: the class whose margin is best; only members and exemplars belong to it
    decision    (n,) of Decision
    reasons     (n,) in words, which `Reasons` finds when they are read
    thresholds  K
    """

    classes: Sequence[str]
    scores: NDArray[np.float32]
    label: NDArray[np.int64]
    decision: NDArray[np.str_]
    reasons: Sequence[str]
    thresholds: Sequence[Threshold]

    def members(self, label: int) -> NDArray[np.int64]:
        """Return the rows of class `label`, its exemplars included."""
        return np.flatnonzero((self.label == label) & np.isin(self.decision, ["member", "exemplar"]))

    @property
    def prior(self) -> NDArray[np.float64]:
        """(K + 1,) share of the pool in each group; the last is the rest, the doubtful included."""
        sizes = np.array([len(self.members(k)) for k in range(len(self.classes))], dtype=np.float64)
        sizes = np.append(sizes, max(len(self.decision) - sizes.sum(), 1))
        shares: NDArray[np.float64] = sizes / sizes.sum()
        return shares

    @property
    def background(self) -> NDArray[np.int64]:
        """Return the rows from which "none" may be learnt: the doubtful are left out."""
        return np.flatnonzero(self.decision == "background")


def robust_spread(scores: NDArray[np.float32]) -> tuple[float, float]:
    """Return median and standard deviation, the latter from the left half alone: positives lie on the right."""
    median = float(np.median(scores))
    left = scores[scores <= median]
    return median, float(np.sqrt(np.mean((left - median) ** 2))) or 1e-6


def thresholds_for(scores: NDArray[np.float32], threshold: float | Literal["auto"], band: float) -> list[Threshold]:
    """Return the threshold of each class of `scores` (n, K).

    A number is taken as it is. "auto" takes the pool's own distribution: the cosine that a share of 1/1000 of a
    normal null (median and left-half deviation) would pass, and that at least five images reach. It is provisional:
    without labels no threshold can promise a precision. `band` is in the same deviations. Raises `GroupError` when
    there is no image to compare.
    """
    if not len(scores) or np.isnan(scores).all():
        raise GroupError("no image but the exemplars has a vector: the others are unreadable, or there are none")
    reach = NormalDist().inv_cdf(1 - _AUTO_NULL)
    found = []
    for column in scores.T:
        usable = column[~np.isnan(column)]
        median, deviation = robust_spread(usable)
        if threshold != "auto":
            value, basis = float(threshold), "given"
        else:
            value = median + reach * deviation
            basis = f"provisional: median {median:.3f} + {reach:.1f} x deviation {deviation:.3f}"
            least = np.sort(usable)[-min(_AUTO_LEAST, len(usable))]
            if value > least:
                value, basis = float(least), f"provisional: the {_AUTO_LEAST} most similar images"
            value = min(value, 0.9999)
        found.append(Threshold(value, value - band * deviation, basis, threshold == "auto"))
    return found


def group(
    classes: Sequence[str],
    scores: NDArray[np.float32],
    thresholds: Sequence[Threshold],
    exemplars: dict[int, int],
    ambiguity: float,
) -> Groups:
    """Decide on every row.

    An image above several thresholds goes to the class with the greatest margin (cosine minus threshold), unless
    the next margin is equal or within `ambiguity`: then it is doubtful. exemplars: pool row -> class.
    Raises `GroupError` when a class has no image but its exemplars.
    """
    margins = scores - _values(thresholds)
    known: NDArray[np.bool_] = np.asarray(~np.isnan(scores).any(axis=1))
    ordered = np.sort(np.where(known[:, None], margins, -np.inf), axis=1)[:, ::-1]
    label = np.where(known[:, None], margins, -np.inf).argmax(axis=1)
    above: NDArray[np.bool_] = known & (ordered[:, 0] >= 0)
    tie = above & _second_is_close(ordered, ambiguity)
    near = known & ~above & (scores >= [t.doubtful for t in thresholds]).any(axis=1)
    decision = np.full(len(scores), "background", dtype="<U10")
    decision[above] = "member"
    decision[near | tie] = "doubtful"
    decision[~known] = "missing"
    for row, own in exemplars.items():
        decision[row], label[row] = "exemplar", own
    reasons = Reasons(classes, scores, label, decision, tie, thresholds)
    groups = Groups(classes, scores, label, decision, reasons, thresholds)
    _refuse_empty(groups, exemplars)
    return groups


def _values(thresholds: Sequence[Threshold]) -> NDArray[np.float32]:
    """The thresholds in the precision of the scores."""
    return np.array([threshold.value for threshold in thresholds], np.float32)


def _second_is_close(ordered: NDArray[np.float32], ambiguity: float) -> NDArray[np.bool_]:
    if ordered.shape[1] == 1:
        return np.zeros(len(ordered), dtype=bool)
    with np.errstate(invalid="ignore"):
        apart = ordered[:, 0] - ordered[:, 1]
        close: NDArray[np.bool_] = (ordered[:, 1] >= 0) & ((apart < ambiguity) | (apart == 0))
    return close


def _refuse_empty(groups: Groups, exemplars: dict[int, int]) -> None:
    for number, name in enumerate(groups.classes):
        if np.any(groups.decision[groups.members(number)] == "member"):
            continue
        nearest = np.nanmax(np.delete(groups.scores[:, number], list(exemplars)))
        threshold = groups.thresholds[number].value
        taken = ", but is as far above the threshold of another class" if nearest >= threshold else ""
        raise GroupError(
            f"no image but the exemplar is in the group of {name!r} at threshold {threshold:.3f}; the most similar "
            f"image has a cosine of {nearest:.3f}{taken}. "
            "Lower --threshold, take --threshold auto, or give more exemplars"
        )
