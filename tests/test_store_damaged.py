"""Files of a store that are damaged, gone or too many: computed again where they can be, named where they cannot."""

import random
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Jpeg, MakeTar
from numpy.typing import NDArray

from holotype.checksums import file_digest
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import EmbeddingsError, HolotypeWarning
from holotype.pool.pool import Pool, open_pool
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.folders import fingerprints
from holotype.vectors.shards import beside, shard_paths
from holotype.vectors.store import EmbeddingStore, embed
from holotype.vectors.supplied import import_embeddings


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("holotype.vectors.store.SHARD", 8)
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def whole(pool: Pool, encoder: OnnxEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vectors of the pool in five shards."""
    folder = tmp_path_factory.mktemp("whole") / "v"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holotype.vectors.store.SHARD", 8)
        embed(pool, encoder, folder)
    return folder


@pytest.fixture
def stored(whole: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(whole, tmp_path / "v"))


def by_row(found: Embeddings) -> NDArray[np.float32]:
    return found.take(np.flatnonzero(found.present))


@pytest.mark.parametrize(
    "name",
    [
        "metadata/metadata_0002.parquet",
        "unreadable/unreadable_0002.json",
        "img_emb/img_emb_0002.npy",
        "embeddings.json",
    ],
)
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "other", "shorter"])
def test_damage_is_named(name: str, damage: str, pool: Pool, encoder: OnnxEncoder, stored: Path) -> None:
    folder, path = stored, stored / name
    whole = path.read_bytes()
    path.unlink()
    if damage == "other":
        path.write_bytes(b"[1, 2]")
    elif damage != "gone":
        path.write_bytes(whole[: {"empty": 0, "half": len(whole) // 2, "shorter": len(whole) - 1}[damage]])
    if damage == "gone" and name.startswith("img_emb"):
        embed(pool, encoder, folder)  # no vectors, no shard: it is computed again
        assert len(embed(pool, encoder, folder).rows) == len(pool)
        return
    calls: list[Callable[[], Any]] = [lambda: embed(pool, encoder, folder)]
    if (damage, name) != ("gone", "embeddings.json"):  # then it looks like a folder of clip-retrieval's
        calls.append(lambda: import_embeddings(folder, pool))
    if name != "embeddings.json":  # what a shard lacks is computed again, and others' vectors are not taken in part
        with pytest.warns(HolotypeWarning, match="_0002.npy is left aside, and its vectors are computed again"):
            assert len(calls.pop(0)().rows) == len(pool)
    for call in calls:
        with pytest.raises(EmbeddingsError, match=path.name):
            call()


def test_no_flipped_bit_changes_a_vector(pool: Pool, encoder: OnnxEncoder, tmp_path: Path) -> None:
    """What lies in a folder that is named after its encoder is computed again, whatever is damaged."""
    folder, dice = tmp_path / encoder.name_on_disk, random.Random(0)
    wanted = by_row(embed(pool, encoder, folder))
    whole = {path: path.read_bytes() for path in [*sorted(folder.rglob("*_0000.*")), folder / "embeddings.json"]}
    for path, content in whole.items():
        for _ in range(3):
            damaged, place = bytearray(content), dice.randrange(len(content))
            damaged[place] ^= 1 << dice.randrange(8)
            path.write_bytes(damaged)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                assert np.array_equal(by_row(embed(pool, encoder, folder)), wanted)
            assert said or path.suffix == ".parquet"  # of which not every byte means anything
            for more in folder.glob("*/*"):
                if not more.stem.endswith(("_0000", "_0001", "_0002")):
                    more.unlink()
            path.write_bytes(content)


def test_a_shard_that_was_removed_is_computed_again(pool: Pool, encoder: OnnxEncoder, stored: Path) -> None:
    found = by_row(embed(pool, encoder, stored))
    for path in stored.glob("*/*_0001.*"):
        path.unlink()
    again = embed(pool, encoder, stored)
    assert sorted(again.rows.tolist()) == list(range(len(pool)))
    assert np.array_equal(by_row(again), found)


def test_a_shard_that_somebody_copied_changes_nothing(pool: Pool, encoder: OnnxEncoder, stored: Path) -> None:
    found = by_row(embed(pool, encoder, stored))
    for path in stored.glob("*/*_0001.*"):
        shutil.copy(path, path.with_name(path.name.replace("0001", "0009")))
    again = embed(pool, encoder, stored)
    assert sorted(again.rows.tolist()) == list(range(len(pool)))
    assert np.array_equal(by_row(again), found)


def test_only_what_is_taken_from_elsewhere_is_checked_and_once(
    pool: Pool,
    encoder: OnnxEncoder,
    stored: Path,
    tmp_path: Path,
    make_tar: MakeTar,
    jpeg: Jpeg,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return file_digest(path)

    monkeypatch.setattr("holotype.vectors.shards.file_digest", counted)
    new = open_pool(make_tar([("new.jpg", jpeg((1, 2, 3)))], "new.tar"))
    EmbeddingStore(tmp_path / "new", encoder, new, others=[stored]).embed()
    assert not any(path.is_relative_to(stored) for path in hashed)
    hashed.clear()
    assert fingerprints([stored], pool) == {encoder.fingerprint}
    assert hashed == []
    for name in ("a", "b"):  # they are links of the same
        EmbeddingStore(tmp_path / name, encoder, pool, others=[stored]).embed()
    vectors = [path for path in hashed if path.suffix == ".npy"]
    assert len(vectors) == len(shard_paths(stored)) == 5


@pytest.mark.parametrize("damage", ["flipped", "cut", "without ids"])
def test_a_damaged_shard_elsewhere_is_named_and_the_others_are_taken(
    damage: str, pool: Pool, encoder: OnnxEncoder, stored: Path, tmp_path: Path
) -> None:
    expected, path = by_row(embed(pool, encoder, stored)), shard_paths(stored)[2]
    if damage == "without ids":
        beside(path, "metadata").unlink()
    else:
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.unlink()
        path.write_bytes(content if damage == "flipped" else content[:-50])
    read: list[str] = []

    def load(name: str) -> bytes:
        read.append(name)
        return pool.read(pool.rows[name])

    store = EmbeddingStore(tmp_path / "new", encoder, pool, others=[stored])
    with pytest.warns(HolotypeWarning, match=re.escape(f"{path} is left aside: ")):
        store.ensure(pool.ids, load)
    assert len(read) == 8
    assert np.array_equal(by_row(store.open()), expected)


def test_a_damaged_shard_hides_not_what_made_the_others(pool: Pool, encoder: OnnxEncoder, stored: Path) -> None:
    """Else "auto" may choose another arithmetic, and all is encoded again."""
    beside(shard_paths(stored)[2], "metadata").unlink()
    assert fingerprints([stored], pool) == {encoder.fingerprint}
