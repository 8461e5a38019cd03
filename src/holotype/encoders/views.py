"""An encoder that looks at an image in several views: the mean of what it gives of each, as one ONNX file.

The second view is closer: of what the network's map of the image is strongest about, or of the image's middle where the
network gives no map. The third is the mirror image.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from holotype.encoders.graph import read_graph
from holotype.encoders.nodes import Nodes
from holotype.encoders.pooling import MAP_COLUMNS, MAP_ROWS, WEIGHTED
from holotype.errors import EncoderError

if TYPE_CHECKING:
    import onnx

MOST_VIEWS = 3
_MIDDLE = 0.75  # share of width and height, as `pool.images.middle` has it
_STRONG = 0.5  # of the greatest: what cells of a map have at least that a closer view is about; docs/tried.md
_LEAST, _HALF = 11, 16  # versions of ONNX's operators: that are needed, and from which on pixels have middles
_NAME = re.compile(r"views(\d+):(.*)", re.ASCII | re.DOTALL)


def split_views(name: str) -> tuple[int, str]:
    """Return of how many views an encoder called `name` is, and what it is called without them.

    Raises `EncoderError` for a number of views that there is not, and where nothing, or views, follow it.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return 1, name
    count, alone = found.groups()
    if not alone or _NAME.fullmatch(alone):
        raise EncoderError(f"expected the name of one encoder behind views{count}: in {name!r}")
    return _checked(int(count) if len(count) == 1 else MOST_VIEWS + 1, count), alone


def join_views(count: int | None, name: str) -> str:
    """Return what an encoder called `name` is called with `count` views; None leaves those that it has.

    Raises `EncoderError` as `split_views` does.
    """
    had, alone = split_views(name)
    count = had if count is None else _checked(count, str(count))
    return alone if count == 1 else f"views{count}:{alone}"


def _checked(count: int, given: str) -> int:
    if not 1 <= count <= MOST_VIEWS:
        raise EncoderError(f"expected 1 to {MOST_VIEWS} views of an image, got {given[:20]}")
    return count


@dataclass(frozen=True)
class _Map:
    """What a network sees where: `cells` are rows and columns of the map `name`, whose channels are along `channels`.

    weights   how much of each cell is image
    """

    name: str
    weights: str
    cells: tuple[int, int]
    channels: int


def with_views(content: bytes, count: int) -> bytes:
    """Return the ONNX file of an encoder that takes `count` views of each image, from that of one which takes one.

    Its features are the mean of those of the views, each of unit length. It takes `count` times as long. Raises
    `EncoderError` for a network of operators that are too old.
    """
    from onnx import TensorProto, compose, helper

    model = compose.add_prefix(read_graph(content), "one_")
    graph, nodes = model.graph, Nodes(model)
    if nodes.opset < _LEAST:
        raise EncoderError(
            f"views need a network with ONNX's operators of version {_LEAST} or later, and this one has those of "
            f"version {nodes.opset}: export it anew"
        )
    pixels, features = graph.input[0].name, graph.output[0].name
    height, width = (graph.input[0].type.tensor_type.shape.dim[axis].dim_value for axis in (1, 2))
    network, seen = list(graph.node), _find_map(model)
    del graph.node[:], graph.input[:], graph.output[:]
    whole = nodes.then("Cast", "whole", "pixels", to=TensorProto.FLOAT)
    more = [_add_mirrored(nodes, whole)] if count > 2 else []
    if seen is None:
        closer = _add_cut(nodes, whole, _add_middle(nodes, whole), (height, width))
        nodes.then("Concat", pixels, whole, closer, *more, axis=0)
        graph.node.extend(network)
        each = _add_parts(nodes, features, count)
    else:  # where to look closer is known after the first look
        nodes.then("Identity", pixels, whole)
        graph.node.extend(network)
        closer = _add_cut(nodes, whole, _add_strongest(nodes, seen), (height, width))
        nodes.then("Concat", f"again_{pixels}", closer, *more, axis=0)
        graph.node.extend(_again(network, pixels))
        each = [features, *_add_parts(nodes, f"again_{features}", count - 1)]
    units = [nodes.then("LpNormalization", f"unit_{view}", one, axis=1, p=2) for view, one in enumerate(each)]
    nodes.then("Mean", "features", *units)
    graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", height, width, 3]))
    graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", None]))
    return bytes(model.SerializeToString(deterministic=True))


def _find_map(model: "onnx.ModelProto") -> _Map | None:
    """The map that a network is averaged over; None where it has none, or may not be looked through a second time."""
    from onnx import AttributeProto, numpy_helper

    nested = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    if any(attribute.type in nested for node in model.graph.node for attribute in node.attribute):
        return None
    shapes = {one.name: one for one in model.graph.initializer if one.name in (f"one_{MAP_ROWS}", f"one_{MAP_COLUMNS}")}
    for node in model.graph.node:
        if node.output[0] == f"one_{WEIGHTED}" and len(shapes) == 2:
            rows, columns = (numpy_helper.to_array(shapes[f"one_{name}"]) for name in (MAP_ROWS, MAP_COLUMNS))
            last = bool(rows[1] > 1 or columns[2] > 1)  # where rows and columns come before the channels
            return _Map(node.input[0], node.input[1], (int(rows[1:].max()), int(columns[1:].max())), 3 if last else 1)
    return None


def _again(network: "Sequence[onnx.NodeProto]", pixels: str) -> "list[onnx.NodeProto]":
    """Return what depends on the `pixels` once more, for others, with the same weights."""
    import onnx

    made, copies = {pixels}, list[onnx.NodeProto]()
    for node in network:
        if made.isdisjoint(node.input):
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = f"again_{node.name}" if node.name else ""
        made.update(name for name in node.output if name)
        for names in (copy.input, copy.output):
            names[:] = [f"again_{name}" if name in made else name for name in names]
        copies.append(copy)
    return copies


def _add_parts(nodes: Nodes, features: str, count: int) -> list[str]:
    """Add the features of each of `count` views, which are one after another in `features`."""
    if count == 1:
        return [features]
    return nodes.split(features, [f"{features}_{view}" for view in range(count)])


def _add_middle(nodes: Nodes, whole: str) -> str:
    """Add where the middle of each image is: left, top, right and bottom (n, 4), as shares of its width and height."""
    edge = (1 - _MIDDLE) / 2
    box = nodes.constant("middle", [[edge, edge, 1 - edge, 1 - edge]], np.float32)
    first = nodes.then("Gather", "first_length", nodes.then("Shape", "lengths", whole), nodes.constant("of_n", [0]))
    like = nodes.then("Concat", "one_box_each", first, nodes.constant("one_box", [1]), axis=0)
    return nodes.then("Expand", "middles", box, like)


def _add_strongest(nodes: Nodes, seen: _Map) -> str:
    """Add where the map of each image is strong, as `_add_middle` does: a part of the shape of the whole image."""
    from onnx import TensorProto

    strength = nodes.reduce("ReduceL2", "strength", seen.name, [seen.channels])
    image = nodes.then("Reshape", "image", seen.weights, nodes.constant("cells", [-1, *seen.cells]))
    strength = nodes.then("Mul", "strength_of_image", strength, image)
    most = nodes.column("most", nodes.reduce("ReduceMax", "strongest", strength, [1, 2]), 3)
    bound = nodes.then("Mul", "bound", most, nodes.constant("share", _STRONG, np.float32))
    weak = nodes.then("Cast", "weak", nodes.then("Less", "is_weak", strength, bound), to=TensorProto.FLOAT)
    rows = _add_ends(nodes, "rows", nodes.reduce("ReduceMin", "weak_rows", weak, [2]), seen.cells[0])
    columns = _add_ends(nodes, "columns", nodes.reduce("ReduceMin", "weak_columns", weak, [1]), seen.cells[1])
    lengths = [nodes.then("Sub", f"length_{part}", end, start) for part, (start, end) in (("y", rows), ("x", columns))]
    side = nodes.then("Max", "longer", *lengths)
    (top, bottom), (left, right) = (_add_span(nodes, part, ends, side) for part, ends in (("y", rows), ("x", columns)))
    corners = [nodes.column(f"corner_{place}", one) for place, one in enumerate((left, top, right, bottom))]
    return nodes.then("Concat", "boxes", *corners, axis=1)


def _add_ends(nodes: Nodes, name: str, weak: str, count: int) -> tuple[str, str]:
    """Add where the first strong of `count` rows or columns begins and where the last ends (n,), from 0 to 1."""
    starts = nodes.constant(f"{name}_starts", np.arange(count) / count, np.float32)
    ends = nodes.constant(f"{name}_ends", np.arange(1, count + 1) / count, np.float32)
    # what is weak is neither first nor last
    first = nodes.reduce("ReduceMin", f"{name}_first", nodes.then("Add", f"{name}_later", weak, starts), [1])
    last = nodes.reduce("ReduceMax", f"{name}_last", nodes.then("Sub", f"{name}_earlier", ends, weak), [1])
    return first, last


def _add_span(nodes: Nodes, name: str, ends: tuple[str, str], side: str) -> tuple[str, str]:
    """Add from where to where (n,) a `side` reaches that is about the middle of `ends`, within 0 and 1."""
    half, one, least = (nodes.constant(f"{name}_{value}", value, np.float32) for value in (0.5, 1, 0))
    twice = nodes.then("Sub", f"{name}_twice", nodes.then("Add", f"{name}_both", *ends), side)
    start = nodes.then("Max", f"{name}_inside", nodes.then("Mul", f"{name}_start", twice, half), least)
    start = nodes.then("Min", f"{name}_begin", start, nodes.then("Sub", f"{name}_room", one, side))
    return start, nodes.then("Add", f"{name}_end", start, side)


def _add_cut(nodes: Nodes, whole: str, boxes: str, size: tuple[int, int]) -> str:
    """Add what of each image is within its box (n, 4), as large as the image."""
    height, width = size
    scale = nodes.constant("size", [width, height, width, height], np.float32)
    pixels = nodes.then("Mul", "boxes_in_pixels", boxes, scale)
    if nodes.opset < _HALF:  # where a pixel's place was that of its corner
        pixels = nodes.then("Sub", "boxes_of_corners", pixels, nodes.constant("half_a_pixel", 0.5, np.float32))
    zero, one = nodes.constant("zero", 0), nodes.constant("one", 1)
    count = nodes.then("Gather", "count", nodes.then("Shape", "shape", whole), zero, axis=0)
    numbers = nodes.then("Range", "numbers", zero, count, one)
    planes = nodes.then("Transpose", "planes", whole, perm=[0, 3, 1, 2])
    like = {"output_height": height, "output_width": width, "sampling_ratio": 1, "spatial_scale": 1.0}
    closer = nodes.then("RoiAlign", "closer_planes", planes, pixels, numbers, **like)
    return nodes.then("Transpose", "closer", closer, perm=[0, 2, 3, 1])


def _add_mirrored(nodes: Nodes, whole: str) -> str:
    """Add images with left and right exchanged."""
    ends = nodes.constant("last", [-1]), nodes.constant("before_first", [np.iinfo(np.int64).min])
    return nodes.then("Slice", "mirrored", whole, *ends, nodes.constant("across", [2]), nodes.constant("back", [-1]))
