"""Several processes that do one command's blocks: together the same bytes as one, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Holotype, write_tar
from pictures import blurred, encoded
from test_store import contents

from holotype.encoders.registry import load_encoder
from holotype.pool.pool import open_pool
from holotype.runs.blocks import PoolShare, describe_missing
from holotype.vectors.shards import claim_folder, read_manifest
from holotype.vectors.store import EmbeddingStore

IMAGES, BLOCKS = 2 * 1024 + 100, 3
Embed = Callable[..., "subprocess.Popen[bytes]"]


def write_pool(path: Path) -> Path:
    """Three blocks of pictures, and two that are none: one in the middle of a block, and the very last."""
    pictures = [encoded(blurred(row, (40, 32))) for row in range(97)]
    members = [(f"{row:05}.jpg", pictures[row % 97] + row.to_bytes(4, "big")) for row in range(IMAGES)]
    members[1500], members[-1] = ("01500.jpg", b"no picture"), (members[-1][0], b"")
    return write_tar(path, members)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shares")
    write_pool(folder / "pool.tar")
    return folder


@pytest.fixture(scope="module")
def start(work: Path, network: str) -> Embed:
    """`start(out, ...)` begins `holotype embed` with a cache of its own, so that nothing is taken from elsewhere."""

    def embed(out: str, *more: str) -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-m", "holotype", "embed", "pool.tar", "--encoder", network, "--out", out, *more]
        environment = os.environ | {"HOLOTYPE_CACHE": str(work / f"cache-{out}")}
        with (work / f"{out}.log").open("ab") as log:
            return subprocess.Popen(words, cwd=work, env=environment, stdout=log, stderr=log)

    return embed


@pytest.fixture(scope="module")
def whole(work: Path, start: Embed) -> dict[str, bytes]:
    """What one process writes."""
    assert start("one").wait(100) == 0
    return contents(work / "one")


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("blocks", [0, 1, 5, 91])
def test_each_block_is_in_one_share_counted_from_0_or_from_1(blocks: int, count: int) -> None:
    for first in (0, 1):
        shares = [[*PoolShare(first + number, count).of(blocks)] for number in range(count)]
        assert sorted(block for share in shares for block in share) == [*range(blocks)]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shards_write_the_same_bytes_whoever_is_killed(work: Path, start: Embed, whole: dict[str, bytes]) -> None:
    first, second = start("parts", "--shard", "2/3"), start("parts", "--shard", "1/3")
    ends = time.monotonic() + 60
    while not list((work / "parts").glob("img_emb/img_emb_*.npy")):
        assert time.monotonic() < ends
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(100) == 0
    assert start("parts", "--shard", "3/3").wait(100) == 0
    assert start("parts", "--shard", "2/3").wait(100) == 0
    found = contents(work / "parts")
    assert {name: data for name, data in found.items() if not name.endswith(".part")} == whole
    assert "all vectors are in parts" in (work / "parts.log").read_text()


def test_two_that_do_the_same_end_with_the_same_bytes(work: Path, start: Embed, whole: dict[str, bytes]) -> None:
    both = [start("twice", "--shard", "0/1"), start("twice", "--shard", "1/1")]
    assert [one.wait(100) for one in both] == [0, 0]
    assert contents(work / "twice") == whole


def test_a_command_without_shards_does_what_is_missing(work: Path, start: Embed, whole: dict[str, bytes]) -> None:
    assert start("rest", "--shard", "1/3").wait(100) == 0
    said = (work / "rest.log").read_text()
    assert "shard 1/3: block 1 of 3" in said
    assert "missing yet: blocks 0, 2 of 3, of --shard 0/3 (the same as 3/3), 2/3; give" in said
    before = {path: path.stat().st_ino for path in (work / "rest" / "img_emb").iterdir()}
    assert start("rest").wait(100) == 0
    assert contents(work / "rest") == whole
    assert all(path.stat().st_ino == inode for path, inode in before.items())  # it was not computed again


def test_who_is_first_says_whose_vectors_they_are(network: str, work: Path, tmp_path: Path) -> None:
    encoder = load_encoder(network)
    first = claim_folder(tmp_path, encoder)
    before = (tmp_path / "embeddings.json").read_bytes()
    assert claim_folder(tmp_path, encoder) == first == read_manifest(tmp_path)["fingerprint"]
    assert (tmp_path / "embeddings.json").read_bytes() == before
    assert EmbeddingStore(tmp_path, encoder, open_pool(work / "pool.tar")).missing_blocks() == [*range(BLOCKS)]


def test_what_is_missing_names_the_shards_that_give_it() -> None:
    assert describe_missing([3, 17], 91, 4) == (
        "missing yet: blocks 3, 17 of 91, of --shard 0/4 (the same as 4/4); give these when none is running"
    )
    assert describe_missing([1], 2, 2) == "missing yet: block 1 of 2, of --shard 1/2; give these when none is running"
    for blocks, shares in ((7, 3), (3, 7), (5, 5), (1, 4)):
        for block in range(blocks):
            (own,) = (one for one in range(shares) if block in PoolShare(one, shares).of(blocks))
            assert f"of --shard {PoolShare(own, shares).either_way};" in describe_missing([block], blocks, shares)


def test_there_may_be_far_more_shards_than_blocks() -> None:
    assert "of --shard 999999998/999999999;" in describe_missing([0], 1, 999_999_999)


@pytest.mark.parametrize("text", ["4/3", "1/0", "0/0", "x", "1", "-1/3", "1/2/3", ""])
def test_nonsense_is_refused(text: str, holotype: Holotype, work: Path, network: str) -> None:
    code, _, error = holotype("embed", work / "pool.tar", "--encoder", network, "--out", work / "x", f"--shard={text}")
    assert code == 2
    assert not text or "expected --shard I/N" in error
    assert not (work / "x").exists()


def test_a_dry_run_writes_nothing(holotype: Holotype, work: Path, network: str, saved: Path) -> None:
    words = ["--dry-run", "--nodes", "4", "--price", "0.5"]
    code, said, _ = holotype("embed", work / "pool.tar", "--encoder", network, "--out", work / "dry", *words)
    assert code == 0
    assert "2,148 images" in said
    assert "0.21 MB of vectors" in said
    assert "on 4 nodes like this" in said
    assert "nothing was written; all images are counted, also those that were done before" in said
    assert holotype("predict", saved, work / "pool.tar", "--out", work / "dry", *words)[0] == 0
    assert not (work / "dry").exists()


def test_a_dry_run_says_what_is_left_out(
    holotype: Holotype, jpeg: Callable[[], bytes], network: str, saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "mix" / "tars").mkdir(parents=True)
    (tmp_path / "mix" / "a.jpg").write_bytes(jpeg())
    write_tar(tmp_path / "mix" / "tars" / "x.tar", [("b.jpg", jpeg())])
    for words in (["embed", tmp_path / "mix", "--encoder", network], ["predict", saved, tmp_path / "mix"]):
        code, _, error = holotype(*words, "--out", tmp_path / "out", "--dry-run")
        assert code == 0
        assert f"left out of {tmp_path / 'mix'}, as no images: 1 x .tar" in error


@pytest.mark.parametrize("layout", ["jsonl", "csv"])
def test_parts_of_predictions_are_one_file_together(
    layout: str, holotype: Holotype, work: Path, saved: Path, jpeg: Callable[[], bytes], tmp_path: Path
) -> None:
    (tmp_path / "alone.jpg").write_bytes(jpeg())
    words = ["predict", saved, work / "pool.tar", tmp_path / "alone.jpg", "--format", layout, "--out"]
    assert holotype(*words, tmp_path / "whole")[0] == 0
    for number in (2, 0, 1):
        assert holotype(*words, tmp_path / "parts", "--shard", f"{number}/3")[0] == 0
    parts = sorted((tmp_path / "parts").glob("part-*"))
    assert len(parts) == BLOCKS + 1
    assert b"".join(part.read_bytes() for part in parts) == (tmp_path / "whole").read_bytes()
    parts[2].unlink()
    before = {part: part.stat().st_ino for part in parts if part.exists()}
    assert holotype(*words, tmp_path / "parts", "--shard", "1/1")[0] == 0
    assert all(part.stat().st_ino == inode for part, inode in before.items())
    assert b"".join(part.read_bytes() for part in parts) == (tmp_path / "whole").read_bytes()
    code, _, error = holotype(*words[:2], tmp_path / "alone.jpg", "--out", tmp_path / "parts", "--shard", "0/1")
    assert code == 1
    assert "has predictions of another model, of other images or in another format" in error
