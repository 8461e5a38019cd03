"""python -m benchmarks.cluster: what it costs to have several processes embed one pool, on one machine.

On one machine its cores are what bounds all ways, so the point is the overhead: images a second of one process, of
`--shard` by one and two processes, and of a Ray cluster of one to three nodes on this machine, as a ratio to the first.
All ways take turns in each repeat, on the same tar of pictures of 300 pixels, each command with a cache and a folder of
its own. The clock runs from the first command to the last file; starting the cluster itself is told apart.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from holotype.encoders.runtimes import cores

IMAGES, REPEATS, SIDE = 3 * 1024, 2, 300
STORE = 80 << 20  # bytes of memory for objects of a node
RESULTS = Path(__file__).parent / "results" / "cluster.json"


def write_pool(path: Path, count: int) -> None:
    """Write JPEGs of soft noise: 64 pictures, and behind each copy a number that tells it from the others."""
    random, pictures = np.random.default_rng(0), []
    for _ in range(64):
        small = random.integers(0, 256, (SIDE // 6, SIDE // 6, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        pictures.append(buffer.getvalue())
    with tarfile.open(path, "w") as tar:
        for row in range(count):
            content = pictures[row % 64] + row.to_bytes(4, "big")
            info = tarfile.TarInfo(f"{row:06}.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def embed(folder: Path, name: str, *more: str) -> "subprocess.Popen[bytes]":
    """Start `holotype embed` into the folder `name`."""
    words = [sys.executable, "-m", "holotype", "embed", "pool.tar", "--precision", "f32", "--out", name, *more]
    environment = os.environ | {"HOLOTYPE_CACHE": str(folder / f"cache-{name}")}
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(*started: "subprocess.Popen[bytes]") -> None:
    """Wait for commands, all of which must do what they are to do."""
    if any(one.wait() for one in started):
        raise SystemExit("a command failed")


def on_cluster(folder: Path, name: str, nodes: int) -> float:
    """Return the seconds that a cluster of `nodes` takes, its own start not counted."""
    from ray.cluster_utils import Cluster

    os.environ["HOLOTYPE_CACHE"] = str(folder / f"cache-{name}")  # that of the command, for the workers
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
        started = time.perf_counter()
        finish(embed(folder, name, "--ray", cluster.address))
        return time.perf_counter() - started
    finally:
        cluster.shutdown()


def by_shares(folder: Path, name: str, count: int) -> float:
    """Return the seconds that `count` processes take at once."""
    started = time.perf_counter()
    finish(*(embed(folder, name, "--shard", f"{number}/{count}") for number in range(count)))
    return time.perf_counter() - started


def alone(folder: Path, name: str) -> float:
    """Return the seconds of one process."""
    started = time.perf_counter()
    finish(embed(folder, name))
    return time.perf_counter() - started


WAYS: dict[str, Callable[[Path, str], float]] = {
    "one process": alone,
    "--shard, 1 process": lambda folder, name: by_shares(folder, name, 1),
    "--shard, 2 processes": lambda folder, name: by_shares(folder, name, 2),
    "--ray, 1 node": lambda folder, name: on_cluster(folder, name, 1),
    "--ray, 2 nodes": lambda folder, name: on_cluster(folder, name, 2),
    "--ray, 3 nodes": lambda folder, name: on_cluster(folder, name, 3),
}


def main() -> None:
    """Measure all ways in turn, and write results/cluster.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    given = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_pool(folder / "pool.tar", given.images)
        for repeat in range(given.repeats):
            for number, (name, way) in enumerate(WAYS.items()):
                out = f"{repeat}-{number}"
                seconds[name].append(way(folder, out))
                first = folder / "0-0" / "img_emb"
                same = all(
                    (folder / out / "img_emb" / one.name).read_bytes() == one.read_bytes() for one in first.iterdir()
                )
                print(f"{name}: {given.images / seconds[name][-1]:.1f} images/s, same bytes: {same}", flush=True)
                if out != "0-0":
                    shutil.rmtree(folder / out)
    rates = {name: given.images / statistics.median(found) for name, found in seconds.items()}
    table = {
        name: {"images/s": round(rate, 1), "ratio": round(rate / rates["one process"], 2)}
        for name, rate in rates.items()
    }
    about = {"images": given.images, "repeats": given.repeats, "cores": cores()}
    RESULTS.write_text(json.dumps(about | {"ways": table}, indent=1))
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
