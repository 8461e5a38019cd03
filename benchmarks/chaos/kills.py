"""Every command that writes, killed at a random moment: what was there is still there, and the same command goes on."""

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from benchmarks.chaos.after import after, undisturbed
from benchmarks.chaos.house import COMMANDS, House, end


def trials(house: House, scratch: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield what was killed and what was wrong after it, `count` times; the commands take turns."""
    dice = random.Random(seed)
    names, place = list(COMMANDS), scratch / "here"
    known = lru_cache(lambda name: undisturbed(house, place, name))
    for trial in range(count):
        name = names[trial % len(names)]
        before = known(name)
        here = house.copy(place)
        process = here.start(COMMANDS[name])
        with suppress(subprocess.TimeoutExpired):
            process.wait(dice.uniform(0, before.seconds))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        yield name, after(here, house, name, before.results, end(process))
