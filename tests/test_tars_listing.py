"""A kept listing is the listing: what is read from the cache, and what is listed again."""

import io
import os
import random
import subprocess
import sys
import tarfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeTar, OnOwnDisk
from system import unshared

from holotype.errors import HolotypeWarning, PoolError
from holotype.pool import tars
from holotype.pool.pool import Pool, open_pool
from holotype.pool.ranges import LocalFile

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
N = 2000
Members = list[tuple[str, bytes]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def many(start: int = 0) -> Members:
    return [(f"{row}.jpg", b"%d" % row) for row in range(start, start + N)]


def settle(path: Path, seconds: float = 3600) -> Path:
    """As if the tar had been written `seconds` ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def kept(cache: Path) -> list[Path]:
    return sorted((cache / "listings").glob("*"))


def contents(pool: Pool) -> tuple[object, ...]:
    read = [pool.read(row) for row in range(len(pool))]
    return pool.ids, pool.sizes, list(pool.ignored.items()), pool.notes, read, pool.fingerprint


def rename(listing: Path, ids: list[str]) -> None:
    """Write other ids into a kept listing: where they come back, it was read."""
    with np.load(listing, allow_pickle=False) as arrays:
        changed = dict(arrays) | {"stems": np.frombuffer(tars._packed(ids), np.uint8)}
    np.savez(listing, **changed)


def odd(path: Path, format: int) -> Path:  # noqa: A002
    """2,000 images among names that are no UTF-8, links, folders, pipes, and files of other kinds."""
    with tarfile.open(path, "w", format=format) as archive:

        def add(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, link
            archive.addfile(info, io.BytesIO(content))

        add("./", kind=tarfile.DIRTYPE)
        add("a.jpg", b"first")
        for row in range(N):
            add(f"./{row}.JPG", b"%d" % row)
        add(os.fsdecode(b"caf\xe9.jpg"), b"coffee")
        add(os.fsdecode(b"x.\xe9"), b"other")
        add("new\nline.jpg", b"line")
        add("é/ü.png", b"umlaut")
        add("deep" * 20 + "/" + "long" * 20 + ".webp", b"long")
        add("s.jpg", kind=tarfile.SYMTYPE, link="a.jpg")
        add("h.jpg", kind=tarfile.LNKTYPE, link="a.jpg")
        add("hh.jpg", kind=tarfile.LNKTYPE, link="./h.jpg")
        add("h-none.jpg", kind=tarfile.LNKTYPE, link="notes.txt")
        add("notes.txt", b"text")
        add("pipe.jpg", kind=tarfile.FIFOTYPE)
        add("._a.jpg", b"mac")
        add("README", b"read")
        add("empty.gif")
        add("last.jpg", b"last")
    return path


@pytest.mark.parametrize("format", FORMATS)
def test_a_kept_listing_is_that_of_the_tar(cache: Path, tmp_path: Path, format: int) -> None:  # noqa: A002
    path = odd(tmp_path / "pool.tar", format)
    fresh = contents(open_pool(path))
    assert not kept(cache)  # it was written just now
    settle(path)
    first, again = open_pool(path), open_pool(path)
    assert len(kept(cache)) == 1
    assert fresh == contents(first) == contents(again)
    assert (again.ids[N + 1], again.read(again.row("hh"))) == (r"caf\xe9", b"first")
    assert again.ignored == {
        r".\xe9": 1,
        "(symbolic link)": 1,
        "(hard link to no image)": 1,
        ".txt": 1,
        "(special file)": 1,
        "(macOS metadata)": 1,
        "(no suffix)": 1,
    }


def test_it_is_read_and_not_listed_again(cache: Path, make_tar: MakeTar) -> None:
    path = settle(make_tar(many()))
    open_pool(path)
    (listing,) = kept(cache)
    rename(listing, [f"kept-{row}" for row in range(N)])
    before = listing.stat().st_ino
    pool = open_pool(path)
    assert pool.ids == [f"kept-{row}" for row in range(N)]
    assert pool.read(7) == b"7"
    assert listing.stat().st_ino == before


def test_a_short_listing_is_not_kept(cache: Path, make_tar: MakeTar) -> None:
    open_pool(settle(make_tar(many()[1:])))
    assert not kept(cache)


def test_members_that_are_no_images_count(cache: Path, make_tar: MakeTar) -> None:
    path = settle(make_tar([("a.jpg", b"x"), *((f"{row}.json", b"") for row in range(N - 1))]))
    pool = open_pool(path)
    assert len(kept(cache)) == 1
    assert contents(open_pool(path)) == contents(pool)


def test_a_tar_without_images(cache: Path, make_tar: MakeTar) -> None:
    make_tar(many(), "s/0.tar")
    path = settle(make_tar([(f"{row}.json", b"") for row in range(N)], "s/1.tar"))
    pool = open_pool(path.parent)
    (listing,) = kept(cache)
    before = listing.stat()
    assert contents(open_pool(path.parent)) == contents(pool)
    assert listing.stat().st_ino == before.st_ino


def test_each_shard_has_its_own(cache: Path, tmp_path: Path, make_tar: MakeTar) -> None:
    for shard in range(3):
        settle(make_tar([*many(N * shard), (f"{shard}.txt", b"")], f"s/{shard}.tar"))
    make_tar([("few.jpg", b"few")], "s/3.tar")
    pool = open_pool(tmp_path / "s")
    assert len(kept(cache)) == 3
    assert contents(open_pool(tmp_path / "s")) == contents(pool)
    settle(make_tar([*many(N * 5), ("1.json", b"")], "s/1.tar"))
    again = open_pool(f"{tmp_path}/s/{{0..3}}.tar")
    assert again.ids == [str(row) for start in (0, 5, 2) for row in range(N * start, N * start + N)] + ["few"]
    assert [again.read(row) for row in range(3 * N)] == [name.encode() for name in again.ids[:-1]]
    assert again.ignored == {".txt": 2, ".json": 1}


def test_more_shards_than_are_kept_open(tmp_path: Path, make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed or read from the cache, in one pool: the numbers of open tars do not mix."""
    monkeypatch.setattr("holotype.pool.tars._KEPT", 2)
    for shard in range(80):
        path = make_tar(
            [(f"{shard}-{n}.jpg", b"%d-%d" % (shard, n)) for n in range(shard % 4 + 1)], f"s/{shard:02}.tar"
        )
        if shard % 3:
            settle(path)
    first = open_pool(tmp_path / "s")
    assert contents(open_pool(tmp_path / "s")) == contents(first)
    assert [first.read(row) for row in range(len(first))] == [name.encode() for name in first.ids]


def appended(path: Path) -> None:
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("new.jpg"))


def rewritten(path: Path) -> None:
    """In place, with the same size; its time is set back by the caller."""
    with path.open("r+b") as file:
        file.write(path.with_name("new.tar").read_bytes())


def replaced(path: Path) -> None:
    path.with_name("new.tar").replace(path)


@pytest.mark.parametrize("change", [appended, rewritten, replaced])
def test_a_tar_that_changes_is_listed_again(make_tar: MakeTar, change: object) -> None:
    """Also where its size and time are what they were, as after `rsync --inplace --times` or `cp -p`."""
    path, _ = make_tar(many()), make_tar([("new.jpg", b"0"), *many()[1:]], "new.tar")
    settle(path)
    found = path.stat()
    assert "new" not in open_pool(path).rows
    time.sleep(0.02)  # longer than the kernel's tick
    assert callable(change)
    change(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    for _ in range(2):
        pool = open_pool(path)
        assert pool.read(pool.row("new")) == (b"" if change is appended else b"0")


@pytest.mark.parametrize("seconds", [0, 1, -3600])
def test_a_tar_just_written_is_not_trusted(cache: Path, make_tar: MakeTar, seconds: float) -> None:
    """A later change may leave it the same time; so it is with a time that is still to come."""
    open_pool(settle(make_tar(many()), seconds))
    assert not kept(cache)


def test_a_tar_that_is_cut_off_is_not_kept(cache: Path, make_tar: MakeTar) -> None:
    path = make_tar([*many(), ("last.jpg", b"last")])
    os.truncate(path, N * 1024 + 300)
    settle(path)
    for _ in range(2):
        pool = open_pool(path, allow_truncated=True)
        assert (len(pool), len(pool.notes)) == (N, 1)
        with pytest.raises(PoolError, match=f"cut off or damaged after {N:,} images"):
            open_pool(path)
    assert not kept(cache)


def empty(listing: Path) -> None:
    listing.write_bytes(b"")


def halved(listing: Path) -> None:
    os.truncate(listing, listing.stat().st_size // 2)


def no_archive(listing: Path) -> None:
    listing.write_bytes(b"PK\3\4 not an archive at all")


def one_array(listing: Path) -> None:
    with listing.open("wb") as file:
        np.save(file, np.arange(9))


def pickled(listing: Path) -> None:
    np.savez(listing, head=np.array([{"basis": None}], object))


def older(listing: Path) -> None:
    with np.load(listing, allow_pickle=False) as arrays:
        head = arrays["head"].tobytes().replace(b'{"basis": [4,', b'{"basis": [3,')
        changed = dict(arrays) | {"head": np.frombuffer(head, np.uint8)}
    np.savez(listing, **changed)
    rename(listing, [f"old-{row}" for row in range(N)])


def shorter(listing: Path) -> None:
    rename(listing, [f"short-{row}" for row in range(N - 1)])


DAMAGES = [empty, halved, no_archive, one_array, pickled, older, shorter]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_listing_is_made_anew(cache: Path, make_tar: MakeTar, damage: object) -> None:
    path = settle(make_tar(many()))
    before = contents(open_pool(path))
    (listing,) = kept(cache)
    assert callable(damage)
    damage(listing)
    damaged = listing.read_bytes()
    with nullcontext() if damage in (older, shorter) else pytest.warns(HolotypeWarning, match="is damaged"):
        assert contents(open_pool(path)) == before
    assert kept(cache) == [listing]
    assert listing.read_bytes() != damaged
    rename(listing, [f"kept-{row}" for row in range(N)])
    assert open_pool(path).ids[0] == "kept-0"


def test_no_flipped_byte_changes_what_is_listed(cache: Path, make_tar: MakeTar) -> None:
    path = settle(make_tar(many()))
    before = open_pool(path)
    (listing,) = kept(cache)
    whole = listing.read_bytes()
    read = tars._load(LocalFile(path))
    assert read is not None
    assert read.stems == before.ids  # what is not damaged is read
    draw = random.Random(0)
    places = [*range(200), *range(len(whole) - 300, len(whole), 2), *draw.sample(range(len(whole)), 100)]
    for place in places:
        listing.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = tars._load(LocalFile(path))
        assert bool(said) <= (found is None)
        assert found is None or (found.stems, found.sizes.tolist()) == (before.ids, before.sizes)


@pytest.mark.parametrize("where", ["/dev/null", "file", "listings", "listing", "x" * 300])
def test_a_cache_that_cannot_be_written(
    tmp_path: Path, make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = settle(make_tar(many()))
    cache = tmp_path / where
    if where == "file":
        cache.write_bytes(b"")
    if where == "listings":
        cache.mkdir()
        (cache / "listings").write_bytes(b"")
    monkeypatch.setenv("HOLOTYPE_CACHE", str(cache))
    if where == "listing":
        tars._place(LocalFile(path)).mkdir(parents=True)
    for _ in range(2):
        assert len(open_pool(path)) == N


OPEN = "import sys; from holotype.pool.pool import open_pool; print(len(open_pool(sys.argv[1])))"


def opened(path: Path, *before: str, **environment: str) -> tuple[str, str]:
    command = [*before, sys.executable, "-W", "error", "-c", OPEN, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


def test_a_full_disk(tmp_path: Path, make_tar: MakeTar, on_own_disk: OnOwnDisk) -> None:
    path = settle(make_tar(many()))
    before = on_own_disk(tmp_path / "disk", "size=8k")
    assert opened(path, *before, HOLOTYPE_CACHE=str(tmp_path / "disk")) == (f"{N}\n", "")


def test_a_disk_that_can_only_be_read(tmp_path: Path, make_tar: MakeTar, on_own_disk: OnOwnDisk) -> None:
    path = settle(make_tar(many()))
    before = on_own_disk(tmp_path / "disk", "ro")
    assert opened(path, *before, HOLOTYPE_CACHE=str(tmp_path / "disk")) == (f"{N}\n", "")


def test_a_user_without_a_home(make_tar: MakeTar) -> None:
    path = settle(make_tar(many()))
    before = unshared("--user", "--map-user=54321")  # a number that no list of users has
    stdout, stderr = opened(path, *before)
    assert (stdout, stderr) == (f"{N}\n", "")
