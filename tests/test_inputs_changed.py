"""Inputs that are changed while a command works are noticed: nothing of it counts, and what was there stays."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS, Job, N
from PIL import Image

from holotype import Settings, run
from holotype.errors import EmbeddingsError
from holotype.progress import Advance, Silent
from holotype.runs.lookup import search_pool
from holotype.vectors.supplied import Unchanged


def save_vectors(path: Path, seed: int) -> Path:
    """Vectors in which rows of a colour are alike, always as many bytes."""
    random = np.random.default_rng(seed)
    colours = np.eye(len(COLOURS) + 1, 12)[[row % 10 if row % 10 < 3 else 3 for row in range(N)]]
    with path.open("r+b" if path.exists() else "wb") as file:
        np.save(file, (colours + 0.2 * random.random((N, 12))).astype(np.float32))
    return path


class Changing(Silent):
    """Writes other vectors over `path` in the middle of the work, as if nothing had happened: size and time stay."""

    def __init__(self, path: Path, when: str) -> None:
        self.path, self.when, self.seen = path, when, list[str]()

    @contextmanager
    def track(self, text: str, total: int) -> Iterator[Advance]:
        self.seen.append(text)
        if text == self.when:
            before = self.path.stat()
            save_vectors(self.path, 7)
            os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        yield lambda _: None


def test_vectors_that_are_written_over_during_a_run(data: Path, job: Job) -> None:
    vectors = save_vectors(data / "e.npy", 1)
    settings = job(embeddings=str(vectors), test_set=None)
    run(settings, data / "out")
    before = {path: path.read_bytes() for path in (data / "out").rglob("*") if path.is_file()}
    changing = Changing(vectors, "group images")
    with pytest.raises(EmbeddingsError, match="was changed while it was in use"):
        run(settings.model_copy(update={"thresholds": [0.8]}), data / "out", force=True, progress=changing)
    assert all(path.read_bytes() == content for path, content in before.items() if path.parent.name != "vectors")
    run(settings.model_copy(update={"thresholds": [0.8]}), data / "out", force=True)
    assert Settings.load(data / "out" / "holotype.toml").thresholds == [0.8]


def test_a_link_to_vectors_changes_nothing_of_them(data: Path) -> None:
    """As each run makes that takes them over, and removes when it is done again."""
    folder = data / "vectors"
    (folder / "img_emb").mkdir(parents=True)
    vectors = save_vectors(folder / "img_emb" / "img_emb_0.npy", 1)
    alone = Unchanged([folder])
    (data / "link.npy").hardlink_to(vectors)
    alone.check()
    linked = Unchanged([folder])
    (data / "link.npy").unlink()
    linked.check()
    save_vectors(vectors, 2)
    with pytest.raises(EmbeddingsError, match="was changed while it was in use"):
        linked.check()


def test_only_what_is_in_use_is_looked_at(data: Path) -> None:
    """Not what is put beside it, nor who may read it; and what cannot be looked at hides nothing."""
    folder = data / "vectors"
    for kind in ("img_emb", "metadata"):
        (folder / kind).mkdir(parents=True)
    vectors = save_vectors(folder / "img_emb" / "img_emb_0.npy", 1)
    (folder / "metadata" / "metadata_0.parquet").symlink_to("/nowhere")
    used = Unchanged([folder])
    save_vectors(folder / "img_emb" / "img_emb_1.npy", 2)
    (data / "backup.npy").hardlink_to(vectors)
    (data / "backup.npy").unlink()
    vectors.chmod(0o600)
    used.check()
    before = vectors.stat()
    save_vectors(vectors, 2)
    os.utime(vectors, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(EmbeddingsError, match="was changed while it was in use"):
        used.check()
    (data / "vectors.ids.txt").write_text("0\n1\n")
    alone = Unchanged([save_vectors(data / "vectors.npy", 1)])
    (data / "vectors.ids.txt").write_text("1\n0\n")
    with pytest.raises(EmbeddingsError, match="was changed while it was in use"):
        alone.check()


def test_a_run_may_take_its_own_vectors_and_add_to_them(data: Path, job: Job, tmp_path: Path) -> None:
    settings = job(test_set=None)
    run(settings, data / "out")
    [own] = (data / "out" / "vectors").iterdir()
    shards = len([*(own / "img_emb").iterdir()])
    Image.new("RGB", (16, 16), "white").save(tmp_path / "outside.png")
    [first, *_] = settings.exemplars
    codes = settings.exemplars | {first: [str(tmp_path / "outside.png")]}
    run(settings.model_copy(update={"embeddings": str(own), "exemplars": codes}), data / "out", force=True)
    assert len([*(own / "img_emb").iterdir()]) > shards


def test_or_during_a_search(data: Path, network: str) -> None:
    vectors = save_vectors(data / "e.npy", 1)
    changing = Changing(vectors, "check embeddings")
    with pytest.raises(EmbeddingsError, match="was changed while it was in use"):
        search_pool(str(data / "images.tar"), ["0"], network, embeddings=vectors, progress=changing)
    found = search_pool(str(data / "images.tar"), ["0"], network, embeddings=vectors)
    assert found.best(1)[0][0].endswith("0")


def test_no_stage_of_a_run_is_silent(data: Path, job: Job) -> None:
    vectors = save_vectors(data / "e.npy", 1)
    told = Changing(vectors, "nothing")
    run(job(embeddings=str(vectors), test_set=None), data / "out", progress=told)
    stages = [
        "check embeddings",
        "search",
        "group images",
        "choose rows to learn from",
        "fit the model's space",
        "train (linear)",
        "keep what a review starts from",
        "write the results",
    ]
    assert [stage for stage in told.seen if stage in stages] == stages
