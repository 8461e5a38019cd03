"""What Git LFS and git-annex leave in the place of a file is recognised, and nothing else is."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Jpeg, MakeTar

from holotype.answers.forms import read_csv
from holotype.errors import HolotypeError
from holotype.evaluation.test_set import read_test_set
from holotype.pointers import why_pointer, why_pointer_at
from holotype.pool.pool import open_pool
from holotype.vectors.supplied import import_embeddings

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 12345\n"
ANNEX = b"/annex/objects/SHA256E-s4332--4d7a4d7a.jpg\n"


def test_a_pointer_of_git_lfs() -> None:
    said = "it is a Git LFS pointer; the file of 12,345 bytes that it stands for was not fetched: run `git lfs pull`"
    assert why_pointer(LFS) == said
    assert why_pointer(LFS.replace(b"\n", b"\r\n")) == said  # checked out on Windows
    assert "Git LFS pointer; the file that" in why_pointer(LFS[:50])
    assert "Git LFS" in why_pointer(LFS.replace(b"\noid", b"\next-0-foo sha256:00\noid"))


@pytest.mark.parametrize("content", [ANNEX, b"../../.git" + ANNEX.rstrip(), b".git" + ANNEX])
def test_a_pointer_of_git_annex(content: bytes) -> None:
    assert "git-annex pointer" in why_pointer(content)


def test_what_is_no_pointer(jpeg: Jpeg, tmp_path: Path) -> None:
    text = b"how to use version https://git-lfs.github.com/spec/v1\n"
    for content in (b"", jpeg(), text, ANNEX * 99, b"version 1\n", bytes(512)):
        assert why_pointer(content) == ""
    assert why_pointer_at(tmp_path / "none") == why_pointer_at(tmp_path) == ""


def test_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(LFS)
    assert why_pointer_at(tmp_path / "a.onnx") == why_pointer(LFS)


@pytest.mark.parametrize(
    "name", ["v.npy", "clip/img_emb/img_emb_0.npy", "clip/metadata/metadata_0.parquet", "test.csv"]
)
def test_a_pointer_in_the_place_of_vectors_or_a_table(name: str, jpeg: Jpeg, make_tar: MakeTar, tmp_path: Path) -> None:
    pool = open_pool(make_tar([("0.jpg", jpeg()), ("1.jpg", jpeg((0, 0, 0)))]))
    for folder in ("clip/img_emb", "clip/metadata"):
        (tmp_path / folder).mkdir(parents=True)
    np.save(tmp_path / "clip" / "img_emb" / "img_emb_0.npy", np.eye(2, dtype=np.float32))
    (tmp_path / name).write_bytes(LFS)
    source = tmp_path / Path(name).parts[0]
    with pytest.raises(HolotypeError, match=rf"{Path(name).name}: it is a Git LFS pointer"):
        read_test_set(source, ["a"], pool) if name == "test.csv" else import_embeddings(source, pool)


def test_a_pointer_in_the_place_of_answers(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_bytes(LFS)
    with pytest.raises(HolotypeError, match=r"answers\.csv: it is a Git LFS pointer"):
        read_csv(tmp_path / "answers.csv")
