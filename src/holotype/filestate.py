"""Whether a file is what it was: by what the system says of it, and by its content where that leaves a doubt."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


def regular(path: Path) -> Path:
    """Return `path`, of which what was kept is about to be read: a pipe in its place would never end.

    Raises `OSError` where it is a pipe, a socket or a device; what is not there passes.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        if not (stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
    return path


class FileState(NamedTuple):
    """What the system says of a file: where all of it is the same, so are its bytes, and nothing need be read.

    size    bytes
    mtime   ns; the last time that it was written to, which may be set back
    ctime   ns; the last time of any change, also of its names, its links and who may read it; nobody sets it back
    inode   which file of its disk it is, as a signed number of 64 bits
    """

    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "FileState":
        """Return the state that the system told."""
        inode = found.st_ino - (1 << 64) if found.st_ino >= 1 << 63 else found.st_ino
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, inode)

    def linked(self) -> "FileState":
        """Return what stays the same however often the file is linked to: all but the ctime."""
        return self._replace(ctime=0)


@dataclass
class KnownFile:
    """A file as it was when it was taken into use: its `state`, and a digest of its `content`."""

    state: FileState | None
    content: str

    def is_same(self, now: FileState, read_content: Callable[[], str]) -> bool:
        """Whether the file, whose state is `now`, is what it was; once it was not, it is not again.

        A chmod, a link or a new name leaves another ctime, as who writes over a file and sets its time back does: only
        there is the content read.
        """
        if self.state is None or now == self.state:
            return self.state is not None
        same = (now.size, now.mtime) == (self.state.size, self.state.mtime) and read_content() == self.content
        self.state = now if same else None
        return same
