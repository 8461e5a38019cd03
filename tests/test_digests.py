"""The digest of each image of a pool: of its bytes as they are now, and read once."""

import hashlib
import os
import shutil
import tarfile
import time
from pathlib import Path

import pytest
from conftest import MakeTar

from holotype.errors import HolotypeWarning, PoolError
from holotype.pool import pool as pool_module
from holotype.pool.digests import STATE, stamp_of
from holotype.pool.pool import Pool, digest_of, open_pool
from holotype.pool.readers import FileReader


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name in "abcdef":
        (tmp_path / "photos" / f"{name}.jpg").write_bytes(name.encode() * 100)
    return tmp_path / "photos"


class Reads:
    """Counts the images whose digests are computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0

        def count(content: bytes) -> str:
            self.count += 1
            return digest_of(content)

        monkeypatch.setattr(pool_module, "digest_of", count)

    def of(self, source: Path) -> int:
        """How many images are read for the digests of the pool as it is now, which are checked."""
        self.count, pool = 0, open_pool(source)
        assert pool.digests() == [hashlib.sha256(pool.read(row)).hexdigest() for row in range(len(pool))]
        return self.count


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def test_an_unchanged_folder_is_read_once_and_of_a_changed_one_what_changed(folder: Path, reads: Reads) -> None:
    assert [reads.of(folder), reads.of(folder)] == [6, 0]
    (folder / "a.jpg").unlink()
    (folder / "new.jpg").write_bytes(b"new")
    (folder / "b.jpg").rename(folder / "z.jpg")  # some systems count that as a change of the file
    assert 1 <= reads.of(folder) <= 2
    path, before = folder / "c.jpg", (folder / "c.jpg").stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert reads.of(folder) == 1


def test_a_change_that_follows_at_once_is_seen(folder: Path, reads: Reads) -> None:
    """The clock of a file system is coarse: the times after it may be those before it."""
    for round_ in range(20):
        (folder / "a.jpg").write_bytes(f"{round_:03}".encode())
        assert reads.of(folder) >= 1


def test_a_file_system_that_tells_only_seconds_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FAT does, which counts in twos: a picture that is replaced after its digest has another time."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    pool = open_pool(folder)
    assert isinstance(pool.reader, FileReader)
    states = pool.reader.states().copy()
    states[:, STATE.index("ctime")] = time.time_ns() // 2_000_000_000 * 2_000_000_000
    stamp_of(pool.ids, states.__getitem__)
    (pause,) = pauses
    assert (time.time_ns() + pause * 1e9) // 2_000_000_000 > states[0, STATE.index("ctime")] // 2_000_000_000


def test_an_unchanged_tar_is_read_once(make_tar: MakeTar, reads: Reads) -> None:
    path = make_tar([(f"{name}.jpg", name.encode() * 9) for name in "abc"])
    assert [reads.of(path), reads.of(path)] == [3, 0]
    with tarfile.open(path, "a") as tar:
        tar.add(__file__, "d.jpg")
    assert [reads.of(path), reads.of(path)] == [4, 0]


def test_shards(make_tar: MakeTar, tmp_path: Path, reads: Reads) -> None:
    for shard in range(3):
        make_tar([(f"{shard}{name}.jpg", f"{shard}{name}".encode()) for name in "ab"], f"pool/{shard}.tar")
    pool = tmp_path / "pool"
    assert [reads.of(pool), reads.of(pool)] == [6, 0]
    make_tar([("1a.jpg", b"other"), ("1c.jpg", b"more")], "pool/1.tar")
    assert [reads.of(pool), reads.of(pool)] == [2, 0]


def test_the_stamp_follows_files_and_names_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    stamp = open_pool(folder).stamp
    assert stamp == open_pool(folder).stamp
    moved = folder.rename(tmp_path / "moved")
    assert open_pool(moved).stamp == stamp
    (moved / "a.jpg").rename(moved / "z.jpg")
    renamed = open_pool(moved).stamp
    os.utime(moved / "b.jpg", (0, 0))
    shutil.copytree(moved, tmp_path / "copy")
    assert len({stamp, renamed, open_pool(moved).stamp, open_pool(tmp_path / "copy").stamp}) == 4


def test_rows_are_found_by_content(folder: Path) -> None:
    (folder / "copy of b.jpg").write_bytes(b"b" * 100)
    pool = open_pool(folder)
    assert pool.ids[pool.by_digest[digest_of(b"c" * 100)]] == "c"
    assert pool.ids[pool.by_digest[digest_of(b"b" * 100)]] == "b"
    assert len(pool.by_digest) == 6


def test_an_image_that_cannot_be_read_has_no_digest_and_is_tried_again(folder: Path) -> None:
    pool = open_pool(folder)
    (folder / "a.jpg").rename(folder / "hidden")
    assert pool.digests()[0] == pool.digest(0) == ""
    assert "" not in pool.by_digest
    (folder / "hidden").rename(folder / "a.jpg")
    assert pool.digest(0) == open_pool(folder).digests([0])[0] == digest_of(b"a" * 100)


@pytest.mark.parametrize("damage", [b"", b"PK", None])
def test_what_was_kept_is_not_trusted_where_it_is_damaged(
    folder: Path, cache: Path, reads: Reads, damage: bytes | None
) -> None:
    reads.of(folder)
    (kept,) = (cache / "digests").iterdir()
    kept.write_bytes(kept.read_bytes()[:-200] if damage is None else damage)
    with pytest.warns(HolotypeWarning, match="is damaged; what it held is made again"):
        assert reads.of(folder) == 6
    assert reads.of(folder) == 0


def test_without_a_cache_all_is_read(folder: Path, cache: Path, reads: Reads) -> None:
    cache.write_text("a file where the cache would be")
    assert [reads.of(folder), reads.of(folder)] == [6, 6]


def test_a_pool_of_no_files_has_digests_and_no_stamp() -> None:
    class Reader:
        def read(self, row: int) -> bytes:
            return bytes([row])

    pool = Pool("memory", ["a", "b"], [1, 1], Reader())
    assert (pool.digests([1]), pool.stamp) == ([digest_of(b"\1")], "")


def test_bytes_of_a_tar_that_was_written_over_are_not_taken_for_those_that_were_listed(make_tar: MakeTar) -> None:
    path = make_tar([(f"{name}.jpg", name.encode() * 9) for name in "abc"])
    pool = open_pool(path)
    assert pool.read(0) == b"a" * 9
    with path.open("r+b") as file:
        file.seek(512)
        file.write(b"z" * 9)
    with pytest.raises(PoolError, match="was changed while it was in use; give the same command again"):
        pool.read(0)
