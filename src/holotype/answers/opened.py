"""Which databases this process has open: SQLite alone may open their files again.

A system drops all locks that a process has on a file as soon as the process closes it, whichever way it was opened
(https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_). Another
process would then take the database for one that nobody uses, and answers that were confirmed would be gone.
"""

from pathlib import Path
from threading import RLock
from weakref import WeakKeyDictionary

from holotype import forks
from holotype.errors import AnswersError

Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """Return which file is at `path`, whatever its name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def parents(path: Path) -> AnswersError:
    """Return what is said of a database at `path` that this process has from the one that it was forked from."""
    return AnswersError(
        f"{path} was opened before this process was forked, and cannot be used in it: close it before the fork and "
        'open it again in each process, or start the process in another way (multiprocessing.get_context("spawn"))'
    )


class _Opened:
    """The databases that are open in this process.

    turn   held from the look whether one is open until it is, while it is closed, and while its files are read
    """

    def __init__(self) -> None:
        self.turn = RLock()
        self._files: WeakKeyDictionary[object, Identity | None] = WeakKeyDictionary()
        self._of_parent = set[Identity | None]()
        forks.note(self)

    def begin_in_child(self) -> None:
        self.turn = RLock()
        self._of_parent.update(self._files.values())  # for good: SQLite goes by what it had open, and by which locks
        self._files.clear()

    def refuse_parents(self, path: Path) -> None:
        """Raise `AnswersError` for what was open when this process was forked.

        A new connection would be taken by SQLite to have the locks of the parent, which this process has not: what both
        write would be lost (https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_).
        """
        if identity(path) in self._of_parent - {None}:
            raise parents(path)

    def has(self, path: Path) -> bool:
        """Whether the database at `path` is open, for whoever holds `turn`."""
        found = identity(path)
        return found is not None and found in list(self._files.values())

    def add(self, user: object, path: Path) -> None:
        """Note that `user` has it open."""
        self._files[user] = identity(path)

    def remove(self, user: object) -> None:
        """Note that `user` has closed what it had open, if anything."""
        self._files.pop(user, None)


OPENED = _Opened()
