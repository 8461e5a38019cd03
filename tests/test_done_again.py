"""A run that is done again takes what rests on the same, and comes to what a run from nothing comes to."""

from pathlib import Path
from typing import NoReturn

import pytest
from conftest import Job
from reviewer import answer

from holotype import Settings, run
from holotype.answers.records import NewAnswer
from holotype.grouping import assign, graph
from holotype.review.review import Review

FOUND = ("groups.parquet", "model", "review")


@pytest.fixture
def once(job: Job, tmp_path: Path) -> Path:
    """The folder of a run that found its groups by itself."""
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


@pytest.mark.parametrize("change", ["damaged", "lost", "unlisted", "seed"])
def test_what_rests_on_other_things_or_is_not_whole_is_found_again(once: Path, change: str) -> None:
    ranking, sums = once / "review" / "ranking.safetensors", once / "results.sha256"
    settings = Settings.load(once / "holotype.toml")
    if change == "damaged":
        ranking.write_bytes(ranking.read_bytes()[:-9] + bytes(9))
    elif change == "lost":
        ranking.unlink()
    elif change == "unlisted":
        lines = sums.read_text().splitlines(keepends=True)
        sums.write_text("".join(line for line in lines if "ranking" not in line))
    else:
        settings = settings.model_copy(update={"fit": settings.fit.model_copy(update={"seed": 3})})
    run(settings, once, force=True)
    assert found(once) == from_nothing(once)
