"""Which shard comes next: none is ever written over, whatever lies there and whoever else writes."""

import errno
import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from conftest import Jpeg, MakeTar

from holotype import Pool, open_pool
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import HolotypeWarning
from holotype.vectors.shards import shard_paths, write_shard
from holotype.vectors.store import EmbeddingStore, embed


@pytest.fixture
def encoder(network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnnxEncoder:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return load_encoder(network)


@pytest.fixture
def pools(make_tar: MakeTar, jpeg: Jpeg) -> list[Pool]:
    """Three pools that have no image in common."""
    return [
        open_pool(make_tar([(f"{pool}{row}.jpg", jpeg((80 * pool, 20 * row, 9))) for row in range(4)], f"{pool}.tar"))
        for pool in range(3)
    ]


def has(folder: Path, encoder: OnnxEncoder, pool: Pool) -> bool:
    """Whether the folder has the right vector of each image of `pool`."""
    found = EmbeddingStore(folder, encoder, pool).take(pool.ids)[0]
    right = encoder.encode(np.stack([encoder.prepare(pool.read(row)) for row in range(len(pool))]))
    return bool(np.allclose(found, right, atol=2e-3))


def test_two_writers_on_a_disk_without_locks(
    pools: list[Pool], encoder: OnnxEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    both = Barrier(2)

    def together(path: Path, *shard: Any) -> None:
        both.wait(20)  # each knows by now which shard comes next
        write_shard(path, *shard)

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr("holotype.vectors.store.write_shard", together)
    with ThreadPoolExecutor(2) as threads, pytest.warns(HolotypeWarning, match="has no locks"):
        list(threads.map(lambda pool: embed(pool, encoder, tmp_path / "v"), pools[:2]))
    assert [has(tmp_path / "v", encoder, pool) for pool in pools[:2]] == [True, True]
    monkeypatch.undo()
    embed(pools[2], encoder, tmp_path / "v")
    assert all(has(tmp_path / "v", encoder, pool) for pool in pools)


def test_what_has_no_number_is_left_as_it_is(pools: list[Pool], encoder: OnnxEncoder, tmp_path: Path) -> None:
    embed(pools[0], encoder, tmp_path / "v")
    (first,) = shard_paths(tmp_path / "v")
    for name in ("img_emb_0000 (1).npy", "img_emb_x.npy", "img_emb_.npy", "img_emb_².npy"):
        shutil.copy(first, first.with_name(name))
    for path in [path for path in (tmp_path / "v").rglob("*0000.*") if path != first]:
        shutil.copy(path, path.with_stem(f"{path.stem} (1)"))
    before = {path: path.read_bytes() for path in first.parent.iterdir()}
    embed(pools[1], encoder, tmp_path / "v")
    assert [path.name for path in shard_paths(tmp_path / "v")] == ["img_emb_0000.npy", "img_emb_0001.npy"]
    assert {path: path.read_bytes() for path in before} == before
    assert all(has(tmp_path / "v", encoder, pool) for pool in pools[:2])


def test_a_gap_is_not_filled(pools: list[Pool], encoder: OnnxEncoder, tmp_path: Path) -> None:
    for pool in pools:
        embed(pool, encoder, tmp_path / "v")
    shard_paths(tmp_path / "v")[1].unlink()
    kept = {path: path.read_bytes() for path in (tmp_path / "v").rglob("*_0*") if path.is_file()}
    embed(pools[1], encoder, tmp_path / "v")
    assert {path: path.read_bytes() for path in kept} == kept
    assert all(has(tmp_path / "v", encoder, pool) for pool in pools)
