"""python -m benchmarks.map OUT: what the map of a run costs, in Debian's chromium.

How long it takes from the key to the map on the screen, without and with one that is kept; what laying it out takes,
and how quick questions are meanwhile; what is sent, and how long a frame takes. The run is copied. For 92,350 images
see `benchmarks.review`, for how many of an image's neighbours stay its neighbours `docs/tried.md`.
"""

import argparse
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.load import start
from benchmarks.review import FLAGS, SHOWN
from holotype.review.atlas import Atlas
from holotype.review.review import Review
from holotype.settings import SETTINGS, Settings

FRAMES, QUESTIONS, LONGEST = 20, 30, 300_000
SENT = """async (label) => {
    const size = async (path) => (await (await fetch(path)).text()).length;
    const began = performance.now();
    const states = await size(`/api/map/states?label=${encodeURIComponent(label)}`);
    return [await size("/api/map/points?start=0"), states, performance.now() - began];
}"""
ASK = """async ([label, count]) => {
    const took = [];
    for (let k = 0; k < count; k++) {
        const began = performance.now();
        await (await fetch(`/api/questions?label=${encodeURIComponent(label)}&n=1`)).json();
        took.push(performance.now() - began);
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return took;
}"""
DRAW = """async ([label, count]) => {
    const { Plot } = await import("/static/plot.js");
    const canvas = document.querySelector("#points");
    const plot = new Plot(canvas);
    const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer;
    const { rows, places } = await (await fetch("/api/map/points?start=0")).json();
    plot.add(new Uint32Array(bytes(rows)), new Uint16Array(bytes(places)));
    const { states } = await (await fetch(`/api/map/states?label=${encodeURIComponent(label)}`)).json();
    plot.states = Uint8Array.from(states, Number);
    plot.resize();
    plot.whole();
    const took = [];
    for (let k = 0; k < count; k++) {
        const began = performance.now();
        plot.draw();
        canvas.getContext("2d").getImageData(0, 0, 1, 1);
        took.push(performance.now() - began);
    }
    return [plot.count, took];
}"""


def open_map(page: Page, address: str) -> float:
    """Seconds from the key to the map on the screen."""
    page.goto(f"{address}#mode=one")
    page.wait_for_function(SHOWN)
    began = time.perf_counter()
    page.keyboard.press("m")
    page.wait_for_selector("#plot[data-states]", timeout=LONGEST)
    page.wait_for_selector("#points[data-drawn]", timeout=LONGEST)
    return time.perf_counter() - began


def show(page: Page, out: Path) -> None:
    """Print what the map of the run `out` costs."""
    label = next(iter(Settings.load(out / SETTINGS).exemplars))
    process, address = start(out)
    page.goto(f"{address}#mode=one")
    page.wait_for_function(SHOWN)
    before = page.evaluate(ASK, [label, QUESTIONS])
    page.evaluate("fetch('/api/map', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'})")
    meanwhile = page.evaluate(ASK, [label, QUESTIONS])
    state = page.evaluate("async () => (await (await fetch('/api/map')).json()).state")
    print(f"a question: {said(before)}; while the map is laid out ({state}): {said(meanwhile)}")
    process.terminate()
    process.wait()
    process, address = start(out)
    print(f"from the key to the map: {open_map(page, address):.1f} s")
    points, states, took = page.evaluate(SENT, label)
    count, frames = page.evaluate(DRAW, [label, FRAMES])
    print(f"{count:,} points: {points / 1000:.0f} kB once, {states / 1000:.0f} kB for each class, {took:.0f} ms")
    print(f"a frame of all of them: {said(frames)}")
    process.terminate()
    process.wait()
    process, address = start(out)
    print(f"from the key to the map that was kept: {open_map(page, address):.2f} s")
    process.terminate()
    process.wait()


def lay_out(out: Path) -> None:
    """Print what laying out takes: in the process that does it, and in the one that asks for it."""
    with Review.open(out) as review:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        Atlas(review).work()
        seconds = time.perf_counter() - began
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - own
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{len(review):,} images: {seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of CPU, "
            f"peak {used.ru_maxrss / 1e6:.2f} GB; {grown / 1e6:.2f} GB more in the server"
        )
    review.folder.map.unlink()


def said(milliseconds: Sequence[float]) -> str:
    """Return their median and the greatest, in words."""
    return f"median {statistics.median(milliseconds):.0f} ms, worst {max(milliseconds):.0f} of {len(milliseconds)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.map", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder of a run")
    given: Any = parser.parse_args(arguments)
    left = shutil.ignore_patterns("answers.db*", "vectors", "map.safetensors")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        copy = Path(shutil.copytree(given.out, Path(folder) / "out", ignore=left))
        lay_out(copy)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        show(browser.new_page(viewport={"width": 1280, "height": 800}), copy)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
