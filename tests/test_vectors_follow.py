"""Vectors belong to an image's content: what fits a pool that changed is used again, what does not is computed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import MakeTar
from pictures import blurred, encoded

from holotype.encoders.encode import Encoded, Load, encode_parts
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import Encoder, OnnxEncoder
from holotype.errors import EmbeddingsError, PoolError
from holotype.pool.pool import Pool, open_pool
from holotype.progress import Silent
from holotype.runs.commands import embed_pool
from holotype.runs.inputs import open_inputs
from holotype.runs.lookup import search_pool
from holotype.settings import Settings
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.store import EmbeddingStore, embed
from holotype.vectors.supplied import import_embeddings

CONTENTS = {f"{n}.jpg": encoded(blurred(n)) for n in range(24)} | {"broken.jpg": b"\xff\xd8 no picture"}


@pytest.fixture
def encoder(network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnnxEncoder:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("holotype.vectors.store.SHARD", 8)
    return load_encoder(network)


@pytest.fixture
def encodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are encoded, of each call."""
    names: list[str] = []

    def counted(wanted: Sequence[Sequence[str]], load: Load, encoder: Encoder) -> Iterator[Encoded]:
        names.extend(name for part in wanted for name in part)
        return encode_parts(wanted, load, encoder)

    monkeypatch.setattr("holotype.vectors.store.encode_parts", counted)
    return names


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write(tmp_path / "photos", CONTENTS)


def check(found: Embeddings, pool: Pool, encoder: OnnxEncoder) -> None:
    """Each row has the vector of its own bytes, and what cannot be decoded has none."""
    wanted = [row for row in range(len(pool)) if pool.read(row)[2:3] != b" "]
    assert sorted(found.rows.tolist()) == wanted
    own = np.concatenate([encoder.encode(encoder.prepare(pool.read(row))[None]) for row in wanted])
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    assert np.abs(found.take(wanted) - own).max() < 1e-3


def add(photos: Path) -> None:
    (photos / "new.jpg").write_bytes(encoded(blurred(99)))


def delete(photos: Path) -> None:
    (photos / "3.jpg").unlink()


def rename(photos: Path) -> None:
    for name in CONTENTS:
        (photos / "deep").mkdir(exist_ok=True)
        (photos / name).rename(photos / "deep" / f"image {name}")


def swap(photos: Path) -> None:
    (photos / "1.jpg").rename(photos / "other")
    (photos / "2.jpg").rename(photos / "1.jpg")
    (photos / "other").rename(photos / "2.jpg")


def replace(photos: Path) -> None:
    """Other content of the same size, with the times that it had."""
    path, before = photos / "5.jpg", (photos / "5.jpg").stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def copy(photos: Path) -> None:
    shutil.copy(photos / "5.jpg", photos / "copy.jpg")


CHANGES: dict[Callable[[Path], None], int] = {add: 1, delete: 0, rename: 0, swap: 0, replace: 1, copy: 0}


@pytest.mark.parametrize("change", CHANGES)
def test_of_a_folder_that_changed_only_what_is_new_is_encoded(
    change: Callable[[Path], None], photos: Path, encoder: OnnxEncoder, encodes: list[str], tmp_path: Path
) -> None:
    embed(open_pool(photos), encoder, tmp_path / "v")
    encodes.clear()
    change(photos)
    if change is replace:  # it is no picture any more, and has no vector
        (photos / "5.jpg").write_bytes(encoded(blurred(55)))
    for _ in range(2):
        pool = open_pool(photos)
        check(embed(pool, encoder, tmp_path / "v"), pool, encoder)
        assert len(encodes) == CHANGES[change]
        check(import_embeddings(tmp_path / "v", pool), pool, encoder)


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_a_tar_unpacked_and_packed_again_keeps_its_vectors(
    prefix: str, photos: Path, encoder: OnnxEncoder, encodes: list[str], make_tar: MakeTar, tmp_path: Path
) -> None:
    embed(open_pool(photos), encoder, tmp_path / "v")
    encodes.clear()
    tar = make_tar([(f"{prefix}{name}", content) for name, content in reversed(CONTENTS.items())])
    shards = make_tar([(name, CONTENTS[name]) for name in list(CONTENTS)[:9]], "shards/0.tar").parent
    make_tar([(name, CONTENTS[name]) for name in list(CONTENTS)[9:]], "shards/1.tar")
    for source in (tar, shards):
        pool = open_pool(source)
        check(embed(pool, encoder, tmp_path / "v"), pool, encoder)
        check(import_embeddings(tmp_path / "v", pool), pool, encoder)
    assert encodes == []


def test_images_that_are_newer_than_supplied_vectors_are_counted_and_can_be_added(
    photos: Path, network: str, encoder: OnnxEncoder, encodes: list[str], tmp_path: Path
) -> None:
    class Said(Silent):
        def say(self, text: str) -> None:
            lines.append(text)

    embed_pool(str(photos), network, tmp_path / "v")
    add(photos)
    given = {"images": str(photos), "exemplars": {"a": ["0"]}, "embeddings": str(tmp_path / "v"), "encoders": [network]}
    lines: list[str] = []
    encodes.clear()
    found = open_inputs(Settings.parse(given), progress=Said()).supplied
    assert found is not None
    assert len(found.rows) == 24
    advice = f"without a vector in {tmp_path / 'v'}, and left out: 1 image; holotype embed {photos} --out"
    assert any(advice in line for line in lines)
    lines.clear()
    search_pool(str(photos), ["0"], network, embeddings=tmp_path / "v", progress=Said())
    assert any(advice in line for line in lines)
    embed_pool(str(photos), network, tmp_path / "v")
    assert encodes == ["new"]
    lines.clear()
    open_inputs(Settings.parse(given), progress=Said())
    assert not any("without a vector" in line for line in lines)


def test_an_unchanged_pool_is_not_read(photos: Path, encoder: OnnxEncoder, tmp_path: Path) -> None:
    embed(open_pool(photos), encoder, tmp_path / "v")
    pool = open_pool(photos)
    shutil.rmtree(photos)
    assert len(embed(pool, encoder, tmp_path / "v").rows) == 24
    assert len(import_embeddings(tmp_path / "v", pool).rows) == 24


def test_embed_search_and_others_find_the_vectors_of_each_other(
    photos: Path, network: str, encoder: OnnxEncoder, encodes: list[str], tmp_path: Path
) -> None:
    search_pool(str(photos), ["0"], network)
    assert len(encodes) == 25
    embed_pool(str(photos), network, tmp_path / "a")
    shutil.rmtree(tmp_path / "cache" / "vectors")
    embed_pool(str(photos), network, tmp_path / "b")  # nobody knows of the first
    assert len(encodes) == 50
    add(photos)
    search_pool(str(photos), ["0"], network)
    assert encodes[50:] == ["new"]
    embed_pool(str(photos), network, tmp_path / "a")
    assert encodes[50:] == ["new"]
    pool = open_pool(photos)
    for folder in (tmp_path / "a", tmp_path / "b"):
        found = embed(pool, encoder, folder)
        check(found, pool, encoder)
    linked = [path.stat().st_nlink for path in (tmp_path / "b" / "img_emb").iterdir()]
    assert max(linked) > 1  # they take no place twice


def test_vectors_of_other_images_elsewhere_are_left_where_they_are(
    photos: Path, network: str, encodes: list[str], encoder: OnnxEncoder, tmp_path: Path
) -> None:
    other = write(tmp_path / "other", {f"{n}.jpg": encoded(blurred(n)) for n in range(70, 90)})
    embed_pool(str(other), network, tmp_path / "a")
    encodes.clear()
    embed_pool(str(photos), network, tmp_path / "b")
    assert len(encodes) == 25
    assert sum(len(np.load(path)) for path in (tmp_path / "b" / "img_emb").iterdir()) == 24


def as_earlier(folder: Path, pool: Pool) -> None:
    """Make of a folder of vectors what an earlier version wrote."""
    manifest = json.loads((folder / "embeddings.json").read_text())
    del manifest["digest"]
    (folder / "embeddings.json").write_text(json.dumps(manifest | {"pool": pool.fingerprint}))
    for path in (folder / "metadata").iterdir():
        pq.write_table(pq.read_table(path).select(["id"]).replace_schema_metadata(None), path)
    for path in (folder / "unreadable").iterdir():
        reasons = {name: why["reason"] for name, why in json.loads(path.read_text()).items()}
        path.write_text(json.dumps(reasons))


def test_vectors_of_an_earlier_version_hold_for_the_pool_that_they_were_computed_of(
    photos: Path, encoder: OnnxEncoder, encodes: list[str], tmp_path: Path
) -> None:
    pool = open_pool(photos)
    embed(pool, encoder, tmp_path / "v")
    as_earlier(tmp_path / "v", pool)
    encodes.clear()
    check(embed(pool, encoder, tmp_path / "v"), pool, encoder)
    check(import_embeddings(tmp_path / "v", pool), pool, encoder)
    check(EmbeddingStore(tmp_path / "new", encoder, pool, [tmp_path / "v"]).embed(), pool, encoder)
    assert encodes == ["broken"]  # which bytes could not be decoded is not known
    encodes.clear()
    swap(photos)
    changed = open_pool(photos)
    with pytest.raises(EmbeddingsError, match="holds no vector of an image"):
        import_embeddings(tmp_path / "v", changed)
    check(embed(changed, encoder, tmp_path / "v"), changed, encoder)
    assert len(encodes) == 24  # all but the broken one
    check(embed(changed, encoder, tmp_path / "new"), changed, encoder)
    assert len(encodes) == 24


def test_an_image_that_changes_after_it_was_listed_has_the_vector_of_what_was_read(
    photos: Path, encoder: OnnxEncoder, tmp_path: Path
) -> None:
    listed = open_pool(photos)
    replaced = encoded(blurred(77))
    (photos / "4.jpg").write_bytes(replaced)
    embed(listed, encoder, tmp_path / "v")
    (photos / "4.jpg").write_bytes(CONTENTS["4.jpg"])
    pool = open_pool(photos)
    check(embed(pool, encoder, tmp_path / "v"), pool, encoder)


def test_a_tar_that_is_written_over_meanwhile_gives_no_image_another_ones_vector(
    encoder: OnnxEncoder, make_tar: MakeTar, tmp_path: Path
) -> None:
    members = [(name, content) for name, content in CONTENTS.items() if name != "broken.jpg"]
    path = make_tar(members)
    pool, other = open_pool(path), make_tar(members[1:] + members[:1], "other.tar").read_bytes()
    reads: list[str] = []

    def load(name: str) -> bytes:
        reads.append(name)
        if len(reads) == 12:
            path.write_bytes(other)
        return pool.read(pool.rows[name])

    with pytest.raises(PoolError, match="was changed while it was in use"):
        EmbeddingStore(tmp_path / "v", encoder, pool).ensure(pool.ids, load)
    again = open_pool(path)
    check(embed(again, encoder, tmp_path / "v"), again, encoder)


def test_what_could_not_be_read_for_a_moment_is_read_again(
    photos: Path, encoder: OnnxEncoder, encodes: list[str], tmp_path: Path
) -> None:
    pool = open_pool(photos)
    (photos / "8.jpg").rename(tmp_path / "8.jpg")
    for _ in range(2):
        assert "cannot be read" in embed(pool, encoder, tmp_path / "v").unreadable["8"]
    shards = len(list((tmp_path / "v" / "img_emb").iterdir()))
    (tmp_path / "8.jpg").rename(photos / "8.jpg")
    encodes.clear()
    check(embed(open_pool(photos), encoder, tmp_path / "v"), pool, encoder)
    assert encodes == ["8"]
    assert len(list((tmp_path / "v" / "img_emb").iterdir())) == shards + 1


INTERRUPT = """
import sys
from pathlib import Path
from holotype.cli import main as cli
from holotype.pool import pool
from holotype.vectors import store
store.SHARD = 8
read, count = pool.Pool.read, 0
def counted(self, row):
    global count
    count += 1
    if count == 70 + 48:  # the fingerprint of the pool reads each as well
        print("now", flush=True)
    return read(self, row)
pool.Pool.read = counted
sys.argv = ["holotype", "embed", sys.argv[1], "--out", sys.argv[2], "--encoder", sys.argv[3]]
cli.main()
"""


def test_ctrl_c_keeps_what_is_finished(
    network: str, encodes: list[str], encoder: OnnxEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is whole shards, so that in the end the files are those that would have been written without it."""
    monkeypatch.setattr("holotype.vectors.store.SHARD", 8)
    images = write(tmp_path / "large", {f"{n}.jpg": encoded(blurred(n, (1000, 800))) for n in range(70)})
    command = [sys.executable, "-c", INTERRUPT, str(images), str(tmp_path / "v"), network]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.send_signal(2)
    process.communicate(timeout=60)
    assert process.returncode == 130
    pool = open_pool(images)
    kept = len(EmbeddingStore(tmp_path / "v", encoder, pool).open().rows)
    assert 0 < kept < 70
    assert kept % 8 == 0
    embed(pool, encoder, tmp_path / "v")
    assert len(encodes) == 70 - kept


class _Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_nothing_is_said_of_a_folder_that_has_none_of_what_is_missing(
    photos: Path, encoder: OnnxEncoder, tmp_path: Path
) -> None:
    pool, said, picture = open_pool(photos), _Said(), encoded(blurred(99))
    embed(pool, encoder, tmp_path / "a")
    EmbeddingStore(tmp_path / "b", encoder, pool, [tmp_path / "a"]).ensure(["file:99"], lambda _: picture, said)
    assert said.lines == []
