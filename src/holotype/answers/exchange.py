"""Answers of a file, whichever it is: a CSV made here or by hand, or an export of Label Studio."""

from collections.abc import Sequence
from pathlib import Path

from holotype.answers.forms import SPARE_COLUMNS, is_form, parse_csv
from holotype.answers.label_studio import is_label_studio, parse_label_studio, read_label_studio
from holotype.answers.records import NewAnswer
from holotype.errors import AnswersError
from holotype.tables import read_table


def read_answers(path: Path, classes: Sequence[str]) -> list[NewAnswer]:
    """Read answers about `classes` from a file: .json is Label Studio's, of a table its columns say what it is.

    Raises `AnswersError` with what was expected, and the lines that are at fault.
    """
    if path.suffix.lower() == ".json":
        return read_label_studio(path, classes)
    table = read_table(
        path, lambda header: is_form(header) or is_label_studio(header), AnswersError, spare=SPARE_COLUMNS
    )
    return parse_label_studio(table, classes) if is_label_studio(table.header) else parse_csv(table)
