"""Debian packages at pinned versions, kept in a cache folder, and the files inside them."""

import io
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.emoji.sources import Source, fetch_with
from holotype.errors import HolotypeError

_FOLDER, _DEFLATED = 2, 1  # flags of a node in a resource file


@dataclass(frozen=True)
class Package(Source):
    """One Debian package, for all architectures; `artist` is its name."""

    @property
    def package(self) -> str:
        """What apt is asked for, such as `scratch=1.4.0.6~dfsg1-6.1`."""
        return f"{self.artist}={self.version}"

    @property
    def archive(self) -> str:
        """The name that `apt-get download` gives to the file."""
        return f"{self.artist}_{self.version.replace(':', '%3a')}_all.deb"


def fetch(packages: Sequence[Package], cache: Path) -> list[Path]:
    """Return the archive of every package, in order; `apt-get download` fetches those that the cache lacks.

    Raises `HolotypeError` when apt is missing or cannot fetch them.
    """
    return fetch_with(_apt_download, packages, cache)


def files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every file of a package; a Qt resource file is taken apart.

    Raises `HolotypeError` when the archive is not a whole Debian package.
    """
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], capture_output=True, check=False)
    if done.returncode:
        raise HolotypeError(f"expected a Debian package in {archive}, but it cannot be read; delete it and repeat")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            if member.name.endswith(".rcc"):
                yield from _resources(file.read())
            else:
                yield member.name, file.read()


def _apt_download(packages: Sequence[Package], folder: Path, cache: Path) -> None:
    apt = shutil.which("apt-get")
    if apt is None:
        raise HolotypeError(
            f"expected {len(packages)} Debian packages in {cache} or apt-get to fetch them, but no apt-get is on the "
            "PATH; use Debian 12, or copy a filled cache folder there"
        )
    print(f"fetching {len(packages)} packages with apt-get to {cache}", file=sys.stderr)
    command = [apt, "download", *(package.package for package in packages)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode or not all((folder / package.archive).is_file() for package in packages):
        raise HolotypeError(
            f"expected apt-get to fetch {len(packages)} packages, such as {packages[0].package}, but it ended with "
            f"code {done.returncode}: {' '.join(done.stderr.split())[:300]}; run `apt-get update` on Debian 12 and "
            f"repeat, or copy a filled cache folder to {cache}"
        )


def _resources(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the files in a Qt resource file: a tree of nodes, their names, their data."""
    version, tree, data, names = struct.unpack_from(">4xIIII", raw)
    size = 14 if version < 2 else 22

    def walk(node: int, path: str) -> Iterator[tuple[str, bytes]]:
        name, flags, count, first = struct.unpack_from(">IHII", raw, tree + node * size)
        if node:
            (length,) = struct.unpack_from(">H", raw, names + name)
            path += "/" + raw[names + name + 6 :][: 2 * length].decode("utf-16-be")
        if flags & _FOLDER:
            for child in range(first, first + count):
                yield from walk(child, path)
            return
        (length,) = struct.unpack_from(">I", raw, data + first)
        content = raw[data + first + 4 :][:length]
        yield path, zlib.decompress(content[4:]) if flags & _DEFLATED else content

    yield from walk(0, "")
