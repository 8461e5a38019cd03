"""Answers as other tools hold them: CSV, and the tasks and exports of Label Studio."""

import csv
import html
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from holotype.answers.records import Answer, NewAnswer, Verdict, utc
from holotype.errors import AnswersError
from holotype.model.predictions import NONE, csv_line

TextSource = Path | str | TextIO
CSV_COLUMNS = ("id", "class", "answer", "when", "who", "audit", "digest")
NEEDED_COLUMNS = ("id", "class", "answer")
FAULTS_NAMED = 5  # faults of a file that are told at once
CHOICE = "class"  # the name of the choice in Label Studio

_KEYS = {"y": "yes", "n": "no", "u": "unsure"}  # those of the page
_Kind = TypeVar("_Kind")


def read_csv(source: TextSource) -> list[NewAnswer]:
    """Read answers from a CSV: the columns id, class, answer and, where known, when, who, audit, digest, in any order.

    A line without an answer says nothing, as in a form that is filled in half.

    Raises `AnswersError` with the first faults when a single line cannot be taken.
    """
    name, text = _content(source)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found, faults, header = [], [], None
    try:
        for line, cells in _numbered(reader):
            if header is None:
                header = _checked_header(name, cells)
                continue
            try:
                new = _from_cells(header, cells)
                found += [] if new is None else [new]
            except AnswersError as error:
                faults.append(f"line {line}: {error}")
    except csv.Error as error:
        faults.append(f"line {reader.line_num}: expected a line of a CSV, got {error}")
    if header is None and not faults:
        _checked_header(name, [])
    _refuse(name, faults)
    return found


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


def label_studio_config(classes: Sequence[str]) -> str:
    """Return the labelling configuration for a project in Label Studio: which of the classes, or none."""
    choices = "".join(f'    <Choice value="{html.escape(name)}"/>\n' for name in [*classes, NONE])
    return f"""<View>
  <Image name="image" value="$image"/>
  <Choices name="{CHOICE}" toName="image" choice="multiple" required="true">
{choices}  </Choices>
</View>
"""


def label_studio_tasks(
    answers: Iterable[Answer], classes: Sequence[str], url: Callable[[str], str] = str
) -> list[dict[str, Any]]:
    """Return one task per image with an answer about one of `classes`, as Label Studio's JSON import takes them.

    The choice is each class that the image shows, or "none" where no was said to every one of `classes`. An image
    of which less is known is a task without annotation. `meta` keeps each answer with who gave it and when.
    """
    images: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.label in classes:
            images.setdefault(answer.id, []).append(answer)
    return [_task(name, about, classes, url(name)) for name, about in images.items()]


def _task(name: str, answers: Sequence[Answer], classes: Sequence[str], url: str) -> dict[str, Any]:
    last = sorted((one for one in answers if one.verdict != "withdrawn"), key=lambda one: one.number)
    verdicts: dict[str, Verdict] = {}
    for one in last:
        verdicts.pop(one.label, None)
        verdicts[one.label] = one.verdict
    shown = [label for label, verdict in verdicts.items() if verdict in ("yes", "exemplar")][-1:]  # the last counts
    choices = shown or ([NONE] if all(verdicts.get(label) == "no" for label in classes) else [])
    result = {"from_name": CHOICE, "to_name": "image", "type": "choices", "value": {"choices": choices}}
    meta = [
        {
            "class": one.label,
            "answer": one.verdict,
            "when": one.when.isoformat(),
            "who": one.who,
            "audit": one.audit,
        }
        | ({"digest": one.digest} if one.digest else {})
        for one in answers
    ]
    return {
        # in an export as JSON-MIN, "id" is Label Studio's own number of the task
        "data": {"image": url, "id": name, "image_id": name},
        "annotations": [{"result": [result]}] if choices else [],
        "meta": {"answers": meta},
    }


def read_label_studio(source: TextSource, classes: Sequence[str]) -> list[NewAnswer]:
    """Read an export of Label Studio, JSON or JSON-MIN: a class is a yes to it, "none" a no to each of `classes`.

    Of several annotations of one image the newest counts; what was skipped says nothing. Tasks that were made here and
    never in Label Studio give back the answers as they were.
    Raises `AnswersError` with the first faults when a single task cannot be taken.
    """
    name, text = _content(source)
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError):
        tasks = None
    if not isinstance(tasks, list):
        raise AnswersError(f"{name}: expected a list of tasks in JSON; export as JSON or JSON-MIN from Label Studio")
    faults: list[str] = []
    newest: dict[str, tuple[datetime, list[NewAnswer]]] = {}
    ours: list[NewAnswer] = []
    for number, task in enumerate(tasks, 1):
        try:
            if (kept := _kept(task)) is not None:
                ours += kept
                continue
            for image, new, when in _annotations(task, classes):
                if image not in newest or newest[image][0] <= when:
                    newest[image] = when, new
        except AnswersError as error:
            faults.append(f"task {number}: {error}")
    _refuse(name, faults)
    return ours + [one for _, new in newest.values() for one in new]


def _kept(task: object) -> list[NewAnswer] | None:
    """The answers that a task made here keeps; None for one that was in Label Studio, which gives each a number."""
    answers = _part(_part(task, "meta", dict), "answers", list)
    if not answers or (isinstance(task, dict) and "id" in task):
        return None
    image = _part(_part(task, "data", dict), "image_id", str)
    return [
        NewAnswer(
            image,
            _part(one, "class", str),
            cast(Verdict, _part(one, "answer", str)),
            _part(one, "who", str),
            _part(one, "audit", bool),
            _time(_part(one, "when", str)),
            _part(one, "digest", str),
        )
        for one in answers
    ]


def _annotations(task: object, classes: Sequence[str]) -> Iterator[tuple[str, list[NewAnswer], datetime]]:
    """Yield the image, what is said about it, and when, of each annotation of a task in either layout."""
    data = _part(task, "data", dict)
    minimal = not data
    image = _part(task, "image_id", str) if minimal else _part(data, "image_id", str) or _part(data, "id", str)
    if not image:
        raise AnswersError("expected the id of the image as data.image_id, got none; import the tasks made here")
    kept = [] if minimal else _part(_part(task, "meta", dict), "answers", list)
    digest = next((found for one in kept if (found := _part(one, "digest", str))), "")
    for annotation in [cast(dict[str, Any], task)] if minimal else _part(task, "annotations", list):
        choices = _minimal_choices(annotation) if minimal else _choices(annotation)
        when = _time(_part(annotation, "updated_at", str) or _part(annotation, "created_at", str))
        who = annotation.get("annotator" if minimal else "completed_by")
        who = who.get("email") if isinstance(who, dict) else who
        verdicts = _verdicts(choices, classes).items()
        new = [NewAnswer(image, label, one, str(who or ""), when=when, digest=digest) for label, one in verdicts]
        if new:
            yield image, new, when or datetime.min.replace(tzinfo=UTC)


def _choices(annotation: object) -> list[object]:
    results = _part(annotation, "result", list)
    if _part(annotation, "was_cancelled", bool) or not results:
        return []
    ours = [one for one in results if _part(one, "from_name", str) == CHOICE]
    return [choice for one in ours for choice in _part(_part(one, "value", dict), "choices", list)] or [None]


def _minimal_choices(record: dict[str, Any]) -> list[object]:
    """One choice is text; several are an object that lists them."""
    value = record.get(CHOICE)
    return list(_part(value, "choices", list)) if isinstance(value, dict) else [value]


def _verdicts(choices: Sequence[object], classes: Sequence[str]) -> dict[str, Verdict]:
    for choice in choices:
        if choice not in (*classes, NONE):
            raise AnswersError(f"expected {', '.join([*classes, NONE])} as the choice {CHOICE!r}, got {choice!r}")
    if NONE in choices and len(choices) > 1:
        raise AnswersError(f"expected classes or none, got {', '.join(map(str, choices))}")
    return dict.fromkeys(classes, "no") if NONE in choices else dict.fromkeys(cast(list[str], choices), "yes")


def _part(holder: object, key: str, kind: type[_Kind]) -> _Kind:
    """Return what an object of JSON has under `key`; something empty where it has nothing."""
    value = holder.get(key) if isinstance(holder, dict) else holder
    value = kind() if value is None else value
    if not isinstance(holder, dict) or not isinstance(value, kind):
        raise AnswersError(f"expected an object with {key!r} of type {kind.__name__}, got {value!r:.60}")
    return value


def _content(source: TextSource) -> tuple[str, str]:
    """Return a name for `source` and its text."""
    name = str(source) if isinstance(source, (str, Path)) else str(getattr(source, "name", "the file"))
    try:
        text = Path(source).read_bytes().decode() if isinstance(source, (str, Path)) else source.read()
    except OSError as error:
        raise AnswersError(f"cannot read {name}: {error.strerror}; give the path of a file that can be read") from error
    except UnicodeDecodeError as error:
        raise AnswersError(f"{name}: expected text in UTF-8, got other bytes; save it as UTF-8") from error
    return name, text.removeprefix("\ufeff")


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each line that is not blank with the number that the line begins at."""
    begin = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield begin, cells
        begin = reader.line_num + 1


def _checked_header(name: str, header: list[str]) -> list[str]:
    if len({*header}) != len(header) or not {*NEEDED_COLUMNS} <= {*header} <= {*CSV_COLUMNS}:
        raise AnswersError(
            f"{name}: expected the columns {', '.join(NEEDED_COLUMNS)} and, where known, when, who, audit, digest; "
            f"got {', '.join(header) or 'an empty file'}. Name them so, with commas between"
        )
    return header


def _from_cells(header: list[str], cells: list[str]) -> NewAnswer | None:
    """What a line says; nothing where its answer is yet to be filled in."""
    if len(cells) != len(header):
        raise AnswersError(f"expected {len(header)} values ({', '.join(header)}), got {len(cells)}")
    row = dict.fromkeys(CSV_COLUMNS, "") | dict(zip(header, cells, strict=True))
    if row["audit"].strip() not in ("", "0", "1"):
        raise AnswersError(f"expected 0 or 1 as audit, got {row['audit']!r}")
    word = row["answer"].strip().lower()
    if not word:
        return None
    verdict = cast(Verdict, _KEYS.get(word, word))
    return NewAnswer(
        row["id"], row["class"], verdict, row["who"], row["audit"].strip() == "1", _time(row["when"]), row["digest"]
    )


def _time(text: str) -> datetime | None:
    if not text.strip():
        return None
    try:
        return utc(datetime.fromisoformat(text.strip()))
    except ValueError:
        raise AnswersError(f"expected a time such as 2026-05-01T12:00:00Z, got {text!r}") from None


def _refuse(name: str, faults: list[str]) -> None:
    if not faults:
        return
    more = f"; and {len(faults) - FAULTS_NAMED} more" if len(faults) > FAULTS_NAMED else ""
    raise AnswersError(
        f"{name}: {'; '.join(faults[:FAULTS_NAMED])}{more}. Nothing was taken: correct it and give it again"
    )
