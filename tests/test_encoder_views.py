"""An encoder of several views: the mean of what the network gives of the image, a closer one, and its mirror image."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import Holotype
from networks import convolution, convolve, images
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from holotype import files
from holotype.encoders.encode import l2_normalize
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import OnnxEncoder
from holotype.encoders.views import join_views, split_views
from holotype.errors import EncoderError
from holotype.pool.images import middle

Pixels = NDArray[np.uint8]
pytestmark = pytest.mark.usefixtures("offline")


def marked(encoder: OnnxEncoder) -> Pixels:
    """Pictures of a plain ground with a bright mark in one place."""
    pixels = np.full((4, *encoder.size, 3), 128, np.uint8)
    for place, (top, left) in enumerate([(3, 3), (1, 1), (1, 4), (4, 2)]):
        pixels[place, top : top + 3, left : left + 3] = images(encoder, 4)[place, :3, :3]
    return pixels


def mean_of(encoder: OnnxEncoder, views: Sequence[Pixels]) -> NDArray[np.float32]:
    return np.asarray(np.mean([l2_normalize(encoder.encode(one)) for one in views], axis=0))


def assert_alike(found: NDArray[np.float32], wanted: NDArray[np.float32], plain: NDArray[np.float32]) -> None:
    """They agree, and much better than with one view alone."""
    apart = 1 - (l2_normalize(found) * l2_normalize(wanted)).sum(axis=1)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(wanted, axis=1), rtol=0.01)
    assert apart.max() < 1e-3
    assert apart.mean() < 0.2 * (1 - (l2_normalize(plain) * l2_normalize(wanted)).sum(axis=1)).mean()


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("tail", ["rank2", "rank4"])
def test_features_are_the_mean_of_those_of_the_views(
    runtime: str, opset: int, count: int, tail: str, tmp_path: Path
) -> None:
    path = convolution(tmp_path, tail, opset=opset)
    alone, several = load_encoder(str(path), runtime), load_encoder(f"views{count}:{path}", runtime)
    assert (several.size, several.dim) == (alone.size, alone.dim)
    assert several.fingerprint != alone.fingerprint
    pixels = marked(alone)
    look = middle if tail == "rank2" else strongest  # without a map, nobody knows where to look
    closer = [np.asarray(look(Image.fromarray(one)).resize(alone.size[::-1], 2)) for one in pixels]
    views = [pixels, np.stack(closer), pixels[:, :, ::-1].copy()][:count]
    found = several.encode(pixels)
    assert_alike(found, mean_of(alone, views), alone.encode(pixels))
    np.testing.assert_allclose(found, np.concatenate([several.encode(one[None]) for one in pixels]), atol=1e-4)


def strongest(image: Image.Image) -> Image.Image:
    """The square about the cells where the map of `convolution` is at least half as strong as anywhere."""
    scaled = torch.from_numpy(((np.asarray(image) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None].astype(np.float32))
    strength = np.linalg.norm(convolve(scaled)[0].numpy(), axis=0)
    rows, columns = np.nonzero(strength >= strength.max() / 2)
    side = max(np.ptp(rows), np.ptp(columns)) + 1
    corner = [
        min(max((ends.min() + ends.max() + 1 - side) / 2, 0), length - side)
        for ends, length in ((columns, image.width), (rows, image.height))
    ]
    left, top = corner
    box = (left, top, left + side, top + side)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=box)


def test_a_blank_image_has_views_too(tmp_path: Path) -> None:
    several = load_encoder(f"views3:{convolution(tmp_path, 'rank4')}")
    for value in (0, 127, 255):
        assert np.isfinite(several.encode(np.full((2, *several.size, 3), value, np.uint8))).all()


def test_names_say_how_many_views() -> None:
    assert split_views("views3:a") == (3, "a")
    assert split_views("views2:hf:owner/model") == (2, "hf:owner/model")
    assert [split_views(name)[0] for name in ("a", "hf:a/b", "/views3:a", "views:a", "viewsx:a")] == [1] * 5
    assert [join_views(count, "a") for count in (None, 1, 2, 3)] == ["a", "a", "views2:a", "views3:a"]
    assert join_views(2, "views3:a") == "views2:a"
    assert join_views(None, "views1:a") == "a"
    assert split_views("views\N{ARABIC-INDIC DIGIT THREE}:a") == (1, "views\N{ARABIC-INDIC DIGIT THREE}:a")
    assert join_views(None, "views3:a") == "views3:a"


def test_vectors_of_views_are_taken_back_by_a_run(data: Path, network: str, holotype: Holotype) -> None:
    """What `embed` computes, `run` finds with its encoder, and the saved model has all that it needs."""
    code, said, _ = holotype("embed", data / "images.tar", "--encoder", network, "--views", "3", "--out", data / "v")
    assert (code, said.splitlines()[0]) == (0, f"239 vectors in {data / 'v'}, 1 image unreadable")
    words = ["--images", data / "images.tar", "--exemplar", "red=0", "--exemplar", "green=1", "--exemplar", "blue=2"]
    supplied = ["--embeddings", data / "v", "--embeddings-encoder", f"views3:{network}", "--encoder", network]
    code, _, told = holotype("run", *words, *supplied, "--views", "3", "--out", data / "out")
    assert code == 0, told
    code, lines, _ = holotype("predict", data / "out" / "model", data / "images.tar")
    assert code == 0
    shown = [json.loads(line) for line in lines.splitlines()]
    assert sum(one.get("label") == "red" for one in shown) > 15


@pytest.mark.parametrize("name", ["views0:a", "views4:a", "views02:a", f"views{'9' * 5000}:a"])
def test_other_numbers_of_views_are_refused(name: str) -> None:
    with pytest.raises(EncoderError, match="expected 1 to 3 views of an image, got"):
        load_encoder(name)


@pytest.mark.parametrize("name", ["views2:", "views2:views3:a"])
def test_one_name_follows(name: str) -> None:
    with pytest.raises(EncoderError, match="expected the name of one encoder behind views2:"):
        load_encoder(name)


def test_operators_that_are_too_old_are_named(tmp_path: Path) -> None:
    before = set(files.cache_folder().glob("encoders/views*"))
    with pytest.raises(EncoderError, match="of version 11 or later, and this one has those of version 10"):
        load_encoder(f"views2:{convolution(tmp_path, 'rank4', opset=10)}")
    assert set(files.cache_folder().glob("encoders/views*")) == before


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("cells", [(1, 4), (4, 1), (2, 4)])
@pytest.mark.parametrize("last", [True, False])
def test_maps_of_any_shape_and_order(runtime: str, cells: tuple[int, int], last: bool, tmp_path: Path) -> None:
    """One bright cell is where the closer view is, wherever channels stand."""
    path = pooled_cells(tmp_path, cells, last=last)
    alone, several = load_encoder(str(path), runtime), load_encoder(f"views2:{path}", runtime)
    height, width = alone.size
    pixels = np.full((3, height, width, 3), 10, np.uint8)
    row, column = cells[0] - 1, cells[1] - 1
    step = height // cells[0], width // cells[1]
    mark = np.s_[row * step[0] : (row + 1) * step[0], column * step[1] : (column + 1) * step[1]]
    for place, colour in enumerate([(250, 0, 0), (0, 250, 0), (0, 0, 250)]):
        pixels[place][mark] = colour
    share = max(1 / cells[0], 1 / cells[1])
    box = (width - round(width * share), height - round(height * share), width, height)
    closer = np.stack([np.asarray(Image.fromarray(one).resize((width, height), 2, box=box)) for one in pixels])
    wanted = mean_of(alone, [pixels, closer])
    np.testing.assert_allclose(several.encode(pixels), wanted, atol=0.02)
    assert (np.abs(l2_normalize(alone.encode(pixels)) - wanted).max() > 0.05) == (min(cells) > 1)


def pooled_cells(folder: Path, cells: tuple[int, int], *, last: bool) -> Path:
    """A network whose map of (3,) colours has so many `cells`, of images of 8 pixels for each."""
    size = (8 * cells[0], 8 * cells[1])
    form: list[str | int | None] = ["n", *size, 3] if last else ["n", 3, *size]
    square: dict[str, Any] = {"kernel_shape": [8, 8], "strides": [8, 8]}
    nodes = [
        *([helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2])] if last else []),
        helper.make_node("AveragePool", ["planes" if last else "image"], ["means"], **square),
        helper.make_node("Relu", ["means"], ["turned" if last else "map"]),
        *([helper.make_node("Transpose", ["turned"], ["map"], perm=[0, 2, 3, 1])] if last else []),
    ]
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, form)],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [None] * 4)],
    )
    path = folder / "cells.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    about = {"size": list(size), "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    path.with_suffix(".json").write_text(json.dumps(about))
    return path


def test_other_bytes_of_a_network_make_other_views(tmp_path: Path) -> None:
    path = convolution(tmp_path, "rank4")
    before = load_encoder(f"views2:{path}")
    convolution(tmp_path, "rank2")
    assert load_encoder(f"views2:{path}").fingerprint != before.fingerprint


@pytest.mark.parametrize("side", [117, 127, 223])
def test_any_size_of_an_image_has_a_middle(side: int, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    path = tmp_path / "mean.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    path.with_suffix(".json").write_text(json.dumps({"size": side, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    for runtime in ("openvino", "onnxruntime"):
        several = load_encoder(f"views3:{path}", runtime)
        assert several.encode(np.full((2, side, side, 3), 200, np.uint8)).shape == (2, 3)


def test_a_networks_own_names_are_its_own(tmp_path: Path) -> None:
    """Nodes and tensors that are called as ours are."""
    path = convolution(tmp_path, "rank4")
    wanted = load_encoder(f"views3:{path}")
    pixels = marked(wanted)
    model = onnx.load(path)
    for node, name in zip(model.graph.node, ("features", "holotype_float", "whole", "again_one_whole"), strict=False):
        node.name = name
    onnx.save(onnx.compose.add_prefix(model, "holotype_"), path)
    for runtime in ("openvino", "onnxruntime"):
        found = load_encoder(f"views3:{path}", runtime)
        np.testing.assert_allclose(found.encode(pixels), wanted.encode(pixels), atol=1e-4)
