"""What is wrong with settings, in words: what was expected, what came, and which name may have been meant."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

_KINDS = {
    "bool": "true or false",
    "dict": "a table of names",
    "finite": "a finite number",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "model": "a table of names",
    "string": "a text",
}
_NAMED, _LENGTH = 5, 80  # how many faults are told, and characters of what was given
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def describe(error: ValidationError, settings: type[BaseModel], called: Callable[[str], str]) -> str:
    """Return what `error` says of `settings`, each called as it was given."""
    faults: dict[str, list[Mapping[str, Any]]] = {}
    for one in error.errors():
        faults.setdefault(called(".".join(_path(one))), []).append(one)
    first = list(faults.items())[:_NAMED]
    said = [f"{_short(name)}{': ' if name else ''}{_described(some, settings, called)}" for name, some in first]
    return "; ".join([*said, *([f"and {len(faults) - _NAMED:,} more"] if len(faults) > _NAMED else [])])


def _path(one: Mapping[str, Any]) -> Iterator[str]:
    """Where a fault is, without the kinds of value that were tried there."""
    for part in map(str, one["loc"]):
        if one["type"] != "extra_forbidden" and not part.replace("_", "a").isalnum():
            return
        yield part


def _short(text: str) -> str:
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 1]}…"


def _described(several: Sequence[Mapping[str, Any]], settings: type[BaseModel], called: Callable[[str], str]) -> str:
    """What is wrong with one setting; `several` where it may be of more than one kind."""
    first = several[0]
    if first["type"] == "extra_forbidden":
        return _unknown(first, settings, called)
    if first["type"] == "missing":
        return "it is missing"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    wanted = list(dict.fromkeys(_expected(one) for one in several))
    return f"expected {' or '.join(wanted)}, got {_shown(first['input'])}"


def _shown(value: Any) -> str:
    try:
        return _short(repr(value))
    except (RecursionError, ValueError):  # a number of more digits than Python prints
        return "something very long"


def _expected(one: Mapping[str, Any]) -> str:
    kind, context = one["type"], one.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"])
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {context[key]:g}"
    if kind == "too_short":
        return f"at least {context['min_length']} of them"
    text = str(one["msg"])
    return _KINDS.get(kind.split("_")[0], text[:1].lower() + text[1:])


def _unknown(one: Mapping[str, Any], settings: type[BaseModel], called: Callable[[str], str]) -> str:
    *above, name = (_short(part) for part in map(str, one["loc"]))
    names = list(_names(_inner(settings, above)))
    likely = get_close_matches(name, names, 2, 0.6)
    if isinstance(one["input"], dict):  # a.b=1, of which b alone may be a setting
        likely += [key for key in one["input"] if key in names]
    leaves = {leaf.rsplit(".", 1)[-1]: leaf for leaf in names}
    likely += [leaves[leaf] for leaf in get_close_matches(name, leaves, 1, 0.8) if leaves[leaf] not in likely]
    if not likely:
        return f"there is no such setting; there are {', '.join(names)}"
    meant = [called(".".join([*above, other])) for other in dict.fromkeys(likely)]
    return f"there is no such setting; did you mean {' or '.join(meant)}?"


def _inner(settings: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    """The settings within `settings` that are at `path`."""
    for name in path:
        inner = settings.model_fields[name].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        settings = inner
    return settings


def _names(settings: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, about in settings.model_fields.items():
        inner = about.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _names(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}"
