"""Augmented views of training images: flip, crop, colour, rotation, erasing. Never of any other image."""

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from holotype import forks
from holotype.errors import EncoderError
from holotype.pool.images import Pixels

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
        raise EncoderError(f"augmentation needs {error.name}: pip install 'holotype[train]'") from None
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
