"""Whether the images of a run that grew are still such as its space was fitted on."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from holotype.answers.baseline import ReviewBaseline
from holotype.encoders.encode import l2_normalize
from holotype.evaluation.drift import MOVED, Stability, compare_quantity
from holotype.grouping.space import Matrix, Space
from holotype.pool.pool import Pool
from holotype.vectors.embeddings import Embeddings

_LANDMARKS, _COMPARED = 512, 4000  # images of the run before that all are measured from, and that are compared


@dataclass(frozen=True)
class Growth:
    """How the images of a run that is done again are others than before.

    drift   how far those that are there now are from those that its space was fitted on; None where they are the same,
            or where there is no space to compare them in
    """

    drift: Stability | None

    @property
    def keeps_space(self) -> bool:
        """Whether the space of the run before is that of its images now: the index is not above .1 for sure."""
        return self.drift is None or self.drift.low <= MOVED

    def said(self, *, kept: bool) -> str:
        """Say whether the space was `kept`, and why."""
        index = "" if (one := self.drift) is None else f"{one.index:.3f}, {one.low:.3f} to {one.high:.3f}"
        if kept:
            return f"the images are like those before, so their space is kept (population stability {index})"
        if self.keeps_space:
            return "the space is fitted again: settings, or the version of holotype, are others than before"
        return f"the images are others than before, so a space is fitted again (population stability {index})"

    @classmethod
    def of(cls, before: ReviewBaseline, pool: Pool, embeddings: Embeddings) -> Self:
        """Compare `pool` as it is now with the run `before`.

        That is, how far images are from the nearest of 512 of the run before, in its space: others of that run, and
        those that are there now.
        """
        space, images = before.groups.space, before.images
        if space is None or images is None or len(space.mean) != embeddings.dim or images.are_of(pool):
            return cls(None)
        return cls(_stability(before, space, embeddings, images.places_in(pool)))


def _stability(before: ReviewBaseline, space: Space, embeddings: Embeddings, places: NDArray[np.int64]) -> Stability:
    """Compare; `places` (n,) are those that the images had in the run before, -1 of new ones."""
    rng = np.random.default_rng(0)
    known = rng.permutation(np.flatnonzero(before.vectors.any(axis=1)))
    landmarks, others = known[: min(_LANDMARKS, len(known) // 2)], known[len(known) // 2 :][:_COMPARED]
    rows = rng.permutation(np.flatnonzero(embeddings.present & ~np.isin(places, landmarks)))[:_COMPARED]
    now = space.transform(embeddings.take(np.sort(rows)))
    marks = l2_normalize(before.vectors[landmarks])
    return compare_quantity("distance", _distances(l2_normalize(before.vectors[others]), marks), _distances(now, marks))


def _distances(vectors: Matrix, landmarks: Matrix) -> NDArray[np.float64]:
    cosine = vectors @ landmarks.T
    return np.asarray(1 - cosine.max(axis=1), np.float64)
