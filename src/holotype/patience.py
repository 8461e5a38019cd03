"""Faults that may pass: a disk, a network or a permission that is away, too many open files, too little memory."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Self, TypeVar

from holotype import forks
from holotype.errors import UnreadableNow

_PATIENCE = 4.0  # seconds that a pool waits for what cannot be read
_PAUSE = 0.2  # between two tries, or the first two
_REGAIN = 0.002  # seconds of patience for each image that is read: a second fault is waited for as the first was

_Found = TypeVar("_Found")


class Patience:
    """Tries again for up to four seconds, of all threads together: many images that are gone for good do not add up.

    seconds   in place of the four
    longest   seconds between two tries, each of which is twice as long as the one before, up to these
    """

    def __init__(self, seconds: float | None = None, longest: float = _PAUSE) -> None:
        self._most, self._longest = _PATIENCE if seconds is None else seconds, longest
        self._left = self._most
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Take another lock: the thread that held it is not there."""
        self._lock = Lock()
        forks.note(self)

    def __reduce__(self) -> tuple[type[Self], tuple[float, float]]:
        return type(self), (self._most, self._longest)  # a copy, here or in another process, waits for itself

    def read(self, read: Callable[[], _Found]) -> _Found:
        """Return what `read` does. Raises `UnreadableNow` where it raises `OSError`, and still does after a wait."""
        pause = _PAUSE
        while True:
            try:
                found = read()
            except OSError as error:
                if not self._waits(pause):
                    raise UnreadableNow(f"cannot be read: {error.strerror or error}") from None
                pause = min(2 * pause, self._longest)
            else:
                self._left = min(self._left + _REGAIN, self._most)
                return found

    def _waits(self, pause: float) -> bool:
        with self._lock:
            if self._left <= 0:
                return False
            self._left -= pause
        time.sleep(pause)
        return True
