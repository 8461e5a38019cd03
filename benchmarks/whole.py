"""python -m benchmarks.whole: 92,350 images encoded by `holotype embed`, once in one go and once killed on the way.

Prints the time, the rate and the peak memory of the first, and whether the second, killed with SIGKILL at a third and
resumed, leaves the same bytes.
"""

import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.contenders import peak_mb
from examples.emoji.build import Settings, build
from holotype import open_pool
from holotype.embeddings import shard_paths
from holotype.encoders import cache_folder

FOLDER = cache_folder() / "benchmarks"
SIDES = (128, 320)


def embed(out: Path, kill_at: int | None = None) -> tuple[float, float]:
    """Encode into `out`; with `kill_at` until some seconds after so many shards. Returns seconds and peak MB."""
    command = [str(Path(sys.executable).parent / "holotype"), "embed", str(FOLDER / "reference" / "images.tar")]
    started, peak = time.perf_counter(), 0.0
    process = subprocess.Popen([*command, "--out", str(out)])
    while process.poll() is None:
        with suppress(StopIteration, OSError):  # it has ended meanwhile
            peak = peak_mb(process.pid)
        time.sleep(0.2)
        if kill_at is not None and len(shard_paths(out)) >= kill_at:
            time.sleep(3)  # in the middle of the next shard
            process.kill()
            process.wait()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"holotype embed ended with status {process.returncode}")
    return time.perf_counter() - started, peak


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of `folder` by its name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def main() -> int:
    """Print what was measured."""
    build(FOLDER / "reference", Settings("reference", 0, SIDES))
    count = len(open_pool(FOLDER / "reference" / "images.tar"))
    whole, killed = FOLDER / "whole", FOLDER / "killed"
    for folder in (whole, killed):
        shutil.rmtree(folder, ignore_errors=True)
    seconds, peak = embed(whole)
    print(f"{count:,} images in {seconds:.0f} s, {count / seconds:.1f}/s, peak {peak:.0f} MB", flush=True)
    at = len(shard_paths(whole)) // 3
    before, _ = embed(killed, kill_at=at)
    after, _ = embed(killed)
    same = contents(whole) == contents(killed)
    print(f"killed after {before:.0f} s, resumed for {after:.0f} s: {'the same' if same else 'OTHER'} bytes")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
