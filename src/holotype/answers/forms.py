"""Answers as a CSV: a form that is filled in, or an export."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import cast

from holotype.answers.records import Answer, NewAnswer, Verdict, utc
from holotype.errors import AnswersError
from holotype.model.predictions import csv_line
from holotype.pool.pool import Pool
from holotype.tables import Table, TextSource, read_table

CSV_COLUMNS = ("id", "class", "answer", "when", "who", "audit", "digest")
NEEDED_COLUMNS = ("id", "class", "answer")
SPARE_COLUMNS = ("path", "digest")  # of a form; who adds a line may leave them out
FORM_COLUMNS = NEEDED_COLUMNS + SPARE_COLUMNS
FAULTS_NAMED = 5  # faults of a file that are told at once

# the keys of the page, and what spreadsheets make of yes and no
_WORDS = {"y": "yes", "n": "no", "u": "unsure"} | dict.fromkeys(("1", "1.0", "true"), "yes")
_WORDS |= dict.fromkeys(("0", "0.0", "false"), "no")


def read_csv(source: TextSource) -> list[NewAnswer]:
    """Read answers from a CSV: the columns id, class, answer and, where known, when, who, audit, digest, in any order.

    A column `path`, as a form has it, helps who fills it in, and is not read.

    A line without an answer says nothing, as in a form that is filled in half. Commas, semicolons or tabs separate.

    Raises `AnswersError` with the first faults when a single line cannot be understood.
    """
    return parse_csv(read_table(source, is_form, AnswersError, spare=SPARE_COLUMNS))


def is_form(header: Sequence[str]) -> bool:
    """Whether a table with this header is one of answers."""
    return {*NEEDED_COLUMNS} <= {title.casefold() for title in header}


def parse_csv(table: Table) -> list[NewAnswer]:
    """Return the answers of a table, as `read_csv` does."""
    header, faults = _checked_header(table), list(table.faults)
    found: list[NewAnswer] = []
    for number, cells in table.lines:
        try:
            new = _from_cells(dict(zip(header, cells, strict=True)), f"line {number}")
            found += [] if new is None else [new]
        except AnswersError as error:
            faults.append(f"line {number}: {error}")
    refuse(table.name, sorted(faults, key=_line))
    return found


def _line(fault: str) -> int:
    return int(fault.partition(":")[0].removeprefix("line "))


def write_csv(answers: Iterable[Answer | NewAnswer]) -> str:
    """Return a CSV that `read_csv` takes back exactly."""
    # An id may begin with "=", which a spreadsheet takes for a formula. It is data and is kept as it is: a mark
    # before it would make it the id of no image.
    rows = [
        [
            one.id,
            one.label,
            one.verdict,
            utc(one.when).isoformat() if one.when else "",
            one.who,
            int(one.audit),
            one.digest,
        ]
        for one in answers
    ]
    return "".join(csv_line(row) for row in [CSV_COLUMNS, *rows])


def form_lines(asked: Iterable[tuple[int, str]], pool: Pool) -> Iterator[str]:
    """Yield the lines of a form that is to be filled in; `asked`: rows of `pool`, each with a class."""
    yield ",".join(FORM_COLUMNS)
    for row, label in asked:
        yield csv_line([pool.ids[row], label, "", pool.path(row), pool.digest(row)]).rstrip("\r\n")


def refuse(name: str, faults: Sequence[str]) -> None:
    """Raise `AnswersError` with the first of `faults`, if there are any."""
    if not faults:
        return
    raise AnswersError(f"{name}: {name_some(faults)}. Nothing was taken: correct it and give it again")


def name_some(faults: Sequence[str]) -> str:
    """Return the first of `faults`, and how many there are more."""
    more = f"; and {len(faults) - FAULTS_NAMED} more" if len(faults) > FAULTS_NAMED else ""
    return f"{'; '.join(faults[:FAULTS_NAMED])}{more}"


def parse_time(text: str) -> datetime | None:
    """Return the time of `text`, None where it is empty. Raises `AnswersError` for what is none, or has no zone."""
    if not text.strip():
        return None
    try:
        return utc(datetime.fromisoformat(text.strip()))
    except ValueError:
        raise AnswersError(f"expected a time such as 2026-05-01T12:00:00Z, got {text!r}") from None


def _checked_header(table: Table) -> list[str]:
    header = [title.casefold() for title in table.header]
    if len({*header}) != len(header) or not {*NEEDED_COLUMNS} <= {*header} <= {*CSV_COLUMNS, *FORM_COLUMNS}:
        raise AnswersError(
            f"{table.name}: expected the columns {', '.join(NEEDED_COLUMNS)} and, where known, when, who, audit, "
            f"digest; got {', '.join(table.header) or 'an empty file'}. Name them so, with commas between"
        )
    return header


def _from_cells(cells: dict[str, str], where: str) -> NewAnswer | None:
    """What a line says; nothing where its answer is yet to be filled in."""
    row = dict.fromkeys(CSV_COLUMNS, "") | cells
    audit, verdict = (_WORDS.get(word, word) for word in (row[key].strip().lower() for key in ("audit", "answer")))
    if audit not in ("", "no", "yes"):
        raise AnswersError(f"expected 0 or 1 as audit, got {row['audit']!r}")
    if not verdict:
        return None
    return NewAnswer(
        row["id"],
        row["class"],
        cast(Verdict, verdict),
        row["who"],
        audit == "yes",
        parse_time(row["when"]),
        row["digest"].strip(),
        where,
    )
