"""Tars, folders and shards: what is read, what it is called, and what is refused."""

import os
import re
import tarfile
from pathlib import Path

import pytest
from conftest import Jpeg, MakeTar

from holotype.errors import PoolError
from holotype.pool import Pool, open_pool

BLOCK = 512


def pool_of(*ids: str) -> Pool:
    class Nothing:
        def read(self, row: int) -> bytes:
            return b""

    return Pool("the pool", list(ids), [1] * len(ids), Nothing())


def three(jpeg: Jpeg) -> list[tuple[str, bytes]]:
    return [(f"images/{n}.jpg", jpeg((n, 0, 0), (16 + n, 12))) for n in (1, 2, 3)]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_by_offset(jpeg: Jpeg, make_tar: MakeTar, format: int) -> None:  # noqa: A002
    members = [("./a.jpg", jpeg((1, 2, 3))), ("b/c.JPEG", jpeg((9, 9, 9), (40, 40)))]
    if format != tarfile.USTAR_FORMAT:
        members += [(f"{'long' * 60}/é.png", jpeg((5, 5, 5))), ("d.webp", b"x")]
    pool = open_pool(make_tar(members, format=format))
    assert pool.ids[:2] == ["a", "b/c"]
    assert [pool.read(row) for row in range(len(pool))] == [content for _, content in members]
    assert pool.sizes == [len(content) for _, content in members]
    assert (pool.ignored, pool.notes) == ({}, ())


def test_long_names_are_whole(make_tar: MakeTar) -> None:
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):  # noqa: A001
        assert open_pool(make_tar([("long" * 99 + "/é.jpg", b"x")], format=format)).ids == ["long" * 99 + "/é"]


def test_folder(tmp_path: Path, jpeg: Jpeg) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("z.jpg", "sub/a.b.PNG", "sub/deep/c.webp", ".hidden/x.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(jpeg() + name.encode())
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone")
    pool = open_pool(tmp_path)
    assert pool.ids == ["z", "sub/a.b", "sub/deep/c"]
    assert pool.read(1) == jpeg() + b"sub/a.b.PNG"
    assert pool.ignored == {".txt": 1, ".jpg": 1}


def test_shards_and_a_folder_of_tars(tmp_path: Path, make_tar: MakeTar) -> None:
    for n in (2, 0, 1):
        make_tar([(f"{n}/a.jpg", b"%d" % n)], f"shards/p-{n:03}.tar")
    for source in (f"{tmp_path}/shards/p-{{000..002}}.tar", tmp_path / "shards"):
        pool = open_pool(source)
        assert pool.ids == ["0/a", "1/a", "2/a"]
        assert [pool.read(row) for row in range(3)] == [b"0", b"1", b"2"]


def test_missing_shard(tmp_path: Path, make_tar: MakeTar) -> None:
    make_tar([("a.jpg", b"x")], "p-0.tar")
    with pytest.raises(PoolError, match=r"p-1\.tar does not exist"):
        open_pool(f"{tmp_path}/p-{{0..1}}.tar")


def test_shards_that_are_folders(tmp_path: Path) -> None:
    for n in range(2):
        (tmp_path / f"p-{n}").mkdir()
    with pytest.raises(PoolError, match=r"expected a tar at .*p-0"):
        open_pool(f"{tmp_path}/p-{{0..1}}")


@pytest.mark.parametrize("code", ["x/3048", "x/3048.jpg", "./x/3048.jpg", "3048", "3048.jpg", "./3048.JPG"])
def test_codes(code: str) -> None:
    assert pool_of("y/30", "x/3048").row(code) == 1


def test_code_with_a_dot() -> None:
    assert pool_of("a", "a.b").row("a.b") == 1
    assert pool_of("a", "a.b").row("a.b.jpg") == 1


def test_whole_id_wins_over_last_part() -> None:
    assert pool_of("x/7", "7").row("7") == 1


def test_ambiguous_code() -> None:
    with pytest.raises(PoolError, match=r"'7' means 2 images of the pool \(x/7, y/7\)"):
        pool_of("x/7", "y/7").row("7")


@pytest.mark.parametrize("code", ["3049", "nothing alike", ""])
def test_unknown_code(code: str) -> None:
    with pytest.raises(PoolError, match=r"no image .* ids look like .*3048"):
        pool_of("3048", "b").row(code)


@pytest.mark.parametrize("names", [["a.jpg", "a.png"], ["a.jpg", "a.jpg"], ["./a.jpg", "a.jpg"]])
def test_one_id_twice_in_a_tar(make_tar: MakeTar, names: list[str]) -> None:
    with pytest.raises(PoolError, match="'a' stands for 2 images"):
        open_pool(make_tar([("b.jpg", b"x"), *((name, b"x") for name in names)]))


def test_one_id_twice_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(PoolError, match="'a' stands for 2 images"):
        open_pool(tmp_path)


def test_empty(tmp_path: Path, make_tar: MakeTar) -> None:
    (tmp_path / "folder").mkdir()
    for source in (tmp_path / "folder", make_tar([])):
        with pytest.raises(PoolError, match=r"expected images .* found nothing"):
            open_pool(source)


def test_no_images(make_tar: MakeTar) -> None:
    with pytest.raises(PoolError, match=r"found 2 x \.txt, 1 x \(no suffix\)"):
        open_pool(make_tar([("a.txt", b""), ("b.TXT", b""), ("README", b"")]))


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="does not exist"):
        open_pool(tmp_path / "none.tar")


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_compressed_tar(tmp_path: Path, jpeg: Jpeg, kind: str) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    with tarfile.open(tmp_path / "p.tar", "w:gz" if kind == "gz" else "w:xz") as archive:
        archive.add(tmp_path / "a.jpg", "a.jpg")
    with pytest.raises(PoolError, match="uncompress it first"):
        open_pool(tmp_path / "p.tar")


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("into", [0, 100, BLOCK, BLOCK + 1, BLOCK + 300, 2 * BLOCK + 9, 4 * BLOCK])
def test_truncated_tar(jpeg: Jpeg, make_tar: MakeTar, into: int, format: int) -> None:  # noqa: A002
    """Cut `into` bytes after where the third member starts: in its header, in its name, in its bytes."""
    members = [*three(jpeg)[:2], ("é" * 150 + ".jpg", jpeg((3, 3, 3), (200, 200)) + bytes(4 * BLOCK))]
    path = make_tar(members, format=format)
    with tarfile.open(path) as archive:
        third = archive.getmembers()[2].offset
    os.truncate(path, third + into)
    with pytest.raises(PoolError, match=r"pool\.tar is cut off .* after 2 images .*--allow-truncated"):
        open_pool(path)
    pool = open_pool(path, allow_truncated=True)
    assert [pool.read(row) for row in range(len(pool))] == [content for _, content in members[:2]]
    assert len(pool.notes) == 1
    assert re.search("cut off .* after 2 images", pool.notes[0])


def test_damaged_header(jpeg: Jpeg, make_tar: MakeTar) -> None:
    path = make_tar(three(jpeg))
    with tarfile.open(path) as archive:
        third = archive.getmembers()[2].offset
    with path.open("r+b") as file:
        file.seek(third + 10)
        file.write(b"damage")
    with pytest.raises(PoolError, match="damaged after 2 images"):
        open_pool(path)


def test_a_cut_shard_counts_its_own_images(tmp_path: Path, jpeg: Jpeg, make_tar: MakeTar) -> None:
    make_tar([("z.jpg", b"z")], "s/0.tar")
    path = make_tar(three(jpeg), "s/1.tar")
    os.truncate(path, BLOCK + 10)
    pool = open_pool(tmp_path / "s", allow_truncated=True)
    assert pool.ids == ["z"]
    assert "1.tar is cut off or damaged after 0 images" in pool.notes[0]


def test_other_members_are_counted(make_tar: MakeTar) -> None:
    pool = open_pool(make_tar([("a.json", b"{}"), ("a.jpg", b"x"), ("b.JSON", b"{}"), ("LICENSE", b"")]))
    assert pool.ids == ["a"]
    assert pool.ignored == {".json": 2, "(no suffix)": 1}


def test_fingerprint(make_tar: MakeTar) -> None:
    def of(*members: tuple[str, bytes]) -> str:
        return open_pool(make_tar(members)).fingerprint

    a, b = ("a.jpg", b"x"), ("b.jpg", b"y")
    assert of(a, b) == of(a, b)
    assert len({of(a, b), of(b, a), of(a, ("b.jpg", b"yy")), of(a)}) == 4


def test_a_name_that_is_no_utf_8(make_tar: MakeTar) -> None:
    pool = open_pool(make_tar([(os.fsdecode(b"caf\xe9.jpg"), b"x")]))
    assert len(pool.fingerprint) == 64
