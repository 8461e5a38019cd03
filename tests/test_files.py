"""Files are whole or absent, and a full disk is named."""

import errno
from pathlib import Path
from typing import BinaryIO

import pytest

from holotype.errors import OutputError
from holotype.files import atomic, explain_full_disk, write


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
    with pytest.raises(OutputError, match=r"no space left on the disk of .* while writing a\.bin.*--resume"):
        write(tmp_path / "a.bin", fill_the_disk)
    assert not list(tmp_path.iterdir())


def test_full_disk_at_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="MB free"),
        explain_full_disk(tmp_path / "no" / "such" / "a"),
        (tmp_path / "half").open("wb") as file,
    ):
        fill_the_disk(file)


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, explain_full_disk(tmp_path / "a"):
        (tmp_path / "missing").read_bytes()
    assert caught.value.errno == errno.ENOENT


def test_atomic_without_a_file_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "a"):
        pass
    assert not list(tmp_path.iterdir())
