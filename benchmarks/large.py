"""python -m benchmarks.large [COUNT ...]: a run on very many images, from vectors to groups, model and report.

Of each COUNT (10^5, 10^6 and 10^7 if not told otherwise) vectors of 512 float16 are planted with three classes, much as
in `benchmarks.scale`, and so many small pictures (BMP of 2 x 2 pixels) are written into tars of a million. At 10^7 that
is 20 GB of disk, which are free again afterwards; `--keep` leaves them. Each command is a process of its own, with a
cache of its own; the peak is that of the whole process, the pages of files that it read included. Prints a table, and
with `--plot FILE.png` draws it.
"""

import argparse
import csv
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.caches import own_cache
from benchmarks.review import first_question, opened_page
from benchmarks.scale import HEAP, NOISE, SIZES
from holotype import files

COUNTS = (100_000, 1_000_000, 10_000_000)
DIM = 512
SHARD, TOGETHER = 1_000_000, 100_000  # images in a tar, and those that are made at once
BLOCK, DIGITS = 512, 8
MADE = "made"  # a file that says that all is there
COLUMNS = ("images", "run", "peak", "again", "first question", "update", "discover", "predict")
COLOURS = np.array([[40, 40, 220], [40, 220, 40], [220, 40, 40], [128, 128, 128]])


def plant(path: Path, rows: int) -> None:
    """Write (rows, 512) float16; the planted classes come first, and then heaps of 50 that are alike."""
    rng, scale = np.random.default_rng(0), np.float32(DIM**0.5)
    matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, DIM))
    for start in range(0, rows, TOGETHER):
        count = min(TOGETHER, rows - start)
        sizes = SIZES if start == 0 else ()
        others = len(sizes) + np.arange(count - sum(sizes)) // HEAP
        heap = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), others])
        looks = rng.standard_normal((heap[-1] + 1, DIM), np.float32)
        noise = rng.standard_normal((count, DIM), np.float32)
        matrix[start : start + count] = (looks[heap] + NOISE * noise) / scale
    matrix.flush()


def write_tars(folder: Path, count: int) -> None:
    """Write `count` pictures, one of each planted class in its colour, the others in any."""
    classes = np.repeat([0, 1, 2, 3], [*SIZES, count - sum(SIZES)])
    rng = np.random.default_rng(0)
    for shard, start in enumerate(range(0, count, SHARD)):
        end = min(start + SHARD, count)
        with (folder / f"pool-{shard:03}.tar").open("wb") as file:
            for first in range(start, end, TOGETHER):
                numbers = np.arange(first, min(first + TOGETHER, end))
                file.write(members(numbers, classes[numbers], rng).tobytes())
            file.write(bytes(2 * BLOCK))


def members(numbers: NDArray[np.int64], classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (n, 1024) a header and a picture for each of `numbers`."""
    picture = bmp()
    found = np.zeros((len(numbers), 2 * BLOCK), np.uint8)
    found[:, :BLOCK] = header(len(picture))
    found[:, :DIGITS] = numbers[:, None] // 10 ** np.arange(DIGITS)[::-1] % 10 + ord("0")
    total = found[:, :BLOCK].sum(axis=1, dtype=np.int64) + 8 * ord(" ")
    found[:, 148:154] = total[:, None] // 8 ** np.arange(6)[::-1] % 8 + ord("0")
    found[:, 155] = ord(" ")
    found[:, BLOCK : BLOCK + len(picture)] = np.frombuffer(picture, np.uint8)
    spread = np.where(classes == len(SIZES), 127, 30)[:, None, None]
    pixels = COLOURS[classes][:, None, :] + rng.integers(-127, 128, (len(numbers), 4, 3)) * spread // 127
    rows = np.zeros((len(numbers), 2, 8), np.uint8)
    rows[:, :, :6] = pixels.clip(0, 255).reshape(-1, 2, 6)
    found[:, BLOCK + 54 : BLOCK + 70] = rows.reshape(-1, 16)
    return found


def header(size: int) -> NDArray[np.uint8]:
    """Return that of a plain file, without name and checksum."""
    text = bytearray(BLOCK)
    text[DIGITS : DIGITS + 4] = b".bmp"
    for place, field in ((100, b"0000644\0"), (108, b"0000000\0"), (116, b"0000000\0"), (136, b"00000000000\0")):
        text[place : place + len(field)] = field
    text[124:136], text[156:157], text[257:265] = f"{size:011o}\0".encode(), b"0", b"ustar\x0000"
    text[329:345] = b"0000000\x000000000\0"
    return np.frombuffer(bytes(text), np.uint8)


def bmp() -> bytes:
    """Return one of 2 x 2 black pixels."""
    content = io.BytesIO()
    Image.new("RGB", (2, 2)).save(content, "BMP")
    return content.getvalue()


def timed(folder: Path, *words: object) -> tuple[float, float]:
    """Do a command of holotype; return its seconds, and the GB that it held at the most."""
    command = [sys.executable, "-m", "holotype", *map(str, words)]
    environment = os.environ | {"HOLOTYPE_CACHE": str(own_cache(folder / "cache"))}
    started = time.perf_counter()
    with (folder / "said.txt").open("a") as said:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit((folder / "said.txt").read_text()[-2000:])
    return time.perf_counter() - started, usage.ru_maxrss / 1e6


def until_first_line(folder: Path, *words: object) -> float:
    """Return the seconds from the start of a command to its first line."""
    command = [sys.executable, "-m", "holotype", *map(str, words)]
    environment = os.environ | {"HOLOTYPE_CACHE": str(own_cache(folder / "cache"))}
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - started
        process.terminate()
    return seconds


def f1_of_classes(out: Path) -> list[float]:
    """Return how well each planted class was found."""
    truth = np.repeat(np.arange(len(SIZES)), SIZES)
    with (out / "found.csv").open(encoding="utf-8", newline="") as file:
        found = [(int(row["id"]), "abc".index(row["class"])) for row in csv.DictReader(file)]
    hits = [sum(one < len(truth) and truth[one] == k for one, own in found if own == k) for k in range(len(SIZES))]
    taken = [sum(own == k for _, own in found) for k in range(len(SIZES))]
    return [2 * hit / (count + size) for hit, count, size in zip(hits, taken, SIZES, strict=True)]


def make(folder: Path, count: int) -> None:
    """Make pictures and vectors in `folder`, where they were not kept."""
    if (folder / MADE).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plant(folder / "vectors.npy", count)
    write_tars(folder, count)
    (folder / MADE).touch()


def measure(folder: Path, count: int) -> dict[str, float]:
    """Return the figures of one size."""
    for name in ("out", "cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    pool, out = folder / "pool-*.tar", folder / "out"
    rows = np.cumsum([0, *SIZES[:-1]]).tolist()
    given = [word for name, row in zip("abc", rows, strict=True) for word in ("--exemplar", f"{name}={row:08}")]
    inputs = ["--images", pool, "--embeddings", folder / "vectors.npy", *given, "--out", out]
    seconds, peak = timed(folder, "run", *inputs)
    found = {"images": count, "run": seconds, "peak": peak} | dict(
        zip("abc", map(float, f1_of_classes(out)), strict=True)
    )
    print(found, file=sys.stderr, flush=True)
    found["again"], found["peak again"] = timed(folder, "run", *inputs, "--force")
    with opened_page() as page:
        found["first question"] = float(np.median([first_question(page, out) for _ in range(3)]))
    found["update"], _ = timed(folder, "update", out)
    found["discover"], _ = timed(folder, "discover", out)
    found["predict"] = until_first_line(folder, "predict", out, pool)
    return found


def table(found: Sequence[Mapping[str, float]]) -> str:
    """Return the figures as lines of Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " | F1 |", "|---" * (len(COLUMNS) + 1) + "|"]
    for one in found:
        scores = ", ".join(f"{one[name]:.2f}" for name in "abc")
        figures = " | ".join(f"{one[name]:.3g}" for name in COLUMNS[1:])
        lines.append(f"| {one['images']:,} | {figures} | {scores} |")
    return "\n".join(lines)


def draw(found: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw how time and memory grow with the images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = [one["images"] for one in found]
    for name in ("run", "again", "first question", "update", "discover"):
        left.plot(counts, [one[name] for one in found], marker="o", label=name)
    right.plot(counts, [one["peak"] for one in found], marker="o", label="run")
    left.set(xscale="log", yscale="log", xlabel="images", ylabel="seconds")
    right.set(xscale="log", xlabel="images", ylabel="GB at most", ylim=(0, None))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=120)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=COUNTS, metavar="COUNT", help="at least 2,600 images")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--keep", action="store_true", help="the pictures and vectors, for the next time")
    parser.add_argument("--make", action="store_true", help="make them, and measure nothing")
    given, found = parser.parse_args(), list[dict[str, float]]()
    for count in given.counts:
        folder = files.cache_folder() / "benchmarks" / f"large-{count}"
        try:
            make(folder, count)
            if not given.make:
                found.append(measure(folder, count))
        finally:
            if not (given.keep or given.make):
                shutil.rmtree(folder, ignore_errors=True)
    if found:
        print(table(found))
    if found and given.plot:
        draw(found, given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
