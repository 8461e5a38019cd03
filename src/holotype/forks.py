"""What a process that was forked must not share with its parent: locks that threads held, connections, networks."""

import ctypes
import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """A thing of the parent that a child has, too."""

    def begin_in_child(self) -> None:
        """Forget what is the parent's. No other thread is there yet."""


_things: "weakref.WeakSet[Forkable]" = weakref.WeakSet()


def note(thing: Forkable) -> None:
    """Have `thing` begin anew in each child that is forked while it is there."""
    _things.add(thing)


def leave(thing: object) -> None:
    """Keep what is the parent's to the end of this process: to take it down would reach into the parent."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _after_fork() -> None:
    for thing in list(_things):
        thing.begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
