"""A run in the formats of other programs, read by these programs where they can be installed beside us."""

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Holotype

from holotype import Classifier, Pool, open_pool
from holotype.answers.label_studio import read_label_studio
from holotype.errors import OutputError
from holotype.export.export import ExportOptions, export_run
from holotype.export.selection import EXPORT_COLUMNS, Selection
from holotype.export.webdataset import CLASSES as NUMBERED
from holotype.pool.images import decode
from holotype.runs.places import repoint
from holotype.settings import Settings

CLASSES = ["red", "green", "blue"]


@pytest.fixture
def pool(out: Path) -> Pool:
    return open_pool(Settings.load(out / "holotype.toml").images)


@pytest.fixture
def unpacked(out: Path, pool: Pool, tmp_path: Path) -> Path:
    """The pool of the run as a folder, to which the run points: two folders, and names that need care."""
    folder = tmp_path / "pictures here"
    for row, name in enumerate(pool.ids):
        path = folder / ("a" if row % 2 else "b.c") / f"no. {name}, ü.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pool.read(row))
    repoint(out, {"images": str(folder)})
    return folder


def labels(out: Path) -> dict[str, str]:
    """Return what was found: the digest of each image -> its class."""
    images, table = open_pool(Settings.load(out / "holotype.toml").images), {}
    with (out / "found.csv").open(encoding="utf-8", newline="") as file:
        names = {line["id"]: line["class"] for line in csv.DictReader(file)}
    if images.rows.keys() >= names.keys():
        return {images.digest(images.rows[name]): label for name, label in names.items()}
    for row, name in enumerate(images.ids):
        number = name.rpartition("no. ")[2].removesuffix(", ü")
        if number in names:
            table[images.digest(row)] = names[number]
    return table


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def reading(code: str, *paths: Path) -> Any:
    """Return what a program of its own prints as JSON: a reader may leave files open, and asks no hub."""
    inside = os.environ | {"HF_HUB_OFFLINE": "1"}
    given = [sys.executable, "-c", f"import hashlib, json, sys\n{code}", *map(str, paths)]
    done = subprocess.run(given, env=inside, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("layout", ["csv", "parquet", "jsonl"])
def test_labels_as_a_table(out: Path, tmp_path: Path, layout: Any) -> None:
    path = tmp_path / f"labels.{layout}"
    assert export_run(out, layout, path) == f"{len(labels(out))} images in {path}"
    if layout == "csv":
        rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    elif layout == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        rows = pq.read_table(path).to_pylist()
    assert all(tuple(row) == EXPORT_COLUMNS for row in rows)
    images = open_pool(Settings.load(out / "holotype.toml").images)
    assert {images.digest(images.rows[row["id"]]): row["class"] for row in rows} == labels(out)
    assert [row["path"] for row in rows] == [images.path(images.rows[row["id"]]) for row in rows]


def test_a_table_needs_no_images(out: Path, tmp_path: Path) -> None:
    settings = (out / "holotype.toml").read_text()
    (out / "holotype.toml").write_text(settings.replace("images.tar", "gone.tar"))
    with pytest.warns(match="is not as holotype wrote it"):
        assert "images in" in export_run(out, "csv", tmp_path / "labels.csv")


@pytest.mark.parametrize("handed", ["copy", "link"])
def test_a_folder_for_each_class(out: Path, unpacked: Path, tmp_path: Path, handed: Any) -> None:
    target, wanted = tmp_path / "sorted", labels(out)
    export_run(out, "folder", target, options=ExportOptions(files=handed))
    found = {path: path.parent.name for path in target.glob("*/*")}
    assert {digest(path.read_bytes()): label for path, label in found.items()} == wanted
    assert {path.is_symlink() for path in found} == {handed == "link"}
    with (target / "labels.csv").open(encoding="utf-8", newline="") as file:
        listed = {target / line["file"]: line["class"] for line in csv.DictReader(file)}
    assert listed == found
    assert json.loads((target / "export.json").read_text())["holds"] == sorted([*CLASSES, "labels.csv"])


def test_lists_of_what_was_found(out: Path, unpacked: Path, tmp_path: Path) -> None:
    export_run(out, "folder", tmp_path / "lists", options=ExportOptions(files="list"))
    found = {
        digest(Path(line).read_bytes()): path.stem
        for path in (tmp_path / "lists").glob("*.txt")
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    assert found == labels(out)


@pytest.mark.parametrize("metadata", ["csv", "parquet"])
def test_datasets_reads_an_image_folder(out: Path, pool: Pool, tmp_path: Path, metadata: Any) -> None:
    target = tmp_path / "dataset"
    export_run(out, "image-folder", target, Selection(classes=["red", "none"]), ExportOptions(metadata=metadata))
    rows = reading(
        "import datasets\n"
        "found = datasets.load_dataset('imagefolder', data_dir=sys.argv[1], split='train', cache_dir=sys.argv[2])\n"
        "digest = lambda image: hashlib.sha256(image.convert('RGB').tobytes()).hexdigest()\n"
        "print(json.dumps([{**row, 'image': digest(row['image'])} for row in found]))\n",
        target,
        tmp_path / "cache of datasets",
    )
    seen = {digest(decode(pool.read(row)).tobytes()): pool.digest(row) for row in range(len(pool))}
    wanted = labels(out)
    assert {seen[row["image"]] for row in rows if row["label"] == "red"} == {
        one for one, label in wanted.items() if label == "red"
    }
    rejected = [row for row in rows if row["label"] == "none"]
    assert len(rejected) > 100
    assert not {seen[row["image"]] for row in rejected} & wanted.keys()


def test_webdataset_reads_its_shards(out: Path, tmp_path: Path) -> None:
    target, wanted = tmp_path / "shards", labels(out)
    export_run(out, "webdataset", target, options=ExportOptions(most_images=30))
    shards = sorted(target.glob("*.tar"))
    assert [path.name for path in shards] == [f"pool-{number:06}.tar" for number in range(-(-len(wanted) // 30))]
    samples = reading(
        "import webdataset\n"
        "raw = list(webdataset.WebDataset(sys.argv[1:], shardshuffle=False))\n"
        "read = list(webdataset.WebDataset(sys.argv[1:], shardshuffle=False).decode('pil'))\n"
        "print(json.dumps([[one['__key__'], hashlib.sha256(one['jpg']).hexdigest(), other['cls'], other['json'],"
        " other['jpg'].size] for one, other in zip(raw, read, strict=True)]))\n",
        *shards,
    )
    names = (target / NUMBERED).read_text().splitlines()
    assert names == [*CLASSES, "none"]
    assert {content: names[number] for _, content, number, _, _ in samples} == wanted
    assert all(about["class"] == names[number] and size[1] == 48 for _, _, number, about, size in samples)
    keys = [key for key, *_ in samples]
    assert keys == sorted({*keys})
    with tarfile.open(shards[0]) as archive:
        members = archive.getnames()
    assert members[:3] == ["000000000.jpg", "000000000.cls", "000000000.json"]
    again = tmp_path / "again"
    export_run(out, "webdataset", again, options=ExportOptions(most_images=30))
    assert [path.read_bytes() for path in sorted(again.glob("*.tar"))] == [path.read_bytes() for path in shards]


def test_a_shard_has_no_more_bytes_than_it_may(out: Path, tmp_path: Path) -> None:
    export_run(out, "webdataset", tmp_path / "shards", options=ExportOptions(most_bytes=40_000))
    shards = sorted((tmp_path / "shards").glob("*.tar"))
    assert len(shards) > 3
    end = 2 * tarfile.BLOCKSIZE  # and it is filled up to a record
    assert all(path.stat().st_size <= 40_000 + end + tarfile.RECORDSIZE for path in shards)
    export_run(out, "webdataset", tmp_path / "tiny", options=ExportOptions(most_bytes=1))
    assert len(list((tmp_path / "tiny").glob("*.tar"))) == len(labels(out))  # one is in each, and none is empty


@pytest.mark.parametrize("handed", ["list", "copy", "link"])
def test_fiftyone(out: Path, unpacked: Path, tmp_path: Path, handed: Any) -> None:
    """Field by field, as the page on FiftyOneImageClassificationDataset has it: FiftyOne comes with a database."""
    target, wanted = tmp_path / "fiftyone", labels(out)
    export_run(out, "fiftyone", target, options=ExportOptions(files=handed))
    about = json.loads((target / "labels.json").read_text(encoding="utf-8"))
    assert about["classes"] == [*CLASSES, "none"]
    if handed == "list":  # as it splits names: what is before the last dot
        manifest = json.loads((target / "data.json").read_text(encoding="utf-8"))
        paths = {name.rpartition(".")[0]: Path(path) for name, path in manifest.items()}
    else:
        paths = {path.name.rpartition(".")[0]: path for path in (target / "data").iterdir()}
    assert paths.keys() == about["labels"].keys()
    assert {digest(paths[name].read_bytes()): one["label"] for name, one in about["labels"].items()} == wanted
    for one in about["labels"].values():
        assert one.keys() <= {"label", "confidence", "attributes"}
        assert 0 <= one.get("confidence", 0) <= 1
        assert (
            not {"id", "tags", "label", "confidence", "logits"} & one["attributes"].keys()
        )  # which are FiftyOne's own


@pytest.mark.parametrize("url", ["", "https://example.org/pictures", "s3://bucket/pool/", "/data/local-files/?d="])
def test_label_studio(out: Path, unpacked: Path, tmp_path: Path, url: str) -> None:
    target, wanted = tmp_path / "tasks", labels(out)
    export_run(out, "label-studio", target, options=ExportOptions(url=url))
    tasks = json.loads((target / "tasks.json").read_text(encoding="utf-8"))
    view = ET.parse(target / "config.xml").getroot()
    image, choices = view.find("Image"), view.find("Choices")
    assert image is not None
    assert choices is not None
    names = [one.attrib["value"] for one in choices]
    assert names == [*CLASSES, "none"]
    assert {task["data"]["digest"]: task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks} == {
        one: [label] for one, label in wanted.items()
    }
    for task in tasks:
        (prediction,) = task["predictions"]
        (result,) = prediction["result"]
        assert (result["from_name"], result["to_name"]) == (choices.attrib["name"], image.attrib["name"])
        assert (choices.attrib["toName"], result["type"]) == (image.attrib["name"], "choices")
        assert image.attrib["value"].removeprefix("$") in task["data"]
        assert prediction["model_version"].startswith("holotype ")
        assert 0 <= prediction.get("score", 0) <= 1
        local = "/data/local-files/?d=pictures%20here/"
        before = {"https://example.org/pictures": "https://example.org/pictures/"}.get(url, url or local)
        assert task["data"]["image"].startswith((f"{before}a/", f"{before}b.c/"))
        assert " " not in task["data"]["image"]


def test_what_label_studio_gives_back_is_taken(holotype: Holotype, out: Path, tmp_path: Path) -> None:
    export_run(out, "label-studio", tmp_path / "tasks")  # of a tar: with the images
    tasks = json.loads((tmp_path / "tasks" / "tasks.json").read_text())
    assert {task["data"]["image"].partition("?d=")[2].rpartition("/")[0] for task in tasks} == {"tasks/images"}
    assert len(list((tmp_path / "tasks" / "images").iterdir())) == len(tasks)
    export = [
        {"id": number, **task, "annotations": [{"id": number, "result": task["predictions"][0]["result"]}]}
        for number, task in enumerate(tasks, 1)
    ]
    (tmp_path / "export.json").write_text(json.dumps(export))
    assert len(read_label_studio(tmp_path / "export.json", CLASSES)) == len(tasks)
    code, _, told = holotype("answer", out, tmp_path / "export.json")
    assert code == 0, told
    with pytest.raises(OutputError, match="is left by these filters"):
        export_run(out, "csv", tmp_path / "rest.csv", Selection(unanswered=True))


def test_a_model_in_one_file_of_a_run_and_of_a_saved_model(out: Path, tmp_path: Path) -> None:
    export_run(out, "onnx", tmp_path / "one.onnx")
    shutil.copytree(out / "model", tmp_path / "model")
    export_run(tmp_path / "model", "onnx", tmp_path / "other.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()
    assert Classifier.load(out).classes_ == [*CLASSES, "none"]
