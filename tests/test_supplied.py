"""Vectors of others are taken only when they fit the pool, row by row."""

import io
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import MakeTar
from numpy.typing import NDArray
from pictures import blurred, encoded

from holotype.encoders.encode import l2_normalize
from holotype.errors import EmbeddingsError
from holotype.pool.pool import Pool, open_pool
from holotype.vectors.supplied import import_embeddings


def vectors(count: int, dim: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)


class Images:
    """All can be read, apart from the rows in `broken`."""

    def __init__(self, broken: dict[int, bytes]) -> None:
        self.broken = broken
        self.read_rows: list[int] = []
        self._plain = encoded(blurred(0))

    def read(self, row: int) -> bytes:
        self.read_rows.append(row)
        return self.broken.get(row, self._plain)


def pool_of(*ids: str, broken: dict[int, bytes] | None = None) -> Pool:
    return Pool("the pool", list(ids), [1] * len(ids), Images(broken or {}))


def clip_folder(folder: Path, codes: Any, given: NDArray[Any], shards: int, column: str = "image_path") -> Path:
    """Write clip-retrieval's layout, whose numbers are not padded."""
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    parts = np.array_split(np.arange(len(given)), shards)
    for number, part in enumerate(parts):
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", given[part])
        table = pa.table({column: [codes[row] for row in part], "caption": [None] * len(part)})
        pq.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")
    return folder


@pytest.mark.parametrize("form", ["{}", "{:04}", "images/{}", "images/{:08}"])
def test_bare_array_by_number(form: str, tmp_path: Path) -> None:
    """Row i is id i, in whatever order the pool has them."""
    order = np.random.default_rng(0).permutation(30)
    given = vectors(30)
    np.save(tmp_path / "e.npy", given)
    found = import_embeddings(tmp_path / "e.npy", pool_of(*(form.format(n) for n in order)))
    assert np.allclose(found.take(range(30)), l2_normalize(given[order]))


@pytest.mark.parametrize("text", ["b\na\nc", "b.jpg\n./a.jpg\nc.png\n", "b\r\na\r\nc\r\n", "\ufeffb\na\nc\n"])
def test_ids_beside_a_bare_array(text: str, tmp_path: Path) -> None:
    given = vectors(3)
    np.save(tmp_path / "e.npy", given)
    (tmp_path / "e.ids.txt").write_bytes(text.encode())
    found = import_embeddings(tmp_path / "e.npy", pool_of("a", "b", "x/c"))
    assert np.allclose(found.take([0, 1, 2]), l2_normalize(given[[1, 0, 2]]))


@pytest.mark.parametrize("type_", [np.float16, np.float32, np.float64, ">f4"])
def test_float_types(type_: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.asfortranarray(vectors(12).astype(type_)))
    found = import_embeddings(tmp_path / "e.npy", pool_of(*map(str, range(12))))
    assert np.allclose(found.take(range(12)), l2_normalize(vectors(12)), atol=1e-3)


@pytest.mark.parametrize(
    ("ids", "code", "column"),
    [
        ("{}", "{}", "id"),
        ("{}", "{}.jpg", "image_path"),
        ("{}", "images/{}.jpg", "image_path"),
        ("a/{}", "/data/images/a/{}.JPG", "image_path"),
        ("a/{}", "{}.jpg", "image_path"),
        ("{:05}", "{:05}", "key"),
        ("train/{:05}", "{:05}", "key"),
    ],
)
@pytest.mark.parametrize("shards", [1, 12])
def test_clip_retrieval(ids: str, code: str, column: str, shards: int, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(40)
    given = vectors(40)
    folder = clip_folder(tmp_path / "v", [code.format(n) for n in range(40)], given, shards, column)
    found = import_embeddings(folder, pool_of(*(ids.format(n) for n in order)))
    assert np.allclose(found.take(range(40)), l2_normalize(given[order]))
    assert order[found.rows].tolist() == list(range(40))  # the shards in their natural order


def test_clip_retrieval_with_the_ids_of_a_data_set_beside_the_paths(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "v", ["a.jpg", "b.jpg"], vectors(2), 1)
    path = folder / "metadata" / "metadata_0.parquet"
    pq.write_table(pq.read_table(path).append_column("id", pa.array([77, 78])), path)
    assert import_embeddings(folder, pool_of("b", "a")).rows.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (["a", "b", "b"], r"an id more than once \(b\)"),
        (["a", "b", "b.jpg"], r"an id more than once \(b\)"),
        (["a", "b", "z"], r"not in the pool: 1 id \(z\), without a vector: 1 image \(c\)"),
        (["a", "b"], r"without a vector: 1 image \(c\)"),
        (["a", "b", "c", "d"], r"not in the pool: 1 id \(d\)"),
        (["a", "b", ""], r"not in the pool: 1 id \(\),"),
    ],
)
@pytest.mark.parametrize("layout", ["ids beside it", "clip-retrieval"])
def test_ids_that_do_not_fit(codes: list[str], message: str, layout: str, tmp_path: Path) -> None:
    source = tmp_path / "e.npy"
    np.save(source, vectors(len(codes)))
    (tmp_path / "e.ids.txt").write_text("\n".join(codes) + "\n")
    if layout == "clip-retrieval":
        source = clip_folder(tmp_path / "v", codes, vectors(len(codes)), 1)
    with pytest.raises(EmbeddingsError, match=message):
        import_embeddings(source, pool_of("a", "b", "c"))


def supplied(folder: Path, codes: list[str], layout: str) -> Path:
    if layout == "clip-retrieval":
        return clip_folder(folder / "v", codes, vectors(len(codes)), 1)
    np.save(folder / "e.npy", vectors(len(codes)))
    (folder / "e.ids.txt").write_text("\n".join(codes) + "\n")
    return folder / "e.npy"


LAYOUTS = pytest.mark.parametrize("layout", ["ids beside it", "clip-retrieval"])
WHOLE = encoded(blurred(1))


@LAYOUTS
def test_images_that_were_skipped_as_broken_are_unreadable_with_the_reason(layout: str, tmp_path: Path) -> None:
    pool = pool_of(*"abcde", broken={1: b"", 3: WHOLE[: len(WHOLE) // 2], 4: b"<html>404</html>"})
    found = import_embeddings(supplied(tmp_path, ["c", "a"], layout), pool)
    assert found.rows.tolist() == [2, 0]
    assert list(found.unreadable) == ["b", "d", "e"]
    reasons = ["0 bytes", "cannot be decoded", "not an image"]
    assert all(part in reason for part, reason in zip(reasons, found.unreadable.values(), strict=True))
    assert isinstance(pool.reader, Images)
    assert pool.reader.read_rows == [1, 3, 4]


@LAYOUTS
def test_an_image_that_can_be_read_needs_a_vector(layout: str, tmp_path: Path) -> None:
    pool = pool_of(*"abcde", broken={1: b""})
    with pytest.raises(EmbeddingsError, match=r"without a vector: 3 images \(b, d, e\), and d can be read"):
        import_embeddings(supplied(tmp_path, ["c", "a"], layout), pool)


@LAYOUTS
def test_where_very_many_have_no_vector_none_is_decoded(layout: str, tmp_path: Path) -> None:
    names = [str(n) for n in range(1002)]
    pool = pool_of(*names, broken=dict.fromkeys(range(1, 1002), b""))
    with pytest.raises(EmbeddingsError, match=r"not in the pool: 0 ids, without a vector: 1,001 images \(1, 2, 3\)"):
        import_embeddings(supplied(tmp_path, ["0"], layout), pool)
    assert isinstance(pool.reader, Images)
    assert not pool.reader.read_rows


@pytest.mark.parametrize("column", ["image_path", "key"])
def test_clip_retrieval_of_a_real_tar_with_broken_images(column: str, make_tar: MakeTar, tmp_path: Path) -> None:
    pool = open_pool(make_tar([(f"{n}.jpg", b"" if n % 7 == 3 else encoded(blurred(n))) for n in range(40)]))
    readable = [n for n in range(40) if n % 7 != 3]
    found = import_embeddings(clip_folder(tmp_path / "v", [str(n) for n in readable], vectors(34), 3, column), pool)
    assert found.rows.tolist() == readable
    assert found.unreadable == {str(n): "the file has 0 bytes" for n in range(3, 40, 7)}


def test_a_bare_array_of_another_count_says_what_can_be_done(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", vectors(2))
    with pytest.raises(EmbeddingsError, match=r"broken images were left out .* the id of each row .* e\.ids\.txt"):
        import_embeddings(tmp_path / "e.npy", pool_of(*"012", broken={1: b""}))


def test_a_manifest_that_names_no_pool(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "v", ["a", "b"], vectors(2), 1)
    (folder / "embeddings.json").write_text(json.dumps({"encoder": "clip", "fingerprint": "f", "dim": 6}))
    found = import_embeddings(folder, pool_of("a", "b", "c", broken={2: b""}))
    assert (found.encoder, found.rows.tolist(), list(found.unreadable)) == ("clip", [0, 1], ["c"])


def test_numbers_without_an_image(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", vectors(3))
    with pytest.raises(EmbeddingsError, match=r"the pool has no image 0 \(1 missing; ids look like 1, 2, 3"):
        import_embeddings(tmp_path / "e.npy", pool_of("1", "2", "3"))
    with pytest.raises(EmbeddingsError, match=r"has 3 rows and the pool has 4 images"):
        import_embeddings(tmp_path / "e.npy", pool_of("0", "1", "2", "3"))
    (tmp_path / "e.ids.txt").write_bytes(b"\xff\n")
    with pytest.raises(EmbeddingsError, match=r"UTF-8 text in .*e\.ids\.txt"):
        import_embeddings(tmp_path / "e.npy", pool_of("1", "2", "3"))


def changed(value: float) -> NDArray[np.float64]:
    array = vectors(5).astype(np.float64)
    array[3] = value
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (vectors(4), "has 4 rows and the pool has 5 images"),
        (changed(np.nan), r"NaN or infinite values in row 3"),
        (changed(-np.inf), r"NaN or infinite values in row 3"),
        (changed(0), r"only zeros in row 3"),
        (np.ones(5), r"shape \(images, dimensions\) in .*, got \(5,\) of float64"),
        (np.ones((5, 2, 2)), r"got \(5, 2, 2\)"),
        (np.ones((5, 0)), r"got \(5, 0\)"),
        (np.ones((5, 2), np.int64), "expected a float array .* int64"),
        (np.ones((5, 2), bool), "expected a float array .* bool"),
        (np.ones((5, 2), complex), "expected a float array .* complex"),
        (np.array([{}] * 5, dtype=object), "expected a plain array of numbers"),
    ],
)
@pytest.mark.parametrize("layout", ["bare", "clip-retrieval"])
def test_arrays_that_do_not_fit(array: NDArray[Any], message: str, layout: str, tmp_path: Path) -> None:
    source = tmp_path / "e.npy"
    if layout == "clip-retrieval":
        folder = clip_folder(tmp_path / "v", list("01234"), vectors(5), 1)
        source, message = folder / "img_emb" / "img_emb_0.npy", message.replace("4 rows and.*", "")
        message = message.replace("has 4 rows and the pool has 5 images", "has 4 vectors and .* 5 ids")
    np.save(source, array, allow_pickle=True)
    with pytest.raises(EmbeddingsError, match=message):
        import_embeddings(source if layout == "bare" else folder, pool_of(*"01234"))


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-13, 1e17, 1e25, 1e300])
def test_vectors_of_any_length_have_their_direction(scale: float, tmp_path: Path) -> None:
    given = vectors(5).astype(np.float64)
    given[3] *= scale
    np.save(tmp_path / "e.npy", given)
    found = import_embeddings(tmp_path / "e.npy", pool_of(*"01234"))
    np.testing.assert_allclose(found.take([3]), l2_normalize(vectors(5)[3:4]), atol=1e-6)
    blocks = np.concatenate([block for _, block in found.blocks()])
    np.testing.assert_array_equal(blocks, found.take(range(5)))


def test_files_that_are_no_whole_array(tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.save(whole, vectors(5))
    archive = io.BytesIO()
    np.savez(archive, vectors(5))
    data, zipped = whole.getvalue(), archive.getvalue()
    cut = [data[:length] for length in (0, 4, 8, 40, 128, len(data) - 1)]
    longer = data.replace(b"(5, 6)", b"(5, 9" + b"9" * 30 + b")")
    path = tmp_path / "e.npy"
    for content in [*cut, longer, zipped, zipped[: len(zipped) // 2], b"PK\x03\x04", b"<html>", b"\x80\x04N."]:
        path.write_bytes(content)
        with pytest.raises(EmbeddingsError, match=r"(plain array of numbers|float array) .*e\.npy"):
            import_embeddings(path, pool_of(*"01234"))


@pytest.mark.parametrize("name", ["img_emb/img_emb_0.npy", "metadata/metadata_0.parquet"])
def test_any_damaged_bytes(name: str, tmp_path: Path) -> None:
    """Vectors or an `EmbeddingsError`, and no other exception."""
    folder, chance = clip_folder(tmp_path / "v", list("abcdefgh"), vectors(8), 1), random.Random(0)
    whole, refused = (folder / name).read_bytes(), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 3, 10])):
            damaged[chance.randrange(len(whole) if name.endswith("parquet") else 140)] = chance.randrange(256)
        (folder / name).unlink()
        (folder / name).write_bytes(damaged)
        try:
            assert len(import_embeddings(folder, pool_of(*"abcdefgh")).rows) == 8
        except EmbeddingsError:
            refused += 1
    assert refused > 75


def test_rows_that_are_right_only_in_sum(tmp_path: Path) -> None:
    """One id too few in a shard and one too many in the next would shift all rows between them."""
    folder = clip_folder(tmp_path / "v", list("abcdef"), vectors(6), 2)
    for number, ids in enumerate(["ab", "cdef"]):
        pq.write_table(pa.table({"image_path": list(ids)}), folder / "metadata" / f"metadata_{number}.parquet")
    with pytest.raises(EmbeddingsError, match=r"img_emb_0\.npy has 3 vectors and .* 2 ids"):
        import_embeddings(folder, pool_of(*"abcdef"))


def test_shards_of_two_encoders(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "v", list("abcd"), vectors(4), 2)
    np.save(folder / "img_emb" / "img_emb_1.npy", vectors(2, 9))
    with pytest.raises(EmbeddingsError, match=r"img_emb_0\.npy has 6, img_emb_1\.npy has 9"):
        import_embeddings(folder, pool_of(*"abcd"))


def test_folders_that_hold_no_vectors(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingsError, match=r"img_emb_0\.npy.*found none"):
        import_embeddings(tmp_path, pool_of("a"))
    folder = clip_folder(tmp_path / "v", ["a"], vectors(1), 1, column="url")
    with pytest.raises(EmbeddingsError, match=r"column image_path or key or id .* \['url', 'caption'\]"):
        import_embeddings(folder, pool_of("a"))
    with pytest.raises(EmbeddingsError, match="no such file"):
        import_embeddings(tmp_path / "none", pool_of("a"))


MEMORY = """
import sys
from pathlib import Path
from holotype.pool.ids import numbers_of_names
from holotype.pool.pool import Pool
from holotype.vectors.supplied import import_embeddings
pool = Pool("pool", [str(n) for n in range(int(sys.argv[2]))], [], None)
pool.row("0")
numbers_of_names(["1"])  # what arrow takes for itself

def megabytes(field):
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) / 1024

before = megabytes("VmRSS")
found = import_embeddings(Path(sys.argv[1]), pool)
total = sum(float(block[:, 0].sum()) for _, block in found.blocks())
print(megabytes("VmHWM") - before, total)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_pool(tmp_path: Path) -> None:
    """100,000 x 512 float16 are 98 MB, which stay in the file (its pages count while they are mapped)."""
    count, dim = 100_000, 512
    array = np.lib.format.open_memmap(tmp_path / "e.npy", mode="w+", dtype=np.float16, shape=(count, dim))
    array[:, 0] = 1
    array.flush()
    mapped = count * dim * 2 / 2**20
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "e.npy"), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, total = map(float, done.stdout.split())
    assert total == count
    assert grown < mapped + 100  # a copy in float32 would add 195


def test_an_unknown_id_is_named_with_its_line(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((3, 4), np.float32))
    (tmp_path / "v.ids.txt").write_text(" a.jpg \nphotos\\b.jpg\nq\n")
    with pytest.raises(EmbeddingsError, match=r"not in the pool: 1 id \(q\), .* is in line 3"):
        import_embeddings(tmp_path / "v.npy", pool_of("a", "photos/b"))
