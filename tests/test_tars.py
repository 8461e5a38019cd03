"""Plain headers are read as tarfile reads them, and what is damaged is said to be."""

import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

import pytest
from conftest import MakeTar

from holotype.errors import PoolError
from holotype.pool import listing, members
from holotype.pool.pool import open_pool

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def headers(format: Literal[0, 1, 2]) -> Iterator[bytes]:  # noqa: A002
    for name in ("a.jpg", "deep/" * 18 + "b.jpg", "deep/" * 22 + "c.jpg", "x" * 100, os.fsdecode(b"caf\xe9.jpg"), "é"):
        for kind in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.CONTTYPE, b"D"):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.uname, info.linkname = kind, 70_000, "me", "a.jpg"
            yield info.tobuf(format, "utf-8", "surrogateescape")[-512:]
            info.size, info.mode, info.mtime = 0 if format == tarfile.USTAR_FORMAT else 1 << 34, 0, 1.5
            yield info.tobuf(format, "utf-8", "surrogateescape")[-512:]


def checked(header: bytes | bytearray) -> bytes:
    """`header` with the checksum that it should have."""
    return bytes(header[:148]) + b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256) + header[156:]


def read(kind: type[tarfile.TarInfo], header: bytes) -> object:
    try:
        member = kind.frombuf(header, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        return type(error), str(error)
    return member.name, member.size, member.type, member.isreg() or member.linkname


@pytest.mark.parametrize("format", FORMATS)
def test_plain_headers_are_read_as_tarfile_reads_them(format: Literal[0, 1, 2]) -> None:  # noqa: A002
    draw = random.Random(format)
    for header in headers(format):
        plain = read(listing._Member, header)
        assert plain == read(tarfile.TarInfo, header)
        for _ in range(100):
            damaged = bytearray(header)
            place = draw.choice([draw.randrange(512), draw.randrange(100, 160)])
            damaged[place] = draw.choice([draw.randrange(256), *b"01789 \0-_+o"])
            if damaged[257:265] == listing._GNU:
                damaged[345] = 0  # tarfile takes GNU's times for a part of the name
            for version in (bytes(damaged), checked(damaged)):
                assert read(listing._Member, version) == read(tarfile.TarInfo, version)


@pytest.mark.parametrize("program", ["tar", "bsdtar", "python"])
def test_most_headers_are_plain(tmp_path: Path, program: str) -> None:
    if program != "python" and shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    (tmp_path / "a.jpg").write_bytes(b"x")
    if program == "python":
        with tarfile.open(tmp_path / "p.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            archive.add(tmp_path / "a.jpg", "a.jpg")
    else:
        subprocess.run([program, "-cf", "p.tar", "a.jpg"], cwd=tmp_path, check=True)
    assert listing._PLAIN.fullmatch((tmp_path / "p.tar").read_bytes()[:512])


def test_a_negative_size(make_tar: MakeTar) -> None:
    path = make_tar([("a.jpg", b"a"), ("b.jpg", b"b")])
    with path.open("r+b") as file:
        file.seek(1024)
        header = bytearray(file.read(512))
        header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024, so that it would be followed by itself
        file.seek(1024)
        file.write(checked(header))
    with pytest.raises(PoolError, match=r"damaged after 1 image \(b\.jpg should have -1024 bytes\)"):
        open_pool(path)


def test_a_damaged_extended_header(tmp_path: Path) -> None:
    """What tarfile has no words for is damage too."""
    path = tmp_path / "pool.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
        info = tarfile.TarInfo("b.jpg")
        info.pax_headers = {"GNU.sparse.map": "two"}
        archive.addfile(info)
    with pytest.raises(PoolError, match=r"pool\.tar is cut off or damaged after 1 image \("):
        open_pool(path)


NAMES = [
    "a.jpg",
    "a",
    ".jpg",
    "..jpg",
    "a..jpg",
    "a/.jpg",
    "a.b/c",
    "a/b.c.PNG",
    "a.jpg/",
    "a.jpg/.",
    "./a.jpg",
    "..",
    "/",
]
MORE = [
    "",
    ".",
    "//a.jpg",
    "a//b.jpg",
    "a. jpg",
    "a .jpg",
    "__MACOSX/a.jpg",
    "a/._b.jpg",
    "._",
    "a/__MACOSX",
    "a.JPEG\n",
]


@pytest.mark.parametrize("name", [*NAMES, *MORE])
def test_parts_and_suffix_are_those_of_pathlib(name: str) -> None:
    path = PurePosixPath(name)
    assert members.suffix_of(members.path_parts(name)) == path.suffix
    assert members.path_parts(name)[-1] == path.name
    assert ("__MACOSX" in members.path_parts(name)) == ("__MACOSX" in path.parts)
