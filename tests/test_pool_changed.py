"""A pool that changed since the run: what is known of an image follows it, and every command goes on."""

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Job, Picture
from PIL import Image
from reviewer import groups_of

from holotype import Classifier, Review, Settings, open_pool, run
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.records import NewAnswer
from holotype.errors import AnswersError
from holotype.runs.commands import evaluate_run, tune_run
from holotype.runs.folder import RunFolder
from holotype.runs.sweep import repeat


@pytest.fixture
def photos(data: Path) -> Path:
    """The images of `data` in a folder."""
    pool = open_pool(data / "images.tar")
    (data / "photos").mkdir()
    for row, name in enumerate(pool.ids):
        (data / "photos" / f"{name}.jpg").write_bytes(pool.read(row))
    return data / "photos"


@pytest.fixture
def out(data: Path, photos: Path, job: Job) -> Path:
    run(job(images=str(photos), test_set=None), data / "out")
    return data / "out"


def add(photos: Path, picture: Picture) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture(500)).save(buffer, "JPEG")
    (photos / "0000 new.jpg").write_bytes(buffer.getvalue())


def copy(photos: Path) -> None:
    """Of an exemplar, and of what is none of its class."""
    for name in ("0", "3"):
        shutil.copy(photos / f"{name}.jpg", photos / f"000{name}.jpg")


def delete(photos: Path) -> None:
    (photos / "13.jpg").unlink()


def rename(photos: Path) -> None:
    (photos / "deep").mkdir()
    for path in list(photos.glob("*.jpg")):
        path.rename(photos / "deep" / path.name)


def found_of(review: Review, label: str) -> set[str]:
    return {one.id.rpartition("/")[2] for one in review.gallery(label, "found", count=999)[0]}


@pytest.fixture(params=["add", "delete", "rename"])
def change(request: pytest.FixtureRequest, photos: Path, picture: Picture) -> Callable[[], None]:
    return {"add": lambda: add(photos, picture), "delete": lambda: delete(photos), "rename": lambda: rename(photos)}[
        request.param
    ]


@pytest.fixture
def before(out: Path) -> Iterator[dict[str, set[str]]]:
    with Review.open(out) as review:
        review.record([NewAnswer("3", "red", "no"), NewAnswer("10", "red", "yes"), NewAnswer("20", "red", "exemplar")])
        review.refit()
        yield {label: found_of(review, label) for label in review.classes}


def test_a_review_goes_on_with_every_image_that_is_there_still(
    change: Callable[[], None], before: dict[str, set[str]], out: Path, photos: Path, data: Path
) -> None:
    change()
    count = len(open_pool(photos))
    with Review.open(out) as review:
        assert len(review) == count
        assert {label: found_of(review, label) for label in review.classes} == before
        assert review.standing("red").answered == 2
        assert len(list(review.form(3, ["red"]))) == 4
        new = [line for line in review.summary() if "new since the run" in line]
        said = f"new since the run: 1 image; holotype run {out} --resume takes in what is new"
        assert new == ([said] if count > 240 else [])
        review.apply()
        assert [line for line in review.summary() if "new since" in line or "set aside" in line] == []
    rows = groups_of(out)
    assert len(rows) == count
    assert sum(row["decision"] == "exemplar" for row in rows.values()) == 4
    test = data / "t.csv"
    names = [name for name in rows if name.rpartition("/")[2] in ("30", "31", "32", "33", "34")]
    lines = [f"{name},{int('30' in name)},{int('31' in name)},{int('32' in name)}" for name in names]
    test.write_text("\n".join(["index,red,green,blue", *lines]) + "\n")
    assert len(names) == 5
    tune_run(out, 1)


def test_a_copy_that_comes_later_shares_what_is_known_of_its_image(
    before: dict[str, set[str]], out: Path, photos: Path
) -> None:
    copy(photos)
    with Review.open(out) as review:
        assert found_of(review, "red") == before["red"] | {"0000"}
        assert [one.name for one in review.exemplars("red")] == ["0", "20"]
        assert not any("new since" in line for line in review.summary())


def test_evaluate_knows_what_was_learnt_from_under_other_names(
    out: Path, photos: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt = [name for name, row in groups_of(out).items() if row["part"] == "learnt" and row["class"] == "none"][:2]
    fresh = [name for name, row in groups_of(out).items() if row["part"] is None][:6]
    rename(photos)
    (photos / "deep" / f"{learnt[1]}.jpg").unlink()
    names = [*fresh, learnt[0]]
    lines = [f"deep/{name},0,0,0" for name in names]
    (data / "t.csv").write_text("\n".join(["index,red,green,blue", *lines]) + "\n")
    evaluate_run(out, data / "t.csv")
    not_counted = json.loads((out / "evaluation.json").read_text())["not_counted"]
    assert not_counted[f"deep/{learnt[0]}"] == "learnt from"
    assert not {f"deep/{name}" for name in fresh} & {name for name, why in not_counted.items() if why == "learnt from"}


def test_a_run_is_repeated_with_the_exemplars_that_it_had_though_they_are_gone_or_renamed(
    out: Path, photos: Path
) -> None:
    content = (photos / "0.jpg").read_bytes()
    (photos / "0.jpg").unlink()
    (photos / "1.jpg").rename(photos / "first green.jpg")
    with Review.open(out) as review:
        assert [(one.name, one.row is None) for label in review.classes for one in review.exemplars(label)] == [
            ("0", True),
            ("first green", False),
            ("2", False),
        ]
        assert review.exemplar_picture(0, 64)[:2] == b"\xff\xd8"
    for _ in range(2):
        repeat(out)
        assert Classifier.load(out).exemplar_names_ == ["0", "first green", "2"]
    assert Settings.load(out / "holotype.toml").exemplars["green"] == ["first green"]
    (photos / "0.jpg").write_bytes(content)
    repeat(out)
    with Review.open(out) as review:
        assert [(one.name, one.row) for one in review.exemplars("red")] == [("0", open_pool(photos).row("0"))]


def test_of_an_exemplar_from_a_file_the_run_keeps_the_picture_and_a_replaced_one_is_noticed(
    data: Path, photos: Path, job: Job
) -> None:
    class Said:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

        from holotype.progress import Silent

        track = Silent.track

    given = data / "mine.jpg"
    given.write_bytes((photos / "0.jpg").read_bytes() + b"of its own")  # a copy would be the pool's own image
    settings = job(images=str(photos), test_set=None, exemplars={"red": [str(given)], "green": ["1"], "blue": ["2"]})
    run(settings, data / "out")
    given.unlink()
    said = Said()
    repeat(data / "out", progress=said)
    assert any(
        "mine.jpg is not there any more: the picture that the run kept of it is used" in one for one in said.lines
    )
    Review.open(data / "out").close()
    shutil.copy(photos / "10.jpg", given)
    said = Said()
    repeat(data / "out", progress=said)
    assert any(
        "mine.jpg is another picture than in the run before: it is used as it is now" in one for one in said.lines
    )
    baseline = RunFolder(data / "out").read_baseline(["red", "green", "blue"], open_pool(photos))
    assert baseline.pictures[0] == [given.read_bytes()]


def test_a_review_of_an_earlier_format_holds_for_the_pool_of_its_run(out: Path, photos: Path) -> None:
    folder = RunFolder(out)
    about = json.loads((folder.baseline / "baseline.json").read_text())
    (folder.baseline / "baseline.json").write_text(json.dumps(about | {"format": 2}))
    folder.checksums.unlink()  # an earlier version left none
    with Review.open(out) as review:
        assert review.standing("red").found > 10
    delete(photos)
    with pytest.raises(AnswersError, match=r"which an earlier version did .*\(holotype run OUT\)"):
        Review.open(out)
    repeat(out)
    Review.open(out).close()


def test_a_pool_of_other_images_is_no_pool_of_the_run(out: Path, photos: Path, data: Path) -> None:
    shutil.rmtree(photos)
    photos.mkdir()
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(photos / "0.jpg")
    with pytest.raises(AnswersError, match=r"no image of .*photos was in the run: .* --images; .* --out NEW"):
        Review.open(out)


def test_a_run_of_other_images_that_was_stopped_goes_on_with_their_exemplars(
    data: Path, photos: Path, out: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they share names, and some images, with those of the run that it was to replace."""
    others = shutil.copytree(photos, data / "others")
    (others / "0.jpg").write_bytes((photos / "10.jpg").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr("holotype.runs.sweep.write_report", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit):
            run(job(images=str(others), test_set=None), out, force=True)
    repeat(out, stopped=True)
    assert ReviewBaseline.load(RunFolder(out).baseline).pictures[0] == [(others / "0.jpg").read_bytes()]


@pytest.mark.parametrize("leftover", [".DS_Store", ".nfs0001"])
def test_what_a_system_left_among_new_results_fails_no_run(
    leftover: str, photos: Path, job: Job, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: RunFolder, *_: object) -> None:
        (folder.path / leftover).touch()

    monkeypatch.setattr("holotype.runs.sweep.write_report", write)
    run(job(images=str(photos), test_set=None), data / "out")
    assert Classifier.load(data / "out").classes_
    assert not [*(data / "out").glob(".new*"), *(data / "out").glob("*unfinished*")]
