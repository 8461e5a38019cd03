"""python -m benchmarks.speed: images to vectors beside PyTorch and fastembed, and beside what the cores could do.

All that is compared runs in turn, on the same images, in each of the repeats; ratios are of medians. The pool is 2,000
drawings of emoji as JPEGs of 600 to 1,600 pixels. fastembed runs in an environment of its own, which is made once.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import heads
from benchmarks.figures import average_precision
from benchmarks.networks import onnx_file
from examples.emoji.build import Settings, is_built, render_to, write_mark
from examples.emoji.drawings import Drawing, load
from examples.emoji.sources import SOURCES, fetch
from examples.emoji.sources import cache_folder as drawings_folder
from holotype import Classifier, load_encoder, open_pool
from holotype.encoders.encode import l2_normalize
from holotype.encoders.quantise import choose_arithmetic
from holotype.encoders.runtimes import OnnxEncoder, cores
from holotype.files import cache_folder
from holotype.grouping.search import cosine
from holotype.pool.pool import Pool
from holotype.progress import Silent
from holotype.vectors.embeddings import Embeddings, open_array

FOLDER = cache_folder() / "benchmarks" / "speed"
IMAGES, REPEATS, SIDES = 2_000, 4, (600, 1600)
TRIED = 96  # images that tell how many workers suit a rival
FASTEMBED = "fastembed==0.9.1"
SEARCHED = ((92_350, 512), (5_000_000, 512))
RESULTS = Path(__file__).parent / "results" / "speed.json"


def say(text: str = "") -> None:
    """Print a line at once."""
    print(text, flush=True)


def build_pool() -> Path:
    """Render whole classes of emoji, 2,000 drawings in all, unless they are there; return the folder."""
    settings, folder = Settings("full", 0, SIDES), FOLDER / "pool"
    if not is_built(folder, settings):
        gallery = render_to(folder, _chosen(load(fetch(SOURCES, drawings_folder()))), settings)
        write_mark(folder, gallery, settings)
    return folder


def _chosen(drawings: Sequence[Drawing]) -> list[Drawing]:
    rng = np.random.default_rng(0)
    count = Counter(drawing.class_name for drawing in drawings)
    names = rng.permutation([name for name in sorted(count) if 40 <= count[name] <= 92])
    chosen = [drawing for name in names for drawing in drawings if drawing.class_name == name][:IMAGES]
    return [chosen[i] for i in rng.permutation(len(chosen))]


@dataclass
class Measured:
    """What a way of encoding did in each repeat; `vectors` of all images in the order of the pool."""

    rates: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    parts: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Median images per second."""
        return statistics.median(self.rates)


def encoding(tar: Path, network: str, precisions: Sequence[str]) -> dict[str, Any]:
    """Measure all ways with one network; return the rows of the table."""
    pool, path = open_pool(tar), onnx_file(network)
    encoders = {name: choose_arithmetic(load_encoder(str(path)), pool, name, Silent()) for name in precisions}  # type: ignore[arg-type]
    common: dict[str, Any] = {"tar": str(tar), "network": str(path), "module": network}
    ways = {f"holotype {name}": common | {"way": "holotype", "precision": name} for name in precisions}
    counts = [0, *(1 << power for power in range(cores().bit_length()))]
    for way in ("pytorch", "fastembed"):
        tried = {workers: _run(common | {"way": way, "workers": workers}, 0, TRIED)[0] for workers in counts}
        best = max(tried, key=lambda workers: tried[workers])
        say(f"{network}: {way} with {', '.join(f'{w} workers {rate:.1f}/s' for w, rate in tried.items())}")
        ways[way] = common | {"way": way, "workers": best}
    measured = {name: Measured() for name in ways}
    bounds: dict[str, list[float]] = {name: [] for name in precisions}
    size = len(pool) // REPEATS
    for repeat in range(REPEATS):
        for name, job in ways.items():
            _add(measured[name], *_run(job, repeat * size, size))
        for name, encoder in encoders.items():
            bounds[name].append(bound(encoder, pool))
        say(f"{network}, repeat {repeat + 1}: " + ", ".join(f"{n} {m.rates[-1]:.1f}/s" for n, m in measured.items()))
    return {"network": network} | _summary(measured, bounds, _classes(tar.parent, pool))


def _add(measured: Measured, rate: float, peak_mb: float, vectors: NDArray[np.float32]) -> None:
    measured.rates.append(rate)
    measured.peak_mb = max(measured.peak_mb, peak_mb)
    measured.parts.append(vectors)


def _run(job: dict[str, Any], start: int, count: int) -> tuple[float, float, NDArray[np.float32]]:
    """Run a way in a process of its own; return images per second, peak MB and the vectors."""
    with tempfile.TemporaryDirectory() as folder:
        vectors = Path(folder) / "vectors.npy"
        given = json.dumps(job | {"start": start, "count": count, "vectors": str(vectors)})
        if job["way"] == "fastembed":
            command = [str(_fastembed()), "benchmarks/contenders.py", given]
        else:
            command = [sys.executable, "-m", "benchmarks.contenders", given]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        if done.returncode:
            raise SystemExit(f"{job['way']} failed:\n{done.stderr[-2000:]}")
        said = json.loads(done.stdout.splitlines()[-1])
        return said["rate"], said["peak_mb"], np.load(vectors)


def _fastembed() -> Path:
    """The Python of an environment that has fastembed, whose requirements and ours exclude each other."""
    folder = FOLDER / FASTEMBED
    if not (folder / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", FASTEMBED], check=True)
        (folder / "made").touch()
    return folder / "bin" / "python"


def bound(encoder: OnnxEncoder, pool: Pool, images: int = 100) -> float:
    """Images per second if each core did nothing but decode and run the network, each as fast as it can alone."""
    started = time.process_time()
    pixels = np.stack([encoder.prepare(pool.read(row)) for row in range(images)])
    decoding = (time.process_time() - started) / images
    return cores() / (decoding + cores() / max(_network_rates(encoder, pixels)))


def _network_rates(encoder: OnnxEncoder, pixels: NDArray[np.uint8]) -> Iterator[float]:
    """OpenVINO's own queue, with several sizes of a batch."""
    import openvino

    core = openvino.Core()
    for batch in (1, 2, 4, 8):
        model = core.read_model(encoder.content)
        model.reshape({0: [batch, *encoder.size, 3]})
        precision = "bf16" if encoder.precision == "bf16" else "f32"
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
        compiled = core.compile_model(model, "CPU", options)
        queue = openvino.AsyncInferQueue(compiled)
        for _ in range(cores()):
            queue.start_async({0: pixels[:batch]})
        queue.wait_all()
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < 1.5:
            queue.start_async({0: pixels[:batch]})
            done += batch
        queue.wait_all()
        yield done / (time.perf_counter() - started)


def _classes(folder: Path, pool: Pool) -> NDArray[np.str_]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        shown = {row["index"]: row["class"] for row in csv.DictReader(file)}
    return np.array([shown[name] for name in pool.ids])


def retrieval_ap(vectors: NDArray[np.float32], classes: NDArray[np.str_]) -> float:
    """Mean average precision: each image asks for the others of its class, by cosine."""
    similar = l2_normalize(vectors) @ l2_normalize(vectors).T
    np.fill_diagonal(similar, -2)
    found = []
    for row, scores in enumerate(similar):
        alike = classes == classes[row]
        alike[row] = False  # it does not ask for itself
        found.append(average_precision(alike, np.argsort(-scores)[:-1]))
    return float(np.mean(found))


def _summary(
    measured: dict[str, Measured], bounds: dict[str, list[float]], classes: NDArray[np.str_]
) -> dict[str, Any]:
    """PyTorch's vectors, float32 of whole decodes, are the reference that fidelity is measured against."""
    vectors = {name: np.concatenate(one.parts) for name, one in measured.items()}
    reference = l2_normalize(vectors["pytorch"])
    rows = {}
    for name, one in measured.items():
        row: dict[str, Any] = {"rate": one.rate, "rates": one.rates, "peak_mb": one.peak_mb}
        row["ap"] = retrieval_ap(vectors[name], classes[: len(reference)])
        if name.startswith("holotype"):
            row["bound"] = statistics.median(bounds[name.split()[1]])
            cosines = (l2_normalize(vectors[name]) * reference).sum(axis=1)
            row["cosine"] = dict(zip(("min", "p1", "p50"), np.quantile(cosines, (0, 0.01, 0.5)).tolist(), strict=True))
        rows[name] = row
    return {"rows": rows}


def table(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of `encoding`."""
    rows = found["rows"]
    columns = (found["network"], "images/s", "x PyTorch", "x fastembed", "of the bound", "peak MB", "AP")
    yield f"\n| {' | '.join(columns)} | cosine p50, p1, min |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, row in rows.items():
        ratios = " | ".join(f"{row['rate'] / rows[rival]['rate']:.2f}" for rival in ("pytorch", "fastembed"))
        share = f"{row['rate'] / row['bound']:.2f}" if "bound" in row else ""
        cosines = ", ".join(f"{row['cosine'][key]:.4f}" for key in ("p50", "p1", "min")) if "cosine" in row else ""
        yield (
            f"| {name} | {row['rate']:.1f} | {ratios} | {share} | {row['peak_mb']:.0f} | {row['ap']:.4f} | {cosines} |"
        )


def latency(pool: Pool) -> dict[str, float]:
    """Milliseconds of one image through `Classifier.predict`, and seconds of a cold `holotype predict`."""
    with tempfile.TemporaryDirectory() as folder:
        model, image = Path(folder) / "model", Path(folder) / "image.jpg"
        Classifier().fit(pool, {"a": [pool.ids[0]], "b": [pool.ids[1]]}).save(model)
        image.write_bytes(pool.read(2))
        classifier = Classifier.load(model)
        taken = [_seconds(lambda row=row: classifier.predict(pool.read(row))) for row in range(300)][20:]  # type: ignore[misc]
        command = [str(Path(sys.executable).parent / "holotype"), "predict", str(model), str(image)]
        cold = heads.seconds(lambda: subprocess.run(command, check=True, capture_output=True), 7)
    p50, p99 = (np.quantile(taken, (0.5, 0.99)) * 1e3).tolist()
    return {"p50_ms": p50, "p99_ms": p99, "cold_s": cold}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def search(rows: int, dim: int, classes: int = 3) -> dict[str, float]:
    """Seconds of one pass over a memory-mapped float16 matrix: ours, NumPy's, and only reading it."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / "matrix.npy"
        some = np.random.default_rng(0).normal(size=(min(rows, 50_000), dim)).astype(np.float16)
        matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, dim))
        for start in range(0, rows, len(some)):
            matrix[start : start + len(some)] = some[: rows - start]
        del matrix
        queries = [l2_normalize(some[k : k + 1]) for k in range(classes)]

        def ours(matrix: NDArray[Any]) -> None:
            cosine(Embeddings([matrix], np.arange(rows), rows), queries)

        def numpy(matrix: NDArray[Any]) -> None:
            for start in range(0, rows, 8192):
                l2_normalize(matrix[start : start + 8192]) @ np.concatenate(queries).T

        def read(matrix: NDArray[Any]) -> None:
            with ThreadPoolExecutor(cores()) as threads:
                list(threads.map(lambda s: matrix[s : s + 8192].view(np.uint64).sum(), range(0, rows, 8192)))

        taken: dict[str, list[float]] = {"ours": [], "numpy": [], "read": []}
        for _ in range(3):
            for name, work in zip(taken, (ours, numpy, read), strict=True):
                taken[name].append(_seconds(lambda work=work: work(open_array(path))))  # type: ignore[misc]
    medians = {f"{name}_s": statistics.median(times) for name, times in taken.items()}
    return {"rows": rows, "dim": dim} | medians | {"gb": rows * dim * 2 / 1e9}


def main() -> int:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--only", choices=("encoding", "latency", "search", "heads"))
    parser.add_argument("--write", action="store_true", help=f"put what was measured into {RESULTS.name}")
    given = parser.parse_args()
    tar = build_pool() / "images.tar"
    found: dict[str, Any] = {"cores": cores()}
    if given.only in (None, "encoding"):
        found["encoding"] = [
            encoding(tar, "efficientnet_lite0", ["f32", "int8"]),
            encoding(tar, "resnet50", ["f32", "int8"]),
        ]
        for one in found["encoding"]:
            say("\n".join(table(one)))
    if given.only in (None, "latency"):
        found["latency"] = latency(open_pool(tar))
        text = "\none image: {p50_ms:.1f} ms (p99 {p99_ms:.1f}); cold `holotype predict`: {cold_s:.2f} s"
        say(text.format(**found["latency"]))
    if given.only in (None, "search"):
        found["search"] = [search(*size) for size in SEARCHED]
        for one in found["search"]:
            rates = [f"{way} {one[f'{way}_s']:.3f} s" for way in ("ours", "numpy", "read")]
            share = one["read_s"] / one["ours_s"]
            say(f"search {one['rows']:,} x {one['dim']}: {', '.join(rates)}; {share:.2f} of the bandwidth")
    if given.only in (None, "heads"):
        found["heads"] = [heads.measure(name, 50, 3) for name in ("linear", "mlp")]
        for row in found["heads"]:
            say(", ".join(f"{key} {value}" for key, value in row.items()))
    if given.write:
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(before | found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
