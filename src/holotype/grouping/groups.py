"""From similarity to groups: each pool row joins a class, is doubtful, or is background, with the reason."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from holotype.grouping.premises import Premises
from holotype.grouping.ranking import Ranking
from holotype.grouping.space import Matrix, Space
from holotype.grouping.spread import robust_spread

Decision = Literal["exemplar", "member", "doubtful", "background", "missing"]
ScoreKind = Literal["cosine", "estimate"]
Strength = Literal["strong", "fair", "weak"]

# Of the estimate a band alone carries over to other pools. The formula gives at most .5 to the median member of a class
# that stands alone, and .19 to one so loose that the pool may hold nothing of it.
_STRONG, _FAIR = 0.3, 0.15

# An automatic cosine threshold is that of an empirical null (Efron, JASA 2004), and no more than a start: without
# diffusion it lets in far too many or too few ("without diffusion and views" in docs/results.md).
_AUTO_NULL = 1e-3  # share of a normal null that may pass it
_AUTO_LEAST = 5  # images that it lets in at the least: as many as the graph's cut does
NO_VECTORS = (
    "no image but the exemplars has a vector: the others are unreadable, or there are none; add images that other "
    "programs show, or copy these again"
)
_BLOCK = 10_000  # rows that are put into words at a time
_FOUND_FROM = ("", ", found from the exemplars", ", found from the surest images")  # by the round of the ranking


@dataclass(frozen=True)
class ClassThreshold:
    """A class's threshold, the lower edge of its doubtful band, and where both come from."""

    value: float
    doubtful: float
    basis: str
    provisional: bool


@dataclass(frozen=True)
class Groups:
    """One entry per pool row.

    classes      K names
    scores       (n, K) by `score_kind`, nan where the image has no vector
    label        (n,) int: the class whose margin is best; only members and exemplars belong to it
    decision     (n,) of Decision
    thresholds   K
    tie          (n,) bool: nearly as far above a second threshold
    rounds       (n,) int8: the round of the ranking in which a row was reached, 0 for none
    score_kind   what scores and thresholds are: cosine, or an estimated probability
    ranking      what the estimate rests on
    space        that the pool was compared in; None for its vectors as they are
    anchors      per class the unit vectors (exemplars of the class, dim) that it was compared with, before `space`
    copy_of      (n,) the row that each row is a copy of, its own where it is of none; None where nobody looked
    premises     what they rest on, where it was looked up; of those that a review starts from it is not known
    wide         in which answers are learnt, where the space was taken from groups before, or was fitted already
    """

    classes: Sequence[str]
    scores: NDArray[np.float32]
    label: NDArray[np.int64]
    decision: NDArray[np.str_]
    thresholds: Sequence[ClassThreshold]
    tie: NDArray[np.bool_]
    rounds: NDArray[np.int8]
    score_kind: ScoreKind = "cosine"
    ranking: Ranking | None = None
    space: Space | None = None
    anchors: Sequence[Matrix] = ()
    copy_of: NDArray[np.int64] | None = None
    premises: Premises | None = None
    wide: Space | None = None

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(n,) which images have no vector."""
        return np.asarray(np.isnan(self.scores).any(axis=1))

    @property
    def distinct(self) -> NDArray[np.bool_]:
        """(n,) which images are no copies of another."""
        rows = np.arange(len(self.decision))
        return np.asarray(rows == (rows if self.copy_of is None else self.copy_of))

    def members(self, label: int) -> NDArray[np.int64]:
        """Return the rows of class `label`, its exemplars included."""
        return np.flatnonzero((self.label == label) & np.isin(self.decision, ["member", "exemplar"]))

    def found(self, label: int) -> NDArray[np.int64]:
        """Return the members of class `label`: what was found, so its exemplars are none of them."""
        return np.flatnonzero((self.label == label) & (self.decision == "member"))

    def taken_for(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (rows,) the number of the class that each was taken for; K, "none", of the background.

        The doubtful, and those without a vector, have the class that they are nearest to.
        """
        return np.where(self.decision[rows] == "background", len(self.classes), self.label[rows])

    @property
    def background(self) -> NDArray[np.int64]:
        """Return the rows from which "none" may be learnt: the doubtful are left out."""
        return np.flatnonzero(self.decision == "background")

    def reason(self, row: int) -> str:
        """Return why `row` was decided as it was."""
        return self.reasons([row])[0]

    def reasons(self, rows: Sequence[int] | None = None) -> list[str]:
        """Return why `rows`, or all, were decided as they were: arrays, put into words only where they are read."""
        chosen = np.arange(len(self.decision)) if rows is None else np.asarray(rows, np.int64)
        blocks = (chosen[start : start + _BLOCK] for start in range(0, len(chosen), _BLOCK))
        return [text for block in blocks for text in self._words(block)]

    def _words(self, rows: NDArray[np.int64]) -> Iterator[str]:
        values = _values(self.thresholds).tolist()
        columns = (array[rows].tolist() for array in (self.label, self.decision, self.tie, self.scores, self.rounds))
        for k, what, tie, scores, turn in zip(*columns, strict=True):
            if what == "missing":
                yield "the image has no vector: it is unreadable"
            elif what == "exemplar":
                yield f"given as an exemplar of {self.classes[k]}"
            else:
                here = f"{self.classes[k]}: {self.score_kind} {scores[k]:.3f}, threshold {values[k]:.3f}"
                turned = _FOUND_FROM[turn] if turn else ""
                yield f"{here}{turned}{self._doubt(k, tie, scores, values) if what == 'doubtful' else ''}"

    def _doubt(self, k: int, tie: bool, scores: list[float], values: list[float]) -> str:
        if tie:
            others = [self.classes[j] for j, value in enumerate(values) if scores[j] >= value and j != k]
            return f"; nearly as far above the threshold of {', '.join(others)}"
        if scores[k] >= values[k]:
            return "; an exemplar of another class is nearer"
        bands = enumerate(threshold.doubtful for threshold in self.thresholds)
        return f"; within the doubtful band of {', '.join(self.classes[j] for j, edge in bands if scores[j] >= edge)}"


def thresholds_for(
    scores: NDArray[np.float32], threshold: float | Literal["auto"], band: float
) -> list[ClassThreshold]:
    """Return the cosine threshold of each class of `scores` (n, K).

    A number is taken as it is. "auto" takes the pool's own distribution: the cosine that a share of 1/1000 of a
    normal null (median and left-half deviation) would pass, and that at least five images reach. It is provisional:
    without labels no threshold can promise a precision. `band` is in the same deviations. Where there is no image to
    compare, the automatic one is .9999.
    """
    reach = NormalDist().inv_cdf(1 - _AUTO_NULL)
    found = []
    for column in scores.T:
        usable = column[~np.isnan(column)]
        median, deviation = robust_spread(usable) if len(usable) else (1.0, 0.0)
        if threshold != "auto":
            value, basis = float(threshold), "given"
        else:
            value = median + reach * deviation
            basis = f"provisional: median {median:.3f} + {reach:.1f} x deviation {deviation:.3f}"
            least = np.sort(usable)[-_AUTO_LEAST:].min(initial=1)
            if value > least:
                value, basis = float(least), f"provisional: the {_AUTO_LEAST} most similar images"
            value = min(value, 0.9999)
        found.append(ClassThreshold(value, value - band * deviation, basis, threshold == "auto"))
    return found


def group(
    classes: Sequence[str],
    scores: NDArray[np.float32],
    thresholds: Sequence[ClassThreshold],
    exemplars: Mapping[int, int],
    ambiguity: float,
    ranking: Ranking | None = None,
    score_kind: ScoreKind = "cosine",
) -> Groups:
    """Decide on every row.

    An image above several thresholds goes to the class with the greatest margin (score minus threshold), unless
    the next margin is equal or within `ambiguity`: then it is doubtful. exemplars: pool row -> class.

    ranking   what the scores rest on, where it is known. Each class is measured by its own surest images, which proves
              nothing where its exemplars are like none: in a loose class an image is doubtful where an exemplar of
              another is nearer
    """
    margins = scores - _values(thresholds)
    known: NDArray[np.bool_] = np.asarray(~np.isnan(scores).any(axis=1))
    ordered = np.sort(np.where(known[:, None], margins, -np.inf), axis=1)[:, ::-1]
    label = np.where(known[:, None], margins, -np.inf).argmax(axis=1)
    if ranking is not None:
        unreached = known & (scores.max(axis=1) == 0)
        label[unreached] = ranking.cosine[unreached].argmax(axis=1)
    above: NDArray[np.bool_] = known & (ordered[:, 0] >= 0)
    tie = above & _second_is_close(ordered, ambiguity)
    near = known & ~above & (scores >= [t.doubtful for t in thresholds]).any(axis=1)
    decision = np.full(len(scores), "background", dtype="<U10")
    decision[above] = "member"
    decision[near | tie] = "doubtful"
    if ranking is not None:
        nearest = np.nan_to_num(ranking.cosine, nan=-1).argmax(axis=1)
        decision[above & ranking.loose[label] & (label != nearest)] = "doubtful"
    decision[~known] = "missing"
    for row, own in exemplars.items():
        decision[row], label[row] = "exemplar", own
    rounds = np.zeros(len(scores), np.int8) if ranking is None else _rounds(ranking, label)
    return Groups(classes, scores, label, decision, thresholds, tie, rounds, score_kind, ranking)


def strength_basis(trusted: bool) -> str:
    """Say what the strength of a group rests on; `trusted`: whether the group follows answers."""
    if trusted:
        return "by a model that learnt from the answers"
    return "by how its images are connected with each other and with the rest"


@dataclass(frozen=True)
class Estimate:
    """What a ranking, or what was learnt from answers, says about one class: no guarantee.

    found                members, without the exemplars
    estimated_precision  the mean of their scores; nan without members. On a new pool it may be off fivefold, so people
                         are shown its band alone (`strength`)
    estimated_size       the sum of the scores, and the exemplars; no less a guess
    below, tied          images left out as doubtful: just below the cut, and nearly as far inside another class
    confused             (class, images) that most images are in reach of as well; None where no image is
    """

    found: int
    estimated_precision: float
    estimated_size: float
    below: int
    tied: int
    confused: tuple[str, int] | None

    @property
    def strength(self) -> Strength:
        """How well what was found hangs together; "weak" also where nothing was found."""
        if self.estimated_precision >= _STRONG:
            return "strong"
        return "fair" if self.estimated_precision >= _FAIR else "weak"


def estimates(groups: Groups, answered: NDArray[np.int64] | None = None) -> list[Estimate]:
    """Return what is estimated about each class; nothing where the groups come from cosine thresholds.

    answered   rows that people decided, which are certain
    """
    if groups.score_kind == "cosine":
        return []
    scores, count = _informed(groups, answered), len(groups.classes)
    decision, edges = groups.decision, [threshold.doubtful for threshold in groups.thresholds]
    near = (scores >= np.array(edges, np.float32)) & (decision != "exemplar")[:, None]
    above = (scores >= _values(groups.thresholds)).sum(axis=1) > 1
    found = []
    for k in range(count):
        own = groups.label == k
        members, doubtful = own & (decision == "member"), own & (decision == "doubtful")
        both = {groups.classes[j]: int((near[:, k] & near[:, j]).sum()) for j in range(count) if j != k}
        worst = max(both.items(), key=lambda pair: pair[1], default=("", 0))
        found.append(
            Estimate(
                int(members.sum()),
                float(scores[members, k].mean()) if members.any() else float("nan"),
                float(scores[decision != "exemplar", k].sum()) + float((own & (decision == "exemplar")).sum()),
                int((doubtful & ~above).sum()),
                int((doubtful & above).sum()),
                worst if worst[1] else None,
            )
        )
    return found


def _informed(groups: Groups, answered: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """The scores (n, K), certain where answers decided; 0 without a vector."""
    scores = np.nan_to_num(groups.scores)
    if answered is None:
        return scores
    inside, outside = (answered[groups.decision[answered] == what] for what in ("member", "background"))
    scores[inside] = np.eye(len(groups.classes), dtype=np.float32)[groups.label[inside]]
    scores[outside] = 0
    return scores


def group_ranked(
    classes: Sequence[str], ranking: Ranking, exemplars: Mapping[int, int], band: float, ambiguity: float
) -> Groups:
    """Decide on every row by what the exemplars reach: inside a class's cut, it is a member.

    The scores are estimated probabilities, 0 out of reach. Doubtful is what is below the cut, and above the estimate
    there halved `band` times.
    """
    scores = np.where(np.isnan(ranking.cosine), np.nan, 0).astype(np.float32)
    scores[ranking.candidates] = ranking.probabilities
    thresholds = [
        ClassThreshold(limit, limit * 0.5**band, f"provisional: {_basis(ranking, k)}", True)
        for k, limit in enumerate(ranking.limits.tolist())
    ]
    return group(classes, scores, thresholds, exemplars, ambiguity, ranking, "estimate")


def _basis(ranking: Ranking, k: int) -> str:
    again = ", after a second search from the surest images found" if ranking.rounds[k] > 1 else ""
    return f"the group ends where it stands apart best: {said_of_connections(ranking, k)}{again}"


def said_of_connections(ranking: Ranking, k: int) -> str:
    """Say how far the images of class `k` are connected with others."""
    outside = 100 * ranking.cuts[k].conductance
    return f"{outside:.0f} % of the connections of its images to similar ones lead outside"


def _rounds(ranking: Ranking, label: NDArray[np.int64]) -> NDArray[np.int8]:
    """The round in which each pool row came into the cut of its class, 0 where it is outside."""
    found = np.zeros(len(label), np.int8)
    places, own = np.arange(len(ranking.candidates)), label[ranking.candidates]
    last = np.array(ranking.rounds, np.int8)[own]
    turn = np.where(ranking.first[places, own], np.int8(1), last)
    found[ranking.candidates] = np.where(ranking.inside()[places, own], turn, 0)
    return found


def _values(thresholds: Sequence[ClassThreshold]) -> NDArray[np.float32]:
    """The thresholds in the precision of the scores."""
    return np.array([threshold.value for threshold in thresholds], np.float32)


def _second_is_close(ordered: NDArray[np.float32], ambiguity: float) -> NDArray[np.bool_]:
    if ordered.shape[1] == 1:
        return np.zeros(len(ordered), dtype=bool)
    with np.errstate(invalid="ignore"):
        apart = ordered[:, 0] - ordered[:, 1]
        close: NDArray[np.bool_] = (ordered[:, 1] >= 0) & ((apart < ambiguity) | (apart == 0))
    return close
