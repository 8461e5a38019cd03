"""Vectors survive kills, full disks and each other; those of others are taken only when they fit."""

import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Jpeg, MakeTar
from numpy.typing import NDArray
from PIL import Image

from holotype import files
from holotype.embeddings import Embeddings, EmbeddingStore, embed, unit
from holotype.encoders import OnnxEncoder, load_encoder
from holotype.errors import EmbeddingsError, OutputError
from holotype.pool import Pool, open_pool
from holotype.supplied import check_identity, import_embeddings

SMALL = 8  # images of a shard in these tests
EMBED = """
import sys
from pathlib import Path
from holotype import embeddings, load_encoder, open_pool
embeddings.SHARD = int(sys.argv[4])
pool, encoder = open_pool(sys.argv[1]), load_encoder(sys.argv[2])
print("ready", flush=True)
embeddings.embed(pool, encoder, Path(sys.argv[3]))
"""


@pytest.fixture(scope="session")
def encoder(network: str, tmp_path_factory: pytest.TempPathFactory) -> OnnxEncoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return load_encoder(network)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("holotype.embeddings.SHARD", SMALL)
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def blurred(row: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    cells = np.random.default_rng(row).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def huge_png() -> bytes:
    """Says 20000 x 10000 pixels in its header, as a decompression bomb does."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20000, 10000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def odd_images() -> dict[str, bytes]:
    """Unusual, yet images."""
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.random.default_rng(0).integers(0, 65536, (9, 9), dtype=np.uint16)
    return {
        "cmyk.jpg": encoded(blurred(1).convert("CMYK")),
        "deep.png": encoded(Image.fromarray(deep), "PNG"),
        "palette.png": encoded(blurred(2).convert("P"), "PNG", transparency=bytes([0, 90])),
        "rotated.jpg": encoded(blurred(3), exif=exif),
        "dot.jpg": encoded(blurred(4, (1, 1))),
        "flat.jpg": encoded(blurred(5, (900, 3))),
    }


BAD = {"empty.jpg": "0 bytes", "half.jpg": "decoded", "text.jpg": "not an image", "huge.png": "200?00 x 10000 pixels"}


def bad_images() -> dict[str, bytes]:
    whole = encoded(blurred(6, (300, 200)))
    return dict(zip(BAD, (b"", whole[: len(whole) // 2], b"<html>404</html>", huge_png()), strict=True))


@cache
def mixed(count: int, size: tuple[int, int] = (64, 48)) -> list[tuple[str, bytes]]:
    """`count` plain images, with the odd and the bad ones scattered among them."""
    members = [(f"{row}.jpg", encoded(blurred(100 + row, size))) for row in range(count)]
    for place, member in enumerate([*odd_images().items(), *bad_images().items()]):
        members.insert(place * 3 + 1, member)
    return members


@pytest.fixture
def pool(make_tar: MakeTar) -> Pool:
    return open_pool(make_tar([(f"{row}.jpg", encoded(blurred(row))) for row in range(40)]))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def by_row(found: Embeddings) -> NDArray[np.float32]:
    return found.take(np.flatnonzero(found.present))


def test_each_image_has_its_own_vector_or_a_reason(make_tar: MakeTar, encoder: OnnxEncoder, tmp_path: Path) -> None:
    members = mixed(30)
    pool = open_pool(make_tar(members))
    found = embed(pool, encoder, tmp_path / "v")
    assert list(found.unreadable) == [Path(name).stem for name in BAD]
    for name, reason in BAD.items():
        assert any(part in found.unreadable[Path(name).stem] for part in reason.split("?")), name
    readable = [row for row, (name, _) in enumerate(members) if name not in BAD]
    assert sorted(found.rows.tolist()) == readable
    alone = np.concatenate([encoder.encode(encoder.prepare(members[row][1])[None]) for row in readable])
    assert np.abs(found.take(readable) - unit(alone)).max() < 1e-3
    assert check_identity(found, pool, encoder) > 0.999


def test_an_image_that_vanishes_is_unreadable(tmp_path: Path, encoder: OnnxEncoder) -> None:
    for row in range(5):
        (tmp_path / f"{row}.jpg").write_bytes(encoded(blurred(row)))
    pool = open_pool(tmp_path)
    (tmp_path / "2.jpg").unlink()
    found = embed(pool, encoder, tmp_path / "v")
    assert found.unreadable == {"2": "cannot be read: No such file or directory"}
    assert found.rows.tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize("bad", [range(8, 16), [16], range(17)], ids=["a whole shard", "the last", "all"])
def test_shards_without_a_readable_image(bad: Any, make_tar: MakeTar, encoder: OnnxEncoder, tmp_path: Path) -> None:
    pool = open_pool(make_tar([(f"{n}.jpg", b"" if n in bad else encoded(blurred(n))) for n in range(17)]))
    found = embed(pool, encoder, tmp_path / "v")
    assert [pool.ids.index(name) for name in found.unreadable] == list(bad)
    assert found.dim == encoder.dim
    if len(bad) == 17:
        with pytest.raises(EmbeddingsError, match="found none"):
            import_embeddings(tmp_path / "v", pool)
    else:
        again = import_embeddings(tmp_path / "v", pool)
        assert np.array_equal(by_row(again), by_row(found))
        assert (again.unreadable, again.encoder) == (found.unreadable, encoder.name)


def test_a_name_that_is_no_utf_8(make_tar: MakeTar, encoder: OnnxEncoder, tmp_path: Path, jpeg: Jpeg) -> None:
    pool = open_pool(make_tar([(os.fsdecode(b"caf\xe9.jpg"), jpeg()), (os.fsdecode(b"caf\xe8.jpg"), b"")]))
    found = embed(pool, encoder, tmp_path / "v")
    assert (found.rows.tolist(), list(found.unreadable)) == ([0], [r"caf\xe8"])


def test_vectors_of_exemplars_from_outside_are_no_rows(pool: Pool, encoder: OnnxEncoder, tmp_path: Path) -> None:
    """The same store takes them (see `training`), and the pool is opened from it again."""
    found = embed(pool, encoder, tmp_path / "v")
    EmbeddingStore(tmp_path / "v", encoder, pool.fingerprint).ensure(
        ["file:a.jpg", "file:b.jpg"], lambda name: b"" if "b" in name else encoded(blurred(900))
    )
    again = embed(pool, encoder, tmp_path / "v")
    assert np.array_equal(by_row(again), by_row(found))
    assert again.unreadable == {}


def start_embed(pool: Pool, network: str, out: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", EMBED, pool.source, network, str(out), str(SMALL)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def shard_count(out: Path) -> int:
    return len(list(out.glob("img_emb/img_emb_*.npy")))


def wait_for_shards(process: "subprocess.Popen[str]", out: Path, count: int) -> None:
    while shard_count(out) < count:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)


@pytest.fixture
def slow_pool(make_tar: MakeTar) -> Pool:
    """Large pictures, so that a kill finds it at work."""
    return open_pool(make_tar(mixed(140, (1000, 750))))


def test_kill_9_at_any_moment(slow_pool: Pool, network: str, encoder: OnnxEncoder, tmp_path: Path) -> None:
    whole = embed(slow_pool, encoder, tmp_path / "whole")
    moments = random.Random(0)
    part, there = tmp_path / "part", 0
    for _ in range(3):
        process = start_embed(slow_pool, network, part)
        wait_for_shards(process, part, there + 1)
        time.sleep(moments.random() * 0.03)
        kill(process)
        there = shard_count(part)
        assert 0 < there < shard_count(tmp_path / "whole")
        assert set(embedded(part, encoder, slow_pool).present.nonzero()[0]) <= set(whole.rows)
    (part / "img_emb" / ".img_emb_0009.npy.4711.part").write_bytes(b"half of a shard")
    resumed = embed(slow_pool, encoder, part)
    assert contents(part) == contents(tmp_path / "whole")
    assert sorted([*resumed.rows, *(slow_pool.rows[name] for name in resumed.unreadable)]) == list(range(150))


def embedded(folder: Path, encoder: OnnxEncoder, pool: Pool) -> Embeddings:
    return EmbeddingStore(folder, encoder, pool.fingerprint).open(pool)


def test_two_processes_at_once(slow_pool: Pool, network: str, encoder: OnnxEncoder, tmp_path: Path) -> None:
    """Both would write shards of one number; the second is refused, and the lock dies with its process."""
    process = start_embed(slow_pool, network, tmp_path / "v")
    wait_for_shards(process, tmp_path / "v", 1)
    with pytest.raises(OutputError, match=r"another process writes into .*v; wait until it is done"):
        embed(slow_pool, encoder, tmp_path / "v")
    kill(process)
    found = embed(slow_pool, encoder, tmp_path / "v")
    assert sorted([*found.rows, *(slow_pool.rows[name] for name in found.unreadable)]) == list(range(150))


def test_a_full_folder_is_read_without_the_lock(pool: Pool, encoder: OnnxEncoder, tmp_path: Path) -> None:
    embed(pool, encoder, tmp_path / "v")
    with files.locked(tmp_path / "v" / ".lock"):
        assert len(embed(pool, encoder, tmp_path / "v").rows) == len(pool)


FULL = """
import json, sys
from pathlib import Path
from holotype import embeddings, load_encoder, open_pool
from holotype.errors import OutputError
embeddings.SHARD = int(sys.argv[4])
pool, encoder, disk = open_pool(sys.argv[1]), load_encoder(sys.argv[2]), Path(sys.argv[3])

def leave(pages):
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate((file.tell() // 4096 - pages) * 4096)

def shards(out):
    return {path.name: path.stat().st_ino for path in out.glob("img_emb/img_emb_*.npy")}

for pages in range(14):
    out, said = disk / str(pages), None
    leave(pages)
    try:
        embeddings.embed(pool, encoder, out)
    except OutputError as error:
        said = str(error)
    kept = shards(out)
    (disk / "ballast").unlink()
    embeddings.embed(pool, encoder, out)
    print(json.dumps({
        "said": said,
        "kept": len(kept),
        "kept as they were": kept.items() <= shards(out).items(),
        "files": {str(path.relative_to(out)): path.read_bytes().hex() for path in out.rglob("*") if path.is_file()},
    }))
"""


def test_full_disk(
    make_tar: MakeTar, network: str, encoder: OnnxEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real disk with one page more each time, so that each kind of file is once the one that fails."""
    path, disk = make_tar(mixed(130)), tmp_path / "disk"
    disk.mkdir()
    become = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = 'mount -t tmpfs -o size=2m disk "$1" && shift && exec "$@"'
    mounted = ["unshare", *become, "--mount", "sh", "-c", mount, "sh", str(disk)]
    if shutil.which("unshare") is None or subprocess.run([*mounted, "true"], check=False).returncode:
        pytest.skip("a disk of our own cannot be mounted here")
    shard = 64  # its vectors fill more than a page
    script = [sys.executable, "-c", FULL, str(path), network, str(disk), str(shard)]
    done = subprocess.run([*mounted, *script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tries = [json.loads(line) for line in done.stdout.splitlines()]
    said = [one["said"] for one in tries if one["said"]]
    for message in said:
        assert message.startswith(f"no space left on the disk of {disk}"), message
        assert "free some space and give the same command again" in message
    for name in ("embeddings.json", "metadata_", "unreadable_", "img_emb_"):
        assert any(f"while writing {name}" in message for message in said), name
    assert {one["kept"] for one in tries} >= {0, 1, 2, 3}, said
    assert all(one["kept as they were"] for one in tries)
    monkeypatch.setattr("holotype.embeddings.SHARD", shard)
    embed(open_pool(path), encoder, tmp_path / "whole")
    whole = {name: data.hex() for name, data in contents(tmp_path / "whole").items()}
    assert all(one["files"] == whole for one in tries)


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
def test_damage_is_named(name: str, damage: str, pool: Pool, encoder: OnnxEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "v"
    embed(pool, encoder, folder)
    path = folder / name
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
    for call in calls:
        with pytest.raises(EmbeddingsError, match=path.name):
            call()


def test_a_shard_that_was_removed_is_computed_again(pool: Pool, encoder: OnnxEncoder, tmp_path: Path) -> None:
    found = by_row(embed(pool, encoder, tmp_path / "v"))
    for path in (tmp_path / "v").glob("*/*_0001.*"):
        path.unlink()
    again = embed(pool, encoder, tmp_path / "v")
    assert sorted(again.rows.tolist()) == list(range(len(pool)))
    assert np.array_equal(by_row(again), found)


def test_ids_that_stand_in_two_shards(pool: Pool, encoder: OnnxEncoder, tmp_path: Path) -> None:
    embed(pool, encoder, tmp_path / "v")
    for path in (tmp_path / "v").glob("*/*_0001.*"):
        shutil.copy(path, path.with_name(path.name.replace("0001", "0009")))
    with pytest.raises(EmbeddingsError, match=r"img_emb_0009\.npy has an id twice"):
        embed(pool, encoder, tmp_path / "v")


def test_a_folder_of_others_is_not_taken_over(pool: Pool, encoder: OnnxEncoder, tmp_path: Path) -> None:
    clip_folder(tmp_path / "v", pool.ids, vectors(40), 1)
    with pytest.raises(EmbeddingsError, match="choose another folder"):
        embed(pool, encoder, tmp_path / "v")


def test_vectors_that_are_not_there_are_not_made_up(pool: Pool, encoder: OnnxEncoder, tmp_path: Path) -> None:
    embed(pool, encoder, tmp_path / "v")
    with pytest.raises(EmbeddingsError, match="no vector of x"):
        EmbeddingStore(tmp_path / "v", encoder, pool.fingerprint).take(["1", "x"])


def vectors(count: int, dim: int = 6) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(size=(count, dim)).astype(np.float32)


def pool_of(*ids: str) -> Pool:
    class Nothing:
        def read(self, row: int) -> bytes:
            return b""

    return Pool("the pool", list(ids), [1] * len(ids), Nothing())


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
    assert np.allclose(found.take(range(30)), unit(given[order]))


@pytest.mark.parametrize("text", ["b\na\nc", "b.jpg\n./a.jpg\nc.png\n", "b\r\na\r\nc\r\n", "\ufeffb\na\nc\n"])
def test_ids_beside_a_bare_array(text: str, tmp_path: Path) -> None:
    given = vectors(3)
    np.save(tmp_path / "e.npy", given)
    (tmp_path / "e.ids.txt").write_bytes(text.encode())
    found = import_embeddings(tmp_path / "e.npy", pool_of("a", "b", "x/c"))
    assert np.allclose(found.take([0, 1, 2]), unit(given[[1, 0, 2]]))


@pytest.mark.parametrize("type_", [np.float16, np.float32, np.float64, ">f4"])
def test_float_types(type_: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.asfortranarray(vectors(12).astype(type_)))
    found = import_embeddings(tmp_path / "e.npy", pool_of(*map(str, range(12))))
    assert np.allclose(found.take(range(12)), unit(vectors(12)), atol=1e-3)


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
    assert np.allclose(found.take(range(40)), unit(given[order]))
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
        (["a", "b", "z"], r"1 ids are not in the pool \(z\), 1 images have no vector \(c\)"),
        (["a", "b"], r"1 images have no vector \(c\)"),
        (["a", "b", "c", "d"], r"1 ids are not in the pool \(d\)"),
        (["a", "b", ""], "1 ids are not in the pool"),
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
        (changed(1e300), r"NaN or infinite values in row 3"),
        (changed(0), r"only zeros in row 3"),
        (changed(1e-300), r"only zeros in row 3"),
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


def alike_pool(make_tar: MakeTar) -> Pool:
    """Frames of one film: each is much like the one before, so that cosines are high throughout."""
    scenes = [np.asarray(blurred(row), float) for row in (1, 2, 3)]
    blends = [(scenes[n // 20], scenes[n // 20 + 1], n % 20 / 20) for n in range(40)]
    frames = [Image.fromarray((a + (b - a) * share).astype(np.uint8)) for a, b, share in blends]
    return open_pool(make_tar([(f"{n}.png", encoded(frame, "PNG")) for n, frame in enumerate(frames)]))


WRONG: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "shuffled": lambda right: np.random.default_rng(0).permutation(right),
    "shifted forward": lambda right: np.roll(right, 1, axis=0),
    "shifted back": lambda right: np.roll(right, -1, axis=0),
    "shifted from the middle on": lambda right: np.concatenate([right[:20], right[21:], right[20:21]]),
    "shifted from behind the middle on": lambda right: np.concatenate([right[:28], right[29:], right[28:29]]),
    "another encoder": lambda right: right @ np.linalg.qr(vectors(right.shape[1], right.shape[1]))[0],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("kind", ["different", "alike"])
def test_rows_of_other_images(
    wrong: str, kind: str, pool: Pool, make_tar: MakeTar, encoder: OnnxEncoder, tmp_path: Path
) -> None:
    if kind == "alike":
        pool = alike_pool(partial(make_tar, name="alike.tar"))
    right = embed(pool, encoder, tmp_path / "v").take(range(len(pool)))
    np.save(tmp_path / "e.npy", right)
    assert check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder) > 0.999
    np.save(tmp_path / "e.npy", WRONG[wrong](right))
    with pytest.raises(EmbeddingsError, match="belong to other images, or another encoder"):
        check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder)


def test_identity_with_copies_and_unreadable_images(make_tar: MakeTar, encoder: OnnxEncoder, tmp_path: Path) -> None:
    """Copies of one image are no strangers, and unreadable images are passed over."""
    pool = open_pool(make_tar([(f"{n}.jpg", b"" if n % 3 == 0 else encoded(blurred(n // 9))) for n in range(60)]))
    found = embed(pool, encoder, tmp_path / "v")
    given = np.ones((60, encoder.dim), np.float32)
    given[found.rows] = found.take(found.rows)
    np.save(tmp_path / "e.npy", given)
    assert check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder) > 0.999


def test_identity_that_cannot_be_checked(make_tar: MakeTar, encoder: OnnxEncoder, pool: Pool, tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", vectors(40))
    with pytest.raises(EmbeddingsError, match=r"have 6 dimensions, .* gives 48"):
        check_identity(import_embeddings(tmp_path / "e.npy", pool), pool, encoder)
    broken = open_pool(make_tar([(f"{n}.jpg", b"") for n in range(40)], "broken.tar"))
    with pytest.raises(EmbeddingsError, match="none of 32 sampled images"):
        check_identity(import_embeddings(tmp_path / "e.npy", broken), broken, encoder)


MEMORY = """
import sys
from pathlib import Path
from holotype.pool import Pool
from holotype.supplied import import_embeddings
pool = Pool("pool", [str(n) for n in range(int(sys.argv[2]))], [], None)
pool.row("0")

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
