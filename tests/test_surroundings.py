"""Where a command is given: a folder that is gone, output that is full, a system that starts no more threads."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import Holotype

from holotype import Settings
from holotype.files import NO_THREADS, cache_folder

COMMAND = [sys.executable, "-c", "from holotype.cli.main import main; main()"]


@pytest.mark.parametrize(
    "words",
    [
        ["embed", "IMAGES", "--out", "v"],
        ["run", "--images", "IMAGES", "--exemplar", "red=0", "--out", "r"],
        ["search", ".", "--exemplar", "0"],
        ["suggest", "out"],
    ],
    ids=lambda words: words[0],
)
def test_a_current_folder_that_was_deleted(
    words: list[str], out: Path, network: str, tmp_path: Path, holotype: Holotype, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Settings.load(out / "holotype.toml").images
    more = [] if words[0] == "suggest" else ["--encoder", network]
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, said, error = holotype(*(images if word == "IMAGES" else word for word in words), *more)
    assert (code, said) == (1, "")
    assert error.splitlines()[-1].endswith(
        "; the current folder is not there any more: go to another one (cd), and give the command again"
    )
    assert holotype("suggest", out, "-n", 1)[0] == 0  # where no short path is given nothing is missing


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_that_cannot_be_written(word: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, word], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    expected = "error: cannot write to standard output: No space left on device; write to another place\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_a_system_that_starts_no_more_threads(
    out: Path, network: str, tmp_path: Path, holotype: Holotype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    images = Settings.load(out / "holotype.toml").images
    code, _, error = holotype("embed", images, "--out", tmp_path / "v", "--encoder", network)
    assert (code, error.splitlines()[-1]) == (1, f"error: {NO_THREADS}")


def test_a_cache_where_the_system_keeps_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HOLOTYPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "holotype"
    for nothing in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", nothing)
        assert cache_folder() == Path(os.environ["HOME"]) / ".cache" / "holotype"
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_cache_in_the_home_folder_as_a_service_may_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLOTYPE_CACHE", "~/kept")
    assert cache_folder() == Path(os.environ["HOME"]) / "kept"
