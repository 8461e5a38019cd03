"""What leaves a command: every name in a form that can be shown, nothing left out without a word, files in UTF-8."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from conftest import Holotype, Jpeg, MakeTar
from system import commands, gnu_tar
from test_pointers import LFS

COMMAND = [sys.executable, "-c", "from holotype.cli.main import main; main()"]
LATIN = os.fsdecode(b"caf\xe9.jpg")
ODD = {LATIN: r"caf\xe9", "図.jpg": "図", "a\x1b[2Jb.jpg": r"a\x1b[2Jb", "gpj.\u202egnp.jpg": r"gpj.\u202egnp"}
Said = tuple[int, bytes, str]


def in_a_process(*words: object, environment: Mapping[str, str] = {}) -> Said:
    given = [os.fsencode(str(word)) for word in [*COMMAND, *words]]
    done = subprocess.run(given, capture_output=True, check=False, env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr.decode(errors="surrogateescape")


@pytest.fixture
def odd(tmp_path: Path, jpeg: Jpeg) -> Path:
    """A folder of pictures whose names cannot be shown everywhere."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ODD:
        (folder / name).write_bytes(jpeg())
    return folder


@pytest.mark.parametrize("encoding", ["iso-8859-1", "ascii"])
def test_predict_shows_every_name_on_every_terminal(out: Path, odd: Path, encoding: str) -> None:
    paths = [odd / name for name in ODD]
    predict = ["predict", out, odd]
    layouts = [[*predict, "--format", layout] for layout in ("csv", "table")]
    (code, stdout, error), *others = commands([*predict, *paths], *layouts, environment={"PYTHONIOENCODING": encoding})
    assert (code, b"Traceback" in error) == (0, False)
    found = [json.loads(line)["id"] for line in stdout.decode(encoding).splitlines()]
    assert sorted(found[:4]) == sorted(ODD.values())
    assert [name.removeprefix(f"{odd}/") for name in found[4:]] == [f"{name}.jpg" for name in ODD.values()]
    assert [(code, len(stdout.splitlines())) for code, stdout, _ in others] == [(0, 5), (0, 4)]
    for _, stdout, _ in others:
        assert not any(byte in stdout for byte in (b"\x1b", "\u202e".encode()))


def test_files_are_utf_8_wherever_they_are_written(out: Path, odd: Path, tmp_path: Path) -> None:
    path = tmp_path / "p"
    latin = {"PYTHONIOENCODING": "iso-8859-1", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    assert in_a_process("predict", out, odd, "--out", path, "--format", "csv", environment=latin)[0] == 0
    text = path.read_text(encoding="utf-8")
    assert "図" in text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert sorted(row["id"] for row in rows) == sorted(ODD.values())


def test_names_in_errors_and_progress_command_no_terminal(
    out: Path, tmp_path: Path, jpeg: Jpeg, holotype: Holotype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x\x1b[2J").mkdir()
    (tmp_path / "x\x1b[2J" / "0.jpg").write_bytes(jpeg())
    (tmp_path / "x\x1b[2J" / "notes.t\x1b[2Jt").write_bytes(b"")
    for words in (
        ["predict", out, "none\x1b[2J.tar"],
        ["predict", out, "x\x1b[2J"],
        ["embed", "x\x1b[2J", "--out", "y", "--encoder", "z\x1b[2J"],
    ):
        _, stdout, error = holotype(*words)
        assert "\x1b" not in stdout
        assert r"\x1b[2J" in error
        assert "\x1b" not in error


@pytest.mark.parametrize(
    "words",
    [
        ["run", "x{}", "--exemplar", "a=b"],
        ["run", "--exemplar", "{}"],
        ["run", "--threshold", "{}"],
        ["run", "--x{}"],
        ["suggest", "a", "x{}"],
        ["x{}"],
    ],
)
def test_arguments_that_are_refused_command_no_terminal(
    words: Sequence[str], holotype: Holotype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, stdout, error = holotype(*(word.format("\x1b[2J\u202e") for word in words))
    assert (code, stdout) == (2, "")
    assert r"\x1b[2J\u202e" in error
    assert not {"\x1b", "\u202e"} & {*error}


def test_a_latin_1_name_from_end_to_end(data: Path, network: str, holotype: Holotype) -> None:
    """A pool with such a name, as an exemplar and as a row of the test set; the report and the form of a review."""
    folder = data / "photos"
    folder.mkdir()
    gnu_tar(folder, "-xf", "../images.tar")
    names = sorted(folder.iterdir())
    first = next(path for path in names if path.stem.lstrip("0") == "")
    renamed = first.with_name(LATIN)
    first.rename(renamed)
    exemplars = [word for name in (rf"red={LATIN}", "green=1", "blue=2") for word in ("--exemplar", name)]
    options = [
        "--threshold",
        "0.9",
        "--set",
        "near_duplicate=0.99999",
        "--set",
        "doubtful_band=0.25",
        "--encoder",
        network,
    ]
    code, _, said = holotype("run", "--images", folder, *exemplars, *options, "--out", data / "out")
    assert (code, "Traceback" in said) == (0, False), said
    assert r"caf\xe9" in (data / "out" / "holotype.toml").read_text(encoding="utf-8").replace("\\\\", "\\")
    assert (data / "out" / "report.html").is_file()
    ends = commands(
        ["suggest", data / "out", "-n", "200"],
        ["search", folder, "--exemplar", LATIN, "-k", "5", "--encoder", network],
        ["embed", folder, "--out", data / "v", "--encoder", network],
        environment={"PYTHONIOENCODING": "ascii"},
    )
    for code, _, error in ends:
        assert (code, b"Traceback" in error) == (0, False), error
    assert ends[0][2].startswith(b"200 questions")  # that fewer at a time bring more, and nothing else
    assert ends[0][2].count(b"\n") == 1


def left_out(error: str) -> str:
    return next(line for line in error.splitlines() if line.startswith("left out of "))


def test_what_is_left_out_is_said(out: Path, network: str, tmp_path: Path, jpeg: Jpeg, holotype: Holotype) -> None:
    folder = tmp_path / "pool"
    (folder / "@eaDir").mkdir(parents=True)
    for name in ("0.jpg", "1.jpg", "2.psd", "@eaDir/0.jpg", "._0.jpg"):
        (folder / name).write_bytes(jpeg())
    (tmp_path / "album").mkdir()
    (folder / "album").symlink_to(tmp_path / "album")
    commands: Sequence[list[object]] = (
        ["predict", out, folder],
        ["embed", folder, "--out", tmp_path / "v", "--encoder", network],
        ["search", folder, "--exemplar", "0", "--encoder", network],
    )
    for words in commands:
        code, _, error = holotype(*words)
        assert code == 0
        for what in ("1 x .psd", "1 x (link to a folder)", "1 x (metadata of a NAS)", "1 x (macOS metadata)"):
            assert what in left_out(error)


def test_a_lone_file_is_judged_by_what_is_in_it(
    out: Path, tmp_path: Path, jpeg: Jpeg, make_tar: MakeTar, holotype: Holotype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is one whatever it is called; one that cannot be read is a line, and refuses no other."""
    monkeypatch.chdir(tmp_path)
    make_tar([("0.jpg", jpeg())], "shard")  # a tar without a suffix
    files = {
        "a.jpg": jpeg(),
        "b.whatever": jpeg(),
        "c": jpeg(),
        "d.HEIC": b"\0\0\0\x18ftypheic broken",
        "e.jfif": jpeg(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code, stdout, _ = holotype("predict", out, *files, "shard", "gone.jpg")
    records = {record["id"]: record for record in map(json.loads, stdout.splitlines())}
    assert code == 0
    assert list(records) == [*files, "0", "gone.jpg"]
    assert [name for name, record in records.items() if "error" in record] == ["d.HEIC", "gone.jpg"]
    for wrong in ("gone", "gone.tar", "photos.zip"):
        (tmp_path / "photos.zip").write_bytes(b"PK\3\4")
        code, stdout, error = holotype("predict", out, "a.jpg", wrong)
        assert (code, stdout, "expected " in error) == (1, "", True)


EMPTY: list[list[str]] = [
    ["predict", "OUT", ""],
    ["predict", "OUT", "0.jpg", " "],
    ["run", "--images", "", "--exemplar", "a=0", "--out", "NEW"],
    ["run", "--images", ".", "--exemplar", "a=0", "--out", ""],
    ["run", "--images", ".", "--exemplar", "a=", "--out", "NEW"],
    ["run", "--images", ".", "--exemplar", "a=0", "--out=", "--force"],
    ["run", "--images", ".", "--exemplars", "", "--out", "NEW"],
    ["run", ""],
    ["embed", "", "--out", "NEW"],
    ["embed", ".", "--out", ""],
    ["search", "", "--exemplar", "0"],
    ["answer", "OUT", "", "--who", ""],
]


@pytest.mark.parametrize("words", EMPTY, ids=repr)
def test_nothing_is_never_the_current_folder(
    tmp_path: Path, jpeg: Jpeg, words: list[str], holotype: Holotype, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg())
    monkeypatch.chdir(tmp_path)
    code, _, error = holotype(*words)
    assert (code, "expected " in error) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["0.jpg"]


def test_files_that_were_not_fetched(network: str, tmp_path: Path, jpeg: Jpeg, holotype: Holotype) -> None:
    """Nothing usable is no success, and half of a pool is said."""
    (tmp_path / "pool").mkdir()
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / "pool" / name).write_bytes(LFS)
    words = ["embed", tmp_path / "pool", "--out", tmp_path / "v", "--encoder", network]
    code, _, error = holotype(*words)
    assert code == 1
    assert "none of the 2 images" in error
    assert "it is a Git LFS pointer; the file of 12,345 bytes that it stands for was not fetched" in error
    for name in ("2.jpg", "3.jpg"):
        (tmp_path / "pool" / name).write_bytes(jpeg((3, 3, int(name[0]))))
    code, _, error = holotype(*words[:3], tmp_path / "w", *words[4:])
    assert code == 0
    assert "unreadable: 2 of 4 images; 2 of them: it is a Git LFS pointer" in error


def test_a_pool_of_which_nothing_else_can_be_read_says_what_to_do(
    tmp_path: Path, network: str, jpeg: Jpeg, holotype: Holotype
) -> None:
    (tmp_path / "pool").mkdir()
    for row, content in enumerate([jpeg((200, 30, 40)), jpeg((30, 180, 60)), *[b"no image"] * 3]):
        (tmp_path / "pool" / f"{row}.jpg").write_bytes(content)
    words = ["run", "--images", tmp_path / "pool", "--encoder", network, "--out", tmp_path / "out"]
    code, _, error = holotype(*words, "--exemplar", "red=0", "--exemplar", "green=1")
    assert code == 1
    assert error.endswith("add images that other programs show, or copy these again\n")
