"""python -m benchmarks.duplicates: time and memory of `near_duplicates` and `split`, as rows double.

Synthetic unit vectors of five kinds:

everything     the cosine of any two is about .98: one cluster
tight heaps    heaps of 50 rows around random centres, about .98 within a heap
loose heaps    the same at about .9
spread         without heaps, about a common direction; the variance of direction i falls as 1 / i, as in embeddings
nothing        isotropic: no two are near
A measurement is a process of its own, ended after `--limit` seconds. Its seconds are the processor's, with one thread,
so that they hold on a machine that has other work; its peak memory includes the vectors.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.encode import l2_normalize
from holotype.model import splits
from holotype.model.duplicates import near_duplicates

KINDS = {
    "everything": (0, 0.98),
    "tight heaps": (50, 0.98),
    "loose heaps": (50, 0.9),
    "spread": (1, 0.0),
    "nothing": (1, 0.0),
}
COSINES = (0.3, 0.5, 0.7, 0.9, 0.97)
CLASSES = 20


def made(kind: str, rows: int, dim: int) -> NDArray[np.float32]:
    """Return (rows, dim) unit vectors of `kind`, in no order."""
    random = np.random.default_rng(0)
    size, inside = KINDS[kind]
    vectors = random.standard_normal((rows, dim), dtype=np.float32)
    if kind == "spread":
        vectors *= np.arange(1, dim + 1, dtype=np.float32) ** -0.5
        vectors += np.linalg.norm(vectors, axis=1).mean() * 0.7 * np.eye(1, dim, dim // 2, dtype=np.float32)
    if inside:
        heaps = random.integers(rows // size if size else 1, size=rows)
        vectors *= np.sqrt(1 / inside - 1)
        vectors += random.standard_normal((heaps.max() + 1, dim), dtype=np.float32)[heaps]
    return l2_normalize(vectors)


def measure(kind: str, rows: int, dim: int, cosine: float) -> dict[str, Any]:
    """Time `near_duplicates`, and what `split` does after it."""
    vectors = made(kind, rows, dim)
    began = time.process_time()
    clusters = near_duplicates(vectors, cosine)
    found = time.process_time()
    labels = np.random.default_rng(1).integers(CLASSES, size=rows)
    with patch.object(splits, "near_duplicates", return_value=clusters):
        splits.split(np.arange(rows), labels, vectors, pinned=[0], held_out=[1, 2], share=0.2, cosine=cosine, seed=0)
    return {
        "clusters": int(clusters.max()) + 1,
        "near": found - began,
        "rest": time.process_time() - found,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def apart(kind: str, rows: int, dim: int, cosine: float, limit: float) -> dict[str, Any] | None:
    """`measure` in a process of its own; None where it takes longer than `limit` seconds."""
    command = [sys.executable, "-m", "benchmarks.duplicates", "--one", json.dumps([kind, rows, dim, cosine])]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, env=alone, capture_output=True, check=True, timeout=limit)
        return dict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return None


def table(kinds: Sequence[str], sizes: Sequence[int], dim: int, cosines: Sequence[float], limit: float) -> None:
    """Print a Markdown table, one line a measurement."""
    print(f"| {dim} numbers a row | cosine | rows | clusters | near_duplicates, s | ratio | split after it, s | MB |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        for cosine in cosines:
            before = None
            for rows in sizes:
                found = apart(kind, rows, dim, cosine, limit)
                print(f"| {kind} | {cosine} | {rows:,} | {_cells(found, before, limit)} |", flush=True)
                before = found


def _cells(found: dict[str, Any] | None, before: dict[str, Any] | None, limit: float) -> str:
    if found is None:
        return f" | more than {limit:.0f} in all | | | "
    ratio = f"{found['near'] / before['near']:.1f}" if before else ""
    return f"{found['clusters']:,} | {found['near']:.2f} | {ratio} | {found['rest']:.2f} | {found['peak']:.0f}"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="the most rows; half and a quarter come before it")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--cosines", nargs="+", type=float, default=COSINES)
    parser.add_argument("--limit", type=float, default=180, help="seconds for one measurement")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(*asked.one)))
    else:
        sizes = [asked.rows // 4, asked.rows // 2, asked.rows]
        table(asked.kinds, sizes, asked.dim, asked.cosines, asked.limit)


if __name__ == "__main__":
    main()
