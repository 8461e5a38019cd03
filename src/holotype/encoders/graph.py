"""ONNX files as others may have made them: read, and refused before a runtime sees what it should not run.

A file must hold all of itself, consist of operators that are known, and end: no loops, no tensors beyond all measure.
"""

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

from holotype.errors import EncoderError
from holotype.pointers import why_pointer

if TYPE_CHECKING:
    import onnx

_STANDARD = ("", "ai.onnx")
_DOMAINS = (*_STANDARD, "com.microsoft")  # the second is ONNX Runtime's own, of quantised and fused networks
_ENDLESS = frozenset(["Loop", "Scan", "SequenceMap"])
_OUTSIDE = frozenset(["EPContext"])  # it names a file with a program for an accelerator
_MOST_NODES = 100_000
_DEEPEST = 8  # graphs within graphs, of If
_LARGEST = 2**28  # numbers in one tensor, for one image: a gigabyte


def read_graph(content: bytes) -> "onnx.ModelProto":
    """Parse an ONNX file. Raises `EncoderError` where it cannot be read, or holds what is not run here."""
    import onnx

    if pointer := why_pointer(content):
        raise EncoderError(pointer)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise EncoderError(f"it is no ONNX file, or a damaged one: {first_line(error)}") from error
    if not model.graph.node:
        raise EncoderError("it is no ONNX file, or a damaged one: it has no operators")
    check_operators(model)
    if files := sorted({name for tensor in _tensors(model) for name in _locations(tensor)}):
        raise EncoderError(
            f"its weights are in other files ({', '.join(files[:3])}); expected one ONNX file that holds all of itself"
        )
    return model


def check_operators(model: "onnx.ModelProto") -> None:
    """Raise `EncoderError` for operators that are unknown, may never end, or reach for files."""
    from onnx import defs

    own = {(function.domain, function.name) for function in model.functions}
    count = 0
    for count, node in enumerate(_nodes(model), 1):
        if count > _MOST_NODES:
            break
        name, domain = str(node.op_type), str(node.domain)  # bytes, where they are no text
        if name in _ENDLESS:
            raise EncoderError(f"it has a loop ({name}), which may never end; expected a network without")
        known = defs.has(name) if domain in _STANDARD else domain in _DOMAINS
        if name in _OUTSIDE or not (known or (domain, name) in own):
            whole = f"{domain}.{name}" if domain else name
            raise EncoderError(
                f"it has an operator that is not known here: {whole}; export it with ONNX's own operators"
            )
    if count > _MOST_NODES:
        raise EncoderError(f"it has more than {_MOST_NODES} operators")


def check_sizes(model: "onnx.ModelProto") -> None:
    """Raise `EncoderError` where shapes do not fit each other, or one image would take tensors beyond all measure."""
    import onnx

    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    for value in trial.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.dim_value = 1
    try:
        onnx.checker.check_model(trial)
        del trial.graph.value_info[:]  # what the file says of shapes within may be untrue
        for value in trial.graph.output:
            value.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(trial, data_prop=True).graph
    except Exception as error:
        raise EncoderError(f"it is no valid ONNX file: {first_line(error)}") from error
    for value in (*inferred.value_info, *inferred.output, *inferred.input):
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if prod(size or 1 for size in shape) > _LARGEST:
            raise EncoderError(f"one image would make a tensor of shape {shape}, more than {_LARGEST} numbers")


def first_line(error: Exception) -> str:
    """What an error of a library says, in a line."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _nodes(model: "onnx.ModelProto") -> "Iterator[onnx.NodeProto]":
    """Every operator, of graphs within the graph too. Raises `EncoderError` where these are nested too deep."""
    ahead = [(node, 0) for part in (model.graph, *model.functions) for node in reversed(part.node)]
    while ahead:
        node, depth = ahead.pop()
        if depth > _DEEPEST:
            raise EncoderError(f"it has graphs nested more than {_DEEPEST} deep")
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                ahead.extend((inner, depth + 1) for inner in graph.node)


def _tensors(model: "onnx.ModelProto") -> "Iterator[onnx.TensorProto]":
    graphs = [model.graph]
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors, attribute.sparse_tensor.values)
            yield from (part.values for part in attribute.sparse_tensors)
            graphs += [attribute.g, *attribute.graphs]
    for graph in graphs:
        yield from (*graph.initializer, *(part.values for part in graph.sparse_initializer))


def _locations(tensor: "onnx.TensorProto") -> list[str]:
    import onnx

    outside = tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data
    return [entry.value for entry in tensor.external_data if entry.key == "location"] or ["?"] if outside else []
