"""A classifier as one ONNX file, which ONNX Runtime alone runs."""

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from classifiers import CLASSES, OPTIONS
from colours import colour_towers
from numpy.typing import NDArray

from holotype import Classifier, Pool
from holotype.errors import NotFittedError
from holotype.export.network import to_onnx
from holotype.model.predictions import Predictions
from holotype.model.promises import Promise
from holotype.pool.descriptions import Description
from holotype.settings import HeadSettings, RankSettings

NEAR = 1e-4


def run(content: bytes, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, {"pixels": pixels}), strict=True))


def pixels_of(model: Classifier, pool: Pool) -> NDArray[np.uint8]:
    return np.stack([model.encoder_.prepare(pool.read(row)) for row in range(len(pool))])


def check(found: dict[str, Any], wanted: Predictions) -> None:
    assert found["label"].tolist() == wanted.labels
    np.testing.assert_allclose(found["probabilities"], wanted.probabilities, atol=NEAR)
    assert np.array_equal(found["vector"], wanted.vectors)
    assert found["nearest"].tolist() == list(wanted.nearest)
    np.testing.assert_allclose(found["similarity"], wanted.similarity, atol=NEAR)


def predicted(model: Classifier, pixels: NDArray[np.uint8]) -> Predictions:
    return model.predict_features([str(row) for row in range(len(pixels))], model.encoder_.encode(pixels))


def test_one_file_gives_what_predict_gives(fitted: Classifier, fit_pool: Pool) -> None:
    pixels = pixels_of(fitted, fit_pool)
    wanted = predicted(fitted, pixels)
    assert len(set(wanted.labels)) > 2  # classes and none
    content = to_onnx(fitted)
    check(run(content, pixels), wanted)
    check(run(content, pixels[:1]), predicted(fitted, pixels[:1]))
    assert to_onnx(fitted) == content


def test_none_of_no_images(fitted: Classifier, fit_pool: Pool) -> None:
    found = run(to_onnx(fitted), pixels_of(fitted, fit_pool)[:0])
    assert {len(each) for name, each in found.items() if name != "classes"} == {0}


@pytest.mark.parametrize("what", ["without numbers of exemplars", "with words", "two classes of one picture"])
def test_what_is_the_same_as_an_exemplar(what: str, fitted: Classifier, fit_pool: Pool) -> None:
    model, pixels = copy.copy(fitted), pixels_of(fitted, fit_pool)
    assert fitted.exemplar_classes_ is not None
    if what == "without numbers of exemplars":
        model.exemplar_classes_ = None  # as of an earlier version
    elif what == "with words":
        last = fitted.exemplar_classes_[-1]
        model.descriptions_ = [Description("what the last exemplar shows", last)]  # the last exemplar stands for words
    else:
        twice = [*fitted.exemplar_classes_, (fitted.exemplar_classes_[0] + 1) % 2]
        model.exemplar_classes_, model.exemplar_names_ = twice, [*fitted.exemplar_names_, "again"]
        model.exemplar_vectors_ = np.concatenate([fitted.exemplar_vectors_, fitted.exemplar_vectors_[:1]])
    check(run(to_onnx(model), pixels), predicted(model, pixels))


def test_what_the_file_says_of_itself(fitted: Classifier) -> None:
    session = onnxruntime.InferenceSession(to_onnx(fitted), providers=["CPUExecutionProvider"])
    about = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    assert about["holotype.classes"] == fitted.classes_[:-1]
    assert about["holotype.thresholds"] == fitted.calibration_.thresholds.tolist()
    height, width = fitted.encoder_.size
    assert (about["holotype.preprocessing"]["height"], about["holotype.preprocessing"]["width"]) == (height, width)
    assert about["holotype.promises"] == []
    assert [(one.name, one.type) for one in session.get_inputs()] == [("pixels", "tensor(uint8)")]


def test_before_a_fit_it_is_an_error() -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        to_onnx(Classifier())


def test_onnx_runtime_alone_runs_it(fitted: Classifier, fit_pool: Pool, tmp_path: Path) -> None:
    pixels = pixels_of(fitted, fit_pool)[:3]
    (tmp_path / "model.onnx").write_bytes(to_onnx(fitted))
    np.save(tmp_path / "pixels.npy", pixels)
    code = (
        "import sys, json, numpy, onnxruntime\n"
        "sys.modules['holotype'] = None\n"
        "session = onnxruntime.InferenceSession('model.onnx')\n"
        "labels, = session.run(['label'], {'pixels': numpy.load('pixels.npy')})\n"
        "print(json.dumps(labels.tolist()))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == predicted(fitted, pixels).labels


def test_it_says_the_terms_of_a_promise_and_not_which_images_it_is_about(fitted: Classifier) -> None:
    model = copy.copy(fitted)
    given = {"label": "red", "precision": 0.95, "confidence": 0.95, "together": 1, "threshold": 0.5, "covered": 1}
    given |= {"among": 9, "asked": 1, "yes": 1, "sample": {"a" * 64: True}, "who": ["ada"], "pool": "photos"}
    model.promises_ = [Promise.model_validate(given | {"images": "b" * 64, "date": "2026-01-01", "contents": "c" * 16})]
    session = onnxruntime.InferenceSession(to_onnx(model), providers=["CPUExecutionProvider"])
    (found,) = json.loads(session.get_modelmeta().custom_metadata_map["holotype.promises"])
    assert (found["precision"], found["confidence"], found["threshold"]) == (0.95, 0.95, 0.5)
    assert not {"sample", "contents"} & {*found}


def test_it_names_the_classes_where_metadata_are_not_shown(fitted: Classifier, fit_pool: Pool) -> None:
    assert run(to_onnx(fitted), pixels_of(fitted, fit_pool)[:2])["classes"].tolist() == fitted.classes_


@pytest.mark.parametrize("way", ["in the plain space", "in the space of the pool", "mlp", "in two views", "in three"])
def test_whatever_is_in_a_model_is_in_the_file(
    way: str, network: str, fit_pool: Pool, fit_vectors: Path, fit_cache: Path
) -> None:
    options: dict[str, dict[str, Any]] = {
        "in the plain space": {"rank": RankSettings(space="raw")},
        "in the space of the pool": {"rank": RankSettings(space="whitened")},
        "mlp": {"head": "mlp", "head_settings": HeadSettings(epochs=5)},
        "in two views": {"encoder": f"views2:{network}"},
        "in three": {"encoder": f"views3:{network}"},
    }
    model = Classifier(**{"encoder": network, **OPTIONS, **options[way]}).fit(fit_pool, CLASSES, cache=fit_vectors)
    assert (model.head_.space is None) == (way == "in the plain space")
    assert (len(model.head_.layers) > 1) == (way == "mlp")
    pixels = pixels_of(model, fit_pool)
    check(run(to_onnx(model), pixels), predicted(model, pixels))


def test_words_are_exemplars_in_the_file(tmp_path: Path, fit_pool: Pool, fit_cache: Path) -> None:
    towers = colour_towers(tmp_path)
    texts = {"red": ["red"], "green": ["green"]}
    model = Classifier(encoder=towers, **OPTIONS).fit(fit_pool, {"red": ["000"]}, descriptions=texts)
    assert len(model.descriptions_) == 2
    pixels = pixels_of(model, fit_pool)
    wanted = predicted(model, pixels)
    assert {*wanted.nearest} > {'"green"'}
    check(run(to_onnx(model), pixels), wanted)


def test_the_roots_of_features_are_in_the_file(fitted: Classifier, fit_pool: Pool) -> None:
    """Of features that are never negative roots are taken; of these some are, so that nothing else is the same."""
    model, pixels = copy.copy(fitted), pixels_of(fitted, fit_pool)
    assert fitted.head_.space is not None
    model.head_ = replace(fitted.head_, space=replace(fitted.head_.space, power=not fitted.head_.space.power))
    wanted = predicted(model, pixels)
    assert not np.allclose(wanted.probabilities, predicted(fitted, pixels).probabilities, atol=NEAR)
    check(run(to_onnx(model), pixels), wanted)
