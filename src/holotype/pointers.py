"""Files that stand for a file that was never fetched: Git LFS and git-annex leave a few lines of text in its place."""

import re
from pathlib import Path

from holotype.errors import HolotypeError
from holotype.filestate import regular

_LFS = re.compile(rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v\d+\r?\n")
_LFS_SIZE = re.compile(rb"^size (\d+)\r?$", re.MULTILINE)
_ANNEX = re.compile(rb"\s*(?:[\w./-]*/)?annex/objects/\S+\s*")
LONGEST = 1024  # bytes; a pointer has about 130, and Git LFS takes none of more


def why_pointer(content: bytes) -> str:
    """Say that `content`, a file from its start, only points to the real file, and how to get that; else nothing."""
    start = content[:LONGEST]
    if _LFS.match(start):
        size = _LFS_SIZE.search(start)
        real = f" of {int(size[1]):,} bytes" if size else ""
        return f"it is a Git LFS pointer; the file{real} that it stands for was not fetched: run `git lfs pull`"
    if len(content) < LONGEST and _ANNEX.fullmatch(start):
        return "it is a git-annex pointer; the file that it stands for was not fetched: run `git annex get`"
    return ""


def why_pointer_at(path: Path) -> str:
    """Say the same of the file at `path`; nothing where it cannot be read."""
    try:
        with regular(path).open("rb") as file:
            return why_pointer(file.read(LONGEST))
    except OSError:
        return ""


def refuse_pointer(path: Path, error: type[HolotypeError]) -> None:
    """Raise `error` where the file at `path` only points to the real one."""
    if pointer := why_pointer_at(path):
        raise error(f"{path}: {pointer}")
