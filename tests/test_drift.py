"""Whether new images are like those of a pool: what is said of both, compared."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Holotype, write_tar
from pictures import shapes
from serving import noise, served

from holotype import Settings, open_pool, run
from holotype.errors import HolotypeError, HolotypeWarning
from holotype.evaluation.drift import (
    FEW,
    MOVED,
    OTHERS,
    Stability,
    bootstrap_interval,
    compare_quantity,
    stability_index,
)
from holotype.model.classifier import Classifier
from holotype.model.pool_sample import POOL_FILE
from holotype.runs.drift import Drift, drift_run

SHAPES = 400


@pytest.fixture(scope="module")
def of_shapes(tmp_path_factory: pytest.TempPathFactory, network: str) -> Path:
    """A run on 400 pictures of shapes and lines, whose class is red circles."""
    folder = tmp_path_factory.mktemp("shapes")
    write_tar(folder / "images.tar", shapes(SHAPES))
    settings = {"images": str(folder / "images.tar"), "exemplars": {"circle": ["0"]}, "encoders": [network]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(folder / "cache"))
        run(Settings.parse(settings), folder / "out")
    return folder / "out"


@pytest.fixture
def out(of_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(of_shapes, tmp_path / "out"))


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 pictures as those of the pool, none of which is in it."""
    return write_tar(tmp_path_factory.mktemp("alike") / "alike.tar", shapes(SHAPES + 300)[SHAPES:])


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 pictures of noise."""
    return write_tar(tmp_path_factory.mktemp("foreign") / "foreign.tar", [(f"{k}.png", noise(k)) for k in range(250)])


def verdicts(found: Drift) -> dict[str, str]:
    """Return what is said of each quantity."""
    return {one.quantity: one.verdict for one in found.stabilities}


def test_images_of_the_pool_itself_are_stable(out: Path) -> None:
    found = drift_run(out, [Settings.load(out / "holotype.toml").images])
    assert found.images == SHAPES
    assert set(verdicts(found).values()) == {"stable"}
    assert all(one.index < 0.01 for one in found.stabilities)
    assert all(one.pool == pytest.approx(one.new, abs=1e-3) for one in found.stabilities)


def test_other_images_of_the_same_kind_are_stable_and_noise_is_not(out: Path, alike: Path, foreign: Path) -> None:
    same, other = drift_run(out, [str(alike)]), drift_run(out, [str(foreign)])
    assert all(one.index < OTHERS for one in same.stabilities), list(same.lines())
    assert verdicts(other)["distance"] == "other images than those of the pool"
    distance = other.stabilities[-1]
    assert distance.new > distance.pool
    assert distance.low > OTHERS
    assert distance.low < distance.index < distance.high


def test_predictions_say_the_same_as_images(out: Path, alike: Path, tmp_path: Path, holotype: Holotype) -> None:
    expected = drift_run(out, [str(alike)]).to_json()
    for name in ("said.jsonl", "said.csv"):
        assert holotype("predict", out, alike, "--out", tmp_path / name)[0] == 0
        found = drift_run(out, [str(tmp_path / name)]).to_json()
        assert found["images"] == 300
        for one, other in zip(found["quantities"], expected["quantities"], strict=True):
            assert one["verdict"] == other["verdict"]
            assert one["index"] == pytest.approx(other["index"], abs=0.02)  # a CSV rounds


def test_the_command(out: Path, foreign: Path, holotype: Holotype) -> None:
    code, said, _ = holotype("drift", out, foreign)
    assert code == 0
    assert said.splitlines()[0].split("  ")[0] == "quantity"
    assert "other images than those of the pool" in said
    assert said.splitlines()[-1] == "250 images compared"
    code, said, _ = holotype("drift", out, foreign, "--json")
    assert code == 0
    assert [one["quantity"] for one in json.loads(said)["quantities"]] == [
        "share of none",
        "highest probability",
        "distance",
    ]


def test_a_model_is_taken_for_its_run_and_alone_it_is_refused(
    out: Path, alike: Path, tmp_path: Path, holotype: Holotype
) -> None:
    assert drift_run(out / "model", [str(alike)]) == drift_run(out, [str(alike)])
    for alone in (tmp_path / "alone", tmp_path / "elsewhere" / "model"):
        shutil.copytree(out / "model", alone)
        code, _, error = holotype("drift", alone, alike)
        assert code == 1
        assert f"{alone} is a model without its run, and does not know its pool: give the run that it lies in" in error


def test_few_images_say_nothing(out: Path, tmp_path: Path) -> None:
    few = write_tar(tmp_path / "few.tar", [*shapes(50), ("cut.jpg", shapes(1)[0][1][:100])])
    found = drift_run(out, [str(few)])
    assert (found.images, found.unreadable) == (50, 1)
    assert set(verdicts(found).values()) == {f"too few images to say (from {FEW} on)"}
    assert list(found.lines())[-1] == "50 images compared; 1 could not be read"


def test_what_a_server_recorded(out: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    pool = open_pool(Settings.load(out / "holotype.toml").images)
    with served(f"m={out}", record=str(record)) as client:
        for row in range(5):
            assert client.post("/models/m/predict", pool.read(row)).status == 200
        client.post("/models/m/predict", b"no image")
        version = client.get("/models/m").json["version"]
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [sorted(line) for line in lines] == [["distance", "label", "model", "probability", "time", "version"]] * 5
    assert {line["version"] for line in lines} == {version}
    expected = Classifier.load(out).predict_one(pool.read(3))
    assert lines[3]["label"] == expected.labels[0]
    assert lines[3]["distance"] == pytest.approx(expected.distances[0], abs=1e-3)
    assert lines[3]["probability"] == pytest.approx(expected.probabilities[0, :-1].max(), abs=1e-5)
    older = [json.dumps(line | {"version": "0" * 12}) for line in lines]
    record.write_text("\n".join([*record.read_text().splitlines(), *older]) + "\n")
    found = drift_run(out, [str(record)])
    assert (found.images, found.of_others) == (5, 5)
    record.write_text("\n".join(older))
    with pytest.raises(HolotypeError, match="all 5 lines are about another version of the model"):
        drift_run(out, [str(record)])


def test_a_record_stays_small(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holotype.serve.record.MOST_BYTES", 1000)
    with served(f"m={out}", record=str(tmp_path / "record.jsonl")) as client:
        for _ in range(20):
            client.post("/models/m/predict", shapes(1)[0][1])
    kept = sorted(path.name for path in tmp_path.glob("record.jsonl*"))
    assert kept == ["record.jsonl", "record.jsonl.1"]
    assert all((tmp_path / name).stat().st_size <= 1000 for name in kept)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        '{"label": "none"}',
        '{"label": "none", "probability": 7}',
        '{"label": "none", "probability": "x"}',
        '{"label": "cat", "probabilities": {"cat": 1.0, "none": 0.0}}',
        '{"label": "none", "probabilities": {"circle": 0.5, "none": 0.5}, "distance": "far"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_record_is_refused_with_its_line(out: Path, tmp_path: Path, line: str) -> None:
    good = '{"label": "none", "probabilities": {"circle": 0.1, "none": 0.9}}'
    (tmp_path / "said.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(HolotypeError, match=r"said.jsonl, line 2: expected what holotype predict"):
        drift_run(out, [str(tmp_path / "said.jsonl")])


def test_predictions_of_a_model_alone_have_no_distance(
    out: Path, alike: Path, tmp_path: Path, holotype: Holotype
) -> None:
    Classifier.load(out).save(tmp_path / "alone")
    assert Classifier.load(tmp_path / "alone").pool_ is None
    holotype("predict", tmp_path / "alone", alike, "--out", tmp_path / "said.csv")
    with (tmp_path / "said.csv").open(newline="") as file:
        assert "distance" not in next(csv.reader(file))
    assert [*verdicts(drift_run(out, [str(tmp_path / "said.csv")]))] == ["share of none", "highest probability"]


def test_a_run_that_does_not_know_its_pool_learns_it(out: Path, alike: Path, foreign: Path) -> None:
    known = drift_run(out, [str(alike)])
    (out / "model" / POOL_FILE).unlink()
    assert Classifier.load(out).pool_ is None
    found = drift_run(out, [str(alike)])
    assert (out / "model" / POOL_FILE).exists()
    for one, other in zip(found.stabilities, known.stabilities, strict=True):
        assert one.index == pytest.approx(other.index, abs=0.01)  # of so few images all are looked at


def test_where_vectors_were_supplied_a_sample_of_the_pool_is_encoded(out: Path, alike: Path, tmp_path: Path) -> None:
    settings = Settings.load(out / "holotype.toml")
    vectors = np.random.default_rng(0).normal(size=(SHAPES, 64)).astype(np.float32)
    vectors[[number for number in range(SHAPES) if number % 6 == 0]] += 3  # circles are alike in these
    np.save(tmp_path / "vectors.npy", vectors)
    fewer = settings.fit.model_copy(update={"negatives": 50})
    changed = {"embeddings": str(tmp_path / "vectors.npy"), "fit": fewer}
    run(settings.model_copy(update=changed), tmp_path / "supplied")
    assert not (tmp_path / "supplied" / "model" / POOL_FILE).exists()
    found = drift_run(tmp_path / "supplied", [settings.images])
    assert set(verdicts(found).values()) == {"stable"}


def test_a_sample_that_is_damaged_or_of_another_model_is_not_used(out: Path, alike: Path) -> None:
    path = out / "model" / POOL_FILE
    whole = path.read_bytes()
    for content in (whole[:-100], b"", whole.replace(b'"model":"', b'"model":"0', 1)):
        path.write_bytes(content)
        with pytest.warns(HolotypeWarning, match="is damaged, or about another model"):
            assert Classifier.load(out).pool_ is None


def test_none_that_can_be_read(out: Path, tmp_path: Path) -> None:
    broken = write_tar(tmp_path / "broken.tar", [("a.jpg", b"no image"), ("b.jpg", b"none")])
    with pytest.raises(HolotypeError, match="of which none could be read"):
        drift_run(out, [str(broken)])


def test_the_interval_covers_the_index_of_what_is_drawn_from() -> None:
    """Of 200 draws from two distributions, most have the index of the distributions in their interval."""
    before = np.full(10, 0.1)
    for after in (before, np.linspace(0.05, 0.15, 10), np.array([0.02] * 5 + [0.18] * 5)):
        true = float(((after - before) * np.log(after / before)).sum())
        random = np.random.default_rng(1)
        covered = 0
        for number in range(200):
            expected, seen = random.multinomial(5000, before), random.multinomial(600, after)
            low, _, high = bootstrap_interval(expected, seen, number)
            covered += low <= true <= high
        assert covered >= 180


@pytest.mark.parametrize("count", [150, 400, 2000])
def test_the_index_lies_in_its_interval(count: int) -> None:
    """Also of images that are as alike as can be, and of few, where chance alone raises what is counted."""
    random = np.random.default_rng(0)
    for shift in (0.0, 0.3, 1.5):
        for _ in range(20):
            one = compare_quantity("distance", random.normal(size=count), random.normal(shift, size=count))
            assert 0 <= one.low <= one.index <= one.high
    pool = random.normal(size=count)
    same = compare_quantity("distance", pool, pool)
    assert (same.index, same.low) == (0, 0)


def test_an_alarm_is_sure_and_small_pools_raise_none() -> None:
    sure = Stability("distance", 0, 0, index=0.4, low=0.26, high=0.5, images=FEW, pool_images=FEW)
    assert sure.verdict == "other images than those of the pool"
    assert replace(sure, low=0.2).verdict == "it cannot be told whether they are other images than those of the pool"
    assert replace(sure, index=0.2, low=0.1).verdict == "moved"
    assert replace(sure, images=FEW - 1).verdict == f"too few images to say (from {FEW} on)"
    assert replace(sure, pool_images=FEW - 1).verdict == f"too few images in the pool to say (from {FEW} on)"


def test_the_bounds_are_those_of_the_index() -> None:
    pool = np.linspace(0, 1, 10_000)
    assert stability_index(pool, pool) == pytest.approx(0, abs=1e-9)
    assert 0 < stability_index(pool, pool**1.2) < MOVED < stability_index(pool, pool**1.7) < OTHERS
    assert stability_index(pool, pool**3) > OTHERS
