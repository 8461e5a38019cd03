"""Results that are damaged, or of another run, are never taken for those of this one."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Holotype

from holotype import Settings, run
from holotype.errors import AnswersError, HolotypeError, HolotypeWarning, ModelError
from holotype.runs.folder import RunFolder
from holotype.runs.results import read_learnt

READ: dict[str, tuple[Callable[[RunFolder], object], type[HolotypeError]]] = {
    "review/vectors.npy": (RunFolder.load_baseline, AnswersError),
    "review/groups.safetensors": (RunFolder.load_baseline, AnswersError),
    "review/baseline.json": (RunFolder.load_baseline, AnswersError),
    "groups.parquet": (read_learnt, HolotypeError),
    "model/model.json": (RunFolder.load_model, ModelError),
}


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


def test_a_run_of_an_earlier_version_has_no_digests_and_works(out: Path, holotype: Holotype) -> None:
    (out / "results.sha256").unlink()
    assert holotype("suggest", out)[0] == 0
    content = (out / "groups.parquet").read_bytes()
    (out / "groups.parquet").write_bytes(content[:-3])
    with pytest.raises(HolotypeError, match=r"groups\.parquet cannot be read .*holotype run"):
        read_learnt(RunFolder(out))
    assert isinstance(RunFolder(out).read_settings(), Settings)
