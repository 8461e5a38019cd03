"""What a message advises can be done: its options are those of the command, and to follow it helps."""

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Holotype
from test_promises import FILES
from typer.main import get_command

from holotype import Settings
from holotype.arguments import advise
from holotype.cli import app
from holotype.runs.folder import RunFolder

OPTIONS = {
    name: {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
}
KNOWN = {"--debug", "--version"}.union(*OPTIONS.values())


def texts(path: Path) -> Iterator[str]:
    """Yield the texts in a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    own = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in own:
            yield node.value


def test_every_option_in_a_message_is_one() -> None:
    named = {
        name: path for path in FILES for text in texts(path) for name in re.findall(r"(?<!\S)--[a-z][a-z-]+", text)
    }
    assert len(named) > 8
    assert {name: path for name, path in named.items() if name not in KNOWN} == {}


def test_every_command_in_a_message_has_its_options() -> None:
    found = [
        (match[1], option)
        for path in FILES
        for text in texts(path)
        for match in re.finditer(r"holotype ([a-z]+) ([^;,.:)]*)", text)
        if match[1] in OPTIONS
        for option in re.findall(r"--[a-z][a-z-]+", match[2])
    ]
    assert found
    assert [pair for pair in found if pair[1] not in OPTIONS[pair[0]]] == []


def test_an_option_that_a_command_lacks_is_told_where_it_belongs() -> None:
    out, foreign = Path("o"), {"--threshold", "--force"}
    assert advise("lower --threshold", set(), out) == "lower --threshold"
    assert advise("lower --threshold", foreign, None) == "lower --threshold (--threshold: an option of holotype run)"
    instead = "change it in o/holotype.toml, and then: holotype run o"
    assert advise("lower --threshold", foreign, out) == f"lower --threshold (--threshold: {instead})"
    assert advise("again: holotype run OUT --force", foreign, out) == "again: holotype run o --force"
    assert advise("no image 'my--threshold'", foreign, out) == "no image 'my--threshold'"


@pytest.fixture
def cut_off(out: Path) -> Path:
    """The tar of the run in `out`, which ends in the middle of a member now."""
    settings = Settings.load(out / "holotype.toml")
    images = Path(settings.images)
    copy = out.parent / "pool.tar"
    copy.write_bytes(images.read_bytes()[: images.stat().st_size * 9 // 10])
    RunFolder(out).change_settings(settings.model_copy(update={"images": str(copy)}))
    return copy


def test_a_tar_that_is_cut_off_can_be_taken_by_each_command(
    out: Path, cut_off: Path, network: str, tmp_path: Path, holotype: Holotype
) -> None:
    exemplars = [word for name in ("red=0", "green=1", "blue=2") for word in ("--exemplar", name)]
    encoder = ["--encoder", network]
    for command in (
        ["predict", out, cut_off],
        ["search", cut_off, "--exemplar", 0, *encoder],
        ["embed", cut_off, "--out", tmp_path / "vectors", *encoder],
        ["run", "--images", cut_off, *exemplars, *encoder, "--threshold", "0.9", "--out", tmp_path / "new"],
    ):
        code, _, error = holotype(*command)
        assert (code, error.endswith("with --allow-truncated\n")) == (1, True)
        code, _, error = holotype(*command, "--allow-truncated")
        assert code == 0, error


def test_a_run_whose_tar_is_cut_off_now_says_what_to_change(out: Path, cut_off: Path, holotype: Holotype) -> None:
    said = f"(--allow-truncated: change it in {out / 'holotype.toml'}, and then: holotype run {out})\n"
    for command in (["suggest", out], ["answer", out], ["run", out], ["tune", out, "--trials", 1], ["review", out]):
        code, _, error = holotype(*command)
        assert (code, error.endswith(said)) == (1, True)
    settings = out / "holotype.toml"
    settings.write_text(settings.read_text().replace("allow_truncated = false", "allow_truncated = true"))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, error = holotype("run", out)
    assert code == 0, error
    assert "holotype.toml is not as holotype wrote it (it was edited, or is damaged): what it says now holds" in error
    assert holotype("suggest", out)[0] == 0


def test_to_do_a_run_again_is_said_in_whole(out: Path, holotype: Holotype) -> None:
    (out / "review" / "baseline.json").rename(out / "review" / "start.json")
    code, _, error = holotype("suggest", out)
    assert code == 1
    again = re.search(r"do the run again \(holotype (run \S+)\)", error)
    assert again
    assert holotype(*again[1].split())[0] == 0
    assert holotype("suggest", out)[0] == 0
