"""From a tar and one exemplar per class to a saved model, on real JPEGs and a small real network."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from holotype import Classifier, Settings, load_encoder, open_pool, run
from holotype.encoders.encode import Encoded, Load, encode_parts
from holotype.encoders.runtimes import BATCH, Encoder
from holotype.errors import EmbeddingsError, ExemplarError, HolotypeWarning, OutputError
from holotype.model.predictions import classified
from holotype.runs.commands import tune_run
from holotype.runs.lookup import search_pool
from holotype.settings import RankSettings, TrainSettings
from holotype.vectors.store import EmbeddingStore, embed
from holotype.vectors.supplied import import_embeddings

N = 240  # pictures in `data`
Picture = Callable[[int], NDArray[np.uint8]]
Job = Callable[..., Settings]


def test_the_whole_job(data: Path, job: Job, picture: Picture) -> None:
    chosen = run(job(heads=["linear", "mlp"]), data / "out")
    assert chosen.evaluation is not None
    assert chosen.evaluation.macro["f1"].value >= 0.9
    out = data / "out"
    for name in ("holotype.toml", "groups.parquet", "predictions.csv", "metrics.json", "report.html", "sweep.csv"):
        assert (out / name).exists(), name
    assert "7," in (out / "unreadable.csv").read_text()
    model = Classifier.load(out)
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[::8] = 255
    images = [picture(500), picture(501), picture(502), stripes]
    answers = [model.predict_one(image).vectors[0].tolist() for image in images]
    assert answers == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert model.predict(picture(100)) == chosen.classifier.predict(picture(100)) == "red"


def test_the_report_says_without_labels_how_strong_a_group_is(data: Path, job: Job) -> None:
    chosen = run(job(thresholds=["auto"]), data / "out")
    assert chosen.evaluation is not None
    assert chosen.evaluation.macro["f1"].value >= 0.8
    groups = chosen.classifier.groups_
    stated = json.loads((data / "out" / "metrics.json").read_text())["estimates"]
    assert [row["name"] for row in stated] == groups.classes
    page = (data / "out" / "report.html").read_text()
    for k, row in enumerate(stated):
        assert row["found"] == (groups.decision[groups.members(k)] == "member").sum()
        assert f"<b>{row['found']:,}</b> found" in page
        assert f"The group is {row['strength']}, by how its images are connected with each other" in page
        assert (row["strength"], row["basis"]) in {(word, "connections") for word in ("strong", "fair", "weak")}
        assert f"{100 * row['estimated_precision']:.0f} %" not in page.split("Left out as doubtful")[k][-400:]
        assert f"Left out as doubtful: {row['below']:,} just below the threshold" in page
    given = run(job(), data / "given")
    assert given.classifier.groups_.score_kind == "cosine"
    assert json.loads((data / "given" / "metrics.json").read_text())["estimates"] == []
    assert "The group is" not in (data / "given" / "report.html").read_text()


@pytest.mark.parametrize("alike", [0.99999, 0.5])  # with the lower one nothing can be held out
def test_the_numbers_of_a_class_are_the_same_wherever_they_stand(data: Path, job: Job, alike: float) -> None:
    """Members without the exemplars; what is learnt from by its probability, in the table as in the note about it."""
    result = run(job(thresholds=["auto"], test_set=None, fit={"near_duplicate": alike}), data / "out")
    page = (data / "out" / "report.html").read_text()
    sweep = list(csv.DictReader((data / "out" / "sweep.csv").read_text().splitlines()))
    found, counts = 0, json.loads((data / "out" / "metrics.json").read_text())["counts"]
    for k, line in enumerate(result.summary()):
        name, members = line.split(": ")[0], int(line.split()[1])
        assert f"<p><b>{members:,} found</b>, " in page.split(f"<h3><bdi>{name}</bdi> ")[1][:100]
        assert f"<b>{members:,}</b> found" in page.split(f"<bdi>{name}</bdi></a></h3>")[1][:100]
        assert members == len(result.classifier.groups_.members(k)) - 1
        found += members
        learnt, held = re.findall(rf"<bdi>{name}</bdi></td><td>(\d+)</td><td>(\d+)</td><td>0\.", page)[0]
        assert int(learnt) == counts[name] > 20
        assert (int(held) > 0) == (alike == 0.99999)
        note = f"No image of {name} could be held out ({learnt} to learn from): nothing here checks"
        assert (note in page) == (held == "0")
    assert int(sweep[0]["members"]) == found


def test_a_model_that_says_what_the_groups_say_agrees_with_them(data: Path, job: Job) -> None:
    """Also where a group is unsure of its members: its estimate is below one half, and they are its members still."""
    chosen = run(job(thresholds=["auto"]), data / "out").chosen
    groups, fitted, pool = chosen.groups, chosen.classifier.cross_fit_, open_pool(data / "images.tar")
    rows = np.array([pool.row(chosen.classifier.training_.ids[place]) for place in fitted.rows])
    rows, probabilities = rows[(sure := groups.decision[rows] != "doubtful")], fitted.probabilities[sure]
    assert (groups.scores[rows][groups.decision[rows] == "member"].max(axis=1) < 0.5).any()
    given = classified(probabilities, chosen.classifier.calibration_.thresholds)
    scores = []
    for k in range(3):
        members = (groups.decision[rows] == "member") & (groups.label[rows] == k)
        scores.append(2 * (members & (given == k)).sum() / (members.sum() + (given == k).sum()))
    assert chosen.agreement == pytest.approx(np.mean(scores))
    assert chosen.agreement > 0.5


def test_each_stage_of_the_ranking_can_be_switched_off(data: Path, job: Job) -> None:
    for rank, measure in (
        (RankSettings(space="raw"), "estimate"),
        (RankSettings(self_training=False), "estimate"),
        (RankSettings(exemplar_views=False), "estimate"),
        (RankSettings(diffusion=False), "cosine"),
    ):
        fit = TrainSettings(rank=rank, near_duplicate=0.99999)
        chosen = run(job(thresholds=["auto"], fit=fit), data / "out", force=True)
        assert chosen.classifier.groups_.score_kind == measure


def test_the_report_says_where_no_closer_look_was_taken_at_the_exemplars(data: Path, job: Job, network: str) -> None:
    pool, encoder = open_pool(data / "images.tar"), load_encoder(network)
    vectors = np.zeros((N, 48), np.float32)
    for row in set(range(N)) - {7}:
        vectors[row] = encoder.encode(encoder.prepare(pool.read(row))[None])[0]
    vectors[7] = 1  # of an image that cannot be read
    np.save(data / "e.npy", vectors)
    given = {"thresholds": ["auto"], "embeddings": str(data / "e.npy")}
    run(job(**given), data / "out")
    assert "No closer look was taken at the exemplars" in (data / "out" / "report.html").read_text()
    run(job(**given, embeddings_encoder=network), data / "out", force=True)
    assert "No closer look was taken at the exemplars" not in (data / "out" / "report.html").read_text()


def test_no_image_is_encoded_twice_whatever_is_compared(
    data: Path, job: Job, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = embed(open_pool(data / "images.tar"), load_encoder(network), data / "supplied")
    vectors = np.ones((N, found.dim), np.float32)
    vectors[found.rows] = found.take(found.rows)
    np.save(data / "supplied.npy", vectors)
    names: list[str] = []

    def counted(wanted: Sequence[Sequence[str]], load: Load, encoder: Encoder) -> Iterator[Encoded]:
        names.extend(name for part in wanted for name in part)
        return encode_parts(wanted, load, encoder)

    monkeypatch.setattr("holotype.vectors.store.encode_parts", counted)
    compared = {"heads": ["linear", "mlp"], "thresholds": [0.9, 0.95], "trials": 2}
    fit = TrainSettings(negatives=20, balance="augment")
    run(job(**compared, embeddings=str(data / "supplied.npy"), fit=fit), data / "out")
    assert len(names) == len(set(names))
    assert 20 < sum("#view" not in name for name in names) < N / 2
    assert any("#view" in name for name in names)


def test_the_saved_model_predicts_without_torch(data: Path, job: Job, picture: Picture) -> None:
    run(job(), data / "out")
    Image.fromarray(picture(100)).save(data / "new.png")
    code = (
        "import sys\nfor n in ('torch', 'sklearn', 'kornia', 'transformers'): sys.modules[n] = None\n"
        "from holotype import Classifier\n"
        f"print(Classifier.load({str(data / 'out')!r}).predict({str(data / 'new.png')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["red"]


def test_an_interrupted_embed_resumes_to_the_same_vectors(
    data: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holotype.vectors.store.SHARD", 20)
    pool, encoder = open_pool(data / "images.tar"), load_encoder(network)
    whole = embed(pool, encoder, data / "whole")
    stopped = 50

    def load(name: str) -> bytes:
        if pool.rows[name] == stopped:
            raise KeyboardInterrupt
        return pool.read(pool.rows[name])

    with pytest.raises(KeyboardInterrupt):
        EmbeddingStore(data / "part", encoder, pool).ensure(pool.ids, load)
    kept = EmbeddingStore(data / "part", encoder, pool).open()
    before = set(range(stopped // BATCH * BATCH))  # all that came before, whichever thread was first
    assert max(before) % 20 != 19  # also those of a shard that was not full
    assert {*kept.rows.tolist(), *(pool.rows[name] for name in kept.unreadable)} == before
    resumed = embed(pool, encoder, data / "part")
    assert np.array_equal(np.sort(resumed.rows), whole.rows)
    assert np.array_equal(resumed.take(whole.rows), whole.take(whole.rows))
    assert list(resumed.unreadable) == ["7"]


def test_an_out_folder_that_holds_a_run_is_refused(data: Path, job: Job) -> None:
    run(job(), data / "out")
    with pytest.raises(OutputError, match="already holds a run"):
        run(job(), data / "out")


@pytest.mark.parametrize(
    ("exemplars", "message"),
    [
        ({"red": ["0"], "green": ["nothing"]}, "nothing"),
        ({"red": ["0"], "green": ["0"]}, "one class only"),
        ({"red": ["7"]}, "unreadable"),
    ],
)
def test_bad_exemplars(data: Path, network: str, exemplars: dict[str, list[str]], message: str) -> None:
    pool = open_pool(data / "images.tar")
    with pytest.raises(ExemplarError, match=message):
        Classifier(encoder=network).fit(pool, exemplars)


def test_an_empty_group_says_what_would_fill_it(data: Path, network: str) -> None:
    classifier = Classifier(encoder=network, threshold=0.999999)
    with pytest.warns(HolotypeWarning, match="most similar image has a cosine of"):
        classifier.fit(open_pool(data / "images.tar"), {"red": ["0"]})
    assert classifier.classes_ == ["red", "none"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((N - 1, 4), np.float32), f"{N - 1} rows"),
        (np.ones(N, np.float32), "shape"),
        (np.ones((N, 4), np.int64), "float array"),
        (np.where(np.arange(N)[:, None] == 5, np.nan, np.ones((N, 4))), "NaN"),
        (np.where(np.arange(N)[:, None] == 5, 0, np.ones((N, 4))), "only zeros in row 5"),
        (np.array([{}] * N, dtype=object), "plain array"),
    ],
)
def test_embeddings_that_do_not_fit(data: Path, array: NDArray[np.generic], message: str) -> None:
    np.save(data / "e.npy", array, allow_pickle=True)
    with pytest.raises(EmbeddingsError, match=message):
        import_embeddings(data / "e.npy", open_pool(data / "images.tar"))


def test_tuning_a_run_writes_its_settings_and_predictions_anew(data: Path, job: Job) -> None:
    run(job(), data / "out")
    tuned = tune_run(data / "out", trials=3, thresholds=[0.9, 0.95]).tuned
    assert tuned is not None
    assert tuned.trials == 3
    again = Settings.load(data / "out" / "holotype.toml")
    assert (again.trials, again.thresholds, again.tune_threshold) == (3, [0.9, 0.95], True)
    model = json.loads((data / "out" / "model" / "model.json").read_text())
    assert model["settings"]["head_settings"] == tuned.settings.model_dump()
    assert model["settings"]["threshold"] == tuned.threshold


def test_search_finds_the_exemplars_colour(data: Path, network: str) -> None:
    found = search_pool(str(data / "images.tar"), ["0"], network, vectors=data / "vectors")
    assert all(int(name) % 10 == 0 for name, _ in found.best(10))
    found.sheet(10, data / "sheet.png")
    with Image.open(data / "sheet.png") as sheet:
        assert sheet.size == (1120, 112)
