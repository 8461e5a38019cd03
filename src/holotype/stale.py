"""Files of the cache that nobody used for long: their pool is gone, or they are of an older version.

Where a pool is cannot be told from the name of what is kept of it, and a disk that is away comes back: so it is the
time of the last use that decides. Whoever uses such a file marks that, and copes without it: it may go at any moment.
"""

import os
import re
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_LONG = 90 * 24 * 3600  # seconds
_PART = r"\..{1,40}\.\d+-[0-9a-f]{8}\.part"  # what `files.atomic` writes into, where it was killed


def mark_used(path: Path) -> None:
    """Note that the file at `path` was used now, where that can be noted."""
    with suppress(OSError):
        os.utime(path)


def remove_stale(folder: Path, pattern: str, unless: Callable[[Path], bool] = lambda _: False) -> None:
    """Remove what was not used for 90 days of the files in `folder` whose whole name the regular expression matches.

    What a kill left of one that was being written goes as well. `unless` tells which are kept all the same. What
    cannot be listed or removed stays.
    """
    ours = re.compile(f"{pattern}|{_PART}", re.ASCII)
    with suppress(OSError):
        for entry in [*os.scandir(folder)]:
            if ours.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_unused(Path(entry.path), entry.stat(follow_symlinks=False), unless)


def _remove_unused(path: Path, found: os.stat_result, unless: Callable[[Path], bool]) -> None:
    if stat.S_ISREG(found.st_mode) and found.st_mtime < time.time() - _LONG and not unless(path):
        path.unlink()
