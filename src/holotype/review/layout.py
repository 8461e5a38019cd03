"""Images in two dimensions: what is alike lies together.

A map is laid out by a process of its own, `python -m holotype.review.layout`: it is the first to give way, takes one
core once the neighbours are known, and can be ended at any time. It reads an array of unit vectors from standard input,
and writes how many rounds are done, a line each time, an empty line, and the array of the places.
"""

import io
import os
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from holotype.errors import HolotypeError
from holotype.grouping.space import Matrix, nearest_neighbours
from holotype.progress import Advance

SEED = 0
_PERPLEXITY = 15  # as many neighbours count, in a way; three times as many are looked at
_EARLY, _LATER = 100, 250  # rounds: twice as many bring nothing, half of them lose some (docs/tried.md)
ROUNDS = _EARLY + _LATER
_LOOK = 10  # rounds between two reports
_LARGE = 2000  # images from which on the grid of the Fourier transform is faster than the tree
_FEW = 4  # distinct images below which there is nothing to lay out
_GRID = 65535  # places are whole numbers from 0 to here

Places = NDArray[np.uint16]


def _nobody(_: int) -> None:
    """Tell nobody."""


def layout(vectors: NDArray[Any], seed: int = SEED, advance: Advance = _nobody) -> Matrix:
    """Return places (m, 2) float32 of the unit `vectors` (m, dim), the same for the same vectors.

    t-SNE (van der Maaten and Hinton, JMLR 2008) on exact neighbours, from the two main directions on, as openTSNE does
    it (Poličar et al., JSS 2024). The same vectors lie at the same place.

    advance   called with a number of rounds, of `ROUNDS`, when they are done
    """
    distinct, place = np.unique(vectors, axis=0, return_inverse=True)
    if len(distinct) < _FEW:
        return np.stack([place.ravel(), np.zeros(len(vectors))], axis=1).astype(np.float32)
    return _laid_out(distinct.astype(np.float32), seed, advance)[place.ravel()]


def _laid_out(vectors: Matrix, seed: int, advance: Advance) -> Matrix:
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.initialization import pca
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    nearest, cosine = nearest_neighbours(vectors, 3 * _PERPLEXITY)
    order = np.argsort(-cosine, axis=1, kind="stable")
    distances = np.sqrt(np.maximum(2 - 2 * np.take_along_axis(cosine, order, axis=1).astype(np.float64), 0))
    known = PrecomputedNeighbors(np.take_along_axis(nearest, order, axis=1), distances)
    affinities = PerplexityBasedNN(knn_index=known, perplexity=min(_PERPLEXITY, nearest.shape[1] / 3), n_jobs=1)

    def look(*_: object) -> None:  # what it returns would end the search
        advance(_LOOK)

    found = TSNE(
        n_jobs=1,  # several would add up in another order each time
        random_state=seed,
        early_exaggeration_iter=_EARLY,
        n_iter=_LATER,
        negative_gradient_method="fft" if len(vectors) > _LARGE else "bh",
        callbacks=look,
        callbacks_every_iters=_LOOK,
    ).fit(affinities=affinities, initialization=pca(vectors, random_state=seed))
    return np.asarray(found, np.float32)


def on_grid(places: Matrix) -> Places:
    """Return `places` (m, 2) as whole numbers from 0 to 65,535, both axes by one measure."""
    low = places.min(axis=0, initial=np.inf)
    span = max(float((places - low).max(initial=0)), 1e-9)
    return np.asarray(np.round((places - low) / span * _GRID), np.uint16)


class Laying:
    """A layout on its way, in a process of its own. Raises `HolotypeError` where that cannot be started."""

    def __init__(self, vectors: NDArray[Any]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        self._vectors = vectors
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C ends us, who end it
            )
        except OSError as error:
            raise HolotypeError(
                f"a process to lay out the map cannot be started: {error.strerror or error}; free memory and processes"
            ) from None

    def places(self, advance: Advance = _nobody) -> Matrix:
        """Return what `layout` does. Raises `HolotypeError` where the process fails, or is ended."""
        with self._process as process:
            assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - they are pipes
            try:
                with suppress(BrokenPipeError), process.stdin as target:
                    target.write(_packed(self._vectors))
                while (line := process.stdout.readline()).strip():
                    advance(int(line))
                found, why = process.stdout.read(), process.stderr.read()
            finally:
                process.kill()
        if process.returncode or not found:
            last = why.decode(errors="replace").strip().rpartition("\n")[2]
            ended = f"signal {-process.returncode}" if process.returncode < 0 else f"code {process.returncode}"
            raise HolotypeError(f"the map was not laid out: {last or f'its process was ended, with {ended}'}")
        return np.asarray(np.load(io.BytesIO(found), allow_pickle=False))

    def stop(self) -> None:
        """End it; `places` raises then."""
        self._process.kill()


def main(source: BinaryIO, target: BinaryIO) -> None:
    """Lay out what comes from `source`; where nobody waits for it any more, the next report ends it."""
    with suppress(AttributeError, OSError):
        os.nice(10)
    warnings.simplefilter("ignore")
    vectors = np.load(io.BytesIO(source.read()), allow_pickle=False)

    def advance(count: int) -> None:
        target.write(b"%d\n" % count)
        target.flush()

    try:
        places = layout(vectors, advance=advance)
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed; pip install {error.name}")
    target.write(b"\n" + _packed(places))
    target.flush()


def _packed(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
