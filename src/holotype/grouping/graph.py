"""From the exemplars along the graph of the pool: which images are reached, where a class ends, and how sure that is.

Each stage can be switched off by name (`settings.RankSettings`): a space (space.py), a closer look at the exemplars
(`search.Search.anchors`), diffusion on the graph of mutual neighbours among the candidates, and one round of
self-training that starts the walks again from the surest images too.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from holotype.grouping.departure import Departure, Mass, even, hearing
from holotype.grouping.search import cosine as cosine_to
from holotype.grouping.space import Matrix, Space, fit_space, mutual_neighbours
from holotype.grouping.words import WordScores
from holotype.progress import Step, no_step
from holotype.settings import RankSettings
from holotype.vectors.embeddings import Embeddings

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Where the comment does not say otherwise, `python -m benchmarks.constants` varies a constant on development classes.
_FEWEST, _MOST = 1000, 5000  # candidates of a class: a twentieth of the pool, within these; the most is a limit of time
_MOST_IN_ALL = 30_000  # candidates of all classes together: a limit of memory and time (`python -m benchmarks.scale`)
_NEIGHBOURS = 30
_SHARPNESS = 3  # an edge weighs cosine ** 3, as in Iscen et al., CVPR 2017
_RESTART = 0.1
_STEPS = 60  # a limit of time: what is left to come is .9 ** 60, .002 of the whole
_FALL = (0.6, 0.3)  # a class ends where the density has fallen to between these, of that of the third best image
_FARTHEST = 0.04  # of that density: a class that stands alone is followed to here
_REACH = 1e-4  # of that density: what is below is out of reach
_ALONE = 0.02  # conductance below which a class stands alone, and is cut farther out
_APART = 0.001  # below which it is followed as far as the walks reach
_LOOSE = 0.4  # above which a cut holds hardly anything: of the development classes .26 at most is right there
_THIRD = 2
_LEAST = 5  # images of a class at the least, if so many are reached
_SUREST = 40  # images that self-training starts from
_NEGATIVES = 2000
_RIDGE = 0.003
_MARGIN = 0.2  # decades of density that a deviation of the ridge's score is worth
_ESTIMATE = (0.0, 2.27, -3.64)  # base, per decade of density, per unit of conductance: fitted by that script
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
class Cut:
    """Where a class ends.

    rows          candidates inside, the surest first
    conductance   share of their edges' weight that leads outside
    """

    rows: NDArray[np.int64]
    conductance: float


@dataclass(frozen=True)
class Ranking:
    """What the exemplars reach.

    space        that the pool was ranked in
    cosine       (n, K) float32 to the nearest of `exemplars` of each class in `space`, nan without a vector
    candidates   (m,) pool rows that could be reached: the nearest of each class, without the exemplars
    density      (m, K) of the walks from each class, of that of the third best image: 1 is as sure as it gets
    cuts         where each class ends; `rows` counts `candidates`
    rounds       (K,) 2 where self-training was kept, else 1
    first        (m, K) bool: inside the cut of the first round
    agreement    (K,) how many deviations of the pool the exemplars, and what is most like them, lie above its median by
                 the words of the class: about 0 where these mean something else; nan without both
    """

    space: Space
    cosine: Matrix
    candidates: NDArray[np.int64]
    density: Mass
    cuts: Sequence[Cut]
    rounds: Sequence[int]
    first: NDArray[np.bool_]
    agreement: Mass

    @property
    def probabilities(self) -> Mass:
        """(m, K) estimated probability that a candidate shows a class.

        A logistic regression on density and conductance, fitted once on the development classes of the benchmark's
        pools (`python -m benchmarks.constants`): an estimate, not a guarantee.
        """
        base, by_density, by_conductance = _ESTIMATE
        outside = np.array([cut.conductance for cut in self.cuts])
        reached = np.log10(np.maximum(self.density, 1e-12))
        logits = base + by_density * reached + by_conductance * outside
        return np.where(self.density > 0, 1 / (1 + np.exp(-logits)), 0.0)

    @property
    def loose(self) -> NDArray[np.bool_]:
        """(K,) whether so many edges lead out of a class that it is hardly one: the pool may hold nothing of it."""
        return np.array([cut.conductance > _LOOSE for cut in self.cuts])

    def inside(self) -> NDArray[np.bool_]:
        """(m, K) whether a candidate is inside the cut of a class."""
        return _inside(self.cuts, len(self.candidates))

    @property
    def limits(self) -> Mass:
        """(K,) the estimated probability of the last image inside each cut."""
        probabilities, inside = self.probabilities, self.inside()
        return np.where(inside.any(axis=0), np.where(inside, probabilities, 1.0).min(axis=0, initial=1.0), 1.0)

    def members(self, k: int) -> NDArray[np.int64]:
        """Return the pool rows inside the cut of class `k` that are not further inside another."""
        margins = np.where(self.inside(), self.probabilities - self.limits, -1.0)
        return np.asarray(self.candidates[(margins[:, k] >= 0) & (margins.argmax(axis=1) == k)])


def rank(
    embeddings: Embeddings,
    exemplars: Sequence[Matrix],
    exemplar_rows: Collection[int],
    settings: RankSettings,
    *,
    seed: int = 0,
    space: Space | None = None,
    held_out: Collection[int] = (),
    said: WordScores | None = None,
    step: Step = no_step,
) -> Ranking:
    """Rank the pool for each class.

    exemplars       per class its unit vectors (exemplars of the class, dim): those of pictures, and behind them those
                    that stand for words
    exemplar_rows   pool rows of exemplars, which are no candidates
    space           where it is known already
    held_out        pool rows of a test set: they are ranked, and self-training takes no label from them
    said            what words say of the pool, where there are any
    step            called at the end of each of about five steps, and of two for each class
    """
    space = space or fit_space(embeddings, settings.space, seed, step)
    anchors = [space.transform(vectors) for vectors in exemplars]
    spoken = [0] * len(anchors) if said is None else [len(own) for own in said.anchors]
    cosine, by_words = _cosines(embeddings, exemplars, spoken, space)
    sample = _sample(embeddings, space, seed, held_out)
    step()
    candidates = _candidates(cosine, by_words, exemplar_rows)
    vectors = np.concatenate([*anchors, space.transform(embeddings.take(candidates))])
    owners = np.repeat(np.arange(len(anchors)), [len(a) for a in anchors])
    graph = build_graph(vectors, len(owners))
    largest = max(_among(len(embeddings.rows)) // 2, _LEAST)  # farther out, the graph ends as if the class did
    step()
    first, departures = [], []
    for k in range(len(anchors)):
        own = np.flatnonzero(owners == k)
        plain = Departure(even(own[: len(own) - spoken[k]] if len(own) > spoken[k] else own, len(vectors)))
        if said is not None and 0 < spoken[k] < len(own):
            density, _ = _walk(graph, plain, len(owners), largest)
            plain = hearing(plain, density, said.pool[candidates, k], said.pictures[k], own[-spoken[k] :])
        departures.append(plain)
        first.append(_walk(graph, departures[k], len(owners), largest))
        step()
    found, rounds = list(first), [1] * len(anchors)
    if settings.self_training:
        free = ~np.isin(candidates, list(held_out))
        for k, walk in enumerate(first):
            surer = replace(departures[k], seeds=_surer(walk, departures[k].seeds, vectors, sample, free))
            again = _walk(graph, surer, len(owners), largest)
            if _holds(walk[1], again[1]):
                found[k], rounds[k] = again, 2
            step()
    before = _inside([cut for _, cut in first], len(candidates))
    density = np.stack([density for density, _ in found], axis=1)
    agreement = np.array([one.agreement for one in departures])
    return Ranking(space, cosine, candidates, density, [cut for _, cut in found], rounds, before, agreement)


def _inside(cuts: Sequence[Cut], count: int) -> NDArray[np.bool_]:
    """(count, K) whether a candidate is among the rows of each cut."""
    found = np.zeros((count, len(cuts)), dtype=bool)
    for k, cut in enumerate(cuts):
        found[cut.rows, k] = True
    return found


def _sample(embeddings: Embeddings, space: Space, seed: int, held_out: Collection[int]) -> Matrix:
    """Return about 2,000 vectors of the pool, none of them of `held_out`, in `space`."""
    share = min(1.0, _NEGATIVES / max(len(embeddings.rows), 1))
    drawn = np.random.default_rng(seed).random(len(embeddings.rows)) < share
    rows = np.sort(embeddings.rows)[drawn]
    return space.transform(embeddings.take(rows[~np.isin(rows, list(held_out))]))


def _cosines(
    embeddings: Embeddings, exemplars: Sequence[Matrix], spoken: Sequence[int], space: Space
) -> tuple[Matrix, Matrix]:
    """Return the cosines (n, K) to the nearest picture of each class, or to its words where it has none; and to words.

    The latter are (n, classes with both). `spoken` is how many of the vectors of each class stand for words.
    """
    pictures = [
        own[: len(own) - count] if len(own) > count else own for own, count in zip(exemplars, spoken, strict=True)
    ]
    words = [own[-count:] for own, count in zip(exemplars, spoken, strict=True) if 0 < count < len(own)]
    found = cosine_to(embeddings, [*pictures, *words], space)
    return found[:, : len(exemplars)], found[:, len(exemplars) :]


def _candidates(cosine: Matrix, by_words: Matrix, exemplar_rows: Collection[int]) -> NDArray[np.int64]:
    """The rows nearest to each class; beside those of its pictures, half as many are nearest to its words."""
    usable = np.setdiff1d(np.flatnonzero(~np.isnan(cosine[:, 0])), list(exemplar_rows))
    count = min(_among(len(usable)), max(_MOST_IN_ALL // cosine.shape[1], 1))
    if not count:
        return usable[:0]
    columns = [(column, count) for column in cosine.T] + [(column, -(-count // 2)) for column in by_words.T]
    nearest = [np.argpartition(column[usable], len(usable) - many)[-many:] for column, many in columns]
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


def _walk(graph: Graph, departure: Departure, count: int, largest: int) -> tuple[Mass, Cut]:
    """Diffuse, and cut; the first `count` nodes are exemplars, which are left out of what is returned."""
    density = diffuse(graph, departure.seeds) / np.sqrt(graph.degree) * departure.evidence
    third = np.sort(density[count:])[-_THIRD - 1 :].min(initial=np.inf)
    density = density / max(float(third), 1e-12)
    return density[count:], sweep_cut(graph, density, np.flatnonzero(departure.seeds[:count]), count, largest)


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


def _surer(walk: tuple[Mass, Cut], seeds: Mass, vectors: Matrix, sample: Matrix, free: NDArray[np.bool_]) -> Mass:
    """Return seeds that put .6 of the mass on the surest images, weighed by a ridge that was trained on them.

    free   (m,) candidates that may be among them; the exemplars are the `vectors` before theirs
    """
    density, _ = walk
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
