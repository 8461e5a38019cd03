"""Pools of few images, poor vectors and poor classes: a run goes on with what there is, and says what is missing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeTar
from numpy.typing import NDArray
from pictures import shapes

from holotype import Classifier, Settings, run
from holotype.review.review import Review
from holotype.runs.results import RunResult

VECTORS: dict[str, Callable[[int], NDArray[np.float64]]] = {
    "one dimension": lambda n: np.random.default_rng(0).normal(size=(n, 1)),
    "one-hot": np.eye,
    "equal": lambda n: np.ones((n, 16)),
    "wide": lambda n: np.random.default_rng(0).normal(size=(n, 3000)),
}
SAID = {
    "one dimension": "the vectors have one dimension",
    "one-hot": "no image has anything in common with an exemplar",
    "equal": "are the same: nothing can be told apart by them",
    "wide": "",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))


def job(pool: Path, network: str, **more: object) -> Settings:
    classes = {"exemplars": {"Circle": ["0"], "Triangle": ["2"]}}
    return Settings.parse({"images": str(pool), "encoders": [network]} | classes | more)


def check(result: RunResult, out: Path, pictures: list[bytes]) -> str:
    """Open what was left in every way; return the warnings."""
    warnings = "\n".join(result.warnings)
    assert "nan" not in warnings.lower()
    assert "--threshold" not in warnings
    assert json.loads((out / "metrics.json").read_text())["warnings"] == list(result.warnings)
    report = (out / "report.html").read_text(encoding="utf-8")
    assert all(why[1:20] in report.replace("&#39;", "'").replace("&#x27;", "'") for why in result.warnings)
    model = Classifier.load(out)
    assert np.isfinite(model.predict_proba(pictures)).all()
    review = Review.open(out)
    try:
        assert all(np.isfinite(one.score) for one in review.next(2, "Circle"))
    finally:
        review.close()
    return warnings


@pytest.mark.parametrize("count", [3, 5, 10])
def test_a_pool_of_few_images(count: int, network: str, make_tar: MakeTar, tmp_path: Path) -> None:
    members = shapes(count)
    result = run(job(make_tar(members), network, trials=2), tmp_path / "out")
    check(result, tmp_path / "out", [content for _, content in members])
    assert set(result.chosen.groups.decision[[0, 2]]) == {"exemplar"}


@pytest.mark.parametrize("kind", VECTORS)
@pytest.mark.parametrize("count", [4, 60])
def test_vectors_that_tell_little_apart(kind: str, count: int, network: str, make_tar: MakeTar, tmp_path: Path) -> None:
    members = shapes(count)
    np.save(tmp_path / "v.npy", VECTORS[kind](count).astype(np.float32))
    result = run(job(make_tar(members), network, embeddings=str(tmp_path / "v.npy")), tmp_path / "out")
    assert SAID[kind] in check(result, tmp_path / "out", [content for _, content in members[:3]])


def test_fewer_images_than_classes(network: str, make_tar: MakeTar, tmp_path: Path) -> None:
    members = shapes(40)
    exemplars = {}
    for number, (name, content) in enumerate(members[:30]):
        (tmp_path / name).write_bytes(content)
        exemplars[f"class {number}"] = [str(tmp_path / name)]
    result = run(job(make_tar(members[30:]), network, exemplars=exemplars), tmp_path / "out")
    assert sum("no image but the exemplars" in why for why in result.warnings) >= 20
    found = Classifier.load(tmp_path / "out").predict([content for _, content in members[:30]])
    assert (found == np.array(list(exemplars))).mean() > 0.8


def test_a_class_that_finds_nothing_does_not_stop_the_others(network: str, make_tar: MakeTar, tmp_path: Path) -> None:
    members = shapes(60)
    settings = job(make_tar(members), network, thresholds=[0.9999])
    result = run(settings, tmp_path / "out")
    assert len(result.warnings) == 2
    assert "lower --threshold" in result.warnings[0]  # which was given
    assert result.classifier.predict([members[0][1], members[2][1], members[1][1]]).tolist() == [
        "Circle",
        "Triangle",
        "none",
    ]


def test_a_test_set_that_is_the_whole_pool(network: str, make_tar: MakeTar, tmp_path: Path) -> None:
    members = shapes(30)
    rows = [f"{number},{int(number % 6 == 0)},{int(number % 6 == 2)}" for number in range(30)]
    (tmp_path / "test.csv").write_text("\n".join(["index,Circle,Triangle", *rows]))
    result = run(job(make_tar(members), network, test_set=str(tmp_path / "test.csv")), tmp_path / "out")
    warnings = check(result, tmp_path / "out", [members[0][1]])
    assert "leave some of them out of the test set" in warnings
    assert set(result.not_counted) >= {"0", "2"}


def test_exemplars_of_two_classes_that_are_nearly_the_same(network: str, make_tar: MakeTar, tmp_path: Path) -> None:
    members = shapes(60)
    twin = ("60.jpg", members[0][1] + b"\0")  # the same pixels
    classes = {"Circle": ["0"], "Disc": ["60"]}
    result = run(job(make_tar([*members, twin]), network, exemplars=classes), tmp_path / "out")
    warnings = check(result, tmp_path / "out", [members[0][1]])
    assert "as near to 'Disc'. Two classes may show the same" in warnings
