"""Files that are read by ranges of bytes: of a disk here, and of an object store."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from holotype.filestate import FileState
from holotype.pool.blocks import ReadAhead
from holotype.stores.store import StoredObject

Note = Callable[[Any], None]


class RangeFile(Protocol):
    """A file of which any bytes can be read, from many threads at once; as text it is where it lies.

    found   its state when it was opened
    """

    @property
    def found(self) -> FileState: ...

    def now(self) -> FileState:
        """Return its state now: that of what is read."""

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on, or what is there of them."""

    def read_header(self, start: int, size: int) -> bytes:
        """Do the same for who goes through the file to its end, and reads little of it."""

    def opened(self, note: Note) -> io.RawIOBase:
        """Return it as Python's own files are, for who does the same; `note` gets each piece that is read."""


class LocalFile:
    """A file of a disk, closed when the last thread that reads it lets it go.

    `os.pread` needs no lock and moves no position in the file.
    """

    _file = -1

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._file = os.dup(file.fileno())  # a bare number, as Python warns of a file object that is let go
        self.found = self.now()

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def __str__(self) -> str:
        return str(self._path)

    def now(self) -> FileState:
        """Return what the system says of it now."""
        return FileState.of(os.fstat(self._file))

    def read(self, start: int, size: int) -> bytes:
        """Read."""
        return os.pread(self._file, size, start)

    read_header = read

    def opened(self, note: Note) -> io.RawIOBase:
        """Return it as a file of Python."""
        file = _NotedFile(os.dup(self._file))
        file.note = note
        file.seek(0)
        return file


class RemoteFile:
    """An object of a store, which is the same whenever it is read, or not read at all."""

    def __init__(self, stored: StoredObject, blocks: ReadAhead, number: int) -> None:
        self._stored, self._blocks, self._number = stored, blocks, number
        self.found = stored.state

    def __str__(self) -> str:
        return str(self._stored)

    def now(self) -> FileState:
        """Return its state."""
        return self.found

    def read(self, start: int, size: int) -> bytes:
        """Read. Raises `PoolError` where another object is there now, `UnreadableNow` where it cannot be read."""
        return self._blocks.read(self._number, start, size)

    def read_header(self, start: int, size: int) -> bytes:
        """Read, with what follows at once where the next header is not far."""
        return self._blocks.read(self._number, start, size, headers=True)

    def opened(self, note: Note) -> io.RawIOBase:
        """Return it as a file of Python."""
        return _NotedRanges(self, note)


class _NotedFile(io.FileIO):
    """A file, of which somebody notes what is read; its own `seek` is why listing a tar is fast."""

    note: Note

    def readinto(self, buffer: Any, /) -> int:
        """Read as a file does."""
        count = super().readinto(buffer) or 0
        self.note(memoryview(buffer)[:count])
        return count


class _NotedRanges(io.RawIOBase):
    """Do the same over an object of a store."""

    def __init__(self, tar: RemoteFile, note: Note) -> None:
        self._tar, self._note, self._place = tar, note, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Seek as a file does."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._tar.found.size}[whence]
        self._place = max(start + offset, 0)
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        """Read as a file does."""
        content = self._tar.read_header(self._place, len(buffer))
        self._note(content)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)
