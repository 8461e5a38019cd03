"""`holotype update`: what is new is found, encoded and grouped; what did not change is not done again, and stays."""

import csv
import io
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Holotype, Job, MakeTar, Member, Picture
from PIL import Image

from holotype import HolotypeError, Settings, run
from holotype.answers.records import NewAnswer
from holotype.encoders import encode
from holotype.encoders.encode import Load
from holotype.encoders.runtimes import Encoder
from holotype.runs.changes import RunChanges
from holotype.runs.folder import RunFolder
from holotype.runs.update import update_run
from holotype.settings import Addition
from holotype.vectors import store

MORE = range(300, 320)  # two of each class
Encoded = list[str]


@pytest.fixture
def out(job: Job, tmp_path: Path) -> Path:
    """A run of 240 images."""
    run(job(test_set=None), tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Encoded:
    """What was encoded, one after the other, beside the check that an encoder works."""
    names: Encoded = []
    encode_parts = encode.encode_parts

    def noted(parts: Sequence[Sequence[str]], load: Load, encoder: Encoder) -> Iterator[object]:
        names.extend(name for part in parts for name in part)
        return encode_parts(parts, load, encoder)

    monkeypatch.setattr(store, "encode_parts", noted)
    return names


def members(rows: Sequence[int], picture: Picture, suffix: str = ".jpg") -> list[Member]:
    found = []
    for row in rows:
        buffer = io.BytesIO()
        Image.fromarray(picture(row)).save(buffer, "JPEG", quality=95)
        found.append((f"{row}{suffix}", buffer.getvalue()))
    return found


@pytest.fixture
def more(make_tar: MakeTar, picture: Picture) -> Path:
    return make_tar(members(MORE, picture), "more.tar")


def groups(out: Path) -> dict[str, tuple[str | None, str]]:
    """Id -> class and decision."""
    table = pq.read_table(out / "groups.parquet", columns=["id", "class", "decision"]).to_pylist()
    return {row["id"]: (row["class"], row["decision"]) for row in table}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def found(out: Path) -> dict[str, set[str]]:
    """Class -> ids."""
    rows = table(out / "found.csv")
    return {name: {row["id"] for row in rows if row["class"] == name} for name in {row["class"] for row in rows}}


def results(out: Path) -> dict[str, tuple[int, bytes]]:
    """Each file of the results: when it was written, and what is in it."""
    files = (path for one in RunFolder(out).results for path in [one, *one.rglob("*")] if path.is_file())
    return {path.relative_to(out).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def append(tar: Path, new: Sequence[Member]) -> None:
    with tarfile.open(tar, "a") as archive:
        for name, content in new:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_only_new_images_are_encoded_and_rows_stay(out: Path, more: Path, encoded: Encoded) -> None:
    before = groups(out)
    told = update_run(out, RunChanges([Addition(images=str(more))])).changed
    assert encoded == [*map(str, MORE)]
    assert told[0] == "images: 260, of which 20 are new; 0 are gone"
    after = groups(out)
    assert {name: after[name] for name in before} == before
    assert {str(row) for row in MORE if row % 10 == 0} <= found(out)["red"]
    assert list(after) == [*before, *map(str, MORE)]
    assert Settings.load(out / "holotype.toml").sources[1] == str(more)


def test_it_comes_to_what_a_new_run_of_all_images_comes_to(out: Path, more: Path, tmp_path: Path) -> None:
    update_run(out, RunChanges([Addition(images=str(more))]))
    run(Settings.load(out / "holotype.toml"), tmp_path / "fresh")
    for name in ("groups.parquet", "found.csv", "model/model.json", "model/arrays.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_the_same_command_again_does_nothing(out: Path, more: Path, holotype: Holotype, encoded: Encoded) -> None:
    words = ("update", out, "--images", more, "--exemplar", "grey=305", "--rename", "red=rosy", "--remove", "blue")
    assert holotype(*words)[0] == 0
    assert set(found(out)) == {"rosy", "green", "grey"}
    before, count = results(out), len(encoded)
    code, said, _ = holotype(*words)
    assert (code, said.splitlines()[0]) == (0, "nothing is new: 260 images, and answers, classes and settings")
    assert (results(out), len(encoded)) == (before, count)


def test_the_report_names_all_sources(out: Path, more: Path) -> None:
    update_run(out, RunChanges([Addition(images=str(more))]))
    report = (out / "report.html").read_text()
    assert "images.tar, more.tar" in report[report.index("images looked through") :][:200]


def test_files_that_were_only_touched_are_nothing_new(out: Path, data: Path, encoded: Encoded) -> None:
    before = results(out)
    shutil.copy(data / "images.tar", data / "copy.tar")
    (data / "copy.tar").replace(data / "images.tar")
    assert update_run(out).result is None
    assert (results(out), encoded) == (before, [])


def test_a_tar_that_was_appended_to(out: Path, data: Path, picture: Picture, encoded: Encoded) -> None:
    before = groups(out)
    append(data / "images.tar", members(MORE, picture))
    told = update_run(out).changed
    assert (encoded, told[0]) == ([*map(str, MORE)], "images: 260, of which 20 are new; 0 are gone")
    assert {name: groups(out)[name] for name in before} == before


def test_a_folder_in_which_files_came_and_went(job: Job, tmp_path: Path, picture: Picture, encoded: Encoded) -> None:
    folder, out = tmp_path / "folder", tmp_path / "out"
    folder.mkdir()
    for name, content in members(range(240), picture):
        (folder / name).write_bytes(content)
    run(job(test_set=None, images=str(folder)), out)
    before, encoded[:] = groups(out), []
    for row in (20, 33, 100):
        (folder / f"{row}.jpg").unlink()
    (folder / "31.jpg").rename(folder / "z31.jpg")
    for name, content in members([3000, 5], picture):
        (folder / name).write_bytes(content)  # 5.jpg as it was
    told = update_run(out).changed
    after = groups(out)
    assert (encoded, told[0]) == (["3000"], "images: 238, of which 1 are new; 3 are gone")
    assert after["z31"] == before["31"]
    assert after["3000"][0] == "red"
    assert {name: one for name, one in after.items() if name in before} == {
        name: one for name, one in before.items() if name in after
    }
    rows = pq.read_table(out / "groups.parquet", columns=["id", "path"]).to_pylist()
    assert all(Path(row["path"]).stem == row["id"] and Path(row["path"]).exists() for row in rows)


def test_ids_of_two_days_are_told_apart(out: Path, make_tar: MakeTar, picture: Picture, encoded: Encoded) -> None:
    day = make_tar([("0.jpg", one) for _, one in members([310], picture)], "day 2.tar")
    update_run(out, RunChanges([Addition(images=str(day))]))
    after = groups(out)
    assert after["day 2/0"][0] == "red"
    assert after["0"] == ("red", "exemplar")
    assert encoded == ["day 2/0"]


def test_a_class_is_added_without_encoding(out: Path, encoded: Encoded, tmp_path: Path) -> None:
    update_run(out, RunChanges(exemplars={"purple": ["63"]}))
    assert encoded == []
    assert found(out)["purple"] >= {"63"}
    assert list(Settings.load(out / "holotype.toml").exemplars) == ["red", "green", "blue", "purple"]
    fresh = Settings.load(out / "holotype.toml")
    run(fresh, tmp_path / "fresh")
    assert (tmp_path / "fresh" / "groups.parquet").read_bytes() == (out / "groups.parquet").read_bytes()


def test_of_all_thresholds_it_is_said_once_whether_the_space_is_kept(
    job: Job, tmp_path: Path, more: Path, holotype: Holotype
) -> None:
    run(job(test_set=None, thresholds=["auto"]), tmp_path / "out")
    settings = Settings.load(tmp_path / "out" / "holotype.toml").model_copy(update={"thresholds": [0.9, "auto", 0.8]})
    (tmp_path / "out" / "holotype.toml").write_text(settings.to_toml())
    code, _, said = holotype("update", tmp_path / "out", "--images", more)
    assert code == 0
    assert said.count(" space is ") == said.count("so their space is kept") == 1


def say(out: Path, *answers: NewAnswer) -> None:
    with RunFolder(out).open_answers() as log:
        for one in answers:
            log.record([one])


def held(out: Path) -> set[tuple[str, str, str, bool]]:
    with RunFolder(out).open_answers() as log:
        return {(one.id, one.label, one.verdict, one.audit) for one in log.current()}


def test_answers_follow_a_class_that_is_renamed(out: Path, encoded: Encoded) -> None:
    say(
        out,
        NewAnswer("10", "red", "yes", "ann"),
        NewAnswer("11", "red", "no", "ann", audit=True),
        NewAnswer("3", "red", "exemplar"),
        NewAnswer("21", "green", "no"),
    )
    update_run(out, RunChanges(renamed={"red": "rosy"}))
    assert held(out) >= {("10", "rosy", "yes", False), ("11", "rosy", "no", True), ("3", "rosy", "exemplar", False)}
    after = groups(out)
    assert {after["3"], after["10"]} == {("rosy", "exemplar"), ("rosy", "member")}
    assert after["21"][0] != "green"
    assert "red" not in found(out)
    assert encoded == []


def test_two_classes_become_one(out: Path) -> None:
    say(
        out,
        NewAnswer("10", "red", "yes"),
        NewAnswer("21", "green", "yes", audit=True),
        NewAnswer("13", "red", "no"),  # it may be green
        NewAnswer("14", "red", "no"),
        NewAnswer("14", "green", "no"),
        NewAnswer("12", "red", "yes"),
        NewAnswer("12", "blue", "yes"),  # the last counts
    )
    update_run(out, RunChanges(renamed={"red": "warm", "green": "warm"}))
    warm = {(name, verdict, audit) for name, label, verdict, audit in held(out) if label == "warm"}
    assert warm == {("10", "yes", False), ("21", "yes", False), ("14", "no", False)}
    assert list(Settings.load(out / "holotype.toml").exemplars) == ["warm", "blue"]
    assert found(out)["warm"] >= {"0", "1", "10", "21", "30", "31"}
    assert "12" in found(out)["blue"]


def test_what_shows_a_class_that_is_taken_away_shows_none_of_the_others(out: Path) -> None:
    say(out, NewAnswer("11", "red", "yes"))
    update_run(out, RunChanges(removed=["red"]))
    assert ("11", "green", "no", False) in held(out)
    assert groups(out)["11"][0] == "none"
    assert set(found(out)) == {"green", "blue"}


def test_new_answers_are_something_new(out: Path, encoded: Encoded) -> None:
    say(out, NewAnswer("21", "green", "no"))
    assert groups(out)["21"][0] == "green"
    assert update_run(out).result is not None
    assert groups(out)["21"][0] == "none"
    assert encoded == []
    assert update_run(out).result is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (RunChanges(renamed={"rde": "rosy"}), "expected one of the classes red, green, blue, got 'rde'"),
        (RunChanges(renamed={"red": "green"}), "'green' is a class already"),
        (RunChanges(renamed={"red": "none"}), '"none" is the name of the rejected class'),
        (RunChanges(renamed={"red": "rosy"}, removed=["red"]), "give one of the two"),
        (RunChanges(removed=["red", "green", "blue"]), "no class would be left"),
        (RunChanges(exemplars={"other": ["0"]}), "it can stand for one class only"),
        (RunChanges(exemplars={"other": ["no such"]}), "no such"),
        (RunChanges([Addition(images="nowhere.tar")]), "nowhere.tar"),
        (RunChanges([Addition(images="m.tar", embeddings="m.npy")]), "the run computes those of its images"),
    ],
)
def test_what_cannot_be_changes_nothing(out: Path, changes: RunChanges, why: str) -> None:
    before = results(out)
    with pytest.raises(HolotypeError, match=why):
        update_run(out, changes)
    assert results(out) == before
    assert not (out / "unfinished.toml").exists()
    assert update_run(out).result is None


def test_vectors_that_were_supplied_come_with_new_images(job: Job, tmp_path: Path, more: Path, network: str) -> None:
    from holotype.runs.commands import embed_pool

    settings = job(test_set=None, search="embeddings")
    embed_pool(settings.images, network, tmp_path / "vectors", "f32")
    embed_pool(str(more), network, tmp_path / "more vectors", "f32")
    out = tmp_path / "out"
    run(settings.model_copy(update={"embeddings": str(tmp_path / "vectors")}), out)
    with pytest.raises(HolotypeError, match=r"cannot be used: expected vectors of .*more.tar.*: add --embeddings"):
        update_run(out, RunChanges([Addition(images=str(more))]))
    update_run(out, RunChanges([Addition(images=str(more), embeddings=str(tmp_path / "more vectors"))]))
    assert {"300", "310"} <= found(out)["red"]
    assert update_run(out).result is None


def test_vectors_that_a_run_took_over_are_as_they_were(job: Job, tmp_path: Path, network: str) -> None:
    from holotype.runs.commands import embed_pool

    settings = job(test_set=None, search="encoder", embeddings=str(tmp_path / "vectors"))
    embed_pool(settings.images, network, tmp_path / "vectors", "f32")
    run(settings, tmp_path / "out")
    (tmp_path / "vectors" / ".lock").touch()
    assert update_run(tmp_path / "out").result is None


def certify(holotype: Holotype, out: Path, label: str) -> None:
    colours = ["red", "green", "blue"]
    for _ in range(4):
        form = out.parent / "form.csv"
        form.unlink(missing_ok=True)
        assert holotype("certify", out, "--class", label, "--precision", ".8", "--form", form)[0] == 0
        if not form.exists():
            return
        rows = table(form)
        with form.open("w") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row in rows:
                shows = int(row["id"]) % 10 == colours.index(row["class"])
                writer.writerow(row | {"answer": "yes" if shows else "no"})
        assert holotype("answer", out, form)[0] == 0
    raise AssertionError("it never ends")


def test_a_promise_stays_as_long_as_its_images_and_answers_do(
    out: Path, more: Path, holotype: Holotype, make_tar: MakeTar, data: Path, picture: Picture
) -> None:
    certify(holotype, out, "red")
    rows = table(out / "certified.csv")
    code, said, _ = holotype("update", out, "--images", more, "--rename", "red=rosy")
    assert (code, "still promised: rosy: at least 80 %" in said) == (0, True)
    after = table(out / "certified.csv")
    assert [row["id"] for row in after] == [row["id"] for row in rows]
    assert {row["class"] for row in after} == {"rosy"}
    lines = holotype("predict", out, data / "images.tar", "--format", "csv")[1]
    certified = {row["id"] for row in csv.DictReader(io.StringIO(lines)) if row["certified"] == "rosy"}
    assert certified == {row["id"] for row in rows}
    assert "an earlier model" in (out / "report.html").read_text()
    assert holotype("certify", out, "--class", "green", "--answers", 1)[0] == 0
    assert (out / "model" / "promises.json").exists()
    gone = rows[-1]["id"]
    make_tar([one for one in members(range(240), picture) if one[0] != f"{gone}.jpg"], "images.tar")
    said = holotype("update", out)[1]
    assert "what was promised of rosy does not hold any more, as images that it is about are not there any more" in said
    assert not (out / "model" / "promises.json").exists()


def test_a_run_of_an_earlier_version_is_done_again(out: Path, encoded: Encoded) -> None:
    (out / "state.json").unlink()
    assert update_run(out).result is not None
    assert encoded == []


def test_killed_while_it_writes_the_old_results_stay(out: Path, more: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = results(out)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    say(out, NewAnswer("10", "red", "yes"))
    changes = RunChanges([Addition(images=str(more))], renamed={"red": "rosy"})
    with monkeypatch.context() as patch:
        patch.setattr("holotype.runs.sweep.write_report", stop)
        with pytest.raises(KeyboardInterrupt):
            update_run(out, changes)
    assert results(out) == before
    update_run(out, changes)
    assert {"10", "300", "310"} <= found(out)["rosy"]


def test_a_test_set_of_the_classes_as_they_are_now_is_given_with_them(job: Job, tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    run(job(), out)
    before = results(out)
    with pytest.raises(HolotypeError, match="of other classes, give another one with --test-set"):
        update_run(out, RunChanges(renamed={"red": "rosy"}))
    assert results(out) == before
    (data / "new.csv").write_text((data / "test.csv").read_text().replace("red", "rosy"))
    result = update_run(out, RunChanges(renamed={"red": "rosy"}, test_set=str(data / "new.csv"))).result
    assert result is not None
    assert result.evaluation is not None
    assert [one.name for one in result.evaluation.classes][:1] == ["rosy"]


def test_a_name_that_answers_know_is_no_new_one(out: Path) -> None:
    say(out, NewAnswer("10", "red", "no"))
    update_run(out, RunChanges(removed=["red"]))
    before = held(out)
    with pytest.raises(HolotypeError, match="answers about an earlier class 'red'"):
        update_run(out, RunChanges(renamed={"green": "red"}))
    assert held(out) == before
