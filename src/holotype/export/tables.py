"""The labels of a run as one table: CSV, Parquet, or JSON line by line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

from holotype import files
from holotype.export.selection import EXPORT_COLUMNS
from holotype.model.predictions import csv_line

if TYPE_CHECKING:
    import pyarrow as pa

TableFormat = Literal["csv", "parquet", "jsonl"]
TABLE_FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)


def write_table(path: Path, layout: TableFormat, table: "pa.Table") -> None:
    """Write the columns of `table` to `path`, whole or not at all. Raises `OutputError`.

    In a CSV what is not known is empty, and a name that begins with "=" stays as it is: it is data, and a mark before
    it would make it another.
    """
    files.write(path, lambda file: write_into(file, layout, table))


def write_into(file: BinaryIO, layout: TableFormat, table: "pa.Table") -> None:
    """Write the same into an open file."""
    import pyarrow.parquet as pq

    if layout == "parquet":
        pq.write_table(table, file)
        return
    if layout == "csv":
        file.write(csv_line(table.column_names).encode())
    for record in records(table):
        line = csv_line(list(record.values())) if layout == "csv" else f"{json.dumps(record, ensure_ascii=False)}\n"
        file.write(line.encode(errors="backslashreplace"))


def records(table: "pa.Table") -> Iterator[dict[str, Any]]:
    """Yield each line of a table, with little of it in memory at once."""
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()


def of_columns(table: "pa.Table") -> "pa.Table":
    """Return the columns of a table of selected images that are handed on."""
    return table.select(list(EXPORT_COLUMNS))


def without_nulls(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of an image."""
    return {name: value for name, value in record.items() if value not in (None, "")}
