"""From the exemplars along the graph of the pool: which images are reached, where a class ends, and how sure that is.

Each stage can be switched off by name (`settings.RankSettings`): a space (space.py), a closer look at the exemplars
(`search.Search.pictures`), diffusion on the graph of mutual neighbours among the candidates, and one round of
self-training that starts the walks again from the surest images too.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from holotype.grouping.departure import SILENT, Departure, Hearing, Mass, even, listen
from holotype.grouping.ranking import Cut, Ranking, inside
from holotype.grouping.search import cosine as cosine_to
from holotype.grouping.search import joined
from holotype.grouping.space import Matrix, Space, fit_space, mutual_neighbours
from holotype.grouping.words import WordScores, found_first
from holotype.progress import Step, no_step
from holotype.settings import RankSettings
from holotype.vectors.embeddings import Embeddings

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Where the comment does not say otherwise, `python -m benchmarks.constants` varies a constant on development classes.
_FEWEST, _MOST = 1000, 5000  # candidates of a class: a twentieth of the pool, within these; the most is a limit of time
_MOST_IN_ALL = (
    30_000  # candidates of all classes by pictures: a limit of memory and time (`python -m benchmarks.scale`)
)
_NEIGHBOURS = 30
_SHARPNESS = 3  # an edge weighs cosine ** 3, as in Iscen et al., CVPR 2017
_RESTART = 0.1
_STEPS = 60  # a limit of time: what is left to come is .9 ** 60, .002 of the whole
_FALL = (0.6, 0.3)  # a class ends where the density has fallen to between these, of that of the third best image
_FARTHEST = 0.04  # of that density: a class that stands alone is followed to here
_REACH = 1e-4  # of that density: what is below is out of reach
_ALONE = 0.02  # conductance below which a class stands alone, and is cut farther out
_APART = 0.001  # below which it is followed as far as the walks reach
_THIRD = 2
_LEAST = 5  # images of a class at the least, if so many are reached
_SUREST = 40  # images that self-training starts from
_NEGATIVES = 2000
_RIDGE = 0.003
_MARGIN = 0.2  # decades of density that a deviation of the ridge's score is worth
_BY_WORDS = 0.5  # so many times as many are nearest to the words of a class that are heard: docs/tried.md#words
_FAITH = 0.4  # of the mass of the second round stays with the exemplars


@dataclass(frozen=True)
class Graph:
    """Mutual nearest neighbours of m images.

    weights   sparse (m, m), symmetric: cosine ** 3
    degree    (m,) sums of the weights
    steps     `weights`, normalised on both sides by the root of the degree
    """

    weights: "csr_array"
    degree: Mass
    steps: "csr_array"


@dataclass(frozen=True)
class _Field:
    """Where walks go: exemplars, and the candidates around them.

    candidates   (m,) pool rows
    owners       (e,) the class of each exemplar
    vectors      (e + m, d) unit vectors, those of the exemplars first
    graph        of all of these
    largest      candidates that a class may hold: farther out, the graph ends as if the class did
    """

    candidates: NDArray[np.int64]
    owners: NDArray[np.int64]
    vectors: Matrix
    graph: Graph
    largest: int

    def own(self, k: int) -> NDArray[np.int64]:
        """The nodes that stand for class `k`."""
        return np.flatnonzero(self.owners == k)

    def walk(self, departure: Departure) -> "_Reach":
        """Return what walks reach: where they are, and where the class ends."""
        count, seeds = len(self.owners), departure.seeds
        density = diffuse(self.graph, seeds) / np.sqrt(self.graph.degree)
        third = np.sort(density[count:])[-_THIRD - 1 :].min(initial=np.inf)
        density /= max(float(third), 1e-12)
        density[count:] = departure.in_order(density[count:])
        cut = sweep_cut(self.graph, density, np.flatnonzero(seeds[:count]), count, self.largest)
        return _Reach(self, departure, density[count:], cut)


@dataclass(frozen=True)
class _Reach:
    """What walks reach in a field from where they start: `density` (m,) of the candidates, and the `cut`."""

    field: _Field
    departure: Departure
    density: Mass
    cut: Cut

    def again(self, sample: Matrix, held_out: Collection[int]) -> "_Reach":
        """Return what walks reach that start from the surest images too, if these stayed with the class."""
        field = self.field
        free = ~np.isin(field.candidates, list(held_out))
        seeds = _surer(self.density, self.departure.seeds, field.vectors, sample, free)
        after = field.walk(replace(self.departure, seeds=seeds))
        return after if _holds(self.cut, after.cut) else self

    def at(self, rows: NDArray[np.int64]) -> Mass:
        """Return the density at pool rows, 0 at those that are no candidates."""
        density = np.zeros(len(rows))
        _, places, there = np.intersect1d(self.field.candidates, rows, assume_unique=True, return_indices=True)
        density[there] = self.density[places]
        return density

    def within(self, candidates: NDArray[np.int64]) -> tuple[Mass, Cut]:
        """Return density and cut among `candidates`, ordered pool rows: those of the field, and maybe more."""
        if candidates is self.field.candidates:
            return self.density, self.cut
        places = np.searchsorted(candidates, self.field.candidates)
        density = np.zeros(len(candidates))
        density[places] = self.density
        return density, replace(self.cut, rows=places[self.cut.rows])


def rank(
    embeddings: Embeddings,
    pictures: Sequence[Matrix],
    exemplar_rows: Collection[int],
    settings: RankSettings,
    *,
    seed: int = 0,
    space: Space | None = None,
    held_out: Collection[int] = (),
    said: WordScores | None = None,
    step: Step = no_step,
) -> Ranking:
    """Rank the pool for each class. It has pictures, or words that `said` knows of, or both.

    A class with both has what its pictures reach. Where its words describe that, it is ranked again with what these
    find beside; where they do not, they change nothing.

    pictures        per class the unit vectors (exemplars of the class, dim) of its exemplars
    exemplar_rows   pool rows of exemplars, which are no candidates
    space           where it is known already
    held_out        pool rows of a test set: they are ranked, and self-training takes no label from them
    said            what words say of the pool, where there are any
    step            called at the end of each of about five steps, and of two for each class
    """
    space = space or fit_space(embeddings, settings.space, seed, step)
    starts = joined(pictures, said)
    cosine = cosine_to(embeddings, starts, space)
    sample = _sample(embeddings, space, seed, held_out)
    step()
    field = _explore(embeddings, space, starts, _candidates(cosine, exemplar_rows, len(starts)))
    step()
    first = []
    for k in range(len(starts)):
        first.append(field.walk(Departure(even(field.own(k), len(field.vectors)))))
        step()
    hearings = [SILENT] * len(first) if said is None else _listen(first, pictures, said, {*exemplar_rows, *held_out})
    heard = np.array([hearing.share > 0 for hearing in hearings])
    if said is not None and heard.any():
        field = _with_words(embeddings, space, field, pictures, said, heard, exemplar_rows)
        for k in np.flatnonzero(heard).tolist():
            seen, told = np.split(field.own(k), [len(pictures[k])])
            scores = said.pool[field.candidates, k]
            first[k] = field.walk(hearings[k].depart(seen, told, len(field.vectors), scores))
    found = list(first)
    if settings.self_training:
        for k, reach in enumerate(first):
            found[k] = reach.again(sample, held_out)
            step()
    rounds = [1 if after is before else 2 for before, after in zip(first, found, strict=True)]
    before = inside([reach.within(field.candidates)[1] for reach in first], len(field.candidates))
    density, cuts = zip(*(reach.within(field.candidates) for reach in found), strict=True)
    agreement = np.array([hearing.agreement for hearing in hearings])
    return Ranking(space, cosine, field.candidates, np.stack(density, axis=1), cuts, rounds, before, agreement, heard)


def _explore(embeddings: Embeddings, space: Space, starts: Sequence[Matrix], candidates: NDArray[np.int64]) -> _Field:
    """Return the field of `candidates` around what each class starts from, unit vectors before `space`."""
    owners = np.repeat(np.arange(len(starts)), [len(own) for own in starts])
    vectors = space.transform(np.concatenate([*starts, embeddings.take(candidates)]))
    largest = max(_among(len(embeddings.rows)) // 2, _LEAST)
    return _Field(candidates, owners, vectors, build_graph(vectors, len(owners)), largest)


def _listen(
    reached: Sequence[_Reach], pictures: Sequence[Matrix], said: WordScores, left_out: Collection[int]
) -> list[Hearing]:
    """Return how far the words of each class describe what its pictures reached.

    left_out   rows whose images decide nothing of that
    """
    found = [SILENT] * len(reached)
    for k, reach in enumerate(reached):
        if len(pictures[k]) and len(said.anchors[k]):
            scores, candidates = said.pool[:, k], reach.field.candidates
            first = found_first(scores, left_out)
            members = scores[candidates[reach.cut.rows]]
            found[k] = listen(members, said.pictures[k], scores[first], reach.at(first))
    return found


def _with_words(
    embeddings: Embeddings,
    space: Space,
    field: _Field,
    pictures: Sequence[Matrix],
    said: WordScores,
    heard: NDArray[np.bool_],
    exemplar_rows: Collection[int],
) -> _Field:
    """Return `field` with what the words find of the classes that are `heard` (K,)."""
    classes = np.flatnonzero(heard).tolist()
    by_words = cosine_to(embeddings, [said.anchors[k] for k in classes], space)
    more = _candidates(by_words, exemplar_rows, len(heard), _BY_WORDS)
    return _explore(embeddings, space, joined(pictures, said, classes), np.union1d(field.candidates, more))


def _sample(embeddings: Embeddings, space: Space, seed: int, held_out: Collection[int]) -> Matrix:
    """Return about 2,000 vectors of the pool, none of them of `held_out`, in `space`."""
    fair = embeddings.fair
    share = min(1.0, _NEGATIVES / max(len(fair), 1))
    rows = fair[np.random.default_rng(seed).random(len(fair)) < share]
    return space.transform(embeddings.take(rows[~np.isin(rows, list(held_out))]))


def _candidates(cosine: Matrix, exemplar_rows: Collection[int], classes: int, share: float = 1.0) -> NDArray[np.int64]:
    """The rows nearest by each column, as many as one of so many `classes` has, or a `share` of that."""
    usable = np.setdiff1d(np.flatnonzero(~np.isnan(cosine[:, 0])), list(exemplar_rows))
    count = math.ceil(share * min(_among(len(usable)), max(_MOST_IN_ALL // classes, 1)))
    if not count:
        return usable[:0]
    nearest = [np.argpartition(column[usable], len(usable) - count)[-count:] for column in cosine.T]
    return np.unique(usable[np.concatenate(nearest)])


def _among(count: int) -> int:
    """How many of `count` images are candidates of a class."""
    return min(max(count // 20, _FEWEST), _MOST, count)


def build_graph(vectors: Matrix, exemplars: int = 0) -> Graph:
    """Connect the unit `vectors` (m, d) that are among each other's 30 nearest.

    The first `exemplars` are connected to their 5 nearest in any case, so that each of them reaches something.
    """
    from scipy.sparse import coo_array, diags_array

    i, j, cosine = mutual_neighbours(vectors, _NEIGHBOURS)
    shape = (len(vectors), len(vectors))
    half = coo_array((_weight(cosine), (i, j)), shape=shape).tocsr()
    to_others = vectors[:exemplars] @ vectors[exemplars:].T
    count = min(_LEAST, to_others.shape[1])
    nearest = np.argsort(-to_others, axis=1)[:, :count]
    reach = (np.repeat(np.arange(exemplars), count), nearest.ravel() + exemplars)
    kept = np.maximum(_weight(np.take_along_axis(to_others, nearest, axis=1)).ravel(), 1e-6)
    weights = half.maximum(coo_array((kept, reach), shape=shape).tocsr())
    weights = (weights + weights.T).tocsr()
    degree = np.asarray(weights.sum(axis=1)).ravel() + 1e-9
    scale = diags_array(1 / np.sqrt(degree))
    return Graph(weights, degree, (scale @ weights @ scale).tocsr())


def _weight(cosine: Matrix) -> Mass:
    return np.maximum(cosine, 0).astype(np.float64) ** _SHARPNESS


def diffuse(graph: Graph, seeds: Mass) -> Mass:
    """Return where walks from `seeds` (m,) are, that start again with probability .1 at each step.

    The method is that of Zhou et al., NIPS 2003, with the weights above.
    """
    found = seeds
    for _ in range(_STEPS):
        found = (1 - _RESTART) * (graph.steps @ found) + _RESTART * seeds
    return found


def sweep_cut(graph: Graph, density: Mass, exemplars: NDArray[np.int64], count: int, largest: int) -> Cut:
    """Cut where the least part of the edges leads outside (Andersen, Chung and Lang, FOCS 2006).

    Nodes are taken in order of `density` (m,). The cut is looked for where it has fallen to .6 to .3; farther out, to
    .04, only if hardly any edge leads outside there; beyond that if none does, as with a large class that is apart from
    all else. The first `count` nodes are exemplars, and not among the rows of the cut; those of the class, `exemplars`,
    are always inside.
    """
    order = np.argsort(-density[count:], kind="stable")[:largest] + count
    order = order[density[order] > _REACH]
    inside = np.concatenate([exemplars, order])
    kept = 2 * np.cumsum(_tril_sums(graph, inside))
    leaving = (1 - kept / np.cumsum(graph.degree[inside]))[len(exemplars) :]
    if len(order) < _LEAST:
        return Cut(order - count, float(leaving[-1]) if len(order) else 1.0)
    near = max(int((density[order] >= _FALL[1]).sum()), _LEAST)
    first = max(min(int((density[order] > _FALL[0]).sum()), near - 1), _LEAST - 1)
    best = first + int(leaving[first:near].argmin())
    end = max(int((density[order] >= _FARTHEST).sum()), near)
    farther = first + int(leaving[first:end].argmin())
    apart = first + int(leaving[first:].argmin())
    if leaving[apart] < _APART:
        best = apart
    elif leaving[farther] < _ALONE:
        best = farther
    return Cut(order[: best + 1] - count, float(leaving[best]))


def _tril_sums(graph: Graph, order: NDArray[np.int64]) -> Mass:
    """The weight that each node of `order` adds to the edges among those before it."""
    from scipy.sparse import tril

    return np.asarray(tril(graph.weights[order][:, order]).sum(axis=1)).ravel()


def _surer(density: Mass, seeds: Mass, vectors: Matrix, sample: Matrix, free: NDArray[np.bool_]) -> Mass:
    """Return seeds that put .6 of the mass on the surest images, weighed by a ridge that was trained on them.

    density   (m,) of the candidates; the exemplars are the `vectors` before theirs
    free      (m,) candidates that may be among the surest
    """
    count = len(vectors) - len(free)
    reached = np.flatnonzero((density > 0) & free)
    best = reached[np.argsort(-density[reached])][:_SUREST]
    if not len(best):
        return seeds
    positives = np.concatenate([np.flatnonzero(seeds[:count]), best + count])
    weights = np.concatenate([np.ones(len(positives) - len(best)), np.sqrt(np.minimum(density[best], 1))])
    margin = _ridge(vectors[positives], weights, sample, vectors)
    surest = reached[np.argsort(-(np.log10(density[reached]) + _MARGIN * margin[count + reached]))][:_SUREST] + count
    mass = np.maximum(margin[surest], 0) ** 2
    if not mass.sum():
        return seeds
    again = _FAITH * seeds
    again[surest] += (1 - _FAITH) * mass / mass.sum()
    return again


def _ridge(positives: Matrix, weights: Mass, sample: Matrix, vectors: Matrix) -> Mass:
    """Return how many deviations of the `sample` each of `vectors` lies on the side of `positives`."""
    from sklearn.linear_model import Ridge

    X = np.concatenate([positives, sample]).astype(np.float64)
    share = np.concatenate([weights / weights.sum(), np.full(len(sample), 1 / len(sample))])
    sign = np.concatenate([np.ones(len(positives)), -np.ones(len(sample))])
    direction = Ridge(_RIDGE, solver="cholesky").fit(X, sign, sample_weight=share).coef_
    there = sample @ direction
    return np.asarray((vectors @ direction - np.median(there)) / max(float(there.std()), 1e-9), dtype=np.float64)


def _holds(before: Cut, after: Cut) -> bool:
    """Whether the second round stayed with the class: no looser, and most of what was inside still is."""
    kept = np.isin(before.rows, after.rows).sum()
    return bool(len(after.rows)) and after.conductance <= before.conductance and 2 * kept >= len(before.rows)
