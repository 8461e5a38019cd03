"""Which images of a pool are copies of one another: whatever their number, they are one point, and share a decision."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.encode import l2_normalize
from holotype.grouping.groups import Groups
from holotype.grouping.search import Search
from holotype.vectors.embeddings import Embeddings

# How far apart images are is measured as 1 - cosine, as a share of the 90th percentile of the pool's squared distances
# from its mean. The same pixels are within 2e-5, whatever computed and kept their vectors. Pictures that were enlarged,
# or saved again as JPEG of quality 95, are within .02 (EfficientNet-Lite0); of 40,173 drawings of emoji and icons no
# two are within .03.
_SAME, _NEAR = 2e-5, 0.03
_SPREAD = 90
_CROWD = 30  # near copies, as many as the neighbours in the graph: more would have none but each other
_ROUNDING = 1e-6  # the cosine of a vector with itself may be less than 1 by so much
_MOST = 16_384  # images among which near copies are looked for: a limit of time, as all pairs are compared
_NUMBERS = 2**26  # of their vectors: a limit of memory
_DIRECTIONS = 64  # in which they are compared first: those of the greatest variance
_SAMPLE = 512  # images that the directions come from
_BLOCK = 1024

Rows = NDArray[np.int64]
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Copies:
    """Which images are copies.

    copy_of   (n,) the pool row that each row is a copy of, its own where it is of none; an exemplar comes first
    exemplar  (n, K) bool: is a copy of an exemplar of a class, or one itself
    """

    copy_of: Rows
    exemplar: NDArray[np.bool_]

    @property
    def distinct(self) -> NDArray[np.bool_]:
        """(n,) which rows stand for themselves."""
        return np.asarray(self.copy_of == np.arange(len(self.copy_of)))

    def without(self, search: Search) -> Search:
        """Return `search` with one image in place of all its copies."""
        if self.distinct.all():
            return search
        scores = search.scores.copy()
        scores[~self.distinct] = np.nan
        exemplars = [
            one if one.row is None else replace(one, row=int(self.copy_of[one.row])) for one in search.exemplars
        ]
        return replace(search, exemplars=exemplars, embeddings=search.embeddings.only(self.distinct), scores=scores)

    def share(self, groups: Groups, exemplar_rows: Mapping[int, int]) -> Groups:
        """Return `groups`, which are those of the images `without` copies, with the decisions given to all copies.

        A copy of an exemplar is a member of its class; of exemplars of two classes, it is doubtful.
        """
        first, ranking = self.copy_of, groups.ranking
        scores, label = groups.scores[first], groups.label[first]
        decision, tie = groups.decision[first], groups.tie[first]
        copies, alike = self.exemplar[first], self.exemplar[first].sum(axis=1)
        scores[copies] = 1
        label = np.where(alike > 0, copies.argmax(axis=1), label)
        tie = np.where(alike > 0, alike > 1, tie)
        decision[alike == 1], decision[alike > 1] = "member", "doubtful"
        for row, own in exemplar_rows.items():
            scores[row], label[row], decision[row], tie[row] = groups.scores[first[row]], own, "exemplar", False
        return replace(
            groups,
            scores=scores,
            label=label,
            decision=decision,
            tie=tie,
            rounds=groups.rounds[first],
            copy_of=first,
            ranking=None if ranking is None else replace(ranking, cosine=ranking.cosine[first]),
        )


def find_copies(search: Search, copy_of: Rows | None = None) -> Copies:
    """Find the images of a search that are copies of each other, and of exemplars.

    Equal vectors are found in the whole pool. Those that are nearly equal are looked for among the 16,384 images (fewer
    of more than 4,096 dimensions) that are most like an exemplar: the same to the last digits are copies in any case,
    and pictures that hardly differ where more than 30 are like the first of them, which would shut each other in.

    copy_of   see `Copies`, where it is known
    """
    exemplars = np.array(list(search.exemplar_rows), np.int64)
    first = _equal(search.embeddings, exemplars) if copy_of is None else copy_of
    rows = _distinct_rows(search, first, exemplars)
    vectors = search.embeddings.take(rows)
    spread = _spread(vectors)
    if copy_of is None:
        renamed = np.arange(len(first))
        renamed[rows] = rows[_leaders(vectors, spread)]
        first = renamed[first]
    exemplar = np.zeros((len(first), len(search.classes)), bool)
    for k, queries in enumerate(search.queries):
        if not len(queries):
            continue  # words alone describe it
        exemplar[rows, k] = (vectors @ l2_normalize(queries).T).max(axis=1) >= 1 - _radius(_SAME, spread)
    exemplar = exemplar[first]
    for row, own in search.exemplar_rows.items():
        exemplar[first[row], own] = True
    return Copies(first, exemplar)


def _equal(embeddings: Embeddings, exemplars: Rows) -> Rows:
    """Return (n,) for each row the first with the same vector, of which `exemplars` come first."""
    first, digests = np.arange(embeddings.size), dict[bytes, int]()
    found = np.empty(embeddings.size, object)
    for rows, block in embeddings.stored():
        plain = np.ascontiguousarray(np.where(block == 0, np.zeros((), block.dtype), block))  # -0 is 0
        for row, vector in zip(rows.tolist(), plain, strict=True):
            found[row] = hashlib.blake2b(vector, digest_size=16).digest()
    present = embeddings.present
    for row in [*exemplars[present[exemplars]].tolist(), *np.flatnonzero(present).tolist()]:
        first[row] = digests.setdefault(found[row], row)
    return first


def _distinct_rows(search: Search, first: Rows, exemplars: Rows) -> Rows:
    """Return the rows among which near copies are looked for, exemplars first."""
    there = np.flatnonzero(search.embeddings.present & (first == np.arange(len(first))))
    own, others = there[np.isin(there, exemplars)], there[~np.isin(there, exemplars)]
    most = max(min(_MOST, _NUMBERS // search.embeddings.dim) - len(own), 0)
    if len(others) > most:
        nearest = np.argsort(-search.scores[others].max(axis=1), kind="stable")[:most]
        others = np.sort(others[nearest])
    return np.concatenate([own, others])


def _spread(vectors: Matrix) -> float:
    """Return the squared distance from the mean that most of `vectors` are within."""
    if not len(vectors):
        return 0.0
    return float(np.percentile(np.square(vectors - vectors.mean(axis=0)).sum(axis=1), _SPREAD))


def _radius(share: float, spread: float) -> float:
    return max(share * spread, _ROUNDING)


def _leaders(vectors: Matrix, spread: float) -> Rows:
    """Return (m,) for each of `vectors` the first that it is a copy of: its own place where it is of none."""
    leads = np.arange(len(vectors))
    near = _suspects(vectors, _radius(_NEAR, spread))
    found = _lead(vectors[near], _radius(_NEAR, spread))
    few = np.bincount(found, minlength=len(near))[found] <= _CROWD
    leads[near[~few]] = near[found[~few]]
    leads[near[few]] = near[few][_lead(vectors[near[few]], _radius(_SAME, spread))]
    return leads


def _suspects(vectors: Matrix, radius: float) -> Rows:
    """Return the places of the `vectors` that have another within `radius` in the directions of greatest variance."""
    if len(vectors) < 2:
        return np.empty(0, np.int64)
    centred = vectors - vectors.mean(axis=0)
    sample = centred[:: max(len(centred) // _SAMPLE, 1)]
    axes = np.linalg.qr(sample.T @ np.linalg.eigh(sample @ sample.T)[1][:, -_DIRECTIONS:])[0]
    moved = centred @ axes
    half, ones = np.square(moved).sum(axis=1, keepdims=True) / 2, np.ones((len(moved), 1), np.float32)
    # the product of the two is half of the squared distance, which is no greater than 1 - cosine
    left, right = np.concatenate([moved, half, ones], axis=1), np.concatenate([-moved, ones, half], axis=1)
    least = np.full(len(vectors), np.inf, np.float32)
    for start in range(0, len(left), _BLOCK):
        apart = left[start : start + _BLOCK] @ right[start:].T
        np.fill_diagonal(apart, np.inf)
        np.minimum(least[start:], apart.min(axis=0), out=least[start:])
        least[start : start + len(apart)] = np.minimum(least[start : start + len(apart)], apart.min(axis=1))
    near = least <= radius + _ROUNDING
    return np.flatnonzero(near)


def _lead(vectors: Matrix, radius: float) -> Rows:
    """Return (m,) for each of `vectors` the first within `radius` of it that has none before itself."""
    leads, heads = np.arange(len(vectors)), np.empty(0, np.int64)
    for start in range(0, len(vectors), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(vectors)))
        if len(heads):
            close = vectors[rows] @ vectors[heads].T >= 1 - radius
            leads[rows] = np.where(close.any(axis=1), heads[close.argmax(axis=1)], rows)
        free = rows[leads[rows] == rows]
        close = vectors[free] @ vectors[free].T >= 1 - radius
        for place, row in enumerate(free):
            if leads[row] == row:
                after = free[place + 1 :]
                leads[after[close[place, place + 1 :] & (leads[after] == after)]] = row
        heads = np.append(heads, free[leads[free] == free])
    return leads
