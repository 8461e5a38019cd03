"""What is among the images that belong to no class: communities of them, and the command that lists them."""

import csv
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Holotype, write_tar
from numpy.typing import NDArray
from pictures import shapes
from PIL import Image

from holotype import Settings, run
from holotype.errors import OutputError
from holotype.grouping import communities
from holotype.grouping.communities import Community, find_communities
from holotype.pool.drawn import is_drawn
from holotype.runs.discover import Discovery, discover_run
from holotype.runs.folder import RunFolder
from holotype.runs.places import repoint
from holotype.runs.sweep import repeat

KINDS = ("circle", "triangle", "square")  # of `shapes`: 0, 2, 4 and so on; odd ones show lines


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
def circles(tmp_path_factory: pytest.TempPathFactory, network: str) -> Path:
    """A run on 60 red circles, which are its class, 60 blue squares, 60 green triangles, and 180 pictures of lines."""
    folder = tmp_path_factory.mktemp("circles")
    write_tar(folder / "images.tar", shapes(360))
    settings = Settings.parse(
        {
            "images": str(folder / "images.tar"),
            "exemplars": {"circle": ["0"]},
            "encoders": [network],
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(folder / "cache"))
        run(settings, folder / "out")
    return folder / "out"


@pytest.fixture
def out(circles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(circles, tmp_path / "out"))


def ids(found: Discovery) -> list[str]:
    """Return what the images of all communities are called."""
    return [found.pool.ids[row] for one in found.communities for row in one.rows.tolist()]


def kinds(found: Discovery, community: Community) -> list[str]:
    """Return what each image of a community shows."""
    names = [int(found.pool.ids[row]) for row in community.rows.tolist()]
    return ["line" if name % 2 else KINDS[name % 6 // 2] for name in names]


def test_what_is_no_class_is_found(out: Path) -> None:
    found = discover_run(out)
    first, second, *_ = found.communities
    assert kinds(found, first).count("square") >= 55
    assert kinds(found, first).count("square") >= 0.9 * len(first.rows)
    assert kinds(found, second).count("triangle") >= 0.9 * len(second.rows) >= 30
    assert not any("circle" in kinds(found, one) for one in found.communities)  # they belong to a class


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
    with Image.open(sheets[0]) as sheet:
        assert sheet.width == 10 * 112


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
    answered = {found.pool.ids[row] for row in found.communities[0].rows.tolist()[:5]}
    with RunFolder(out).open_answers() as log:
        for name in answered:
            log.add(name, "circle", "yes")
    repeat(out)
    again = discover_run(out)
    assert not answered & set(ids(again))


def test_images_that_are_gone_are_not_proposed(out: Path, tmp_path: Path) -> None:
    found = discover_run(out)
    gone = set(ids(found)[:20])
    write_tar(tmp_path / "fewer.tar", [one for one in reversed(shapes(360)) if one[0].removesuffix(".jpg") not in gone])
    repoint(out, {"images": str(tmp_path / "fewer.tar")})
    again = discover_run(out)
    assert not gone & set(ids(again))
    assert kinds(again, again.communities[0]).count("square") >= 35


def test_rows_of_a_test_set_and_copies_are_left_out(out: Path, tmp_path: Path) -> None:
    write_tar(
        tmp_path / "more.tar",
        [*shapes(360), *((f"{360 + row}.jpg", data) for row, (_, data) in enumerate(shapes(360)))],
    )
    (tmp_path / "test.csv").write_text("filename,label\n4,none\n10,none\n6,circle\n")
    settings = Settings.load(out / "holotype.toml")
    changed = {"images": str(tmp_path / "more.tar"), "test_set": str(tmp_path / "test.csv")}
    run(settings.model_copy(update=changed), out, force=True)
    found = discover_run(out)
    named = ids(found)
    assert kinds(found, found.communities[0]).count("square") >= 50
    assert not {"4", "10", "364", "370"} & set(named)
    assert len({int(name) % 360 for name in named}) == len(named)


def test_where_nothing_belongs_to_no_class_nothing_is_found(out: Path, tmp_path: Path, holotype: Holotype) -> None:
    write_tar(tmp_path / "two.tar", [one for number, one in enumerate(shapes(360)) if number % 6 in (0, 4)])
    changed = {"images": str(tmp_path / "two.tar"), "exemplars": {"circle": ["0"], "square": ["4"]}}
    run(Settings.load(out / "holotype.toml").model_copy(update=changed), out, force=True)
    found = discover_run(out)
    assert found.among < 8
    assert list(found.communities) == []
    assert "no eight are more like each other" in (out / "report.html").read_text()
    code, said, _ = holotype("discover", out)
    assert (code, len(said.splitlines())) == (0, 1)
    assert said.startswith(f"no community among {found.among:,} image")
    assert "to no class: it takes at least 8 that are more like each other than like the rest" in said


def test_cosines_that_are_given_need_no_space(out: Path) -> None:
    repeat(out, lambda settings: settings.model_copy(update={"thresholds": [0.97]}))
    found = discover_run(out)
    assert any(kinds(found, one).count("square") >= 0.9 * len(one.rows) >= 30 for one in found.communities[:3])


def test_a_run_that_can_only_be_read_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="can only be read"):
        discover_run(out)
    assert not (out / "discovered").exists()
