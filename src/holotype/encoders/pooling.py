"""What a network gives of an image to one vector: of a map of features, the mean of where the image is.

An image is letterboxed, so a part of its map is about margins. These are told by their pixels, which are all of one
value, and a cell of the map weighs by how much of it lies between them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.graph import shape_of_two
from holotype.encoders.nodes import Nodes
from holotype.errors import EncoderError
from holotype.pool.images import MARGIN

if TYPE_CHECKING:
    import onnx

WEIGHTED = "holotype_weighted"  # the node that has the map as input, and then how much of each cell is image
MAP_ROWS, MAP_COLUMNS = (
    "holotype_rows_shape",
    "holotype_columns_shape",
)  # how many there are, along their axis of the map
COVERED = "_covered"  # what the names of nodes end with that tell margins
_LEAST = 1e-3  # what a margin's cell weighs: an image that is all of the margins' value has a mean too
_MAP = 4  # axes of a map of features of n images
_BROADCASTS = 8  # the version of ONNX's operators from which on the least of two tensors may be of different shapes


def add_pooling(
    model: "onnx.ModelProto", output: "onnx.ValueInfoProto", size: tuple[int, int], channels_last: bool
) -> None:
    """Add nodes that make `features` (n, dim) of `output`, for images of `size` (height, width).

    Features of rank 2 stay; of rank 4 they are averaged over space, where the image is (with operators of version 7 or
    less, all over); of rank 3 the first token is taken. The graph has
    the letterboxed pixels (n, height, width, 3) as floats in `holotype_float`. Raises `EncoderError`.
    """
    from onnx import TensorProto, helper

    graph, shape = Nodes(model), output.type.tensor_type.shape.dim
    kind = output.type.tensor_type.elem_type
    if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
        raise EncoderError(f"expected features that are floats, got {TensorProto.DataType.Name(kind)} in {output.name}")
    floats = output.name
    if kind != TensorProto.FLOAT:
        floats = graph.then("Cast", "holotype_features", output.name, to=TensorProto.FLOAT)
    if len(shape) == _MAP:
        axes = [1, 2] if channels_last else [2, 3]
        _add_mean(graph, floats, axes, _cells(model, output, axes, size), size)
    elif len(shape) == 3:
        graph.then("Gather", "features", floats, graph.constant("holotype_first", 0), axis=1)
    elif len(shape) == 2:
        graph.then("Identity", "features", floats)
    else:
        raise EncoderError(f"expected features of rank 2, 3 or 4, got an output {output.name} of rank {len(shape)}")
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", None]))


def _cells(
    model: "onnx.ModelProto", output: "onnx.ValueInfoProto", axes: Sequence[int], size: tuple[int, int]
) -> list[int]:
    """How long the map of a blank image is along `axes`, whatever the file says; 0 where it cannot be run."""
    import onnx

    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    for value in trial.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        shape = shape_of_two(trial.SerializeToString(), size, output.name)
    except Exception:  # it raises all kinds; what is wrong with the file is said when it is checked
        return [0, 0]
    return [shape[axis] for axis in axes]


def _add_mean(graph: Nodes, floats: str, axes: list[int], cells: list[int], size: tuple[int, int]) -> None:
    """Add the mean of a map `floats` over its `axes`, of (rows, columns) `cells`; plain where these are not known."""
    if min(cells) == 0 or max(cells) == 1 or graph.opset < _BROADCASTS:
        graph.reduce("ReduceMean", "features", floats, axes)
        return
    margin = graph.constant("holotype_margin", MARGIN, np.float32)
    apart = graph.then("Abs", "holotype_apart", graph.then("Sub", "holotype_from_margin", "holotype_float", margin))
    along = []
    for name, across, side, count, axis in zip(("rows", "columns"), (2, 1), size, cells, axes, strict=True):
        shape = [count if place == axis else 1 for place in range(_MAP)]
        along.append(_add_weights(graph, f"holotype_{name}", apart, across, _shares(side, count), [-1, *shape[1:]]))
    weights = graph.then("Mul", "holotype_weights", *along)
    weighted = graph.then("Mul", WEIGHTED, floats, weights)
    total = graph.reduce("ReduceSum", "holotype_total", weighted, axes)
    graph.then("Div", "features", total, graph.reduce("ReduceSum", "holotype_weight", weights, axes))


def _add_weights(
    graph: Nodes, name: str, apart: str, across: int, shares: NDArray[np.float32], shape: list[int]
) -> str:
    """Add how much of each row or column of a map is image; `apart` says how far pixels are from the margins' value."""
    furthest = graph.reduce("ReduceMax", f"{name}_apart", apart, [across, 3])
    image = graph.then("Min", f"{name}_image", furthest, graph.constant(f"{name}_one", 1, np.float32))
    covered = graph.then("MatMul", f"{name}{COVERED}", image, graph.constant(f"{name}_shares", shares, np.float32))
    least = graph.constant(f"{name}_least", _LEAST, np.float32)
    counted = graph.then("Max", f"{name}_counted", covered, least)
    return graph.then("Reshape", name, counted, graph.constant(f"{name}_shape", shape))


def _shares(side: int, count: int) -> NDArray[np.float32]:
    """Return (side, count): which share of each of `count` cells each of `side` pixels is."""
    pixels, edges = np.arange(side)[:, None], np.linspace(0, side, count + 1)
    overlap = np.minimum(pixels + 1, edges[1:]) - np.maximum(pixels, edges[:-1])
    return np.asarray(np.maximum(overlap, 0) * count / side, np.float32)
