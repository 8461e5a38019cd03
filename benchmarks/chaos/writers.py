"""Two commands that write into one folder, started at once: each does its work or says who is there already."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.chaos.house import COMMANDS, House, end, faults

WRITERS = ("run", "repeat", "tune", "evaluate", "answer, more", "apply", "suggest")
OF_THEIR_OWN = ("run, new", "embed", "search")  # write elsewhere; two of the same meet


def pairs() -> list[tuple[str, str]]:
    """Which two commands are started at once."""
    return [*itertools.combinations_with_replacement(WRITERS, 2), *((name, name) for name in OF_THEIR_OWN)]


def trials(house: House, scratch: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield `count` pairs, drawn from all, and what was wrong after each."""
    drawn = pairs()
    random.Random(seed).shuffle(drawn)
    for first, second in drawn[:count]:
        here = house.copy(scratch / "shared")
        processes = [here.start(COMMANDS[name]) for name in (first, second)]
        ended = [end(process) for process in processes]
        wrong = [f"{name}: {one.wrong}" for name, one in zip((first, second), ended, strict=True) if one.wrong]
        if all(one.code for one in ended):
            wrong.append(f"neither was done: {ended[0].errors.strip()[-150:]} | {ended[1].errors.strip()[-150:]}")
        wrong += faults(here, house)
        wrong += [f"{path.name} is gone" for path in house.out.results if path.exists() and not _there(here, path)]
        yield f"{first} + {second}", wrong


def _there(here: House, path: Path) -> bool:
    """Evaluation and tuning are of one run: a new run leaves them out."""
    return (here.out.path / path.name).exists() or path.name in {"evaluation.json", "tuning.json"}
