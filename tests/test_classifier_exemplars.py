"""What a Classifier takes for an exemplar, and what it makes of groups of few images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classifiers import CLASSES, OPTIONS, PICTURES, png
from conftest import Picture

from holotype import Classifier, load_encoder, open_pool
from holotype.errors import EmbeddingsError, ExemplarError, GroupError, HolotypeWarning
from holotype.pool.pool import Pool
from holotype.vectors.embeddings import Embeddings

pytestmark = pytest.mark.usefixtures("fit_cache")


def test_an_exemplar_from_outside_the_pool(
    fit_pool: Pool, network: str, fit_vectors: Path, picture: Picture, tmp_path: Path
) -> None:
    (tmp_path / "blue.png").write_bytes(png(picture(502)))
    classifier = Classifier(encoder=network, **OPTIONS)
    classifier.fit(fit_pool, CLASSES | {"blue": [str(tmp_path / "blue.png")]}, cache=fit_vectors)
    assert classifier.predict([picture(602), picture(600), picture(603)]).tolist() == ["blue", "red", "none"]
    found = classifier.predict_one(picture(502))
    assert found.nearest == [str(tmp_path / "blue.png")]
    assert found.similarity[0] == pytest.approx(1, abs=1e-3)


def test_an_exemplar_from_outside_with_vectors_of_an_unknown_encoder(
    fit_pool: Pool, network: str, picture: Picture, tmp_path: Path
) -> None:
    (tmp_path / "blue.png").write_bytes(png(picture(502)))
    encoder = load_encoder(network)
    features = encoder.encode(np.stack([encoder.prepare(fit_pool.read(row)) for row in range(PICTURES)]))
    supplied = Embeddings([features], np.arange(PICTURES), PICTURES)
    chosen = {"red": ["000"], "blue": [str(tmp_path / "blue.png")]}
    classifier = Classifier(encoder=network, **OPTIONS)
    with pytest.raises(ExemplarError, match="what made them is not known"):
        classifier.fit(fit_pool, chosen, embeddings=supplied)
    classifier.fit(fit_pool, chosen, embeddings=supplied, embeddings_encoder=encoder)
    assert classifier.predict([picture(602), picture(600)]).tolist() == ["blue", "red"]
    turned = Embeddings([features[:, ::-1]], np.arange(PICTURES), PICTURES)
    with pytest.raises(EmbeddingsError, match="another encoder or preprocessing made them"):
        classifier.fit(fit_pool, {"red": ["000"], "blue": ["002"]}, embeddings=turned, embeddings_encoder=encoder)


def test_several_exemplars_of_one_class(fit_pool: Pool, network: str, fit_vectors: Path, picture: Picture) -> None:
    classifier = Classifier(encoder=network, **OPTIONS)
    classifier.fit(fit_pool, {"warm": ["000", "010", "001"], "blue": ["002"]}, cache=fit_vectors)
    groups = classifier.groups_
    assert groups.decision[[0, 10, 1, 2]].tolist() == ["exemplar"] * 4
    assert {fit_pool.ids[row] for row in range(PICTURES) if row % 10 < 2} <= {
        fit_pool.ids[row] for row in groups.members(0)
    }
    assert classifier.predict([picture(300), picture(301), picture(302)]).tolist() == ["warm", "warm", "blue"]
    assert {"000", "010", "001"} <= set(classifier.training_.ids)


def test_one_exemplar_may_stand_without_a_list(
    fit_pool: Pool, network: str, fit_vectors: Path, picture: Picture
) -> None:
    plain = Classifier(encoder=network, **OPTIONS).fit(fit_pool, {"red": "000", "green": "001.png"}, cache=fit_vectors)
    listed = Classifier(encoder=network, **OPTIONS).fit(fit_pool, CLASSES, cache=fit_vectors)
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
    exemplars: dict[str, list[str]], message: str, fit_pool: Pool, network: str, fit_vectors: Path
) -> None:
    with pytest.raises(ExemplarError, match=message):
        Classifier(encoder=network, **OPTIONS).fit(fit_pool, exemplars, cache=fit_vectors)


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
    assert sorted(name for name in classifier.training_.ids if name.startswith("red")) == ["red0", "red1"]
    assert classifier.calibration_.basis[0].startswith("0.35 of the greatest F1 to be expected, ")
    assert classifier.calibration_.basis[0].endswith(", by the groups alone")
    chances = classifier.predict_proba([picture(row) for row in (500, 510, 503, 504, 505, 506)])
    assert chances[:2, 0].min() > 3 * chances[2:, 0].max()  # sure of little, and in the right order
    assert classifier.predict(picture(0)) == "red"
    if head == "linear":  # the mlps' mean is less sure than the one that the only other image was held out from
        assert classifier.predict(picture(10)) == "red"
    assert (classifier.predict([picture(row) for row in range(503, 510)]) == "none").all()


def test_a_pool_of_the_exemplar_and_one_more(network: str, picture: Picture, tmp_path: Path) -> None:
    with pytest.raises(GroupError, match=r"nothing to tell 'red' from: each of the 2 images .* add images to the pool"):
        Classifier(encoder=network, **OPTIONS).fit(few(tmp_path / "a", picture, 2, 0), {"red": ["red0"]})
    with pytest.raises(GroupError, match="no image but the exemplars has a vector"):
        Classifier(encoder=network, **OPTIONS).fit(few(tmp_path / "b", picture, 1, 0), {"red": ["red0"]})


def test_a_group_of_none_but_the_exemplar_names_the_nearest(network: str, picture: Picture, tmp_path: Path) -> None:
    pool = few(tmp_path / "pool", picture, alike=1)
    settings = OPTIONS | {"threshold": 0.999}
    with pytest.warns(
        HolotypeWarning, match=r"'red': the most similar .* cosine of 0\.\d+, and the threshold is 0\.999; lower"
    ):
        model = Classifier(encoder=network, **settings).fit(pool, {"red": ["red0"]})
    assert model.counts_["red"] == 1
    assert model.predict([picture(0), picture(3)]).tolist() == ["red", "none"]


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("alike", [1, 2, 3])
def test_a_pool_of_a_handful_of_images(
    head: Any, alike: int, network: str, picture: Picture, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    pool = few(tmp_path / "pool", picture, alike, others=4)
    classifier = Classifier(encoder=network, head=head, **OPTIONS).fit(pool, {"red": ["red0"]})
    assert [str(one.message)[:46] for one in recwarn] == ["no image but the exemplars is in the group of "] * (
        alike == 1
    )
    training = classifier.training_
    assert sorted(training.ids) == sorted(pool.ids)
    assert [name for name in training.ids if name.startswith("red")] == [f"red{n}" for n in range(alike)]
    assert (training.fold[training.y == 1] >= 0).all()  # each is held out
    assert (training.fold[training.y == 0] >= 0).sum() == alike - 1  # but the exemplar
    chances = classifier.predict_proba([picture(500), picture(503)])
    assert chances[0, 0] > chances[1, 0]
    assert classifier.calibration_.basis[0].startswith("one half: " if alike == 1 else "0.35 of the greatest F1")


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_where_nothing_can_be_held_out_the_others_are_none_all_the_same(
    head: Any, network: str, picture: Picture, tmp_path: Path
) -> None:
    """All others are nearly the same: what is learnt of them cannot be checked, and holds."""
    pool = few(tmp_path / "pool", picture, alike=6)
    vectors = np.zeros((len(pool), 8), np.float32)
    red = np.array([name.startswith("red") for name in pool.ids])
    vectors[red, 0], vectors[~red, 1] = 1, 1
    supplied = Embeddings([vectors], np.arange(len(pool)), len(pool))
    classifier = Classifier(encoder=network, head=head, **OPTIONS).fit(pool, {"red": ["red0"]}, embeddings=supplied)
    assert classifier.training_.folds == []
    assert classifier.predict([picture(row) for row in (500, 510, 503, 504)]).tolist() == ["red"] * 2 + ["none"] * 2
