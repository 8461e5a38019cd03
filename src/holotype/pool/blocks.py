"""The bytes of objects of a store: neighbours are fetched together, and ahead of who reads them in order.

A request to a store takes as long as a few megabytes take to come, so images are not asked for one by one. Who reads
on where somebody has just read gets a block of a few megabytes, and the next ones are fetched meanwhile. Who reads here
and there gets what it asks for, and no more.
"""

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from threading import Lock
from typing import NamedTuple

from holotype import forks
from holotype.errors import HolotypeError
from holotype.stores.store import StoredObject

RANGE = 4 << 20  # bytes
_LARGE = 1 << 20  # bytes that are worth a request of their own
_GAP = 64 << 10  # bytes between two images that are still neighbours
_GAP_OF_HEADERS = 1 << 20  # as long as they take to come, a request does too
_AHEAD_BYTES, _AHEAD_BLOCKS = 4 * RANGE, 32  # that are fetched ahead, whichever is less
_MOST_BYTES = 48 * RANGE  # that are kept
_THREADS = 16
_ENDS = 64  # where reads ended: as many go on side by side


class _Block(NamedTuple):
    """Bytes of one object: all of a small one."""

    file: int
    start: int
    size: int


class ReadAhead:
    """What is read of objects in order: each is cut into blocks, which are fetched whole and kept for a while.

    It may be used from many threads; a copy in another process, and a forked child, begin with no block.
    """

    def __init__(self, objects: Sequence[StoredObject]) -> None:
        self._objects = objects
        self._places = [0, *accumulate(one.size for one in objects)]  # as if they lay one behind the other
        self._first = [0, *accumulate(-(-one.size // RANGE) for one in objects)]
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Forget what the parent has fetched, and its threads."""
        self._lock = Lock()
        self._kept = OrderedDict[int, Future[memoryview]]()  # the one used last is at the end
        self._bytes = 0
        self._ends = deque[int](maxlen=_ENDS)
        self._threads: ThreadPoolExecutor | None = None
        forks.note(self)

    def __reduce__(self) -> tuple[type["ReadAhead"], tuple[Sequence[StoredObject]]]:
        return type(self), (self._objects,)

    def read(self, file: int, start: int, size: int, *, headers: bool = False) -> bytes:
        """Return `size` bytes of an object from `start` on, or what is there of them.

        headers   whether the next header is wanted, however many bytes of a member lie between

        Raises what `StoredObject.read` does.
        """
        stored = self._objects[file]
        size = min(size, stored.size - start)
        if size <= 0:
            return b""
        futures = self._ask(file, start, size, _GAP_OF_HEADERS if headers else _GAP)
        try:
            if futures:
                return _joined([one.result() for one in futures], start % RANGE, size)
        except (OSError, HolotypeError):  # what was fetched ahead was tried once
            self._forget(futures)
        return bytes(stored.read(start, size))

    def _ask(self, file: int, start: int, size: int, gap: int) -> list[Future[memoryview]]:
        """The blocks that hold these bytes, where they are kept or should be; none where they are to be read alone."""
        place, first = self._places[file] + start, self._first[file]
        wanted = range(first + start // RANGE, first + (start + size - 1) // RANGE + 1)
        with self._lock:
            in_order = any(0 <= place - end <= gap for end in self._ends)
            self._ends.appendleft(place + size)
            if size > _LARGE or not (in_order or all(number in self._kept for number in wanted)):
                return []
            found = [self._fetched(number) for number in wanted]
            if in_order:
                self._read_ahead(wanted[-1] + 1)
            return found

    def _read_ahead(self, number: int) -> None:
        size = 0
        for ahead in range(number, min(number + _AHEAD_BLOCKS, self._first[-1])):
            size += self._block(ahead).size
            if size > _AHEAD_BYTES:
                break
            self._fetched(ahead)

    def _fetched(self, number: int) -> Future[memoryview]:
        """A block, which is fetched unless it is kept; the lock is held."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="blocks")
        block = self._block(number)
        self._kept[number] = self._threads.submit(self._objects[block.file].read_once, block.start, block.size)
        self._bytes += block.size
        while self._bytes > _MOST_BYTES:
            self._drop(next(iter(self._kept)))
        return self._kept[number]

    def _block(self, number: int) -> _Block:
        file = bisect_right(self._first, number) - 1
        start = (number - self._first[file]) * RANGE
        return _Block(file, start, min(RANGE, self._objects[file].size - start))

    def _forget(self, futures: Sequence[Future[memoryview]]) -> None:
        """Fetch again what could not be, when it is asked for the next time."""
        with self._lock:
            for number in [number for number, one in self._kept.items() if one in futures]:
                self._drop(number)

    def _drop(self, number: int) -> None:
        del self._kept[number]
        self._bytes -= self._block(number).size


def _joined(blocks: Sequence[memoryview], start: int, size: int) -> bytes:
    """Return `size` bytes from `start` on of blocks that follow each other."""
    if len(blocks) == 1:
        return bytes(blocks[0][start : start + size])
    first = blocks[0][start:]
    middle = blocks[1:-1]
    rest = size - len(first) - sum(map(len, middle))
    return b"".join([first, *middle, blocks[-1][:rest]])
