"""Weights in files of their own: beside a network of a user they are taken in; elsewhere they are never read."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import preprocessor, snapshot
from onnx import ModelProto, TensorProto, helper, numpy_helper

from holotype.encoders.graph import external_files, read_graph
from holotype.encoders.registry import load_encoder
from holotype.errors import EncoderError

pytestmark = pytest.mark.usefixtures("offline")
ZEROS = numpy_helper.from_array(np.zeros(3, np.float32), "w")
PLAIN = helper.make_opsetid("", 18)


def elsewhere(location: str, kind: int = TensorProto.FLOAT, **more: int) -> TensorProto:
    tensor = TensorProto(name="w", data_type=kind, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def network(*nodes: onnx.NodeProto, weights: tuple[TensorProto, ...] = ()) -> ModelProto:
    """The mean of each colour, and `w` added to it; `nodes` make that where no weight is it."""
    around = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        *nodes,
        helper.make_node("Add", ["flat", "w"], ["features"]),
    ]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])
    made = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(around, "net", [given], [made], list(weights))
    return helper.make_model(graph, opset_imports=[PLAIN, helper.make_opsetid("own", 1)], ir_version=10)


def in_a_branch(tensor: TensorProto) -> ModelProto:
    out = helper.make_tensor_value_info("w", TensorProto.FLOAT, [3])
    then, other = (helper.make_graph([], name, [], [out], [one]) for name, one in (("a", tensor), ("b", ZEROS)))
    truth = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    return network(truth, helper.make_node("If", ["yes"], ["w"], then_branch=then, else_branch=other))


def in_a_function(tensor: TensorProto, default: TensorProto | None = None) -> ModelProto:
    model = network(helper.make_node("Make", [], ["w"], domain="own"))
    body = [helper.make_node("Constant", [], ["y"], value=tensor)]
    model.functions.append(helper.make_function("own", "Make", [], ["y"], body, [PLAIN]))
    if default is not None:
        model.functions[0].attribute_proto.append(helper.make_attribute("value", default))
    return model


def in_sparse(values: TensorProto, indices: TensorProto) -> ModelProto:
    model = network()
    model.graph.sparse_initializer.add(values=values, indices=indices, dims=[3])
    return model


def for_training(tensor: TensorProto) -> ModelProto:
    model = network(weights=(ZEROS,))
    model.training_info.add().algorithm.initializer.append(tensor)
    return model


PLACES: dict[str, Callable[[str], ModelProto]] = {
    "a weight": lambda name: network(weights=(elsewhere(name),)),
    "a constant": lambda name: network(helper.make_node("Constant", [], ["w"], value=elsewhere(name))),
    "a branch": lambda name: in_a_branch(elsewhere(name)),
    "a function": lambda name: in_a_function(elsewhere(name)),
    "a function's attribute": lambda name: in_a_function(ZEROS, elsewhere(name)),
    "sparse values": lambda name: in_sparse(elsewhere(name), numpy_helper.from_array(np.arange(3))),
    "sparse indices": lambda name: in_sparse(ZEROS, elsewhere(name, TensorProto.INT64)),
    "training": lambda name: for_training(elsewhere(name)),
}


def saved(folder: Path, model: ModelProto) -> Path:
    (folder / "net").mkdir(exist_ok=True)
    (folder / "net" / "net.json").write_text(preprocessor([0.0] * 3, [1.0] * 3, size=8))
    (folder / "net" / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net" / "net.onnx"


def features(path: Path) -> list[float]:
    encoder = load_encoder(str(path), "onnxruntime")
    return [float(value) for value in encoder.encode(np.zeros((1, 8, 8, 3), np.uint8))[0]]


@pytest.mark.parametrize("place", PLACES)
def test_no_file_outside_of_the_folder_is_read(place: str, tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(bytes(100))
    for name in ("../other.bin", str(tmp_path / "other.bin"), "x/../../other.bin", "/dev/zero"):
        path = saved(tmp_path, PLACES[place](name))
        with pytest.raises(EncoderError, match="expected a file in its folder, and no link out"):
            load_encoder(str(path))


@pytest.mark.parametrize("place", PLACES)
def test_a_model_holds_all_of_itself(place: str) -> None:
    """Its networks come through here, and nothing that they name is looked for."""
    with pytest.raises(EncoderError, match=r"its weights are in other files \(w\.bin\)"):
        read_graph(PLACES[place]("w.bin").SerializeToString())


@pytest.mark.parametrize("place", ["a weight", "a constant", "a branch", "a function"])
def test_weights_beside_a_network_are_taken_in_and_known_by_their_content(place: str, tmp_path: Path) -> None:
    path = saved(tmp_path, PLACES[place]("w.bin"))
    for value in (1.0, 2.0):
        np.full(3, value, np.float32).tofile(path.with_name("w.bin"))
        assert features(path) == [value] * 3


def test_links_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, PLACES["a weight"]("w.bin"))
    beside, outside = path.with_name("w.bin"), tmp_path / "other.bin"
    outside.write_bytes(bytes(100))
    for make in (
        lambda: beside.symlink_to(outside),
        lambda: os.link(outside, beside),
        lambda: os.mkfifo(beside),
        lambda: beside.symlink_to(beside),
        lambda: beside.write_bytes(b"cut off"),
    ):
        make()
        with pytest.raises(EncoderError, match=r"no link out|cannot be read"):
            load_encoder(str(path))
        beside.unlink()
    for name in ("", ".", "a\0b", "a" * 300):
        with pytest.raises(EncoderError, match="expected a file in its folder"):
            load_encoder(str(saved(tmp_path, PLACES["a weight"](name))))


def test_what_no_file_of_a_network_holds_is_not_read(tmp_path: Path) -> None:
    """A sparse file of 40 GB takes no room on a disk, and would take all memory."""
    path = saved(tmp_path, PLACES["a weight"]("w.bin"))
    with path.with_name("w.bin").open("wb") as file:
        file.truncate(40 * 2**30)
    with pytest.raises(EncoderError, match=r"has 4294\d+ bytes with its weights; expected at most 2147483647"):
        external_files(path)
    os.truncate(path, 40 * 2**30)
    with pytest.raises(EncoderError, match="bytes with its weights; expected at most"):
        load_encoder(str(path))


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """A network with weights of its own file and its preprocessing, as the hub's own cache lays them out."""
    plain = tmp_path / "plain"
    plain.mkdir()
    path = saved(plain, PLACES["a weight"]("model.onnx_data"))
    np.full(3, 7, np.float32).tofile(path.with_name("model.onnx_data"))
    files = snapshot(tmp_path, "owner/model")
    blobs = files.parents[1] / "blobs"
    blobs.mkdir()
    (files / "onnx").mkdir()
    for number, (source, name) in enumerate(
        [(path, "onnx/model.onnx"), (path.with_name("model.onnx_data"), "onnx/model.onnx_data")]
    ):
        blob = source.rename(blobs / f"{number:064}")
        (files / name).symlink_to(os.path.relpath(blob, (files / name).parent))
    config = path.with_suffix(".json").rename(blobs / f"{9:040}")
    (files / "preprocessor_config.json").symlink_to(os.path.relpath(config, files))
    return files / "onnx" / "model.onnx"


def test_what_the_hub_fetched_can_be_given_by_its_path(fetched: Path, tmp_path: Path) -> None:
    assert features(fetched) == [7.0] * 3
    (tmp_path / "link").symlink_to(fetched.parents[1])
    assert features(tmp_path / "link" / "onnx" / "model.onnx") == [7.0] * 3


def test_a_link_out_of_what_the_hub_fetched_is_refused(fetched: Path, tmp_path: Path) -> None:
    weights, secret = fetched.with_name("model.onnx_data"), tmp_path / "secret"
    blobs = fetched.parents[3] / "blobs"
    other = tmp_path / "models--other--model" / "blobs"
    other.mkdir(parents=True)
    for path in (secret, other / "1"):
        path.write_bytes(bytes(12))
    os.link(secret, blobs / "hard")
    (blobs / "soft").symlink_to(secret)
    for target in (secret, other / "1", blobs / "hard", blobs / "soft", blobs, Path("/etc/passwd")):
        weights.unlink()
        weights.symlink_to(target)
        with pytest.raises(EncoderError, match="expected a file in its folder, and no link out"):
            load_encoder(str(fetched))
    for name in ("../../../blobs/" + "0" * 63 + "1", str(blobs / ("0" * 63 + "1")), "../onnx/w.bin"):
        (fetched.parent / "own.onnx").write_bytes(PLACES["a weight"](name).SerializeToString())
        with pytest.raises(EncoderError, match="expected a file in its folder, and no link out"):
            load_encoder(str(fetched.parent / "own.onnx"))
    blobs.rename(tmp_path / "moved")
    blobs.symlink_to(tmp_path / "moved")  # then it may be any folder
    weights.unlink()
    weights.symlink_to(blobs / ("0" * 63 + "1"))
    with pytest.raises(EncoderError, match="expected a file in its folder, and no link out"):
        load_encoder(str(fetched))
