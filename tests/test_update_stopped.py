"""An update that is stopped, and names of classes: what people answered stays about what they answered it of."""

import unicodedata
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Holotype, Job

from holotype import HolotypeError, open_pool, run
from holotype.answers.records import NewAnswer, Verdict
from holotype.model.promises import read_promises
from holotype.runs.changes import RunChanges
from holotype.runs.folder import RunFolder
from holotype.runs.sweep import repeat
from holotype.runs.update import update_run

ROSY = RunChanges(renamed={"red": "rosy"})
ANSWERS = (NewAnswer("3", "red", "exemplar"), NewAnswer("10", "red", "yes"))


@pytest.fixture
def out(job: Job, tmp_path: Path) -> Path:
    """A run of 240 images in which one was made an exemplar."""
    run(job(test_set=None), tmp_path / "out")
    say(tmp_path / "out", *ANSWERS)
    return tmp_path / "out"


def say(out: Path, *answers: NewAnswer) -> None:
    with RunFolder(out).open_answers() as log:
        log.record(answers)


def group(out: Path, name: str) -> tuple[str, str]:
    rows = pq.read_table(out / "groups.parquet", columns=["id", "class", "decision"]).to_pylist()
    return next((row["class"], row["decision"]) for row in rows if row["id"] == name)


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


def stop(out: Path, changes: RunChanges, where: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, stopped)
        with pytest.raises(KeyboardInterrupt):
            update_run(out, changes)


def test_it_is_given_again_as_often_as_it_is_stopped(out: Path) -> None:
    for _ in range(2):
        stop(out, ROSY, "holotype.runs.sweep.write_report")
    update_run(out, ROSY)
    assert (group(out, "3"), group(out, "10")) == (("rosy", "exemplar"), ("rosy", "member"))
    assert update_run(out, ROSY).result is None


def test_something_else_may_be_done_before_it_is_given_again(out: Path) -> None:
    stop(out, ROSY, "holotype.runs.sweep.write_report")
    repeat(out)
    assert (group(out, "3"), group(out, "10")) == (("red", "exemplar"), ("red", "member"))
    stop(out, ROSY, "holotype.runs.sweep.write_report")
    update_run(out, RunChanges(exemplars={"purple": ["63"]}))
    assert group(out, "3") == ("red", "exemplar")
    update_run(out, ROSY)
    assert group(out, "3") == ("rosy", "exemplar")


def test_stopped_when_the_new_results_are_there_it_has_all_that_was_promised(out: Path, holotype: Holotype) -> None:
    pool = open_pool(out.parent / "images.tar")
    shown: dict[str, Verdict] = {
        name: "yes" if name.endswith("0") else "no" for name in pool.ids if name not in ("0", "3")
    }
    say(out, *(NewAnswer(name, "red", said, digest=pool.digest(pool.rows[name])) for name, said in shown.items()))
    assert holotype("run", out)[0] == 0
    assert holotype("certify", out, "--class", "red", "--precision", ".8")[0] == 0
    (promise,) = read_promises(out / "model")
    stop(out, ROSY, "holotype.runs.folder.RunFolder.finish")
    (after,) = read_promises(out / "model")
    assert (after.label, after.contents) == ("rosy", promise.contents)
    assert update_run(out, ROSY).result is None
    assert RunFolder(out).load_model().promises_ == [after]


def test_an_exemplar_is_none_of_a_later_class_of_the_old_name(out: Path) -> None:
    update_run(out, ROSY)
    update_run(out, RunChanges(exemplars={"red": ["63"]}))
    assert (group(out, "3"), group(out, "10")) == (("rosy", "exemplar"), ("rosy", "member"))


def test_a_class_that_was_taken_away_comes_back_with_its_answers(out: Path) -> None:
    update_run(out, RunChanges(removed=["red"]))
    assert group(out, "10")[0] == "none"
    update_run(out, RunChanges(exemplars={"red": ["0"]}))
    assert (group(out, "3"), group(out, "10")) == (("red", "exemplar"), ("red", "member"))


@pytest.mark.parametrize(
    "changes",
    [
        RunChanges(removed=["red"], exemplars={"red": ["20"]}),
        RunChanges(renamed={"red": "rosy"}, exemplars={"red": ["20"]}),
        RunChanges(renamed={"red": "rosy"}, descriptions={"red": ["red"]}),
    ],
)
def test_what_goes_is_given_nothing(out: Path, changes: RunChanges) -> None:
    before = RunFolder(out).read_answers()
    with pytest.raises(HolotypeError, match="'red' is to be renamed, or to be taken away, and exemplars or words"):
        update_run(out, changes)
    assert RunFolder(out).read_answers() == before


def test_a_name_may_come_in_another_form_of_unicode(out: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Rösle") for form in ("NFC", "NFD"))
    update_run(out, RunChanges(renamed={"red": composed}))
    assert update_run(out, RunChanges(renamed={"red": apart})).result is None
    assert update_run(out, RunChanges(renamed={composed: apart})).result is None
    update_run(out, RunChanges(exemplars={apart: ["20"]}))
    assert group(out, "20") == (composed, "exemplar")
    update_run(out, RunChanges(removed=[apart]))
    assert group(out, "20")[0] == "none"


def test_a_class_that_is_not_there_is_named(out: Path, holotype: Holotype) -> None:
    update_run(out)
    code, said, _ = holotype("update", out, "--remove", "rde")
    assert (code, said.splitlines()[1:]) == (
        0,
        ["rde: none of the classes (red, green, blue), so nothing is taken away"],
    )


def test_one_class_has_one_new_name(out: Path, holotype: Holotype) -> None:
    code, _, error = holotype("update", out, "--rename", "red=rosy", "--rename", "red=pink")
    assert code == 2
    assert "expected one new name for red, got rosy and pink" in error
