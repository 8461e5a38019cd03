"""Text towers to one kind of ONNX file: ids (n, length) int64 in, with a mask where they need one, features out.

The tokenizer and the rules are in the file too, so that one digest is of all that a vector of words depends on.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from holotype.encoders.export import feature_output, load_checked, load_network, reading, strip, trace
from holotype.encoders.graph import check_sizes, first_line, read_graph
from holotype.encoders.rules import TextRules, suited
from holotype.encoders.tokens import Tokens
from holotype.errors import EncoderError
from holotype.files import write

if TYPE_CHECKING:
    import onnx
    import torch

RULES, TOKENIZER_JSON = "holotype_rules", "holotype_tokenizer"  # what the file calls them
IDS, MASK, FEATURES = "ids", "mask", "features"
_WHOLE = ("text_embeds", "pooler_output", "sentence_embedding")  # what outputs of a whole text are called
_MASKS = ("attention_mask", "mask")
_PREFIX = "network_"
_LARGE = 2**16  # numbers in weights that can be no shape


def wrap_text(source: Path, tokenizer: str, rules: TextRules, target: Path) -> None:
    """Give an ONNX text tower the names of its kind, its `tokenizer` (a tokenizer.json) and its rules.

    Where it takes a fixed number of tokens, that is the length. Raises `EncoderError`.
    """
    model = load_checked(source)
    try:
        _write(model, tokenizer, rules, target)
    except EncoderError as error:
        raise EncoderError(f"{source}: {error}") from error


def export_text(folder: Path, tokenizer: str, rules: TextRules, target: Path) -> None:
    """Export the text tower of a CLIP-like network of transformers, once. Raises `EncoderError`."""
    import torch

    with reading(folder, "network with a text tower"):
        module, found = _text_module(folder, rules)
        names = ("input_ids", _MASKS[0])[: 1 + rules.masked]
        model = trace(module, {name: torch.ones(2, rules.length, dtype=torch.int64) for name in names})
    _write(model, tokenizer, found, target)


def _text_module(folder: Path, rules: TextRules) -> "tuple[torch.nn.Module, TextRules]":
    """Return the text tower, and the rules with the scale and bias that were learnt with it."""
    import torch

    network, missing = load_network(folder)
    if missing:
        raise EncoderError(f"the weights lack {', '.join(missing[:3])}")
    project: Any = getattr(network, "get_text_features", None)
    if project is None:
        raise EncoderError(f"{type(network).__name__} has no text tower")

    class Text(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: "torch.Tensor", mask: "torch.Tensor | None" = None) -> "torch.Tensor":
            output = project(input_ids=ids) if mask is None else project(input_ids=ids, attention_mask=mask)
            found: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
            return found

    scale, bias = (getattr(network, name, None) for name in ("logit_scale", "logit_bias"))
    return Text(), replace(
        rules,
        scale=None if scale is None else float(scale.exp().item()),
        bias=None if bias is None else float(bias.item()),
    )


def _write(model: "onnx.ModelProto", tokenizer: str, rules: TextRules, target: Path) -> None:
    import onnx

    ids, mask = _inputs(model.graph)
    batch, length = _shape(ids)
    rules = replace(suited(rules, json.loads(tokenizer)), length=length or rules.length)
    Tokens(tokenizer, rules).encode(["a"])  # what is wrong with them is said before anybody waits for words
    output = feature_output(model.graph, None, _WHOLE)
    outer = [(IDS, ids), *([(MASK, mask)] if mask is not None and rules.masked else [])]
    names = ids.name, mask.name if mask is not None else "", output.name
    kinds = ids.type.tensor_type.elem_type, mask.type.tensor_type.elem_type if mask is not None else 0
    onnx.compose.add_prefix(model, _PREFIX, inplace=True)
    _add_inputs(model, names, kinds, [name for name, _ in outer], (batch or "n", rules.length))
    _add_output(model, names[2])
    strip(model)
    masked = replace(rules, masked=len(outer) > 1)
    onnx.helper.set_model_props(model, {RULES: masked.to_json(), TOKENIZER_JSON: tokenizer})
    content = model.SerializeToString(deterministic=True)
    model.Clear()  # it may be a gigabyte, and once more for each who looks at it
    check_sizes(_without_weights(read_graph(content)))
    _try(content, len(outer), (batch or 2, rules.length))
    write(target, content)


def _inputs(graph: "onnx.GraphProto") -> "tuple[onnx.ValueInfoProto, onnx.ValueInfoProto | None]":
    """The input that takes the ids, and the one that says which of them are of the text, if there is one."""
    from onnx import TensorProto

    weights = {tensor.name for tensor in graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [value for value in graph.input if value.name not in weights]
    masks = [value for value in inputs if value.name in _MASKS]
    ids = [value for value in inputs if value.name not in _MASKS]
    whole = (TensorProto.INT64, TensorProto.INT32)
    if len(ids) != 1 or len(masks) > 1 or ids[0].type.tensor_type.elem_type not in whole:
        raise EncoderError(
            "expected a text tower alone, which takes ids of tokens (int64 or int32) and perhaps an attention_mask; "
            f"got the inputs {', '.join(value.name for value in inputs)}"
        )
    return ids[0], masks[0] if masks else None


def _shape(ids: "onnx.ValueInfoProto") -> tuple[int, int]:
    """How many texts and tokens a network takes at once; 0: any number."""
    shape = [dim.dim_value for dim in ids.type.tensor_type.shape.dim]
    if len(shape) != 2 or shape[0] > 1:
        raise EncoderError(
            f"expected an input (texts, tokens) for one text, or any number of them, got {shape} for {ids.name}; "
            "export it with a free batch size"
        )
    return shape[0], shape[1]


def _add_inputs(
    model: "onnx.ModelProto",
    names: tuple[str, str, str],
    kinds: tuple[int, int],
    given: Sequence[str],
    shape: tuple[str | int, int],
) -> None:
    """Put the inputs in front. A network that asks for a mask it should not have is told that all is text."""
    from onnx import TensorProto, helper

    graph = model.graph
    first = [helper.make_node("Cast", [IDS], [f"{_PREFIX}{names[0]}"], to=kinds[0])]
    if names[1]:
        mask = MASK
        if MASK not in given:
            one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
            first += [
                helper.make_node("Shape", [IDS], ["shape_of_ids"]),
                helper.make_node("ConstantOfShape", ["shape_of_ids"], ["all_text"], value=one),
            ]
            mask = "all_text"
        first.append(helper.make_node("Cast", [mask], [f"{_PREFIX}{names[1]}"], to=kinds[1]))
    nodes = [*first, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    model.ir_version = max(model.ir_version, 4)  # from there on weights need not be inputs too
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in given)


def _add_output(model: "onnx.ModelProto", name: str) -> None:
    from onnx import TensorProto, helper

    graph = model.graph
    graph.node.append(helper.make_node("Cast", [f"{_PREFIX}{name}"], [FEATURES], to=TensorProto.FLOAT))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [None, None]))


def _without_weights(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return `model` with its large weights as inputs of their shape: enough to tell whether all shapes fit."""
    from onnx import helper

    graph, small = model.graph, []
    for tensor in graph.initializer:
        if prod(tensor.dims) > _LARGE:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, [*tensor.dims]))
        else:
            small.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(small)
    return model


def _try(content: bytes, inputs: int, shape: tuple[int, int]) -> None:
    """Raise `EncoderError` where the network makes no row of features of each text."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised; no need to print it as well
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        rows = dict.fromkeys((IDS, MASK)[:inputs], np.ones(shape, np.int64))
        found = session.run([FEATURES], rows)[0].shape
    except Exception as error:
        raise EncoderError(f"the text tower does not take {shape[1]} tokens: {first_line(error)}") from error
    if len(found) != 2 or found[0] != shape[0]:
        raise EncoderError(f"expected {shape[0]} rows of features for {shape[0]} texts, got {found}")
