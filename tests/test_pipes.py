"""What is no file where a run keeps one: a pipe, which nobody writes into, keeps no command waiting."""

import os
from pathlib import Path

import pytest
from conftest import Holotype

READ = ["review/baseline.json", "review/groups.safetensors", "review/vectors.npy", "review/wide.npy"]
KEPT = [*READ, "review/ranking.safetensors"]
VECTORS = ["vectors/*/embeddings.json", "vectors/*/img_emb/*.npy", "vectors/*/metadata/*", "vectors/*/unreadable/*"]
OTHERS = ["results.sha256", "model/model.json", "model/head.onnx", "groups.parquet", "metrics.json"]


def put_pipes(out: Path, *patterns: str) -> list[Path]:
    paths = [path for pattern in patterns for path in out.glob(pattern)]
    assert len(paths) >= len(patterns)
    for path in paths:
        path.unlink()
        os.mkfifo(path)
    return paths


@pytest.mark.filterwarnings("default::holotype.errors.HolotypeWarning")
@pytest.mark.parametrize("patterns", [KEPT, VECTORS, OTHERS], ids=["review", "vectors", "others"])
def test_a_pipe_is_met_as_a_damaged_file_is(out: Path, holotype: Holotype, patterns: list[str]) -> None:
    paths = put_pipes(out, *patterns)
    code, _, error = holotype("run", out)
    assert code == 0, error
    results = [path for path in paths if "vectors" not in path.parts]  # of vectors, what is damaged is left aside
    assert all(path.is_file() for path in results)
    assert holotype("suggest", out, "-n", 1)[0] == 0


@pytest.mark.parametrize("name", [*READ, "holotype.toml", "answers.db", "model/model.json"])
def test_who_only_reads_says_which_file_is_none(out: Path, holotype: Holotype, name: str) -> None:
    (out / name).unlink(missing_ok=True)
    os.mkfifo(out / name)
    words = ("predict", out, out / "report.html") if name.startswith("model") else ("suggest", out)
    code, _, error = holotype(*words)
    assert (code, error.count("\n")) == (1, 1)
    assert str(out) in error
