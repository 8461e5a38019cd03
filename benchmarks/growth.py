"""python -m benchmarks.growth [--variant small]: what it costs that 1 % of a pool's images are new.

Of the drawings of the demo (92,350 of the reference job if not told otherwise) 99 % are run, then the others come, by
`holotype update`. Prints the times, what was encoded, and in which images the groups differ from those of a whole new
run of all of them.
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.caches import own_cache
from examples.emoji.build import Settings, build
from examples.emoji.plan import VARIANTS
from holotype import files

EVERY, SIDES = 100, (128, 320)


def split(source: Path, first: Path, new: Path) -> int:
    """Write one image of each 100 of the tar `source` to `new`, the others to `first`; return how many are new."""
    count = 0
    with tarfile.open(source) as images, tarfile.open(first, "w") as most, tarfile.open(new, "w") as few:
        for number, member in enumerate(images):
            is_new = number % EVERY == EVERY - 1
            count += is_new
            (few if is_new else most).addfile(member, images.extractfile(member))
    return count


def timed(folder: Path, *words: object) -> tuple[float, str]:
    """Do a command of holotype with a cache of its own; return its seconds and what it said."""
    command = [sys.executable, "-m", "holotype", *map(str, words)]
    environment = os.environ | {"HOLOTYPE_CACHE": str(own_cache(folder / "cache"))}
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - started, done.stdout + done.stderr


def groups(out: Path) -> dict[str, tuple[str | None, str]]:
    """The class and the decision of each image."""
    table = pq.read_table(out / "groups.parquet", columns=["id", "class", "decision"])
    return {
        name: (label, decision) for name, label, decision in zip(*(c.to_pylist() for c in table.columns), strict=True)
    }


def main() -> int:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="reference")
    variant = parser.parse_args().variant
    pool = files.cache_folder() / "benchmarks" / variant
    build(pool, Settings(variant, 0, SIDES))
    folder = files.cache_folder() / "benchmarks" / f"growth-{variant}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    first, new, out = folder / "first.tar", folder / "new.tar", folder / "out"
    count = split(pool / "images.tar", first, new)
    with (pool / "exemplars.csv").open(encoding="utf-8") as file:
        given = [word for row in csv.DictReader(file) for word in ("--exemplar", f"{row['class']}={row['index']}")]
    whole, _ = timed(folder, "run", "--images", first, *given, "--out", out)
    print(f"run of 99 %: {whole:.0f} s", flush=True)
    update, said = timed(folder, "update", out, "--images", new)
    encoded = re.findall(r"embed .*: ([\d,]+)/\1", said)
    print(
        f"update with {count:,} new images: {update:.0f} s, {100 * update / whole:.1f} %; encoded: {encoded}",
        flush=True,
    )
    print(
        "\n".join(line for line in said.splitlines() if re.match(r"the (images|space)|\w.*: .* found|images: ", line))
    )
    again, said = timed(folder, "update", out, "--images", new)
    print(f"the same again: {again:.1f} s: {said.splitlines()[-1]}", flush=True)
    fresh = folder / "fresh"  # its vectors are taken from the first
    timed(folder, "run", out, "--out", fresh)
    one, other = groups(out), groups(fresh)
    apart = [name for name in one if one[name] != other[name]]
    members = [name for name in {*one, *other} if "member" in (one[name][1], other[name][1])]
    both = [name for name in members if one[name] == other[name]]
    print(
        f"decided otherwise than by a whole new run: {len(apart):,} of {len(one):,}; of {len(members):,} members of "
        f"either {len(both):,} are the same"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
