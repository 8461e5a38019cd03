"""The map of a review: what it shows, where images lie, and that it is made once, in the background, and kept."""

import base64
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import CLASSES, RED, N, served
from client import Client

from holotype.answers.records import Verdict
from holotype.errors import HolotypeError
from holotype.grouping.space import Matrix
from holotype.review.atlas import STATES, Atlas, Points, choose
from holotype.review.layout import ROUNDS, Laying, layout, on_grid
from holotype.review.review import Review

PATIENCE = 60  # seconds


def planted(groups: int = 6, each: int = 20) -> tuple[Matrix, np.ndarray]:
    """Unit vectors of groups that lie apart, and the group of each."""
    random = np.random.default_rng(3)
    middle = random.normal(size=(groups, 24))
    group = np.repeat(np.arange(groups), each)
    vectors = middle[group] + random.normal(size=(len(group), 24)) * 0.25
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), group


def made(atlas: Atlas) -> Atlas:
    """Have it made, and wait for that."""
    atlas.start()
    atlas.wait()
    return atlas


def rows_of(atlas: Atlas) -> np.ndarray:
    return np.frombuffer(base64.b64decode(atlas.points()["rows"]), "<u4").astype(int)


def state_of(atlas: Atlas, row: int, label: str = RED) -> str:
    states = atlas.states(label)["states"]
    return STATES[int(states[rows_of(atlas).tolist().index(row)])]


def test_what_is_alike_lies_together() -> None:
    vectors, group = planted()
    rounds: list[int] = []
    places = layout(vectors, advance=rounds.append)
    assert places.shape == (len(vectors), 2)
    assert (places.dtype, sum(rounds)) == (np.dtype(np.float32), ROUNDS)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (group[apart.argmin(axis=1)] == group).mean() == 1


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9, 47])
def test_few_images_and_copies_have_a_place_each(count: int) -> None:
    vectors = planted(groups=5, each=10)[0][:count]
    places = layout(np.concatenate([vectors, vectors, vectors]).astype(np.float16))
    assert places.shape == (3 * count, 2)
    assert np.isfinite(places).all()
    assert np.array_equal(places[:count], places[-count:] if count else places)
    grid = on_grid(places)
    assert grid.dtype == np.uint16
    assert len(np.unique(grid, axis=0)) == count


def test_both_axes_have_one_measure() -> None:
    grid = on_grid(np.array([[-3, 10], [5, 10], [1, 12]], np.float32)).astype(int)
    assert grid.tolist() == [[0, 0], [65535, 0], [32768, 16384]]


def test_no_class_is_sampled_away() -> None:
    """A small class in a large pool, and one that is mostly unlikely: the best of each are there, and all answers."""
    random = np.random.default_rng(0)
    n = 4000
    logits = random.normal(-6, 1, (n, 3))
    logits[100:160, 0] += 9
    logits[200:2200, 1] += 9
    logits[:, 2] -= 20
    usable = np.ones(n, bool)
    usable[[120, 121, 3000]] = False
    answered = np.array([3999, 3998, 5])
    numbers = random.random(n)
    rows = choose(usable, answered, logits, numbers, 400)
    assert len(rows) == len(set(rows.tolist())) == 400
    assert rows.tolist() == sorted(rows.tolist())
    there = set(rows.tolist())
    assert {3999, 3998, 5} <= there
    assert set(range(100, 160)) - {120, 121} <= there
    assert not {120, 121, 3000} & there
    for k in range(3):
        best = [row for row in np.argsort(-logits[:, k], kind="stable").tolist() if usable[row]][:90]
        assert set(best) <= there
    assert np.array_equal(rows, choose(usable, answered, logits, numbers, 400))
    rest = there - set(range(100, 160)) - set(range(200, 2200))
    assert len(rest) > 40
    assert set(choose(usable, answered, logits, numbers, 10_000).tolist()) == set(np.flatnonzero(usable).tolist())


@pytest.fixture
def atlas(review: Review, kept_map: bytes) -> Atlas:
    review.folder.map.write_bytes(kept_map)
    return made(Atlas(review))


def test_the_map_is_kept_with_the_run_and_made_again_the_same_where_it_is_not_whole(
    review: Review, kept_map: bytes
) -> None:
    review.folder.map.write_bytes(kept_map)
    first = made(Atlas(review))
    assert (first.state, first.done, first.points()["count"]) == ("done", 0, N)
    review.folder.map.write_bytes(kept_map[:-7])
    second = made(Atlas(review))
    assert (second.state, second.done, second.total, second.message) == ("done", ROUNDS, ROUNDS, "")
    assert second.points() == first.points()
    assert review.folder.map.read_bytes() == kept_map


def test_the_map_of_other_images_or_of_another_space_is_not_shown(tmp_path: Path) -> None:
    vectors = planted()[0].astype(np.float16)
    points = Points(np.arange(100), on_grid(layout(vectors[:100])))
    points.save(tmp_path / "map", vectors)
    kept = Points.load(tmp_path / "map", vectors)
    assert kept is not None
    assert np.array_equal(kept.places, points.places)
    assert Points.load(tmp_path / "map", np.roll(vectors, 1, axis=0)) is None
    assert Points.load(tmp_path / "map", vectors[:99]) is None
    assert Points.load(tmp_path / "map", vectors[:, :20]) is None


def test_how_each_image_stands_follows_the_answers(review: Review, atlas: Atlas) -> None:
    assert state_of(atlas, 0) == "exemplar"
    assert state_of(atlas, 1) == "rejected"
    assert state_of(atlas, 1, CLASSES[1]) == "exemplar"
    found = review.state.refined.groups.found(0).tolist()
    assert found
    assert {state_of(atlas, row) for row in found} == {"found"}
    wanted: list[Verdict] = ["yes", "no", "unsure"]
    for row, verdict in zip((found[0], found[1], 77), wanted, strict=True):
        review.answers.add(str(row), RED, verdict)
    assert [state_of(atlas, row) for row in (found[0], found[1], 77)] == wanted
    review.refit()
    assert [state_of(atlas, row) for row in (found[0], found[1], 77)] == wanted
    assert state_of(atlas, 77, CLASSES[1]) not in wanted


def test_what_is_answered_later_is_put_on_the_map(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holotype.review.atlas.POINTS", 100)
    rows, vectors = np.setdiff1d(np.arange(100), [44]), review.state.baseline.vectors
    Points(rows, np.zeros((99, 2), np.uint16)).save(review.folder.map, vectors)
    atlas = made(Atlas(review))
    assert len(rows_of(atlas)) == 99
    review.answers.add("44", RED, "yes")
    assert atlas.states(RED)["count"] == 100
    assert state_of(atlas, 44) == "yes"
    assert len(base64.b64decode(atlas.points(99)["rows"])) == 4


def test_a_later_image_lies_among_its_own() -> None:
    vectors, group = planted()
    later = np.arange(19, 120, 20)
    first = np.setdiff1d(np.arange(120), later)
    points = Points(first, on_grid(layout(vectors[first])))
    more = points.with_later(later, vectors, len(first))
    assert more.rows.tolist() == [*first.tolist(), *later.tolist()]
    assert np.array_equal(more.places[: len(first)], points.places)
    apart = np.linalg.norm(more.places[len(first) :, None].astype(float) - points.places[None], axis=2)
    assert np.array_equal(group[first][apart.argmin(axis=1)], group[later])
    assert points.with_later(later, vectors, 2).places.shape == (120, 2)


def test_a_map_that_is_ended_is_not_kept(review: Review) -> None:
    atlas = Atlas(review)
    atlas.start()
    while atlas._laying is None:
        time.sleep(0.001)
    atlas.stop()
    assert atlas.state == "failed"
    assert "signal 9" in atlas.message
    assert not review.folder.map.exists()
    with pytest.raises(HolotypeError, match="no map yet"):
        atlas.points()


def test_what_the_process_complains_of_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openTSNE").mkdir()
    (tmp_path / "openTSNE" / "__init__.py").write_text("raise ModuleNotFoundError(name='openTSNE')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HolotypeError, match="was not laid out: openTSNE is not installed; pip install openTSNE"):
        Laying(planted()[0]).places()


def test_the_process_ends_with_the_server() -> None:
    """Also where that is killed, and cannot end it."""
    script = (
        "import os, numpy as np\n"
        "from holotype.review.layout import Laying\n"
        "vectors = np.random.default_rng(0).normal(size=(4000, 8)).astype(np.float32)\n"
        "laying = Laying(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))\n"
        "print(laying._process.pid, flush=True)\n"
        "laying.places(lambda count: os.kill(os.getpid(), 9))\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert killed.returncode == -9
    ends = time.monotonic() + PATIENCE
    while runs(int(killed.stdout)) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not runs(int(killed.stdout))


def runs(process: int) -> bool:
    """Whether there is such a process, and it is no mere name that nobody asked about yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_map_that_cannot_be_kept_holds_until_the_server_ends(review: Review) -> None:
    review.folder.map = Path("/dev/full")
    atlas = made(Atlas(review))
    assert (atlas.state, atlas.points()["count"]) == ("done", N)
    assert atlas.message.startswith("The map is not kept for the next time: no space left on the disk of /dev ")


def test_images_of_a_later_test_set_are_not_on_the_map(review: Review, kept_map: bytes) -> None:
    review.folder.map.write_bytes(kept_map)
    review._state = replace(review.state, baseline=replace(review.state.baseline, held_out=[17, 18]))
    assert rows_of(made(Atlas(review))).tolist() == [row for row in range(N) if row not in (17, 18)]


def test_what_the_page_is_sent(client: Client, review: Review, kept_map: bytes) -> None:
    review.folder.map.write_bytes(kept_map)
    assert json.loads(client.get("/api/map").text)["state"] == "never"
    assert client.get("/api/map/points").status == 409
    assert client.get("/api/map/states?label=red").status == 409
    assert client.post("/api/map", {"x": 1}).status == 422
    assert client.post("/api/map", {}).status == 202
    ends = time.monotonic() + PATIENCE
    while json.loads(client.get("/api/map").text)["state"] == "running" and time.monotonic() < ends:
        time.sleep(0.02)
    points = json.loads(client.get("/api/map/points").text)
    rows = np.frombuffer(base64.b64decode(points["rows"]), "<u4")
    places = np.frombuffer(base64.b64decode(points["places"]), "<u2").reshape(-1, 2)
    assert rows.tolist() == list(range(N))
    assert (places.shape, places.min(), places.max(), points["count"]) == ((N, 2), 0, 65535, N)
    states = json.loads(client.get("/api/map/states?label=red").text)
    assert (len(states["states"]), states["states"][0], states["count"]) == (N, str(STATES.index("exemplar")), N)
    assert client.get("/api/map/states?label=nothing").status == 404
    client.show(3)
    assert client.answer(3).status == 200
    images = json.loads(client.get("/api/images?label=red&rows=3,0,7").text)["images"]
    assert [(one["row"], one["id"], one["verdict"]) for one in images] == [
        (3, "3", "yes"),
        (0, "0", "exemplar"),
        (7, "7", ""),
    ]
    assert all(one["why"] for one in images)
    for refused in ("rows=240", "rows=x", f"rows={','.join('1' * 201)}"):
        assert client.get(f"/api/images?label=red&{refused}").status in (404, 422)


def test_a_server_that_ends_takes_the_map_along(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[Laying]()

    def start(vectors: Matrix) -> Laying:
        started.append(Laying(vectors))
        return started[0]

    monkeypatch.setattr("holotype.review.atlas.Laying", start)
    with served(review) as address:
        Client(address).post("/api/map", {})
        while not started:
            time.sleep(0.001)
    assert started[0]._process.returncode is not None
