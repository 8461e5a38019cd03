import json
import math
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from holotype.errors import TestSetError
from holotype.evaluation.metrics import NO_NEGATIVE, NO_POSITIVE, NOT_PREDICTED, Evaluation, _resampled, evaluate
from holotype.evaluation.test_set import read_test_set
from holotype.model.predictions import Predictions
from holotype.pool.pool import Pool


class NoReader:
    def read(self, row: int) -> bytes:
        return b""


def make_pool(*ids: str) -> Pool:
    return Pool("pool.tar", list(ids), [1] * len(ids), NoReader())


def make_predictions(probabilities: list[list[float]] | np.ndarray, thresholds: list[float]) -> Predictions:
    p = np.asarray(probabilities, dtype=np.float64)
    n, k = len(p), p.shape[1] - 1
    names = ["cat", "dog", "owl", "fox"][:k]
    return Predictions([f"i{i}" for i in range(n)], names, p, np.asarray(thresholds), ["e"] * n, np.zeros(n))


def make_random(n: int, k: int = 3, seed: int = 0) -> tuple[Predictions, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k + 1, n)
    logits = rng.normal(size=(n, k + 1)) + 1.5 * np.eye(k + 1)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return make_predictions(p.round(2), [0.4] * k), np.eye(k + 1, dtype=np.int64)[labels][:, :k]


def hand_case() -> Evaluation:
    """Truth cat, cat, dog, none, none; answers cat, none, cat, dog, none; owl is nowhere."""
    p = [[0.9, 0, 0, 0.1], [0.2, 0, 0, 0.8], [0.6, 0.3, 0, 0.1], [0.1, 0.7, 0, 0.2], [0, 0.1, 0, 0.9]]
    truth = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]])
    return evaluate(make_predictions(p, [0.5, 0.5, 0.5]), truth)


def test_a_case_worked_by_hand() -> None:
    result = hand_case()
    cat, dog, _, none = result.classes
    assert (cat.support, cat.predicted, cat.precision.value, cat.recall.value, cat.f1.value) == (
        2,
        2,
        0.5,
        0.5,
        0.5,
    )
    assert (dog.precision.value, dog.recall.value, dog.f1.value) == (0, 0, 0)
    assert (none.support, none.predicted, none.f1.value) == (2, 2, 0.5)
    assert cat.average_precision.value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert cat.roc_auc.value == pytest.approx(5 / 6)
    assert result.confusion.tolist() == [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]]
    assert result.micro["precision"].value == result.micro["recall"].value == pytest.approx(1 / 3)
    assert result.macro["f1"].value == 0.25
    assert result.macro_note("f1") == "macro over 2 of 3 classes"
    assert result.false_alarms.value == 500


def test_a_class_without_a_positive_row_is_undefined_with_a_reason() -> None:
    owl = hand_case().classes[2]
    for metric in ("recall", "f1", "average_precision", "roc_auc"):
        assert math.isnan(owl.score(metric).value)
        assert owl.score(metric).reason == NO_POSITIVE
    assert owl.precision.reason == NOT_PREDICTED
    assert owl.roc.shape == owl.pr.shape == (0, 2)


def test_a_class_never_given_has_f1_zero_and_counts_in_the_macro() -> None:
    result = evaluate(make_predictions([[0.9, 0, 0.1], [0, 0.2, 0.8]], [0.5, 0.5]), np.eye(2, dtype=np.int64))
    dog = result.classes[1]
    assert (dog.precision.reason, dog.recall.value, dog.f1.value) == (NOT_PREDICTED, 0, 0)
    assert (result.macro["f1"].value, result.macro_over["f1"], result.macro_over["precision"]) == (0.5, 2, 1)
    assert result.false_alarms.reason == 'no "none" row in the test set'


def test_all_rows_of_one_class_have_no_roc() -> None:
    result = evaluate(make_predictions([[0.9, 0.1], [0.8, 0.2]], [0.5]), np.ones((2, 1), dtype=np.int64))
    assert result.classes[0].roc_auc.reason == NO_NEGATIVE
    assert result.classes[0].f1.value == result.classes[0].average_precision.value == 1


def test_numbers_equal_those_of_scikit_learn() -> None:
    predictions, truth = make_random(200)
    result = evaluate(predictions, truth)
    given = predictions.vectors.astype(int)
    for average, mine in (("micro", result.micro), ("macro", result.macro)):
        theirs = metrics.precision_recall_fscore_support(truth, given, average=average)[:3]
        assert [mine[m].value for m in ("precision", "recall", "f1")] == pytest.approx(theirs)
    auc = metrics.roc_auc_score(truth, predictions.probabilities[:, :3], average=None)
    assert [c.roc_auc.value for c in result.classes[:3]] == pytest.approx(auc)
    labels = [np.r_[row, 1 - row.sum()].argmax() for row in truth]
    answers = [np.r_[row, 1 - row.sum()].argmax() for row in given]
    assert (result.confusion == metrics.confusion_matrix(labels, answers)).all()


def test_resampled_numbers_equal_scikit_learn_with_weights() -> None:
    predictions, truth = make_random(60)
    counts = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), size=5).astype(np.float64)
    actual, given, p = truth[:, 0] > 0, predictions.vectors[:, 0] > 0, predictions.probabilities[:, 0]
    for weight, row in zip(counts, _resampled(counts, actual, given, p), strict=True):
        theirs = [
            metrics.f1_score(actual, given, sample_weight=weight),
            metrics.average_precision_score(actual, p, sample_weight=weight),
            metrics.roc_auc_score(actual, p, sample_weight=weight),
        ]
        assert row == pytest.approx(theirs)


def test_intervals_hold_the_value_and_repeat() -> None:
    predictions, truth = make_random(100)
    first = evaluate(predictions, truth)
    assert first.to_json() == evaluate(predictions, truth).to_json()
    for result in first.classes:
        for score in (result.f1, result.average_precision, result.roc_auc):
            assert 0 <= score.low <= score.value <= score.high <= 1
            assert score.low < score.high


def test_the_mean_over_classes_has_an_interval_where_each_of_them_has_one() -> None:
    predictions, truth = make_random(100)
    found = evaluate(predictions, truth)
    for metric in ("f1", "average_precision", "roc_auc"):
        mean, parts = found.macro[metric], [one.score(metric) for one in found.classes[:-1]]
        assert mean.low < mean.value < mean.high
        assert mean.high - mean.low < np.mean([one.high - one.low for one in parts])  # their errors are not all one way
    assert math.isnan(found.macro["precision"].low)
    truth[np.flatnonzero(truth[:, 0])[3:], 0] = 0  # too few of one class
    assert math.isnan(evaluate(predictions, truth).macro["f1"].low)
    truth[:, 0] = 0  # none at all: the mean is over the others, and so is its interval
    assert evaluate(predictions, truth).macro["f1"].low > 0
    assert evaluate(predictions, truth).to_json()["macro"]["f1_interval"]


def test_intervals_cover_the_true_auc() -> None:
    """Two normals one apart have AUC Phi(1 / sqrt 2) = 0.7602; 95% intervals mostly hold it."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = np.repeat([1, 0], 60)[:, None]
        p = 1 / (1 + np.exp(-rng.normal(size=120) - truth[:, 0]))
        score = evaluate(make_predictions(np.c_[p, 1 - p], [0.5]), truth).classes[0].roc_auc
        held += score.low <= 0.7602 <= score.high
    assert held >= 52


def test_few_rows_give_no_interval_but_a_warning() -> None:
    result = hand_case()
    assert "2 positive rows" in result.classes[0].f1.interval_reason
    assert math.isnan(result.classes[0].f1.low)
    assert any(w.startswith("cat: no 95% intervals") for w in result.warnings)


def test_json_has_no_nan_and_each_null_has_a_reason() -> None:
    record = hand_case().to_json()
    assert "NaN" not in json.dumps(record, allow_nan=False)
    owl = record["classes"][2]
    assert owl["f1"] is None
    assert owl["f1_reason"] == NO_POSITIVE
    for cells in [*record["classes"], record["micro"], record["macro"], record]:
        assert all(cells[f"{name}_reason"] for name, value in cells.items() if value is None)


def test_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected truth of shape \(2, 1\)"):
        evaluate(make_predictions([[0.9, 0.1], [0.8, 0.2]], [0.5]), np.ones((2, 2), dtype=np.int64))


def test_read_test_set_takes_columns_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_bytes("\ufeffdog,index,cat\r\n1,a/x.jpg,0\r\n\r\n0.0,y,1.0\r\n0,z,0\r\n".encode())
    test_set = read_test_set(path, ["cat", "dog"], make_pool("z", "a/x", "y"))
    assert (test_set.rows, test_set.ids) == ([1, 2, 0], ["a/x", "y", "z"])
    assert test_set.truth.tolist() == [[0, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("index,cat,dog\n", "only a header"),
        ("index,cat\nx,1\n", "expected the columns index .or id., cat, dog; got index, cat"),
        ("cat,dog\n0,1\n", "got cat, dog"),
        ("id,cat,dog,owl\nx,0,1,0\n", "got id, cat, dog, owl"),
        ("id,cat,dog\nx,0,2\n", "line 2: expected 0 or 1 in column dog, got '2'"),
        ("id,cat,dog\nx,0\n", "line 2: expected 3 values"),
        ("id,cat,dog\nx,1,1\n", "got 1 for cat, dog"),
        ("id,cat,dog\nx,1,0\nx.jpg,0,1\n", "'x' and 'x.jpg' twice"),
        ("id,cat,dog\nq,1,0\nx,0,1\nw,0,1\n", "unknown ids 'q', 'w'"),
    ],
)
def test_a_bad_test_set_is_refused_with_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "test.csv"
    path.write_text(text)
    with pytest.raises(TestSetError, match=message):
        read_test_set(path, ["cat", "dog"], make_pool("x", "y"))


def test_a_missing_test_set_and_other_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TestSetError, match="No such file"):
        read_test_set(tmp_path / "test.csv", ["cat"], make_pool("x"))
    (tmp_path / "test.csv").write_bytes(b"id,\xff\xfe\n")
    with pytest.raises(TestSetError, match="UTF-8"):
        read_test_set(tmp_path / "test.csv", ["cat"], make_pool("x"))


def test_a_code_of_a_test_set_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("id,cat\n\nx,1\nq,0\nw,0\n")
    with pytest.raises(TestSetError, match=r"unknown ids 'q', 'w' \(lines 4, 5\)"):
        read_test_set(tmp_path / "test.csv", ["cat"], make_pool("x"))
    (tmp_path / "test.csv").write_text("id,cat\nx,1\nx.jpg,0\n")
    with pytest.raises(TestSetError, match=r"'x' and 'x\.jpg' twice \(image x, lines 2 and 3\)"):
        read_test_set(tmp_path / "test.csv", ["cat"], make_pool("x"))


def test_a_test_set_names_images_and_classes_as_people_do(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "Pokémon")
    (tmp_path / "test.csv").write_text(f"id,{name}\n C:\\pool\\1.jpg ,1\n3,0\n", encoding="utf-8")
    test_set = read_test_set(tmp_path / "test.csv", ["Pokémon"], make_pool("0001", "0002", "0003"))
    assert (test_set.rows, test_set.truth.tolist()) == ([0, 2], [[1], [0]])


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("index;cat;dog\r\nx;0;1\r\ny;1;0\r\n", "utf-8-sig"),
        ("index\tcat\tdog\r\nx\t0\t1\r\ny\t1\t0\r\n", "utf-16"),
        ("sep=;\r\nindex;cat;dog\r\nx;0;1\r\ny;1;0\r\n", "utf-8"),
        ("index,cat,dog,\nx,FALSE,TRUE,\ny,TRUE,FALSE,\n,,,\n", "utf-8"),
        ('"index", "cat", "dog"\n"x", "0", "1"\n"y", "1", "0"\n'.replace(", ", ","), "utf-8"),
    ],
)
def test_a_test_set_may_come_from_a_spreadsheet(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "test.csv").write_bytes(text.encode(encoding))
    test_set = read_test_set(tmp_path / "test.csv", ["cat", "dog"], make_pool("x", "y"))
    assert (test_set.rows, test_set.truth.tolist()) == ([0, 1], [[0, 1], [1, 0]])
