"""Images that are copies are one point of the graph: whatever their number, they share a decision."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from conftest import MakeTar
from numpy.typing import NDArray
from pictures import shapes

from holotype import Classifier, open_pool
from holotype.answers.baseline import ReviewBaseline, make_baseline
from holotype.answers.records import Answer, Verdict
from holotype.answers.refine import refine
from holotype.grouping.assign import group_pool
from holotype.grouping.copies import find_copies
from holotype.grouping.groups import Groups
from holotype.grouping.search import Search, cosine
from holotype.pool.exemplars import Exemplar
from holotype.pool.pool import Pool
from holotype.settings import FitSettings, RankSettings, TrainSettings
from holotype.vectors.embeddings import Embeddings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLASSES, EACH, OTHERS, DIM = ["a", "b"], 60, 280, 32
Matrix = NDArray[np.float32]


def unit(vectors: NDArray[np.floating]) -> Matrix:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _pool() -> Matrix:
    """Two classes of 60 images, the first of which are exemplars, and 280 others."""
    random = np.random.default_rng(3)
    centres = random.normal(size=(2, 1, DIM))
    classes = centres + 0.7 * random.normal(size=(2, EACH, DIM))
    return unit(np.concatenate([classes.reshape(-1, DIM), random.normal(size=(OTHERS, DIM))]))


VECTORS = _pool()
EXEMPLARS = {0: 0, EACH: 1}
IMAGES = {"the exemplar": 0, "a member": 7, "another": 2 * EACH + 5}


def searched(vectors: Matrix, outside: bool = False) -> Search:
    pool = Embeddings([vectors], np.arange(len(vectors)), len(vectors))
    queries = [vectors[[row]] for row in EXEMPLARS]
    given = [Exemplar(str(row), k, None if outside else row, b"") for row, k in EXEMPLARS.items()]
    return Search(CLASSES, given, pool, cosine(pool, queries), 0.0, queries)


def grouped(vectors: Matrix, settings: FitSettings | None = None) -> Groups:
    return group_pool(searched(vectors), settings or FitSettings())


def noisy(vector: Matrix, count: int, noise: float) -> Matrix:
    """Copies of `vector` that differ from it by `noise` of its length."""
    more = np.random.default_rng(5).normal(size=(count, DIM))
    return unit(vector + noise * more / np.linalg.norm(more, axis=1, keepdims=True))


PLAIN = grouped(VECTORS)


@pytest.mark.parametrize("of", IMAGES)
@pytest.mark.parametrize("count", [1, 2, 40, 400])
def test_copies_share_a_decision_and_change_no_other(of: str, count: int) -> None:
    row = IMAGES[of]
    groups = grouped(np.concatenate([VECTORS, np.repeat(VECTORS[[row]], count, axis=0)]))
    assert np.array_equal(groups.decision[: len(VECTORS)], PLAIN.decision)
    assert np.array_equal(groups.label[: len(VECTORS)], PLAIN.label)
    copies = slice(len(VECTORS), None)
    expected = "member" if of == "the exemplar" else PLAIN.decision[row]
    assert set(groups.decision[copies]) == {expected}
    assert set(groups.label[copies]) == {PLAIN.label[row]}
    assert len(set(groups.scores[copies, 0])) == 1
    if of != "the exemplar":
        assert np.array_equal(groups.scores[copies], np.repeat(groups.scores[[row]], count, axis=0))
        assert set(groups.reasons(range(len(VECTORS), len(groups.label)))) == {groups.reason(row)}


@pytest.mark.parametrize(
    "settings",
    [
        FitSettings(threshold=0.6),
        FitSettings(threshold=1.0),
        FitSettings(rank=RankSettings(diffusion=False)),
        FitSettings(rank=RankSettings(space="raw", self_training=False)),
    ],
)
def test_so_they_do_whatever_the_threshold(settings: FitSettings) -> None:
    before = grouped(VECTORS, settings)
    places = np.arange(len(VECTORS)) * 2  # every second image is a copy
    rows = np.resize(list(IMAGES.values()), len(VECTORS))
    vectors = np.repeat(VECTORS[rows], 2, axis=0)
    vectors[places] = VECTORS
    given = [Exemplar(str(2 * one), k, 2 * one, b"") for one, k in EXEMPLARS.items()]
    pool = Embeddings([vectors[:300], vectors[300:]], np.arange(len(vectors)), len(vectors))
    queries = [VECTORS[[one]] for one in EXEMPLARS]
    after = group_pool(Search(CLASSES, given, pool, cosine(pool, queries), 0.0, queries), settings)
    assert np.array_equal(after.decision[places], before.decision)
    assert np.array_equal(after.decision[places + 1], np.where(rows == 0, "member", before.decision[rows]))


@pytest.mark.parametrize("noise", [1e-3, 2e-2, 1e-1])
@pytest.mark.parametrize("of", IMAGES)
def test_pictures_that_hardly_differ_do_not_shut_each_other_in(of: str, noise: float) -> None:
    row = IMAGES[of]
    groups = grouped(np.concatenate([VECTORS, noisy(VECTORS[row], 400, noise)]))
    assert set(groups.decision[len(VECTORS) :]) == {"member" if of == "the exemplar" else PLAIN.decision[row]}
    assert np.array_equal(groups.decision[: len(VECTORS)], PLAIN.decision)


def test_a_class_of_pictures_that_hardly_differ_is_still_a_class() -> None:
    """Up to 30 of them are neighbours of each other as any other images are: none is left out of what is learnt."""
    pool = np.concatenate([VECTORS, noisy(VECTORS[0], 20, 2e-2)])
    groups = grouped(pool)
    assert groups.distinct.all()
    assert set(groups.decision[len(VECTORS) :]) == {"member"}


def test_an_exemplar_from_outside_has_its_copies_in_its_class() -> None:
    vectors = np.concatenate([VECTORS, np.repeat(VECTORS[[0]], 40, axis=0)])
    groups = group_pool(searched(vectors, outside=True), FitSettings())
    assert set(groups.decision[[0, *range(len(VECTORS), len(vectors))]]) == {"member"}
    assert not groups.label[[0, *range(len(VECTORS), len(vectors))]].any()


def test_copies_of_the_exemplars_of_two_classes_are_doubtful() -> None:
    vectors = np.concatenate([VECTORS, np.repeat(VECTORS[[0]], 40, axis=0)])
    vectors[EACH] = vectors[0]
    groups = grouped(vectors)
    assert [groups.decision[row] for row in (0, EACH)] == ["exemplar", "exemplar"]
    assert [groups.label[row] for row in (0, EACH)] == [0, 1]
    assert set(groups.decision[len(VECTORS) :]) == {"doubtful"}
    assert "b" in groups.reason(len(VECTORS))


@pytest.mark.parametrize("order", ["C", "F"])
def test_zeros_of_both_signs_and_vectors_of_other_lengths_are_copies(order: Literal["C", "F"]) -> None:
    """However the numbers lie in the file: a .npy may have them column by column."""
    vectors = VECTORS.copy()
    vectors[:, 3] = 0
    vectors = unit(vectors)
    vectors[9], vectors[11] = vectors[8], vectors[8] * 3
    vectors[9, 3] = -0.0
    copies = find_copies(searched(np.array(vectors, order=order)))
    assert copies.copy_of[[8, 9, 11]].tolist() == [8, 8, 8]
    assert copies.distinct.sum() == len(vectors) - 2


def test_a_pool_whose_vectors_hardly_differ_is_not_all_copies() -> None:
    """What counts is how much images of this pool differ, not the cosine: some encoders give all of them .99."""
    narrow = unit(VECTORS + 5.0)
    assert (narrow @ narrow.T).min() > 0.99
    assert find_copies(searched(narrow)).distinct.all()


class Numbers:
    """The image of a row is its number."""

    def read(self, row: int) -> bytes:
        return str(row).encode()


def refined(copies: int, answers: dict[int, Verdict]) -> tuple[ReviewBaseline, NDArray[np.str_]]:
    vectors = np.concatenate([VECTORS, np.repeat(VECTORS[[7, IMAGES["another"]]], copies, axis=0)])
    search = searched(vectors)
    pool = Pool("the pool", [str(row) for row in range(len(vectors))], [1] * len(vectors), Numbers())
    baseline = make_baseline(search, group_pool(search, FitSettings()), pool)
    rows = {str(row): row for row in range(len(vectors))}
    said = [
        Answer(str(row), "a", verdict, NOW, "", audit=False, number=number, act=str(number))
        for number, (row, verdict) in enumerate(answers.items())
    ]
    found = refine(baseline, said, rows, TrainSettings())
    assert found.groups.copy_of is not None
    for row, verdict in answers.items():
        same = np.flatnonzero(found.groups.copy_of == found.groups.copy_of[row])
        words = "was said to show a" if verdict == "yes" else "was said not to show a"
        assert {found.reason(int(one)) for one in same} <= {words, f"a copy of it {words}"}
    return baseline, found.groups.decision


def test_what_is_said_of_one_holds_for_its_copies_and_is_learnt_once(tmp_path: Path) -> None:
    yes: dict[int, Verdict] = dict.fromkeys(range(3, 9), "yes")
    answers = yes | dict.fromkeys(range(2 * EACH, 2 * EACH + 8), "no")
    _, few = refined(1, answers)
    baseline, many = refined(200, answers)
    assert np.array_equal(few[: len(VECTORS)], many[: len(VECTORS)])
    assert set(many[len(VECTORS) : len(VECTORS) + 200]) == {"member"}
    assert set(many[len(VECTORS) + 200 :]) == {"background"}
    baseline.save(tmp_path)
    loaded = ReviewBaseline.load(tmp_path)
    assert loaded.groups.copy_of is not None
    assert baseline.groups.copy_of is not None
    assert np.array_equal(loaded.groups.copy_of, baseline.groups.copy_of)


def test_a_model_knows_the_exemplar_that_a_pool_is_full_of(make_tar: MakeTar, network: str, tmp_path: Path) -> None:
    members = shapes(200)
    copies = [(f"copy{number}.jpg", members[0][1]) for number in range(300)]
    pool = open_pool(make_tar([*members, *copies]))
    model = Classifier(encoder=network, negatives=60).fit(pool, {"Circle": ["0"], "Square": ["4"]})
    rows = range(len(members), len(pool))
    assert set(model.groups_.decision[list(rows)]) == {"member"}
    assert not set(model.training_.ids) & {pool.ids[row] for row in rows}
    assert set(model.training_.dropped.values()) == {"a copy of another image"}
    assert model.predict([members[0][1], members[4][1]]).tolist() == ["Circle", "Square"]


def test_a_model_never_takes_an_exemplar_for_none(make_tar: MakeTar, network: str, tmp_path: Path) -> None:
    """Of these the head alone takes two for none."""
    members = shapes(150)
    many = [0] * 40 + [4] * 3 + [2] + [1] * 5 + [3] * 80 + [30] * 7
    copies = [(f"c{number}.jpg", members[row][1]) for number, row in enumerate(many)]
    pool = open_pool(make_tar([*members, *copies]))
    given = {"Circle": ["0", "6", "12"], "Square": ["4", "10", "16"], "Triangle": ["2", "8", "14"]}
    Classifier(encoder=network, negatives=60).fit(pool, given).save(tmp_path / "model")
    model = Classifier.load(tmp_path / "model")
    for label, codes in given.items():
        pictures = [pool.read(pool.row(code)) for code in codes]
        assert model.predict(pictures).tolist() == [label] * 3
        assert model.predict_proba(pictures).max(axis=1).tolist() == [1.0] * 3
    found: dict[str, str] = {}
    for some, _ in model.predict_pool(pool, range(len(pool))):
        found |= dict(zip(some.ids, some.labels, strict=True))
    assert all(found[f"c{number}"] == found[str(row)] for number, row in enumerate(many))
