"""The Classifier keeps scikit-learn's rules, answers alike for every form of an image, and a saved model is whole."""

import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Picture
from PIL import Image
from sklearn.base import clone

from holotype import Classifier, load_encoder, open_pool
from holotype.errors import EmbeddingsError, ExemplarError, GroupError, HolotypeError, ModelError, UnreadableImage
from holotype.pool.pool import Pool
from holotype.settings import FitSettings, HeadSettings
from holotype.vectors.embeddings import Embeddings

N = 150
FILES = ("model.json", "arrays.safetensors", "head.onnx", "encoder.onnx")
OPTIONS: dict[str, Any] = {"threshold": 0.9, "near_duplicate": 0.99999, "doubtful_band": 0.25}
CLASSES = {"red": ["000"], "green": ["001"]}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("holotype-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    for row in range(N):
        Image.fromarray(picture(row)).save(folder / f"{row:03}.png")
    return open_pool(folder)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all fits of this file use."""
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture(scope="module")
def fitted(pool: Pool, network: str, vectors: Path) -> Classifier:
    return Classifier(encoder=network, **OPTIONS).fit(pool, CLASSES, cache=vectors)


@pytest.fixture(scope="module")
def saved(fitted: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    fitted.save(folder)
    return folder


def learned(classifier: Classifier) -> set[str]:
    return {name for name in vars(classifier) if name.endswith("_")}


def png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_constructor_only_stores() -> None:
    settings = HeadSettings(units=7)
    values: dict[str, Any] = {"encoder": "no such network", "threshold": -5.0, "head_settings": settings, "views": "?"}
    classifier = Classifier(**values)  # wrong values are told by fit
    assert vars(classifier) == FitSettings.model_construct(**values).__dict__
    assert classifier.head_settings is settings
    assert not learned(classifier)


def test_its_parameters_are_those_of_the_settings() -> None:
    assert Classifier().get_params() == dict(FitSettings())
    assert list(Classifier().get_params()) == list(FitSettings.model_fields)


def test_clone_copies_the_parameters_and_forgets_the_rest(fitted: Classifier) -> None:
    copy = clone(fitted)
    assert copy is not fitted
    assert copy.get_params() == fitted.get_params()
    assert not learned(copy)
    assert copy.set_params(threshold=0.5, head="mlp") is copy
    assert (copy.threshold, fitted.threshold) == (0.5, 0.9)
    assert clone(copy).head == "mlp"


def test_an_unknown_parameter_is_a_value_error_that_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"no parameter 'treshold'; expected one of runtime, .*threshold"):
        Classifier().set_params(treshold=0.5)
    with pytest.raises(TypeError, match="treshold"):
        Classifier(treshold=0.5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "call",
    [
        lambda c, image, folder: c.predict(image),
        lambda c, image, folder: c.predict([image]),
        lambda c, image, folder: c.predict_proba([]),
        lambda c, image, folder: c.predict_proba(image),
        lambda c, image, folder: c.decision_function(image),
        lambda c, image, folder: c.predict_one(image),
        lambda c, image, folder: c.save(folder),
    ],
)
def test_before_fit_it_says_what_to_do(call: Any, picture: Picture, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not fitted yet: call fit\(pool, exemplars\) first"):
        call(Classifier(), picture(0), tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_wrong_setting_is_named(pool: Pool) -> None:
    wrong: dict[str, Any] = {"validation": 1.5, "views": 0, "head": "forest", "threshold": "automatic", "runtime": "x"}
    with pytest.raises(HolotypeError, match="these settings cannot be used") as error:
        Classifier(**wrong).fit(pool, CLASSES)
    assert all(name in str(error.value) for name in wrong)


def test_all_that_is_learnt_ends_in_an_underscore(fitted: Classifier) -> None:
    assert vars(fitted).keys() - learned(fitted) == FitSettings.model_fields.keys()
    assert fitted.classes_ == ["red", "green", "none"]
    assert fitted.get_params()["threshold"] == 0.9


def test_a_second_fit_forgets_the_first(pool: Pool, network: str, vectors: Path, picture: Picture) -> None:
    twice = Classifier(encoder=network, **OPTIONS).fit(pool, CLASSES, cache=vectors)
    before = twice.predict_proba(picture(2))
    twice.fit(pool, {"blue": ["002"]}, cache=vectors)
    once = Classifier(encoder=network, **OPTIONS).fit(pool, {"blue": ["002"]}, cache=vectors)
    assert twice.classes_ == ["blue", "none"]
    assert learned(twice) == learned(once)
    images = [picture(row) for row in (2, 12, 3)]
    assert np.array_equal(twice.predict_proba(images), once.predict_proba(images))
    assert before.shape == (1, 3)


def test_a_fit_that_fails_leaves_the_one_before_whole(
    pool: Pool, network: str, vectors: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier(encoder=network, **OPTIONS).fit(pool, CLASSES, cache=vectors)
    before = classifier.predict_proba(picture(0))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match="the mlp head needs torch"):
        classifier.set_params(head="mlp").fit(pool, {"blue": ["002"]}, cache=vectors)
    assert classifier.classes_ == ["red", "green", "none"]
    assert np.array_equal(classifier.predict_proba(picture(0)), before)


def test_every_form_of_an_image_has_the_same_answer(fitted: Classifier, picture: Picture, tmp_path: Path) -> None:
    for row in (300, 301, 303):
        pixels = picture(row)
        (tmp_path / "x.png").write_bytes(png(pixels))
        with Image.open(tmp_path / "x.png") as image:
            forms = [tmp_path / "x.png", str(tmp_path / "x.png"), png(pixels), image, pixels]
            answers = [fitted.predict_proba(form) for form in forms]
        assert all(np.array_equal(answer, answers[0]) for answer in answers)


def test_one_image_gives_a_label_and_a_list_gives_an_array(fitted: Classifier, picture: Picture) -> None:
    images = [picture(row) for row in (300, 301, 303)]
    assert fitted.predict(images[0]) == "red"
    many = fitted.predict(images)
    assert isinstance(many, np.ndarray)
    assert many.tolist() == [fitted.predict(image) for image in images] == ["red", "green", "none"]
    assert fitted.predict(tuple(images)).tolist() == many.tolist()
    assert fitted.predict([images[0]]).tolist() == ["red"]
    chances, margins = fitted.predict_proba(images), fitted.decision_function(images)
    assert np.allclose(chances.sum(axis=1), 1)
    assert np.allclose(margins, chances[:, :2] - fitted.calibration_.thresholds)
    assert np.array_equal(fitted.predict_proba(images[1]), chances[1:2])


def test_no_images_give_no_answers(fitted: Classifier) -> None:
    assert fitted.predict([]).tolist() == []
    assert fitted.predict([]).dtype.kind == "U"
    assert fitted.predict_proba([]).shape == (0, 3)
    assert fitted.decision_function([]).shape == (0, 2)


def test_a_bad_image_is_refused_with_the_reason(fitted: Classifier, tmp_path: Path) -> None:
    for bad in (b"no image", tmp_path / "absent.png", np.zeros((4, 4), float)):
        with pytest.raises(UnreadableImage):
            fitted.predict(bad)


def test_a_pool_is_predicted_in_batches_and_its_bad_images_are_told(
    fitted: Classifier, picture: Picture, tmp_path: Path
) -> None:
    for row in range(10):
        (tmp_path / f"{row}.png").write_bytes(b"no image" if row in (4, 5, 9) else png(picture(row)))
    new = open_pool(tmp_path)
    batches = list(fitted.predict_pool(new, range(10)))
    ids = [name for predictions, _ in batches for name in predictions.ids]
    assert ids == ["0", "1", "2", "3", "6", "7", "8"]
    assert {name for _, bad in batches for name in bad} == {"4", "5", "9"}
    chances = np.concatenate([predictions.probabilities for predictions, _ in batches])
    assert np.allclose(chances, fitted.predict_proba([picture(int(name)) for name in ids]), atol=1e-5)


def test_the_nearest_exemplar_is_named(fitted: Classifier, picture: Picture) -> None:
    found = fitted.predict_one(picture(1), "mine")
    assert (found.ids, found.nearest) == (["mine"], ["001"])
    assert found.similarity[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_loaded_model_is_the_same_model(
    head: Any, pool: Pool, network: str, vectors: Path, picture: Picture, tmp_path: Path
) -> None:
    settings = HeadSettings(epochs=5, units=12)
    classifier = Classifier(encoder=network, head=head, head_settings=settings, **OPTIONS)
    classifier.fit(pool, CLASSES, cache=vectors).save(str(tmp_path / "model"))
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
    assert np.allclose(chances, fitted.predict_images([""] * 20, features).probabilities, atol=1e-5)


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
    name: str, saved: Path, network: str, pool: Pool, vectors: Path, tmp_path: Path
) -> None:
    """As after a save over an older model that was killed halfway."""
    shutil.copytree(saved, tmp_path / "model")
    shutil.copy(network, tmp_path / "mean.onnx")
    about = {"size": 32, "image_mean": [0.1] * 3, "image_std": [0.9] * 3}
    (tmp_path / "mean.json").write_text(json.dumps(about))
    other = Classifier(encoder=str(tmp_path / "mean.onnx"), **OPTIONS | {"threshold": 0.8})
    other.fit(pool, CLASSES).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, tmp_path / "model" / name)
    with pytest.raises(ModelError, match="is not the file that was saved with this model"):
        Classifier.load(tmp_path / "model")


def test_a_folder_without_a_model_and_one_of_another_format(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a saved model in .*nowhere \(model\.json\)"):
        Classifier.load(tmp_path / "nowhere")
    shutil.copytree(saved, tmp_path / "model")
    about = json.loads((saved / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(ModelError, match="has format 99, this version reads format 4"):
        Classifier.load(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text(json.dumps(["a", "list"]))
    with pytest.raises(ModelError, match="not whole"):
        Classifier.load(tmp_path / "model")


def test_a_saved_model_holds_no_code_and_no_paths_but_the_given(
    saved: Path, network: str, pool: Pool, vectors: Path, cache: Path
) -> None:
    assert {path.name for path in saved.iterdir()} == set(FILES)
    for path in saved.iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))  # a pickle, or torch's zip of pickles
        for told in (str(cache), str(vectors), pool.source, str(Path.home()), str(Path(__file__).parents[1])):
            assert told.encode() not in content
        if path.name != "model.json":
            assert str(Path(network).parent).encode() not in content
    assert json.loads((saved / "model.json").read_text())["encoder"]["name"] == network  # what fit would need


def test_an_exemplar_from_outside_the_pool(
    pool: Pool, network: str, vectors: Path, picture: Picture, tmp_path: Path
) -> None:
    (tmp_path / "blue.png").write_bytes(png(picture(502)))
    classifier = Classifier(encoder=network, **OPTIONS)
    classifier.fit(pool, CLASSES | {"blue": [str(tmp_path / "blue.png")]}, cache=vectors)
    assert classifier.predict([picture(602), picture(600), picture(603)]).tolist() == ["blue", "red", "none"]
    found = classifier.predict_one(picture(502))
    assert found.nearest == [str(tmp_path / "blue.png")]
    assert found.similarity[0] == pytest.approx(1, abs=1e-3)


def test_an_exemplar_from_outside_with_vectors_of_an_unknown_encoder(
    pool: Pool, network: str, picture: Picture, tmp_path: Path
) -> None:
    (tmp_path / "blue.png").write_bytes(png(picture(502)))
    encoder = load_encoder(network)
    features = encoder.encode(np.stack([encoder.prepare(pool.read(row)) for row in range(N)]))
    supplied = Embeddings([features], np.arange(N), N)
    chosen = {"red": ["000"], "blue": [str(tmp_path / "blue.png")]}
    classifier = Classifier(encoder=network, **OPTIONS)
    with pytest.raises(ExemplarError, match="what made them is not known"):
        classifier.fit(pool, chosen, embeddings=supplied)
    classifier.fit(pool, chosen, embeddings=supplied, embeddings_encoder=encoder)
    assert classifier.predict([picture(602), picture(600)]).tolist() == ["blue", "red"]
    turned = Embeddings([features[:, ::-1]], np.arange(N), N)
    with pytest.raises(EmbeddingsError, match="another encoder or preprocessing made them"):
        classifier.fit(pool, {"red": ["000"], "blue": ["002"]}, embeddings=turned, embeddings_encoder=encoder)


def test_several_exemplars_of_one_class(pool: Pool, network: str, vectors: Path, picture: Picture) -> None:
    classifier = Classifier(encoder=network, **OPTIONS)
    classifier.fit(pool, {"warm": ["000", "010", "001"], "blue": ["002"]}, cache=vectors)
    groups = classifier.groups_
    assert groups.decision[[0, 10, 1, 2]].tolist() == ["exemplar"] * 4
    assert {pool.ids[row] for row in range(N) if row % 10 < 2} <= {pool.ids[row] for row in groups.members(0)}
    assert classifier.predict([picture(300), picture(301), picture(302)]).tolist() == ["warm", "warm", "blue"]
    assert {"000", "010", "001"} <= set(classifier.training_.fit_ids)


def test_one_exemplar_may_stand_without_a_list(pool: Pool, network: str, vectors: Path, picture: Picture) -> None:
    plain = Classifier(encoder=network, **OPTIONS).fit(pool, {"red": "000", "green": "001.png"}, cache=vectors)
    listed = Classifier(encoder=network, **OPTIONS).fit(pool, CLASSES, cache=vectors)
    assert plain.exemplar_names_ == listed.exemplar_names_ == ["000", "001"]
    assert np.array_equal(plain.predict_proba(picture(0)), listed.predict_proba(picture(0)))


@pytest.mark.parametrize(
    ("exemplars", "message"),
    [
        ({}, "at least one class"),
        ({"red": []}, "class 'red' has no exemplar"),
        ({"none": ["000"]}, '"none" is the name of the rejected class'),
        ({"red": ["000"], "blue": ["000.png"]}, "one class only"),
        ({"red": ["/no/such/file.png"]}, "there is no file"),
    ],
)
def test_exemplars_that_cannot_be_used(
    exemplars: dict[str, list[str]], message: str, pool: Pool, network: str, vectors: Path
) -> None:
    with pytest.raises(ExemplarError, match=message):
        Classifier(encoder=network, **OPTIONS).fit(pool, exemplars, cache=vectors)


def test_an_exemplar_that_vanished_is_unreadable(network: str, picture: Picture, tmp_path: Path) -> None:
    for row in range(5):
        (tmp_path / f"{row}.png").write_bytes(png(picture(row)))
    pool = open_pool(tmp_path)
    (tmp_path / "0.png").unlink()
    with pytest.raises(ExemplarError, match="exemplar red=0 is unreadable"):
        Classifier(encoder=network).fit(pool, {"red": ["0"]})


def few(folder: Path, picture: Picture, alike: int, others: int = 60) -> Pool:
    """`alike` reds, the rest of other colours."""
    folder.mkdir()
    for row in range(alike):
        (folder / f"red{row}.png").write_bytes(png(picture(10 * row)))
    for row in range(others):
        (folder / f"other{row:02}.png").write_bytes(png(picture(10 * row + 3 + row % 7)))
    return open_pool(folder)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_group_of_one_image_beside_the_exemplar_is_enough(
    head: Any, network: str, picture: Picture, tmp_path: Path
) -> None:
    pool = few(tmp_path / "pool", picture, alike=2)
    classifier = Classifier(encoder=network, head=head, **OPTIONS | {"threshold": 0.98})
    classifier.fit(pool, {"red": ["red0"]})
    assert len(classifier.groups_.members(0)) == 2
    assert sorted(name for name in classifier.training_.fit_ids if name.startswith("red")) == ["red0", "red1"]
    assert classifier.calibration_.basis[0].startswith("best F1 on 2 rows of the class, those learnt from included")
    chances = classifier.predict_proba([picture(row) for row in (500, 510, 503, 504, 505, 506)])
    assert chances[:2, 0].min() > 3 * chances[2:, 0].max()  # sure of little, and in the right order
    assert (classifier.predict([picture(row) for row in (0, 10)]) == "red").all()  # its own group at the least
    assert (classifier.predict([picture(row) for row in range(503, 510)]) == "none").all()


def test_a_pool_of_the_exemplar_and_one_more(network: str, picture: Picture, tmp_path: Path) -> None:
    with pytest.raises(GroupError, match="no image is left as background"):
        Classifier(encoder=network, **OPTIONS).fit(few(tmp_path / "a", picture, 2, 0), {"red": ["red0"]})
    with pytest.raises(GroupError, match="no image but the exemplars has a vector"):
        Classifier(encoder=network, **OPTIONS).fit(few(tmp_path / "b", picture, 1, 0), {"red": ["red0"]})


def test_a_group_of_none_but_the_exemplar_names_the_nearest(network: str, picture: Picture, tmp_path: Path) -> None:
    pool = few(tmp_path / "pool", picture, alike=1)
    with pytest.raises(GroupError, match=r"'red' at threshold 0\.999; the most similar image has a cosine of 0\.\d+"):
        Classifier(encoder=network, **OPTIONS | {"threshold": 0.999}).fit(pool, {"red": ["red0"]})


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_too_few_images_for_a_validation_row(head: Any, network: str, picture: Picture, tmp_path: Path) -> None:
    pool = few(tmp_path / "pool", picture, alike=3, others=4)
    classifier = Classifier(encoder=network, head=head, **OPTIONS).fit(pool, {"red": ["red0"]})
    assert not classifier.training_.validation_ids
    chances = classifier.predict_proba([picture(500), picture(503)])
    assert chances[0, 0] > chances[1, 0]


def test_the_order_of_the_classes_has_no_say(pool: Pool, network: str, vectors: Path, picture: Picture) -> None:
    forward = Classifier(encoder=network, **OPTIONS).fit(pool, CLASSES, cache=vectors)
    backward = Classifier(encoder=network, **OPTIONS).fit(pool, dict(reversed(CLASSES.items())), cache=vectors)
    images = [picture(row) for row in range(300, 330)]
    assert forward.predict(images).tolist() == backward.predict(images).tolist()
    assert np.abs(forward.predict_proba(images) - backward.predict_proba(images)[:, [1, 0, 2]]).max() < 0.1


def test_the_same_seed_gives_the_same_model_without_a_cache_too(
    pool: Pool, network: str, fitted: Classifier, picture: Picture
) -> None:
    again = Classifier(encoder=network, **OPTIONS).fit(pool, CLASSES)
    images = [picture(row) for row in range(300, 310)]
    assert np.allclose(again.predict_proba(images), fitted.predict_proba(images), atol=1e-6)
    assert again.groups_.reasons() == fitted.groups_.reasons()
