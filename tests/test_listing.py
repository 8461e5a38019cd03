"""Tars as people and programs make them: joined, added to, incremental, padded, and with headers that mean harm."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MakeTar
from system import gnu_tar
from test_pointers import LFS

from holotype.errors import PoolError
from holotype.pool.pool import open_pool

BLOCK = 512


def joined(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def some(make_tar: MakeTar, *names: str) -> bytes:
    return make_tar([(f"{name}.jpg", name.encode()) for name in names]).read_bytes()


def test_joined_tars_are_read_to_the_end(tmp_path: Path, make_tar: MakeTar) -> None:
    """`cat a.tar b.tar c.tar`; what pads the end of each does not matter."""
    parts = [some(make_tar, "a", "b"), some(make_tar, "c"), bytes(40 * BLOCK), some(make_tar, "d", "e")]
    pool = open_pool(joined(tmp_path / "all.tar", *parts))
    assert pool.ids == ["a", "b", "c", "d", "e"]
    assert [pool.read(row) for row in range(5)] == [b"a", b"b", b"c", b"d", b"e"]
    assert (pool.ignored, pool.notes) == ({}, ())


def test_a_lone_block_of_zeros_between_members(tmp_path: Path, make_tar: MakeTar) -> None:
    first = some(make_tar, "a")[: 2 * BLOCK]
    assert open_pool(joined(tmp_path / "all.tar", first, bytes(BLOCK), some(make_tar, "b"))).ids == ["a", "b"]
    with pytest.raises(PoolError, match=r"damaged after 1 image \(no whole header at byte 1536\)"):
        open_pool(joined(tmp_path / "hole.tar", first, bytes(BLOCK), b"x" * 9999))


def test_of_joined_tars_the_last_member_of_a_path_counts(tmp_path: Path, make_tar: MakeTar) -> None:
    parts = some(make_tar, "a", "b"), make_tar([("a.jpg", b"new")]).read_bytes()
    pool = open_pool(joined(tmp_path / "all.tar", *parts))
    assert [(name, pool.read(row)) for row, name in enumerate(pool.ids)] == [("b", b"b"), ("a", b"new")]
    assert pool.ignored == {"(replaced by a later member of the same path)": 1}


def test_a_joined_tar_that_is_cut(tmp_path: Path, make_tar: MakeTar) -> None:
    path = joined(tmp_path / "all.tar", some(make_tar, "a"), some(make_tar, "b", "c")[: 2 * BLOCK + 9])
    with pytest.raises(PoolError, match="cut off or damaged after 2 images"):
        open_pool(path)
    assert open_pool(path, allow_truncated=True).ids == ["a", "b"]


@pytest.mark.parametrize("junk", [b"signature", b"\x1f\x8b" + bytes(range(1, 256)) * 40])
def test_what_is_no_tar_behind_the_end_mark_is_reported(tmp_path: Path, make_tar: MakeTar, junk: bytes) -> None:
    pool = open_pool(joined(tmp_path / "p.tar", some(make_tar, "a", "b"), junk))
    assert pool.ids == ["a", "b"]
    assert pool.notes == (
        f"{tmp_path / 'p.tar'}: the {len(junk):,} bytes behind its end mark are no tar, and were not read",
    )


def test_zeros_behind_the_end_mark(tmp_path: Path, make_tar: MakeTar) -> None:
    """A record of a mebibyte is filled up with them; much more is a file that was made as long as it will be."""
    path = joined(tmp_path / "p.tar", some(make_tar, "a"))
    os.truncate(path, 1 << 20)
    assert open_pool(path).notes == ()
    os.truncate(path, 1 << 25)
    assert "bytes are zeros: a download that is not finished looks so" in open_pool(path).notes[0]


def test_a_tar_that_was_added_to(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    gnu_tar(tmp_path, "-cf", "p.tar", "a.jpg")
    gnu_tar(tmp_path, "-rf", "p.tar", "b.jpg")
    gnu_tar(tmp_path, "-cf", "q.tar", "b.jpg")
    (tmp_path / "a.jpg").write_bytes(b"newer")
    gnu_tar(tmp_path, "-rf", "p.tar", "a.jpg")
    gnu_tar(tmp_path, "-Af", "p.tar", "q.tar")
    pool = open_pool(tmp_path / "p.tar")
    assert {name: pool.read(row) for row, name in enumerate(pool.ids)} == {"a": b"newer", "b": b"b.jpg"}
    assert pool.ignored == {"(replaced by a later member of the same path)": 2}


def test_an_incremental_tar(tmp_path: Path) -> None:
    """GNU keeps times where others have the start of a long name; a list of each folder is no image."""
    (tmp_path / "photos" / "x.jpg").mkdir(parents=True)
    for name in ("photos/a.jpg", "photos/x.jpg/b.png"):
        (tmp_path / name).write_bytes(name.encode())
    gnu_tar(tmp_path, "--listed-incremental=all.snar", "-cf", "p.tar", "photos")
    pool = open_pool(tmp_path / "p.tar")
    assert sorted(pool.ids) == ["photos/a", "photos/x.jpg/b"]
    assert pool.read(pool.row("photos/a.jpg")) == b"photos/a.jpg"
    assert pool.ignored == {"(list of a folder)": 2}


def test_a_tar_with_a_label(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    gnu_tar(tmp_path, "-cf", "p.tar", "--label=backup.jpg", "a.jpg")
    pool = open_pool(tmp_path / "p.tar")
    assert (pool.ids, pool.ignored) == (["a"], {"(label)": 1})


def test_a_tar_from_windows(make_tar: MakeTar) -> None:
    pool = open_pool(make_tar([(rf"photos\{name}.jpg", name.encode()) for name in ("0", "1")]))
    assert [pool.read(pool.row(code)) for code in ("photos/1.jpg", r"photos\1", "1.jpg")] == [b"1"] * 3


def test_a_file_that_was_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "p.tar").write_bytes(LFS)
    with pytest.raises(PoolError, match=r"expected an uncompressed tar .* it is a Git LFS pointer.*git lfs pull"):
        open_pool(tmp_path / "p.tar")


def header(name: str, kind: bytes, size: int) -> bytes:
    """A header with whatever size; one that cannot be written in octal digits as a binary number."""
    info = tarfile.TarInfo(name)
    info.type = kind
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = b"%011o\0" % size if 0 <= size < 8**11 else (size % (1 << 96) | 1 << 95).to_bytes(12, "big")
    return bytes(raw[:148]) + b"%06o\0 " % (sum(raw) - sum(raw[148:156]) + 256) + bytes(raw[156:])


def extended(text: bytes) -> bytes:
    return header("x", tarfile.XHDTYPE, len(text)) + text.ljust(BLOCK, b"\0") + header("b", b"?", 0)


LONG = tarfile.GNUTYPE_LONGNAME
HOSTILE = {
    "a negative size of an unknown type": header("x", b"?", -512),
    "a size that goes far back": header("x", b"?", -(1 << 40)),
    "a size beyond all numbers": header("x", b"?", 1 << 90),
    "a negative image": header("x.jpg", b"0", -1024),
    "a long name of 8 GB": header("././@LongLink", LONG, 8**11 - 1),
    "a negative long name": header("././@LongLink", LONG, -512),
    "ten thousand long names": (header("././@LongLink", LONG, 2) + b"x".ljust(BLOCK, b"\0")) * 10_000,
    "ten thousand extended headers": (header("x", tarfile.XHDTYPE, 9) + b"9 a=bcd\n\n".ljust(BLOCK, b"\0")) * 10_000,
    "an extended header of 8 GB": header("x", tarfile.XGLTYPE, 8**11 - 1),
    "a sparse file without an end": header("x.jpg", tarfile.GNUTYPE_SPARSE, 5)[:482] + b"\1" * 30,
    "a map of 8 MB": header("x.jpg", tarfile.GNUTYPE_SPARSE, 5)[:482] + b"\1" * 30 + b"0000001\0\0\0\0\1" * 700_000,
    "a number of a million digits": header("x", tarfile.XHDTYPE, 1 << 20) + b"1" * (1 << 20) + header("b", b"?", 0),
    "attributes of all members": header("g", tarfile.XGLTYPE, 13 * 70_000)
    + b"".join(b"13 k%06d=v\n" % number for number in range(70_000)).ljust(-(-13 * 70_000 // BLOCK) * BLOCK, b"\0")
    + header("x", b"?", 0) * 10_000
    + header("y", b"?", -512),
    "an extended size below zero": header("x", tarfile.XHDTYPE, 14)
    + b"14 size=-1024\n".ljust(BLOCK, b"\0")
    + header("b", b"?", 0),
    "an extended size of words": header("x", tarfile.XHDTYPE, 12)
    + b"12 size=many".ljust(BLOCK, b"\0")
    + header("b", b"?", 0),
}

OPEN = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
from holotype.errors import PoolError
from holotype.pool.pool import open_pool
for path in sys.argv[1:]:
    try:
        print(len(open_pool(path)))
    except PoolError as error:
        print(str(error).partition(path)[2])
"""


def test_headers_that_mean_harm_are_damage(tmp_path: Path, make_tar: MakeTar) -> None:
    """Whatever they say, the walk ends, in little memory and with an error of ours."""
    first = make_tar([("a.jpg", b"a")]).read_bytes()[: 2 * BLOCK]
    last = some(make_tar, "b")
    paths = []
    for number, content in enumerate(HOSTILE.values()):
        paths += [
            joined(tmp_path / f"{number}.tar", first, content, last),
            joined(tmp_path / f"{number}-first.tar", content, last),
        ]
    done = subprocess.run(
        [sys.executable, "-c", OPEN, *map(str, paths)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(zip(HOSTILE, done.stdout.splitlines()[::2], strict=True))
    assert {what for what, text in said.items() if "cut off or damaged after 1 image" not in text} <= {
        "an extended size of words"
    }, said


@pytest.mark.parametrize("kind", [ValueError, RecursionError, MemoryError, IndexError, OverflowError, OSError])
def test_whatever_goes_wrong_in_a_header_is_a_cut(
    make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    path = make_tar([("a.jpg", b"a"), (f"{'b' * 120}.jpg", b"b")])  # whose header is no plain one
    once = iter([True])
    pristine: Callable[[tarfile.TarFile], tarfile.TarInfo | None] = tarfile.TarFile.next

    def fail(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
        if archive.offset and next(once, False):
            return pristine(archive)
        if archive.offset:
            raise kind("no more")
        return pristine(archive)

    monkeypatch.setattr(tarfile.TarFile, "next", fail)
    with pytest.raises(PoolError, match=r"damaged after 1 image \(no more\)"):
        open_pool(path)


def test_an_empty_file_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "pool.tar").touch()
    with pytest.raises(PoolError, match=r"expected a tar at .*pool\.tar, which is empty \(0 bytes\); fetch it again"):
        open_pool(tmp_path / "pool.tar")
