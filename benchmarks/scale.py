"""python -m benchmarks.scale [ROWSxNUMBERS ...]: time and memory of grouping; 92350x512 and 1000000x512 if not given.

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

SHAPES, HEAP = ("92350x512", "1000000x512"), 50
SIZES = (2_000, 400, 100)  # images of the planted classes
NOISE = 1.2  # length of what differs within a heap, beside a heap's own direction of length 1


def plant(path: Path, rows: int, dim: int) -> None:
    """Write (rows, dim) float16; the planted classes come first."""
    rng = np.random.default_rng(0)
    matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, dim))
    heaps = [np.full(size, -1 - k) for k, size in enumerate(SIZES)]
    heaps.append(np.arange(rows - sum(SIZES)) // HEAP)
    heap = np.concatenate(heaps)
    for start in range(0, rows, 50_000):
        here = heap[start : start + 50_000]
        own, place = np.unique(here, return_inverse=True)
        looks = np.stack([np.random.default_rng([7, int(one) + 10]).normal(size=dim) for one in own])
        noise = rng.normal(size=(len(here), dim)) * NOISE
        matrix[start : start + len(here)] = (looks[place] + noise) / np.sqrt(dim)
    matrix.flush()


def group_once(path: Path) -> str:
    """Group the matrix at `path`; return a line of the table."""
    started, busy = time.perf_counter(), time.process_time()
    matrix = open_array(path)
    pool = Embeddings([matrix], np.arange(len(matrix)), len(matrix))
    rows = np.cumsum([0, *SIZES[:-1]]).tolist()
    exemplars = [Exemplar(name, k, row, b"") for k, (name, row) in enumerate(zip("abc", rows, strict=True))]
    groups = group_pool(search(pool, list("abc"), exemplars, None), FitSettings())
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    truth = np.repeat(np.arange(len(SIZES)), SIZES)
    scores = []
    for k, size in enumerate(SIZES):
        members = groups.members(k)
        scores.append(2 * (truth[members[members < len(truth)]] == k).sum() / (len(members) + size))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found = ", ".join(f"{score:.2f}" for score in scores)
    return f"| {len(matrix):,} x {matrix.shape[1]:,} | {seconds:.1f} | {busy:.1f} | {peak:.2f} | {found} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("shapes", nargs="*", default=SHAPES, metavar="ROWSxNUMBERS", help="at least 2,600 rows")
    given = parser.parse_args()
    if given.one:
        print(group_once(given.one))
        return 0
    print(
        "| rows, float16 | s | CPU s | peak GB | F1 of classes of 2,000, 400 and 100 |\n|---|---|---|---|---|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        for shape in given.shapes:
            path = Path(folder) / f"{shape}.npy"
            plant(path, *map(int, shape.split("x")))
            subprocess.run([sys.executable, "-m", "benchmarks.scale", "--one", str(path)], check=True)
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
