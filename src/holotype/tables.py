"""Tables of text that people hand in, as spreadsheets and other tools write them: encoding and separator are found."""

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from holotype.errors import HolotypeError
from holotype.pointers import refuse_pointer

TextSource = Path | str | TextIO
SEPARATORS = ",;\t|"
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Table:
    """A table of text.

    name     of the file
    header   the names of its columns; columns without a name or a value are left out
    lines    (number, cells) of each line that is not blank: the number that it begins at
    faults   lines that are none of a table, each in words
    """

    name: str
    header: list[str]
    lines: list[tuple[int, list[str]]]
    faults: list[str]


def read_table(
    source: TextSource, fits: Callable[[Sequence[str]], bool], error: type[HolotypeError], *, spare: Sequence[str] = ()
) -> Table:
    """Read a table whose cells are separated by commas, semicolons, tabs or bars, in UTF-8 or UTF-16.

    fits    whether a header is the one that is expected: the first separator that leads to such is taken, else a comma
    error   what is raised where the file cannot be read
    spare   last columns of these names may be missing from a line
    """
    name, text = read_text(source, error)
    tables = (_parse(name, text, separator, spare) for separator in SEPARATORS)
    first = next(tables)
    return first if fits(first.header) else next((table for table in tables if fits(table.header)), first)


def read_text(source: TextSource, error: type[HolotypeError]) -> tuple[str, str]:
    """Return a name for `source` and its text, in UTF-8 or UTF-16. Raises `error`."""
    name = str(source) if isinstance(source, (str, Path)) else str(getattr(source, "name", "the file"))
    if isinstance(source, (str, Path)):
        refuse_pointer(Path(source), error)
    try:
        content = Path(source).read_bytes() if isinstance(source, (str, Path)) else source.read()
    except OSError as fault:
        raise error(f"cannot read {name}: {fault.strerror}; give the path of a file that can be read") from fault
    try:
        return name, (content.decode(_encoding(content)) if isinstance(content, bytes) else content).removeprefix(
            "\ufeff"
        )
    except UnicodeDecodeError as fault:
        raise error(f"{name}: expected text in UTF-8, got other bytes; save it as UTF-8 (CSV UTF-8)") from fault


def _encoding(content: bytes) -> str:
    """By the mark at its start; without one, UTF-16 shows by the zeros in the first letters."""
    marked = next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), None)
    if marked or len(content) < 4:
        return marked or "utf-8"
    zeros = [byte == 0 for byte in content[:4]]
    if zeros == [False, True] * 2:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False] * 2 else "utf-8"


def _parse(name: str, text: str, separator: str, spare: Sequence[str]) -> Table:
    skipped = 0
    if text[:5].lower() == f"sep={separator}":  # as a spreadsheet notes its separator, in a line before the header
        skipped, text = 1, text.partition("\n")[2]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    lines: list[tuple[int, list[str]]] = []
    faults: list[str] = []
    try:
        for number, cells in _numbered(reader):
            if header is None:
                header = [cell.strip() for cell in cells]
            elif [cell.strip() for cell in cells] != header:  # two files in one have two headers
                lines.append((number + skipped, cells))
    except csv.Error as fault:
        faults.append(f"line {reader.line_num + skipped}: expected a line of a CSV, got {fault}")
    return _without_empty(Table(name, header or [], lines, faults), spare)


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each line that is not blank with the number that the line begins at."""
    begin = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield begin, cells
        begin = reader.line_num + 1


def _without_empty(table: Table, spare: Sequence[str]) -> Table:
    """Leave out columns without a name, which spreadsheets leave behind; a value in one is a fault of its line."""
    named = [place for place, title in enumerate(table.header) if title]
    header = [table.header[place] for place in named]
    lines, faults = [], list(table.faults)
    for number, cells in table.lines:
        kept = [cells[place] for place in named if place < len(cells)]
        extra = [cell for place, cell in enumerate(cells) if place not in named and cell.strip()]
        if all(title in spare for title in header[len(kept) :]):
            kept += [""] * (len(header) - len(kept))
        if len(kept) == len(header) and not extra:
            lines.append((number, kept))
        else:
            faults.append(
                f"line {number}: expected {len(header)} values ({', '.join(header)}), got {len(kept) + len(extra)}"
            )
    return Table(table.name, header, lines, faults)
