"""The folder of a run: what is kept there, what is used again, and what takes whose place."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Holotype, Job, MakeTar
from networks import convolution
from system import nobody

from holotype import Classifier, Review, Settings, open_pool, run
from holotype.errors import AnswersError, HolotypeWarning, OutputError
from holotype.runs import folder as folder_module
from holotype.runs.folder import RunFolder
from holotype.runs.sweep import repeat

TESTED = (30, 31, 32, 40, 41, 33, 34, 35, 36, 37)  # as in `test.csv`


def test_a_run_goes_on_in_the_arithmetic_of_the_vectors_that_are_there(data: Path, job: Job, tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    network = str(convolution(tmp_path / "network"))
    fit: dict[str, Any] = {"near_duplicate": 0.99999, "doubtful_band": 0.25}
    given = {"test_set": None, "encoders": [network], "thresholds": ["auto"]}
    run(job(**given, fit=fit | {"precision": "int8"}), data / "out")
    vectors = [path.name for path in (data / "out" / "vectors").iterdir()]
    for resume in (False, True):
        result = run(job(**given, fit=fit), data / "out", force=not resume, resume=resume)
        assert result.classifier.encoder_.precision == "int8"
        assert [path.name for path in (data / "out" / "vectors").iterdir()] == vectors
    pool = open_pool(data / "images.tar")
    exemplars = {"red": ["0"], "green": ["1"], "blue": ["2"]}
    fitted = Classifier(encoder=network, **fit).fit(pool, exemplars, cache=data / "out" / "vectors")
    assert fitted.encoder_.precision == "int8"


def test_a_run_and_fit_are_the_same_stages(data: Path, job: Job) -> None:
    settings = job(thresholds=["auto"])
    result = run(settings, data / "out")
    pool = open_pool(data / "images.tar")
    values = dict(settings.fit) | {"encoder": settings.encoders[0]}
    fitted = Classifier(**values).fit(pool, settings.exemplars, held_out=[pool.row(str(n)) for n in TESTED])
    fitted.save(data / "model")
    for name in ("arrays.safetensors", "head.onnx"):
        assert (data / "model" / name).read_bytes() == (data / "out" / "model" / name).read_bytes()
    assert fitted.groups_.reasons() == result.classifier.groups_.reasons()
    assert fitted.training_.ids == result.classifier.training_.ids
    saved, of_run = (json.loads((folder / "model.json").read_text()) for folder in (data / "model", data / "out/model"))
    assert saved == of_run


def test_a_run_of_fewer_images_and_one_of_all_again_use_the_vectors_that_are_there(
    data: Path, job: Job, make_tar: MakeTar
) -> None:
    run(job(test_set=None), data / "out")
    pool = open_pool(data / "images.tar")
    fewer = make_tar([(f"{name}.jpg", pool.read(row)) for row, name in enumerate(pool.ids) if row != 99], "b.tar")
    before = {path: path.stat().st_ino for path in (data / "out" / "vectors").rglob("*.npy")}
    for images in (fewer, data / "images.tar"):
        run(job(test_set=None, images=str(images)), data / "out", force=True)
        assert {path: path.stat().st_ino for path in (data / "out" / "vectors").rglob("*.npy")} == before


def test_a_run_that_fails_leaves_the_one_before_it_whole(data: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    run(job(test_set=None), data / "out")
    before = {path: path.read_bytes() for path in (data / "out").rglob("*") if path.is_file() and path.name != ".lock"}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("holotype.runs.sweep.write_report", full)
        with pytest.raises(OSError, match="No space"):
            run(job(), data / "out", force=True)
    after = {path: path.read_bytes() for path in (data / "out").rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    run(job(), data / "out", force=True)
    assert not list((data / "out").glob(".new*"))
    assert not (data / "out" / "unfinished.toml").exists()


def test_two_commands_at_once_leave_one_run_and_one_clear_error(data: Path, network: str) -> None:
    exemplars = [word for name in ("red=0", "green=1", "blue=2") for word in ("--exemplar", name)]
    arguments = ["run", "--images", str(data / "images.tar"), "--encoder", network, "--threshold", "0.9", *exemplars]
    command = [
        sys.executable,
        "-c",
        "from holotype.cli.main import main; main()",
        *arguments,
        "--out",
        str(data / "out"),
    ]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in both]
    codes = sorted(code for _, code in ends)
    assert codes == [0, 1]
    (refused,) = [error for error, code in ends if code]
    assert re.search(r"error: (another process writes into|.* already holds a run)", refused)
    assert Classifier.load(data / "out").classes_ == ["red", "green", "blue", "none"]
    with Review.open(data / "out") as review:
        assert review.standing("red").found > 10


def test_a_folder_of_somebody_else_is_left_as_it_is(data: Path, job: Job) -> None:
    (data / "photos").mkdir()
    (data / "photos" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty and holds no run"):
        run(job(), data / "photos")
    assert [path.name for path in (data / "photos").iterdir()] == ["mine.txt"]


def test_a_review_of_other_classes_or_of_an_earlier_version_says_what_to_do(data: Path, job: Job) -> None:
    run(job(test_set=None), data / "out")
    path = RunFolder(data / "out").settings
    text = path.read_text()
    path.write_text(text.replace("green =", "lime ="))
    with (
        pytest.warns(HolotypeWarning, match="is not as holotype wrote it"),
        pytest.raises(AnswersError, match=r"classes red, green, blue, .* red, lime, blue: do the run again"),
    ):
        Review.open(data / "out")
    path.write_text(text)
    (data / "out" / "review" / "baseline.json").rename(data / "out" / "review" / "start.json")
    with pytest.raises(AnswersError, match=r"an earlier version wrote it.*do the run again \(holotype run OUT\)"):
        Review.open(data / "out")
    run(Settings.load(path), data / "out", force=True)
    Review.open(data / "out").close()


def test_classes_in_another_order_are_the_same_in_every_array(data: Path, job: Job) -> None:
    run(job(test_set=None), data / "out")
    folder, pool = RunFolder(data / "out"), open_pool(data / "images.tar")
    one = folder.read_baseline(["red", "green", "blue"], pool)
    other = folder.read_baseline(["blue", "red", "green"], pool)
    places = [2, 0, 1]
    assert np.array_equal(other.groups.scores, one.groups.scores[:, places], equal_nan=True)
    names, renamed = np.array(one.groups.classes), np.array(other.groups.classes)
    assert np.array_equal(names[one.groups.label], renamed[other.groups.label])
    assert [other.names[k] for k in range(3)] == [one.names[k] for k in places]
    assert {row: renamed[k] for row, k in other.exemplar_rows.items()} == {
        row: names[k] for row, k in one.exemplar_rows.items()
    }
    assert other.groups.reasons() == one.groups.reasons()


@pytest.mark.parametrize("moment", [0, 1, 5, 11, 12, 13, 16, 20])
def test_a_swap_that_is_cut_off_anywhere_is_finished_by_the_next_that_comes(
    data: Path, job: Job, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(job(test_set=None), data / "out")
    steps = 0

    def cut_off(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps > moment:
            raise SystemExit

    remove, rename = folder_module._remove, Path.rename

    def removed(path: Path, aside: Path) -> None:
        cut_off()
        remove(path, aside)

    def renamed(path: Path, target: Path) -> Path:
        if path.parent.name.startswith(".new"):
            cut_off()
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "_remove", removed)
        patch.setattr(Path, "rename", renamed)
        with pytest.raises(SystemExit):
            run(job(test_set=None, thresholds=[0.8]), data / "out", force=True)
    with Review.open(data / "out") as review:  # any reader will do
        assert review.standing("red").found > 10
    new = moment > 0
    assert Settings.load(data / "out" / "holotype.toml").thresholds == [0.8 if new else 0.9]
    assert Classifier.load(data / "out").threshold == (0.8 if new else 0.9)
    assert not list((data / "out").glob(".new*"))


def test_results_of_which_a_file_is_open_are_replaced_on_any_disk(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS and FUSE a file that is open stays under another name, and so its folder, until it is closed."""
    rmdir = os.rmdir

    def busy(path: str | Path, **more: Any) -> None:
        if str(path).endswith("review"):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        rmdir(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", busy)
        repeat(out)
    Review.open(out).close()
    assert len(list(out.glob(".new*"))) == 1
    repeat(out)
    assert not list(out.glob(".new*"))


def test_new_results_that_cannot_be_listed_are_not_thrown_away() -> None:
    with nobody() as folder:
        (folder / "out" / ".new-1").mkdir(parents=True)
        (folder / "out" / ".new-1" / "holotype.toml").touch()  # whole, and the old ones are gone
        (folder / "out").chmod(0o300)
        with pytest.raises(PermissionError), RunFolder(folder / "out").lock("a test"):
            pass
        (folder / "out").chmod(0o700)
        with RunFolder(folder / "out").lock("a test"):
            assert (folder / "out" / "holotype.toml").exists()


@pytest.mark.parametrize("words", [("predict",), ("suggest",), ("certify",)])
def test_of_a_run_that_goes_on_it_is_said_that_it_is_not_finished(
    words: tuple[str, ...], data: Path, job: Job, holotype: Holotype
) -> None:
    RunFolder(data / "out").claim(job())
    more = [data / "images.tar"] if words == ("predict",) else []
    code, _, said = holotype(*words, data / "out", *more)
    assert code == 1
    assert f"the run in {data / 'out'} is not finished: let it end" in said
