"""Every command that writes, killed at a random moment: what was there is still there, and the same command goes on."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.chaos.house import COMMANDS, House, end, faults

SAME = ("groups.parquet", "arrays.safetensors", "predictions.csv", "exported.csv", "predicted.csv")
LEFT = (".lock", ".lock.holder")  # what may stay beside the results


def trials(house: House, scratch: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield what was killed and what was wrong after it, `count` times; the commands take turns."""
    dice = random.Random(seed)
    names = list(COMMANDS)
    finished: dict[str, tuple[float, Mapping[str, Any]]] = {}
    for trial in range(count):
        name = names[trial % len(names)]
        if name not in finished:
            finished[name] = _undisturbed(
                house, scratch / "killed", name
            )  # where vectors are kept depends on the place
        seconds, wanted = finished[name]
        here = house.copy(scratch / "killed")
        process = here.start(COMMANDS[name])
        with suppress(subprocess.TimeoutExpired):
            process.wait(dice.uniform(0, seconds))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        end(process)
        yield name, _after(here, house, name, wanted)


def _undisturbed(house: House, scratch: Path, name: str) -> tuple[float, Mapping[str, Any]]:
    """Seconds that a command takes, and what it leaves where nothing happens to it."""
    here = house.copy(scratch)
    started = time.perf_counter()
    ended = here.do(COMMANDS[name])
    if ended.code:
        raise SystemExit(f"{name} fails without an accident: {ended.errors}")
    return time.perf_counter() - started, results(here)


def _after(here: House, before: House, name: str, wanted: Mapping[str, Any]) -> list[str]:
    """What is wrong: at once, with the same command again, and with what that leaves."""
    wrong = faults(here, before)
    again = here.do(COMMANDS[name])
    if again.code:
        wrong.append(f"the same command again: exit {again.code}, {again.errors.strip()[-300:]}")
    found = results(here)
    wrong += [f"{path} differs from what an undisturbed {name} leaves" for path in _unlike(wanted, found)]
    return wrong + [f"{path} is left over" for path in _left_over(here)]


def results(house: House) -> dict[str, Any]:
    """What a command leaves that the same command leaves again: by path, its content or what counts of it."""
    found: dict[str, Any] = {"answers": house.answers()}
    for path in sorted(house.root.rglob("*")):
        where = str(path.relative_to(house.root))
        if path.name in SAME or path.name.startswith("img_emb_"):
            found[where] = path.read_bytes()
        elif path.name == "metrics.json":
            found[where] = _without_seconds(json.loads(path.read_text(encoding="utf-8")))
    return found


def _without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_seconds(one) for key, one in value.items() if "seconds" not in key}
    return [_without_seconds(one) for one in value] if isinstance(value, list) else value


def _unlike(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return [path for path in wanted if wanted[path] != found.get(path)]


def _left_over(house: House) -> list[str]:
    """Half-written files and folders that nothing would ever remove."""
    inside = [path for folder in ("out", "new", "vectors") for path in (house.root / folder).rglob(".*")]
    return [str(path.relative_to(house.root)) for path in inside if path.name not in LEFT]
