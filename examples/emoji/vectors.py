"""`embeddings.npy`: row `i` belongs to `<i>.jpg`, made by another encoder than the classifier's."""

from pathlib import Path

import numpy as np

from holotype import load_encoder, open_pool
from holotype.files import write
from holotype.progress import Terminal
from holotype.vectors.store import embed

ENCODER = "efficientnet_lite1"  # the classifier's is efficientnet_lite0


def write_embeddings(data: Path) -> None:
    """Write `data`/embeddings.npy, (images, 1280) float16, unless it is there; goes on where it was stopped."""
    target = data / "embeddings.npy"
    if target.exists():
        return
    pool = open_pool(data / "images.tar")
    embeddings = embed(pool, load_encoder(ENCODER), data / "vectors", Terminal())
    rows = [pool.row(str(number)) for number in range(len(pool))]
    vectors = embeddings.take(rows).astype(np.float16)
    write(target, lambda file: np.save(file, vectors))
