"""A run on very many images: each is compared with the exemplars once, and the work is done with those that matter."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from holotype.grouping.shortlist import RANKED_WHOLE, shorten
from holotype.names import counted
from holotype.pool.exemplars import Exemplar
from holotype.progress import Progress, in_steps
from holotype.runs.folder import RunFolder
from holotype.runs.groupings import SearchSource, open_stores, search_in, search_sources
from holotype.runs.inputs import RunInputs, WholePool
from holotype.runs.others import Others


def narrowed(inputs: RunInputs, folder: RunFolder, progress: Progress) -> RunInputs:
    """Return `inputs` with the images that are ranked alone, where there are more than 250,000.

    Those are the nearest of each class, 100,000 drawn at random, exemplars, the rows of a test set, and what people
    answered about. The others are none of the classes. Rows of what is returned count the images that are left.
    """
    pool = inputs.pool
    if len(pool) <= RANKED_WHOLE:
        return inputs
    sources = _sources(inputs, folder, progress)
    with in_steps(progress, "compare all images with the exemplars"):
        each = list(search_in(sources, inputs, inputs.test_rows).values())
        short = shorten(each, _kept(inputs, folder), inputs.settings.fit.seed)
    unreadable = {name: why for one in sources.values() for name, why in one.embeddings.unreadable.items()}
    rows = short.rows
    others = Others(pool, each[0].scores, rows) if inputs.settings.all_rows else None
    note = (
        f"of its {counted(len(pool), 'image')} {len(rows):,} are ranked: those most like each class, and "
        f"{len(short.drawn):,} drawn at random; each of the others was compared with the exemplars, and is none"
    )
    return replace(
        inputs,
        pool=pool.some(rows, [note]),
        exemplars=[_moved(one, rows) for one in inputs.exemplars],
        test_set=inputs.test_set and replace(inputs.test_set, rows=np.searchsorted(rows, inputs.test_rows).tolist()),
        supplied=inputs.supplied and inputs.supplied.some(rows, short.drawn),
        whole=WholePool(len(pool) - len(rows), np.searchsorted(rows, short.drawn), unreadable, others),
    )


def _sources(inputs: RunInputs, folder: RunFolder, progress: Progress) -> dict[str, SearchSource]:
    """The vectors of all images: where they are supplied, no store is opened, which would look through the images."""
    if inputs.supplied is not None and inputs.searches_supplied:
        return {"": SearchSource(inputs.supplied, inputs.maker)}
    return search_sources(inputs, dict(open_stores(inputs, folder, progress)), progress)


def _kept(inputs: RunInputs, folder: RunFolder) -> set[int]:
    """The rows that are ranked however far they are from the exemplars."""
    answered = (inputs.pool.rows.get(one.id) for one in folder.read_answers())
    given = (one.row for one in inputs.exemplars)
    return {row for row in (*inputs.test_rows, *given, *answered) if row is not None}


def _moved(one: Exemplar, rows: NDArray[np.int64]) -> Exemplar:
    return one if one.row is None else replace(one, row=int(np.searchsorted(rows, one.row)))
