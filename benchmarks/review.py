"""python -m benchmarks.review OUT: how quick the page of `holotype review OUT` is, in Debian's chromium.

The time from the start of the command to the first page or question on screen, without answers and with those of an
earlier sitting; from a key to the next page or question on screen; from a key to what is like an image, or like another
picture; of choosing a page, and of a refit. The run is copied, so that it keeps its own answers.
With --load: many reviewers at once (`benchmarks.load`). The reference pool has 92,350 images:

    python -m benchmarks.whole
    holotype run --images CACHE/benchmarks/reference/images.tar --embeddings CACHE/benchmarks/resumed \
        --exemplar mage=29665 --exemplar vampire=3213 --exemplar superhero=19081 --out OUT
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.load import start, table
from holotype.review.review import Review
from holotype.settings import Settings

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
STARTS, ANSWERS, PAGES = 5, 30, 8
SIZES = (24, 48, 60)  # images of a page
SEEN = "(count) => document.querySelectorAll('#cells .cell[data-seen]').length >= count"
# how long it takes from a key until all images of another sheet are painted
TURN = """([key, count]) => new Promise(done => {
    const rows = () => [...document.querySelectorAll('#cells .cell')].map(cell => cell.dataset.row).join();
    const before = rows(), start = performance.now();
    const target = document.querySelector('#cells .cell[tabindex="0"]');
    const look = () => {
        const images = [...document.querySelectorAll('#cells .cell img')];
        const there = rows() !== before && images.length === count && images.every(image => image.complete);
        requestAnimationFrame(there ? () => done(performance.now() - start) : look);
    };
    target.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
    look();
})"""
SHOWN = "() => document.querySelector('#question img')?.complete && !document.querySelector('.yes').disabled"
WATCH = """() => {
    const name = document.querySelector('#question-name'), before = name.textContent;
    window.shown = new Promise(done => document.addEventListener('keydown', () => {
        const start = performance.now();
        const look = () => {
            const image = document.querySelector('#question img');
            const there = name.textContent !== before && image?.complete;
            requestAnimationFrame(there ? () => done(performance.now() - start) : look);
        };
        requestAnimationFrame(look);
    }, {once: true, capture: true}));
}"""


def first_question(page: Page, out: Path) -> float:
    """Seconds from the start of the command to the first question on screen."""
    started = time.perf_counter()
    process, address = start(out)
    page.goto(f"{address}#mode=one")
    page.wait_for_function(SHOWN)
    seconds = time.perf_counter() - started
    process.terminate()
    process.wait()
    return seconds


def next_questions(page: Page, out: Path) -> list[float]:
    """Milliseconds from each of the answers to the next question on screen; refits run beside."""
    process, address = start(out)
    page.goto(f"{address}#mode=one")
    found = []
    for number in range(ANSWERS):
        page.wait_for_function(SHOWN)
        page.wait_for_timeout(250)
        page.evaluate(WATCH)
        page.keyboard.press("y" if number % 3 == 0 else "n")
        found.append(float(page.evaluate("() => window.shown")))
    process.terminate()
    process.wait()
    return found


def next_pages(page: Page, out: Path, count: int) -> tuple[list[float], list[float], float]:
    """Milliseconds from Enter to the next page of `count` images, and from A to those like one; seconds to the first.

    A page is looked over for 2 seconds: it is learnt, and the next is chosen, behind it.
    """
    page.context.add_cookies([{"name": "holotype-count", "value": str(count), "url": "http://127.0.0.1"}])
    started = time.perf_counter()
    process, address = start(out)
    page.goto(address)
    page.wait_for_function(f"() => document.querySelectorAll('#cells .cell[data-shown]').length >= {count}")
    first, turned, around = time.perf_counter() - started, list[float](), list[float]()
    for number in range(PAGES):
        page.wait_for_function(SEEN, arg=count)
        page.wait_for_timeout(2000)
        for place in range(3 * (PAGES - number) // PAGES):
            page.locator("#cells .cell").nth(place).click()
        turned.append(float(page.evaluate(TURN, ["Enter", count])))
    for _ in range(PAGES):
        around.append(float(page.evaluate(TURN, ["a", count])))
        page.keyboard.press("Escape")
        page.wait_for_timeout(300)
    process.terminate()
    process.wait()
    return turned, around, first


def choices(out: Path) -> list[str]:
    """Say how long the server takes to choose a page, and to find what is like an image or another picture."""
    lines = []
    with Review.open(out) as review:
        label, row = review.classes[0], next(iter(review.state.baseline.exemplar_rows))
        for count in SIZES:
            lines.append(
                _said(f"choosing a page of {count}", _timed(lambda n=count: review.next(n, label, page=True)), "s")
            )
        lines.append(_said("what is like an image", _timed(lambda: review.around(row, label, 60)), "s"))
        content = review.pool.read(row)
        lines.append(_said("what is like another picture", _timed(lambda: review.search(content, label, 60)), "s"))
    return lines


def _timed(action: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(STARTS):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return found


def refits(out: Path) -> list[float]:
    """Seconds of a refit after each five answers about each class: all classes are learnt anew."""
    found = []
    with Review.open(out) as review:
        for number in range(6):
            for label in review.classes:
                for question in review.next(5, label):
                    review.answers.add(
                        question.id, label, "yes" if question.score > 0.4 else "no", audit=question.audit
                    )
            started = time.perf_counter()
            review.refit()
            found.append(time.perf_counter() - started)
            print(f"refit {number + 1}: {found[-1]:.2f} s", file=sys.stderr)
    return found


def _said(what: str, values: Sequence[float], unit: str) -> str:
    return f"{what}: median {statistics.median(values):.3g} {unit}, worst {max(values):.3g} {unit} of {len(values)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.review", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder of a run")
    parser.add_argument("--load", action="store_true", help="many reviewers at once, and a server that is killed")
    given: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "out"
        shutil.copytree(
            given.out, copy, ignore=lambda _, names: [name for name in names if name.startswith("answers.db")]
        )
        if given.load:
            print(*table(copy, list(Settings.load(copy / "holotype.toml").exemplars)), sep="\n")
        else:
            show(copy)
    return 0


@contextmanager
def opened_page() -> Iterator[Page]:
    """A page of a browser, as on a laptop."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser.new_page(viewport={"width": 1280, "height": 800})
        browser.close()


def show(copy: Path) -> None:
    """Print how quick the page is in a browser."""
    with opened_page() as page:
        print(_said("first question on screen", [first_question(page, copy) for _ in range(STARTS)], "s"))
        print(_said("next question on screen", next_questions(page, copy), "ms"))
        for count in SIZES:
            turned, around, first = next_pages(page, copy, count)
            print(f"first page of {count} on screen: {first:.3g} s")
            print(_said(f"next page of {count} on screen", turned, "ms"))
            print(_said(f"{count} that are like an image on screen", around, "ms"))
        print(*choices(copy), sep="\n")
        print(_said("refit of all classes", refits(copy), "s"))
        again = [first_question(page, copy) for _ in range(STARTS)]
        print(_said("first question on screen with 30 answers a class and more", again, "s"))


if __name__ == "__main__":
    sys.exit(main())
