"""python -m benchmarks.serving RUN IMAGES: `holotype serve` under load, and others with the same model beside it.

RUN is a finished run, IMAGES a folder. `--part` chooses: rivals (with `holotype embed` in the same rounds), half (the
times of answers at half of that load), overload, slow, killed, long. What the others need is in no extra: litserve.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.serving.load import Seen, closed_loop, open_loop, requests
from holotype.export.network import to_onnx
from holotype.runs.commands import load_classifier

CLIENTS, SECONDS, ROUNDS = 16, 20.0, 3
PORT = 8790
PARTS = ("rivals", "half", "overload", "slow", "killed", "long")
MEGA = 1 << 20


def tree(process: int) -> list[int]:
    """Return a process and all that it started."""
    found = [process]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == process:
            found += tree(int(path.parent.name))
    return found


def memory(process: int) -> float:
    """Return the megabytes that a process and all that it started hold alone or share in part (PSS)."""
    total = 0
    for one in tree(process):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@contextmanager
def service(words: list[str], path: str, given: list[bytes]) -> Iterator[int]:
    """Start a service, and yield its process when it answers."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                if asyncio.run(closed_loop(PORT, given[:1], 1, 0.01)).statuses[200]:
                    break
            except OSError:
                pass
            if time.monotonic() > until or process.poll() is not None:
                raise SystemExit(f"{' '.join(words)} does not answer at {path}")
            time.sleep(0.2)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def holotype(*words: object) -> list[str]:
    """Return a command of holotype."""
    return [str(Path(sys.executable).with_name("holotype")), *map(str, words)]


class Bench:
    """A run, a folder of images, and how each contender is started and asked."""

    def __init__(self, run: Path, images: Path, folder: Path) -> None:
        self.run, self.images, self.folder = run, images, folder
        self.contents = [path.read_bytes() for path in sorted(images.iterdir())][:2000]
        network = folder / "model.onnx"
        network.write_bytes(to_onnx(load_classifier(run)))
        rival = [sys.executable, "-m"]
        self.ours = holotype("serve", f"model={run}", "--port", PORT)
        self.contenders = {
            "holotype serve": (self.ours, "/models/model/predict"),
            "FastAPI + ONNX Runtime": ([*rival, "benchmarks.serving.plain", str(network), str(PORT)], "/predict"),
            "litserve + ONNX Runtime": ([*rival, "benchmarks.serving.lit", str(network), str(PORT)], "/predict"),
        }

    def requests(self, name: str = "holotype serve") -> list[bytes]:
        """Return the requests for a contender."""
        return requests(self.contenders[name][1], self.contents, in_json=name.startswith("lit"))

    def embed(self) -> float:
        """Return the images a second of `holotype embed`, loading and all left out: the rate of a second half."""
        seconds = []
        for part, count in enumerate((200, len(self.contents))):
            pool, out = self.folder / f"pool{part}", self.folder / f"vectors{part}-{time.monotonic_ns()}"
            pool.mkdir(exist_ok=True)
            for number, content in enumerate(self.contents[:count]):
                (pool / f"{number}.jpg").write_bytes(content)
            environment = os.environ | {"HOLOTYPE_CACHE": str(out / "cache")}
            words = holotype("embed", pool, "--out", out / "vectors", "--precision", "f32")
            began = time.perf_counter()
            subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
        return (len(self.contents) - 200) / (seconds[1] - seconds[0])

    def rivals(self) -> None:
        """Each contender at full load, and `holotype embed` on the same images, round by round."""
        seen: dict[str, list[Seen]] = {name: [] for name in self.contenders}
        held: dict[str, float] = {}
        embedded = []
        for _ in range(ROUNDS):
            embedded.append(self.embed())
            for name, (words, path) in self.contenders.items():
                given = self.requests(name)
                with service(words, path, given) as process:
                    asyncio.run(closed_loop(PORT, given, CLIENTS, 3))
                    seen[name].append(asyncio.run(closed_loop(PORT, given, CLIENTS, SECONDS)))
                    held[name] = memory(process)
        print(f"\n| {CLIENTS} clients, {SECONDS:.0f} s, {ROUNDS} rounds | images/s | of embed | p50 | p99 | memory |")
        print("|---|---|---|---|---|---|")
        print(f"| holotype embed | {np.median(embedded):.0f} | 1 | | | |")
        for name, rounds in seen.items():
            rates = [one.rate for one in rounds]
            share = np.median([rate / base for rate, base in zip(rates, embedded, strict=True)])
            p50, p99 = (np.median([one.quantile(share) for one in rounds]) for share in (0.5, 0.99))
            print(
                f"| {name} | {np.median(rates):.0f} | {share:.2f} | {p50:.0f} ms | {p99:.0f} ms | {held[name]:.0f} MB |"
            )

    def half(self) -> None:
        """Each contender at half of the load that ours takes."""
        given = self.requests()
        with service(self.ours, "", given):
            rate = asyncio.run(closed_loop(PORT, given, CLIENTS, SECONDS)).rate / 2
        print(f"\n| {rate:.0f} requests a second | p50 | p99 |\n|---|---|---|")
        for name, (words, path) in self.contenders.items():
            given = self.requests(name)
            with service(words, path, given):
                asyncio.run(closed_loop(PORT, given, CLIENTS, 3))
                seen = asyncio.run(open_loop(PORT, given, rate, 2 * SECONDS))
            print(f"| {name} | {seen.quantile(0.5):.0f} ms | {seen.quantile(0.99):.0f} ms |", flush=True)

    def overload(self) -> None:
        """More clients than the queue has room for."""
        given = self.requests()
        with service([*self.ours, "--queue", "64"], "", given):
            seen = asyncio.run(closed_loop(PORT, given, 400, SECONDS))
        print(f"\noverload, 400 clients and room for 64: {_told(seen)}")

    def slow(self) -> None:
        """200 clients that send a byte a second, beside those that ask as they should."""

        async def beside() -> Seen:
            dripping = [asyncio.create_task(_drip(number)) for number in range(200)]
            await asyncio.sleep(2)
            seen = await closed_loop(PORT, given, CLIENTS, SECONDS)
            for one in dripping:
                one.cancel()
            return seen

        given = self.requests()
        with service(self.ours, "", given):
            alone = asyncio.run(closed_loop(PORT, given, CLIENTS, SECONDS))
            print(f"\nbeside 200 slow clients: {_told(asyncio.run(beside()))}; without: {alone.rate:.0f} images/s")

    def killed(self) -> None:
        """kill -9 under load, and a start at the same port, three times."""
        given = self.requests()

        async def load() -> Seen:
            return await closed_loop(PORT, given, CLIENTS, 40)

        def kill() -> None:
            for _ in range(3):
                with service(self.ours, "", given) as process:
                    time.sleep(5)
                    os.kill(process, signal.SIGKILL)

        async def both() -> Seen:
            killing = asyncio.create_task(asyncio.to_thread(kill))
            seen = await load()
            await killing
            return seen

        print(f"\nkilled three times within 40 s: {_told(asyncio.run(both()))}")

    def long(self) -> None:
        """Ten minutes at full load."""
        given = self.requests()
        with service(self.ours, "", given) as process:
            for minute in range(10):
                seen = asyncio.run(closed_loop(PORT, given, CLIENTS, 60))
                print(f"minute {minute + 1}: {_told(seen)}; {memory(process):.0f} MB", flush=True)


async def _drip(number: int) -> None:
    head = b"POST /models/model/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
            for byte in (head if number % 2 else head[:30]) + bytes(900):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1 if byte == 0 else 0.2)
        except OSError:
            await asyncio.sleep(0.5)


def _told(seen: Seen) -> str:
    statuses = ", ".join(f"{count:,} x {status}" for status, count in sorted(seen.statuses.items()))
    times = f"p50 {seen.quantile(0.5):.0f} ms, p99 {seen.quantile(0.99):.0f} ms"
    return f"{seen.rate:.0f} images/s, {statuses}, {seen.broken} without an answer, {times}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--part", choices=PARTS, action="append")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.run, options.images, Path(folder))
        for part in options.part or PARTS:
            getattr(bench, part)()
