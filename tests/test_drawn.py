"""What holotype writes is no image of a pool, wherever it lies or is copied to."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from holotype import Review, Settings, open_pool
from holotype.cli.main import main
from holotype.errors import OutputError, UnreadableImage
from holotype.pool.images import decode
from holotype.runs.folder import RunFolder

Holotype = Callable[..., int]


@pytest.fixture
def holotype(monkeypatch: pytest.MonkeyPatch) -> Holotype:
    """`holotype("run", ...)` returns the exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["holotype", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


@pytest.fixture
def photos(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the first hundred images of `data`, which is also the current one."""
    pool = open_pool(data / "images.tar")
    (data / "photos").mkdir()
    for name in pool.ids[:100]:
        (data / "photos" / f"{name}.jpg").write_bytes(pool.read(pool.rows[name]))
    monkeypatch.chdir(data / "photos")
    return data / "photos"


def test_a_run_inside_of_its_pool_is_not_of_it(photos: Path, network: str, holotype: Holotype) -> None:
    exemplars = [word for name in ("red=0", "green=1", "blue=2") for word in ("--exemplar", name)]
    run = ["run", "--images", ".", *exemplars, "--encoder", network, "--threshold", "0.9", "--out", "results"]
    assert holotype(*run) == 0
    assert list((photos / "results" / "figures").glob("*.png"))
    pool = open_pool(photos)
    assert (len(pool), dict(pool.ignored)) == (100, {"(a run of holotype)": 1})
    assert holotype("suggest", "results") == 0
    assert holotype(*run, "--force") == 0
    assert holotype("run", "results") == 0
    (photos / "results" / "holotype.toml").rename(photos / "results" / "unfinished.toml")  # as a run that goes on
    assert len(open_pool(photos)) == 100


def test_a_sheet_does_not_join_the_pool(
    photos: Path, network: str, holotype: Holotype, capsys: pytest.CaptureFixture[str]
) -> None:
    search = ["search", ".", "--exemplar", "0", "--encoder", network, "--sheet"]
    assert holotype(*search, "found.png") == 1
    assert capsys.readouterr().err.endswith("give a --sheet outside of it\n")
    assert not (photos / "found.png").exists()
    assert holotype(*search, "../found.png") == 0
    shutil.copy("../found.png", photos)
    capsys.readouterr()
    assert holotype(*search, "../found.png", "-k", "200") == 0
    assert "found" not in capsys.readouterr().out


def test_figures_are_known_wherever_they_are_copied_to(out: Path, tmp_path: Path) -> None:
    figures = list((out / "figures").glob("*.png"))
    assert figures
    for path in figures:
        with pytest.raises(UnreadableImage, match="holotype drew it"):
            decode(shutil.copy(path, tmp_path / "copy.png"))


def test_results_that_a_run_would_replace_are_no_input(out: Path) -> None:
    settings = Settings.load(out / "holotype.toml")
    for more in ({"images": str(out / "figures")}, {"test_set": str(out / "predictions.csv")}):
        with pytest.raises(OutputError, match=r"is of the results in .*: copy it elsewhere"):
            RunFolder(out).check(settings.model_copy(update=more), force=True)
    with Review.open(out) as review:
        assert len(review) > 100
