"""Faults that may pass: a disk, a network or a permission that is away, too many open files, too little memory."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Self

from holotype import forks
from holotype.errors import UnreadableNow

_PATIENCE = 4.0  # seconds that a pool waits for what cannot be read
_PAUSE = 0.2  # between two tries
_REGAIN = 0.002  # seconds of patience for each image that is read: a second fault is waited for as the first was


class Patience:
    """Tries again for up to four seconds, of all threads together: many images that are gone for good do not add up."""

    def __init__(self) -> None:
        self._left, self._most = _PATIENCE, _PATIENCE
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Take another lock: the thread that held it is not there."""
        self._lock = Lock()
        forks.note(self)

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()  # a copy, here or in another process, waits for itself

    def read(self, read: Callable[[], bytes]) -> bytes:
        """Return what `read` does. Raises `UnreadableNow` where it raises `OSError`, and still does after a wait."""
        while True:
            try:
                found = read()
            except OSError as error:
                if not self._waits():
                    raise UnreadableNow(f"cannot be read: {error.strerror or error}") from None
            else:
                self._left = min(self._left + _REGAIN, self._most)
                return found

    def _waits(self) -> bool:
        with self._lock:
            if self._left <= 0:
                return False
            self._left -= _PAUSE
        time.sleep(_PAUSE)
        return True
