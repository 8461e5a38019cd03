"""How a command ends: one line and a code, whatever goes wrong, and what is kept."""

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Holotype

from holotype import Settings
from holotype.errors import HolotypeWarning

COMMAND = [sys.executable, "-c", "from holotype.cli.main import main; main()"]


@pytest.mark.parametrize(
    "words",
    [
        ["run", "FILE"],
        ["tune", "FILE", "--trials", "1"],
        ["evaluate", "FILE", "--test-set", "FILE"],
        ["review", "FILE"],
        ["suggest", "FILE"],
        ["answer", "FILE"],
        ["predict", "FILE", "FILE"],
        ["embed", "FOLDER", "--out", "FILE"],
        ["embed", "LINK", "--out", "NEW"],
        ["embed", "LONG", "--out", "NEW"],
        ["search", "FOLDER", "--exemplar", "0", "--vectors", "FILE"],
        ["search", "FOLDER", "--exemplar", "0", "--embeddings", "FILE"],
        ["run", "LONG"],
        ["run", "LINK"],
        ["run", "NEW"],
        ["suggest", "CIRCLE"],
        ["run", "--images", "FOLDER", "--exemplars", "FILE", "--out", "NEW"],
        ["run", "--images", "FOLDER", "--exemplar", "a=0", "--test-set", "FOLDER", "--out", "NEW"],
        ["run", "--images", "FOLDER", "--exemplar", "a=0", "--embeddings", "FOLDER", "--out", "NEW"],
        ["run", "--images", "FOLDER", "--exemplar", "a=0", "--out", "FILE"],
        ["run", "--images", "FOLDER", "--exemplar", "a=FOLDER", "--out", "NEW"],
    ],
    ids=" ".join,
)
def test_one_thing_where_another_should_be_is_one_line(
    words: list[str], tmp_path: Path, holotype: Holotype, network: str, jpeg: Callable[..., bytes]
) -> None:
    places = {name: tmp_path / name for name in ("FILE", "FOLDER", "LINK", "NEW", "CIRCLE")}
    places["LONG"] = tmp_path / ("x" * 300)
    places["FILE"].write_text("a report")
    places["FOLDER"].mkdir()
    (places["FOLDER"] / "0.jpg").write_bytes(jpeg())
    places["LINK"].symlink_to("nowhere")
    places["CIRCLE"].symlink_to("CIRCLE")
    encoder = ["--encoder", network] if "FOLDER" in words else []
    given = [str(places.get(word, word)).replace("a=FOLDER", f"a={places['FOLDER']}") for word in words]
    code, said, error = holotype(*given, *encoder)
    last = error.splitlines()[-1]
    assert (code, said) == (1, "")
    assert last.startswith("error: ")
    assert "should not have happened" not in last
    assert "Traceback" not in error
    assert places["FILE"].read_text() == "a report"
    assert not (tmp_path / "NEW").exists()


def test_a_file_of_a_run_is_told_from_a_file_of_anything(out: Path, tmp_path: Path, holotype: Holotype) -> None:
    for name in ("report.html", "holotype.toml", "model/model.json"):
        code, _, error = holotype("suggest", out / name)
        assert (code, error) == (
            1,
            f"error: expected the folder of a run, got the file {out / name}: it is a file of {out}\n",
        )
    images = Settings.load(out / "holotype.toml").images
    _, _, error = holotype("run", images)
    assert error.endswith(f"got the file {images}: a new run begins with holotype run --images\n")


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("command", ["run", "embed", "search"])
def test_a_pattern_that_the_shell_expanded_is_to_be_quoted(
    command: str, count: int, tmp_path: Path, holotype: Holotype
) -> None:
    tars = [tmp_path / f"{number:03}.tar" for number in range(count)]
    for path in tars:
        path.write_bytes(b"")
    images = ["--images", *tars] if command == "run" else tars
    more = ["--out", tmp_path / "out"] if command == "embed" else ["--exemplar", "a=0"]
    code, _, error = holotype(command, *images, *more)
    assert code == 2
    assert "quote it, as in 'pool-{000..150}.tar'" in " ".join(error.replace("│", " ").split())


class TestWhatShouldNotHappen:
    @pytest.fixture(autouse=True)
    def broken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise KeyError("a bug\nof ours")

        monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path))
        monkeypatch.setattr("holotype.runs.commands.embed_pool", fail)

    def test_is_one_line_and_its_traceback_is_kept(self, tmp_path: Path, holotype: Holotype) -> None:
        code, _, error = holotype("embed", "a.tar", "--out", "b")
        path = tmp_path / "traceback.txt"
        assert code == 1
        assert (
            error == rf"error: this should not have happened (KeyError: 'a bug\nof ours'); please report it with {path}"
            "\n"
        )
        assert "in fail\n" in path.read_text()

    def test_is_to_be_seen_with_debug(
        self, tmp_path: Path, holotype: Holotype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(KeyError):
            holotype("embed", "a.tar", "--debug", "--out", "b")
        monkeypatch.setenv("HOLOTYPE_CACHE", "/dev/null")
        assert (
            "; give the same command with --debug, and report what it prints" in holotype("embed", "a", "--out", "b")[2]
        )


def test_too_little_memory_is_said(holotype: Holotype, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("holotype.runs.commands.embed_pool", fail)
    assert holotype("embed", "a", "--out", "b")[::2] == (
        1,
        "error: there is not enough memory; close other programs, or give fewer images at once\n",
    )


def test_a_warning_is_one_line(holotype: Holotype, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object, **__: object) -> None:
        warnings.warn("no locks", HolotypeWarning, stacklevel=2)
        raise SystemExit

    monkeypatch.setattr("holotype.runs.commands.embed_pool", warn)
    warnings.simplefilter("error")  # as with PYTHONWARNINGS=error
    assert holotype("embed", "a", "--out", "b") == (0, "", "warning: no locks\n")


@pytest.mark.parametrize("command", ["predict", "suggest"])
def test_output_that_cannot_be_written(out: Path, command: str) -> None:
    """A full disk is an error; who has read enough (`| head -1`) is not to be bothered."""
    more = [Settings.load(out / "holotype.toml").images] if command == "predict" else []
    words = [*COMMAND, command, str(out), *more]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: cannot write to standard output: No space left on device;")
    assert "Exception" not in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 141
    assert "rror" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_ends_a_command_is_one_line(number: int, code: int, out: Path, tmp_path: Path) -> None:
    heard = ["env", "--default-signal"]  # also where the tests run under nohup
    words = [*heard, *COMMAND, "predict", str(out), str(tmp_path / "slow.jpg")]
    os.mkfifo(tmp_path / "slow.jpg")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    opened = os.open(tmp_path / "slow.jpg", os.O_WRONLY)  # returns when it is being read
    time.sleep(0.1)
    process.send_signal(number)
    said, error = process.communicate(timeout=60)
    os.close(opened)
    assert (process.returncode, said) == (code, "")
    assert (
        error
        == "stopped: the lines that were printed are whole; of --out FILE nothing was written, and parts are kept\n"
    )


def test_closed_standard_streams_are_no_error(out: Path, tmp_path: Path, holotype: Holotype) -> None:
    """As of a service; nothing that is written for them gets into the files that would take their places."""
    answers, images = tmp_path / "answers.csv", Settings.load(out / "holotype.toml").images
    predict = [*COMMAND, "predict", str(out), images, "--format", "csv"]
    for words, closed in (([*predict, "--out", str(answers)], "<&- >&- 2>&-"), (predict, ">&-"), (predict[:4], "2>&-")):
        done = subprocess.run(["bash", "-c", f'exec "$@" {closed}', "-", *words], capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (0 if len(words) > 4 else 2, b"")
        assert b"rror" not in done.stderr
    assert answers.read_text() == holotype(*predict[len(COMMAND) :])[1]
