"""Whether a file is what it was: by what the system says of it, and by its content where that leaves a doubt."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


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
