"""The Classifier keeps scikit-learn's rules, and answers alike for every form of an image."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classifiers import CLASSES, OPTIONS, png
from conftest import Picture
from PIL import Image
from sklearn.base import clone

from holotype import Classifier, open_pool
from holotype.errors import ExemplarError, HolotypeError, ModelError, PoolError, UnreadableImage
from holotype.pool.pool import Pool
from holotype.settings import FitSettings, HeadSettings

pytestmark = pytest.mark.usefixtures("fit_cache")


def learned(classifier: Classifier) -> set[str]:
    return {name for name in vars(classifier) if name.endswith("_")}


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


def test_every_wrong_setting_is_named(fit_pool: Pool) -> None:
    wrong: dict[str, Any] = {"validation": 1.5, "views": 0, "head": "forest", "threshold": "automatic", "runtime": "x"}
    with pytest.raises(HolotypeError, match="these settings cannot be used") as error:
        Classifier(**wrong).fit(fit_pool, CLASSES)
    assert all(name in str(error.value) for name in wrong)


def test_all_that_is_learnt_ends_in_an_underscore(fitted: Classifier) -> None:
    assert vars(fitted).keys() - learned(fitted) == FitSettings.model_fields.keys()
    assert fitted.classes_ == ["red", "green", "none"]
    assert fitted.get_params()["threshold"] == 0.9


def test_a_second_fit_forgets_the_first(fit_pool: Pool, network: str, fit_vectors: Path, picture: Picture) -> None:
    twice = Classifier(encoder=network, **OPTIONS).fit(fit_pool, CLASSES, cache=fit_vectors)
    before = twice.predict_proba(picture(2))
    twice.fit(fit_pool, {"blue": ["002"]}, cache=fit_vectors)
    once = Classifier(encoder=network, **OPTIONS).fit(fit_pool, {"blue": ["002"]}, cache=fit_vectors)
    assert twice.classes_ == ["blue", "none"]
    assert learned(twice) == learned(once)
    images = [picture(row) for row in (2, 12, 3)]
    assert np.array_equal(twice.predict_proba(images), once.predict_proba(images))
    assert before.shape == (1, 3)


def test_a_fit_that_fails_leaves_the_one_before_whole(
    fit_pool: Pool, network: str, fit_vectors: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier(encoder=network, **OPTIONS).fit(fit_pool, CLASSES, cache=fit_vectors)
    before = classifier.predict_proba(picture(0))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match="the mlp head needs torch"):
        classifier.set_params(head="mlp").fit(fit_pool, {"blue": ["002"]}, cache=fit_vectors)
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


def test_the_order_of_the_classes_has_no_say(fit_pool: Pool, network: str, fit_vectors: Path, picture: Picture) -> None:
    forward = Classifier(encoder=network, **OPTIONS).fit(fit_pool, CLASSES, cache=fit_vectors)
    backward = Classifier(encoder=network, **OPTIONS).fit(fit_pool, dict(reversed(CLASSES.items())), cache=fit_vectors)
    images = [picture(row) for row in range(300, 330)]
    assert forward.predict(images).tolist() == backward.predict(images).tolist()
    assert np.abs(forward.predict_proba(images) - backward.predict_proba(images)[:, [1, 0, 2]]).max() < 0.1


def test_the_same_seed_gives_the_same_model_without_a_cache_too(
    fit_pool: Pool, network: str, fitted: Classifier, picture: Picture
) -> None:
    again = Classifier(encoder=network, **OPTIONS).fit(fit_pool, CLASSES)
    images = [picture(row) for row in range(300, 310)]
    assert np.allclose(again.predict_proba(images), fitted.predict_proba(images), atol=1e-6)
    assert again.groups_.reasons() == fitted.groups_.reasons()


def test_a_pool_may_be_its_path_and_what_is_none_says_so(data: Path, network: str) -> None:
    settings: dict[str, Any] = {"encoder": network, "threshold": 0.9, "near_duplicate": 0.99999}
    exemplars = {"red": ["0"], "green": ["1"]}
    by_path = Classifier(**settings).fit(str(data / "images.tar"), exemplars, cache=str(data / "vectors"))
    opened = Classifier(**settings).fit(open_pool(data / "images.tar"), exemplars, cache=data / "vectors")
    assert by_path.training_.ids == opened.training_.ids
    with pytest.raises(PoolError, match="expected a pool, as open_pool returns it, or the path of one; got list"):
        Classifier().fit([b"image"], exemplars)  # type: ignore[arg-type]
    with pytest.raises(PoolError, match="nowhere does not exist"):
        Classifier().fit("nowhere", exemplars)
    with pytest.raises(ExemplarError, match=r'as \{"cat": \["cat.jpg"\]\}, got list'):
        Classifier(encoder=network).fit(data / "images.tar", ["0", "1"])  # type: ignore[arg-type]


def test_its_words_are_the_arguments_that_are_not_the_defaults() -> None:
    assert repr(Classifier()) == "Classifier()"
    assert repr(Classifier(head="mlp", seed=3)) == "Classifier(seed=3, head='mlp')"
