"""Answers are at most one class a row, and every line of text can be read back."""

import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from holotype.model.predictions import Layout, Predictions, lines

IDS = [
    "plain",
    "a,b",
    'say "x"',
    "two\nlines",
    "carriage\rreturn",
    "crlf\r\nend",
    "héllo/日本 🎉",
    " space ",
    "=1+1",
    "",
]
CLASSES = ["Mario", 'Lae\'zel, the "Gith"']


def predictions(ids: list[str] | None = None, seed: int = 0) -> Predictions:
    ids = IDS if ids is None else ids
    random = np.random.default_rng(seed)
    chances = random.dirichlet([1, 1, 1], len(ids))
    nearest = [f"exemplar {i % 2}" for i in range(len(ids))]
    return Predictions(ids, CLASSES, chances, np.array([0.4, 0.3]), nearest, random.uniform(0, 1, len(ids)))


def mixed() -> list[dict[str, Any]]:
    """Readable and unreadable images by turns."""
    unreadable = {"id": 'bad,"one"\r', "error": 'cannot be decoded: it says, "no"\nand stops'}
    return [record for one in predictions().records() for record in (one, unreadable)]


def test_the_class_of_the_greatest_margin_is_given_and_only_at_or_above_its_threshold() -> None:
    chances = np.array([[0.5, 0.2, 0.3], [0.5, 0.45, 0.05], [0.4, 0.1, 0.5], [0.39, 0.29, 0.32], [0.1, 0.3, 0.6]])
    found = Predictions(list("abcde"), ["x", "y"], chances, np.array([0.4, 0.3]), ["e"] * 5, np.zeros(5))
    assert found.labels == ["x", "y", "x", "none", "y"]  # b: y is further above its threshold
    assert found.vectors.tolist() == [[1, 0], [0, 1], [1, 0], [0, 0], [0, 1]]
    assert found.numbers.tolist() == [0, 1, 0, 2, 1]
    assert np.allclose(found.margins[1], [0.1, 0.15])


@pytest.mark.parametrize("seed", range(3))
def test_labels_numbers_vectors_and_margins_tell_the_same(seed: int) -> None:
    found = predictions([str(i) for i in range(200)], seed)
    names = [*CLASSES, "none"]
    for label, number, vector, margins in zip(found.labels, found.numbers, found.vectors, found.margins, strict=True):
        assert label == names[number]
        assert vector.sum() == (label != "none") == (margins.max() >= 0)
        if label != "none":
            assert vector.argmax() == margins.argmax() == number
    assert {"none", *CLASSES} == set(found.labels)


@pytest.mark.parametrize("rows", [np.array([3, 1]), np.arange(10) % 2 == 0, np.array([], int), np.zeros(10, bool)])
def test_a_slice_is_the_same_answers(rows: Any) -> None:
    whole, part = predictions(), predictions()[rows]
    index = np.arange(10)[rows]
    assert len(part) == len(index)
    assert list(part.records()) == [list(whole.records())[i] for i in index]
    assert part.vectors.shape == (len(index), 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": ["a"]},
        {"classes": ["x"]},
        {"probabilities": np.zeros((2, 2))},
        {"probabilities": np.zeros(2)},
        {"thresholds": np.zeros(3)},
        {"thresholds": np.zeros((1, 2))},
        {"nearest": ["e"]},
        {"similarity": np.zeros(3)},
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "ids": ["a", "b"],
        "classes": ["x", "y"],
        "probabilities": np.zeros((2, 3)),
        "thresholds": np.zeros(2),
        "nearest": ["e", "e"],
        "similarity": np.zeros(2),
    }
    Predictions(**right)
    with pytest.raises(ValueError, match="expected arrays for"):
        Predictions(**right | wrong)


def test_csv_comes_back_as_it_was() -> None:
    records = mixed()
    text = "".join(lines(records, CLASSES, "csv"))
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["id"] for row in read] == [record["id"] for record in records]
    for row, record in zip(read, records, strict=True):
        assert None not in row  # no cell too many
        assert None not in row.values()  # nor too few
        if "error" in record:
            assert row["reason"] == f"unreadable: {record['error']}"
            assert row["label"] == row["margin"] == row[CLASSES[0]] == row["p_none"] == ""
            continue
        assert row["label"] == record["label"]
        assert row["reason"] == record["reason"]
        assert [float(row[name]) for name in CLASSES] == record["vector"]
        chances = [float(row[f"p_{name}"]) for name in [*CLASSES, "none"]]
        assert chances == pytest.approx(list(record["probabilities"].values()), abs=1e-6)
        assert float(row["margin"]) == pytest.approx(record["margin"], abs=1e-6)
    assert "".join(lines(predictions().records(), CLASSES, "csv")) == predictions().to_csv()


def test_jsonl_is_one_line_per_record_and_comes_back_as_it_was() -> None:
    records = mixed()
    found = list(lines(records, CLASSES, "jsonl"))
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in found)
    assert [json.loads(line) for line in found] == records
    assert "日本" in "".join(found)


def test_a_table_names_each_image_its_vector_and_its_reason() -> None:
    records = [record for record in mixed() if record["id"] == "plain" or "error" in record]
    good, bad, *_ = lines(records, CLASSES, "table")
    assert good.startswith(f"plain  {records[0]['label']}  {records[0]['vector']}  p(")
    assert "unreadable: cannot be decoded" in bad


def test_a_table_has_one_line_per_image_whatever_is_in_the_names() -> None:
    ids = ["two\nlines", "crlf\r\n", "tab\t", "\x1b[2Jclear", "line\u2028end", "\x85", "broken\udce9", "back\\slash"]
    shown = [
        r"two\nlines",
        r"crlf\r\n",
        r"tab\t",
        r"\x1b[2Jclear",
        r"line\u2028end",
        r"\x85",
        r"broken\udce9",
        "back\\slash",
    ]
    for line, record, name in zip(lines(predictions(ids).records(), CLASSES, "table"), ids, shown, strict=True):
        assert line.startswith(f"{name}  "), record
        assert line.encode().decode().splitlines() == [line[:-1]]
    (bad,) = lines([{"id": "a\nb", "error": "no\nimage"}], CLASSES, "table")
    assert bad == "a\\nb  unreadable: no\\nimage\n"


def test_a_table_leaves_other_scripts_and_emoji_alone() -> None:
    names = ["日本 🎉", "👩\u200d👩\u200d👧", "heart ❤\ufe0f", "שלום", "nb\u00a0sp"]
    for line, name in zip(lines(predictions(names).records(), CLASSES, "table"), names, strict=True):
        assert line.startswith(f"{name}  ")


@pytest.mark.parametrize("layout", ["jsonl", "csv", "table"])
def test_no_records(layout: Layout) -> None:
    found = list(lines(predictions([]).records(), CLASSES, layout))
    assert len(found) == (layout == "csv")  # its header


def test_the_reason_is_true() -> None:
    found = predictions()
    for record, chances in zip(found.records(), found.probabilities, strict=True):
        best = int((chances[:2] - [0.4, 0.3]).argmax())
        assert record["reason"].startswith(f"p({CLASSES[best]}) = {chances[best]:.3f} ")
        assert ("reaches" in record["reason"]) == (record["label"] == CLASSES[best]) == (record["margin"] >= 0)


def test_the_reason_names_the_likeliest_class_where_none_is_given() -> None:
    """Not the one that is least far below its threshold; where one is given, that one."""
    chances = np.array([[0.39, 0.2, 0.41], [0.1, 0.29, 0.61], [0.39, 0.35, 0.26], [0.0, 0.0, 1.0]])
    found = Predictions(["0", "1", "2", "3"], ["a", "b"], chances, np.array([0.5, 0.3]), ["e"] * 4, np.zeros(4))
    records = list(found.records())
    assert [record["label"] for record in records] == ["none", "none", "b", "none"]
    assert [record["reason"].split(" ")[0] for record in records] == ["p(a)", "p(b)", "p(b)", "p(a)"]
    assert records[0]["reason"].startswith("p(a) = 0.390 stays below its threshold 0.500")
    assert [record["margin"] for record in records] == pytest.approx([-0.11, -0.01, 0.05, -0.5])
    assert found[found.numbers == 2].labels == ["none"] * 3
