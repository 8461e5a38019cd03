"""A sample of the pool that a model was learnt from: how far an image is from it, and what the model says of it."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.encoders.encode import l2_normalize
from holotype.errors import HolotypeWarning
from holotype.filestate import regular
from holotype.model.predictions import Predictions
from holotype.model.saved import digest_of_model

POOL_FILE = "pool.safetensors"  # beside the model's own files, in its run
VECTORS = 1024  # that images are compared with: of more, the file would be large (`python -m benchmarks.drift`)
IMAGES = 8192  # of the pool of which it is kept what the model says: a limit of time
_SAME = 1 - 1e-4  # the cosine of an image with itself, as float16 and other arithmetic round it
_BLOCK = 4096


@dataclass(frozen=True)
class PoolSample:
    """Images of a pool, drawn at random.

    model       SHA-256 of the model.json that it is about
    vectors     (s, dim) float16 unit vectors in the model space
    none        (m,) whether the model says "none" of each of m images, those of the vectors among them
    scores      (m,) the probability of the likeliest class; distances: (m,) to the nearest of the `vectors`
    """

    model: str
    vectors: NDArray[np.float16]
    none: NDArray[np.bool_]
    scores: NDArray[np.float64]
    distances: NDArray[np.float64]

    @classmethod
    def of(cls, description: bytes, vectors: NDArray[np.float32], said: Predictions) -> Self:
        """Return that of unit `vectors` (m, dim), drawn at random, with what the model says of them.

        description   the content of model.json
        """
        sample = vectors[:VECTORS].astype(np.float16)
        return cls(
            digest_of_model(description),
            sample,
            said.numbers == len(said.classes),
            said.probabilities[:, :-1].max(axis=1),
            nearest(vectors, sample.astype(np.float32)),
        )

    def distance(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (n,) 1 - cosine of `features` (n, dim) to the nearest of the sample, itself and its copies left out.

        It is 0 where the sample has nothing else.
        """
        return nearest(l2_normalize(features), self.vectors.astype(np.float32))

    def save(self, folder: Path) -> None:
        """Write it beside the model in `folder`. Raises `OutputError`."""
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {"vectors": self.vectors, "none": self.none.astype(np.uint8)}
        arrays |= {"scores": self.scores, "distances": self.distances}
        files.write(folder / POOL_FILE, save(arrays, metadata={"model": self.model}))

    @classmethod
    def load(cls, folder: Path, description: bytes, dim: int) -> Self | None:
        """Read what `save` wrote; None where there is none, and with a warning where it is not about this model.

        description   the content of model.json
        """
        from safetensors import safe_open

        path, model = folder / POOL_FILE, digest_of_model(description)
        if not path.exists():
            return None
        try:
            with safe_open(regular(path), "numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
                about = (file.metadata() or {}).get("model")
            found = cls(model, arrays["vectors"], arrays["none"].astype(bool), arrays["scores"], arrays["distances"])
            fits = about == model and found._fits(dim)
        except Exception:  # the format's own types, and numpy's
            fits = False
        if not fits:
            warnings.warn(
                f"{path} is damaged, or about another model: how far images are from the pool is not told; do the run "
                "again",
                HolotypeWarning,
                stacklevel=3,
            )
            return None
        return found

    def _fits(self, dim: int) -> bool:
        several = (self.none, self.scores, self.distances)
        return (
            self.vectors.shape == (len(self.vectors), dim)
            and len(self.vectors) > 0
            and all(one.shape == self.none.shape for one in several)
            and all(bool(np.isfinite(one).all()) for one in (self.vectors, self.scores, self.distances))
        )


def nearest(vectors: NDArray[np.float32], sample: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (n,) 1 - cosine of unit `vectors` (n, dim) to the nearest of `sample` (s, dim) that is not the same."""
    found = np.zeros(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        cosine = vectors[start : start + _BLOCK] @ sample.T
        cosine[cosine > _SAME] = -np.inf
        best = cosine.max(axis=1, initial=-np.inf)
        found[start : start + _BLOCK] = np.where(np.isfinite(best), 1 - best, 0)
    return found
