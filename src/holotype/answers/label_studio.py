"""Answers as Label Studio has them: the tasks that it imports, and its exports as JSON, JSON-MIN, CSV and TSV."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from holotype.answers.forms import parse_time, refuse
from holotype.answers.records import Answer, NewAnswer, Verdict
from holotype.errors import AnswersError
from holotype.model.predictions import NONE
from holotype.tables import Table, TextSource, read_text

CHOICE, IMAGE = "class", "image"  # the names of the choice and of the image in the configuration made here
_ALWAYS = {"annotator", "annotation_id", "created_at", "updated_at"}  # columns of its CSV
_OF_TASK = {*_ALWAYS, "lead_time", "agreement", "history", "id", "image", "image_id", "digest", "audited"}
_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what it puts before the name of a file that was uploaded
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_Kind = TypeVar("_Kind")


def label_studio_tasks(
    answers: Iterable[Answer], classes: Sequence[str], url: Callable[[str], str] = str
) -> list[dict[str, Any]]:
    """Return one task per image with an answer about one of `classes`, as Label Studio's JSON import takes them.

    The choice is each class that the image shows, or "none" where no was said to every one of `classes`. An image
    of which less is known is a task without annotation. `meta` keeps each answer with who gave it and when. `data` has
    the digest of the image and the classes that it is audited for: its exports have that in any layout.
    """
    images: dict[tuple[str, str], list[Answer]] = {}
    for answer in answers:
        if answer.label in classes:
            images.setdefault((answer.id, answer.digest), []).append(answer)
    return [_task(name, digest, about, classes, url(name)) for (name, digest), about in images.items()]


def _task(name: str, digest: str, answers: Sequence[Answer], classes: Sequence[str], url: str) -> dict[str, Any]:
    last = sorted((one for one in answers if one.verdict != "withdrawn"), key=lambda one: one.number)
    verdicts: dict[str, Verdict] = {}
    for one in last:
        verdicts.pop(one.label, None)
        verdicts[one.label] = one.verdict
    shown = [label for label, verdict in verdicts.items() if verdict in ("yes", "exemplar")][-1:]  # the last counts
    choices = shown or ([NONE] if all(verdicts.get(label) == "no" for label in classes) else [])
    audited = sorted({label for one in answers for label in one.drawn if label in classes})
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
        "data": task_data(name, digest, url) | ({"audited": audited} if audited else {}),
        "annotations": [{"result": [chosen(choices)]}] if choices else [],
        "meta": {"answers": meta},
    }


def task_data(name: str, digest: str, url: str) -> dict[str, Any]:
    """Return what a task says of its image: where it is, and what it is known by when answers come back."""
    # in an export as JSON-MIN, "id" is Label Studio's own number of the task
    return {IMAGE: url, "id": name, "image_id": name} | ({"digest": digest} if digest else {})


def chosen(choices: Sequence[str]) -> dict[str, Any]:
    """Return the result of a task whose image shows `choices`, as `labelling_config` has the controls."""
    return {"from_name": CHOICE, "to_name": IMAGE, "type": "choices", "value": {"choices": list(choices)}}


def labelling_config(classes: Sequence[str]) -> str:
    """Return the labelling configuration of a project: the image, and one choice of `classes` and "none"."""
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in [*classes, NONE])
    return (
        f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}"/>\n'
        f'  <Choices name="{CHOICE}" toName="{IMAGE}" choice="single">\n{choices}  </Choices>\n</View>\n'
    )


def read_label_studio(source: TextSource, classes: Sequence[str]) -> list[NewAnswer]:
    """Read an export of Label Studio, JSON or JSON-MIN: a class is a yes to it, "none" a no to each of `classes`.

    Of several annotations of one image the newest counts, one that is marked as ground truth before the others. What
    was skipped, is empty or has no choice says nothing; predictions and other controls are not looked at. Tasks that
    were made here and never in Label Studio give back the answers as they were.
    Raises `AnswersError` with the first faults when a single task cannot be understood.
    """
    name, text = read_text(source, AnswersError)
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError):
        tasks = None
    if isinstance(tasks, dict) and "data" in tasks:  # an export of one task
        tasks = [tasks]
    if not isinstance(tasks, list):
        raise AnswersError(
            f"{name}: expected a list of tasks in JSON; export as JSON, JSON-MIN or CSV from Label Studio"
        )
    return answers_of_tasks(name, tasks, classes)


def answers_of_tasks(name: str, tasks: Sequence[object], classes: Sequence[str]) -> list[NewAnswer]:
    """Return the answers of tasks that were read from `name`, as `read_label_studio` does."""
    faults: list[str] = []
    annotations: list[_Annotation] = []
    ours: list[NewAnswer] = []
    for number, task in enumerate(tasks, 1):
        where = f"task {number}"
        try:
            if (kept := _kept(task, where)) is None:
                annotations += _annotations(task, where)
            else:
                ours += kept
        except AnswersError as error:
            faults.append(f"{where}: {error}")
    return ours + _answers(name, annotations, classes, faults)


def named_image(data: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return what the data of a task calls its image, and the digest that it has, "" where it says none.

    Raises `AnswersError` for what no name can be.
    """
    return _code(data, own=("id",)), _text(data.get("digest"))


def is_label_studio(header: Sequence[str]) -> bool:
    """Whether a table with this header is an export of Label Studio."""
    return {*_ALWAYS} <= {*header}


def parse_label_studio(table: Table, classes: Sequence[str]) -> list[NewAnswer]:
    """Return the answers of an export as CSV or TSV, as `read_label_studio` does."""
    faults, annotations = list(table.faults), list[_Annotation]()
    for number, cells in table.lines:
        where = f"line {number}"
        try:
            annotations += _of_record(dict(zip(table.header, cells, strict=True)), where, has_own_id=False)
        except AnswersError as error:
            faults.append(f"{where}: {error}")
    return _answers(table.name, annotations, classes, faults)


@dataclass(frozen=True)
class _Annotation:
    """What was chosen of one image, in whichever layout it came.

    code      what the image is called; None where the task does not say
    choices   by the name of the control
    audited   classes that the image is audited for
    truth     it is marked as the right one of several
    """

    where: str
    code: str | None
    choices: Mapping[str, Sequence[object]]
    who: str
    when: datetime | None
    digest: str
    audited: Sequence[str]
    truth: bool = False

    def answers(self, control: str, classes: Sequence[str]) -> list[NewAnswer]:
        choices = self.choices.get(control)
        if not choices:
            return []
        verdicts = _verdicts(control, choices, classes)
        if self.code is None:
            raise AnswersError("expected the id of the image as data.image_id, got none; import the tasks made here")
        if "yes" in verdicts.values():  # a yes to one class is a miss in the audit of another
            misses: dict[str, Verdict] = dict.fromkeys((one for one in self.audited if one in classes), "no")
            verdicts = misses | verdicts
        return [
            NewAnswer(self.code, label, verdict, self.who, label in self.audited, self.when, self.digest, self.where)
            for label, verdict in sorted(verdicts.items(), key=lambda item: item[1] == "yes")
        ]


def _answers(
    name: str, annotations: Sequence[_Annotation], classes: Sequence[str], faults: Sequence[str]
) -> list[NewAnswer]:
    """Return what the newest annotation of each image says. Raises `AnswersError` with the first faults."""
    control, faults = _control(name, annotations, classes), list(faults)
    newest: dict[str, tuple[tuple[bool, datetime], list[NewAnswer]]] = {}
    for one in annotations:
        try:
            new = one.answers(control, classes)
        except AnswersError as error:
            faults.append(f"{one.where}: {error}")
            continue
        rank = one.truth, one.when or _EARLIEST
        if new and (new[0].id not in newest or newest[new[0].id][0] <= rank):
            newest[new[0].id] = rank, new
    refuse(name, faults)
    return [one for _, new in newest.values() for one in new]


def _control(name: str, annotations: Sequence[_Annotation], classes: Sequence[str]) -> str:
    """Return the name of the control that the choices are made with: ours, else the one that names the classes."""
    chosen: dict[str, list[object]] = {}
    for one in annotations:
        for control, choices in one.choices.items():
            chosen.setdefault(control, []).extend(choices)
    known = [*classes, NONE]
    some = [control for control, choices in chosen.items() if any(choice in known for choice in choices)]
    whole = [control for control in some if all(choice in known for choice in chosen[control])]
    if CHOICE in chosen or not some:
        return CHOICE
    if len(whole or some) > 1:
        raise AnswersError(
            f"{name}: expected one control whose choices are classes, got {', '.join(whole or some)}; call the one "
            f"that counts {CHOICE!r}"
        )
    return (whole or some)[0]


def _verdicts(control: str, choices: Sequence[object], classes: Sequence[str]) -> dict[str, Verdict]:
    for choice in choices:
        if choice not in (*classes, NONE):
            raise AnswersError(f"expected {', '.join([*classes, NONE])} as the choice {control!r}, got {choice!r}")
    if NONE in choices and len(choices) > 1:
        raise AnswersError(f"expected classes or none, got {', '.join(map(str, choices))}")
    return dict.fromkeys(classes, "no") if NONE in choices else dict.fromkeys(cast(list[str], choices), "yes")


def _kept(task: object, where: str) -> list[NewAnswer] | None:
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
            parse_time(_part(one, "when", str)),
            _part(one, "digest", str),
            where,
        )
        for one in answers
    ]


def _annotations(task: object, where: str) -> Iterator[_Annotation]:
    """Yield each annotation of a task in either layout of JSON."""
    data = _part(task, "data", dict)
    if not data:
        yield from _of_record(cast(dict[str, Any], task), where, has_own_id=True)
        return
    kept = _part(_part(task, "meta", dict), "answers", list)
    digest = _text(data.get("digest")) or next((found for one in kept if (found := _part(one, "digest", str))), "")
    audited = _listed(data.get("audited")) or [_part(one, "class", str) for one in kept if _part(one, "audit", bool)]
    for one in _part(task, "annotations", list):
        results = _part(one, "result", list)
        choices: dict[str, list[object]] = {}
        for result in () if _part(one, "was_cancelled", bool) else results:
            value = _part(result, "value", dict)  # a relation between regions has none
            if "choices" in value:
                choices.setdefault(_part(result, "from_name", str), []).extend(_part(value, "choices", list))
        who, truth = _name(one.get("completed_by")), _part(one, "ground_truth", bool)
        yield _Annotation(where, named_image(data)[0], choices, who, _when(one), digest, audited, truth)


def _of_record(record: dict[str, Any], where: str, *, has_own_id: bool) -> Iterator[_Annotation]:
    """Yield what a flat record says, if it was annotated: as JSON-MIN or a line of a CSV has it.

    has_own_id   its "id" is Label Studio's number of the task, whatever the task calls so
    """
    if "annotation_id" in record and record["annotation_id"] in (None, ""):
        return
    choices = {key: _listed(value) for key, value in record.items() if key not in _OF_TASK}
    choices = {key: found for key, found in choices.items() if found}
    code = _code(record) if has_own_id else _code_of_line(record)
    audited, who = _listed(record.get("audited")), _name(record.get("annotator"))
    yield _Annotation(where, code, choices, who, _when(record), _text(record.get("digest")), audited)


def _listed(value: object) -> list[Any]:
    """Return choices: text is one, several are an object that lists them, or in a CSV the JSON of such an object."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except (RecursionError, ValueError):
            return [value]
    if isinstance(value, dict):
        return list(_part(value, "choices", list))
    if isinstance(value, list):
        return [choice for one in value for choice in (_listed(one) if isinstance(one, dict) else [one])]
    return [value] if isinstance(value, str) and value else []


def _code(data: Mapping[str, Any], own: Sequence[str] = ()) -> str | None:
    """What a task calls its image: its id, else the name of the file that it shows."""
    for key in ("image_id", *own):
        value = data.get(key)
        if value is None or value == "":
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise AnswersError(f"expected the id of an image as text or a whole number in {key!r}, got {value!r:.60}")
        return str(value)
    return _code_of_address(_part(data, "image", str)) or None


def _code_of_line(record: Mapping[str, str]) -> str | None:
    """In a CSV "id" is what the task calls so, or, where it calls nothing so, Label Studio's number of the task."""
    code, name = _code(record), record.get("id", "")
    if code is None or (name and not name.isdecimal() and not record.get("image_id")):
        return None if name.isdecimal() else name or None
    return code


def _code_of_address(address: str) -> str:
    """Return the name of the file at an address; of anything else, all of it."""
    try:
        parts = urlsplit(address)
        query = parse_qs(parts.query).get("d", [""])[0]  # of a file in its local storage
    except ValueError:
        return address
    if not parts.scheme and not address.startswith("/"):
        return address
    path = query or unquote(parts.path)
    last = path.rpartition("/")[2]
    return _UPLOADED.sub("", last, count=1) if "/upload/" in path and _UPLOADED.match(last) else last


def _when(annotation: Mapping[str, Any]) -> datetime | None:
    return parse_time(_text(annotation.get("updated_at")) or _text(annotation.get("created_at")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _name(person: object) -> str:
    """Return who annotated: an address, or a number."""
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    return "" if person in (None, "{}") else str(person)


def _part(holder: object, key: str, kind: type[_Kind]) -> _Kind:
    """Return what an object of JSON has under `key`; something empty where it has nothing."""
    value = holder.get(key) if isinstance(holder, dict) else holder
    value = kind() if value is None else value
    if not isinstance(holder, dict) or not isinstance(value, kind):
        raise AnswersError(f"expected an object with {key!r} of type {kind.__name__}, got {value!r:.60}")
    return value
