"""What is left after an accident: nothing is lost, nothing is silently other, and the same command goes on."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos.changes import vectors
from benchmarks.chaos.house import COMMANDS, TOLD, Ended, House, faults

SAME = (  # files whose bytes the same command leaves again
    "groups.parquet",
    "arrays.safetensors",
    "predictions.csv",
    "unreadable.csv",
    "exported.csv",
    "predicted.csv",
    "sheet.png",
)
LEFT = (".lock", ".lock.holder")  # what may stay beside the results


@dataclass(frozen=True)
class Undisturbed:
    """Seconds that a command takes, and what it leaves where nothing happens to it."""

    seconds: float
    results: Mapping[str, Any]


def undisturbed(house: House, place: Path, name: str, environment: Mapping[str, str] | None = None) -> Undisturbed:
    """Do a command at `place`: where vectors are kept depends on the place."""
    here = house.copy(place)
    started = time.perf_counter()
    ended = here.do(COMMANDS[name], environment)
    if ended.code:
        raise SystemExit(f"{name} fails without an accident: {ended.errors}")
    return Undisturbed(time.perf_counter() - started, results(here))


def after(here: House, before: House, name: str, wanted: Mapping[str, Any], ended: Ended) -> list[str]:
    """Say what is wrong: at once, with the same command again, and with what that leaves."""
    wrong = [ended.wrong] if ended.wrong else []
    if ended.code == 0:
        wrong += [f"silently other, exit 0: {path}" for path in _unlike(wanted, results(here))]
    wrong += faults(here, before)
    again = here.do(COMMANDS[name])
    if again.code:
        wrong.append(f"the same command again: exit {again.code}, {again.errors.strip()[-TOLD:]}")
    wrong += [f"{path} differs from what an undisturbed {name} leaves" for path in _unlike(wanted, results(here))]
    return wrong + [f"{path} is left over" for path in left_over(here)]


def results(house: House) -> dict[str, Any]:
    """What a command leaves that the same command leaves again: by path, its content or what counts of it."""
    found: dict[str, Any] = {"answers": house.answers()}
    for path in sorted(house.root.rglob("*")):
        where = str(path.relative_to(house.root))
        if path.name in SAME:
            found[where] = path.read_bytes()
        elif path.name == "img_emb":  # however they are divided into shards
            found[where] = {name: vector.tobytes() for name, vector in vectors(path.parent)}
        elif path.name in ("metrics.json", "evaluation.json", "tuning.json"):
            found[where] = _without_seconds(json.loads(path.read_text(encoding="utf-8")))
    return found


def _without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_seconds(one) for key, one in value.items() if "seconds" not in key}
    return [_without_seconds(one) for one in value] if isinstance(value, list) else value


def _unlike(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return [path for path in wanted if wanted[path] != found.get(path)]


def left_over(house: House) -> list[str]:
    """Half-written files and folders that nothing would ever remove."""
    inside = [path for folder in ("out", "new", "vectors") for path in (house.root / folder).rglob(".*")]
    return [str(path.relative_to(house.root)) for path in inside if path.name not in LEFT]
