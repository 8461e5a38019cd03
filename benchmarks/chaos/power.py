"""A disk that loses its power: what is on it then, rebuilt from a journal of all that was changed on it.

Bytes are safe when their file was synced after them, and a name when its folder was. A disk may also keep names that
nobody synced, in the order in which they were given, and some of the bytes.
"""

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SECTOR = 512  # bytes that are written together
EXCHANGE = 2  # of renameat2

# what is left: only what was synced; all names; all names and some of the bytes; some of the names and of the bytes
Left = Literal["synced", "names", "torn", "mixed"]
LEFT: tuple[Left, ...] = ("synced", "names", "torn", "mixed")


@dataclass(frozen=True)
class Change:
    """One line of the journal of `shim.c`."""

    op: str
    path: str
    other: str
    offset: int
    data: bytes


def read_journal(path: Path) -> list[Change]:
    """Read what a command changed, in order."""
    found = []
    with path.open("rb") as file:
        for line in file:
            op, one, other, offset, size = line.decode().rstrip("\n").split("\t")
            found.append(Change(op, one, other, int(offset), file.read(int(size)) if op == "write" else b""))
    return found


@dataclass(eq=False)
class File:
    """The bytes of a file: as they are seen, and as they are safe."""

    seen: bytearray
    safe: bytes = b""


@dataclass(eq=False)
class Folder:
    """The names in a folder: as they are seen, and as they are safe."""

    seen: "dict[str, File | Folder]" = field(default_factory=dict)
    safe: "dict[str, File | Folder]" = field(default_factory=dict)


@dataclass(frozen=True)
class _Naming:
    """Names that were given (or taken, with None) together."""

    names: Sequence[tuple[Folder, str, File | Folder | None]]

    @property
    def folders(self) -> set[Folder]:
        return {folder for folder, _, _ in self.names}


class Disk:
    """What is below `root`, all of it safe, and what changes make of it."""

    def __init__(self, root: Path) -> None:
        self._at = root.resolve()
        self._links: dict[str, Path] = {}
        self._root = self._load(root)
        self._pending: list[_Naming] = []

    def _load(self, path: Path) -> Folder:
        found = Folder()
        for one in path.iterdir():
            if one.is_symlink():
                self._links[str(one.relative_to(self._at))] = one.readlink()
            elif one.is_dir():
                found.seen[one.name] = self._load(one)
            else:
                content = one.read_bytes()
                found.seen[one.name] = File(bytearray(content), content)
        found.safe = dict(found.seen)
        return found

    def change(self, change: Change) -> None:
        """Let a change happen that is seen at once, and is not safe yet."""
        getattr(self, f"_{change.op}")(change)

    def _find(self, path: str) -> File | Folder | None:
        found: File | Folder | None = self._root
        for name in Path(path).relative_to(self._at).parts:
            found = found.seen.get(name) if isinstance(found, Folder) else None
        return found

    def _above(self, path: str) -> tuple[Folder, str] | None:
        above = self._find(str(Path(path).parent))
        return (above, Path(path).name) if isinstance(above, Folder) else None

    def _name(self, *names: tuple[str, File | Folder | None]) -> None:
        placed = [(*above, node) for path, node in names if (above := self._above(path)) is not None]
        for folder, name, node in placed:
            _put(folder.seen, name, node)
        self._pending.append(_Naming(placed))

    def _create(self, change: Change) -> None:
        self._name((change.path, File(bytearray())))

    def _mkdir(self, change: Change) -> None:
        self._name((change.path, Folder()))

    def _unlink(self, change: Change) -> None:
        self._name((change.path, None))

    def _link(self, change: Change) -> None:
        inside = Path(change.path).is_relative_to(self._at)
        self._name((change.other, self._find(change.path) if inside else _elsewhere(Path(change.path))))

    def _rename(self, change: Change) -> None:
        back = self._find(change.other) if change.offset & EXCHANGE else None
        self._name((change.path, back), (change.other, self._find(change.path)))

    def _write(self, change: Change) -> None:
        if isinstance(file := self._find(change.path), File):
            file.seen.extend(bytes(max(0, change.offset - len(file.seen))))
            file.seen[change.offset : change.offset + len(change.data)] = change.data

    def _truncate(self, change: Change) -> None:
        if isinstance(file := self._find(change.path), File):
            del file.seen[change.offset :]
            file.seen.extend(bytes(change.offset - len(file.seen)))

    def _sync(self, change: Change) -> None:
        found = self._find(change.path)
        if isinstance(found, File):
            found.safe = bytes(found.seen)
        elif found is not None:
            self._keep(found)

    def _keep(self, folder: Folder) -> None:
        """Make the names in `folder` safe, and those that were given before them where they meet."""
        meeting, kept = {folder}, set[int]()
        for place in reversed(range(len(self._pending))):
            if meeting & self._pending[place].folders:
                meeting |= self._pending[place].folders
                kept.add(place)
        for place in sorted(kept):
            _give(self._pending[place])
        self._pending = [one for place, one in enumerate(self._pending) if place not in kept]

    def lose_power(self, left: Left, dice: random.Random, place: Path) -> None:
        """Write what is left to `place`. The disk is of no use after it."""
        count = {"synced": 0, "mixed": dice.randint(0, len(self._pending))}.get(left, len(self._pending))
        for one in self._pending[:count]:
            _give(one)
        torn = left in ("torn", "mixed")
        shutil.rmtree(place, ignore_errors=True)
        for path, node in _below(self._root, place):
            if isinstance(node, Folder):
                path.mkdir()
            else:
                path.write_bytes(_torn(node, dice) if torn else node.safe)
        for name, target in self._links.items():
            (place / name).symlink_to(target)


def _elsewhere(path: Path) -> File:
    content = path.read_bytes()
    return File(bytearray(content), content)


def _put(names: "dict[str, File | Folder]", name: str, node: File | Folder | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _give(naming: _Naming) -> None:
    for folder, name, node in naming.names:
        _put(folder.safe, name, node)


def _below(folder: Folder, path: Path) -> Iterator[tuple[Path, File | Folder]]:
    yield path, folder
    for name, node in folder.safe.items():
        if isinstance(node, Folder):
            yield from _below(node, path / name)
        else:
            yield path / name, node


def _torn(file: File, dice: random.Random) -> bytes:
    """Some of the sectors that nobody synced, and some of the length."""
    seen, safe = bytes(file.seen), file.safe
    if seen == safe:
        return safe
    length = dice.choice((len(safe), len(seen), dice.randint(0, len(seen))))
    sectors = [
        (seen if dice.random() < 0.5 else safe)[start : start + SECTOR].ljust(SECTOR, b"\0")
        for start in range(0, length, SECTOR)
    ]
    return b"".join(sectors)[:length]
