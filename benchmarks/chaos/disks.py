"""Disks that are full at some moment of every command that writes: one line, nothing lost, and it goes on after it."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from benchmarks.chaos.house import COMMANDS, TOLD, House, end, faults

SHARES = (0.0, 0.3, 0.6, 0.9)  # of what a command needs beyond what is there
PAGE = 4096  # bytes: a file takes whole pages


def can_mount() -> bool:
    """Whether a disk of our own can be mounted here, as the first process of a namespace can."""
    words = ["mount", "-t", "tmpfs", "disk", "/mnt"]
    return shutil.which("mount") is not None and subprocess.run(words, check=False, capture_output=True).returncode == 0


def trials(house: House, scratch: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield which command had how much space, and what was wrong after it; nothing where no disk can be mounted."""
    cases = [(name, share) for name in COMMANDS for share in SHARES]
    random.Random(seed).shuffle(cases)
    (scratch / "disk").mkdir()
    start, needed = _pages(house.root), lru_cache(lambda name: _needed(house, scratch / "spare", name))
    for name, share in cases[:count] if can_mount() else ():
        yield f"{name}, {share:.0%} of its space", _filled(house, scratch / "disk", name, start, needed(name), share)


def _needed(house: House, place: Path, name: str) -> int:
    """Pages that a command needs beyond what is there."""
    spare = house.copy(place)
    spare.do(COMMANDS[name])
    return max(0, _pages(spare.root) - _pages(house.root)) + _largest(spare.root)


def _filled(house: House, disk: Path, name: str, start: int, needed: int, share: float) -> list[str]:
    _mount(disk, start + int(needed * share) + 16)
    try:
        here = house.copy(disk / "house")
        ended = end(here.start(COMMANDS[name]))
        wrong = [ended.wrong] if ended.wrong else []
        _mount(disk, 4 * (start + needed) + 4096, again=True)
        wrong += faults(here, house)
        again = here.do(COMMANDS[name])
        return wrong + ([f"with space again: exit {again.code}, {again.errors.strip()[-TOLD:]}"] if again.code else [])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _mount(disk: Path, pages: int, *, again: bool = False) -> None:
    options = f"size={pages * PAGE}" + (",remount" if again else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "disk", str(disk)], check=True)


def _pages(root: Path) -> int:
    """Pages that the files and folders below `root` take."""
    inside = [path for path in root.rglob("*") if not path.is_symlink()]
    return sum(1 if path.is_dir() else -(-path.stat().st_size // PAGE) for path in inside)


def _largest(root: Path) -> int:
    return max(-(-path.stat().st_size // PAGE) for path in root.rglob("*") if path.is_file())
