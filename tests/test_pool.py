"""Tars, folders and shards: what is read, what it is called, and what is refused."""

import gc
import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import Jpeg, MakeTar
from system import gnu_tar, nobody

from holotype.errors import PoolError, UnreadableImage
from holotype.pool.pool import open_pool

BLOCK = 512


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
    assert pool.ignored == {".txt": 1, "(hidden)": 1, "(link that leads nowhere)": 1}


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


@pytest.mark.parametrize("first", ["a.jpg", "./a.jpg"])
def test_of_one_path_twice_in_a_tar_the_last_counts(make_tar: MakeTar, first: str) -> None:
    """As when it is unpacked: `tar --append` adds a member again that has changed."""
    pool = open_pool(make_tar([(first, b"old"), ("b.jpg", b"b"), ("a.jpg", b"new"), ("c.jpg", b"c")]))
    assert [(name, pool.read(pool.row(name))) for name in pool.ids] == [("b", b"b"), ("a", b"new"), ("c", b"c")]
    assert pool.ignored == {"(replaced by a later member of the same path)": 1}


def test_a_hard_link_to_a_member_that_is_replaced_keeps_its_bytes(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        for content in (b"old", b"", b"newer"):
            info = tarfile.TarInfo("a.jpg" if content else "b.jpg")
            info.size, info.type, info.linkname = len(content), b"0" if content else tarfile.LNKTYPE, "a.jpg"
            archive.addfile(info, io.BytesIO(content))
    pool = open_pool(tmp_path / "p.tar")
    assert (pool.ids, [pool.read(row) for row in range(2)]) == (["b", "a"], [b"old", b"newer"])


SAME = ["a.png", "a.webp", "b.jpg", "banner.jpg", "banner.jpg.webp", "x/a.jpg"]
IDS = ["a.png", "a.webp", "b", "banner", "banner.jpg.webp", "x/a"]


def test_ids_keep_the_suffix_where_they_would_be_the_same(tmp_path: Path, make_tar: MakeTar) -> None:
    for name in SAME:
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(name.encode())
    members = [(name, name.encode()) for name in SAME]
    for part in range(3):
        make_tar(members[part::3], f"shards/{part}.tar")
    for source in (tmp_path / "folder", make_tar(members), tmp_path / "shards"):
        pool = open_pool(source)
        assert sorted(pool.ids) == IDS
        for name, id_ in zip(SAME, IDS, strict=True):
            assert pool.read(pool.rows[id_]) == name.encode()
            assert pool.row(id_) == pool.rows[id_]
            assert name == "banner.jpg" or pool.row(name) == pool.rows[id_]


def test_one_path_in_two_shards(tmp_path: Path, make_tar: MakeTar) -> None:
    for shard in range(2):
        make_tar([("a.jpg", b"%d" % shard)], f"s/{shard}.tar")
    with pytest.raises(PoolError, match=r"'a\.jpg' stands for 2 images .* in all shards together"):
        open_pool(tmp_path / "s")


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


SHARDS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from holotype.pool.pool import open_pool
pool = open_pool(sys.argv[1])
sys.setswitchinterval(1e-6)  # threads change places in the middle of a read
rows = list(range(len(pool))) * 20
with ThreadPoolExecutor(8) as threads:
    read = list(threads.map(pool.read, rows))
assert read == [pool.ids[row].encode() for row in rows]
print(len(pool), len(pool.fingerprint))
"""


def test_more_shards_than_files_that_may_be_open(tmp_path: Path, make_tar: MakeTar) -> None:
    for shard in range(100):
        make_tar([(f"{shard}-{n}.jpg", f"{shard}-{n}".encode()) for n in range(5)], f"s/{shard:03}.tar")
    command = ["sh", "-c", 'ulimit -n 64 && exec "$@"', "sh", sys.executable, "-W", "error", "-c", SHARDS]
    done = subprocess.run([*command, str(tmp_path / "s")], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("500 64\n", "")


def test_a_tar_stays_open_while_it_is_read(tmp_path: Path, make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are read just before its bytes are: its number, closed too early, would mean another file."""
    for shard in range(100):
        make_tar([(f"{shard}.jpg", b"%d" % shard)], f"s/{shard:03}.tar")
    pool, pread = open_pool(tmp_path / "s"), os.pread

    def late(file: int, size: int, offset: int) -> bytes:
        monkeypatch.undo()
        assert [pool.read(row) for row in range(1, 100)] == [b"%d" % row for row in range(1, 100)]
        return pread(file, size, offset)

    monkeypatch.setattr("os.pread", late)
    assert pool.read(0) == b"0"


def test_tars_are_closed_in_silence(make_tar: MakeTar) -> None:
    """Also where the garbage collector finds a pool in a circle, and lets go of its parts in any order."""
    for _ in range(50):
        pool = open_pool(make_tar([("a.jpg", b"x")]))
        circle: list[object] = [pool]
        circle.append(circle)
    before = len(list(Path("/dev/fd").iterdir()))
    del pool, circle
    gc.collect()
    assert len(list(Path("/dev/fd").iterdir())) < before


@pytest.mark.parametrize("change", ["another", "gone"])
def test_a_shard_that_changes_before_it_is_opened_again(tmp_path: Path, make_tar: MakeTar, change: str) -> None:
    """Its offsets mean nothing any more: the run ends, instead of taking other bytes for the images."""
    for shard in range(40):
        path = make_tar([(f"{shard}-{n}.jpg", b"x" * 9) for n in range(2)], f"s/{shard:03}.tar")
    pool = open_pool(tmp_path / "s")
    path = tmp_path / "s" / "000.tar"
    path.unlink()
    if change == "another":
        make_tar([("other.jpg", b"other" * 999)], "s/000.tar")
    with pytest.raises(PoolError, match=r"000\.tar (was changed|cannot be read any more).*give the same command again"):
        pool.read(0)


def test_a_name_that_is_no_utf_8(make_tar: MakeTar) -> None:
    pool = open_pool(make_tar([(os.fsdecode(b"caf\xe9.jpg"), b"x")]))
    assert len(pool.fingerprint) == 64
    assert pool.ids[0].encode("ascii") == rb"caf\xe9"
    assert pool.row(os.fsdecode(b"caf\xe9.jpg")) == 0


def test_links_in_a_tar(tmp_path: Path, jpeg: Jpeg) -> None:
    """A hard link has the bytes of the member it names; a symbolic link is none of the archive's images."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(jpeg())
    (tmp_path / "in" / "b.png").hardlink_to(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "c.jpg").hardlink_to(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "d.jpg").symlink_to("a.jpg")
    (tmp_path / "in" / "e.jpg").write_bytes(jpeg((1, 2, 3)))
    (tmp_path / "in" / "notes").write_bytes(b"text")
    (tmp_path / "in" / "notes.jpg").hardlink_to(tmp_path / "in" / "notes")
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    with tarfile.open(tmp_path / "pool.tar", "w") as archive:
        archive.add(tmp_path / "in", ".")
    pool = open_pool(tmp_path / "pool.tar")
    assert pool.ids == ["a", "b", "c", "e"]
    assert [pool.read(row) for row in range(4)] == [jpeg(), jpeg(), jpeg(), jpeg((1, 2, 3))]
    assert pool.sizes[1] == len(jpeg())
    assert pool.ignored == {
        "(symbolic link)": 1,
        "(no suffix)": 1,
        "(hard link to no image)": 1,
        "(special file)": 1,
    }


def test_hard_link_to_a_member_of_another_tar(tmp_path: Path, make_tar: MakeTar) -> None:
    make_tar([("a.jpg", b"other")], "s/0.tar")
    link = tarfile.TarInfo("b.jpg")
    link.type, link.linkname = tarfile.LNKTYPE, "a.jpg"
    with tarfile.open(tmp_path / "s" / "1.tar", "w") as archive:
        archive.addfile(link)
    pool = open_pool(tmp_path / "s")
    assert (pool.ids, pool.ignored) == (["a"], {"(hard link to no image)": 1})


def test_sparse_member(tmp_path: Path, jpeg: Jpeg) -> None:
    """Its bytes lie in pieces, so bytes by offset would be another image's."""
    with (tmp_path / "hole.jpg").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(0, io.SEEK_END)
        file.write(jpeg())
    (tmp_path / "z.jpg").write_bytes(jpeg())
    gnu_tar(tmp_path, "--sparse", "-cf", "p.tar", "hole.jpg", "z.jpg")
    pool = open_pool(tmp_path / "p.tar")
    assert (pool.ids, pool.ignored) == (["z"], {"(sparse file)": 1})
    assert pool.read(0) == jpeg()


MAC = ["a.jpg", "._a.jpg", "sub/._b.jpg", "__MACOSX/a.jpg", "__MACOSX/sub/._b.jpg"]


def test_what_macos_adds_is_no_image(tmp_path: Path, make_tar: MakeTar) -> None:
    for name in MAC:
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for source in (tmp_path / "folder", make_tar([(f"./{name}", b"x") for name in MAC])):
        pool = open_pool(source)
        assert (pool.ids, pool.ignored) == (["a"], {"(macOS metadata)": 4})


def test_links_in_a_folder(tmp_path: Path, jpeg: Jpeg) -> None:
    """Links to images are images; folders behind links are not entered, and that is said."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jpg").write_bytes(jpeg())
    (tmp_path / "pool" / ".git").mkdir(parents=True)
    (tmp_path / "pool" / "a.jpg").symlink_to(tmp_path / "elsewhere" / "x.jpg")
    (tmp_path / "pool" / "album").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pool" / "pipe.jpg")
    pool = open_pool(tmp_path / "pool")
    assert (pool.ids, pool.read(0)) == (["a"], jpeg())
    assert pool.ignored == {"(link to a folder)": 1, "(special file)": 1, "(hidden)": 1}


def test_a_folder_that_cannot_be_listed() -> None:
    with nobody() as folder:
        (folder / "a.jpg").write_bytes(b"x")
        (folder / "closed").mkdir(mode=0)
        with pytest.raises(PoolError, match=r"can be listed at .*closed: Permission denied"):
            open_pool(folder)


def test_webdataset_samples(tmp_path: Path, make_tar: MakeTar) -> None:
    for shard in (0, 2):
        files = [(f"{shard}{n:04}{suffix}", b"%d" % n) for n in range(3) for suffix in (".jpg", ".json", ".txt")]
        make_tar(files, f"{shard:03}.tar")
    with pytest.raises(PoolError, match=r"001\.tar does not exist"):
        open_pool(f"{tmp_path}/{{000..002}}.tar")
    make_tar([("10000.jpg", b"x")], "001.tar")
    pool = open_pool(f"{tmp_path}/{{000..002}}.tar")
    assert pool.ids == ["00000", "00001", "00002", "10000", "20000", "20001", "20002"]
    assert pool.ignored == {".json": 6, ".txt": 6}
    assert pool.read(pool.row("20002.jpg")) == b"2"


def test_a_file_that_vanishes_after_it_was_listed(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    pool = open_pool(tmp_path)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UnreadableImage, match="cannot be read: No such file"):
        pool.read(0)
    assert pool.read(1) == b"b.jpg"


def test_a_tar_that_is_cut_after_it_was_opened(jpeg: Jpeg, make_tar: MakeTar) -> None:
    path = make_tar(three(jpeg))
    pool = open_pool(path)
    os.truncate(path, BLOCK + 20)
    for row in range(3):
        with pytest.raises(PoolError, match=r"pool\.tar was changed while it was in use; give the same command again"):
            pool.read(row)


def test_tars_and_loose_images_in_one_folder_are_refused(tmp_path: Path, jpeg: Jpeg, make_tar: MakeTar) -> None:
    make_tar([("0.jpg", jpeg())], "pool/0.tar")
    (tmp_path / "pool" / "1.jpg").write_bytes(jpeg())
    with pytest.raises(PoolError, match=r"1 tars and also loose images \(1\.jpg\)"):
        open_pool(tmp_path / "pool")
