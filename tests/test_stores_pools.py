"""Pools in a store are the pools that they were on the disk, and are read in few requests."""

import copy
import multiprocessing
import os
import pickle
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import Holotype, MakeTar, Member
from pictures import blurred, encoded
from stores import Proxy
from storing import Stored

from holotype import Pool, open_pool
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import PoolError
from holotype.pool import blocks
from holotype.vectors.store import embed

COUNT = 40


def pictures(start: int = 0, count: int = COUNT) -> list[Member]:
    return [(f"{row}.jpg", encoded(blurred(row))) for row in range(start, start + count)]


def noise(count: int, size: int) -> list[Member]:
    """Members that are no images but by their names: only their bytes count."""
    draw = random.Random(0)
    return [(f"a/{row:05}.jpg", draw.randbytes(size)) for row in range(count)]


def assert_same(found: Pool, expected: Pool) -> None:
    assert (found.ids, list(found.sizes), dict(found.ignored)) == (
        expected.ids,
        list(expected.sizes),
        dict(expected.ignored),
    )
    assert [found.read(row) for row in range(len(found))] == [expected.read(row) for row in range(len(expected))]
    assert found.fingerprint == expected.fingerprint
    assert found.digests() == expected.digests()


@pytest.fixture
def shards(tmp_path: Path, make_tar: MakeTar, stored: Stored) -> tuple[Path, str]:
    """Three tars in a folder, and the same in a store."""
    for shard in range(3):
        path = make_tar(pictures(shard * COUNT), f"shards/pool-{shard:03}.tar")
        stored(path, f"some folder/pool-{shard:03}.tar")
    return tmp_path / "shards", f"{stored.bucket}/some folder"


@pytest.mark.parametrize(
    "pattern", ["/pool-{000..002}.tar", "/pool-*.tar", "/pool-00[0-2].tar", "/pool-00?.tar", "", "/"]
)
def test_shards_of_a_store_are_those_of_the_disk(shards: tuple[Path, str], pattern: str) -> None:
    folder, url = shards
    found, expected = open_pool(url + pattern), open_pool(f"{folder}{pattern}")
    assert_same(found, expected)
    assert found.path(0) == f"{url}/pool-000.tar/0.jpg"
    assert found.source == url + pattern


def test_a_folder_of_a_store_is_that_of_the_disk(tmp_path: Path, stored: Stored) -> None:
    others = [
        ("x/thumbs.db", b"1"),
        ("x/.hidden.jpg", b"2"),
        ("old/holotype.toml", b""),
        ("old/a.png", b"3"),
        ("n.txt", b"4"),
    ]
    for name, content in [*((f"x/{name}", content) for name, content in pictures()), *others]:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        stored(content, f"images/{name}")
    found, expected = open_pool(f"{stored.bucket}/images"), open_pool(tmp_path / "images")
    assert sorted(found.ids) == sorted(expected.ids)
    assert [found.read(found.rows[name]) for name in expected.ids] == [expected.read(row) for row in range(COUNT)]
    assert found.path(0) == f"{stored.bucket}/images/{found.ids[0]}.jpg"
    assert found.ignored["(hidden)"] == 1
    assert found.ignored["(a run of holotype)"] == 2


def test_file_urls_are_paths(make_tar: MakeTar) -> None:
    path = make_tar(pictures(), "a b%.tar")
    found = open_pool(f"file://{str(path).replace('%', '%25').replace(' ', '%20')}")
    assert (found.source, found.path(3)) == (str(path), f"{path}/3.jpg")
    assert_same(found, open_pool(path))


@pytest.mark.parametrize("size", [300, 70_000, 3_000_000])
def test_few_requests_list_and_read_a_tar(size: int, make_tar: MakeTar, stored: Stored, proxy: Proxy) -> None:
    """Small members come in blocks, with their headers; large ones are skipped, and read one by one."""
    count = max(24_000_000 // size, 8) if size > 300 else 2000
    path = make_tar(noise(count, size))
    url = stored(path, "one.tar")
    found = open_pool(url)
    whole = path.stat().st_size
    listed = proxy.of("GET", "one.tar")
    if size > blocks._LARGE:
        assert sum(one.size for one in listed) < whole / 100 + blocks.RANGE  # what is behind the last is looked through
        assert len(listed) <= 2 * count + 10
    else:
        assert sum(one.size for one in listed) <= 2 * whole
        assert len(listed) <= whole / blocks.RANGE + 6
    proxy.asked.clear()
    expected = open_pool(path)
    assert [found.read(row) for row in range(count)] == [expected.read(row) for row in range(count)]
    assert sum(one.size for one in proxy.asked) <= whole * 1.1 + blocks.RANGE
    assert len(proxy.asked) <= (count if size > blocks._LARGE else whole / blocks.RANGE + 3)


def test_who_reads_here_and_there_gets_no_more_than_that(make_tar: MakeTar, stored: Stored, proxy: Proxy) -> None:
    url = stored(make_tar(noise(300, 100_000)), "one.tar")
    found = open_pool(url)
    fresh = copy.deepcopy(found)
    proxy.asked.clear()
    rows = [250, 3, 120, 47, 180]
    assert [len(fresh.read(row)) for row in rows] == [100_000] * 5
    assert [one.size for one in proxy.asked] == [100_000] * 5


def test_a_second_pass_reads_no_headers(shards: tuple[Path, str], proxy: Proxy) -> None:
    _, url = shards
    first = open_pool(f"{url}/pool-*.tar")
    assert proxy.of("GET", ".tar")
    proxy.asked.clear()
    again = open_pool(f"{url}/pool-*.tar")
    assert not proxy.of("GET", ".tar")
    assert (again.ids, again.stamp) == (first.ids, first.stamp)


def test_digests_are_kept_for_what_has_the_same_etag(shards: tuple[Path, str], proxy: Proxy, stored: Stored) -> None:
    folder, url = shards
    before = open_pool(url).digests()
    proxy.asked.clear()
    assert open_pool(url).digests() == before
    assert not proxy.of("GET", ".tar")
    stored(folder / "pool-001.tar", "some folder/pool-000.tar")
    stored(folder / "pool-000.tar", "some folder/pool-001.tar")
    assert open_pool(url).digests() == before[COUNT : 2 * COUNT] + before[:COUNT] + before[2 * COUNT :]


def test_vectors_are_the_same(shards: tuple[Path, str], encoder: OnnxEncoder, tmp_path: Path) -> None:
    folder, url = shards
    here = embed(open_pool(folder), encoder, tmp_path / "here")
    there = embed(open_pool(url), encoder, tmp_path / "there")
    assert np.array_equal(here.take(here.rows), there.take(there.rows))


def test_what_is_no_tar_or_cut_off_is_said_as_of_a_disk(make_tar: MakeTar, stored: Stored, tmp_path: Path) -> None:
    content = make_tar(pictures()).read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no tar" * 1000, content[:100] + b"\xff" * 50 + content[150:]):
        (tmp_path / "damaged.tar").write_bytes(damaged)
        with pytest.raises(PoolError) as here:
            open_pool(tmp_path / "damaged.tar")
        url = stored(damaged, "damaged.tar")
        with pytest.raises(PoolError) as there:
            open_pool(url)
        assert str(there.value) == str(here.value).replace(str(tmp_path / "damaged.tar"), url)
    cut = stored(content[: len(content) // 2], "damaged.tar")
    (tmp_path / "damaged.tar").write_bytes(content[: len(content) // 2])
    assert_same(open_pool(cut, allow_truncated=True), open_pool(tmp_path / "damaged.tar", allow_truncated=True))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_that_lie_end_as_damage(make_tar: MakeTar, stored: Stored, tmp_path: Path, format: int) -> None:  # noqa: A002
    """Each flipped byte of a header gives what it gives on a disk: the same images, or the same error."""
    whole = bytearray(
        make_tar([("x" * 60 + "/" + "y" * 60 + ".jpg", b"1" * 700), *pictures(count=3)], format=format).read_bytes()
    )
    draw = random.Random(format)
    for place in draw.sample(range(3 * tarfile.BLOCKSIZE), 40):
        changed = bytes(whole[:place]) + bytes([whole[place] ^ 1 << draw.randrange(8)]) + bytes(whole[place + 1 :])
        (tmp_path / "changed.tar").write_bytes(changed)
        url = stored(changed, "changed.tar")
        outcomes = []
        for source in (str(tmp_path / "changed.tar"), url):
            try:
                pool = open_pool(source)
                outcomes.append([(name, pool.read(row)) for row, name in enumerate(pool.ids)])
            except PoolError as error:
                outcomes.append(str(error).replace(source, "PLACE"))  # type: ignore[arg-type]
        assert outcomes[0] == outcomes[1], place


def read_all(pool: Pool) -> list[bytes]:
    return [pool.read(row) for row in range(len(pool))]


def test_it_travels_to_another_process(shards: tuple[Path, str]) -> None:
    folder, url = shards
    found, expected = open_pool(url), read_all(open_pool(folder))
    assert read_all(pickle.loads(pickle.dumps(found))) == expected
    with multiprocessing.get_context("spawn").Pool(1) as others:
        assert others.apply(read_all, (found,)) == expected


def test_a_forked_process_says_that_it_cannot_read(shards: tuple[Path, str]) -> None:
    found = open_pool(shards[1])
    found.read(0)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            found.read(0)
        except PoolError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        assert b"get_context('spawn')" in said.read()
    assert found.read(COUNT)


def test_commands_take_urls_where_they_take_pools(
    shards: tuple[Path, str], holotype: Holotype, network: str, stored: Stored, tmp_path: Path
) -> None:
    folder, url = shards
    code, here, _ = holotype("search", folder, "--exemplar", "3", "-k", "20", "--encoder", network)
    assert code == 0
    assert holotype("search", url, "--exemplar", "3", "-k", "20", "--encoder", network)[:2] == (0, here)
    out = tmp_path / "run"
    words = ["--exemplar", "a=3", "--exemplar", f"b={stored(pictures()[7][1], 'one.jpg')}", "--encoder", network]
    code, _, error = holotype("run", "--images", f"{url}/pool-*.tar", *words, "--threshold", "0.2", "--out", out)
    assert code == 0, error
    assert f'images = "{url}/pool-*.tar"' in (out / "holotype.toml").read_text()
    assert f"{url}/pool-002.tar/" in (out / "found.csv").read_text()
    assert holotype("run", out)[0] == 0
    code, predictions, _ = holotype(
        "predict", out, f"{url}/pool-000.tar", f"{stored.bucket}/one.jpg", "--format", "csv"
    )
    assert code == 0
    assert f"{url}/pool-000.tar/0.jpg" in predictions
    assert f"{stored.bucket}/one.jpg" in predictions.splitlines()[-1]
    assert holotype("suggest", out)[0] == 0
