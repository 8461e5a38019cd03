"""The images of a very large pool that a run did not rank: a row for each, where somebody asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.model.predictions import NONE
from holotype.pool.pool import Pool

_TOGETHER = 1_000_000  # rows of a file


@dataclass(frozen=True)
class Others:
    """All images of a pool, and which of them are ranked.

    scores   (n, K) cosine to the nearest exemplar of each class; nan without a vector
    ranked   (m,) rows, in ascending order
    """

    pool: Pool
    scores: NDArray[np.float32]
    ranked: NDArray[np.int64]

    def write(self, folder: Path, classes: Sequence[str]) -> None:
        """Write those that are not ranked, as in groups.parquet and in the order of the pool, a million to a file.

        Columns: id, class (none; null without a vector), nearest_class, cosine, decision, path.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = np.setdiff1d(np.arange(len(self.pool)), self.ranked, assume_unique=True)
        for number, start in enumerate(range(0, len(rows), _TOGETHER)):
            some = rows[start : start + _TOGETHER]
            scores = self.scores[some]
            missing = np.asarray(np.isnan(scores).any(axis=1))
            nearest = np.where(missing[:, None], -np.inf, scores).argmax(axis=1)
            columns = {
                "id": pa.array(self.pool.some_ids(some)),
                "class": pa.array(np.full(len(some), NONE), mask=missing),
                "nearest_class": pa.array(np.array(classes)[nearest], mask=missing),
                "cosine": pa.array(scores.max(axis=1), mask=missing),
                "decision": pa.array(np.where(missing, "missing", "background")),
                "path": pa.array([self.pool.path(row) for row in some.tolist()]),
            }
            files.write(folder / f"{number:03}.parquet", partial(pq.write_table, pa.table(columns)))
