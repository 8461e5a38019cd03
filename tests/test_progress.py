"""What is shown of long work: in a log, a line now and then, with the rate and the time left."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Holotype

from holotype import Settings
from holotype.progress import Advance, Silent, Terminal, in_steps, long


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("holotype.progress.time.monotonic", lambda: now[0])
    return now


def test_a_log_has_a_line_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().track("embed (net)", 36_000) as advance:
        for _ in range(3600):
            clock[0] += 1
            advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "embed (net): 50/36,000, 10/s, 0:59:55 left"
    assert lines[-1] == "embed (net): 36,000/36,000, 10/s"
    assert 30 < len(lines) < 120
    assert len(set(lines)) == len(lines)


def test_short_work_is_one_line(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().track("embed (net)", 3) as advance:
        clock[0] += 1
        advance(3)
    with Terminal().track("nothing", 0):
        pass
    assert capsys.readouterr().err.splitlines() == ["embed (net): 3/3", "nothing: 0/0"]


def test_work_that_takes_long_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with long(Terminal(), "short"), long(None, "in Python"):
        pass
    monkeypatch.setattr("holotype.progress._SILENT", 0)
    with long(Terminal(), "prepare the encoder"):
        while not (said := capsys.readouterr().err):
            time.sleep(0.01)
    assert said == "prepare the encoder\n"


def test_a_pool_that_is_read_has_a_bar(out: Path, holotype: Holotype) -> None:
    """What is known of its images is kept, so that it is read once."""
    copy = shutil.copy(Settings.load(out / "holotype.toml").images, out.parent / "copy.tar")
    error = holotype("suggest", out, "-n", 1, "--images", copy)[2]
    assert re.fullmatch(r"read images: 240/240, [\d,]+/s\n", error)
    assert holotype("suggest", out, "-n", 1)[2] == ""


def test_a_line_is_as_it_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    text = "pool: [red] :smile: " + "x" * 300
    Terminal().say(text)
    assert capsys.readouterr().err == f"{text}\n"


@pytest.mark.parametrize("steps", [0, 2, 9])
def test_steps_end_where_they_should(steps: int) -> None:
    advances: list[int] = []

    class Counting(Silent):
        @contextmanager
        def track(self, text: str, total: int) -> Iterator[Advance]:
            assert (text, total) == ("work", 5)
            yield advances.append

    with in_steps(Counting(), "work", 5) as step:
        for _ in range(steps):
            step()
    assert sum(advances) == 5
    assert min(advances) >= 0


def test_a_single_step_is_a_line_only_where_it_takes_long(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds, line in ((1, ""), (7, "think: 7 s\n")):
        with in_steps(Terminal(), "think"):
            clock[0] += seconds
        assert capsys.readouterr().err == line
