"""Every command that writes, cut off at one of its changes: by a kill, and by a loss of power."""

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.chaos.after import after
from benchmarks.chaos.calls import Accident, Watched, counted, steps, suffered
from benchmarks.chaos.house import COMMANDS, Ended, House, end
from benchmarks.chaos.power import LEFT, Change, Disk, Left, read_journal

Trial = tuple[str, list[str]]


def trials(house: House, scratch: Path, count: int, seed: int) -> Iterator[Trial]:
    """Yield `count` moments and what was wrong after each: of all commands in turn, kills and losses of power."""
    share = -(-count // (2 * len(COMMANDS)))
    turns: list[Iterator[Trial]] = []
    for name in COMMANDS:
        turns += [_losses(house, scratch, name, share, seed), _kills(house, scratch / "here", name, share)]
    done = 0
    while turns and done < count:
        turn = turns.pop(0)
        if (trial := next(turn, None)) is not None:
            turns.append(turn)
            done += 1
            yield trial


def _kills(house: House, place: Path, name: str, count: int) -> Iterator[Trial]:
    for number in steps(counted(house, place, name)[1]["change"], count + 2)[1:-1]:
        accident = Accident("change", number)
        yield f"{name}, {accident}", suffered(house, place, name, accident)


def _losses(house: House, scratch: Path, name: str, count: int, seed: int) -> Iterator[Trial]:
    """The first comes when the command has ended: what it said that it did is done."""
    place, dice = scratch / "here", random.Random(f"{name} {seed}")
    journal = _journal(house, place, name)
    yield f"{name}, no power when it is done", _lost(house, place, name, journal, "synced", dice, Ended(0, ""))
    first = dice.randrange(len(LEFT))
    for step, number in enumerate(steps(len(journal), count + 1)[1:-1], first):
        left = LEFT[step % len(LEFT)]
        what = f"{name}, no power after change {number} of {len(journal)}, {left} is left"
        yield what, _lost(house, place, name, journal[:number], left, dice, Ended(-9, ""))


def _journal(house: House, place: Path, name: str) -> list[Change]:
    path, here = place.with_name("journal"), house.copy(place)
    watched = Watched(here, journal=path)
    ended = end(here.start(COMMANDS[name], watched.environment))
    watched.counts()
    if ended.code:
        raise SystemExit(f"{name} fails without an accident: {ended.errors}")
    return read_journal(path)


def _lost(
    house: House, place: Path, name: str, journal: Sequence[Change], left: Left, dice: random.Random, ended: Ended
) -> list[str]:
    """Let the disk lose its power when `journal` was written, and say what was wrong with what is left."""
    wanted = counted(house, place, name)[0].results
    here = house.copy(place)
    disk = Disk(here.root)
    for change in journal:
        disk.change(change)
    shutil.rmtree(place)
    disk.lose_power(left, dice, place)
    return after(here, house, name, wanted, ended)
