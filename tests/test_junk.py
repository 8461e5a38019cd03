"""What systems leave beside people's pictures is none of them: in pools, in shards and among exemplars."""

from pathlib import Path

import pytest
from conftest import Jpeg, MakeTar
from system import nobody

from holotype.pool.exemplars import left_out, read_folder
from holotype.pool.members import why_junk
from holotype.pool.pool import open_pool

JUNK = {
    "(macOS metadata)": ["._a.jpg", "__MACOSX/a.jpg", "sub/.AppleDouble/a.jpg"],
    "(metadata of a NAS)": ["@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "sub/@eaDir/b.png", ".@__thumb/s100a.jpg"],
    "(trash)": ["$RECYCLE.BIN/S-1-5/$R1.jpg", "#recycle/a.jpg", "@Recycle/a.png", ".Trash-1000/files/a.jpg"],
    "(previews)": [".thumbnails/a.png", "Thumbs.db"],
    "(system folder)": ["System Volume Information/a.jpg", "lost+found/#123.jpg"],
    "(copies of a notebook)": [".ipynb_checkpoints/a-checkpoint.jpg"],
    "(settings of a folder)": ["desktop.ini"],
}
ALL = [name for names in JUNK.values() for name in names]


@pytest.mark.parametrize("name", ALL)
def test_junk_is_known_by_its_name(name: str) -> None:
    assert [why for why, names in JUNK.items() if name in names] == [why_junk(name)] == [why_junk(name.swapcase())]


@pytest.mark.parametrize(
    "name", ["a.jpg", "MACOSX/a.jpg", "eaDir/a.jpg", "@home/a.jpg", "$5.jpg", "#1.jpg", "trash/a.jpg"]
)
def test_other_names_are_not(name: str) -> None:
    assert why_junk(name) == ""


def test_junk_in_a_pool(tmp_path: Path, make_tar: MakeTar, jpeg: Jpeg) -> None:
    names = ["a.jpg", "sub/b.jpg", *ALL]
    for name in names:
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg())
    folder, tar = (
        open_pool(tmp_path / "folder"),
        open_pool(make_tar([(name, jpeg()) for name in ["a.jpg", "sub/b.jpg", *ALL]])),
    )
    assert folder.ids == tar.ids == ["a", "sub/b"]
    assert tar.ignored == {why: len(names) for why, names in JUNK.items()}
    assert folder.ignored == tar.ignored
    assert "3 x (macOS metadata)" in tar.left_out()


def test_a_folder_of_the_system_that_cannot_be_listed() -> None:
    """At the root of a disk there is one that only the system may look into."""
    with nobody() as folder:
        (folder / "a.jpg").write_bytes(b"x")
        (folder / "lost+found").mkdir(mode=0)
        assert open_pool(folder).ids == ["a"]


def test_junk_beside_shards(tmp_path: Path, make_tar: MakeTar) -> None:
    for shard in range(2):
        make_tar([(f"{shard}.jpg", b"x")], f"s/{shard:03}.tar")
    (tmp_path / "s" / "._000.tar").write_bytes(b"\0\5\26\7")
    (tmp_path / "s" / "index.json").write_bytes(b"{}")
    (tmp_path / "s" / "@eaDir").mkdir()
    (tmp_path / "s" / "@eaDir" / "000.jpg").write_bytes(b"x")
    pool = open_pool(tmp_path / "s")
    assert (pool.ids, pool.ignored) == (["0", "1"], {"(macOS metadata)": 1, "(metadata of a NAS)": 1, ".json": 1})
    assert open_pool(f"{tmp_path}/s/*.tar").ids == ["0", "1"]


def test_junk_among_exemplars(tmp_path: Path, jpeg: Jpeg) -> None:
    for name in [
        "cat/a.jpg",
        "cat/._a.jpg",
        "cat/notes.txt",
        "cat/more/b.jpg",
        "__MACOSX/cat/._a.jpg",
        "@eaDir/x.jpg",
        "c.jpg",
    ]:
        (tmp_path / "ex" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ex" / name).write_bytes(jpeg())
    assert read_folder(tmp_path / "ex") == {"cat": [f"{tmp_path}/ex/cat/a.jpg"]}
    assert left_out(tmp_path / "ex") == (
        "1 x (beside the folders of the classes), 1 x (folder), 2 x (macOS metadata), 1 x (metadata of a NAS), 1 x .txt"
    )
