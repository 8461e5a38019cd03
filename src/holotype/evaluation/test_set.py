"""The labelled rows that a model is judged on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from holotype.errors import PoolError, TestSetError
from holotype.model.predictions import NONE
from holotype.names import composed
from holotype.pool.pool import Pool
from holotype.tables import read_table

ID_COLUMNS = ("index", "id", "path", "file", "filename", "image")
LABEL_COLUMNS = ("label", "class")
VALUES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}  # the last as spreadsheets write them, in capitals
IDS_NAMED = 10  # unknown ids that an error names


@dataclass(frozen=True)
class TestSet:
    """The labelled rows.

    rows   (n,) places in the pool
    ids    (n,) the pool's ids of those rows
    truth  (n, K) int64 of 0 and 1, at most one 1 in a row; all zeros is "none"
    """

    __test__ = False

    rows: list[int]
    ids: list[str]
    truth: NDArray[np.int64]


def read_test_set(path: Path, classes: Sequence[str], pool: Pool) -> TestSet:
    """Read a CSV of labelled images of `pool`.

    It has a column that names the image (`index`, `id`, `path`, `file`, `filename` or `image`) and either one column of
    0 and 1 for each class, a row of zeros being "none", or a column `label` (or `class`) with a class or "none"; the
    columns in any order. It may come from a spreadsheet (`tables.read_table`). Raises `TestSetError`.
    """
    table = read_table(path, lambda header: _places(header, classes) is not None, TestSetError)
    if not table.lines and not table.faults:
        got = "only a header" if table.header else "an empty file"
        raise TestSetError(f"{path}: expected a header and at least one labelled row, got {got}")
    key, columns = _columns(path, table.header, classes)
    if table.faults:
        raise TestSetError(f"{path}, {table.faults[0]}")
    codes = [(number, cells[key]) for number, cells in table.lines]
    one_hot = composed(table.header[columns[0]]) in map(composed, classes)
    values = _values if one_hot else _values_of_label
    truth = [
        values(f"{path}, line {number}", [cells[column].strip() for column in columns], classes)
        for number, cells in table.lines
    ]
    rows = _rows(path, codes, pool)
    return TestSet(rows, [pool.ids[row] for row in rows], np.array(truth, np.int64))


def _columns(path: Path, header: list[str], classes: Sequence[str]) -> tuple[int, list[int]]:
    """Return the place of the id column, and of each class's column, or of that of labels. Raises `TestSetError`."""
    places = _places(header, classes)
    if places is None:
        raise TestSetError(
            f"{path}: expected the columns index (or id), {', '.join(classes)}; got {', '.join(header)}. "
            "Name one column for each class, exactly as the class is named, with commas between; or two columns, "
            "filename and label, with a class or none as label"
        )
    return places


def _places(header: Sequence[str], classes: Sequence[str]) -> tuple[int, list[int]] | None:
    """The same; None where it is no header of a test set."""
    forms = [composed(name) for name in header]  # a class may be there in another form of Unicode
    wanted = [composed(name) for name in classes]
    keys = [name for name in forms if name in ID_COLUMNS and name not in wanted]
    if len(keys) == 1 and sorted(forms) == sorted([*keys, *wanted]):
        return forms.index(keys[0]), [forms.index(name) for name in wanted]
    labels = [name for name in forms if name in LABEL_COLUMNS and name not in wanted]
    if len(keys) == len(labels) == 1 and len(forms) == 2:
        return forms.index(keys[0]), [forms.index(labels[0])]
    return None


def _values(where: str, cells: list[str], classes: Sequence[str]) -> list[int]:
    for name, cell in zip(classes, cells, strict=True):
        if cell.lower() not in VALUES:
            raise TestSetError(f"{where}: expected 0 or 1 in column {name}, got {cell!r}")
    values = [VALUES[cell.lower()] for cell in cells]
    if sum(values) > 1:
        ones = ", ".join(name for name, value in zip(classes, values, strict=True) if value)
        raise TestSetError(f'{where}: expected at most one 1 in a row (all 0 is "none"), got 1 for {ones}')
    return values


def _values_of_label(where: str, cells: list[str], classes: Sequence[str]) -> list[int]:
    label = composed(cells[0])
    names = [composed(name) for name in classes]
    if label not in names and label.casefold() != NONE:
        raise TestSetError(f"{where}: expected one of {', '.join(classes)}, or none, as label; got {cells[0]!r}")
    return [int(label == name) for name in names]


def _rows(path: Path, codes: list[tuple[int, str]], pool: Pool) -> list[int]:
    """Return the pool row of each code, which stands in a line of the file."""
    rows: dict[int, tuple[int, str]] = {}
    unknown: list[tuple[int, str]] = []
    first = ""
    for line, code in codes:
        try:
            row = pool.row(code)
        except PoolError as error:
            unknown.append((line, code))
            first = first or str(error)
            if len(unknown) == IDS_NAMED:  # looking for near ids is slow in a large pool, and ten tell enough
                break
            continue
        if row in rows:
            other, before = rows[row]
            both = repr(code) if code == before else f"{before!r} and {code!r}"
            raise TestSetError(
                f"{path}: expected each image once, got {both} twice (image {pool.ids[row]}, lines {other} and {line})"
            )
        rows[row] = line, code
    if unknown:
        more = " and perhaps more" if len(unknown) == IDS_NAMED else ""
        names, lines = ", ".join(repr(code) for _, code in unknown), ", ".join(str(line) for line, _ in unknown)
        where = f"line{'s' if len(unknown) > 1 else ''} {lines}"
        raise TestSetError(
            f"{path}: expected ids of the pool, got unknown ids {names} ({where}){more}. The first: {first}. (To "
            "measure on other pictures, put them into the pool as well: nothing is learnt from what is in a test set)"
        )
    return list(rows)
