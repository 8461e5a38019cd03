"""A saved model is checked as a whole when it is loaded: what is wrong is said then, never at the first image."""

import json
import os
import random as plain_random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import Picture
from damaged_models import Files, arrays_changed, bytes_changed, forged, json_changed, onnx_changed
from networks import snapshot
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load, save

from holotype import Classifier
from holotype.errors import ModelError
from holotype.model.calibration import softmax

pytestmark = pytest.mark.usefixtures("fit_cache")

MUTATED = 80  # of each kind; a fixed budget


@pytest.fixture(scope="module")
def whole(fitted: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("saved") / "model"
    fitted.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(folder: Path, contents: Files) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def outcome(folder: Path, contents: Files, image: Any) -> str:
    """What becomes of it: refused when it is loaded, or probabilities for the image."""
    write(folder, contents)
    try:
        model = Classifier.load(folder)
    except ModelError as error:
        return f"refused: {error}"
    found = model.predict_proba([image, image])
    assert found.shape == (2, 3)
    assert np.isfinite(found).all()
    list(model.predict_one(image).records())
    return "works"


def test_bytes_changed_anywhere_are_refused(whole: Files, tmp_path: Path, picture: Picture) -> None:
    for seed in range(MUTATED):
        random = np.random.default_rng(seed)
        changed = bytes_changed(whole, random, list(whole)[seed % 4])
        assert outcome(tmp_path / "model", changed, picture(0)) != "works" or changed == whole, seed


def test_bytes_changed_by_somebody_who_forges_the_digests(whole: Files, tmp_path: Path, picture: Picture) -> None:
    for seed in range(MUTATED):
        random = np.random.default_rng(seed)
        outcome(tmp_path / "model", forged(bytes_changed(whole, random, list(whole)[seed % 4])), picture(0))


def test_any_value_of_the_description_removed_or_another(whole: Files, tmp_path: Path, picture: Picture) -> None:
    cases = list(json_changed(whole))
    for what, changed in plain_random.Random(0).sample(cases, MUTATED):
        if json.loads(changed["model.json"]) != json.loads(whole["model.json"]):
            assert outcome(tmp_path / "model", changed, picture(0)) != "works", what
        outcome(tmp_path / "model", forged(changed), picture(0))


def test_any_array_gone_or_another(whole: Files, tmp_path: Path, picture: Picture) -> None:
    for what, changed in arrays_changed(whole):
        same = changed["arrays.safetensors"] == whole["arrays.safetensors"]
        assert outcome(tmp_path / "model", changed, picture(0)) != "works" or same, what
        outcome(tmp_path / "model", forged(changed), picture(0))


def test_a_network_of_other_parts(whole: Files, tmp_path: Path, picture: Picture) -> None:
    for seed in range(MUTATED):
        random = np.random.default_rng(seed)
        changed = onnx_changed(whole, random, ("encoder.onnx", "head.onnx")[seed % 2])
        outcome(tmp_path / "model", forged(changed), picture(0))


def described(whole: Files, **changes: Any) -> Files:
    return forged(whole | {"model.json": json.dumps(json.loads(whole["model.json"]) | changes).encode()})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": []}, "expected 2 thresholds of 2 classes, got 0"),
        ({"thresholds": [0.5, float("nan")]}, r"thresholds\.1: Input should be a finite number"),
        ({"thresholds": ["0.5", 0.5]}, r"thresholds\.0: Input should be a valid number"),
        ({"thresholds": [0.5, 1.5]}, r"thresholds\.1: .* less than or equal to 1"),
        ({"temperature": 0}, "temperature: Input should be greater"),
        ({"temperature": 1.0}, "expected a temperature up to format 5 alone, got 1.0"),
        ({"format": 5}, "expected a temperature up to format 5 alone, got None"),
        ({"format": 5, "temperature": 1.0}, "expected arrays .*, got .*slope"),
        ({"prior": [0.1, 0.1, 0.1]}, "a prior that adds up to 1, got 0.3"),
        ({"classes": ["red", "red"]}, "two classes have one name"),
        ({"classes": ["red", "none"]}, '"none" is the name of the rejected class'),
        ({"classes": ["red", "a\nb"]}, "a line end"),
        ({"classes": [f"c{n}" for n in range(1000)]}, "expected 1000 thresholds of 1000 classes, got 2"),
        ({"exemplars": ["a"]}, "expected the class of each of 1 exemplars"),
        ({"exemplar_classes": [0, 2]}, "expected the class of each of 2 exemplars"),
        ({"exemplars": ["a"], "exemplar_classes": None}, r"expected exemplars of shape \(1, 48\), got \(2, 48\)"),
        ({"layers": 2}, "expected arrays .*weights1"),
        ({"layers": 10**9}, "layers: Input should be less than"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"format": "6"}, "has format '6', this version reads formats 4 to 6"),
        ({"preprocessing": {"fill": [0, 0, 0]}}, r"expected margins of \(127, 127, 127\)"),
    ],
)
def test_a_description_that_is_no_models(changes: Any, message: str, whole: Files, tmp_path: Path) -> None:
    write(tmp_path / "model", described(whole, **changes))
    with pytest.raises(ModelError, match=message):
        Classifier.load(tmp_path / "model")


def test_a_missing_key_is_named(whole: Files, tmp_path: Path) -> None:
    about = json.loads(whole["model.json"])
    for name in about.keys() - {"format", "digest", "exemplar_classes"}:
        less = {key: value for key, value in about.items() if key != name}
        write(tmp_path / "model", forged(whole | {"model.json": json.dumps(less).encode()}))
        with pytest.raises(ModelError, match=rf"{name}: Field required" if name != "files" else "model.json"):
            Classifier.load(tmp_path / "model")


def older(whole: Files, number: int, temperature: float, shift: list[float]) -> Files:
    """The model as it was saved in format 4 or 5: one temperature, and a shift of "none" too."""
    arrays = load(whole["arrays.safetensors"])
    del arrays["slope"]
    arrays["shift"] = np.array(shift)
    about = json.loads(whole["model.json"]) | {"format": number, "temperature": temperature}
    files = forged(whole | {"arrays.safetensors": save(arrays), "model.json": json.dumps(about).encode()})
    if number == 4:
        about = json.loads(files["model.json"])
        del about["digest"]
        files |= {"model.json": json.dumps(about, indent=1).encode()}
    return files


@pytest.mark.parametrize("number", [4, 5])
def test_a_model_of_a_format_before_says_what_it_said(
    number: int, whole: Files, fitted: Classifier, tmp_path: Path, picture: Picture
) -> None:
    """softmax(scores / temperature + shift); also after it was saved anew, in the format of today."""
    images = [picture(row) for row in range(300, 330)]  # no exemplars
    features = fitted.encoder_.encode(np.stack([fitted.encoder_.prepare(image) for image in images]))
    for temperature, shift in ((1.0, [0.0, 0.0, 0.0]), (0.31, [-2.5, -1.0, 0.7]), (7.0, [1.0, 3.0, 2.0])):
        wanted = softmax(fitted.head_.scores(features) / temperature + shift)
        write(tmp_path / "model", older(whole, number, temperature, shift))
        model = Classifier.load(tmp_path / "model")
        assert np.allclose(model.predict_proba(images), wanted, atol=1e-6)
        assert np.array_equal(model.calibration_.thresholds, fitted.calibration_.thresholds)
        model.save(tmp_path / "anew")
        assert json.loads((tmp_path / "anew" / "model.json").read_text())["format"] == 6
        assert np.array_equal(Classifier.load(tmp_path / "anew").predict_proba(images), model.predict_proba(images))


def test_a_model_of_a_format_before_that_was_changed_is_refused(whole: Files, tmp_path: Path) -> None:
    files = older(whole, 5, 2.0, [0.0, 0.0, 0.0])
    about = json.loads(files["model.json"])
    for changes in ({"temperature": 3.0}, {"digest": "0" * 64}, {"format": 4}):
        write(tmp_path / "model", files | {"model.json": json.dumps(about | changes).encode()})
        with pytest.raises(ModelError, match="what it holds does not fit its digest"):
            Classifier.load(tmp_path / "model")


def network(*nodes: onnx.NodeProto, weights: Any = (), out: int = 48, side: int = 32, **more: Any) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", side, side, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", out or None])],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(name, 1) for name in more.get("domains", []))]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def outside() -> bytes:
    """Weights at a path of the attacker's choice."""
    tensor = numpy_helper.from_array(np.zeros(48, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    return network(helper.make_node("Identity", ["w"], ["features"]), weights=[tensor])


def nested(depth: int) -> bytes:
    inner = helper.make_graph([helper.make_node("Relu", ["pixels"], ["y"])], "g", [], [])
    for _ in range(depth):
        node = helper.make_node(
            "If", ["pixels"], ["y"], then_branch=inner, else_branch=helper.make_graph([], "e", [], [])
        )
        inner = helper.make_graph([node], "g", [], [])
    return network(*inner.node)


def enormous() -> bytes:
    """A terabyte from a hundred bytes."""
    shape = numpy_helper.from_array(np.array([2**38], np.int64), "shape")
    made = helper.make_node("ConstantOfShape", ["shape"], ["features"])  # which says that it has 48
    return network(made, weights=[shape])


NETWORKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "weights elsewhere": (outside, r"its weights are in other files \(\.\./\.\./\.\./etc/passwd\)"),
    "an unknown domain": (
        lambda: network(helper.make_node("Run", ["pixels"], ["features"], domain="evil"), domains=["evil"]),
        r"an operator that is not known here: evil\.Run",
    ),
    "an unknown operator": (
        lambda: network(helper.make_node("Relo", ["pixels"], ["features"])),
        "an operator that is not known here: Relo",
    ),
    "a program for an accelerator": (
        lambda: network(
            helper.make_node("EPContext", [], ["features"], domain="com.microsoft"), domains=["com.microsoft"]
        ),
        "not known here: com.microsoft.EPContext",
    ),
    "a loop": (
        lambda: network(helper.make_node("Loop", ["", ""], ["features"], body=helper.make_graph([], "b", [], []))),
        "it has a loop",
    ),
    "graphs in graphs": (lambda: nested(12), "nested more than 8 deep"),
    "many operators": (
        lambda: network(*[helper.make_node("Relu", ["pixels"], ["features"])] * 100_001),
        "more than 100000 operators",
    ),
    "a tensor of a terabyte": (enormous, "one image would make a tensor of shape .* more than"),
    "an image of a terabyte": (
        lambda: network(helper.make_node("Relu", ["pixels"], ["features"]), side=2**20),
        "one image would make a tensor of shape|it is no valid ONNX",
    ),
    "features of another length": (
        lambda: network(
            helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["floats"], ["features"]),
            out=0,
        ),
        "expected 48 features of images|expected 3072 features|got",
    ),
    "no network": (lambda: b"<html>404 Not Found</html>", "it is no ONNX file, or a damaged one"),
    "nothing": (lambda: b"", "it is no ONNX file, or a damaged one"),
}


@pytest.mark.parametrize("name", ["encoder.onnx", "head.onnx"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_that_is_not_run_here(name: str, kind: str, whole: Files, tmp_path: Path) -> None:
    make, message = NETWORKS[kind]
    write(tmp_path / "model", forged(whole | {name: make()}))
    with pytest.raises(ModelError, match=message if name == "encoder.onnx" else name):
        Classifier.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["model.json", "arrays.safetensors", "head.onnx", "encoder.onnx"])
@pytest.mark.parametrize("kind", ["a link out of the folder", "a circle", "a folder", "a pipe", "a pointer"])
def test_what_is_no_file_of_the_model(name: str, kind: str, whole: Files, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", whole)
    path = (folder / name).rename(tmp_path / "elsewhere")
    if kind == "a link out of the folder":
        (folder / name).symlink_to(path)
    elif kind == "a circle":
        (folder / name).symlink_to(folder / name)
    elif kind == "a folder":
        (folder / name).mkdir()
    elif kind == "a pipe":
        os.mkfifo(folder / name)
    else:
        lines = ["version https://git-lfs.github.com/spec/v1", f"oid sha256:{'0' * 64}", "size 12345", ""]
        (folder / name).write_text("\n".join(lines))
    expected = {"a link out of the folder": "is a link out of the model's folder", "a pointer": "a Git LFS pointer"}
    with pytest.raises(ModelError, match=expected.get(kind, "not whole|expected a file|expected a saved model")):
        Classifier.load(folder)


def test_links_within_the_folder_are_followed(whole: Files, tmp_path: Path, picture: Picture) -> None:
    folder = write(tmp_path / "model", whole)
    (folder / "real").mkdir()
    (folder / "encoder.onnx").rename(folder / "real" / "encoder.onnx")
    (folder / "encoder.onnx").symlink_to("real/encoder.onnx")
    (tmp_path / "link").symlink_to(folder)
    assert Classifier.load(tmp_path / "link").predict_proba([picture(0)]).shape == (1, 3)


def test_a_model_that_the_hub_fetched_is_loaded(whole: Files, tmp_path: Path, picture: Picture) -> None:
    folder = snapshot(tmp_path, "owner/model")
    blobs = folder.parents[1] / "blobs"
    blobs.mkdir()
    for number, path in enumerate(write(tmp_path / "model", whole).iterdir()):
        blob = path.rename(blobs / f"{number:064}")
        (folder / path.name).symlink_to(os.path.relpath(blob, folder))
    assert Classifier.load(folder).predict_proba([picture(0)]).shape == (1, 3)
    (folder / "head.onnx").unlink()
    (folder / "head.onnx").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="is a link out of the model's folder"):
        Classifier.load(folder)


def test_the_files_may_be_replaced_while_a_model_is_in_use(whole: Files, tmp_path: Path, picture: Picture) -> None:
    """As a run does with --force: what was loaded stays what it is."""
    folder = write(tmp_path / "model", whole)
    model = Classifier.load(folder)
    one = model.predict_proba([picture(0)])
    for path in folder.iterdir():
        path.write_bytes(b"another")
    pixels = np.stack([model.encoder_.prepare(picture(0))] * 3)  # several at once: networks that are opened only now
    many = model.predict_features(["a"] * 3, model.encoder_.encode(pixels)).probabilities
    np.testing.assert_allclose(many, np.repeat(one, 3, axis=0), atol=1e-6)
