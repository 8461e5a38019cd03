"""Ways from a tar of JPEGs to vectors on disk, each in a process of its own: ours, plain PyTorch, fastembed.

python benchmarks/contenders.py '{"way": "pytorch", ...}' prints a line of JSON with the rate and the peak memory. The
clock starts when the network is loaded and the first images have been encoded, and stops when the vectors are on disk.
"""

import io
import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Rows = Iterable[Any]  # vectors, one by one
WARM = 16  # images that are encoded before the clock starts


def jpegs(tar: str, start: int, count: int) -> Iterator[bytes]:
    """Yield the JPEGs of `tar` from number `start` on, in order."""
    with tarfile.open(tar) as archive:
        for number, member in enumerate(archive):
            if number >= start + count:
                return
            if number >= start:
                file = archive.extractfile(member)
                assert file is not None
                yield file.read()


def holotype(tar: str, start: int, count: int, network: str, precision: str, vectors: str, **_: Any) -> float:
    """`holotype.embed` over some rows of the pool; returns images per second."""
    from holotype import load_encoder, open_pool
    from holotype.encoders.quantise import choose_arithmetic
    from holotype.progress import Silent
    from holotype.vectors.store import EmbeddingStore

    pool = open_pool(tar)
    encoder = choose_arithmetic(load_encoder(network), pool, precision, Silent())  # type: ignore[arg-type]
    ids = pool.ids[start : start + count]
    with tempfile.TemporaryDirectory() as folder:

        def load(name: str) -> bytes:
            return pool.read(pool.rows[name])

        EmbeddingStore(Path(folder) / "warm", encoder, pool).ensure(pool.ids[:WARM], load)
        store = EmbeddingStore(Path(folder) / "vectors", encoder, pool)
        started = time.perf_counter()
        store.ensure(ids, load)
        rate = count / (time.perf_counter() - started)
        np.save(vectors, store.take(ids)[0])
    return rate


def pytorch(tar: str, start: int, count: int, network: str, module: str, workers: int, vectors: str, **_: Any) -> float:
    """What one would write: a `DataLoader` of Pillow decodes in `workers` processes, and the network in eager mode."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from benchmarks import networks

    data = [*jpegs(tar, 0, WARM), *jpegs(tar, start, count)]
    preprocessing = json.loads((Path(network).parent / "preprocessor_config.json").read_text())
    side = preprocessing["crop_size"]["height"]
    mean, std = (torch.tensor(preprocessing[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))

    class Images(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, index: int) -> torch.Tensor:
            pixels = torch.from_numpy(letterboxed(data[index], side)).permute(2, 0, 1)
            return (pixels / 255 - mean) / std

    built = networks.build(module)
    batches = DataLoader(Images(), batch_size=WARM, num_workers=workers)
    with torch.inference_mode():
        return _clocked((row for batch in batches for row in built(batch).numpy()), vectors)


def letterboxed(jpeg: bytes, side: int) -> "np.ndarray[Any, Any]":
    """(side, side, 3) uint8, decoded whole and shrunk with Pillow: what ours does without scaled decoding."""
    from PIL import Image

    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    scale = side / max(image.size)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = Image.new("RGB", (side, side), (127, 127, 127))
    place = ((side - inner[0]) // 2, (side - inner[1]) // 2)
    canvas.paste(image.resize(inner, Image.Resampling.BICUBIC), place)
    return np.array(canvas)


def fastembed(tar: str, start: int, count: int, network: str, workers: int, vectors: str, **_: Any) -> float:
    """fastembed's own pipeline with the same ONNX file; `workers` 0 is one process with ONNX Runtime's threads."""
    from fastembed import ImageEmbedding  # type: ignore[import-not-found]

    model = ImageEmbedding(  # the name decides only what the file is called
        "Qdrant/resnet50-onnx", specific_model_path=str(Path(network).parent), local_files_only=True, cuda=False
    )
    images = [io.BytesIO(data) for data in (*jpegs(tar, 0, WARM), *jpegs(tar, start, count))]
    return _clocked(model.embed(images, batch_size=WARM, parallel=workers or None), vectors)


def _clocked(rows: Rows, vectors: str) -> float:
    """Encode and write; the first batch does not count."""
    stream = iter(rows)
    for _ in range(WARM):
        next(stream)
    started = time.perf_counter()
    found = np.stack(list(stream))
    np.save(vectors, found)
    return len(found) / (time.perf_counter() - started)


def peak_mb(process: int | str) -> float:
    """Peak resident MB of a process, its children not included (`getrusage` would include what its parent had)."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1e3


WAYS: dict[str, Callable[..., float]] = {"holotype": holotype, "pytorch": pytorch, "fastembed": fastembed}


def main() -> None:
    """Run one way."""
    given = json.loads(sys.argv[1])
    rate = WAYS[given["way"]](**given)
    print(json.dumps({"rate": rate, "peak_mb": peak_mb("self")}))


if __name__ == "__main__":
    main()
