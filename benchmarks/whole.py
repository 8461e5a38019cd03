"""python -m benchmarks.whole: 92,350 images encoded by `holotype embed`, killed on the way and resumed.

Prints the time, the rate and the peak memory, and whether the shards before and behind the kill hold the same bytes as
those of a second call that nobody interrupts there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.caches import own_cache
from benchmarks.contenders import peak_mb
from examples.emoji.build import Settings, build
from holotype import open_pool
from holotype.files import cache_folder
from holotype.vectors.shards import shard_paths

FOLDER = cache_folder() / "benchmarks"
SIDES = (128, 320)
KILLED, COMPARED = 8, 11  # shards that are there at the kill, and when the second call is ended


def embed(out: Path, kill_at: int | None = None) -> tuple[float, float]:
    """Encode into `out`; with `kill_at` until a moment after so many shards. Returns seconds and peak MB."""
    command = [str(Path(sys.executable).parent / "holotype"), "embed", str(FOLDER / "reference" / "images.tar")]
    started, peak = time.perf_counter(), 0.0
    environment = os.environ | {"HOLOTYPE_CACHE": str(own_cache(out.with_name(f"{out.name}-cache")))}
    process = subprocess.Popen([*command, "--out", str(out)], env=environment)
    while process.poll() is None:
        with suppress(StopIteration, OSError):  # it has ended meanwhile
            peak = peak_mb(process.pid)
        time.sleep(0.2)
        if kill_at is not None and len(shard_paths(out)) >= kill_at:
            time.sleep(2)  # in the middle of the next shard
            process.kill()
            process.wait()
    if process.returncode and kill_at is None:
        raise SystemExit(f"holotype embed ended with status {process.returncode}")
    return time.perf_counter() - started, peak


def contents(paths: Sequence[Path]) -> dict[str, bytes]:
    """The bytes of shards by their names."""
    return {path.name: path.read_bytes() for path in paths}


def main() -> int:
    """Print what was measured."""
    argparse.ArgumentParser(prog="python -m benchmarks.whole", description=__doc__).parse_args()
    build(FOLDER / "reference", Settings("reference", 0, SIDES))
    count = len(open_pool(FOLDER / "reference" / "images.tar"))
    resumed, other = FOLDER / "resumed", FOLDER / "other"
    for folder in (resumed, other):
        shutil.rmtree(folder, ignore_errors=True)
    before, _ = embed(resumed, kill_at=KILLED)
    print(f"killed after {before:.0f} s with {len(shard_paths(resumed))} shards there", flush=True)
    after, peak = embed(resumed)
    rate = count / (before + after)
    print(f"{count:,} images in {before + after:.0f} s, {rate:.1f}/s, peak {peak:.0f} MB", flush=True)
    embed(other, kill_at=COMPARED)
    shards = shard_paths(other)
    same = contents(shards) == contents(shard_paths(resumed)[: len(shards)])
    print(f"the first {len(shards)} shards hold {'the same' if same else 'OTHER'} bytes as without the kill")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
