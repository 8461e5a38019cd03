"""Which images of a run are exported, and what is said of each: by groups, promises and answers."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Holotype

from holotype import Settings, open_pool
from holotype.answers.records import NewAnswer
from holotype.errors import OutputError
from holotype.export.export import export_run
from holotype.export.selection import Selection, answered_rows, select
from holotype.progress import Silent
from holotype.runs.folder import RunFolder


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def chosen(out: Path, **filters: Any) -> list[dict[str, Any]]:
    """Return the records of the images that filters leave."""
    rows: list[dict[str, Any]] = select(RunFolder(out), Selection(**filters), Silent()).table.to_pylist()
    return rows


def groups(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "groups.parquet").to_pylist()
    return rows


def ids(rows: list[dict[str, Any]]) -> set[str]:
    return {row["id"] for row in rows}


def answer(out: Path, *answers: tuple[str, str, Any], digest: str | None = None) -> None:
    """Record answers: image, class, verdict; each about the image as it is, or about one with another `digest`."""
    pool = open_pool(Settings.load(out / "holotype.toml").images)
    with RunFolder(out).open_answers() as log:
        log.take(
            [
                NewAnswer(name, label, verdict, digest=pool.digest(pool.row(name)) if digest is None else digest)
                for name, label, verdict in answers
            ]
        )


def test_what_was_found_is_taken_the_surest_first(out: Path) -> None:
    rows = chosen(out)
    with (out / "found.csv").open(encoding="utf-8", newline="") as file:
        found = {line["id"]: line["class"] for line in csv.DictReader(file)}
    assert len(found) > 60
    assert {row["id"]: row["class"] for row in rows} == found
    assert [row["class"] for row in rows] == sorted(row["class"] for row in rows)
    for label in ("red", "green", "blue"):
        known = [row["probability"] for row in rows if row["class"] == label and row["probability"] is not None]
        assert known == sorted(known, reverse=True)


def test_classes_and_decisions_are_chosen(out: Path) -> None:
    found = groups(out)
    assert ids(chosen(out, classes=["red"])) == ids([row for row in found if row["class"] == "red"])
    doubtful = [row for row in found if row["decision"] == "doubtful"]
    assert all(row["class"] is None for row in doubtful)
    assert doubtful
    taken = {row["id"]: row["class"] for row in chosen(out, decisions=["doubtful"])}
    assert taken == {row["id"]: row["nearest_class"] for row in doubtful}
    rejected = chosen(out, classes=["none"])  # nobody need know that these are the background
    assert ids(rejected) == ids([row for row in found if row["decision"] == "background"])
    assert {row["probability"] for row in rejected} == {None}  # what is known is that of the nearest class
    both = chosen(out, classes=["red", "none"])
    assert len(both) == len(rejected) + len(chosen(out, classes=["red"]))


def test_the_least_probability_is_that_of_the_class(out: Path) -> None:
    path = out / "groups.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    members = [row for row in rows if row["decision"] == "member"]
    members[0]["probability"] = None  # as where the run had no need of it
    least = sorted(row["probability"] for row in members[1:])[len(members) // 2]
    pq.write_table(type(table).from_pylist(rows, table.schema), path)
    (out / "results.sha256").unlink()
    said = Said()
    found = select(RunFolder(out), Selection(probability=least), said).table.to_pylist()
    wanted = {row["id"] for row in members[1:] if row["probability"] >= least}
    assert ids(found) == wanted | ids([row for row in rows if row["decision"] == "exemplar"])
    assert said.lines == ["left out, as no probability of their class is known: 1 image"]


def test_an_answer_counts_that_is_about_the_image_and_the_run(out: Path) -> None:
    names = [row["id"] for row in chosen(out, decisions=["member"])]
    answer(out, (names[0], "red", "yes"), (names[1], "red", "unsure"), (names[2], "green", "no"))
    answer(out, (names[3], "red", "withdrawn"), (names[4], "another class", "yes"))
    answer(out, (names[5], "red", "yes"), digest="0" * 64)  # of a picture that is not there any more
    assert {row["id"] for row in chosen(out) if row["answered"]} == {*names[:3]}
    assert ids(chosen(out, unanswered=True)) == ids(chosen(out)) - {*names[:3]}


def test_an_answer_that_was_taken_back_does_not_count(out: Path) -> None:
    name = chosen(out, decisions=["member"])[0]["id"]
    answer(out, (name, "red", "yes"))
    with RunFolder(out).open_answers() as log:
        log.undo(log.current()[-1].act)
    assert not any(row["answered"] for row in chosen(out))


def test_what_is_promised_is_what_certify_says_until_its_answers_change(holotype: Holotype, out: Path) -> None:
    from test_certified_run import certify

    with pytest.raises(OutputError, match="is left by these filters; nothing is promised: holotype certify"):
        chosen(out, certified=True)
    certify(holotype, out, "--class", "red")
    with (out / "certified.csv").open(encoding="utf-8", newline="") as file:
        promised = {line["id"] for line in csv.DictReader(file)}
    assert ids(chosen(out, certified=True)) == promised & ids(chosen(out)) != set()
    sampled = next(one for one in RunFolder(out).read_answers() if one.verdict == "yes" and one.label == "red")
    answer(out, (sampled.id, "red", "no"))
    with pytest.raises(OutputError, match="is left by these filters"):
        chosen(out, certified=True)


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        ({"classes": ["purple"]}, r"expected classes of the run \(red, green, blue, none\), got purple"),
        ({"decisions": ["found"]}, "expected decisions of exemplar, member, doubtful, background, missing, got found"),
        ({"probability": 2}, "expected a probability from 0 to 1, got 2"),
        ({"classes": ["none"], "decisions": ["member"]}, "no image of the run in .* is left by these filters"),
    ],
)
def test_what_a_run_cannot_have_is_refused(out: Path, filters: dict[str, Any], why: str) -> None:
    with pytest.raises(OutputError, match=why):
        chosen(out, **filters)


def test_a_run_that_is_not_whole_is_refused(out: Path, tmp_path: Path) -> None:
    content = (out / "groups.parquet").read_bytes()
    (out / "groups.parquet").write_bytes(content[:-9])
    with pytest.raises(OutputError, match="is not what the run left there"):
        export_run(out, "csv", tmp_path / "labels.csv")
    assert not (tmp_path / "labels.csv").exists()


def test_an_answer_about_the_test_set_decides_nothing(out: Path) -> None:
    folder, name = RunFolder(out), chosen(out, decisions=["member"])[0]["id"]
    answer(out, (name, "red", "yes"))
    baseline = folder.load_baseline()
    names = [row["id"] for row in groups(out)]
    row = names.index(name)
    assert answered_rows(folder.read_answers(), baseline, ["red"], names) == {row}
    closed = replace(baseline, held_out=[row])
    assert answered_rows(folder.read_answers(), closed, ["red"], names) == set()
