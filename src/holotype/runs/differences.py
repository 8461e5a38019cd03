"""In what the settings of two runs differ."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from holotype.pool.members import split_suffix
from holotype.pool.sources import is_there
from holotype.settings import Settings


def differences(settings: Settings, known: Settings, called: Callable[[str], str] = str) -> list[str]:
    """Say in which settings a run differs from a `known` one, those that only say where things are left aside.

    called   how a setting is called where it was given
    """
    one, other = _flat(settings.model_dump()), _flat(known.model_dump())
    return [
        f"{called(key)} {_listed(one.get(key))}, was {_listed(other.get(key))}"
        for key in dict.fromkeys([*one, *other])
        if key != "out" and one.get(key) != other.get(key) and not _is_moved(one.get(key), other.get(key))
    ]


def _is_moved(now: Any, before: Any) -> bool:
    """Whether `now` is the place `before`, or may be what was there, where nothing is any more.

    Of images in a pool, whether one name is the end of the other, as when a pool is packed from the folder above.
    """
    if isinstance(now, list) and isinstance(before, list):
        return len(now) == len(before) and all(a == b or _is_moved(a, b) for a, b in zip(now, before, strict=True))
    if not (isinstance(now, str) and isinstance(before, str)):
        return False
    if not Path(before).is_absolute():
        shorter, longer = sorted([_stem(now), _stem(before)], key=len)
        return shorter == longer or longer.endswith(f"/{shorter}")
    same = os.path.realpath(now) == os.path.realpath(before)
    return same or (Path(now).stem == Path(before).stem and not is_there(before))


def _listed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _stem(name: str) -> str:
    return split_suffix(name)[0]


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return found
