"""What the tests of the review page share: a small run, its server, Debian's browser, and how a person uses it."""

import io
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from holotype import Settings, run
from holotype.review.app import create_app
from holotype.review.atlas import Atlas
from holotype.review.review import Review
from holotype.review.server import make_server

RED, TAG, QUOTE = "red", "<img src=x onerror=alert(1)>", '"><script>alert(2)</script>'
CLASSES = [RED, TAG, QUOTE]
N = 240
SHOWN = "#question[data-shown=true]"
CELL = "#cells .cell[data-shown]"
SEEN = "#cells .cell[data-seen]"  # long enough to be answered without a mark
LAPTOP, PHONE = (1280, 800), (390, 844)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
Open = Callable[..., Page]
PATIENCE = 30_000  # milliseconds: how busy a machine is decides no test
expect.set_options(timeout=PATIENCE)


def make_run(folder: Path, network: str, picture: Callable[[int], NDArray[np.uint8]]) -> Path:
    """Run on 240 pictures, of which every tenth is of each class; two of the classes have HTML for a name."""
    with tarfile.open(folder / "images.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for row in range(N):
            buffer = io.BytesIO()
            Image.fromarray(picture(row)).save(buffer, "JPEG", quality=95)
            info = tarfile.TarInfo(f"{row}.jpg")
            info.size = buffer.tell()
            archive.addfile(info, io.BytesIO(buffer.getvalue()))
    settings = Settings.parse(
        {
            "images": str(folder / "images.tar"),
            "exemplars": {name: [str(k)] for k, name in enumerate(CLASSES)},
            "encoders": [network],
            "fit": {"near_duplicate": 0.99999, "doubtful_band": 0.25},
        }
    )
    run(settings, folder / "out")
    return folder / "out"


def make_map(out: Path, folder: Path) -> bytes:
    """Return the map of the run `out` as a copy of it in `folder` keeps it."""
    with Review.open(shutil.copytree(out, folder / "out")) as review:
        Atlas(review).work()
        return review.folder.map.read_bytes()


@contextmanager
def reviewed(out: Path, folder: Path) -> Iterator[tuple[Review, str]]:
    """Review a copy of the run `out` in `folder`, served at the address that is yielded."""
    copy = folder / "out"
    shutil.copytree(out, copy)
    with Review.open(copy) as review, served(review) as address:
        yield review, address


@contextmanager
def served(review: Review, port: int = 0) -> Iterator[str]:
    """Serve the page from a thread, at the address that is yielded; a request waits until the server is there."""
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        app = create_app(review, port=listener.getsockname()[1], who="tester")
        server = make_server(app)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield app.state.access.address
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's browser. Where it is missing the tests fail: the page is nothing without one."""
    path = shutil.which("chromium")
    if path is None:
        raise AssertionError("expected chromium on the PATH, found none; install it: make browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Held:
    """Requests to `pattern` wait until they are let go."""

    def __init__(self, context: BrowserContext, pattern: str) -> None:
        self._waiting: list[Route] = []
        self._free = False
        context.route(pattern, self._hold)

    def _hold(self, route: Route) -> None:
        if self._free:
            route.continue_()
        else:
            self._waiting.append(route)

    def let_go(self) -> None:
        self._free = True
        while self._waiting:
            self._waiting.pop().continue_()


def question(page: Page) -> str:
    """Return the id of the image on the screen, once it is shown."""
    page.wait_for_selector(SHOWN)
    return page.inner_text("#question-name")


def press(page: Page, key: str) -> str:
    """Press `key` about the question on the screen, and return the id of its image when the next is there."""
    name = question(page)
    page.keyboard.press(key)
    expect(page.locator("#question-name")).not_to_have_text(name)
    page.wait_for_selector(SHOWN)
    return name


def answered(page: Page, count: int) -> None:
    """Wait until the page counts `count` answers."""
    expect(page.locator("#st-answered")).to_have_text(str(count))


def look(page: Page) -> None:
    """Have the page look for what happened elsewhere now, as when one comes back to its tab; else it does in 3 s."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def verdict(review: Review) -> dict[tuple[str, str], str]:
    """Return (image, class) -> the answer that holds."""
    return {(one.id, one.label): one.verdict for one in review.answers.current()}
