"""The mistakes of the published notebook for the reference job: each is impossible here, and this is the proof."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from holotype import Classifier, Settings, evaluate, load_encoder, open_pool, run
from holotype.grouping.groups import ClassThreshold, group
from holotype.model.heads import class_weights
from holotype.model.predictions import Predictions
from holotype.pool.images import decode
from holotype.settings import Balance


@pytest.mark.parametrize("balance", ["weights", "effective"])
def test_1_class_weights_are_inverse_to_frequency(balance: Balance) -> None:
    labels = np.repeat([0, 1, 2], [10, 100, 5000])
    weights = class_weights(labels, 3, balance)
    assert weights[0] > weights[1] > weights[2]
    if balance == "weights":
        assert np.allclose(weights * [10, 100, 5000], weights[0] * 10)


def test_2_each_network_gets_its_own_normalisation(network: str, tmp_path: Path) -> None:
    grey = np.full((20, 20, 3), 51, np.uint8)
    for mean, std in (([0.5] * 3, [0.5] * 3), ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])):
        path = tmp_path / f"{mean[0]}.onnx"
        path.write_bytes(Path(network).read_bytes())
        path.with_suffix(".json").write_text(json.dumps({"size": 32, "image_mean": mean, "image_std": std}))
        encoder = load_encoder(str(path))
        cells = encoder.encode(encoder.prepare(grey)[None]).reshape(3, 16)
        expected = (51 / 255 - np.array(mean)) / np.array(std)
        assert np.allclose(cells, expected[:, None], atol=1e-3)


def test_3_test_images_are_resized_as_training_images_are(data: Path, job: Callable[..., Settings]) -> None:
    result = run(job(), data / "out")
    assert result.predictions is not None
    pool, model = open_pool(data / "images.tar"), Classifier.load(data / "out")
    assert len({decode(pool.read(row)).size for row in range(10, 20)}) > 1  # images of several sizes
    for name, chances in zip(result.predictions.ids, result.predictions.probabilities, strict=True):
        assert model.encoder_.prepare(pool.read(pool.row(name))).shape == (32, 32, 3)
        assert np.allclose(model.predict_proba(pool.read(pool.row(name)))[0], chances, atol=1e-3)


def test_4_an_image_above_two_thresholds_never_goes_to_the_last_class_silently() -> None:
    rows = np.array([[0.95, 0.81], [0.81, 0.95], [0.900, 0.905], [0.9, 0.1], [0.1, 0.9], [0.1, 0.2]], np.float32)
    thresholds = [ClassThreshold(0.8, 0.7, "given", False)] * 2

    def decide(scores: NDArray[np.float32], classes: list[str]) -> list[tuple[str, str]]:
        groups = group(classes, scores, thresholds, {}, ambiguity=0.01)
        return [(classes[k], what) for k, what in zip(groups.label, groups.decision.tolist(), strict=True)]

    first = decide(rows, ["a", "b"])
    assert first[:2] == [("a", "member"), ("b", "member")]
    assert first[2][1] == "doubtful"
    assert "nearly as far above the threshold of a" in group(["a", "b"], rows, thresholds, {}, 0.01).reason(2)
    assert decide(rows[:, ::-1].copy(), ["b", "a"]) == first  # the order of the classes has no say


def test_5_the_class_none_is_not_learnt_from_doubtful_images(data: Path, network: str) -> None:
    pool = open_pool(data / "images.tar")
    # a strict threshold leaves most reds below it: they are positives that no group holds
    classifier = Classifier(encoder=network, threshold=0.995, doubtful_band=1.0, near_duplicate=1.0)
    classifier.fit(pool, {"red": ["0"], "green": ["1"]})
    groups, training = classifier.groups_, classifier.training_
    left_out = [name for name in pool.ids if int(name) % 10 == 0 and groups.decision[pool.rows[name]] == "doubtful"]
    assert len(left_out) > 3
    of_none = {name for name, label in zip(training.ids, training.y, strict=True) if label == 2}
    assert not set(left_out) & of_none
    assert all(int(name) % 10 != 0 for name in of_none)


def test_6_near_duplicates_do_not_lie_on_both_sides_of_the_split(
    data: Path, network: str, make_tar: Callable[..., Path]
) -> None:
    pool = open_pool(data / "images.tar")
    members = [(f"{name}-{copy}.jpg", pool.read(row)) for row, name in enumerate(pool.ids) for copy in "abc"]
    copies = open_pool(make_tar(members, "copies.tar"))
    held_out = [copies.row("10-a"), copies.row("43-a")]
    classifier = Classifier(encoder=network, threshold=0.9, near_duplicate=0.99999)
    classifier.fit(copies, {"red": ["0-a"], "green": ["1-a"]}, held_out=held_out)
    training = classifier.training_
    folds: dict[str, set[int]] = {}
    for name, fold in zip(training.ids, training.fold.tolist(), strict=True):
        folds.setdefault(name[:-2], set()).add(fold)
    assert all(len(of_copies) == 1 for of_copies in folds.values())
    assert set.union(*folds.values()) == {-1, *range(5)}
    assert not {"10", "43"} & folds.keys()  # nor those of a test row in any
    assert training.dropped["10-b"] == "nearly the same as a test row"


def test_7_only_training_rows_are_augmented_and_only_after_the_split(data: Path, network: str) -> None:
    pool = open_pool(data / "images.tar")
    classifier = Classifier(encoder=network, threshold=0.9, balance="augment", views=2, near_duplicate=1.0)
    classifier.fit(pool, {"red": ["0"], "green": ["1"]}, cache=data / "cache-of-vectors")
    training = classifier.training_
    assert training.counts["augmented views"] == len(training.y) - len(training.ids) > 0
    views = list((data / "cache-of-vectors").glob("*-views-*/metadata/*.parquet"))
    assert views
    import pyarrow.parquet as pq

    sources = {name.rpartition("#view")[0] for path in views for name in pq.read_table(path)["id"].to_pylist()}
    assert sources <= set(training.ids)
    for fold in training.folds:  # the images themselves are judged by, and no view of one is learnt meanwhile
        ids = [name for name, own in zip(training.ids, training.fold, strict=False) if own == fold]
        plain = classifier.encoder_.encode(
            np.stack([classifier.encoder_.prepare(pool.read(pool.rows[name])) for name in ids])
        )
        assert np.allclose(plain, training.held_out(fold).X, atol=1e-2)
        assert len(training.without(fold).y) == (training.fold != fold).sum()


def test_8_a_class_without_a_positive_row_is_undefined_and_says_why() -> None:
    chances = np.array([[0.9, 0.05, 0.05], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1]])
    half = np.array([0.5, 0.5])
    predictions = Predictions(["a", "b", "c"], ["x", "y"], chances, half, ["e"] * 3, np.zeros(3))
    evaluation = evaluate(predictions, np.array([[1, 0], [0, 0], [0, 0]]))
    undefined = evaluation.classes[1]
    for score in (undefined.recall, undefined.f1, undefined.roc_auc, undefined.average_precision):
        assert math.isnan(score.value)
        assert score.reason == "no positive row in the test set"
    assert evaluation.macro["f1"].value == 1.0
    assert evaluation.macro_note("f1") == "macro over 1 of 2 classes"
    as_json = evaluation.to_json()["classes"][1]
    assert (as_json["f1"], as_json["f1_reason"]) == (None, "no positive row in the test set")
