"""A search in a pool, without a run: what is most like exemplars, or what words say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import Encoder
from holotype.errors import ExemplarError, OutputError
from holotype.grouping.search import Search, cosine, search, top_k
from holotype.grouping.spread import robust_spread
from holotype.grouping.words import Words, hear
from holotype.pool.descriptions import describe
from holotype.pool.drawn import would_join
from holotype.pool.exemplars import Exemplar, resolve
from holotype.pool.pool import Pool, open_pool
from holotype.pool.sheets import write_sheet
from holotype.progress import Progress, Silent, in_steps
from holotype.runs.inputs import maker_of
from holotype.runs.remarks import say_left_out, say_missing, say_unreadable
from holotype.settings import ARITHMETIC, TrainSettings
from holotype.vectors.folders import cache_of, in_arithmetic, open_shared
from holotype.vectors.store import EmbeddingStore
from holotype.vectors.supplied import Unchanged, import_embeddings

_SOUGHT = "exemplar"  # the one class of a search


@dataclass(frozen=True)
class Found:
    """A pool, and how like what was sought its images are.

    scores   (n,) the cosine to the nearest exemplar; where words were given, deviations of the pool above its median,
             the mean of words and pictures where there are both; nan for images that cannot be compared
    """

    pool: Pool
    scores: NDArray[np.float32]

    def best(self, k: int) -> list[tuple[str, float]]:
        """Return (id, score) of the `k` most similar images."""
        return [(self.pool.ids[row], float(self.scores[row])) for row in top_k(self.scores, k)]

    def sheet(self, k: int, path: Path) -> None:
        """Write the `k` most similar images as one PNG; one that cannot be read leaves a grey cell."""
        write_sheet(self.pool, top_k(self.scores, k).tolist(), path)


def search_pool(
    source: str,
    codes: Sequence[str],
    encoder: str,
    *,
    texts: Sequence[str] = (),
    vectors: Path | None = None,
    embeddings: Path | None = None,
    embeddings_encoder: str | None = None,
    sheet: Path | None = None,
    allow_truncated: bool = False,
    progress: Progress | None = None,
) -> Found:
    """Return the images of `source` by how like the exemplars `codes`, and `texts`, they are; exemplars left out.

    vectors              folder where the vectors of `encoder` are, or will be kept; a folder of the cache if not given
    embeddings           vectors that somebody computed, to search in instead
    embeddings_encoder   what made them, which words need; it is checked on a sample
    sheet                where a sheet of what is found will be written

    Raises `OutputError` before any work where the sheet would join the pool.
    """
    if sheet is not None and would_join(source, sheet):
        raise OutputError(f"{sheet} would be one of the images in {source} from then on; give a --sheet outside of it")
    if not codes and not texts:
        raise ExemplarError("expected something to look for: an exemplar, or words (--text)")
    progress = progress or Silent()
    pool = open_pool(source, allow_truncated=allow_truncated, progress=progress)
    say_left_out(pool, progress)
    given = {_SOUGHT: list(codes)}
    sought = _Sought(pool, resolve(pool, given, given if texts else ()), texts, progress)
    if embeddings is not None:
        searched = sought.in_supplied(embeddings, embeddings_encoder, source)
    else:
        kept = [vectors] if vectors else cache_of(pool).glob("*")
        network = in_arithmetic(load_encoder(encoder, progress=progress), pool, ARITHMETIC, progress, kept)
        store = open_shared(vectors or cache_of(pool) / network.name_on_disk, network, pool)
        searched = sought.in_encoded(store)
    say_unreadable(pool, searched.embeddings.unreadable, progress)
    column = _scores(searched)
    column[list(searched.exemplar_rows)] = np.nan
    return Found(pool, column)


@dataclass(frozen=True)
class _Sought:
    """What is looked for in a pool."""

    pool: Pool
    exemplars: Sequence[Exemplar]
    texts: Sequence[str]
    progress: Progress

    def in_encoded(self, store: EmbeddingStore) -> Search:
        words = self._heard(store.encoder)  # before the pool is encoded: what cannot be searched is said at once
        return search(store.embed(self.progress), [_SOUGHT], self.exemplars, store.encoder, words)

    def in_supplied(self, path: Path, encoder: str | None, source: str) -> Search:
        with in_steps(self.progress, "note how the embeddings are"):
            unchanged = Unchanged([path])
        with in_steps(self.progress, "check embeddings"):
            supplied = import_embeddings(path, self.pool)
        say_missing(supplied, path, source, self.progress)
        asked, runtime = bool(encoder or self.texts), TrainSettings().runtime
        maker = maker_of(supplied, encoder, self.pool, runtime, self.progress) if asked else None
        searched = search(supplied, [_SOUGHT], self.exemplars, maker, self._heard(maker))
        unchanged.check()
        return searched

    def _heard(self, encoder: Encoder | None) -> Words | None:
        return hear(describe(None, {_SOUGHT: self.texts})[1], encoder, self.progress)


def _scores(searched: Search) -> NDArray[np.float32]:
    if searched.said is None:
        return searched.scores[:, 0]
    said = searched.said.pool[:, 0]
    if not searched.exemplars:
        return said
    seen = cosine(searched.embeddings, [np.concatenate(searched.queries)])[:, 0]
    median, deviation = robust_spread(seen[~np.isnan(seen)])
    return np.asarray((said + (seen - median) / deviation) / 2, np.float32)
