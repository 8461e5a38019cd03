"""Images of the pool that are like another: like one of the pool, or like a picture from anywhere."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from holotype.answers.baseline import FOUND_BY, ReviewBaseline
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import Encoder
from holotype.errors import AnswersError, EncoderError, UnreadableImage
from holotype.filestate import regular
from holotype.grouping.search import cosine, encoded, top_k
from holotype.grouping.space import Matrix, Space
from holotype.names import command
from holotype.pool.images import Source
from holotype.pool.pool import Pool, spread
from holotype.runs.folder import RunFolder
from holotype.settings import Settings
from holotype.stores.copies import here
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.identity import LEAST_COSINE
from holotype.vectors.shards import MANIFEST, read_manifest

_SAMPLED = 8  # images of the pool that tell whether an encoder made its vectors

Likest = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class _Comparison:
    """What a picture is compared in: vectors of the pool, and the encoder and the space that give it a vector there."""

    embeddings: Embeddings
    encoder: Encoder
    space: Space

    def vector(self, picture: Source) -> Matrix:
        moved: Matrix = self.space.transform(encoded(picture, self.encoder)[None])[0]
        return moved

    def fits(self, pool: Pool, rows: NDArray[np.int64]) -> bool:
        """Whether it gives images of `pool` the vectors that they have; `rows` have one."""
        if len(self.space.mean) != self.encoder.dim:
            return False
        cosines = []
        for row in rows[spread(len(rows), _SAMPLED)].tolist():
            with suppress(UnreadableImage):
                cosines.append(float(self.embeddings.take([row])[0] @ self.vector(pool.read(row))))
        return bool(cosines) and float(np.median(cosines)) >= LEAST_COSINE


class Neighbours:
    """Finds images that are like another, in the space that `pool` was ranked in; several threads may use one."""

    def __init__(self, folder: RunFolder, settings: Settings, pool: Pool, baseline: ReviewBaseline) -> None:
        self._folder, self._settings, self._pool = folder, settings, pool
        self._groups = baseline.groups
        self._embeddings = Embeddings([baseline.vectors], np.arange(len(baseline.vectors)), len(baseline.vectors))
        self._closed = self._groups.missing | ~self._groups.distinct
        self._closed[list(baseline.held_out)] = True
        self._turn = Lock()
        self._comparison: _Comparison | None = None

    def of_row(self, row: int, n: int, start: int = 0) -> Likest:
        """Return (row, cosine) of the `n` images most like that of `row`, from place `start` on: the likest first.

        Raises `AnswersError` where there is no such row, or it has no vector.
        """
        if not 0 <= row < len(self._pool):
            raise AnswersError(f"expected the row of an image, 0 to {len(self._pool) - 1}, got {row}")
        if self._groups.missing[row]:
            raise AnswersError(f"{self._pool.ids[row]} has no vector to be compared with: choose another image")
        closed = self._closed.copy()
        closed[row] = True
        if self._groups.copy_of is not None:
            closed[self._groups.copy_of == self._groups.copy_of[row]] = True
        return _nearest(self._embeddings, self._embeddings.take([row])[0], closed, n, start)

    def of_picture(self, picture: Source, n: int, start: int = 0) -> Likest:
        """Return what is like a picture from anywhere, as `of_row` does.

        Raises `UnreadableImage`, and `AnswersError` where nothing gives the picture a vector to compare.
        """
        with self._turn:
            self._comparison = compared = self._comparison or self._compared()
        vector = compared.vector(picture)
        if not (np.isfinite(vector).all() and vector.any()):
            raise AnswersError("nothing can be compared with this picture, as its vector is zeros: try another one")
        return _nearest(compared.embeddings, vector, self._closed, n, start)

    def _compared(self) -> _Comparison:
        space, usable = self._space(), np.flatnonzero(~self._groups.missing)
        for encoder in self._encoders():
            found = _Comparison(self._embeddings, encoder, space)
            if found.fits(self._pool, usable):
                return found
        model = self._folder.load_model().encoder_
        embeddings = self._folder.open_store(model, self._pool).open()  # all of them, where a run searched by both
        if embeddings.present[usable].all():
            return _Comparison(embeddings, model, Space.plain(model.dim))
        again = command("run", self._folder.path, "--embeddings-encoder", "NAME")
        raise AnswersError(
            "another picture cannot be compared with the pool, as it is not known what made the vectors of this run: "
            f"name their encoder ({again}), or do a run with an encoder of your own in place of them"
        )

    def _encoders(self) -> Iterator[Encoder]:
        """Yield those that may have made the vectors: the model's, the one that was named, the one that was noted."""
        yield self._folder.load_model().encoder_
        settings, runtime = self._settings, self._settings.fit.runtime
        if settings.embeddings_encoder:
            yield load_encoder(settings.embeddings_encoder, runtime)
        elif settings.embeddings and (here(settings.embeddings) / MANIFEST).exists():
            with suppress(EncoderError):  # only noted, and not at hand here
                yield load_encoder(str(read_manifest(here(settings.embeddings))["encoder"]), runtime)

    def _space(self) -> Space:
        """The space that the vectors of the pool were moved to."""
        from safetensors.numpy import load_file

        path = self._folder.baseline / FOUND_BY
        if not path.exists():
            raise AnswersError(
                "another picture cannot be compared with the pool of a run that an earlier version did: do it again "
                f"({command('run', self._folder.path)}); vectors and answers are kept"
            )
        self._folder.check_whole(AnswersError, path)
        arrays = load_file(regular(path))
        return Space.from_arrays(arrays) if "space_mean" in arrays else Space.plain(self._embeddings.dim)


def _nearest(embeddings: Embeddings, vector: Matrix, closed: NDArray[np.bool_], n: int, start: int) -> Likest:
    cosines = cosine(embeddings, [vector[None]])[:, 0]
    cosines[closed] = np.nan
    rows = top_k(cosines, start + n)[start:]
    return list(zip(rows.tolist(), cosines[rows].tolist(), strict=True))
