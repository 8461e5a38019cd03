"""Results that are damaged, or of another run, are never taken for those of this one."""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Holotype

from benchmarks.chaos.house import House, picture
from benchmarks.chaos.kept import kinds
from benchmarks.chaos.malformed import damaged
from holotype import Settings, run
from holotype.answers.log import AnswerLog
from holotype.errors import AnswersError, HolotypeError, HolotypeWarning, ModelError
from holotype.runs.folder import RunFolder
from holotype.runs.results import read_learnt

READ: dict[str, tuple[Callable[[RunFolder], object], type[HolotypeError]]] = {
    "review/vectors.npy": (RunFolder.load_baseline, AnswersError),
    "review/wide.npy": (RunFolder.load_baseline, AnswersError),
    "review/groups.safetensors": (RunFolder.load_baseline, AnswersError),
    "review/baseline.json": (RunFolder.load_baseline, AnswersError),
    "groups.parquet": (read_learnt, HolotypeError),
    "model/model.json": (RunFolder.load_model, ModelError),
}


FLIPS = 3  # of each file, with a cut and a block of zeros
# model files, and studies, have tests of their own with more damages
ELSEWHERE = {"study.db", "model"}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", READ)
def test_no_damage_is_read(name: str, out: Path) -> None:
    read, kind = READ[name]
    path, whole = out / name, (out / name).read_bytes()
    read(RunFolder(out))
    for step in range(8):
        flip(path, len(whole) * step // 8)
        with pytest.raises(kind, match=rf"{name} is not what the run left there .* \(holotype run {out}\)"):
            read(RunFolder(out))
        path.write_bytes(whole)
    for content in (whole[:-100], whole[:512] + bytes(512) + whole[1024:], b""):
        path.write_bytes(content)
        with pytest.raises(kind, match="is not what the run left there"):
            read(RunFolder(out))


def test_results_of_another_run_are_not_taken(out: Path, tmp_path: Path) -> None:
    """Each file of the other is whole, and fits what it came with."""
    settings, again = RunFolder(out).read_settings(), tmp_path / "again"
    fit = settings.fit.model_copy(update={"seed": 3})
    run(settings.model_copy(update={"thresholds": [0.8], "fit": fit}), again)
    for part, name in (("review", "review/baseline.json"), ("model", "model/model.json")):
        shutil.rmtree(out / part)
        shutil.copytree(again / part, out / part)
        read, kind = READ[name]
        with pytest.raises(kind, match="is not what the run left there"):
            read(RunFolder(out))
    shutil.copy(again / "groups.parquet", out / "groups.parquet")
    with pytest.raises(HolotypeError, match="is not what the run left there"):
        read_learnt(RunFolder(out))


def done_again_by_an_earlier_version(out: Path, other: Path) -> None:
    """Put the results of `other` into `out`, but for the digests, which an earlier version leaves behind."""
    listed = RunFolder(out).checksums
    kept = listed.read_bytes()
    for new, old in zip(RunFolder(other).results, RunFolder(out).results, strict=True):
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
        if new.exists():
            new.rename(old)
    listed.write_bytes(kept)
    os.utime(listed, (listed.stat().st_mtime - 3600,) * 2)


def test_results_that_an_earlier_version_did_again_are_read(out: Path, tmp_path: Path) -> None:
    settings = RunFolder(out).read_settings()
    fit = settings.fit.model_copy(update={"seed": 3})
    run(settings.model_copy(update={"thresholds": [0.8], "fit": fit}), tmp_path / "again")
    done_again_by_an_earlier_version(out, tmp_path / "again")
    folder = RunFolder(out)
    assert folder.read_settings().fit.seed == 3
    for read, _ in READ.values():
        with pytest.warns(HolotypeWarning, match=r"results\.sha256 is of an earlier run .*: not checked"):
            read(folder)
    folder.change_settings(folder.read_settings())
    assert not folder.checksums.exists()
    for read, _ in READ.values():
        read(folder)


def test_damage_is_seen_where_a_copy_has_new_times(out: Path) -> None:
    """The list may be what was copied first."""
    flip(out / "groups.parquet", 500)
    flip(out / "holotype.toml", 3)
    listed = RunFolder(out).checksums
    os.utime(listed, (listed.stat().st_mtime - 3600,) * 2)
    with pytest.raises(HolotypeError, match="is not what the run left there"):
        read_learnt(RunFolder(out))


def test_the_advice_works(out: Path, holotype: Holotype) -> None:
    flip(out / "review" / "groups.safetensors", 5000)
    code, _, errors = holotype("suggest", out)
    assert (code, errors.count("\n")) == (1, 1)
    assert f"holotype run {out}" in errors
    assert holotype("run", out)[0] == 0
    assert holotype("suggest", out)[0] == 0


def test_settings_may_be_edited_and_it_is_said(out: Path) -> None:
    folder = RunFolder(out)
    settings = folder.read_settings()
    flip(folder.settings, folder.settings.read_bytes().index(b"seed = 0") + len("seed = "))
    with pytest.warns(HolotypeWarning, match=r"holotype\.toml is not as holotype wrote it .*: what it says now holds"):
        assert folder.read_settings().fit.seed == 1
    folder.change_settings(settings)
    assert folder.read_settings() == settings


def test_the_digests_are_those_that_any_tool_finds(out: Path) -> None:
    lines = (out / "results.sha256").read_text().splitlines()
    names = {line[66:] for line in lines}
    assert {"holotype.toml", "groups.parquet", "report.html", "metrics.json", "model/encoder.onnx", *READ} <= names
    for line in lines:
        assert hashlib.sha256((out / line[66:]).read_bytes()).hexdigest() == line[:64]


def test_a_first_run_that_was_killed_before_it_noted_its_digests_has_them(out: Path) -> None:
    folder, killed = RunFolder(out), RunFolder(out / ".new-1234")
    expected = folder.checksums.read_text()
    folder.claim(folder.read_settings())
    killed.path.mkdir()
    for old, new in zip(folder.results, killed.results, strict=True):
        if old.exists() and old != folder.checksums:
            old.rename(new)
    folder.checksums.unlink()
    folder.read_settings()
    assert folder.checksums.read_text() == expected
    assert not killed.path.exists()
    assert not folder.unfinished.exists()


def test_a_run_of_an_earlier_version_has_no_digests_and_works(out: Path, holotype: Holotype) -> None:
    (out / "results.sha256").unlink()
    assert holotype("suggest", out)[0] == 0
    content = (out / "groups.parquet").read_bytes()
    (out / "groups.parquet").write_bytes(content[:-3])
    with pytest.raises(HolotypeError, match=r"groups\.parquet cannot be read .*holotype run"):
        read_learnt(RunFolder(out))
    assert isinstance(RunFolder(out).read_settings(), Settings)


def test_the_advice_for_answers_works(out: Path, holotype: Holotype) -> None:
    with AnswerLog(out / "answers.db") as log:
        for row in range(3, 23):
            log.add(str(row), "red", "no")
    content = (out / "answers.db").read_bytes()
    flip(out / "answers.db", content.index(b"13red") + 2)
    code, _, errors = holotype("suggest", out)
    assert code == 1
    assert f"holotype answer {out} --salvage" in errors
    assert errors.count("\n") == 1
    code, said, _ = holotype("answer", out, "--salvage")
    assert code == 0
    assert "answers and undos that are whole, and kept: 19; lost: 1 (number 11)" in said
    assert holotype("suggest", out)[0] == 0


def test_nothing_that_is_damaged_is_read_as_something_else(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short run of `python -m benchmarks.chaos --only malformed`."""
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    settings = RunFolder(out).read_settings()
    one, other = House(tmp_path / "one"), House(tmp_path / "other")
    shutil.copytree(out, one.out.path)
    run(settings.model_copy(update={"thresholds": [0.6]}), other.out.path)
    shutil.copy(settings.images, one.root / "images.tar")
    tried, lost = Counter[str](), list[tuple[str, list[str]]]()
    for kind in kinds(tmp_path / "kept", (one, other), picture):
        if kind.name not in ELSEWHERE:
            for what, wrong in damaged(kind, tmp_path / "damaged", FLIPS, seed=0):
                tried[kind.name] += 1
                lost += [(what, wrong)] if wrong else []
    assert lost == []
    assert {"answers.db", "review", "groups.parquet", "holotype.toml", "vectors", "cache, digests"} <= tried.keys()
    assert tried.total() > 100
