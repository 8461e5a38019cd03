"""The command line: what it prints, its exit codes, and that an error is one line and loses nothing."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Holotype, MakeTar
from numpy.typing import NDArray
from PIL import Image

from holotype import Settings
from holotype.encoders.encode import Encoded, encode_parts

Picture = Callable[[int], NDArray[np.uint8]]


def reference_job(data: Path, network: str, *more: object) -> list[object]:
    exemplars = [word for name in ("red=0", "green=1", "blue=2") for word in ("--exemplar", name)]
    fixed = ["--threshold", "0.9", "--set", "near_duplicate=0.99999", "--set", "doubtful_band=0.25"]
    images = ["--images", data / "images.tar", "--test-set", data / "test.csv", "--encoder", network]
    return ["run", *images, *exemplars, *fixed, "--out", data / "out", *more]


def test_the_version_is_that_of_the_package(holotype: Holotype) -> None:
    from holotype import __version__

    assert holotype("--version")[:2] == (0, f"holotype {__version__}\n")


def test_it_is_a_module_too() -> None:
    said = [
        subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
        for command in ([sys.executable, "-m", "holotype"], [str(Path(sys.executable).with_name("holotype"))])
    ]
    assert said[0] == said[1] != ""


def test_a_journey_from_run_to_predict(data: Path, network: str, holotype: Holotype, picture: Picture) -> None:
    code, said, _ = holotype(*reference_job(data, network))
    assert code == 0
    assert f"report       {data / 'out' / 'report.html'}" in said
    assert "red: " in said
    assert "; cosine from 0.900; test set: F1 " in said

    code, _, error = holotype(*reference_job(data, network))
    assert (code, error.count("\n")) == (1, 1)
    assert "already holds a run; give --resume" in error

    vectors = {path: path.stat().st_mtime_ns for path in (data / "out" / "vectors").rglob("*.npy")}
    assert holotype(*reference_job(data, network, "--resume"))[0] == 0
    assert holotype("run", data / "out")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in vectors} == vectors  # nothing was encoded again
    code, _, error = holotype(*reference_job(data, network, "--resume", "--head", "mlp"))
    assert code == 1
    assert "holds a run with other settings (--head mlp, was linear): " in error

    for words, named in (
        (["--head", "mlp"], "--head"),
        (["--force", "--set", "seed=3"], "--set"),
        (["--tune", "0", "--balance", "none"], "--balance and --tune"),
        (["--test-set", "a.csv", "--exemplar", "a=0", "--threshold", "0.7"], "--exemplar and --threshold"),
        (["--no-allow-truncated", "--search", "both"], "--search and --no-allow-truncated"),
    ):
        code, _, error = holotype("run", data / "out", *words)
        assert code == 2
        assert f"own settings, so {named} cannot be given" in " ".join(error.replace("│", " ").split())

    code, said, _ = holotype("evaluate", data / "out", "--test-set", data / "test.csv")
    assert code == 0
    assert json.loads(said) == json.loads((data / "out" / "metrics.json").read_text())["evaluation"]

    Image.fromarray(picture(100)).save(data / "a red.png")
    (data / "broken.jpg").write_bytes(b"no image")
    code, said, _ = holotype("predict", data / "out", data / "a red.png", data / "broken.jpg", data / "images.tar")
    records = [json.loads(line) for line in said.splitlines()]
    assert code == 0
    assert len(records) == 242  # an unreadable image has its line, too
    assert (records[0]["label"], records[0]["vector"]) == ("red", [1.0, 0.0, 0.0])
    assert records[1]["error"].startswith("not an image")
    assert sum("error" in record for record in records) == 2
    assert "label" not in records[1]

    code, said, _ = holotype("predict", data / "out", data / "broken.jpg", "--format", "table")
    assert code == 1
    holotype("predict", data / "out", data / "images.tar", "--format", "csv", "--out", data / "all.csv")
    with (data / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["id"]: row["label"] for row in rows} == {r["id"]: r.get("label", "") for r in records[2:]}


def test_tune_prints_what_it_found(data: Path, network: str, holotype: Holotype) -> None:
    holotype(*reference_job(data, network))
    code, said, _ = holotype("tune", data / "out", "--trials", "2")
    assert code == 0
    assert "after 2 trials" in said
    assert (data / "out" / "study.db").exists()


def test_embed_then_search_and_run_in_its_vectors(data: Path, network: str, holotype: Holotype) -> None:
    code, said, _ = holotype("embed", data / "images.tar", "--encoder", network, "--out", data / "vectors")
    assert code == 0
    assert "239 vectors" in said
    assert "unreadable  7  " in said
    vectors = ["--embeddings", data / "vectors"]
    code, said, _ = holotype("search", data / "images.tar", "--exemplar", 0, *vectors, "-k", 5)
    assert code == 0
    assert [int(line.split()[2]) % 10 for line in said.splitlines()] == [0] * 5
    code, again, _ = holotype("search", data / "images.tar", "--exemplar", 0, "--encoder", network, "-k", 5)
    assert again == said
    job = reference_job(data, network, *vectors, "--embeddings-encoder", network, "--search", "both")
    assert holotype(*job)[0] == 0
    search = json.loads((data / "out" / "metrics.json").read_text())["search"]
    assert search["images"] == 239
    assert [row["overlap_at_k"]["100"] for row in search["rows"]] == [1.0, 1.0, 1.0]


def test_a_threshold_that_leaves_a_class_empty_is_told_and_the_others_are_trained(
    data: Path, network: str, holotype: Holotype
) -> None:
    job = reference_job(data, network, "--threshold", "0.9,0.99999")
    assert holotype(*job)[0] == 0
    rows = json.loads((data / "out" / "metrics.json").read_text())["sweep"]
    assert [(row["threshold"], row["failed"] == "", row["chosen"]) for row in rows] == [
        (0.9, True, True),
        (0.99999, False, False),
    ]
    assert "could not be trained: no image but the exemplar" in (data / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--exemplar", "cyan=9999"], 1, "exemplar cyan=9999: no image '9999'"),
        (["--exemplar", "cyan"], 2, "expected NAME=ID"),
        (["--exemplar", "none=5"], 1, '"none" is the name of the rejected class'),
        (["--threshold", "high"], 2, "expected numbers or auto"),
        (["--threshold", "7"], 1, "--threshold: expected at most 1 or 'auto', got 7.0"),
        (["--set", "negatives=many"], 1, "--set negatives: "),
        (["--set", "no_such=1"], 1, "--set no_such: "),
        (["--set", "threshold=0.5"], 1, "--set threshold: "),
        (["--set", "head_settings=1", "--set", "head_settings.units=2"], 2, "is inside of head_settings"),
        (["--balance", "luck"], 1, "--balance: "),
        (["--head", "forest"], 1, "--head: "),
        (["--tune", "-1"], 1, "--tune: "),
        (["--encoder", "no_such_net"], 1, "no encoder 'no_such_net': expected one of efficientnet_lite0"),
        (["--images", "nowhere.tar"], 1, "nowhere.tar does not exist"),
        (["--embeddings", "nowhere.npy"], 1, "no such file or folder"),
        (["--test-set", "nowhere.csv"], 1, "cannot read nowhere.csv: No such file"),
        (["--search", "both"], 1, "needs vectors to search in: give --embeddings"),
    ],
)
def test_wrong_input_is_one_clear_line_and_nothing_is_written(
    data: Path, network: str, holotype: Holotype, more: list[str], code: int, message: str
) -> None:
    found, said, error = holotype(*reference_job(data, network, *more))
    assert (found, said) == (code, "")
    assert message in error
    assert "Traceback" not in error
    assert not (data / "out").exists()


def test_a_folder_that_is_not_ours_is_left_alone(data: Path, network: str, holotype: Holotype) -> None:
    (data / "out").mkdir()
    (data / "out" / "diary.txt").write_text("mine")
    for more in ([], ["--force"], ["--resume"]):
        code, _, error = holotype(*reference_job(data, network, *more))
        assert code == 1
        assert "is not empty and holds no run" in error
    assert [path.name for path in (data / "out").iterdir()] == ["diary.txt"]


def test_a_run_can_be_repeated_from_any_folder(
    data: Path, network: str, holotype: Holotype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    assert holotype(*reference_job(Path(), network))[0] == 0
    (data / "elsewhere").mkdir()
    monkeypatch.chdir(data / "elsewhere")
    assert Path(Settings.load(data / "out" / "holotype.toml").images) == data / "images.tar"
    assert holotype("run", data / "out")[0] == 0


def test_encoders_say_what_works_offline(holotype: Holotype) -> None:
    code, said, _ = holotype("encoders")
    assert code == 0
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert "offline" in lines["efficientnet_lite0"]
    assert "needs the hub" in lines["resnet50"]


def failing_job(data: Path, network: str) -> list[object]:
    """A run that finds out late that it has no vector for an exemplar."""
    np.save(data / "unknown.npy", np.random.default_rng(0).normal(size=(240, 8)).astype(np.float32))
    Image.new("RGB", (9, 9)).save(data / "outside.png")
    return reference_job(
        data, network, "--embeddings", data / "unknown.npy", "--exemplar", f"green={data / 'outside.png'}"
    )


def test_a_run_that_fails_leaves_the_one_before_it_whole(data: Path, network: str, holotype: Holotype) -> None:
    holotype(*reference_job(data, network))
    before = {path: path.read_bytes() for path in (data / "out").rglob("*") if path.is_file()}
    code, _, error = holotype(*failing_job(data, network), "--force")
    assert code == 1
    assert "what made them is not known" in error
    assert {path: path.read_bytes() for path in before} == before
    code, said, _ = holotype("evaluate", data / "out", "--test-set", data / "test.csv")
    assert code == 0
    assert json.loads(said) == json.loads((data / "out" / "metrics.json").read_text())["evaluation"]


def test_a_first_run_that_fails_does_not_block_its_folder(data: Path, network: str, holotype: Holotype) -> None:
    assert holotype(*failing_job(data, network))[0] == 1
    assert holotype(*reference_job(data, network))[0] == 0
    assert not (data / "out" / "unfinished.toml").exists()


def test_force_leaves_nothing_of_the_run_before(data: Path, network: str, holotype: Holotype) -> None:
    holotype(*reference_job(data, network))
    assert (data / "out" / "predictions.csv").exists()
    images = ["--images", data / "images.tar", "--encoder", network, "--threshold", "0.9"]
    code, _, _ = holotype("run", *images, "--exemplar", "red=0", "--out", data / "out", "--force")
    assert code == 0
    assert not (data / "out" / "predictions.csv").exists()
    assert sorted(path.name for path in (data / "out" / "figures").iterdir()) == ["score_histogram.png"]


def test_test_rows_that_are_exemplars_or_copies_of_one_do_not_count(
    data: Path, network: str, holotype: Holotype
) -> None:
    from holotype import open_pool

    pool = open_pool(data / "images.tar")
    (data / "copy.jpg").write_bytes(pool.read(pool.row("31")) + b"another file of the same picture")
    with (data / "test.csv").open("a") as file:
        file.write("0,1,0,0\n")
    assert holotype(*reference_job(data, network, "--exemplar", f"green={data / 'copy.jpg'}"))[0] == 0
    metrics = json.loads((data / "out" / "metrics.json").read_text())
    assert metrics["not_counted"] == {"0": "an exemplar", "31": "nearly the same as an exemplar"}
    assert metrics["evaluation"]["rows"] == 9
    assert "2 test rows do not count" in (data / "out" / "report.html").read_text()
    with (data / "out" / "predictions.csv").open() as file:
        assert {"0", "31"} < {row["id"] for row in csv.DictReader(file)}  # they have an answer all the same


def test_unreadable_doubtful_and_rejected_are_three_things(data: Path, network: str, holotype: Holotype) -> None:
    import pyarrow.parquet as pq

    holotype(*reference_job(data, network, "--set", "doubtful_band=1.0"))
    rows = {row["id"]: row for row in pq.read_table(data / "out" / "groups.parquet").to_pylist()}
    found = {(row["decision"], row["class"]) for row in rows.values()}
    assert {("missing", None), ("doubtful", None), ("background", "none"), ("member", "red")} <= found
    assert (rows["7"]["decision"], rows["7"]["nearest_class"], rows["7"]["probability"]) == ("missing", None, None)
    assert rows["30"]["part"] == "left out: a test row"
    assert {row["part"] for row in rows.values() if row["decision"] == "doubtful"} <= {None, "left out: a test row"}


def test_vectors_of_embed_are_taken_back_and_not_computed_again(
    data: Path, network: str, holotype: Holotype, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holotype import open_pool

    holotype("embed", data / "images.tar", "--encoder", network, "--out", data / "vectors")
    whole = {path: path.read_bytes() for path in (data / "vectors").rglob("*") if path.is_file()}
    job = reference_job(data, network, "--embeddings", data / "vectors", "--exemplar", f"red={data / 'new.jpg'}")
    Image.open(io.BytesIO(open_pool(data / "images.tar").read(100))).save(data / "new.jpg")
    encoded: list[str] = []

    def counted(parts: Sequence[Sequence[str]], *more: Any) -> Iterator[Encoded]:
        encoded.extend(name for part in parts for name in part)
        return encode_parts(parts, *more)

    monkeypatch.setattr("holotype.vectors.store.encode_parts", counted)
    code, _, _ = holotype(*job)
    assert code == 0  # what made the vectors is known from their folder, so a file can be an exemplar
    assert len(encoded) == 1
    assert encoded[0].startswith("file:")
    assert {path: path.read_bytes() for path in (data / "vectors").rglob("*") if path.is_file()} == whole


def test_ctrl_c_is_one_line(data: Path, network: str, holotype: Holotype, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("holotype.vectors.store.EmbeddingStore.embed", interrupted)
    code, _, error = holotype("embed", data / "images.tar", "--encoder", network, "--out", data / "vectors")
    assert code == 130
    assert "stopped: vectors that are finished are kept" in error
    assert "Traceback" not in error


def test_a_wrong_source_stops_predict_before_it_starts(data: Path, network: str, holotype: Holotype) -> None:
    holotype(*reference_job(data, network))
    code, said, error = holotype("predict", data / "out", data / "images.tar", data / "nowhere.tar")
    assert (code, said) == (1, "")
    assert "does not exist" in error


def test_ids_of_several_tars_can_be_told_apart(data: Path, network: str, holotype: Holotype, make_tar: MakeTar) -> None:
    holotype(*reference_job(data, network))
    from holotype import open_pool

    pool = open_pool(data / "images.tar")
    for name, rows in (("a", (0, 1)), ("b", (2, 10))):
        make_tar([(f"{place}.jpg", pool.read(row)) for place, row in enumerate(rows)], f"{name}.tar")
    code, said, _ = holotype("predict", data / "out", data / "a.tar", data / "b.tar", data / "a.tar", "--format", "csv")
    assert code == 0
    labels = {row["id"]: row["label"] for row in csv.DictReader(said.splitlines())}
    a, b = data / "a.tar", data / "b.tar"
    assert labels == {f"{a}/0": "red", f"{a}/1": "green", f"{b}/0": "blue", f"{b}/1": "red"}
    _, said, _ = holotype("predict", data / "out", data / "a.tar", "--format", "csv")
    assert [row["id"] for row in csv.DictReader(said.splitlines())] == ["0", "1"]  # of one, they are as they are


def test_predict_answers_in_the_order_of_the_pool(data: Path, network: str, holotype: Holotype) -> None:
    """Who lays the lines beside another list must not be a row out behind an unreadable image."""
    from holotype import open_pool

    holotype(*reference_job(data, network))
    code, said, _ = holotype("predict", data / "out", data / "images.tar", "--format", "csv")
    rows = list(csv.DictReader(said.splitlines()))
    assert (code, [row["id"] for row in rows]) == (0, open_pool(data / "images.tar").ids)
    assert rows[7]["reason"].startswith("unreadable")
