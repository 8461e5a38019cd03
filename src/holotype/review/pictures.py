"""The pictures that the page shows: drawn once, and kept while there is room for them."""

from collections import OrderedDict
from threading import Lock
from typing import NamedTuple

from holotype.pool.images import decode, thumbnail
from holotype.pool.pool import Pool, digest_of

KEPT = 64 * 2**20  # bytes of pictures that are kept: some thousands of thumbnails


class Picture(NamedTuple):
    """A JPEG, and the digest of the image that it shows."""

    jpeg: bytes
    digest: str


class Pictures:
    """Pictures of the images of `pool`; several threads may use one."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._turn = Lock()
        self._kept: OrderedDict[tuple[int, int], Picture] = OrderedDict()  # the last that was shown comes last
        self._size = 0

    def kept(self, row: int, side: int) -> Picture | None:
        """Return the picture of `row` of at most `side` pixels where it was drawn already: at once."""
        with self._turn:
            found = self._kept.get((row, side))
            if found is not None:
                self._kept.move_to_end((row, side))
            return found

    def draw(self, row: int, side: int) -> Picture:
        """Return the picture of `row` of at most `side` pixels. Raises `UnreadableImage`."""
        found = self.kept(row, side)
        if found is None:
            content = self._pool.read(row)
            found = Picture(thumbnail(decode(content, fit=side), side), digest_of(content))
            self._keep((row, side), found)
        return found

    def _keep(self, key: tuple[int, int], picture: Picture) -> None:
        with self._turn:
            if key not in self._kept:
                self._kept[key] = picture
                self._size += len(picture.jpeg)
            while self._size > KEPT:
                self._size -= len(self._kept.popitem(last=False)[1].jpeg)

    def clear(self) -> None:
        """Let them go."""
        with self._turn:
            self._kept.clear()
            self._size = 0
