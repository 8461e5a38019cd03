"""Sphinx extension: docstrings are plain text, with names that are aligned before what they mean; this reads them."""

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

NAMED = re.compile(r"(\S+(?:, \S+)*) {2,}(\S.*)")  # of the aligned lines the first: `ids   (n,) str`
_ARRAY = re.compile(r"~?[\w.]*ndarray\[tuple\[[~\w.]*Any, \.\.\.\], [~\w.]*dtype\[([~\w.]+)\]\]")  # as types print it
DRAWN = ("├", "└", "│")  # a tree of text


def setup(app: Sphinx) -> dict[str, bool]:
    """Take part in the build."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True}


def process(_: Sphinx, what: str, _name: str, documented: Any, _options: Any, lines: list[str]) -> None:
    """Put the lines of a docstring into the form that Sphinx reads."""
    if what == "module":
        lines[:] = drawn(lines)
    elif isinstance(documented, type) and issubclass(documented, BaseModel):
        lines[:] = settings(documented, lines)
    else:
        lines[:] = converted(lines)


def signature(
    _: Sphinx, _what: str, _name: str, documented: Any, _options: Any, arguments: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Return a signature as it is read: of a class the names and defaults, as its docstring says what each is."""
    if not isinstance(documented, type):
        return arguments and plain(arguments), result and plain(result)
    if issubclass(documented, BaseModel | Exception) or getattr(documented, "_is_protocol", False):
        return "", None
    names = [
        one.name if one.default is one.empty else f"{one.name}={shown(one.default)}"
        for one in inspect.signature(documented).parameters.values()
    ]
    keyword = any(one.kind is one.KEYWORD_ONLY for one in inspect.signature(documented).parameters.values())
    return f"({', '.join(['*', *names] if keyword else names)})", None


def plain(types: str) -> str:
    """Return types with the short name of an array."""
    return _ARRAY.sub(r"NDArray[\1]", types)


def converted(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a docstring as reStructuredText: aligned names become a list of definitions."""
    for paragraph in paragraphs(lines):
        found = definitions(paragraph)
        yield from listed([(f"``{name}``", text) for name, text in found]) if found else map(escaped, paragraph)
        yield ""


def paragraphs(lines: Sequence[str]) -> list[list[str]]:
    """Return the lines, one list for each paragraph."""
    return [part.splitlines() for part in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")) if part.strip()]


def definitions(paragraph: Sequence[str]) -> list[tuple[str, str]]:
    """Return (names, meaning) of a paragraph of aligned lines; nothing where it is another."""
    found: list[tuple[str, str]] = []
    for line in paragraph:
        if started := NAMED.fullmatch(line.rstrip()):
            found.append((started[1], started[2]))
        elif found and line.startswith("  "):
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        else:
            return []
    return found


def listed(found: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield a list of definitions."""
    for term, text in found:
        yield from [term, f"    {escaped(text)}"]


def settings(model: type[BaseModel], lines: Sequence[str]) -> Iterator[str]:
    """Yield the docstring of settings, and each of them with its default and its meaning, where one is written down."""
    # a class that is derived from another repeats its settings; each stands where it is declared
    own = {name: field for name, field in model.model_fields.items() if name in inspect.get_annotations(model)}
    meaning = {name: text for part in paragraphs(lines) for name, text in definitions(part)}
    yield from converted([line for part in paragraphs(lines) if not definitions(part) for line in ("", *part)])
    yield ""
    for name, field in own.items():
        default = "required" if field.is_required() else f"default ``{shown(field.get_default())}``"
        yield f"- ``{name}`` ({default})" + (f": {escaped(meaning[name])}" if name in meaning else "")


def shown(default: Any) -> str:
    """Return a default as it is read."""
    if isinstance(default, BaseModel):
        return f"{type(default).__name__}()"
    return "..." if callable(default) or "<" in repr(default) else repr(default)


def drawn(lines: Sequence[str]) -> Iterator[str]:
    """Yield the docstring of a module: a tree that is drawn stays as it is."""
    for paragraph in paragraphs(lines):
        if any(line.lstrip().startswith(DRAWN) for line in paragraph):
            yield from ["::", "", *(f"    {line}" for line in paragraph), ""]
        else:
            yield from [*map(escaped, paragraph), ""]


def escaped(text: str) -> str:
    """Return text with its code marked as reStructuredText has it, and no other markup."""
    parts = re.split(r"`([^`]*)`", text)
    return "".join(f"``{part}``" if k % 2 else re.sub(r"([\\*|_])", r"\\\1", part) for k, part in enumerate(parts))
