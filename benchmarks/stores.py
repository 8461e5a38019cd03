"""python -m benchmarks.stores POOL.tar: images to vectors from a store beside the local disk, and bytes alone.

The store is moto's S3 server on this machine (`make store`), or another with --server and --bucket. Disk and store are
read in turn, in each of the repeats; ratios are of medians. The server works on the same cores as the encoder.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.moto import s3_server
from holotype import load_encoder, open_pool
from holotype.encoders.runtimes import OnnxEncoder
from holotype.pool.blocks import RANGE
from holotype.pool.pool import Pool
from holotype.stores.store import bucket_of, read_object
from holotype.stores.urls import parse
from holotype.vectors.store import EmbeddingStore

RESULTS = Path(__file__).parent / "results" / "stores.json"
REPEATS, THREADS, BUCKET = 3, 8, "benchmark"


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def read_all(pool: Pool) -> None:
    """Read each image, in order, in as many threads as a machine with many cores has for encoding."""
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(pool.read, range(len(pool)), chunksize=8):
            pass


def in_blocks(read: Callable[[int, int], object], size: int) -> None:
    """Read a file in blocks, in several threads."""
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(lambda start: read(start, min(RANGE, size - start)), range(0, size, RANGE)):
            pass


def libraries(url: str, path: Path, server: str) -> dict[str, float]:
    """MB/s of whole blocks by each library: the median of the repeats, in turn."""
    from pyarrow import fs

    size, (_, bucket, key) = path.stat().st_size, parse(url)
    stored = bucket_of(url).head(parse(url))
    assert stored is not None
    arrow = fs.S3FileSystem(endpoint_override=server, region="us-east-1").open_input_file(f"{bucket}/{key}")
    seconds: dict[str, list[float]] = {"obstore": [], "pyarrow.fs": []}
    for _ in range(REPEATS):
        seconds["obstore"].append(timed(lambda: in_blocks(stored.read, size)))
        seconds["pyarrow.fs"].append(timed(lambda: in_blocks(lambda start, count: arrow.read_at(count, start), size)))
    return {name: size / 1e6 / statistics.median(some) for name, some in seconds.items()}


def encode(pool: Pool, network: OnnxEncoder, most: int, folder: Path) -> None:
    """Do what `holotype embed` does for the first `most` images."""
    store = EmbeddingStore(folder, network, pool)
    store.ensure(pool.ids[:most], lambda name: pool.read(pool.rows[name]))


def pools(url: str, path: Path, encoder: str, most: int) -> dict[str, dict[str, float]]:
    """Seconds to list and to read, and images a second to encode, of the disk and of the store: medians."""
    network = load_encoder(encoder)
    seconds: dict[str, dict[str, list[float]]] = {}
    for repeat in range(REPEATS + 1):
        for name, source in (("disk", str(path)), ("store", url)):
            with tempfile.TemporaryDirectory() as folder:
                os.environ["HOLOTYPE_CACHE"] = f"{folder}/cache"  # listed, read and encoded afresh
                some = {"list": timed(lambda source=source: open_pool(source))}  # type: ignore[misc]
                some["list again"] = timed(lambda source=source: open_pool(source))  # type: ignore[misc]
                some["read"] = timed(lambda source=source: read_all(open_pool(source)))  # type: ignore[misc]
                pool = open_pool(source)
                some["embed"] = timed(lambda pool=pool, to=Path(folder, "v"): encode(pool, network, most, to))  # type: ignore[misc]
            if repeat:  # the first warms up
                for key, value in some.items():
                    seconds.setdefault(name, {}).setdefault(key, []).append(value)
    return {name: {key: statistics.median(some) for key, some in each.items()} for name, each in seconds.items()}


def measure(path: Path, server: str, bucket: str, encoder: str, most: int) -> dict[str, Any]:
    """Put the tar into the bucket and measure."""
    url = f"s3://{bucket}/{path.name}"
    bucket_of(url).write(parse(url), path, None)
    assert len(read_object(url)) == path.stat().st_size
    count, size = len(open_pool(path)), path.stat().st_size
    by_library, medians = libraries(url, path, server), pools(url, path, encoder, most)
    return {
        "images": count,
        "embedded": min(most, count),
        "bytes": size,
        "encoder": encoder,
        "MB/s": by_library,
        "seconds": medians,
    }


def tell(found: dict[str, Any]) -> None:
    """Print the figures."""
    say(f"{found['images']:,} images, {found['bytes'] / 1e6:,.0f} MB, {found['encoder']}")
    say("blocks, MB/s     " + "   ".join(f"{name} {value:,.0f}" for name, value in found["MB/s"].items()))
    disk, store = found["seconds"]["disk"], found["seconds"]["store"]
    for key in disk:
        amount, unit = (found["embedded"], "images/s") if key == "embed" else (found["bytes"] / 1e6, "MB/s")
        rates = f"{amount / disk[key]:,.0f} and {amount / store[key]:,.0f} {unit}"
        say(f"{key:<12} disk {disk[key]:.2f} s, store {store[key]:.2f} s ({rates}): {disk[key] / store[key]:.2f}")


def main() -> None:
    """Measure, print, and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--server", help="the address of another S3 server")
    parser.add_argument("--bucket", default=BUCKET)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--most", type=int, default=2000, help="images that are encoded")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    given = parser.parse_args()
    with s3_server() if given.server is None else nullcontext() as port:
        server = given.server or f"http://127.0.0.1:{port}"
        os.environ["AWS_ENDPOINT_URL"] = server
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            os.environ.setdefault(name, "benchmark")
        if given.server is None:
            from pyarrow import fs

            fs.S3FileSystem(endpoint_override=server, region="us-east-1", allow_bucket_creation=True).create_dir(BUCKET)
        found = measure(given.pool, server, given.bucket, given.encoder, given.most)
    tell(found)
    if given.write:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
