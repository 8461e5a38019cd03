"""Too little memory: pieces that the system refuses at some moment of every command that writes, and limits for all."""

import errno
import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.chaos.after import after
from benchmarks.chaos.calls import Accident, counted, steps, suffered
from benchmarks.chaos.house import COMMANDS, House, end

_MEGABYTE = 1 << 20
_STEPS, _RUNGS = 12, 8  # moments, and limits, of each command that are tried in all


def trials(house: House, scratch: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield `count` shortages, drawn from all that may happen, and what was wrong after each."""
    place, dice = scratch / "here", random.Random(seed)
    least = _least(house)
    cases: list[tuple[str, Accident | int]] = []
    for name in COMMANDS:
        pieces = counted(house, place, name)[1]["memory"]
        for lasting in (False, True):
            cases += [(name, Accident("memory", at, errno.ENOMEM, lasting)) for at in steps(pieces, _STEPS)]
        cases += [(name, least + 64 * (rung + 1)) for rung in range(_RUNGS)]
    dice.shuffle(cases)
    for name, shortage in cases[:count]:
        if isinstance(shortage, Accident):
            yield f"{name}, {shortage}", suffered(house, place, name, shortage)
        else:
            yield f"{name}, at most {shortage} MB of addresses", _limited(house, place, name, shortage)


def _least(house: House) -> int:
    """Megabytes of addresses with which a command starts, and does nothing yet."""
    low, high = 0, 1024
    while high - low > 32:
        middle = (low + high) // 2
        ended = end(house.start(["--help"], memory=middle * _MEGABYTE))
        low, high = (middle, high) if ended.code else (low, middle)
    return high


def _limited(house: House, place: Path, name: str, megabytes: int) -> list[str]:
    wanted = counted(house, place, name)[0].results
    here = house.copy(place)
    ended = end(here.start(COMMANDS[name], memory=megabytes * _MEGABYTE))
    return after(here, house, name, wanted, ended)
