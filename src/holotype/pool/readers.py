"""What a pool asks of who reads its images."""

from typing import Protocol, runtime_checkable

from holotype.pool.digests import States


class Reader(Protocol):
    """Where the bytes of a row come from."""

    def read(self, row: int) -> bytes:
        """Return the encoded image of `row`."""


@runtime_checkable
class PieceReader(Reader, Protocol):
    """A reader that need not read an image whole."""

    def read_piece(self, row: int, start: int, size: int) -> bytes:
        """Return `size` bytes of the image from `start` on, or what is there of them."""


@runtime_checkable
class FileReader(Reader, Protocol):
    """A reader that knows the files which the images lie in."""

    def path(self, row: int, name: str) -> str:
        """Return where the image of `row`, which is called `name` there, lies: its file, or its tar and its name.

        A whole path, or a URL.
        """

    def states(self, rows: slice = slice(None)) -> States:
        """Return (n, 5) what the bytes of `rows` rest on, see `digests.STATE`; as it was when the pool was opened."""
