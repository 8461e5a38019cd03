"""A saved model is whole, and the same model wherever it is loaded."""

import copy
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classifiers import CLASSES, OPTIONS
from conftest import Picture

from holotype import Classifier
from holotype.encoders.hub import Snapshot
from holotype.errors import ModelError
from holotype.pool.pool import Pool
from holotype.settings import HeadSettings

pytestmark = pytest.mark.usefixtures("fit_cache")

FILES = ("model.json", "arrays.safetensors", "head.onnx", "encoder.onnx")


@pytest.fixture(scope="module")
def saved(fitted: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    fitted.save(folder)
    return folder


def test_a_model_says_what_its_encoder_was_made_from(
    fitted: Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also after it was loaded and saved again."""
    source = Snapshot("owner/model", "a" * 40, {"model.onnx": "b" * 64})
    monkeypatch.setattr(fitted.encoder_, "source", source)
    fitted.save(tmp_path / "one")
    copy.deepcopy(Classifier.load(tmp_path / "one")).save(tmp_path / "two")
    for name in ("one", "two"):
        assert json.loads((tmp_path / name / "model.json").read_text())["encoder"]["source"] == asdict(source)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_loaded_model_is_the_same_model(
    head: Any, fit_pool: Pool, network: str, fit_vectors: Path, picture: Picture, tmp_path: Path
) -> None:
    settings = HeadSettings(epochs=5, units=12)
    classifier = Classifier(encoder=network, head=head, head_settings=settings, **OPTIONS)
    classifier.fit(fit_pool, CLASSES, cache=fit_vectors).save(str(tmp_path / "model"))
    shutil.move(tmp_path / "model", tmp_path / "elsewhere")
    loaded = Classifier.load(str(tmp_path / "elsewhere"))
    images = [picture(row) for row in range(300, 320)]
    assert np.array_equal(loaded.predict_proba(images), classifier.predict_proba(images))
    assert np.array_equal(loaded.decision_function(images), classifier.decision_function(images))
    one, two = (list(c.predict_one(images[0]).records()) for c in (loaded, classifier))
    assert one == two
    assert loaded.get_params() == classifier.get_params()
    assert loaded.calibration_.basis == classifier.calibration_.basis
    loaded.save(tmp_path / "elsewhere")  # over itself
    loaded.save(tmp_path / "third")
    for name in FILES:
        assert (tmp_path / "third" / name).read_bytes() == (tmp_path / "elsewhere" / name).read_bytes()
    assert np.array_equal(Classifier.load(tmp_path / "third").predict_proba(images), loaded.predict_proba(images))


def test_the_head_file_gives_what_the_model_says(saved: Path, fitted: Classifier, picture: Picture) -> None:
    import onnxruntime

    features = fitted.encoder_.encode(np.stack([fitted.encoder_.prepare(picture(row)) for row in range(20)]))
    session = onnxruntime.InferenceSession(saved / "head.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"features": features})
    chances = fitted.calibration_.probabilities(scores.astype(np.float64))
    found = fitted.predict_features([""] * 20, features).probabilities
    assert np.allclose(chances[2:], found[2:], atol=1e-5)
    assert np.array_equal(found[:2], np.eye(3)[:2])  # the exemplars, of which the head is not asked


@pytest.mark.parametrize("damage", ["missing", "empty", "half", "one byte off"])
@pytest.mark.parametrize("name", FILES)
def test_a_torn_model_is_refused(name: str, damage: str, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "model")
    path = tmp_path / "model" / name
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(whole) // 2
        other = {
            "empty": b"",
            "half": whole[:middle],
            "one byte off": whole[:middle] + bytes([whole[middle] ^ 128]) + whole[middle + 1 :],
        }
        path.write_bytes(other[damage])
    with pytest.raises(ModelError) as error:
        Classifier.load(tmp_path / "model")
    assert str(tmp_path / "model") in str(error.value)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_model_is_refused(
    name: str, saved: Path, network: str, fit_pool: Pool, fit_vectors: Path, tmp_path: Path
) -> None:
    """As after a save over an older model that was killed halfway."""
    shutil.copytree(saved, tmp_path / "model")
    shutil.copy(network, tmp_path / "mean.onnx")
    about = {"size": 32, "image_mean": [0.1] * 3, "image_std": [0.9] * 3}
    (tmp_path / "mean.json").write_text(json.dumps(about))
    other = Classifier(encoder=str(tmp_path / "mean.onnx"), **OPTIONS | {"threshold": 0.8})
    other.fit(fit_pool, CLASSES).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, tmp_path / "model" / name)
    with pytest.raises(ModelError, match="is not the file that was saved with this model"):
        Classifier.load(tmp_path / "model")


def test_a_folder_without_a_model_and_one_of_another_format(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a saved model or a run in .*nowhere \(model\.json\)"):
        Classifier.load(tmp_path / "nowhere")
    shutil.copytree(saved, tmp_path / "model")
    about = json.loads((saved / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(ModelError, match="has format 99, this version reads formats 4 to 6"):
        Classifier.load(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text(json.dumps(["a", "list"]))
    with pytest.raises(ModelError, match="not whole"):
        Classifier.load(tmp_path / "model")


def test_a_saved_model_holds_no_code_and_no_paths_but_the_given(
    saved: Path, network: str, fit_pool: Pool, fit_vectors: Path, fit_cache: Path
) -> None:
    assert {path.name for path in saved.iterdir()} == set(FILES)
    for path in saved.iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))  # a pickle, or torch's zip of pickles
        for told in (
            str(fit_cache),
            str(fit_vectors),
            fit_pool.source,
            str(Path.home()),
            str(Path(__file__).parents[1]),
        ):
            assert told.encode() not in content
        if path.name != "model.json":
            assert str(Path(network).parent).encode() not in content
    assert json.loads((saved / "model.json").read_text())["encoder"]["name"] == network  # what fit would need
