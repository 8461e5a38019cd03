"""Inputs of a run that were moved: with its folder, or alone."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Job, MakeTar
from networks import convolution

from holotype import Review, Settings, open_pool, run
from holotype.cli.main import main
from holotype.errors import OutputError
from holotype.runs.commands import evaluate_run
from holotype.runs.folder import RunFolder
from holotype.runs.places import find_inputs, repoint
from holotype.runs.sweep import repeat

Holotype = Callable[..., str]


@pytest.fixture
def holotype(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Holotype:
    """`holotype("run", ...)` returns stdout, or what was said where it failed."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["holotype", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            if end.code:
                return capsys.readouterr().err
        return capsys.readouterr().out

    return call


@pytest.fixture
def project(data: Path, job: Job, network: str) -> Path:
    """A folder with a run and all that it needs."""
    project = data / "project"
    (project / "given").mkdir(parents=True)
    for name in ("images.tar", "test.csv"):
        shutil.copy(data / name, project / "given" / name)
    for path in (Path(network), Path(network).with_suffix(".json")):
        shutil.copy(path, project / "given" / path.name)
    (project / "given" / "red.jpg").write_bytes(open_pool(data / "images.tar").read(0))
    given = {
        "images": str(project / "given" / "images.tar"),
        "test_set": str(project / "given" / "test.csv"),
        "encoders": [str(project / "given" / "c.onnx")],
        "exemplars": {"red": [str(project / "given" / "red.jpg")], "green": ["1"], "blue": ["2"]},
    }
    run(job(**given), project / "out")
    return project


def test_what_was_moved_together_is_found(project: Path, data: Path) -> None:
    (data / "elsewhere").mkdir()
    moved = project.rename(data / "elsewhere" / "renamed")
    out = moved / "out"
    with Review.open(out) as review:
        assert review.pool.source == str(moved / "given" / "images.tar")
        assert review.standing("red").found > 10
    assert evaluate_run(out, moved / "given" / "test.csv").confusion.sum() > 0
    repeat(out)
    settings = Settings.load(out / "holotype.toml")
    assert settings.out == str(out)
    assert settings.encoders == [str(moved / "given" / "c.onnx")]
    assert settings.test_set == str(moved / "given" / "test.csv")


def test_images_that_were_moved_alone_are_asked_for_and_noted_once(
    project: Path, data: Path, holotype: Holotype
) -> None:
    out, before = project / "out", project / "given" / "images.tar"
    now = before.rename(data / "other.tar")
    for command in (["suggest"], ["answer"], ["review"], ["tune", "--trials", "1"], ["run"]):
        said = holotype(command[0], out, *command[1:])
        assert f"cannot be found: nothing is at {before}; say where it is with --images" in said, command
    assert holotype("suggest", out, "--images", now).startswith("id,class,answer")
    assert holotype("suggest", out).startswith("id,class,answer")
    before.parent.mkdir(exist_ok=True)
    now = now.rename(before)
    assert "report" in holotype("run", out, "--images", now)


def test_of_a_folder_moved_alone_it_is_said_where_was_looked(project: Path, data: Path, holotype: Holotype) -> None:
    (project / "given" / "images.tar").rename(data / "other.tar")
    out = (project / "out").rename(data / "moved")
    said = holotype("suggest", out)
    assert f"nothing is at {project / 'given' / 'images.tar'}, nor at {data / 'given' / 'images.tar'}" in said


def test_an_encoder_that_was_moved(project: Path, data: Path, holotype: Holotype) -> None:
    out = project / "out"
    for name in ("c.onnx", "c.json"):
        (project / "given" / name).rename(data / name)
    said = holotype("run", out)
    assert f"say where it is with holotype run {out} --encoder PATH" in said
    assert holotype("suggest", out).startswith("id,class,answer")  # which needs none
    other = "for that one do a run of its own"
    (data / "other").mkdir()
    assert other in holotype("run", out, "--encoder", convolution(data / "other"))
    assert "report" in holotype("run", out, "--encoder", data / "c.onnx")


def test_an_encoder_of_several_views_that_was_moved(project: Path, data: Path, holotype: Holotype) -> None:
    given = project / "given"
    words = ["--images", given / "images.tar", "--exemplar", "red=0", "--exemplar", "green=1", "--exemplar", "blue=2"]
    assert "report" in holotype("run", *words, "--encoder", given / "c.onnx", "--views", 2, "--out", project / "two")
    assert Settings.load(project / "two" / "holotype.toml").encoders == [f"views2:{given / 'c.onnx'}"]
    assert "2 views of an image" in (project / "two" / "model" / "README.md").read_text()
    moved = project.rename(data / "renamed")
    assert "report" in holotype("run", moved / "two")
    assert Settings.load(moved / "two" / "holotype.toml").encoders == [f"views2:{moved / 'given' / 'c.onnx'}"]
    for name in ("c.onnx", "c.json"):
        (moved / "given" / name).rename(data / name)
    said = holotype("run", moved / "two")
    assert f"nothing is at {moved / 'given' / 'c.onnx'}" in said
    assert "--encoder views2:PATH" in said
    assert "for that one do a run of its own" in holotype("run", moved / "two", "--encoder", data / "c.onnx")
    assert "report" in holotype("run", moved / "two", "--encoder", f"views2:{data / 'c.onnx'}")


def test_images_that_were_not_in_the_run_are_refused(
    project: Path, data: Path, make_tar: MakeTar, holotype: Holotype
) -> None:
    pool = open_pool(data / "images.tar")
    few = [(f"{row}.jpg", pool.read(row)) for row in range(3)]
    other = make_tar([*few, *((f"x{n}.jpg", pool.read(n)[:-2] + b"xx") for n in range(9))], "other.tar")
    for command in ("run", "suggest"):
        said = holotype(command, project / "out", "--images", other)
        assert "only 3 of the 12 images of" in said
        assert "were in the run" in said
    assert find_inputs(RunFolder(project / "out")).images == str(project / "given" / "images.tar")


def test_settings_other_than_places_are_still_those_of_the_run(project: Path, holotype: Holotype) -> None:
    said = holotype("run", project / "out", "--images", project / "given" / "images.tar", "--threshold", "0.8")
    assert "OUT repeats a run with its own settings, so --threshold cannot be given" in " ".join(
        said.replace("│", " ").split()
    )


def test_resume_names_what_differs(project: Path, job: Job, data: Path) -> None:
    settings = Settings.load(project / "out" / "holotype.toml")
    more = settings.model_copy(update={"thresholds": [0.75], "fit": settings.fit.model_copy(update={"seed": 3})})
    with pytest.raises(OutputError, match=r"other settings \(thresholds 0\.75, was 0\.9; fit\.seed 3, was 0\)"):
        run(more, project / "out", resume=True)
    moved = data / "moved.tar"
    (project / "given" / "images.tar").rename(moved)
    here = settings.model_copy(update={"images": str(moved)})
    with pytest.raises(OutputError, match=r"other settings \(images .*moved\.tar, was .*images\.tar\)"):
        run(here, project / "out", resume=True)
    (data / "again").mkdir()
    same = moved.rename(data / "again" / "images.tar")
    run(here.model_copy(update={"images": str(same)}), project / "out", resume=True)  # it was moved


def test_what_a_stopped_run_of_other_images_was_to_do_stays(project: Path, data: Path, make_tar: MakeTar) -> None:
    pool, folder = open_pool(data / "images.tar"), RunFolder(project / "out")
    others = make_tar([(f"{name}.jpg", pool.read(row)) for row, name in enumerate(pool.ids[:100])], "others.tar")
    folder.claim(folder.read_settings().model_copy(update={"images": str(others)}))
    moved = (project / "given" / "images.tar").rename(data / "moved.tar")
    repoint(project / "out", {"images": str(moved)})
    assert folder.read_settings().images == str(moved)
    assert folder.read_settings(stopped=True).images == str(others)


def test_resume_knows_the_same_place_by_another_path(project: Path, job: Job, data: Path) -> None:
    (data / "link.tar").symlink_to(data / "images.tar")
    for images in (data / "images.tar", project / ".." / "images.tar", data / "link.tar"):
        run(job(test_set=None, images=str(images)), data / "out", resume=True)


def test_resume_knows_an_exemplar_by_more_than_the_end_of_its_name(data: Path, job: Job, make_tar: MakeTar) -> None:
    pool = open_pool(data / "images.tar")
    images = [(f"a/{name}.jpg", pool.read(row)) for row, name in enumerate(pool.ids)]
    given = {"images": str(make_tar([*images, ("b/0.jpg", pool.read(3))], "two.tar")), "test_set": None}
    names = {"red": ["a/0"], "green": ["a/1"], "blue": ["a/2"]}
    run(job(exemplars=names, **given), data / "out")
    with pytest.raises(OutputError, match=r"exemplars\.red b/0, was a/0"):
        run(job(exemplars=names | {"red": ["b/0"]}, **given), data / "out", resume=True)
    given["images"] = str(make_tar([(f"x/{name}", content) for name, content in images], "two.tar"))
    longer = {label: [f"x/{name}" for name in of_class] for label, of_class in names.items()}
    run(job(exemplars=longer, **given), data / "out", resume=True)  # packed again from the folder above
