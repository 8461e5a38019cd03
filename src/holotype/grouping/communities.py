"""What is among the images that belong to no class: communities of their graph, those that stand apart most first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from holotype.grouping.graph import build_graph
from holotype.grouping.space import Matrix
from holotype.names import counted
from holotype.progress import Progress, in_steps

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# `python -m benchmarks.discover --development` varies these; docs/tried.md has the figures
_MOST = 24_576  # images that the graph is built of: a limit of time, as all pairs are compared
_SIZE = 300  # the resolution of modularity is one for every so many images, so that communities are alike in size
LEAST_TOGETHER = 8  # images of a community: of fewer, chance alone makes one
_BLOCK = 2048
_TOLERANCE = 1e-4
_HARDLY = 0.005  # of the connections

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Community:
    """Images that are more like each other than like the rest.

    rows          (m,) where they are: the exemplar first, which is the best connected inside, then the most like it
    cosine        (m,) to the exemplar
    conductance   share of their connections that lead outside, among the images that the graph is built of
    """

    rows: Rows
    cosine: Matrix
    conductance: float

    def __str__(self) -> str:
        share = f"{100 * self.conductance:.0f} %" if self.conductance >= _HARDLY else "hardly any"
        return f"{counted(len(self.rows), 'image')}, {share} of their connections to similar ones lead outside"

    @property
    def exemplar(self) -> int:
        """The row of the image that stands for it."""
        return int(self.rows[0])

    def at(self, rows: Rows) -> "Community":
        """Return it for images that are at these `rows`."""
        return replace(self, rows=rows[self.rows])


def find_communities(vectors: NDArray[Any], seed: int = 0, progress: Progress | None = None) -> list[Community]:
    """Return the communities of unit `vectors` (m, d), those that stand apart most first; none of fewer than 8 images.

    The images are connected as in the ranking (`build_graph`), and parted so that modularity is greatest (Louvain:
    Blondel et al., J. Stat. Mech. 2008), at a resolution that grows with their number. They come in the order of their
    conductance. Of more than 24,576 images a sample is connected; each of the others joins the community of the one
    that it is nearest to. Each image is in one community at most.
    """
    sample = np.arange(len(vectors))
    if len(vectors) > _MOST:
        sample = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:_MOST])
    others = np.setdiff1d(np.arange(len(vectors)), sample, assume_unique=True)
    with in_steps(progress, "find communities", 2 + -(-len(others) // _BLOCK)) as step:
        connected = np.asarray(vectors[sample], np.float32)
        steps = build_graph(connected).steps
        step()
        labels = np.full(len(vectors), -1)
        labels[sample] = _parted(steps)
        step()
        inside, conductance = _connections(steps, labels[sample])
        for start in range(0, len(others), _BLOCK):
            rows = others[start : start + _BLOCK]
            nearest = (np.asarray(vectors[rows], np.float32) @ connected.T).argmax(axis=1)
            labels[rows] = labels[sample[nearest]]
            step()
    return [_community(vectors, sample, inside, rows, conductance[k]) for k, rows in _apart(labels, conductance)]


def _parted(steps: "csr_array") -> Rows:
    """Return (m,) the number of the community of each node, connected as a graph's `steps` say: sparse (m, m).

    With these weights, and not with those of the cosines, places where images are far apart count as much as others.
    """
    from scipy.sparse import csr_matrix
    from sknetwork.clustering import Louvain

    count = steps.shape[0]
    if not steps.nnz:
        return np.arange(count)
    louvain = Louvain(
        resolution=max(count / _SIZE, 1),
        tol_optimization=_TOLERANCE,
        tol_aggregation=_TOLERANCE,
        return_probs=False,
        return_aggregate=False,
    )
    return np.asarray(louvain.fit_predict(csr_matrix(steps)), np.int64)


def _connections(steps: "csr_array", labels: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (m,) the weight that each node has inside of its community, and the conductance of each community."""
    edges = steps.tocoo()
    own = labels[edges.row] == labels[edges.col]
    inside = np.bincount(edges.row[own], edges.data[own], len(labels)).astype(np.float64)
    volume = np.bincount(labels[edges.row], edges.data, labels.max(initial=-1) + 1)
    return inside, 1 - np.bincount(labels, inside) / np.maximum(volume, 1e-12)


def _apart(labels: Rows, conductance: NDArray[np.float64]) -> Sequence[tuple[int, Rows]]:
    """Return number and rows of each community that is large enough, in the order of their conductance."""
    sizes = np.bincount(labels, minlength=len(conductance))
    rows = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    return [(k, rows[k]) for k in np.argsort(conductance, kind="stable").tolist() if sizes[k] >= LEAST_TOGETHER]


def _community(
    vectors: NDArray[Any], sample: Rows, inside: NDArray[np.float64], rows: Rows, conductance: float
) -> Community:
    nodes = np.searchsorted(sample, rows)
    nodes = nodes[sample[np.minimum(nodes, len(sample) - 1)] == rows]
    exemplar = sample[nodes[inside[nodes].argmax()]]
    cosine = np.asarray(vectors[rows], np.float32) @ np.asarray(vectors[exemplar], np.float32)
    cosine[rows == exemplar] = np.inf
    order = np.argsort(-cosine, kind="stable")
    return Community(rows[order], np.minimum(cosine[order], 1), float(conductance))
