"""Descriptions: the words that define a class, in place of pictures or beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holotype.errors import ExemplarError
from holotype.names import printable, same_name
from holotype.pool.exemplars import Exemplar, add, check_class_names
from holotype.tables import read_table

_COLUMNS = ("class", "text")


@dataclass(frozen=True)
class Description:
    """What class number `label` looks like, in words."""

    text: str
    label: int


def describe(
    exemplars: Mapping[str, Sequence[str]] | None, descriptions: Mapping[str, Sequence[str]] | None
) -> tuple[list[str], list[Description]]:
    """Return the classes, those of `exemplars` first, and what describes them, each text once.

    Raises `ExemplarError` for a description that is empty or no text, and for one that is given to two classes.
    """
    if descriptions is not None and not isinstance(descriptions, Mapping):
        raise ExemplarError(
            'expected the descriptions of each class, as {"cat": ["a cat"]}, got '
            f"{type(descriptions).__name__}: {descriptions!r:.60}"
        )
    pictured = exemplars if isinstance(exemplars, Mapping) else {}
    texts = {same_name(name, pictured): own for name, own in (descriptions or {}).items()}
    classes = [*pictured, *(name for name in texts if name not in pictured)]
    check_class_names(classes)
    given = {name: _listed(name, own) for name, own in texts.items()}
    found = [Description(_checked(name, text), k) for k, name in enumerate(classes) for text in given.get(name, ())]
    owners: dict[str, int] = {}
    for one in found:
        if (owner := owners.setdefault(one.text.casefold(), one.label)) != one.label:
            raise ExemplarError(
                f"the same words ({one.text!r}) describe {classes[owner]!r} and {classes[one.label]!r}; they can stand "
                "for one class only"
            )
    return classes, list(dict.fromkeys(found))


def check_defined(classes: Sequence[str], exemplars: Sequence[Exemplar], descriptions: Sequence[Description]) -> None:
    """Raise `ExemplarError` for a class that neither a picture nor words define."""
    defined = {one.label for one in exemplars} | {one.label for one in descriptions}
    for k, name in enumerate(classes):
        if k not in defined:
            raise ExemplarError(f"class {name!r} has no exemplar and no words: give at least one of them")


def _listed(name: str, own: Any) -> Sequence[str]:
    if isinstance(own, str):
        return [own]
    if not isinstance(own, Sequence):
        raise ExemplarError(f"expected words that say what {name!r} looks like, got {own!r}")
    return own


def texts_of(descriptions: Sequence[Description], classes: int) -> list[list[str]]:
    """Return per class the words that describe it."""
    return [[one.text for one in descriptions if one.label == k] for k in range(classes)]


def read_descriptions(path: Path) -> dict[str, list[str]]:
    """Read a CSV with the columns class and text: class -> texts. Raises `ExemplarError`."""
    table = read_table(path, lambda header: set(_COLUMNS) <= set(header), ExemplarError)
    if missing := [name for name in _COLUMNS if name not in table.header]:
        raise ExemplarError(f"expected the columns class and text in {path}, found no {' and no '.join(missing)}")
    if table.faults:
        raise ExemplarError(f"{path}: {table.faults[0]}; put a text with a comma in it in quotes")
    places = [table.header.index(name) for name in _COLUMNS]
    found: dict[str, list[str]] = {}
    for number, cells in table.lines:
        name, text = (cells[place].strip() for place in places)
        if not name or not text:
            raise ExemplarError(f"{path}, line {number}: expected a class and its words, got {cells}")
        add(found, name, text)
    if not found:
        raise ExemplarError(f"expected a class and its words in each line of {path}, found no line")
    return found


def _checked(name: str, text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ExemplarError(f"expected words that say what {name!r} looks like, got {text!r}")
    return printable(" ".join(text.split()))
