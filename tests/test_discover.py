"""What is among the images that belong to no class: communities of them, and the command that lists them."""

import csv
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Holotype, write_tar
from numpy.typing import NDArray
from PIL import Image
from system import nobody

from holotype import Settings, open_pool, run
from holotype.answers.records import Answer
from holotype.errors import OutputError
from holotype.grouping import communities
from holotype.grouping.communities import find_communities
from holotype.pool.drawn import is_drawn
from holotype.runs.discover import Discovery, discover_run
from holotype.runs.folder import RunFolder
from holotype.runs.places import repoint
from holotype.runs.sweep import repeat


def planted(sizes: list[int], rest: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return unit vectors around so many directions, and of no direction (-1), mixed; and which is which."""
    random = np.random.default_rng(seed)
    of = np.repeat([*range(len(sizes)), -1], [*sizes, rest])
    directions = random.normal(size=(len(sizes) + 1, 32))
    directions[-1] = 0
    vectors = directions[of] + random.normal(size=(len(of), 32)) * np.where(of < 0, 1, 0.35)[:, None]
    order = random.permutation(len(of))
    vectors = vectors[order] / np.linalg.norm(vectors[order], axis=1, keepdims=True)
    return vectors.astype(np.float32), of[order]


def test_what_is_planted_stands_apart_first() -> None:
    vectors, of = planted([80, 60, 45], 600)
    found = find_communities(vectors)
    for one in found[:3]:
        inside = np.bincount(of[one.rows] + 1, minlength=4)
        name = inside.argmax()
        assert name > 0
        assert inside[name] >= 0.9 * len(one.rows)
        assert inside[name] >= 0.9 * (of == name - 1).sum()
        assert of[one.exemplar] == name - 1
        assert one.rows[0] == one.exemplar
        assert np.all(np.diff(one.cosine) <= 0)
    conductances = [one.conductance for one in found]
    assert conductances == sorted(conductances)
    assert conductances[2] < 0.1 < conductances[3]
    together = np.concatenate([one.rows for one in found])
    assert len(np.unique(together)) == len(together)  # in one at most


def test_the_same_again() -> None:
    vectors, _ = planted([80, 60, 45], 600)
    one, other = find_communities(vectors, seed=3), find_communities(vectors, seed=3)
    assert [found.rows.tolist() for found in one] == [found.rows.tolist() for found in other]


def test_of_more_images_than_are_connected_the_others_join(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, of = planted([90, 80], 300)
    monkeypatch.setattr(communities, "_MOST", 200)
    first = find_communities(vectors)[0]
    inside = np.bincount(of[first.rows] + 1, minlength=3)
    assert inside[1:].max() >= 0.9 * len(first.rows)
    assert inside[1:].max() > 70  # of which about 40 are connected
    assert of[first.exemplar] >= 0


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_of_few_images_there_are_none(count: int) -> None:
    vectors, _ = planted([count], 0)
    assert find_communities(vectors) == []


def test_images_that_have_nothing_in_common_are_none() -> None:
    assert find_communities(np.eye(40, dtype=np.float32)) == []


@pytest.fixture(scope="module")
def of_red(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """A run on pictures of three colours and others, of which only red is a class."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = Path(shutil.copytree(finished, tmp_path_factory.mktemp("of_red") / "out"))
        settings = Settings.load(out / "holotype.toml").model_copy(update={"exemplars": {"red": ["0"]}})
        run(settings.model_copy(update={"test_set": None}), out, force=True)
        return out


@pytest.fixture
def out(of_red: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(of_red, tmp_path / "out"))


def colours_of(found: Discovery) -> list[set[int]]:
    """Return which colours the images of each community have; 3 is any other."""
    return [{min(int(found.pool.ids[row]) % 10, 3) for row in one.rows.tolist()} for one in found.communities]


def test_the_colours_that_are_no_class_are_found(out: Path) -> None:
    found = discover_run(out)
    assert {1} in colours_of(found)[:4]
    assert {2} in colours_of(found)[:4]
    assert 0 not in set.union(*colours_of(found))  # they belong to a class


def test_the_command_says_what_makes_a_class_of_each(out: Path, holotype: Holotype) -> None:
    code, said, _ = holotype("discover", out, "-k", 2)
    first, second, *_ = said.splitlines()
    with (out / "discovered" / "communities.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    exemplars = [line["id"] for line in table if line["role"] == "exemplar"]
    assert code == 0
    assert shlex.split(first)[-4:] == ["update", str(out), "--exemplar", f"NAME={exemplars[0]}"]
    assert shlex.split(second)[-1] == f"NAME={exemplars[1]}"
    assert f"{sum(line['community'] == '1' for line in table)} images" in first
    assert [int(line["community"]) for line in table] == sorted(int(line["community"]) for line in table)
    assert Path(table[0]["path"]).parent == Path(Settings.load(out / "holotype.toml").images)
    sheets = sorted((out / "discovered").glob("*.png"))
    assert [path.name for path in sheets] == ["001.png", "002.png"]
    assert all(is_drawn(path.read_bytes()) for path in sheets)
    assert Image.open(sheets[0]).size[0] == 1120


def test_the_report_shows_them_until_the_run_is_done_again(out: Path) -> None:
    assert "What else is among none" not in (out / "report.html").read_text()
    for _ in range(2):  # the second time in place of the first
        found = discover_run(out)
        report = (out / "report.html").read_text()
        assert report.count("What else is among none") == 1
        assert report.count("data:image/jpeg") > 12
        assert f"NAME={found.pool.ids[found.communities[0].exemplar]}" in report
    RunFolder(out).check_whole(OutputError, out / "report.html", out / "discovered" / "communities.csv")
    repeat(out)
    assert "What else is among none" not in (out / "report.html").read_text()
    assert not (out / "discovered").exists()


def test_sheets_of_an_earlier_look_go(out: Path) -> None:
    discover_run(out, 4)
    discover_run(out, 1)
    assert [path.name for path in (out / "discovered").glob("*.png")] == ["001.png"]


def test_what_people_answered_counts(out: Path) -> None:
    found = discover_run(out)
    green = next(one for one, colours in zip(found.communities, colours_of(found), strict=True) if colours == {1})
    answered = {found.pool.ids[row] for row in green.rows.tolist()[:5]}
    with RunFolder(out).open_answers() as log:
        for name in answered:
            log.add(Answer(name, "red", "yes"))
    repeat(out)
    again = discover_run(out)
    assert not answered & {again.pool.ids[row] for one in again.communities for row in one.rows.tolist()}


def test_images_that_are_gone_are_not_proposed(out: Path, tmp_path: Path) -> None:
    found = discover_run(out)
    gone = {found.pool.ids[row] for row in found.communities[0].rows.tolist()[:6]}
    left = [(f"{name}.jpg", found.pool.read(row)) for row, name in enumerate(found.pool.ids) if name not in gone]
    write_tar(tmp_path / "fewer.tar", left)
    repoint(out, {"images": str(tmp_path / "fewer.tar")})
    again = discover_run(out)
    named = {again.pool.ids[row] for one in again.communities for row in one.rows.tolist()}
    assert named
    assert not gone & named
    assert {1} in colours_of(again)


def test_rows_of_a_test_set_and_copies_are_left_out(out: Path, tmp_path: Path) -> None:
    settings = Settings.load(out / "holotype.toml")
    pool = open_pool(settings.images)
    images = [(f"{name}.jpg", pool.read(row)) for row, name in enumerate(pool.ids)]
    write_tar(tmp_path / "more.tar", [*images, *((f"{1000 + row}.jpg", data) for row, (_, data) in enumerate(images))])
    (tmp_path / "test.csv").write_text("filename,label\n1,none\n11,none\n0,red\n")
    run(
        settings.model_copy(update={"images": str(tmp_path / "more.tar"), "test_set": str(tmp_path / "test.csv")}),
        out,
        force=True,
    )
    found = discover_run(out)
    named = [found.pool.ids[row] for one in found.communities for row in one.rows.tolist()]
    assert {1} in colours_of(found)
    assert not {"1", "11", "1001", "1011"} & set(named)
    assert len({int(name) % 1000 for name in named}) == len(named)


def test_where_all_belongs_to_a_class_nothing_is_found(out: Path) -> None:
    repeat(out, lambda settings: settings.model_copy(update={"thresholds": [-1.0]}))
    found = discover_run(out)
    assert (found.among, list(found.communities)) == (0, [])
    assert "0 communities" in list(found.lines())[-1]


def test_a_run_that_can_only_be_read_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody():
        out.chmod(0o555)
        with pytest.raises(OutputError, match="can only be read"):
            discover_run(out)
