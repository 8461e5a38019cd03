"""What a message advises can be done: its options are those of the command, and to follow it helps."""

import ast
import json
import re
import shlex
import shutil
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Holotype, Job, Jpeg, MakeTar, Picture
from networks import preprocessor
from test_promises import FILES
from test_update import append, found, members
from typer.main import get_command

from holotype import Settings, run
from holotype.answers.log import AnswerLog
from holotype.cli.arguments import advise
from holotype.cli.main import app
from holotype.runs.folder import RunFolder

OPTIONS = {
    name: {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
}
KNOWN = {"--debug", "--version", "--help"}.union(*OPTIONS.values())
KNOWN |= {"--json", "--data-binary", "--array"}  # of curl, and of sbatch


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
    other = Path("my run.v2")  # where a dot ends no sentence
    assert advise("again: holotype run OUT --force", foreign, other) == "again: holotype run 'my run.v2' --force"
    assert advise("holotype run o.v2 --force, or not", foreign, other) == "holotype run o.v2 --force, or not"


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
    edited = "holotype.toml is not as holotype wrote it (it was edited, or is damaged): what it says now holds"
    assert error.count(edited) == 1  # each step that reads it warns
    assert holotype("suggest", out)[0] == 0


def test_to_do_a_run_again_is_said_in_whole(out: Path, holotype: Holotype) -> None:
    (out / "review" / "baseline.json").rename(out / "review" / "start.json")
    code, _, error = holotype("suggest", out)
    assert code == 1
    again = re.search(r"do the run again \(holotype (run \S+)\)", error)
    assert again
    assert holotype(*again[1].split())[0] == 0
    assert holotype("suggest", out)[0] == 0


def follow(holotype: Holotype, said: str, pattern: str, *instead: tuple[str, object]) -> None:
    """Give the command that a message advises as a shell takes it; `instead`: what words in capitals stand for."""
    found = re.search(rf"holotype {pattern}", said)
    assert found, said
    words = shlex.split(found[1])
    for word, value in instead:
        words = [one.replace(word, str(value)) for one in words]
    code, _, error = holotype(*words)
    assert code == 0, error


@pytest.fixture
def spaced(out: Path) -> Path:
    """The run, in a folder whose name has what ends a word or a sentence."""
    return out.rename(out.with_name("my run.v2, new"))


def test_what_is_advised_can_be_copied_whatever_a_folder_is_called(spaced: Path, holotype: Holotype) -> None:
    for name in ("answers.db", "review/baseline.json", "model/head.onnx"):
        path = spaced / name
        if name == "answers.db":  # an answer is damaged
            with AnswerLog(path) as log:
                log.add("30", "red", "yes")
        content = bytearray(path.read_bytes())
        content[content.index(b"yes") if name == "answers.db" else len(content) // 2] ^= 1
        path.write_bytes(content)
        command = ["predict", spaced, spaced / "model"] if name.startswith("model") else ["suggest", spaced]
        code, _, error = holotype(*command)
        assert (code, "change it in" in error) == (1, False)
        follow(holotype, error, r"(answer .* --salvage)" if name == "answers.db" else r"(run (?:'[^']*'|\S+?))[ )]")
        assert holotype("suggest", spaced)[0] == 0


def test_of_several_encoders_the_one_that_was_moved_is_named(
    out: Path, network: str, tmp_path: Path, holotype: Holotype
) -> None:
    folder = tmp_path / "networks"
    folder.mkdir()
    for name in ("a", "b"):
        for suffix in (".onnx", ".json"):
            shutil.copy(Path(network).with_suffix(suffix), folder / f"{name}{suffix}")
    (folder / "b.json").write_text(preprocessor([0.4] * 3, [0.3] * 3, size=32))
    settings = Settings.load(out / "holotype.toml")
    both = settings.model_copy(update={"encoders": [str(folder / f"{name}.onnx") for name in ("a", "b")]})
    RunFolder(out).change_settings(both)
    for suffix in (".onnx", ".json"):
        (folder / f"b{suffix}").rename(folder / f"c{suffix}")
    code, _, error = holotype("run", out)
    assert code == 1
    follow(holotype, error, r"(run .* --encoder \S+)", ("PATH", folder / "c.onnx"))


def test_for_other_images_a_run_of_its_own_is_advised_as_it_is_given(
    out: Path, network: str, tmp_path: Path, make_tar: MakeTar, jpeg: Jpeg, holotype: Holotype
) -> None:
    other = make_tar([(f"{n}.jpg", jpeg((n, 255 - n, 90))) for n in range(0, 250, 3)])
    for command in ("suggest", "run"):
        code, _, error = holotype(command, out, "--images", other)
        assert (code, "change it in" in error) == (1, False)
    found = re.search(r"(run --images IMAGES --exemplar NAME=ID --out NEW)", error)
    assert found
    words = found[1].replace("IMAGES", str(other)).replace("NAME=ID", "a=0").replace("NEW", str(tmp_path / "new"))
    assert holotype(*words.split(), "--encoder", network)[0] == 0


def test_vectors_that_lack_images_are_computed_by_what_made_the_others(
    network: str, tmp_path: Path, make_tar: MakeTar, jpeg: Jpeg, holotype: Holotype
) -> None:
    pictures = [(f"{n}.jpg", jpeg((n, 255 - n, 90))) for n in range(12)]
    images, vectors = make_tar(pictures[:8], "my pool.tar"), tmp_path / "my vectors"
    assert holotype("embed", images, "--out", vectors, "--encoder", network)[0] == 0
    make_tar(pictures, "my pool.tar")
    code, _, error = holotype("search", images, "--exemplar", 0, "--embeddings", vectors)
    assert (code, "left out: 4 images" in error) == (0, True)
    follow(holotype, error, r"(embed .*) computes what is missing")
    assert "left out" not in holotype("search", images, "--exemplar", 0, "--embeddings", vectors)[2]


def test_images_without_a_vector_come_with_the_next_update(
    job: Job, tmp_path: Path, picture: Picture, holotype: Holotype, network: str
) -> None:
    settings, vectors, made = job(test_set=None, search="embeddings"), tmp_path / "vectors", tmp_path / "made"
    assert holotype("embed", settings.images, "--encoder", network, "--out", vectors)[0] == 0
    run(settings.model_copy(update={"embeddings": str(vectors)}), made)
    append(Path(settings.images), members(range(300, 320), picture))
    code, _, error = holotype("update", made)
    assert (code, "left out: 20 images" in error) == (0, True)
    again = "computes what is missing; then give the same command again, of a run that is done holotype update"
    follow(holotype, error, f"(embed .*) {again}")
    assert holotype("update", made)[0] == 0
    assert {"300", "310"} <= found(made)["red"]


def test_a_test_set_of_which_no_row_counts_says_what_helps(out: Path, tmp_path: Path, holotype: Holotype) -> None:
    table = tmp_path / "rows of mine.csv"
    table.write_text("index,red,green,blue\n0,1,0,0\n1,0,1,0\n")
    code, _, error = holotype("evaluate", out, "--test-set", table)
    assert (code, error.endswith("unreadable; add rows of other images\n")) == (1, True)
    with (out / "groups.parquet").open("rb") as file:
        learnt = [
            row["id"] for row in pq.read_table(file).to_pylist() if row["part"] == "learnt" and int(row["id"]) > 2
        ]
    table.write_text("index,red,green,blue\n" + "".join(f"{name},0,0,0\n" for name in learnt[:4]))
    code, _, error = holotype("evaluate", out, "--test-set", table)
    assert code == 1
    follow(holotype, error, r"(run .*) does the run again")
    assert holotype("evaluate", out, "--test-set", table)[0] == 0


def test_where_defaults_were_others_the_run_goes_on_as_it_was_begun(out: Path, holotype: Holotype) -> None:
    """A run that was stopped before it replaced the one there, both from before the strength's default changed."""
    settings = out / "holotype.toml"
    known = tomllib.loads(settings.read_text())
    settings.write_text(re.sub(r"(?m)^strength = .*", "strength = 0.01", settings.read_text()))
    (out / "unfinished.toml").write_text(settings.read_text())
    exemplars = [word for name, (one,) in known["exemplars"].items() for word in ("--exemplar", f"{name}={one}")]
    fixed = [f"--set={key}={known['fit'][key]}" for key in ("near_duplicate", "doubtful_band")]
    given = ["--images", known["images"], *exemplars, "--encoder", known["encoders"][0], *fixed, "--out", out]
    code, _, error = holotype("run", *given, "--resume")
    assert (code, "(--set head_settings.strength 10.0, was 0.01)" in error) == (1, True)
    advised = re.search(r"holotype (run \S+ --resume) goes on with its own", error)
    assert advised
    assert holotype(*advised[1].split())[0] == 0
    assert Settings.load(settings).fit.head_settings.strength == 0.01
    settings.write_text("strength = [")  # what is written over need not be read
    code, _, error = holotype("run", *given, "--force")
    assert code == 0, error
    assert Settings.load(settings).fit.head_settings.strength == 10


def test_how_many_rounds_are_better_counts_what_there_is_to_ask(out: Path, holotype: Holotype) -> None:
    code, form, said = holotype("suggest", out, "-n", 99999, "--class", "red")
    asked = len(form.splitlines()) - 1
    assert code == 0
    assert 10 < asked <= 240
    assert f"{asked} questions of a class at once bring less than {-(-asked // 10)} rounds of 10" in said
    assert "rounds" not in holotype("suggest", out, "-n", 10)[2]


def test_rows_that_were_learnt_from_count_once_the_run_knows_of_them(out: Path, holotype: Holotype) -> None:
    (out.parent / "more.csv").write_text("index,red,green,blue\n50,1,0,0\n53,0,0,0\n54,0,0,0\n")
    evaluate = ["evaluate", out, "--test-set", out.parent / "more.csv"]
    _, _, error = holotype(*evaluate)
    advised = re.search(r"holotype (run \S+ --test-set \S+) does the run again and learns from none of them", error)
    assert advised, error
    assert holotype(*advised[1].split())[0] == 0
    code, found, error = holotype(*evaluate)
    assert (code, json.loads(found)["rows"], "do not count" in error) == (0, 3, False)
    assert "run OUT --test-set CSV" in " ".join(holotype("evaluate", "--help")[1].split())
