"""What a run and a model say of an image can be joined to its file: a whole path stands beside each id."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Holotype, Job, Picture
from pictures import encoded
from PIL import Image

from holotype import Classifier, open_pool, run
from holotype.evaluation.test_set import read_test_set
from holotype.pool.exemplars import resolve


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def album(tmp_path: Path, picture: Picture) -> Path:
    """A folder of 60 pictures in two folders, some with capitals as suffix."""
    for row in range(60):
        file = tmp_path / "album" / f"part {row % 2}" / f"{row}.{'JPG' if row % 3 else 'jpg'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(Image.fromarray(picture(row))))
    return tmp_path / "album"


def test_the_path_of_an_image_is_its_file_or_its_tar_and_its_name_there(
    album: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(album.parent)
    pool = open_pool("album")
    assert all(Path(pool.path(row)).read_bytes() == pool.read(row) for row in range(len(pool)))
    assert len({pool.path(row) for row in range(len(pool))}) == len(pool) == 60
    tar = open_pool("images.tar")
    assert tar.path(tar.row("31")) == str(data / "images.tar" / "31.jpg")


def test_every_table_of_a_run_has_the_path(data: Path, job: Job) -> None:
    run(job(), data / "out")
    pool = open_pool(data / "images.tar")
    table = pq.read_table(data / "out" / "groups.parquet").to_pylist()
    assert [row["path"] for row in table] == [pool.path(row) for row in range(len(pool))]
    for name in ("found.csv", "predictions.csv", "unreadable.csv"):
        listed = rows(data / "out" / name)
        assert listed
        assert all(row["path"] == pool.path(pool.row(row["id"])) for row in listed), name


def test_what_was_found_is_the_exemplars_and_what_the_terminal_counts_the_surest_first(data: Path, job: Job) -> None:
    result = run(job(), data / "out")
    found = rows(data / "out" / "found.csv")
    for k, name in enumerate(("red", "green", "blue")):
        first, *own = [row for row in found if row["class"] == name]
        assert (first["id"], first["decision"], first["reason"]) == (
            str(k),
            "exemplar",
            f"given as an exemplar of {name}",
        )
        assert len(own) == len(result.chosen.groups.found(k)) > 0
        assert {row["decision"] for row in own} == {"member"}
        scores = [float(row["score"]) for row in own]
        assert scores == sorted(scores, reverse=True)
    order = [["red", "green", "blue"].index(row["class"]) for row in found]
    assert order == sorted(order)


def test_predictions_have_the_path_of_files_folders_and_tars(
    album: Path, data: Path, job: Job, holotype: Holotype, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(job(test_set=None), data / "out")
    monkeypatch.chdir(album.parent)
    lone = album / "part 0" / "0.jpg"
    (album.parent / "broken.jpg").write_bytes(b"no image")
    code, said, _ = holotype("predict", data / "out", "album", data / "images.tar", "album/part 0/0.jpg", "broken.jpg")
    assert code == 0
    records = [json.loads(line) for line in said.splitlines()]
    paths = [record["path"] for record in records]
    assert {str(one) for one in album.rglob("*.*")} == set(paths[:60])
    assert str(data / "images.tar" / "7.jpg") in paths  # which cannot be read
    assert paths[-2:] == [str(lone), str(album.parent / "broken.jpg")]
    assert holotype("predict", data / "out", "album/part 0/0.jpg", "--out", "told.csv")[0] == 0
    (line,) = rows(album.parent / "told.csv")
    assert line["path"] == str(lone)


def test_a_form_shows_where_the_images_are_and_is_taken_back(data: Path, job: Job, holotype: Holotype) -> None:
    run(job(), data / "out")
    code, form, _ = holotype("suggest", data / "out", "-n", 3)
    assert code == 0
    lines = form.splitlines()
    asked = list(csv.DictReader(lines))
    assert all(row["path"] == str(data / "images.tar" / f"{row['id']}.jpg") for row in asked)
    filled = [lines[0], *(line.replace(",,", ",yes,", 1) for line in lines[1:3]), "33,red,no"]
    (data / "form.csv").write_text("\n".join(filled))
    code, _, said = holotype("answer", data / "out", data / "form.csv")
    assert code == 0, said
    with_path = "path,id,class,answer\n/elsewhere/34.jpg,34,red,no\n"
    (data / "mine.csv").write_text(with_path)
    assert holotype("answer", data / "out", data / "mine.csv")[0] == 0


@pytest.mark.parametrize("where", ["tar", "folder"])
def test_a_copy_of_an_image_of_the_pool_is_that_image_as_an_exemplar(
    where: str, data: Path, album: Path, picture: Picture
) -> None:
    pool = open_pool(data / "images.tar" if where == "tar" else album)
    row = pool.row("20")
    copy = data / "red one.jpg"
    copy.write_bytes(pool.read(row))
    (found,) = resolve(pool, {"red": [str(copy)]})
    assert (found.row, found.name) == (row, pool.ids[row])
    copy.write_bytes(encoded(Image.fromarray(picture(20)), quality=60))
    (found,) = resolve(pool, {"red": [str(copy)]})
    assert found.row is None


def test_an_exemplar_is_not_found_of_its_own_class_when_it_is_given_by_a_copy(data: Path, job: Job) -> None:
    pool = open_pool(data / "images.tar")
    copy = data / "my red.jpg"
    copy.write_bytes(pool.read(pool.row("0")))
    result = run(job(exemplars={"red": [str(copy)], "green": ["1"], "blue": ["2"]}), data / "out")
    assert result.chosen.groups.decision[pool.row("0")] == "exemplar"
    assert [row["decision"] for row in rows(data / "out" / "found.csv") if row["id"] == "0"] == ["exemplar"]
    assert Classifier.load(data / "out").exemplar_names_[0] == "0"


@pytest.mark.parametrize(
    "text",
    [
        "filename,label\n30.jpg,red\n31.jpg,green\n33.jpg,none\n",
        "label;file\nred;30\ngreen;31.jpg\nNone;33.jpg\n",
        "path,class\n{tar}/30.jpg,red\n{tar}/31.jpg,green\n{tar}/33.jpg,none\n",
        "image\tlabel\n30\tred\n31\tgreen\n33\tnone\n",
        "filename,red,green,blue\n30.jpg,1,0,0\n31.jpg,0,1,0\n33.jpg,0,0,0\n",
    ],
)
def test_a_test_set_may_name_files_and_one_label(text: str, data: Path) -> None:
    tar = data / "images.tar"
    (data / "labelled.csv").write_text(text.format(tar=tar))
    found = read_test_set(data / "labelled.csv", ["red", "green", "blue"], open_pool(tar))
    assert found.ids == ["30", "31", "33"]
    assert found.truth.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_label_that_is_no_class_is_refused_with_its_line(data: Path, job: Job, holotype: Holotype) -> None:
    run(job(test_set=None), data / "out")
    (data / "labelled.csv").write_text("filename,label\n30.jpg,red\n31.jpg,gren\n")
    code, _, said = holotype("evaluate", data / "out", "--test-set", data / "labelled.csv")
    assert code == 1
    assert "line 3: expected one of red, green, blue, or none, as label; got 'gren'" in said
