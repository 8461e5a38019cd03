"""Disks that are full at some moment of every command that writes: one line, nothing lost, and it goes on after it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.chaos.house import COMMANDS, House, end, faults

SHARES = (0.0, 0.3, 0.6, 0.9)  # of what a command needs beyond what is there
PAGE = 4096  # bytes: a file takes whole pages


def can_mount() -> bool:
    """Whether a disk of our own can be mounted here, as the first process of a namespace can."""
    words = ["mount", "-t", "tmpfs", "disk", "/mnt"]
    return shutil.which("mount") is not None and subprocess.run(words, check=False, capture_output=True).returncode == 0


def trials(house: House, scratch: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield which command had how much space, and what was wrong after it."""
    scratch.mkdir(parents=True, exist_ok=True)
    start = _pages(house.root)
    for name, words in COMMANDS.items():
        spare = house.copy(scratch / "spare")
        spare.do(words)
        needed = max(0, _pages(spare.root) - start) + _largest(spare.root)
        for share in SHARES:
            disk = scratch / "disk"
            _mount(disk, start + int(needed * share) + 16)
            try:
                here = house.copy(disk / "house")
                ended = end(here.start(words))
                wrong = [ended.wrong] if ended.wrong else []
                _mount(disk, 4 * (start + needed) + 4096, again=True)
                wrong += faults(here, house)
                again = here.do(words)
                if again.code:
                    wrong.append(f"with space again: exit {again.code}, {again.errors.strip()[-300:]}")
            finally:
                subprocess.run(["umount", str(disk)], check=True)
            yield f"{name}, {share:.0%} of its space", wrong


def _mount(disk: Path, pages: int, *, again: bool = False) -> None:
    disk.mkdir(exist_ok=True)
    options = f"size={pages * PAGE}" + (",remount" if again else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "disk", str(disk)], check=True)


def _pages(root: Path) -> int:
    """Pages that the files and folders below `root` take."""
    inside = [path for path in root.rglob("*") if not path.is_symlink()]
    return sum(1 if path.is_dir() else -(-path.stat().st_size // PAGE) for path in inside)


def _largest(root: Path) -> int:
    return max(-(-path.stat().st_size // PAGE) for path in root.rglob("*") if path.is_file())
