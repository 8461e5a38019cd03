"""Vectors survive kills, full disks and each other."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Jpeg, MakeTar
from numpy.typing import NDArray
from pictures import blurred, encoded
from PIL import Image
from system import nobody

from holotype.encoders.encode import l2_normalize
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import EmbeddingsError, OutputError
from holotype.locks import locked
from holotype.pool.pool import Pool, open_pool
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.identity import check_identity
from holotype.vectors.shards import Unreadable, find_images, read_shards, shard_paths, write_shard
from holotype.vectors.store import EmbeddingStore, embed
from holotype.vectors.supplied import import_embeddings

SMALL = 8  # images of a shard in these tests
EMBED = """
import sys
from pathlib import Path
from holotype import load_encoder, open_pool
from holotype.vectors import store
store.SHARD = int(sys.argv[4])
pool, encoder = open_pool(sys.argv[1]), load_encoder(sys.argv[2])
print("ready", flush=True)
store.embed(pool, encoder, Path(sys.argv[3]))
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("holotype.vectors.store.SHARD", SMALL)
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


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


BAD = {"empty.jpg": "0 bytes", "half.jpg": "decoded", "text.jpg": "not an image", "huge.png": "decoded"}


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
    assert np.abs(found.take(readable) - l2_normalize(alone)).max() < 1e-3
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
    EmbeddingStore(tmp_path / "v", encoder, pool).ensure(
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
    (part / ".embeddings.json.4711.part").write_bytes(b"{")
    resumed = embed(slow_pool, encoder, part)
    assert contents(part) == contents(tmp_path / "whole")
    assert sorted([*resumed.rows, *(slow_pool.rows[name] for name in resumed.unreadable)]) == list(range(150))


def embedded(folder: Path, encoder: OnnxEncoder, pool: Pool) -> Embeddings:
    return EmbeddingStore(folder, encoder, pool).open()


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
    with locked(tmp_path / "v" / ".lock"):
        assert len(embed(pool, encoder, tmp_path / "v").rows) == len(pool)


FULL = """
import json, sys
from pathlib import Path
from holotype import load_encoder, open_pool
from holotype.vectors import store
from holotype.errors import OutputError
store.SHARD = int(sys.argv[4])
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

for pages in range(20):
    out, said = disk / str(pages), None
    leave(pages)
    try:
        store.embed(pool, encoder, out)
    except OutputError as error:
        said = str(error)
    kept = shards(out)
    (disk / "ballast").unlink()
    store.embed(pool, encoder, out)
    print(json.dumps({
        "said": said,
        "kept": len(kept),
        "kept as they were": kept.items() <= shards(out).items(),
        "files": {str(path.relative_to(out)): path.read_bytes().hex() for path in out.rglob("*") if path.is_file()},
    }))
"""


def test_full_disk(
    make_tar: MakeTar,
    network: str,
    encoder: OnnxEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_own_disk: Callable[[Path, str], list[str]],
) -> None:
    """On a real disk with one page more each time, so that each kind of file is once the one that fails."""
    path, disk = make_tar(mixed(130)), tmp_path / "disk"
    mounted = on_own_disk(disk, "size=2m")
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
    monkeypatch.setattr("holotype.vectors.store.SHARD", shard)
    embed(open_pool(path), encoder, tmp_path / "whole")
    whole = {name: data.hex() for name, data in contents(tmp_path / "whole").items()}
    assert all(one["files"] == whole for one in tries)


def test_a_folder_of_others_is_not_taken_over(pool: Pool, encoder: OnnxEncoder, tmp_path: Path) -> None:
    (tmp_path / "v" / "img_emb").mkdir(parents=True)
    np.save(tmp_path / "v" / "img_emb" / "img_emb_0.npy", np.ones((40, encoder.dim), np.float32))
    with pytest.raises(EmbeddingsError, match="choose another folder"):
        embed(pool, encoder, tmp_path / "v")


def test_vectors_that_are_not_there_are_not_made_up(pool: Pool, encoder: OnnxEncoder, tmp_path: Path) -> None:
    embed(pool, encoder, tmp_path / "v")
    with pytest.raises(EmbeddingsError, match="no vector of x"):
        EmbeddingStore(tmp_path / "v", encoder, pool).take(["1", "x"])


def test_of_a_pool_that_grew_those_blocks_are_missing_that_have_images_without_a_vector(
    make_tar: MakeTar, encoder: OnnxEncoder, tmp_path: Path
) -> None:
    images = [(f"{row}.jpg", encoded(blurred(row))) for row in range(5 * SMALL)]

    def of(first: int, last: int) -> EmbeddingStore:
        return EmbeddingStore(tmp_path / "v", encoder, open_pool(make_tar(images[first:last], f"{first}-{last}.tar")))

    of(5, 25).embed_blocks(range(3))
    assert of(5, 25).missing_blocks() == []
    grown = of(5, 5 + 4 * SMALL)
    assert grown.missing_blocks() == [2, 3]  # of block 2 four images are there
    grown.embed_blocks([2])
    assert grown.missing_blocks() == [3]
    grown.embed_blocks([3])
    assert grown.missing_blocks() == []
    assert of(0, 40).missing_blocks() == [0, 4]  # all images are in other places than before


def test_vectors_that_cannot_be_listed_are_not_taken_for_none() -> None:
    with nobody() as folder:
        (folder / "img_emb").mkdir(mode=0o300)
        with pytest.raises(EmbeddingsError, match="cannot be listed: Permission denied; let this user read it"):
            shard_paths(folder)
        assert shard_paths(folder / "none") == []


def test_an_image_that_could_not_be_read_at_first_has_the_vector_that_another_shard_has(
    pool: Pool, encoder: OnnxEncoder, tmp_path: Path
) -> None:
    vectors, unread = tmp_path / "img_emb", {"0": Unreadable("cannot be read: Input/output error")}
    row, none = np.ones((1, encoder.dim), np.float16), np.zeros((0, encoder.dim), np.float16)
    write_shard(vectors / "img_emb_0000.npy", [], [], none, unread, pool.stamp)
    write_shard(vectors / "img_emb_0001.npy", ["elsewhere"], [pool.digest(0)], row, {}, "of another pool")
    found = find_images(read_shards(tmp_path), ["0"], pool)
    assert (found.places["0"][1], found.unreadable) == (0, {})
