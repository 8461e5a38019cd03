"""Where an export goes: whole or not there, over nothing that is somebody's. Which images are not in it, and why."""

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Holotype

from holotype import Pool, open_pool
from holotype.errors import OutputError, PoolError
from holotype.export.export import ExportOptions, export_run
from holotype.export.filenames import FileNames, safe
from holotype.export.selection import Selection
from holotype.progress import Advance, Silent
from holotype.runs.places import repoint
from holotype.settings import Settings


@pytest.fixture
def pool(out: Path) -> Pool:
    return open_pool(Settings.load(out / "holotype.toml").images)


@pytest.fixture
def unpacked(out: Path, pool: Pool, tmp_path: Path) -> Path:
    """The pool as a folder, to which the run points."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for row, name in enumerate(pool.ids):
        (folder / f"{name}.jpg").write_bytes(pool.read(row))
    repoint(out, {"images": str(folder)})
    return folder


class Stage(Silent):
    """Does something once so many images are there; keeps what is said."""

    def __init__(self, count: int, action: Any) -> None:
        self.left, self.action, self.lines = count, action, list[str]()

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def track(self, text: str, total: int) -> Iterator[Advance]:
        yield self.advance if text == "copy images" else lambda _count: None

    def advance(self, count: int) -> None:
        self.left -= count
        if self.left == 0:
            self.action()


def left_out(target: Path) -> dict[str, str]:
    with (target / "left_out.csv").open(encoding="utf-8", newline="") as file:
        return {line["id"]: line["reason"] for line in csv.DictReader(file)}


FOLDERS = ["folder", "image-folder", "webdataset", "fiftyone", "label-studio", "hub"]


@pytest.mark.parametrize("to", FOLDERS)
def test_a_folder_is_not_written_over_but_with_force(out: Path, tmp_path: Path, to: Any) -> None:
    target = tmp_path / "target"
    target.mkdir()  # an empty one is nobody's
    export_run(out, to, target)
    before = {path.name for path in target.iterdir()}
    with pytest.raises(OutputError, match="is there already; give --force to write over it, or another --out"):
        export_run(out, to, target)
    (target / "export.json").touch()
    export_run(out, to, target, force=True)
    assert {path.name for path in target.iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".target")]


def test_force_writes_over_nothing_that_no_export_made(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "holidays"
    target.mkdir()
    (target / "beach.jpg").write_bytes(b"a picture")
    with pytest.raises(OutputError, match="is a folder that no export made"):
        export_run(out, "folder", target, force=True)
    assert [path.name for path in target.iterdir()] == ["beach.jpg"]
    other = tmp_path / "sorted"
    export_run(out, "folder", other)
    (other / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds what no export wrote \(notes.txt\)"):
        export_run(out, "folder", other, force=True)
    assert (other / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("to", ["onnx", "csv", "parquet", "jsonl"])
def test_a_file_is_not_written_over_but_with_force(out: Path, tmp_path: Path, to: Any) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        export_run(out, to, target)
    assert target.read_text() == "mine"
    export_run(out, to, target, force=True)
    assert target.stat().st_size > 100


@pytest.mark.parametrize(
    "name", ["found.csv", "holotype.toml", "model/model.json", "model", ".", "answers.db", "new/x"]
)
def test_force_writes_over_nothing_of_the_run(out: Path, name: str) -> None:
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for to in ("csv", "onnx", "folder"):
        for force in (False, True):
            with pytest.raises(OutputError, match="in the folder of the run"):
                export_run(out, to, out / name, force=force)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/null"])
def test_what_is_no_file_is_not_written(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for force in (False, True):
        with pytest.raises(OutputError, match="expected a file or a folder as --out"):
            export_run(out, "csv", name, force=force)
    assert not Path("-").exists()
    assert Path("/dev/null").is_char_device()


def test_a_card_that_was_edited_is_not_written_over(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "hub"
    export_run(out, "hub", target)
    export_run(out, "hub", target, force=True)
    card = target / "README.md"
    card.write_text(card.read_text() + "Mine.\n")
    with pytest.raises(OutputError, match="was edited since"):
        export_run(out, "hub", target, force=True)
    assert card.read_text().endswith("Mine.\n")


@pytest.mark.parametrize("name", ["red/mine.jpg", "red/below/mine.txt", "mine.txt"])
def test_what_somebody_put_into_an_export_stays(out: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "sorted"
    export_run(out, "folder", target)
    export_run(out, "folder", target, force=True)
    (target / name).parent.mkdir(exist_ok=True)
    (target / name).write_text("mine")
    with pytest.raises(OutputError, match="is not written over"):
        export_run(out, "folder", target, force=True)
    assert (target / name).read_text() == "mine"


def test_a_table_that_was_edited_stays(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "sorted"
    export_run(out, "folder", target)
    with (target / "labels.csv").open("a") as file:
        file.write("mine\n")
    with pytest.raises(OutputError, match="holds other files, or larger ones"):
        export_run(out, "folder", target, force=True)


def test_a_file_gives_way_to_a_folder_and_is_not_kept(out: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    export_run(out, "folder", tmp_path / "target", force=True)
    assert [path.name for path in tmp_path.iterdir() if "target" in path.name] == ["target"]


def test_a_link_to_itself_is_one_sentence(out: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for to in ("csv", "folder"):
        for force in (False, True):
            with pytest.raises(OutputError, match="a link to itself"):
                export_run(out, to, tmp_path / "loop", force=force)


def test_images_that_are_only_a_few_of_the_run_are_not_remembered(
    holotype: Holotype, out: Path, unpacked: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(unpacked.iterdir())[:5]:
        (few / path.name).write_bytes(path.read_bytes())
    before = (out / "holotype.toml").read_text()
    code, _, told = holotype("export", out, "--to", "folder", "--out", tmp_path / "sorted", "--images", few)
    assert code == 1
    assert "only 5 of the" in told
    code, _, told = holotype("export", out, "--to", "onnx", "--class", "x", "--out", tmp_path / "m", "--images", few)
    assert code == 1
    assert (out / "holotype.toml").read_text() == before


def test_what_somebody_puts_there_meanwhile_stays(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "sorted"

    def put() -> None:
        target.mkdir()
        (target / "notes.txt").write_text("mine")

    with pytest.raises(OutputError, match="is there already"):
        export_run(out, "folder", target, progress=Stage(9, put))
    assert [path.name for path in tmp_path.iterdir() if "sorted" in path.name] == ["sorted"]
    assert (target / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("force", [False, True])
def test_what_is_interrupted_leaves_nothing_half(out: Path, tmp_path: Path, force: bool) -> None:
    target, before = tmp_path / "sorted", set[str]()
    if force:
        export_run(out, "folder", target, Selection(classes=["red"]))
        before = {path.name for path in target.iterdir()}

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_run(out, "folder", target, force=force, progress=Stage(9, interrupt))
    assert ({path.name for path in target.iterdir()} if target.exists() else set()) == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".sorted")]


def test_an_image_that_is_gone_or_another_is_left_out_and_listed(out: Path, unpacked: Path, tmp_path: Path) -> None:
    found = [path.stem for path in unpacked.iterdir() if int(path.stem) % 10 == 0 and path.stem != "0"]
    gone, another, moved = found[:3]
    (unpacked / f"{gone}.jpg").unlink()
    (unpacked / f"{another}.jpg").write_bytes((unpacked / "5.jpg").read_bytes() + b"\0")
    (unpacked / f"{moved}.jpg").rename(unpacked / "elsewhere.jpg")
    stage, target = Stage(0, None), tmp_path / "sorted"
    said = export_run(out, "folder", target, Selection(classes=["red"]), progress=stage)
    assert left_out(target).keys() == {gone, another}
    assert said.endswith(f"images in {target}, 2 left out")
    assert any(line.startswith("left out: 2 images, listed in left_out.csv (") for line in stage.lines)
    assert (target / "red" / f"{moved}.jpg").read_bytes() == (unpacked / "elsewhere.jpg").read_bytes()


@pytest.mark.parametrize("to", ["folder", "image-folder", "webdataset", "fiftyone", "label-studio"])
def test_an_image_that_changes_meanwhile_is_left_out(out: Path, unpacked: Path, tmp_path: Path, to: Any) -> None:
    last = max((path.stem for path in unpacked.iterdir() if int(path.stem) % 10 == 0), key=int)

    def change() -> None:
        (unpacked / f"{last}.jpg").write_bytes((unpacked / "5.jpg").read_bytes())

    target = tmp_path / "target"
    export_run(out, to, target, Selection(classes=["red"]), ExportOptions(files="copy"), progress=Stage(3, change))
    assert left_out(target) == {last: "another picture is there than the run was done with"}


def test_an_image_that_vanishes_meanwhile_is_left_out_and_a_disk_that_does_stops_it(
    out: Path, unpacked: Path, tmp_path: Path
) -> None:
    red = sorted((path for path in unpacked.iterdir() if int(path.stem) % 10 == 0), key=lambda path: int(path.stem))
    target, only = tmp_path / "target", Selection(classes=["red"])
    export_run(out, "folder", target, only, progress=Stage(3, red[-1].unlink))
    assert left_out(target) == {red[-1].stem: "cannot be read: No such file or directory"}

    def pull_the_plug() -> None:
        unpacked.rename(tmp_path / "away")

    with pytest.raises(PoolError, match=r"6 images, .* among them, cannot be read now"):
        export_run(out, "webdataset", tmp_path / "shards", only, progress=Stage(3, pull_the_plug))
    assert not (tmp_path / "shards").exists()


def test_where_no_image_can_be_had_nothing_is_written(out: Path, unpacked: Path, tmp_path: Path) -> None:
    with (out / "found.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            (unpacked / f"{line['id']}.jpg").unlink()
    with pytest.raises(OutputError, match=r"none of \d+ images could be had: \d+: it is not in the pool any more"):
        export_run(out, "folder", tmp_path / "sorted", Selection(classes=["red"]))
    assert not (tmp_path / "sorted").exists()


def test_an_image_that_was_unreadable_is_of_no_class(out: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(out / "groups.parquet")
    rows = table.to_pylist()
    rows[9] |= {"class": None, "nearest_class": None, "decision": "missing", "reason": "it is cut off"}
    pq.write_table(pa.Table.from_pylist(rows, table.schema), out / "groups.parquet")
    (out / "results.sha256").unlink()
    target = tmp_path / "target"
    export_run(out, "webdataset", target, Selection(decisions=["member", "missing"]))
    assert left_out(target) == {"9": "it was unreadable in the run, and is of no class: it is cut off"}
    export_run(out, "jsonl", tmp_path / "labels.jsonl", Selection(decisions=["missing"]))
    (line,) = (tmp_path / "labels.jsonl").read_text().splitlines()
    assert (json.loads(line)["id"], json.loads(line)["class"]) == ("9", None)


def test_names_of_classes_may_be_anything(made_run: Path, tmp_path: Path) -> None:
    """Of that run two classes are called as HTML is."""
    target = tmp_path / "sorted"
    export_run(made_run, "folder", target)
    folders = {path.name for path in target.iterdir() if path.is_dir()}
    assert folders == {"red", "-img src=x onerror=alert(1)-", "---script-alert(2)--script-"}
    export_run(made_run, "label-studio", tmp_path / "tasks")
    text = (tmp_path / "tasks" / "config.xml").read_text()
    assert "<img" not in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a/b", "a-b"),
        ("../up", "_-up"),
        ("/etc/passwd", "-etc-passwd"),
        ("", "_"),
        ("..", "_"),
        (".hidden", "_hidden"),
        ("CON", "_CON"),
        ("aux.png", "_aux.png"),
        ("who?", "who-"),
        ("ends. . ", "ends. "),
        ("line\nend", "line-nend"),
        ("größe 1", "größe 1"),
    ],
)
def test_a_name_that_any_disk_takes(given: str, name: str) -> None:
    assert safe(given) == name


def test_names_are_given_once() -> None:
    names = FileNames()
    given = [names.give(one, ".jpg") for one in ("a/b", "a-b", "A-B", "x" * 300, "x" * 301, "é", "e\u0301")]
    assert given[:3] == ["a-b.jpg", "a-b-2.jpg", "A-B-3.jpg"]
    assert given[5:] == ["é.jpg", "e\u0301-2.jpg"]
    assert len({*given}) == 7
    assert all(len(one.encode()) <= 130 for one in given)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--to", "image-folder", "--files", "list"], "image-folder holds images as copy or link, got --files list"),
        (["--to", "webdataset", "--files", "link"], "webdataset holds images as copy, got --files link"),
        (["--to", "csv", "--files", "copy"], "--files is of folder and image-folder and webdataset and fiftyone and"),
        (["--to", "onnx", "--class", "red"], "onnx is a model, and holds no images to choose from"),
        (["--to", "hub", "--decision", "member"], "hub is a model, and holds no images to choose from"),
        (["--to", "onnx", "--certified"], "leave out what chooses images"),
        (["--to", "hub", "--probability", "0.5"], "leave out what chooses images"),
        (["--to", "csv", "--url", "https://x"], "--url is of label-studio: leave it out with --to csv"),
        (["--to", "folder", "--metadata", "parquet"], "--metadata is of image-folder"),
        (["--to", "folder", "--shard-images", "5"], "--shard-images is of webdataset"),
        (["--to", "folder", "--shard-megabytes", "5"], "--shard-megabytes is of webdataset"),
        (["--to", "onnx", "--license", "mit"], "--license is of hub"),
        (["--to", "onnx", "--pictures"], "--pictures is of hub"),
        (["--to", "folder", "--files", "link"], "is no folder of images, so they can only be copied"),
        (["--to", "folder", "--class", "purple"], "expected classes of the run"),
        (["--to", "hub", "--license", "do what you like"], "expected a licence by its name in the hub's list"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    holotype: Holotype, out: Path, tmp_path: Path, words: list[str], why: str
) -> None:
    code, said, told = holotype("export", out, *words, "--out", tmp_path / "target")
    assert (code, said) == (1, "")
    assert why in told
    assert not (tmp_path / "target").exists()


def test_the_command(holotype: Holotype, out: Path, tmp_path: Path) -> None:
    words = ["--to", "csv", "--class", "red", "--class", "blue", "--decision", "member", "--probability", "0.1"]
    code, said, told = holotype("export", out, *words, "--out", tmp_path / "labels.csv")
    assert code == 0, told
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert said == f"{len(lines)} images in {tmp_path / 'labels.csv'}\n"
    assert {(line["class"], line["decision"]) for line in lines} == {("red", "member"), ("blue", "member")}
    assert all(float(line["probability"]) >= 0.1 for line in lines)
    code, _, told = holotype("export", out, "--to", "csv", "--decision", "found", "--out", tmp_path / "other.csv")
    assert code == 2
    assert "expected --decision of exemplar, member, doubtful, background, missing, got found" in told


def test_a_run_whose_images_moved(holotype: Holotype, out: Path, pool: Pool, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.tar"
    elsewhere.write_bytes(Path(pool.source).read_bytes())
    settings = (out / "holotype.toml").read_text()
    (out / "holotype.toml").write_text(settings.replace("images.tar", "gone.tar"))
    code, _, told = holotype("export", out, "--to", "folder", "--out", tmp_path / "sorted")
    assert code == 1
    assert "cannot be found" in told
    words = ("--to", "folder", "--out", tmp_path / "sorted", "--images", elsewhere)
    code, said, told = holotype("export", out, *words)
    assert code == 0, told
    assert "images in" in said


def test_where_there_is_no_run_none_is_made(holotype: Holotype, tmp_path: Path) -> None:
    code, _, told = holotype("export", tmp_path / "nothing", "--to", "csv", "--out", tmp_path / "labels.csv")
    assert code == 1
    assert "expected the settings of a run" in told
    assert os.listdir(tmp_path) == []  # noqa: PTH208
