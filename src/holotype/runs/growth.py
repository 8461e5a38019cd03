"""Whether the images of a run that grew are still such as its space was fitted on."""

import numpy as np
from numpy.typing import NDArray

from holotype.answers.baseline import ReviewBaseline
from holotype.encoders.encode import l2_normalize
from holotype.evaluation.drift import SHIFTED, Stability, stability
from holotype.grouping.space import Matrix
from holotype.pool.pool import Pool
from holotype.progress import Progress
from holotype.vectors.embeddings import Embeddings

_LANDMARKS, _COMPARED = 512, 4000  # images of the run before that all are measured from, and that are compared


def keeps_space(before: ReviewBaseline, pool: Pool, embeddings: Embeddings, progress: Progress) -> bool:
    """Return whether the space of the run `before` stays that of `embeddings`, of `pool` as it is now, and say why.

    What is compared is how far images are from the nearest of 512 of the run before, in its space: of others of that
    run, and of all that are there now. The space is fitted again where the population stability index of these is
    above .1 for sure: with the lower end of its interval.
    """
    space = before.groups.space
    if space is None or len(space.mean) != embeddings.dim:
        return False
    places = np.arange(len(pool)) if before.images is None else before.images.places_in(pool)
    found = _stability(before, embeddings, places)
    kept = found.low <= SHIFTED
    why = "are like those before, so their space is kept" if kept else "are others than before: a space is fitted anew"
    progress.say(f"the images {why} (population stability {found})")
    return kept


def _stability(before: ReviewBaseline, embeddings: Embeddings, places: NDArray[np.int64]) -> Stability:
    """Compare; `places` (n,) are those that the images had in the run before, -1 of new ones."""
    rng = np.random.default_rng(0)
    known = rng.permutation(np.flatnonzero(before.vectors.any(axis=1)))
    landmarks, others = known[: min(_LANDMARKS, len(known) // 2)], known[len(known) // 2 :][:_COMPARED]
    rows = rng.permutation(np.flatnonzero(embeddings.present & ~np.isin(places, landmarks)))[:_COMPARED]
    assert before.groups.space is not None  # noqa: S101 - looked up before
    now = before.groups.space.transform(embeddings.take(np.sort(rows)))
    marks = l2_normalize(before.vectors[landmarks])
    return stability(_distances(l2_normalize(before.vectors[others]), marks), _distances(now, marks))


def _distances(vectors: Matrix, landmarks: Matrix) -> NDArray[np.float64]:
    cosine = vectors @ landmarks.T
    return np.asarray(1 - cosine.max(axis=1), np.float64)
