"""A run that is done again takes what rests on the same, and comes to what a run from nothing comes to."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from conftest import Job
from numpy.typing import NDArray
from PIL import Image
from reviewer import answer

from holotype import Settings, open_pool, run
from holotype.answers.records import NewAnswer
from holotype.grouping import assign, graph, premises, space
from holotype.grouping.copies import Copies, find_copies
from holotype.grouping.search import Search
from holotype.review.review import Review
from holotype.runs.folder import RunFolder
from holotype.vectors.embeddings import Embeddings

FOUND = ("groups.parquet", "model", "review")


@pytest.fixture
def once(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that found its groups by itself, in a space that is more than centred."""
    monkeypatch.setattr(space, "_LEAST", 100)
    run(job(thresholds=["auto"], test_set=None), tmp_path / "once")
    return tmp_path / "once"


def never(*_: object, **__: object) -> NoReturn:
    raise AssertionError("it was found before")


def found(out: Path) -> dict[str, bytes]:
    """What a run found, by the names of its files."""
    places = [path for name in FOUND for path in [out / name, *(out / name).rglob("*")]]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in places if path.is_file()}


def from_nothing(out: Path) -> dict[str, bytes]:
    """What the run in `out` finds with the same answers in a folder where nothing was found before."""
    fresh = out.with_name("fresh")
    run(Settings.load(out / "holotype.toml"), fresh, answers_of=out)
    return found(fresh)


def test_apply_takes_the_groups_that_exemplars_alone_lead_to(once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Review.open(once) as review:
        answer(review, "red", 12)
        with monkeypatch.context() as patch:
            patch.setattr(assign, "find_copies", never)
            review.apply()
            review.apply()
    assert found(once) == from_nothing(once)


def test_with_another_exemplar_the_space_is_taken(once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Review.open(once) as review:
        review.record([NewAnswer("6", "green", "exemplar")])
        with monkeypatch.context() as patch:
            patch.setattr(graph, "fit_space", never)
            review.apply()
    assert found(once) == from_nothing(once)


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> list[Search]:
    """What groups were found in, and not taken."""
    searches: list[Search] = []

    def recorded(search: Search, copy_of: NDArray[np.int64] | None) -> Copies:
        searches.append(search)
        return find_copies(search, copy_of)

    monkeypatch.setattr(assign, "find_copies", recorded)
    return searches


def test_what_groups_rest_on_is_known_to_the_next_run_alone(once: Path) -> None:
    """Of a review it would not hold any more where its rows or its classes come into another order."""
    folder = RunFolder(once)
    before = folder.read_before()
    assert before is not None
    assert before.groups.premises is not None
    assert folder.load_baseline().groups.premises is None


def test_what_is_not_whole_is_found_again(once: Path, again: list[Search]) -> None:
    ranking, sums, first = once / "review" / "ranking.safetensors", once / "results.sha256", found(once)
    settings, lines = Settings.load(once / "holotype.toml"), sums.read_text().splitlines(keepends=True)

    def damage() -> None:
        ranking.write_bytes(ranking.read_bytes()[:-9] + bytes(9))

    def damage_all() -> None:
        """Else it is as if a version that knows no list had done the run again."""
        damage()
        (once / "metrics.json").write_text("{}")

    def unlist() -> None:
        sums.write_text("".join(line for line in lines if "ranking" not in line))

    for count, change in enumerate([damage, damage_all, ranking.unlink, unlist], 1):
        change()
        run(settings, once, force=True)
        assert len(again) == count
        assert found(once) == first


def test_a_review_goes_on_where_only_what_groups_were_found_by_is_damaged(once: Path, again: list[Search]) -> None:
    ranking = once / "review" / "ranking.safetensors"
    ranking.write_bytes(ranking.read_bytes()[:-1] + b"?")
    with Review.open(once) as review:
        answer(review, "red", 12)
        review.apply()
    assert len(again) == 1
    assert found(once) == from_nothing(once)


def test_what_rests_on_other_things_is_found_again(
    once: Path, again: list[Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load(once / "holotype.toml")
    with monkeypatch.context() as patch:
        patch.setattr(premises, "code_digests", premises.code_digests.__wrapped__)
        patch.setattr(premises, "version", lambda name: "0" if name == "pillow" else version(name))
        run(settings, once, force=True)  # exemplars are decoded by another version
    assert len(again) == 1
    run(settings.model_copy(update={"fit": settings.fit.model_copy(update={"seed": 3})}), once, force=True)
    assert len(again) == 2
    assert found(once) == from_nothing(once)


def test_vectors_are_others_by_any_number_their_rows_and_how_they_lie() -> None:
    plain, rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), np.arange(6)
    other, swapped = plain.copy(), rows.copy()
    other[5, 3], swapped[:2] = 0, [1, 0]
    kinds = [
        Embeddings([plain], rows, 6),
        Embeddings([other], rows, 6),
        Embeddings([plain], swapped, 6),
        Embeddings([plain], rows, 7),
        Embeddings([plain[:5]], rows[:5], 6),
        Embeddings([plain.astype(np.float64)], rows, 6),
        Embeddings([np.asfortranarray(plain)], rows, 6),
    ]
    assert len({one.digest for one in kinds}) == len(kinds)
    assert Embeddings([plain.copy()], rows.copy(), 6).digest == kinds[0].digest


@pytest.fixture
def photos(data: Path) -> Path:
    """The images of `data` in a folder, and beside it `vectors.npy`: each image as 3 x 3 cells of colour."""
    pool, folder = open_pool(data / "images.tar"), data / "photos"
    folder.mkdir()
    for row, name in enumerate(pool.ids):
        (folder / f"{name}.jpg").write_bytes(pool.read(row) if name != "7" else pool.read(0))
    return supply(folder)


def supply(photos: Path) -> Path:
    """Compute `vectors.npy` of what is in `photos` now."""
    names = [path.stem for path in photos.iterdir()]
    cells = [np.asarray(Image.open(photos / f"{name}.jpg").resize((3, 3)), np.float32).ravel() for name in names]
    np.save(photos.with_name("vectors.npy"), np.stack(cells) - 128)
    photos.with_name("vectors.ids.txt").write_text("\n".join(names))
    return photos


def leave_out(photos: Path) -> Callable[[], object]:
    """Take some images away; what is returned puts them back."""
    away = shutil.move(photos, photos.with_name("whole"))
    shutil.copytree(away, photos, ignore=shutil.ignore_patterns("6?.jpg", "1?3.jpg"))
    supply(photos)

    def put_back() -> None:
        shutil.copytree(away, photos, dirs_exist_ok=True)
        supply(photos)

    return put_back


def copy_an_exemplar(photos: Path) -> Callable[[], object]:
    def change() -> None:
        shutil.copy(photos / "0.jpg", photos / "77.jpg")
        supply(photos)

    return change


WHOLE: dict[str, Any] = {"search": "encoder"}
OTHERS: dict[str, Any] = {"exemplars": {"red": ["10"], "green": ["11"], "blue": ["12"]}}


@pytest.mark.parametrize(
    ("before", "change", "now"),
    [
        ({}, copy_an_exemplar, {}),
        (OTHERS, leave_out, {}),
        (WHOLE, leave_out, WHOLE),
        (WHOLE, None, {"test_set": None}),
    ],
)
def test_what_else_was_encoded_before_changes_nothing(
    before: dict[str, Any],
    change: Callable[[Path], Callable[[], object]] | None,
    now: dict[str, Any],
    data: Path,
    photos: Path,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An earlier run, or search, may have asked for others, or in another order; and rounding may tell the order."""
    usual: dict[str, Any] = {"images": str(photos), "thresholds": ["auto"], "embeddings": str(data / "vectors.npy")}
    usual |= {"fit": {"negatives": 20, "precision": "f32"}}
    then = change(photos) if change else lambda: None
    run(job(**usual | before), data / "out")
    then()
    run(job(**usual | now), data / "out", force=True)
    monkeypatch.setenv("HOLOTYPE_CACHE", str(data / "another cache"))
    run(job(**usual | now), data / "fresh")
    assert found(data / "out") == found(data / "fresh")
    assert compared(data / "out") == compared(data / "fresh")


def compared(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((out / "metrics.json").read_text())["search"]["rows"]
    return rows


def test_vectors_are_read_by_row_however_they_lie() -> None:
    plain, rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), np.array([4, 0, 5, 1, 2, 3])
    lying = Embeddings([plain[rows[:4]], plain[rows[4:]]], rows, 6)
    assert [there.tolist() for there, _ in lying.stored()] == [[0, 1, 2, 3, 4, 5]]
    assert lying.digest == Embeddings([plain], np.arange(6), 6).digest
