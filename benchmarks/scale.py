"""python -m benchmarks.scale: time and memory of grouping at 92,350 and at 1,000,000 rows of 512 numbers.

The rows are synthetic: heaps of 50 similar ones, and three planted classes. Each size runs in a process of its own; the
peak is that of the whole process, the pages of the memory-mapped file that it read included.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from holotype.grouping.assign import group_pool
from holotype.grouping.search import search
from holotype.pool.exemplars import Exemplar
from holotype.settings import FitSettings
from holotype.vectors.embeddings import Embeddings, open_array

ROWS, DIM, HEAP = (92_350, 1_000_000), 512, 50
SIZES = (2_000, 400, 100)  # images of the planted classes
NOISE = 1.2  # length of what differs within a heap, beside a heap's own direction of length 1


def plant(path: Path, rows: int) -> None:
    """Write (rows, 512) float16; the planted classes come first."""
    rng = np.random.default_rng(0)
    matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, DIM))
    heaps = [np.full(size, -1 - k) for k, size in enumerate(SIZES)]
    heaps.append(np.arange(rows - sum(SIZES)) // HEAP)
    heap = np.concatenate(heaps)
    for start in range(0, rows, 50_000):
        here = heap[start : start + 50_000]
        own, place = np.unique(here, return_inverse=True)
        looks = np.stack([np.random.default_rng([7, int(one) + 10]).normal(size=DIM) for one in own])
        noise = rng.normal(size=(len(here), DIM)) * NOISE
        matrix[start : start + len(here)] = (looks[place] + noise) / np.sqrt(DIM)
    matrix.flush()


def group_once(path: Path) -> str:
    """Group the matrix at `path`; return a line of the table."""
    started = time.perf_counter()
    matrix = open_array(path)
    pool = Embeddings([matrix], np.arange(len(matrix)), len(matrix))
    rows = np.cumsum([0, *SIZES[:-1]]).tolist()
    exemplars = [Exemplar(name, k, row, b"") for k, (name, row) in enumerate(zip("abc", rows, strict=True))]
    groups = group_pool(search(pool, list("abc"), exemplars, None), FitSettings())
    seconds = time.perf_counter() - started
    truth = np.repeat(np.arange(len(SIZES)), SIZES)
    scores = []
    for k, size in enumerate(SIZES):
        members = groups.members(k)
        scores.append(2 * (truth[members[members < len(truth)]] == k).sum() / (len(members) + size))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return f"| {len(matrix):,} | {seconds:.1f} | {peak:.2f} | {', '.join(f'{score:.2f}' for score in scores)} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(group_once(given.one))
        return 0
    print("| rows x 512, float16 | s | peak GB | F1 of classes of 2,000, 400 and 100 |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for rows in ROWS:
            path = Path(folder) / f"{rows}.npy"
            plant(path, rows)
            subprocess.run([sys.executable, "-m", "benchmarks.scale", "--one", str(path)], check=True)
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
