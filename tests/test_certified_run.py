"""`holotype certify`: what is asked, what is promised then, where that is written, and when it falls."""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import Holotype, MakeTar

from holotype import Classifier, HolotypeError, Settings, run
from holotype.answers.certify import Finding, Look, TopSet
from holotype.answers.log import AnswerLog
from holotype.answers.scored import Certified
from holotype.errors import ModelError
from holotype.model.promises import Promise, Promises
from holotype.pool.images import decode
from holotype.pool.pool import open_pool
from holotype.runs.certify import certify_run
from holotype.runs.folder import RunFolder

CLASSES = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def tested(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three classes of 24 images each: one is the exemplar, and of "red" two are of the test set."""
    folder = tmp_path_factory.mktemp("tested")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(folder / "cache"))
        table = [f"{row},{','.join(str(int(row % 10 == k)) for k in range(3))}" for row in (30, 40, 33, 34, 35)]
        (folder / "test.csv").write_text("\n".join(["index,red,green,blue", *table]))
        settings = Settings.load(finished / "holotype.toml")
        run(settings.model_copy(update={"test_set": str(folder / "test.csv")}), folder / "out")
    return folder / "out"


@pytest.fixture
def out(tested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run."""
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(tested, tmp_path / "out"))


def shows(name: str, label: str) -> bool:
    return int(name) % 10 == CLASSES.index(label)


def fill_in(form: str, wrong: tuple[str, ...] = ()) -> str:
    """A form with the answers, of which some are wrong."""
    lines = list(csv.DictReader(io.StringIO(form)))
    for line in lines:
        line["answer"] = "yes" if shows(line["id"], line["class"]) != (line["id"] in wrong) else "no"
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def certify(holotype: Holotype, out: Path, *words: object, wrong: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    """Certify until nothing is asked any more; return what is said, and who was asked about."""
    asked = list[str]()
    for _ in range(9):
        form = out.parent / "form.csv"
        form.unlink(missing_ok=True)
        code, said, told = holotype("certify", out, *words, "--form", form)
        assert code == 0, told
        if not form.exists():
            return said, asked
        asked += [line["id"] for line in csv.DictReader(io.StringIO(form.read_text()))]
        form.write_text(fill_in(form.read_text(), wrong))
        assert re.search(r"to answer, in \S+: fill in yes, no or unsure \(.*key C, shows the pictures\)", said)
        assert holotype("answer", out, form)[0] == 0
    raise AssertionError("it never ends")


def promises(out: Path) -> list[Promise]:
    return Classifier.load(out).promises_


def is_whole(out: Path) -> bool:
    return subprocess.run(["sha256sum", "--quiet", "--check", "results.sha256"], cwd=out, check=False).returncode == 0


def test_a_class_is_certified_and_it_is_written_wherever_it_is_looked_for(
    holotype: Holotype, out: Path, tmp_path: Path
) -> None:
    before = {name: (out / name).read_text() for name in ("predictions.csv", "report.html", "model/README.md")}
    said, asked = certify(holotype, out, "--class", "red")
    assert len(asked) == len({*asked}) <= 60
    assert re.search(r"red: at least 95 % of 2[0-2] images show it, with 95 % confidence", said)
    (found,) = promises(out)
    assert (found.label, found.precision, found.confidence, found.together) == ("red", 0.95, 0.95, 1)
    assert 20 <= found.covered <= 22
    assert found.asked - found.yes <= 1
    assert len(found.sample) >= found.asked
    digests = {one.digest for one in RunFolder(out).read_answers()}
    assert found.sample.keys() <= digests
    listed = list(csv.DictReader(io.StringIO((out / "certified.csv").read_text())))
    assert len(listed) == found.covered
    assert sum(shows(line["id"], "red") for line in listed) >= 0.95 * len(listed)
    assert {line["class"] for line in listed} == {"red"}
    assert all(float(line["probability"]) >= found.threshold - 1e-6 for line in listed)
    assert (out / "predictions.csv").read_text() == before["predictions.csv"]  # of the test set nothing is promised
    _, told, _ = holotype("predict", out, RunFolder(out).read_settings().images)
    certified = {one["id"] for one in map(json.loads, told.splitlines()) if one["certified"]}
    assert certified == {line["id"] for line in listed}
    for name in ("report.html", "model/README.md"):
        text = re.sub(r"\\(.)", r"\1", (out / name).read_text())
        assert f"at least 95 % of {found.covered} images" not in before[name]
        assert f"at least 95 % of {found.covered} images" in text
        assert found.date in text
        assert "about this pool" in text or "about the pool" in text
    assert is_whole(out)
    assert holotype("certify", out, "--class", "red")[1] == said  # looked at again, it is the same
    copy = shutil.copytree(out / "model", tmp_path / "elsewhere")
    assert Classifier.load(copy).promises_ == [found]


def test_predictions_have_a_column_only_where_something_is_promised(holotype: Holotype, out: Path) -> None:
    images = RunFolder(out).read_settings().images
    plain = holotype("predict", out / "model", images)[1].splitlines()
    assert "certified" not in plain[0]
    certify(holotype, out, "--class", "green")
    for layout in ("jsonl", "csv", "table"):
        code, lines, told = holotype("predict", out / "model", images, "--format", layout)
        assert code == 0
        assert "about no others" in told
        if layout == "jsonl":
            records = [json.loads(line) for line in lines.splitlines()]
            assert [{k: v for k, v in one.items() if k != "certified"} for one in records] == [
                json.loads(line) for line in plain
            ]
            assert {one["certified"] for one in records} == {"", "green"}
        if layout == "csv":
            table = list(csv.DictReader(io.StringIO(lines)))
            assert {one["certified"] for one in table} == {"", "green"}
        if layout == "table":
            assert sum("certified green" in line for line in lines.splitlines()) >= 20


def test_all_classes_are_promised_together(holotype: Holotype, out: Path) -> None:
    said, _ = certify(holotype, out)
    assert said.count("with 95 % confidence for all 3 classes together") == 3
    assert [one.label for one in promises(out)] == CLASSES
    assert {one.together for one in promises(out)} == {3}


def test_the_recall_is_estimated_where_it_is_asked_for(holotype: Holotype, out: Path) -> None:
    said, asked = certify(holotype, out, "--class", "red", "--recall", "40")
    assert "red: Estimated, not promised: " in said
    assert 40 < len(asked) <= 110
    (found,) = promises(out)
    assert found.recall is not None
    assert 0 < found.recall.low <= found.recall.value <= found.recall.high <= 1
    for name in ("report.html", "model/README.md"):
        assert "Estimated, not promised" in (out / name).read_text()
    certify(holotype, out, "--class", "red")
    assert promises(out) == [found]  # it stays with the promise


def test_what_cannot_be_promised_is_said_with_what_can(holotype: Holotype, out: Path) -> None:
    said, asked = certify(holotype, out, "--class", "red", wrong=tuple(str(row) for row in range(10, 240, 30)))
    assert re.search(r"0\.95 with 95 % confidence cannot be promised .*what can is 0\.\d\d", said)
    assert promises(out) == []
    assert not (out / "certified.csv").exists()
    assert "certified" not in (out / "predictions.csv").read_text()
    certify(holotype, out, "--class", "red", "--precision", ".3")
    assert [one.precision for one in promises(out)] == [0.3]
    assert len({*asked}) == len(asked)


def test_it_falls_when_the_model_is_trained_anew_and_that_is_said(holotype: Holotype, out: Path) -> None:
    certify(holotype, out, "--class", "red")
    code, _, told = holotype("answer", out, "--apply")
    assert code == 0
    assert "what was promised of red does not hold any more" in told
    assert promises(out) == []
    assert not (out / "certified.csv").exists()
    assert "certified" not in (out / "predictions.csv").read_text()
    assert "at least 95 %" not in (out / "report.html").read_text()
    assert is_whole(out)


def test_it_falls_when_answers_are_changed(holotype: Holotype, out: Path) -> None:
    certify(holotype, out, "--class", "red")
    (found,) = promises(out)
    with AnswerLog(out / "answers.db") as log:
        one = next(one for one in log.current() if one.digest in found.sample and one.verdict == "yes")
        log.add(one.id, "red", "no")
    assert "red: what was promised does not hold any more" in holotype("answer", out)[1]
    images = RunFolder(out).read_settings().images
    code, lines, told = holotype("predict", out, images)
    assert code == 0
    assert "does not hold any more, as answers that it rests on were changed or are gone" in told
    assert "certified" not in lines
    _, said, _ = holotype("certify", out, "--class", "green")
    assert "red: what was promised before does not hold any more" in said
    assert promises(out) == []
    said, _ = certify(holotype, out, "--class", "red", wrong=(one.id,))
    assert all(other.sample != found.sample for other in promises(out))
    assert "red" in said


def test_a_promise_of_another_class_stays(holotype: Holotype, out: Path) -> None:
    certify(holotype, out, "--class", "red")
    certify(holotype, out, "--class", "blue")
    assert [one.label for one in promises(out)] == ["red", "blue"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--precision", "0"), "expected a precision above 0 and up to 1, got 0"),
        (("--precision", "1.01"), "expected a precision above 0 and up to 1"),
        (("--precision", "nan"), "expected a precision above 0 and up to 1, got nan"),
        (("--confidence", "1"), "expected a confidence between 0 and 1"),
        (("--confidence", "nan"), "expected a confidence between 0 and 1"),
        (("--answers", "0"), "expected at least 1 answer, got 0"),
        (("--class", "purple"), "expected one of the classes red, green, blue, got 'purple'"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(holotype: Holotype, out: Path, words: tuple[str, ...], why: str) -> None:
    code, said, told = holotype("certify", out, *words)
    assert (code, said) == (1, "")
    assert why in told.splitlines()[-1]
    assert not (out / "model" / "promises.json").exists()


@pytest.mark.parametrize(
    "words", [("--precision", "1"), ("--precision", ".9999"), ("--answers", "1"), ("--answers", str(10**9))]
)
def test_extremes_are_answered(holotype: Holotype, out: Path, words: tuple[str, ...]) -> None:
    said, asked = certify(holotype, out, "--class", "red", *words)
    assert said.startswith("red: ")
    assert len({*asked}) == len(asked)
    if words[1] in ("1", ".9999") and words[0] == "--precision":
        assert "at least 100 %" in said or "at least 99.99 %" in said
        (found,) = promises(out)
        assert found.asked == found.yes
        assert (found.covered - found.asked) / found.covered <= 0.05  # the chance that the one wrong image is not seen


def test_a_damaged_promise_is_refused_and_one_of_another_model_too(out: Path) -> None:
    certified = RunFolder(out).model / "promises.json"
    found = Promise(
        label="red",
        precision=0.9,
        confidence=0.95,
        together=1,
        threshold=0.5,
        covered=9,
        among=9,
        asked=9,
        yes=9,
        sample={},
        who=["ann"],
        pool="pool",
        images="a" * 64,
        date="2026-01-01",
    )
    certified.write_text(Promises(model="b" * 64, promises=[found]).to_json())
    with pytest.raises(ModelError, match="is about another model than the one beside it"):
        Classifier.load(out)
    certified.write_text(certified.read_text().replace("0.9,", "0.99,"))
    with pytest.raises(ModelError, match="is not as it was written"):
        Classifier.load(out)
    for content in ("", "{}", "[]", "nan", '{"format": 2}'):
        certified.write_text(content)
        with pytest.raises(ModelError, match="remove this file: then nothing is promised"):
            Classifier.load(out)
    certified.unlink()
    assert Classifier.load(out).promises_ == []


def test_a_saved_copy_promises_the_same(holotype: Holotype, out: Path, tmp_path: Path) -> None:
    certify(holotype, out, "--class", "red")
    loaded = Classifier.load(out)
    loaded.save(tmp_path / "copy")
    assert Classifier.load(tmp_path / "copy").promises_ == loaded.promises_


def test_where_there_is_no_run_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(HolotypeError, match=r"expected the settings of a run .*: give the folder of a run, as"):
        certify_run(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_of_images_that_are_not_of_the_pool_nothing_is_certified(
    holotype: Holotype, out: Path, tmp_path: Path, make_tar: MakeTar
) -> None:
    certify(holotype, out, "--class", "red")
    name = next(iter(csv.DictReader(io.StringIO((out / "certified.csv").read_text()))))["id"]
    pool = open_pool(RunFolder(out).read_settings().images)
    own = pool.read(pool.rows[name])
    other = own + b" "  # the same picture, and yet not an image of the pool
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "own.jpg").write_bytes(own)
    (folder / "other.jpg").write_bytes(other)
    tar = make_tar([("a.jpg", own), ("b.jpg", other)])
    model = shutil.copytree(out / "model", tmp_path / "elsewhere")
    for where in (out, model):  # a copy of the model knows it as well
        for sources in ([folder], [tar], [folder / "other.jpg", folder / "own.jpg"]):
            code, lines, told = holotype("predict", where, *sources)
            assert code == 0, told
            found = {Path(one["id"]).stem: one for one in map(json.loads, lines.splitlines())}
            certified = {key: one["certified"] for key, one in found.items()}
            assert certified in ({"own": "red", "other": ""}, {"a": "red", "b": ""})
            assert {one["label"] for one in found.values()} == {"red"}
        _, table, _ = holotype("predict", where, folder, "--format", "csv")
        assert [line["certified"] for line in csv.DictReader(io.StringIO(table))] == ["", "red"]
        _, table, _ = holotype("predict", where, folder, "--format", "table")
        assert ["certified red" in line for line in table.splitlines()] == [False, True]
    classifier = Classifier.load(model)
    given = (folder / "own.jpg", own, folder / "other.jpg", other, decode(own))
    assert [classifier.predict_one(one).certified for one in given] == [["red"], ["red"], [""], [""], [""]]


def test_the_same_command_again_loses_no_answer_and_no_result(holotype: Holotype, out: Path) -> None:
    form = out.parent / "form.csv"
    words = ("certify", out, "--class", "red", "--form", form)
    assert "--form form.csv" in holotype(*words[:-2])[1]  # without a form it says how one gets it, and writes none
    assert holotype(*words)[0] == 0
    assert holotype(*words)[0] == 0  # nothing is filled in yet: as good as new
    filled = fill_in(form.read_text())
    form.write_text(filled)
    before = form.read_bytes()
    code, said, told = holotype(*words)
    assert (code, said) == (1, "")
    assert re.search(r"form\.csv has \d+ answers that the run has not: give it to .*answer.* first", told)
    assert form.read_bytes() == before
    while "to answer" in (said := holotype("answer", out, form) and holotype(*words)[1]):
        form.write_text(fill_in(form.read_text()))
    assert "red: at least 95 %" in said
    assert form.read_text().startswith("id,class,answer")
    form.write_text("something else")
    code, _, told = holotype(*words)
    assert code == 1
    assert "is there already and is no form" in told
    assert form.read_text() == "something else"


def test_which_promise_another_takes_the_place_of_is_said_before_and_then(holotype: Holotype, out: Path) -> None:
    certify(holotype, out)
    assert promises(out)[0].goal == (0.95, 0.95, 3)
    said, _ = certify(holotype, out, "--class", "red")
    assert "red: this was promised before, and what follows takes its place: at least 95 % of" in said
    assert said.count("takes its place") == 1
    assert promises(out)[0].goal == (0.95, 0.95, 1)
    assert "takes its place" not in certify(holotype, out, "--class", "red")[0]
    _, said, _ = holotype("certify", out, "--precision", ".9")  # with fewer chances to err: more would have to be asked
    assert "red: promised now, until what is asked for here can be and takes its place: at least 95 % of" in said
    assert promises(out)[0].goal == (0.95, 0.95, 1)


def test_the_card_says_what_people_answered_only_where_they_did(out: Path) -> None:
    assert "from what people answered" not in (out / "model" / "README.md").read_text()


def test_one_more_answer_is_one() -> None:
    top = TopSet(0.9, np.arange(5))
    found = Certified("red", 0.95, 0.95, Finding(None, [], Look(top, 4, 4), more=1, likely=3, enough=5), None)
    assert "; 1 more answer would do" in " ".join(found.lines())
