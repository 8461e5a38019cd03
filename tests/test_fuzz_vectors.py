"""Broken vectors, of others and our own: rows that fit the pool, or one sentence."""

import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import TEXTS, altered, budget, mutated, one_sentence
from pictures import blurred, encoded

from holotype import Pool, open_pool
from holotype.errors import EmbeddingsError
from holotype.vectors.supplied import import_embeddings

COUNT, DIM = 6, 4
DEEP = "[" * 100_000
VECTORS = np.random.default_rng(0).normal(size=(COUNT, DIM))


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


SEEDS = [npy(VECTORS.astype(kind)) for kind in (np.float16, np.float32, np.float64)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    for row in range(COUNT):
        (folder / f"{row}.jpg").write_bytes(encoded(blurred(row, (16, 12))))
    return open_pool(folder)


def check(source: Path, pool: Pool) -> None:
    with one_sentence(EmbeddingsError):
        found = import_embeddings(source, pool)
        rows = found.rows.tolist()
        assert len(set(rows)) == len(rows) <= len(pool)
        vectors = found.take(rows)
        assert np.isfinite(vectors).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


def test_broken_npy(pool: Pool) -> None:
    @budget(400)
    @given(mutated(SEEDS), st.none() | st.lists(st.sampled_from([*map(str, range(COUNT)), *TEXTS]), max_size=COUNT))
    def broken(content: bytes, ids: list[str] | None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "vectors.npy")
            path.write_bytes(content)
            if ids is not None:
                lines = "\n".join(ids).encode("utf-8", "surrogatepass")
                path.with_name("vectors.ids.txt").write_bytes(lines)
            check(path, pool)

    broken()


@pytest.mark.parametrize("part", ["img_emb/img_emb_0.npy", "metadata/metadata_0.parquet"])
def test_broken_folder_of_shards(part: str, pool: Pool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = io.BytesIO()
    pq.write_table(pa.table({"image_path": [f"/data/{row}.jpg" for row in range(COUNT)]}), table)
    whole = {"img_emb/img_emb_0.npy": SEEDS[1], "metadata/metadata_0.parquet": table.getvalue()}

    @budget(200)
    @given(mutated([whole[part]]))
    def broken(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, good in whole.items():
                Path(folder, name).parent.mkdir(exist_ok=True)
                Path(folder, name).write_bytes(content if name == part else good)
            check(Path(folder), pool)

    broken()


def test_altered_manifest(pool: Pool, tmp_path: Path) -> None:
    """What `holotype embed` notes beside its vectors may be edited by hand, or be of a later version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("img_emb", "metadata", "unreadable"):
        (tmp_path / name).mkdir()
    (tmp_path / "img_emb" / "img_emb_0000.npy").write_bytes(SEEDS[0])
    pq.write_table(pa.table({"id": list(map(str, range(COUNT)))}), tmp_path / "metadata" / "metadata_0000.parquet")
    (tmp_path / "unreadable" / "unreadable_0000.json").write_text("{}")
    manifest = {"encoder": "an encoder", "fingerprint": "f" * 64, "pool": pool.fingerprint, "dim": DIM}

    @budget(200)
    @example(manifest | {"dim": 10**30})
    @example(manifest | {"dim": -1})
    @example(manifest | {"dim": True})
    @example(manifest | {"encoder": DEEP})
    @given(altered(manifest))
    def edited(value: Any) -> None:
        text = json.dumps(value).replace(json.dumps(DEEP), DEEP)  # a text for deeper lists than Python writes
        (tmp_path / "embeddings.json").write_text(text)
        check(tmp_path, pool)

    edited()
    shutil.rmtree(tmp_path)
