"""Files are whole or absent; what keeps one from being written is named, with what to do."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import pytest
from system import nobody

from holotype.errors import OutputError
from holotype.files import atomic, explain, make_folder, write
from holotype.locks import locked


def fill_the_disk(file: BinaryIO) -> None:
    """Write half, then get a real ENOSPC from the kernel."""
    file.write(b"half")
    with Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")


def test_write_bytes_text_and_function(tmp_path: Path) -> None:
    write(tmp_path / "new" / "a", b"\x00")
    write(tmp_path / "new" / "b", "é")

    def writer(file: BinaryIO) -> None:
        file.write(b"c")

    write(tmp_path / "new" / "c", writer)
    assert [(tmp_path / "new" / name).read_bytes() for name in "abc"] == [b"\x00", "é".encode(), b"c"]
    assert len(list((tmp_path / "new").iterdir())) == 3


def test_names_are_on_the_disk_when_a_file_is_said_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, Path]] = []
    sync, replace = os.fsync, Path.replace

    def synced(file: int) -> None:
        sync(file)
        events.append(("sync", Path(f"/proc/self/fd/{file}").readlink()))

    def replaced(path: Path, target: Path) -> Path:
        events.append(("name", target))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    target = tmp_path / "new" / "deep" / "a"
    write(target, b"x")
    above, (file, *after) = events[:2], events[2:]
    assert above == [("sync", tmp_path), ("sync", tmp_path / "new")]  # the folders that were made
    assert file[0] == "sync"
    assert file[1].name.endswith(".part")
    assert after == [("name", target), ("sync", target.parent)]


def test_a_file_system_that_cannot_sync_folders_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, broken = os.fsync, [errno.EINVAL]

    def refused(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(broken[0], os.strerror(broken[0]))
        sync(file)

    monkeypatch.setattr(os, "fsync", refused)
    write(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    broken[0] = errno.EIO
    with pytest.raises(OutputError, match="check the disk"):
        write(tmp_path / "a", b"y")


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_writer_that_raises_leaves_what_was(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "a"
    if before is not None:
        path.write_bytes(before)

    def writer(file: BinaryIO) -> None:
        file.write(b"half")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write(path, writer)
    assert [one.read_bytes() for one in tmp_path.iterdir()] == ([] if before is None else [before])


def test_full_disk_in_write(tmp_path: Path) -> None:
    with pytest.raises(
        OutputError,
        match=r"no space left on the disk of .* while writing a\.bin; what was finished is kept",
    ):
        write(tmp_path / "a.bin", fill_the_disk)
    assert not list(tmp_path.iterdir())


def test_full_disk_at_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="MB free"),
        explain(tmp_path / "no" / "such" / "a"),
        (tmp_path / "half").open("wb") as file,
    ):
        fill_the_disk(file)


def test_errors_of_other_files_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic(tmp_path / "a"):
        (tmp_path / "missing").read_bytes()
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(OSError, match="of a library"), atomic(tmp_path / "a"):
        raise OSError("of a library")
    assert not list(tmp_path.iterdir())


def test_errors_inside_a_folder_are_explained(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(OutputError, match=r"cannot write .*out: it, or its folder, is not there"),
        explain(tmp_path / "out"),
    ):
        (tmp_path / "out" / "gone").rename(tmp_path / "out" / "there")


def test_atomic_without_a_file_written(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"cannot write .*a: it, or its folder, is not there any more"),
        atomic(tmp_path / "a"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_removed_meanwhile(tmp_path: Path) -> None:
    def writer(file: BinaryIO) -> None:
        shutil.rmtree(tmp_path / "out")

    with pytest.raises(OutputError, match="not there any more; give the same command again"):
        write(tmp_path / "out" / "a", writer)


def test_permission_denied() -> None:
    with nobody() as folder:
        (folder / "closed").mkdir(mode=0o500)
        (folder / "locked").touch(0o400)
        refused = r"permission denied; choose another place, or let this user write there"
        with pytest.raises(OutputError, match=rf"cannot write .*closed/a\.csv: {refused}"):
            write(folder / "closed" / "a.csv", b"x")
        with pytest.raises(OutputError, match=rf"cannot write .*closed/new: {refused}"):
            write(folder / "closed" / "new" / "a.csv", b"x")
        with (
            pytest.raises(OutputError, match=rf"cannot write .*closed/\.lock: {refused}"),
            locked(folder / "closed" / ".lock"),
        ):
            pass
        assert not list((folder / "closed").iterdir())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o700), (0o077, 0o700), (0o002, 0o770), (0, 0o770)])
def test_folders_of_results_and_the_cache_are_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int, mode: int
) -> None:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    there = tmp_path / "there"
    there.mkdir(mode=0o755)
    there.chmod(0o755)
    before = os.umask(umask)
    try:
        with locked(tmp_path / "deep" / "out" / ".lock"), locked(there / ".lock"):
            write(tmp_path / "cache" / "listings" / "one", b"x")
            write(tmp_path / "given" / "predictions.csv", b"x")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_dir()}
    given = 0o777 & ~umask
    assert modes == {"there": 0o755, "deep": given, "out": mode, "cache": mode, "listings": given, "given": given}


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "deep" / "a"):
        with pytest.raises(OutputError, match=rf"a file is where a folder should be \({tmp_path}/file\)"):
            write(path, b"x")
        with pytest.raises(OutputError, match=rf"a file is where a folder should be \({tmp_path}/file\)"):
            make_folder(path.parent)
    with pytest.raises(OutputError, match="a file is where a folder should be"), locked(tmp_path / "file" / ".lock"):
        pass
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_folder_where_a_file_should_be_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"it is a folder; give the path of a file"), atomic(tmp_path):
        pytest.fail("it began")


def test_names_that_are_too_long(tmp_path: Path) -> None:
    for path in (tmp_path / ("x" * 300), tmp_path / ("x" * 300) / "a"):
        with pytest.raises(OutputError, match="the name is too long; give a shorter one"):
            write(path, b"x")


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OutputError, match="the links lead in a circle; remove the link"):
        write(tmp_path / "a", b"x")


READ_ONLY = """
import sys
from pathlib import Path
from holotype.errors import OutputError
from holotype.locks import locked
from holotype.files import write
try:
    write(Path(sys.argv[1]), b"x")
except OutputError as error:
    print(error)
"""


def test_a_disk_that_can_only_be_read(tmp_path: Path, on_own_disk: Callable[[Path, str], list[str]]) -> None:
    mounted = on_own_disk(tmp_path / "disk", "ro")
    script = [sys.executable, "-c", READ_ONLY, str(tmp_path / "disk" / "a")]
    done = subprocess.run([*mounted, *script], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {tmp_path}/disk/a: the disk can only be read; choose another place\n"


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    for name in ("there", "not yet"):
        link = tmp_path / f"link to {name}"
        link.symlink_to(Path("elsewhere") / name)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "there").write_bytes(b"old")
    for name in ("there", "not yet"):
        write(tmp_path / f"link to {name}", b"new")
        assert (tmp_path / f"link to {name}").is_symlink()
        assert (tmp_path / "elsewhere" / name).read_bytes() == b"new"
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2


def test_special_files_are_written_into(tmp_path: Path) -> None:
    write(Path("/dev/null"), b"x")
    (tmp_path / "null").symlink_to("/dev/null")
    write(tmp_path / "null", b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe, b"through")
    reader.join()
    assert got == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(OutputError, match="no space left on the disk of /dev"):
        write(Path("/dev/full"), b"x")


def test_a_pipe_that_nobody_reads_any_more(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    def writer(file: BinaryIO) -> None:
        os.close(reader)
        file.write(b"x" * 10)

    with pytest.raises(OutputError, match="nobody reads it any more"):
        write(tmp_path / "pipe", writer)


def test_text_that_cannot_be_stored(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*a: 'the class caf\\udce9' holds characters that utf-8 has"):
        write(tmp_path / "a", "the class caf\udce9")
    with pytest.raises(OutputError, match="rename it"), atomic(tmp_path / "a") as part, part.open("w") as file:
        file.write("\udce9")
    with pytest.raises(OutputError, match="holds characters"):
        write(tmp_path / "\ud800", b"x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EIO])
def test_a_disk_without_permissions_has_closed_folders_as_it_can(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, mode: int) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(OutputError, match=r"cannot write .*new") if code == errno.EIO else nullcontext():
        make_folder(tmp_path / "new", closed=True)
    assert (tmp_path / "new").is_dir()
