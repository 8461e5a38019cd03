"""Answers go to other tools and come back as they were, and a faulty file is refused whole."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from holotype.answers.exchange import read_answers
from holotype.answers.forms import read_csv, write_csv
from holotype.answers.label_studio import label_studio_tasks, read_label_studio
from holotype.answers.log import AnswerLog
from holotype.answers.records import Answer, NewAnswer
from holotype.errors import AnswersError

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
STRANGE = ['=1+1,"x"', " Äpfel\n🍎\r\n;\t", "'--", "007", "a\rb", "\x00\ufeff"]


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[AnswerLog]:
    with AnswerLog(tmp_path / "OUT" / "answers.db") as opened:
        yield opened


def plain(found: list[Answer]) -> list[tuple[str, str, str]]:
    return [(answer.id, answer.label, answer.verdict) for answer in found]


def test_csv_round_trip(answers: AnswerLog) -> None:
    answers.record([NewAnswer(name, f"class {name}", "yes", name, bool(n % 2)) for n, name in enumerate(STRANGE)])
    answers.record([NewAnswer("a", "red", "unsure", when=NOON.astimezone(timezone(timedelta(hours=-7))))])
    written = write_csv(answers.current())
    assert written.startswith("id,class,answer,when,who,audit,digest\n")
    given = read_csv(StringIO(written, newline=""))
    assert given == [NewAnswer(a.id, a.label, a.verdict, a.who, a.audit, a.when, a.digest) for a in answers.current()]
    assert write_csv(given) == written
    assert answers.take(given).new == 0


def test_a_csv_is_taken_once(answers: AnswerLog, tmp_path: Path) -> None:
    answers.add("a", "red", "yes")
    answers.add("b", "red", "exemplar")
    file = tmp_path / "said.csv"
    file.write_bytes(
        b"\xef\xbb\xbfclass,id,answer,when\r\nred,a,YES,\r\n\r\nred,b,Yes,\r\n"
        b"red,c,no,2026-05-01T14:00:00+02:00\r\nred,d,yes,\r\nred,d,no,\r\n,,,\r\n"
    )
    assert answers.take(read_csv(file)).new == 2
    assert plain(answers.current())[2:] == [("c", "red", "no"), ("d", "red", "no")]
    assert answers.current()[2].when == NOON
    assert len({answer.act for answer in answers.current()[2:]}) == 1
    assert answers.take(read_csv(str(file))).new == 0
    assert answers.version == 4


def test_faults_of_a_csv_are_told_by_line_and_nothing_is_read() -> None:
    lines = [
        "id,class,answer,when,who,audit",
        "a,red,yes,,,",
        "b,red,maybe,,,",
        '"two\nlines",red,yes,,,',
        "c,red,yes",
        "d,red,yes,yesterday,,",
        "e,red,yes,2026-05-01,,",
        ",red,yes,,,",
        "f,none,yes,,,",
        "g,red,yes,,,2",
    ]
    with pytest.raises(AnswersError) as fault:
        read_csv(StringIO("\n".join(lines)))
    message = str(fault.value)
    told = [part.split(":")[0] for part in message.removeprefix("the file: ").split("; ") if part.startswith("line")]
    assert told == ["line 3", "line 6", "line 7", "line 8", "line 9"]
    assert "as answer, got 'maybe'; line 6: expected 6 values (id, class, answer, when, who, audit), got 3" in message
    assert "such as 2026-05-01T12:00:00Z, got 'yesterday'" in message
    assert message.endswith("; and 2 more. Nothing was taken: correct it and give it again")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected the columns id, class, answer .* got an empty file"),
        (b"id:class:answer\na:red:yes\n", "got id:class:answer. Name them so, with commas between"),
        (b"id,class,answer,\na,red,yes,pink\n", r"line 2: expected 3 values \(id, class, answer\), got 4"),
        (b"id,class\na,red\n", "got id, class"),
        (b"id,class,answer,colour\n", "colour"),
        (b"id,id,class,answer\n", "got id, id, class, answer"),
        (b'id,class,answer\na,red,yes\n"b,red,yes\n', "expected a line of a CSV"),
        (b"id,class,answer\n\xe4,red,yes\n", "expected text in UTF-8"),
    ],
)
def test_files_that_are_no_csv_of_answers(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "said.csv").write_bytes(content)
    with pytest.raises(AnswersError, match=rf"said\.csv: .*{message}"):
        read_csv(tmp_path / "said.csv")
    with pytest.raises(AnswersError, match=r"cannot read .*: No such file"):
        read_csv(tmp_path / "none.csv")


SHEET = [["id", "class", "answer", "who"], ["a;b", "red", "Yes", "Ärne"], ["c", "red", "NO", ""], ["d", "red", "", ""]]


def as_text(separator: str, end: str = "\r\n", extra: int = 0) -> str:
    buffer = StringIO(newline="")
    table = csv.writer(buffer, delimiter=separator, lineterminator=end)
    table.writerows([*row, *[""] * extra] for row in SHEET)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        as_text(",").encode(),
        as_text(";").encode("utf-8-sig"),
        as_text("\t").encode("utf-16"),
        as_text(";").encode("utf-16-le"),
        as_text("|", "\n").encode("utf-16-be"),
        as_text(",", extra=3).encode(),
        as_text(",", "\r").encode(),
        ("sep=;\r\n" + as_text(";")).encode(),
        as_text(",").replace("id,class", '"ID","Class"').encode(),
        (as_text(",") + as_text(",").splitlines()[0] + "\r\n,,,\r\n\r\n").encode(),
    ],
)
def test_a_csv_is_taken_as_spreadsheets_write_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_bytes(content)
    expected = [NewAnswer("a;b", "red", "yes", "Ärne"), NewAnswer("c", "red", "no")]
    assert read_answers(tmp_path / "sheet.csv", ["red"]) == expected


@pytest.mark.parametrize(
    ("word", "verdict"),
    [(word, "yes") for word in ("1", "TRUE", "y", "1.0", " Yes ")]
    + [(word, "no") for word in ("0", "False", "N", "0.0")],
)
def test_a_yes_and_a_no_are_what_spreadsheets_make_of_them(word: str, verdict: str) -> None:
    assert [one.verdict for one in read_csv(StringIO(f"id,class,answer\na,red,{word}\n"))] == [verdict]


def test_a_digest_at_the_end_of_a_line_may_be_left_out() -> None:
    assert read_csv(StringIO("id,class,answer,digest\na,red,yes\n")) == [NewAnswer("a", "red", "yes")]


def tasks_of(answers: AnswerLog, classes: list[str]) -> StringIO:
    return StringIO(json.dumps(label_studio_tasks(answers.current(), classes)))


def test_label_studio_tasks(answers: AnswerLog) -> None:
    answers.record(
        [
            NewAnswer("a", "red", "yes", "Ada", when=NOON),
            NewAnswer("b", "red", "no"),
            NewAnswer("b", "blue", "no"),
            NewAnswer("c", "red", "unsure"),
            NewAnswer("d", "red", "no"),
            NewAnswer("e", "blue", "exemplar"),
            NewAnswer("f", "blue", "withdrawn"),
            NewAnswer("g", "green", "yes"),
        ]
    )
    tasks = label_studio_tasks(answers.current(), ["red", "blue"], lambda name: f"https://example.org/{name}.jpg")
    assert tasks[0] == {
        "data": {"image": "https://example.org/a.jpg", "id": "a", "image_id": "a"},
        "annotations": [
            {"result": [{"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": ["red"]}}]}
        ],
        "meta": {
            "answers": [
                {"class": "red", "answer": "yes", "when": "2026-05-01T12:00:00+00:00", "who": "Ada", "audit": False}
            ]
        },
    }
    chosen = [[r["value"]["choices"] for a in task["annotations"] for r in a["result"]] for task in tasks]
    assert chosen == [[["red"]], [["none"]], [], [], [["blue"]], []]


def test_label_studio_round_trip(answers: AnswerLog) -> None:
    """What the tasks say comes back as it was, and is not new."""
    classes = ["red", 'a "quoted" <name> & Ä']
    for name in STRANGE:
        answers.add(name, classes[1], "yes")
        answers.record([NewAnswer(f"no {name}", label, "no") for label in classes])
    answers.add("open", "red", "unsure")
    answers.add("both", "red", "yes")
    answers.add("both", classes[1], "exemplar")
    given = read_label_studio(tasks_of(answers, classes), classes)
    said = {(one.id, one.label, one.verdict) for one in given}
    assert said == {*plain(answers.current())}
    assert {(one.id, one.when, one.audit) for one in given} == {
        (one.id, one.when, one.audit) for one in answers.current()
    }
    assert answers.take(given).new == 0
    through = [
        task | {"id": number} for number, task in enumerate(json.loads(tasks_of(answers, classes).getvalue()), 1)
    ]
    given = read_label_studio(StringIO(json.dumps(through)), classes)
    assert {(one.id, one.label, one.verdict) for one in given} == said - {
        ("open", "red", "unsure"),
        ("both", "red", "yes"),  # of two classes the last counts
        ("both", classes[1], "exemplar"),
    } | {("both", classes[1], "yes")}
    assert answers.take(given).new == 0


def annotation(choices: list[str], **more: Any) -> dict[str, Any]:
    result = {"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": choices}, "id": "x"}
    return {"id": 1001, "result": [result], "was_cancelled": False, "completed_by": 10, **more}


def test_an_export_of_label_studio() -> None:
    """Its own number of a task is no id of an image, and in JSON-MIN it takes the place of one."""
    old, new = "2026-05-01T12:00:00.000000Z", "2026-05-02T12:00:00.000000Z"
    full = [
        {"id": 1, "data": {"image": "u", "id": "a", "image_id": "a"}, "annotations": [annotation(["red"])]},
        {
            "id": 2,
            "data": {"image": "u", "id": "b"},
            "annotations": [annotation(["none"], completed_by={"email": "@"})],
        },
        {"id": 3, "data": {"image_id": "c"}, "annotations": [annotation(["red"], was_cancelled=True)], "meta": {}},
        {
            "id": 4,
            "data": {"image_id": "d"},
            "annotations": [annotation(["red"], created_at=new), annotation(["none"], created_at=old)],
        },
    ]
    minimal = [
        {"image": "u", "id": 1, "image_id": "a", "class": "red", "annotator": 10, "annotation_id": 1001},
        {"image": "u", "id": 2, "image_id": "b", "class": "none", "annotator": "@"},
        {"image": "u", "id": 4, "image_id": "d", "class": "red", "annotator": 10, "created_at": new},
        {"image": "u", "id": 4, "image_id": "d", "class": "none", "annotator": 10, "created_at": old},
    ]
    expected = [
        NewAnswer("a", "red", "yes", "10"),
        NewAnswer("b", "red", "no", "@"),
        NewAnswer("b", "blue", "no", "@"),
        NewAnswer("d", "red", "yes", "10", when=NOON + timedelta(1)),
    ]
    for tasks in [full, minimal]:
        assert read_label_studio(StringIO(json.dumps(tasks)), ["red", "blue"]) == expected
    both = StringIO(json.dumps([{"id": 1, "image_id": "a", "class": {"choices": ["red", "blue"]}}]))
    assert [one.label for one in read_label_studio(both, ["red", "blue"])] == ["red", "blue"]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"data": {"image_id": "a"}, "annotations": [annotation(["pink"])]}, "red, none as the choice .* 'pink'"),
        ({"data": {"image_id": "a"}, "annotations": [annotation(["red", "none"])]}, "expected classes or none"),
        ({"data": {"image_id": "a"}, "annotations": [{"result": "red"}]}, "'result' of type list, got 'red'"),
        ({"data": {"image_id": "a"}, "annotations": [7]}, "an object with 'result' .* got 7"),
        ({"data": {"image_id": "a"}, "annotations": [annotation(["red"], created_at="soon")]}, "a time such as"),
        ({"id": "a", "class": "red"}, r"the id of the image as data\.image_id, got none"),
        ({"image_id": 7.5, "class": "red"}, "text or a whole number in 'image_id', got 7.5"),
        ({"image_id": "a", "class": "pink"}, "'pink'"),
        ({"image_id": "a", "class": [["red"]]}, "got"),
        ("red", "an object"),
        (None, "an object"),
    ],
)
def test_tasks_that_cannot_be_taken(task: object, message: str) -> None:
    good = {"data": {"image_id": "z"}, "annotations": [annotation(["red"])]}
    with pytest.raises(AnswersError, match=rf"the file: task 2: .*{message}.*Nothing was taken"):
        read_label_studio(StringIO(json.dumps([good, task])), ["red"])


@pytest.mark.parametrize("text", ["", "{}", "[", "id,class,answer", "[" * 100_000])
def test_files_that_are_no_export(text: str) -> None:
    with pytest.raises(AnswersError, match="expected a list of tasks in JSON"):
        read_label_studio(StringIO(text), ["red"])
