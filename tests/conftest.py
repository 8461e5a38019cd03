"""Real JPEGs and real tars, small."""

import csv
import io
import json
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Small matrices on several cores wait for each other, a hundred times as long where others compute as well. These are
# read when numpy, scipy and torch are imported, here and in the processes that tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import blurred, encoded
from PIL import Image
from system import mounting

from holotype import Pool, Settings, load_encoder, open_pool, run
from holotype.encoders.runtimes import OnnxEncoder

if TYPE_CHECKING:
    from browser import Open
    from client import Client
    from playwright.sync_api import Browser, BrowserContext, Page

    from holotype.review.review import Review

pytest_plugins = ["classifiers", "storing"]
Colour = tuple[int, int, int]
Member = tuple[str, bytes]
Jpeg = Callable[..., bytes]
MakeTar = Callable[..., Path]
Picture = Callable[[int], NDArray[np.uint8]]
Job = Callable[..., Settings]
OnOwnDisk = Callable[[Path, str], list[str]]
Holotype = Callable[..., tuple[int, str, str]]

COLOURS = {"red": (200, 30, 40), "green": (30, 180, 60), "blue": (40, 50, 210)}
N = 240


def _jpeg(colour: Colour = (200, 30, 30), size: tuple[int, int] = (16, 12)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def jpeg() -> Jpeg:
    """`jpeg(colour, (width, height))` returns the bytes of a plain JPEG."""
    return _jpeg


@pytest.fixture
def holotype(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Holotype:
    """`holotype("run", ...)` does a command in this process and returns (exit code, stdout, stderr)."""
    from holotype.cli.main import main

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["holotype", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """A command leaves Ctrl-C to the system when it ends, as its process does; the one that tests goes on."""
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


def write_tar(path: Path, members: Sequence[Member], format: int = tarfile.GNU_FORMAT) -> Path:  # noqa: A002
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def make_tar(tmp_path: Path) -> MakeTar:
    """`make_tar([(name, bytes), ...], name, format=...)` writes an uncompressed tar and returns its path."""

    def make(members: Sequence[Member], name: str = "pool.tar", *, format: int = tarfile.GNU_FORMAT) -> Path:  # noqa: A002
        return write_tar(tmp_path / name, members, format)

    return make


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An ONNX network of our own: average pooling to 4 x 4 cells of colour, 48-d."""
    import onnx
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("network")
    nodes = [
        helper.make_node("AveragePool", ["image"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["cells"], ["flat"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", 48])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "c.onnx")
    (folder / "c.json").write_text(json.dumps({"size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    return str(folder / "c.onnx")


@pytest.fixture(scope="session")
def encoder(network: str, tmp_path_factory: pytest.TempPathFactory) -> OnnxEncoder:
    """That network, in a cache that lasts as long as the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return load_encoder(network)


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """A tar of 40 soft pictures, which is only read."""
    path = tmp_path_factory.mktemp("pool") / "pool.tar"
    write_tar(path, [(f"{row}.jpg", encoded(blurred(row))) for row in range(40)])
    return open_pool(path)


def _picture(row: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(row)
    colour = list(COLOURS.values())[row % 10] if row % 10 < 3 else random.integers(0, 255, 3)
    base = np.full((48, 40 + row % 7, 3), colour, float)
    if row % 10 >= 3:
        base[: 24 + row % 11] = random.integers(0, 255, 3)
    return np.clip(base + random.normal(0, 12, base.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def picture() -> Picture:
    """Rows 0, 10, 20, ... are red; 1, 11, ... green; 2, 12, ... blue; the rest of two other colours; all noisy."""
    return _picture


@pytest.fixture
def data(tmp_path: Path, make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `images.tar` of 240 pictures (7.jpg is cut off) and `test.csv` of ten rows."""
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    members = {}
    for row in range(N):
        buffer = io.BytesIO()
        Image.fromarray(_picture(row)).save(buffer, "JPEG", quality=95)
        members[f"{row}.jpg"] = buffer.getvalue()
    members["7.jpg"] = members["7.jpg"][:200]
    make_tar(list(members.items()), "images.tar")
    with (tmp_path / "test.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["index", *COLOURS])
        for row in [30, 31, 32, 40, 41, 33, 34, 35, 36, 37]:
            table.writerow([row, *(int(row % 10 == k) for k in range(3))])
    return tmp_path


@pytest.fixture
def job(data: Path, network: str) -> Job:
    """`job(**more)` returns the settings of the reference job on `data`."""

    def settings(**more: object) -> Settings:
        values: dict[str, object] = {
            "images": str(data / "images.tar"),
            "exemplars": {"red": ["0"], "green": ["1"], "blue": ["2"]},
            "test_set": str(data / "test.csv"),
            "thresholds": [0.9],
            "encoders": [network],
            "fit": {"near_duplicate": 0.99999, "doubtful_band": 0.25},
        }
        return Settings.parse(values | more)

    return settings


@pytest.fixture
def on_own_disk() -> OnOwnDisk:
    """`on_own_disk(folder, options)` returns the words before a command that sees a new tmpfs at `folder`."""

    def mount(folder: Path, options: str) -> list[str]:
        folder.mkdir()
        return mounting(folder, f'mount -t tmpfs -o {options} disk "$1"')

    return mount


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def offline(hub: Path, cache: Path) -> Iterator[None]:
    """A hub cache on disk and no network, as with HF_HUB_OFFLINE=1, which is read when the hub is imported."""
    import huggingface_hub.constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(cache))
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory, network: str, picture: Picture) -> Path:
    """A run whose classes have odd names, as it was made: only copies of it are worked with."""
    from browser import make_run

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_run(tmp_path_factory.mktemp("run"), network, picture)


@pytest.fixture(scope="session")
def kept_map(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The map of that run, as it is kept there."""
    from browser import make_map

    return make_map(made_run, tmp_path_factory.mktemp("mapped"))


@pytest.fixture(scope="module")
def reviewed_run(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run for the tests of the review page."""
    return Path(shutil.copytree(made_run, tmp_path_factory.mktemp("run") / "out"))


@pytest.fixture
def served_review(reviewed_run: Path, tmp_path: Path) -> "Iterator[tuple[Review, str]]":
    """A review of a copy of that run, and the address that it is served at."""
    from browser import reviewed

    with reviewed(reviewed_run, tmp_path) as pair:
        yield pair


@pytest.fixture
def review(served_review: "tuple[Review, str]") -> "Review":
    return served_review[0]


@pytest.fixture
def client(served_review: "tuple[Review, str]") -> "Client":
    from client import Client

    return Client(served_review[1])


@pytest.fixture(scope="module")
def shared_review(reviewed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[tuple[Review, Client]]":
    """A review that all tests of a module share, and its client."""
    from browser import reviewed
    from client import Client

    with reviewed(reviewed_run, tmp_path_factory.mktemp("shared")) as (review, address):
        yield review, Client(address)


@pytest.fixture
def refusing(shared_review: "tuple[Review, Client]") -> "Iterator[Client]":
    """A client of a review in which nothing may be recorded, whatever the test sends."""
    review, client = shared_review
    yield client
    assert review.version == 0
    assert client.get("/api/apply").text.startswith('{"state":"never"')


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from browser import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser: "Browser") -> "Iterator[BrowserContext]":
    from browser import LAPTOP, PATIENCE

    context = browser.new_context(viewport={"width": LAPTOP[0], "height": LAPTOP[1]}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def open_page(context: "BrowserContext", served_review: "tuple[Review, str]") -> "Iterator[Open]":
    """`open_page(where)` opens the page in a new tab, at single questions where nothing else is said.

    What the browser complains of fails the test.
    """
    from browser import LAPTOP

    faults: list[str] = []

    def open_page(where: str = "#mode=one", size: tuple[int, int] = LAPTOP) -> "Page":
        page = context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"dialog {dialog.message}"))
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.goto(f"{served_review[1]}{where}")
        return page

    yield open_page
    # what a test breaks on purpose is reported as a resource that could not be loaded
    assert [one for one in faults if not one.startswith("Failed to load resource")] == []


@pytest.fixture
def page(open_page: "Open") -> "Page":
    from browser import SHOWN

    page = open_page()
    page.wait_for_selector(SHOWN)
    return page


@pytest.fixture(scope="session")
def finished(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing was answered about, on the pool of `data` without its broken image; only read, and copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = Path(shutil.copytree(made_run, tmp_path_factory.mktemp("finished") / "out"))
        settings = Settings.load(out / "holotype.toml")
        exemplars = {name: [str(k)] for k, name in enumerate(COLOURS)}
        run(settings.model_copy(update={"exemplars": exemplars}), out, force=True)
        return out


@pytest.fixture
def out(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run."""
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(finished, tmp_path / "out"))
