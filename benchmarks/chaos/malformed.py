"""Files that are damaged behind our back: a flipped bit, a cut, a block of zeros, the file of another run.

What SQLite calls its suite of malformed databases, for every file that is kept and read back. A damage is survived
where what is read is as it was, or is computed again, or where one sentence says what is wrong.
"""

import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

from benchmarks.chaos.house import COMMANDS, House, picture
from benchmarks.chaos.kept import Kept, kinds
from holotype.errors import HolotypeError, HolotypeWarning

BLOCK = 512  # bytes that are zeros at once
SHARE = 15  # for so many flipped bits one cut and one block
OTHER = ("--set", "seed=7", "--threshold", "0.6")


def trials(house: House, scratch: Path, flips: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield what was damaged in what way, and what was wrong with what was read then; `flips` bits of each file."""
    other = house.copy(scratch / "another run")
    ended = other.do([*COMMANDS["run"], *OTHER])
    if ended.code:
        raise SystemExit(ended.errors)
    for kind in kinds(scratch / "kept", (house, other), picture):
        yield from damaged(kind, scratch / "damaged", flips, seed)


def damaged(kind: Kept, here: Path, flips: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield that of one kind of file."""
    wanted = repr(kind.read(_copied(kind.root, here)))
    for what, name, content in _damages(kind, flips, random.Random(f"{seed} {kind.name}")):
        how, fine = _read(kind, here, name, content, wanted)
        yield f"{kind.name}: {name}, {what}: {how}", [] if fine else [how]


def _copied(root: Path, here: Path) -> Path:
    shutil.rmtree(here, ignore_errors=True)
    return Path(shutil.copytree(root, here))


def _damages(kind: Kept, flips: int, dice: random.Random) -> Iterator[tuple[str, str, bytes]]:
    """Yield in words, the file, and its content."""
    for name in kind.files:
        whole = (kind.root / name).read_bytes()
        for _ in range(flips if whole else 0):
            content, place = bytearray(whole), dice.randrange(len(whole))
            content[place] ^= 1 << dice.randrange(8)
            yield f"a bit of byte {place:,} flipped", name, bytes(content)
        for _ in range(-(-flips // SHARE) if whole else 0):
            start = dice.randrange(len(whole)) // BLOCK * BLOCK
            zeros = bytes(len(whole[start : start + BLOCK]))
            yield f"zeros from byte {start:,} on", name, whole[:start] + zeros + whole[start + BLOCK :]
            if kind.cuts:
                place = dice.randrange(len(whole))
                yield f"cut to {place:,} bytes", name, whole[:place]
        if kind.own and (foreign := kind.other / name).exists() and foreign.read_bytes() != whole:
            yield "that of another run", name, foreign.read_bytes()


def _read(kind: Kept, here: Path, name: str, content: bytes, wanted: str) -> tuple[str, bool]:
    """How it ends to read what is damaged, and whether that is fine."""
    (_copied(kind.root, here) / name).write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            same = repr(kind.read(here)) == wanted
        except HolotypeError as error:
            return f"refused: {error}", True
        except Exception as error:
            return f"a raw {type(error).__name__}: {error}", False
    told = [str(one.message) for one in said if issubclass(one.category, HolotypeWarning)]
    found = "as it was" if same else "other"
    return (f"{found}, and said: {told[0]}" if told else found), same or bool(told)
