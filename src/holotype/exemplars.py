"""Exemplars: the pictures that define the classes, from the pool or from files."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from holotype.errors import ExemplarError, PoolError, UnreadableImage
from holotype.images import SUFFIXES, decode
from holotype.pool import Pool


@dataclass(frozen=True)
class Exemplar:
    """One picture of class number `label`; `row` is its place in the pool, None for a file from outside."""

    name: str
    label: int
    row: int | None
    data: bytes

    @property
    def key(self) -> str:
        """What its vector is kept under when it is not in the pool: its content, as a file may change."""
        return f"file:{hashlib.sha256(self.data).hexdigest()[:16]}"


def resolve(pool: Pool, exemplars: Mapping[str, Sequence[str]]) -> list[Exemplar]:
    """Find each exemplar by pool id or path, in the order of the classes.

    Raises `ExemplarError` for one that is unknown, unreadable, or given for two classes.
    """
    if not exemplars:
        raise ExemplarError("expected at least one class with an exemplar, got none")
    if "none" in exemplars:
        raise ExemplarError('"none" is the name of the rejected class; call the class something else')
    found = [
        _resolve(pool, label, name, str(code))
        for label, (name, codes) in enumerate(exemplars.items())
        for code in ([codes] if isinstance(codes, str) else codes)
    ]
    classes = list(exemplars)
    for number, name in enumerate(classes):
        if not any(exemplar.label == number for exemplar in found):
            raise ExemplarError(f"class {name!r} has no exemplar; give at least one, {name}=ID or {name}=path/to.jpg")
    owner: dict[bytes, Exemplar] = {}
    for exemplar in found:
        other = owner.setdefault(exemplar.data, exemplar)
        if other.label != exemplar.label:
            raise ExemplarError(
                f"the same image ({exemplar.name}) is an exemplar of {classes[other.label]!r} and of "
                f"{classes[exemplar.label]!r}; it can stand for one class only"
            )
    return found


def read_folder(folder: Path) -> dict[str, list[str]]:
    """Read `folder/<class>/*.jpg` as class -> paths. Raises `ExemplarError` when there is none."""
    found = {
        sub.name: [str(path) for path in sorted(sub.iterdir()) if path.suffix.lower() in SUFFIXES]
        for sub in sorted(folder.iterdir() if folder.is_dir() else [])
        if sub.is_dir()
    }
    if not any(found.values()):
        raise ExemplarError(f"expected exemplars as {folder}/<class>/<image>, found none")
    return found


def _resolve(pool: Pool, label: int, name: str, code: str) -> Exemplar:
    try:
        row: int | None = pool.row(code)
    except PoolError as error:
        if not Path(code).is_file():
            raise ExemplarError(f"exemplar {name}={code}: {error}, nor is it a file") from None
        row = None
    try:
        data = pool.read(row) if row is not None else Path(code).read_bytes()
        decode(data, fit=64)
    except (UnreadableImage, OSError) as error:
        raise ExemplarError(f"exemplar {name}={code} is unreadable: {error}") from None
    return Exemplar(code if row is None else pool.ids[row], label, row, data)
