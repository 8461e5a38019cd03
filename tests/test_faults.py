"""Ten faults of an earlier version, each as what a user would see; none of these tests knows how they were mended."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Job, MakeTar, Picture
from PIL import Image

from holotype import HolotypeError, Review, Settings, open_pool, run
from holotype.progress import Advance
from holotype.runs.folder import RunFolder

RED = "red"


class Lines:
    """A `Progress` that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def track(self, text: str, total: int) -> Iterator[Advance]:
        yield lambda _count: None


def rows_of(out: Path) -> dict[str, dict[str, object]]:
    return {str(row["id"]): row for row in pq.read_table(out / "groups.parquet").to_pylist()}


def found(review: Review, label: str = RED) -> list[str]:
    return [one.id for one in review.gallery(label, "found", count=999)[0]]


def jpeg(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_1_an_audited_answer_that_a_file_corrects_stays_in_the_audit(data: Path, job: Job) -> None:
    run(job(test_set=None), data / "out")
    with Review.open(data / "out") as review:
        members = found(review)
        for name in members:
            review.answers.add(name, RED, "yes", audit=True)
        corrections = write_csv(data / "a.csv", ["id", "class", "answer"], [[name, RED, "no"] for name in members[:3]])
        assert review.read(corrections) == 3
        standing = review.standing(RED)
        assert (standing.audited, standing.audited_yes) == (len(members), len(members) - 3)
        tasks = data / "a.json"
        tasks.write_text(json.dumps([{"image_id": members[3], "class": "none"}]))
        review.read(tasks)  # an export of Label Studio as JSON-MIN
        standing = review.standing(RED)
        assert (standing.audited, standing.audited_yes) == (len(members), len(members) - 4)
        assert all(one.audit for one in review.answers.current() if one.label == RED)
    with Review.open(data / "out") as again:
        assert again.standing(RED).audited_yes == len(members) - 4


def test_2_answers_belong_to_pictures_and_not_to_names(
    data: Path, job: Job, make_tar: MakeTar, picture: Picture
) -> None:
    run(job(test_set=None), data / "out")
    with Review.open(data / "out") as review:
        wrong = found(review)[:4]
        for name in wrong:
            review.answers.add(name, RED, "no", who="ann")
    pool = open_pool(data / "images.tar")
    members = [(f"{name}.jpg", pool.read(row)) for row, name in enumerate(pool.ids)]
    more = [(f"{1000 + n}.jpg", jpeg(picture(500 + n))) for n in range(6)]
    moved = make_tar([*members, *more], "renamed/more.tar")
    run(job(test_set=None, images=str(moved)), data / "out", force=True)
    decided = rows_of(data / "out")
    assert {decided[name]["reason"] for name in wrong} == {"was said not to show red by ann"}

    other = {name: jpeg(picture(int(name) + 240)) for name in wrong[:2]}  # red ones, too, and other pictures
    changed = [(name, other.get(name.removesuffix(".jpg"), content)) for name, content in members]
    told = Lines()
    run(job(test_set=None, images=str(make_tar(changed, "b.tar"))), data / "out", force=True, progress=told)
    decided = rows_of(data / "out")
    assert [decided[name]["class"] for name in wrong] == [RED, RED, "none", "none"]
    assert any("answers: 2 " in line and "2 set aside" in line and "another picture" in line for line in told.lines)
    with Review.open(data / "out") as review:
        assert review.standing(RED).answered == 2
        assert any("2 set aside" in line for line in review.summary())


def test_2_answers_about_the_picture_before_do_not_stand_in_the_way_of_the_one_now(
    data: Path, job: Job, picture: Picture
) -> None:
    photos = data / "photos"
    photos.mkdir()
    pool = open_pool(data / "images.tar")
    for row, name in enumerate(pool.ids):
        (photos / f"{name}.jpg").write_bytes(pool.read(row))
    settings = job(test_set=None, images=str(photos))
    run(settings, data / "out")
    with Review.open(data / "out") as review:
        review.answers.add("10", RED, "no")
        review.answers.add("20", RED, "exemplar")
    before = {name: (photos / f"{name}.jpg").read_bytes() for name in ("10", "20")}
    for name in before:
        (photos / f"{name}.jpg").write_bytes(jpeg(picture(int(name) + 240)))
    run(settings, data / "out", force=True)
    with Review.open(data / "out") as review:
        assert [one.name for one in review.exemplars(RED)] == ["0"]
        again = write_csv(data / "a.csv", ["id", "class", "answer"], [["10", RED, "no"], ["20", "green", "yes"]])
        assert review.read(again) == 2
        assert review.standing(RED).answered == 1
    for name, content in before.items():
        (photos / f"{name}.jpg").write_bytes(content)
    run(settings, data / "out", force=True)
    with Review.open(data / "out") as review:  # what was said of these pictures holds again
        assert [one.name for one in review.exemplars(RED)] == ["0", "20"]
        assert review.standing(RED).no == 1


def test_3_two_runs_in_one_folder_are_refused_with_who_holds_it(data: Path, job: Job) -> None:
    settings = job(test_set=None)
    started, refused = Event(), Event()

    class Waiting(Lines):
        def say(self, text: str) -> None:
            started.set()
            refused.wait(60)

    first = Thread(target=lambda: run(settings, data / "out", progress=Waiting()))
    first.start()
    try:
        assert started.wait(60)
        with pytest.raises(HolotypeError, match=r"another process writes into .*out.*holotype run, process \d+"):
            run(settings, data / "out", force=True)
    finally:
        refused.set()
        first.join()
    assert rows_of(data / "out")
    with Review.open(data / "out") as review:
        started.clear()
        refused.clear()
        applying = Thread(target=lambda: review.apply(Waiting()))
        applying.start()
        try:
            assert started.wait(60)
            with pytest.raises(HolotypeError, match="another process writes into"), Review.open(data / "out") as other:
                other.apply()
        finally:
            refused.set()
            applying.join()
    assert rows_of(data / "out")


def test_4_names_decide_which_class_is_which_and_not_their_places(data: Path, job: Job) -> None:
    run(job(test_set=None), data / "out")
    path = data / "out" / "holotype.toml"
    settings = Settings.load(path)
    with Review.open(data / "out") as review:
        before = {label: found(review, label) for label in review.classes}
    turned = dict(reversed(list(settings.exemplars.items())))
    RunFolder(data / "out").change_settings(settings.model_copy(update={"exemplars": turned}))
    with Review.open(data / "out") as review:
        assert review.classes == ["blue", "green", RED]
        assert {label: found(review, label) for label in review.classes} == before
        assert [one.name for one in review.exemplars(RED)] == ["0"]
        review.answers.add(before[RED][0], RED, "no")
        review.refit()
        review.apply()
        assert set(before[RED]) - set(found(review)) == {before[RED][0]}


def test_4_evaluate_goes_by_names_too(data: Path, job: Job) -> None:
    from holotype.runs.commands import evaluate_run

    result = run(job(), data / "out")
    assert result.evaluation is not None
    path = data / "out" / "holotype.toml"
    settings = Settings.load(path)
    turned = dict(reversed(list(settings.exemplars.items())))
    RunFolder(data / "out").change_settings(settings.model_copy(update={"exemplars": turned}))
    again = evaluate_run(data / "out", data / "test.csv")
    assert [one.name for one in again.classes] == [one.name for one in result.evaluation.classes]
    assert np.array_equal(again.confusion, result.evaluation.confusion)


@pytest.mark.parametrize("space", ["neighbours", "raw"])
def test_5_without_diffusion_the_page_groups_in_the_space_of_the_run(data: Path, job: Job, space: str) -> None:
    fit = {"near_duplicate": 0.99999, "rank": {"diffusion": False, "space": space, "exemplar_views": False}}
    run(job(test_set=None, thresholds=["auto"], fit=fit), data / "out")
    with Review.open(data / "out") as review:
        review.answers.add("10", RED, "exemplar")
        review.refit()
        seen = {label: found(review, label) for label in review.classes}
        review.apply()
        assert all(len({*found(review, label)} ^ {*seen[label]}) <= 1 for label in review.classes)


def test_6_a_withdrawn_exemplar_is_not_said_to_show_something_else(data: Path, job: Job) -> None:
    run(job(test_set=None), data / "out")
    with Review.open(data / "out") as review:
        review.answers.add("10", RED, "exemplar")
        review.answers.add("0", RED, "withdrawn")
        review.refit()
        assert "0" in found(review)  # it is as red as before
        review.apply()
    row = rows_of(data / "out")["0"]
    assert (row["class"], row["decision"]) == (RED, "member")
    assert row["part"] == "learnt"
    with Review.open(data / "out") as review:  # these are two statements: one does not take the other back
        review.answers.add("0", RED, "no")
        review.refit()
        assert "0" not in found(review)
        assert [one.name for one in review.exemplars(RED)] == ["10"]


def with_copies(data: Path, make_tar: MakeTar, names: Iterable[str]) -> str:
    """The pool of `data`, in which those of `names` are there a second time."""
    pool = open_pool(data / "images.tar")
    originals = [(f"{name}.jpg", pool.read(row)) for row, name in enumerate(pool.ids)]
    return str(make_tar([*originals, *((f"{name}-copy.jpg", pool.read(pool.rows[name])) for name in names)], "c.tar"))


def test_7_evaluate_counts_the_rows_that_the_test_set_of_a_run_counts(data: Path, job: Job, make_tar: MakeTar) -> None:
    from holotype.runs.commands import evaluate_run

    others = [str(row) for row in range(43, 200) if row % 10 > 2]
    fit = {"near_duplicate": 0.99999, "doubtful_band": 0.25, "negatives": 60}
    settings = job(images=with_copies(data, make_tar, ["10", *others]), fit=fit)
    with (data / "test.csv").open("a") as file:
        file.write("0,1,0,0\n10-copy,1,0,0\n")  # an exemplar proves nothing; the twin of 10-copy was held out, too
    result = run(settings, data / "out")
    assert result.evaluation is not None
    again = evaluate_run(data / "out", data / "test.csv")
    assert again.rows == result.evaluation.rows == 11
    assert np.array_equal(again.confusion, result.evaluation.confusion)
    # nothing was learnt from these copies themselves, and all from the pictures that they are copies of
    parts = {name: row["part"] for name, row in rows_of(data / "out").items()}
    twins = [name for name in others if parts[name] == "learnt" and parts[f"{name}-copy"] is None]
    assert len(twins) > 10
    rows: list[list[object]] = [[f"{name}-copy", 0, 0, 0] for name in twins]
    other = write_csv(data / "other.csv", ["index", RED, "green", "blue"], [*rows, [10, 1, 0, 0]])
    assert evaluate_run(data / "out", other).rows == 1
    counted = json.loads((data / "out" / "evaluation.json").read_text())
    assert set(counted["not_counted"]) == {f"{name}-copy" for name in twins}


def test_7_answers_about_copies_of_test_rows_decide_nothing(data: Path, job: Job, make_tar: MakeTar) -> None:
    run(job(images=with_copies(data, make_tar, ["30", "33"])), data / "out")  # of two test rows
    with Review.open(data / "out") as review:
        asked = {one.id for one in review.next(1000, RED)}
        assert not asked & {"30", "33", "30-copy", "33-copy"}
        review.answers.add("30-copy", RED, "no")
        review.answers.add("33-copy", RED, "yes")
        review.refit()
        assert review.standing(RED).answered == 0
        review.apply()
    rows = rows_of(data / "out")
    assert not {str(rows[name]["reason"])[:8] for name in ("30-copy", "33-copy")} & {"was said"}


@pytest.mark.parametrize("content", ["", "\n"])
def test_8_an_empty_list_of_ids_is_no_absent_one(data: Path, job: Job, content: str) -> None:
    np.save(data / "vectors.npy", np.random.default_rng(0).normal(size=(240, 8)).astype(np.float32))
    (data / "vectors.ids.txt").write_text(content)
    with pytest.raises(HolotypeError, match=r"240 vectors and \d ids"):
        run(job(embeddings=str(data / "vectors.npy")), data / "out")


@pytest.mark.parametrize("moment", range(1, 4))
def test_9_a_run_that_is_killed_while_it_copies_vectors_resumes(
    data: Path, job: Job, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(job(test_set=None), data / "made")
    (vectors,) = (data / "made" / "vectors").iterdir()
    settings = job(test_set=None, embeddings=str(vectors), search="encoder")
    link, count = os.link, 0

    def killed(source: str, target: str) -> None:
        nonlocal count
        count += 1
        if count == moment:
            raise SystemExit
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.link", killed)
        with pytest.raises(SystemExit):
            run(settings, data / "out")
    run(settings, data / "out", resume=True)
    assert rows_of(data / "out").keys() == rows_of(data / "made").keys()
    assert [path.name for path in (data / "out" / "vectors").iterdir()] == [vectors.name]


def test_9_a_run_that_was_stopped_before_it_replaced_another_is_what_goes_on(
    data: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(job(test_set=None), data / "out")
    with monkeypatch.context() as patch:
        patch.setattr("holotype.runs.sweep.write_report", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit):
            run(job(test_set=None, thresholds=[0.8]), data / "out", force=True)
    monkeypatch.setattr("sys.argv", ["holotype", "run", str(data / "out"), "--resume"])
    from holotype.cli.main import main

    with pytest.raises(SystemExit, match="0"):
        main()
    assert Settings.load(data / "out" / "holotype.toml").thresholds == [0.8]


def test_3_apply_on_an_open_page_does_not_undo_a_run_that_was_done_since(data: Path, job: Job) -> None:
    run(job(test_set=None), data / "out")
    with Review.open(data / "out") as review:
        run(job(test_set=None, thresholds=[0.8]), data / "out", force=True)
        review.apply()
    assert Settings.load(data / "out" / "holotype.toml").thresholds == [0.8]
