"""The images of a run: opened as it ranked them, and its exemplars among them."""

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from holotype.answers.baseline import ReviewBaseline
from holotype.errors import AnswersError, PoolError
from holotype.pool.exemplars import Exemplar, resolve
from holotype.pool.kept import drawn_ids, kept_ids, open_kept, some_named
from holotype.pool.pool import Pool, open_pool
from holotype.progress import Progress
from holotype.runs.folder import RunFolder
from holotype.settings import Settings


def open_images(folder: RunFolder, settings: Settings, progress: Progress | None = None) -> Pool:
    """Open the images that the run in `folder` ranked, `settings` saying where they are: of most pools all.

    Raises `PoolError`.
    """
    truncated = settings.allow_truncated
    if not folder.pool.exists():
        return open_pool(settings.sources, allow_truncated=truncated, progress=progress)
    folder.check_whole(PoolError, folder.pool)
    return open_kept(folder.pool, settings.sources, allow_truncated=truncated, progress=progress)


def ranked_images(folder: RunFolder, pool: Pool) -> Pool:
    """Return those images of `pool`, which holds all, that the run in `folder` ranked."""
    return some_named(pool, kept_ids(folder.pool)) if folder.pool.exists() else pool


def fair_rows(folder: RunFolder, pool: Pool) -> NDArray[np.int64]:
    """Return the rows of `pool`, which `open_images` opened, that stand for all images of the run in `folder`."""
    if not folder.pool.exists():
        return np.arange(len(pool))
    rows = (pool.rows.get(name) for name in drawn_ids(folder.pool))
    return np.array([row for row in rows if row is not None], np.int64)


def exemplars_of_run(folder: RunFolder, settings: Settings, pool: Pool, *, stopped: bool = False) -> list[Exemplar]:
    """Return the exemplars of the run in `folder`: the pictures that it saw, by the names that they have in `pool` now.

    Where it kept none they are looked up. Raises `ExemplarError` where one is not found.

    stopped   `settings` are those of a run that was stopped: of other images, the finished one saw none of it
    """
    baseline = None
    with suppress(AnswersError):
        if not stopped or len({tuple(known.sources) for known in folder.known_settings()}) == 1:
            baseline = folder.load_baseline()
    return kept_exemplars(folder, baseline, settings, pool)


def kept_exemplars(
    folder: RunFolder, baseline: ReviewBaseline | None, settings: Settings, pool: Pool
) -> list[Exemplar]:
    """Return the same where what the run left for a review, `baseline`, was read already; None where it cannot be."""
    with suppress(AnswersError):
        if baseline is not None:
            return baseline.following(ranked_images(folder, pool)).given(settings.exemplars, pool)
    return resolve(pool, settings.exemplars, settings.descriptions)
