"""Augmented views of training images: flip, crop, colour, rotation, erasing. Never of any other image."""

import threading
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from holotype import forks
from holotype.errors import EncoderError
from holotype.pool.images import Pixels
from holotype.progress import Progress
from holotype.vectors.shards import contents_of
from holotype.vectors.store import EmbeddingStore

ReadBytes = Callable[[str], bytes]


class _Generator:
    """Torch's generator, which all threads share: who holds `turn` may use it."""

    def __init__(self) -> None:
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Wait for no thread of the parent."""
        self.turn = threading.Lock()
        forks.note(self)


_GENERATOR = _Generator()


def views(pixels: Pixels, count: int, seed: int) -> NDArray[np.uint8]:
    """Return `count` random views (count, h, w, 3) uint8 of one letterboxed image (h, w, 3), the same for one seed."""
    try:
        import kornia.augmentation as ka
        import torch
    except ImportError as error:
        raise EncoderError(f"augmentation needs {error.name}: pip install 'holotype[augment]'") from None
    height, width = pixels.shape[:2]
    with _GENERATOR.turn, torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        pipeline = ka.AugmentationSequential(
            ka.RandomHorizontalFlip(p=0.5),
            ka.RandomAffine(degrees=15.0, p=0.7),
            ka.RandomResizedCrop((height, width), scale=(0.6, 1.0), ratio=(0.8, 1.25), p=0.8),
            ka.ColorJitter(0.2, 0.2, 0.2, 0.05, p=0.8),
            ka.RandomErasing(scale=(0.02, 0.15), p=0.25),
        )
        batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255).expand(count, -1, -1, -1)
        out = pipeline(batch).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1)
    return np.asarray(out.numpy())


class EncodedViews:
    """Augmented views of fit rows, encoded once; their ids are `<id>#view<number>@<digest of the image>`."""

    def __init__(self, store: EmbeddingStore, load: ReadBytes, seed: int) -> None:
        folder = store.folder.with_name(f"{store.folder.name}-views-{seed}")
        self._store = EmbeddingStore(folder, store.encoder, store.pool)
        self._load, self._seed = load, seed

    def encode(
        self, ids: Sequence[str], y: NDArray[np.int64], count: int, most: int, progress: Progress
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return views of the rarer classes' rows, and the place of the row that each is of.

        Each class gets as many as the largest has, or `most` a row.
        """
        sizes = np.bincount(y, minlength=count)
        each = np.clip(sizes.max() // np.maximum(sizes, 1) - 1, 0, most)
        contents = contents_of(ids, self._store.pool)
        wanted = {
            f"{name}#view{v}@{contents.get(name, '')[:16]}": place
            for place, name in enumerate(ids)
            for v in range(each[y[place]])
        }
        self._store.ensure(list(wanted), self._pixels, progress, "encode views")
        X, unreadable = self._store.take(list(wanted))  # an image may be gone, its own vector being there
        return X, np.array([place for name, place in wanted.items() if name not in unreadable], dtype=np.int64)

    def _pixels(self, name: str) -> Pixels:
        source, seeded = name.rpartition("#view")[0], name.rpartition("@")[0]
        seed = zlib.crc32(f"{self._seed} {seeded}".encode())  # else the same change is made to each image
        pixels: Pixels = views(self._store.encoder.prepare(self._load(source)), 1, seed)[0]
        return pixels
