"""Environments that hold some installed distributions, with what they need, and nothing else."""

import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def closure(names: Iterable[str]) -> dict[str, Distribution]:
    """Return the distributions `names` and all that they need, by name, without what only extras need."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        one = distribution(waiting.pop())
        if found.setdefault(one.metadata["Name"].lower(), one) is one:
            needed = [Requirement(text) for text in one.requires or ()]
            waiting += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def link(distributions: Iterable[Distribution], site: Path) -> None:
    """Let what `distributions` installed be found in the folder `site` too."""
    for one in distributions:
        for top in {file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "__pycache__")}:
            place, there = site / top, Path(str(one.locate_file(top)))
            if there.exists() and not place.exists():
                place.symlink_to(there)


def size_of(one: Distribution) -> int:
    """Return the bytes of what a distribution installed."""
    paths = (Path(str(one.locate_file(file))) for file in one.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def new_environment(folder: Path, distributions: Iterable[Distribution]) -> Path:
    """Make an environment in `folder` with `distributions` alone; return the folder of its programs."""
    import venv

    venv.create(folder, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    link(distributions, folder / "lib" / version / "site-packages")
    return folder / "bin"
