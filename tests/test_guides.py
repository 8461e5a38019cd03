"""What the tutorial and the guides say is done, in their order, on small pools of the shape that they speak of."""

import csv
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from colours import colour_towers
from conftest import write_tar
from documented import DOCS, Block, blocks, follow
from pictures import shapes

TUTORIAL = DOCS / "tutorial.md"
SERVING = DOCS / "guides" / "serving.md"  # test_serve_guide follows it
GUIDES = sorted({*(DOCS / "guides").glob("*.md")} - {SERVING})
FIRST = DOCS / "guides" / "index.md"  # it makes the run that the others begin with
FOLLOWED = [TUTORIAL, DOCS / "index.md", DOCS / "export.md", DOCS / "reference" / "python.md", *GUIDES]
PHOTOS, CAT, DOG = 90, 90, 94  # how many there are, and which of the shapes are the two examples
DRAWINGS = 240
# blocks that no test can do: page, mark, how the block begins
MARKED = {
    ("guides/label-studio-backend.md", "needs-label-studio", "HOLOTYPE_TOKEN=secret holotype"),
    ("guides/label-studio-backend.md", "needs-label-studio", "export LABEL_STUDIO_API_KEY=..."),
    ("guides/label-studio-backend.md", "needs-label-studio", "export ML_BLOCK_LOCAL_IP=false"),
    ("export.md", "needs-hub", "from holotype"),
    ("export.md", "needs-hub", "hf upload"),
    ("export.md", "needs-network", "from datasets"),
    ("export.md", "needs-network", "make web"),
    ("export.md", "needs-network", "import fiftyone"),
    ("export.md", "needs-network", "import webdataset"),
    ("guides/serving.md", "needs-server", "curl -H"),
    ("guides/serving.md", "needs-server", "curl http://127.0.0.1:8000/models"),
    ("guides/serving.md", "needs-server", "export HOLOTYPE_TOKEN=$(openssl"),
    ("guides/serving.md", "needs-server", "from huggingface_hub"),
    ("guides/serving.md", "needs-server", "holotype serve"),
    ("guides/serving.md", "needs-server", "import numpy"),
    ("guides/shipping.md", "needs-network", "pip install"),
    ("guides/stores.md", "needs-network", "pip install"),
    ("guides/stores.md", "needs-store", "from holotype"),
    ("guides/stores.md", "needs-store", "holotype embed"),
    ("guides/stores.md", "needs-store", "holotype predict"),
    ("guides/stores.md", "needs-store", "holotype review"),
    ("guides/stores.md", "needs-store", "holotype run"),
    ("guides/team.md", "needs-browser", "holotype review"),
    ("guides/team.md", "needs-network", "ssh -L"),
    ("guides/vectors.md", "needs-hub", "holotype run"),
    ("guides/words.md", "needs-hub", "holotype run"),
    ("guides/words.md", "needs-hub", "holotype search"),
    ("tutorial.md", "needs-browser", "holotype review"),
    ("tutorial.md", "needs-network", "pip install"),
    ("tutorial.md", "needs-npm", "python -m"),
}
SHOWN = {"", "text", "xml", "json"}  # languages of blocks that are only read


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache that all pages share, so that an image is encoded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder with what the guides begin with; a cat is a circle there, a dog is a square."""
    folder = tmp_path_factory.mktemp("guides")
    (folder / "photos").mkdir()
    pictures = [content for _, content in shapes(DOG + 1)]
    for number, content in enumerate(pictures[:PHOTOS]):
        (folder / "photos" / f"IMG_{number:04}.jpg").write_bytes(content)
    (folder / "cat.jpg").write_bytes(pictures[CAT])
    (folder / "dog.jpg").write_bytes(pictures[DOG])
    (folder / "towers").mkdir()
    colour_towers(folder / "towers", image="vision_model.onnx")
    with (folder / "test_set.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["index", "cat", "dog"])
        table.writerows([f"IMG_{n:04}", int(n % 6 == 0), int(n % 6 == 4)] for n in range(60, 90))
    assert follow(FIRST, folder) == 1
    return folder


@pytest.fixture
def emoji(tmp_path: Path, cache: Path) -> Path:
    """A folder with the data of the demo in small: its classes are those that the tutorial gives exemplars of."""
    classes = exemplars_of_the_tutorial()
    folder = tmp_path / "demo" / "emoji"
    shown = dict(zip((0, 4, 2), classes, strict=False))  # the rest of a number by 6 -> what is drawn
    label = [shown.get(number % 6, "line") for number in range(DRAWINGS)]
    write_tar(folder / "images.tar", shapes(DRAWINGS))
    truth = [[number, *(int(label[number] == name) for name in classes)] for number in range(100, 160)]
    tables: dict[str, tuple[list[str], Iterable[Iterable[object]]]] = {
        "exemplars.csv": (["class", "index"], [(name, label.index(name)) for name in classes]),
        "labels.csv": (["index", "class", "artist", "drawing"], [(n, one, "us", one) for n, one in enumerate(label)]),
        "test_set.csv": (["index", *classes], truth),
    }
    for name, (header, rows) in tables.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return tmp_path


def exemplars_of_the_tutorial() -> list[str]:
    """Return the classes that the tutorial names."""
    text = "".join(block.text for block in blocks(TUTORIAL) if block.language == "sh")
    return list(dict.fromkeys(re.findall(r"--exemplar (\w+)=\d+", text)))


def numbers_of(folder: Path) -> dict[str, str]:
    """Return what the tutorial calls its exemplars -> the first images of their classes in `folder`."""
    text = "".join(block.text for block in blocks(TUTORIAL) if block.language == "sh")
    named = dict.fromkeys(re.findall(r"--exemplar (\w+)=(\d+)", text))
    with (folder / "demo" / "emoji" / "labels.csv").open(newline="") as file:
        rows = [(row["class"], row["index"]) for row in csv.DictReader(file)]
    here = {name: iter([index for label, index in rows if label == name]) for name, _ in named}
    found = [(name, number, next(here[name])) for name, number in named]
    options = {f"{name}={number}": f"{name}={index}" for name, number, index in found}
    return options | {f"{number}.jpg": f"{index}.jpg" for _, number, index in found}


def test_the_tutorial_can_be_followed(emoji: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(emoji)
    assert follow(TUTORIAL, emoji, numbers_of(emoji)) > 5
    assert (emoji / "demo" / "run" / "report.html").is_file()


@pytest.mark.parametrize("page", [one for one in FOLLOWED if one not in (TUTORIAL, FIRST)], ids=name_of)
def test_a_page_can_be_followed(page: Path, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    left_out = shutil.ignore_patterns("runs") if page == DOCS / "index.md" else None  # this makes that run as well
    shutil.copytree(pets, folder, ignore=left_out)
    monkeypatch.chdir(folder)
    assert follow(page, folder)


def test_what_cannot_be_followed_is_marked() -> None:
    found = {(name_of(page), block.mark, block) for page in DOCS.rglob("*.md") for block in blocks(page)}
    marked = {(page, mark, " ".join(block.text.split()[:2])) for page, mark, block in found if mark[:6] == "needs-"}
    assert marked == MARKED


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_a_block_is_followed_or_only_read(page: Path) -> None:
    for block in blocks(page):
        if not block.language.startswith("{"):  # a directive of the site
            assert block.language in SHOWN or is_followed(page, block), f"{name_of(page)}: {block}"


def is_followed(page: Path, block: Block) -> bool:
    return page in (*FOLLOWED, SERVING) and block.language in ("sh", "python")
