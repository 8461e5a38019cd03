"""Networks to one kind of ONNX file: pixels (n, height, width, 3) uint8 in, features (n, dim) float32 out.

The network's own normalisation and its pooling are nodes of the graph, so no caller can get them wrong.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from holotype.encoders.graph import check_sizes, first_line, load_with_weights, read_graph, shape_of_two
from holotype.encoders.nodes import OURS
from holotype.encoders.pooling import add_pooling
from holotype.encoders.preprocessing import Preprocessing, find_preprocessing
from holotype.errors import EncoderError
from holotype.files import write

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 18
_WHOLE = ("image_embeds", "pooler_output")  # what outputs with the features of a whole image are called


def export_transformers(folder: Path, target: Path) -> None:
    """Export a transformers vision model from its local files (config, safetensors, preprocessor config).

    The features are the projected ones of a CLIP-like model, else the pooled ones, else the first token.
    Raises `EncoderError`.
    """
    import torch  # noqa: F401 - so that an absent torch is told from a folder that cannot be loaded

    preprocessing = Preprocessing.read(find_preprocessing(folder))
    with reading(folder, "vision model"):
        model = trace(_vision_module(folder), _images(preprocessing.size))
    write_wrapped(model, preprocessing, target)


@contextmanager
def reading(folder: Path, kind: str) -> Iterator[None]:
    """Turn what goes wrong while a network of this `kind` is read from a folder of transformers to `EncoderError`."""
    _refuse_code(folder)
    _refuse_other_weights(folder)
    try:
        with _quiet():
            yield
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise EncoderError(
                f"the model in {folder} needs Python code of its own (auto_map in its config.json), which is never run "
                "here; export it to ONNX, or save it with a class that transformers has"
            ) from None
        raise EncoderError(
            f"expected a transformers {kind} with its config.json and safetensors in {folder}: {first_line(error)}"
        ) from error


def _refuse_code(folder: Path) -> None:
    """Raise `EncoderError` for a folder without safetensors, and for one that asks for programs from the hub."""
    if not any(folder.glob("*.safetensors")):
        others = sorted([*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")])
        advice = f"; its ONNX file can be given itself: {others[0]}" if others else ", which hold no code"
        raise EncoderError(
            f"expected a transformers vision model with its config.json and safetensors in {folder}: it has no "
            f"*.safetensors{advice}"
        )
    with suppress(OSError, RecursionError, ValueError):  # what is wrong with the file, transformers says
        ahead = [json.loads((folder / "config.json").read_bytes())]
        while ahead:
            values = ahead.pop()
            kernels = [values.get(name) for name in ("attn_implementation", "_attn_implementation")]
            each = [one for kernel in kernels for one in (kernel.values() if isinstance(kernel, dict) else [kernel])]
            if any(isinstance(kernel, str) and "/" in kernel for kernel in each):
                raise EncoderError(
                    f"{folder / 'config.json'} asks for a program from the hub (attn_implementation), which is never "
                    'run here; set it to "eager"'
                )
            ahead += [inner for inner in values.values() if isinstance(inner, dict)]


def _refuse_other_weights(folder: Path) -> None:
    """Raise `EncoderError` where an index of safetensors in parts is none, or names what is no such file of `folder`.

    The index of a `pytorch_model.bin` beside them is never used.
    """
    for index in folder.glob("*.safetensors.index.json"):
        try:
            names = {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
        except (OSError, RecursionError, ValueError, AttributeError, TypeError, KeyError) as error:
            raise EncoderError(
                f'expected a "weight_map" in {index}, which says where each weight is, as transformers writes it '
                f"({type(error).__name__}); copy it again, or remove it where the weights are in one file"
            ) from None
        for name in sorted(names):
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise EncoderError(f"{index} names {name!r}; expected *.safetensors files of its folder")


def load_network(folder: Path) -> "tuple[torch.nn.Module, list[str]]":
    """Return the network in a folder of transformers, in float32, and the names of weights that it lacks.

    Nothing in the folder is run. Raises whatever transformers does.
    """
    import torch
    from transformers import AutoModel

    with _no_bars():
        network, loaded = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,  # else it asks, and runs what the folder holds
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    return network, sorted(loaded["missing_keys"])


def _vision_module(folder: Path) -> "torch.nn.Module":
    import torch

    network, missing = load_network(folder)
    averages = isinstance(getattr(network, "pooler", None), torch.nn.AvgPool2d | torch.nn.AdaptiveAvgPool2d)
    if any(not key.startswith("pooler.") for key in missing):
        raise EncoderError(f"the weights lack {', '.join(missing[:3])}")
    project = getattr(network, "get_image_features", None)
    # A classifier's checkpoint has no pooler; transformers then invents a random one.
    has_pooler = not missing and not averages  # the mean is taken here, of where the image is

    class PooledVision(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            output = self.network(pixel_values=x) if project is None else project(pixel_values=x)
            if isinstance(output, torch.Tensor):
                return output
            pooled = getattr(output, "pooler_output", None) if has_pooler else None
            features: torch.Tensor = output.last_hidden_state if pooled is None else pooled
            return features

    return PooledVision()


def export(module: "torch.nn.Module", preprocessing: Preprocessing, target: Path) -> None:
    """Write `module` (normalised float (n, 3, h, w) -> features) to `target`."""
    with _quiet():
        model = trace(module, _images(preprocessing.size))
    write_wrapped(model, preprocessing, target)


def _images(size: tuple[int, int]) -> "dict[str, torch.Tensor]":
    import torch

    return {"input": torch.zeros(2, 3, *size)}


def trace(module: "torch.nn.Module", inputs: "Mapping[str, torch.Tensor]") -> "onnx.ModelProto":
    """Return `module` as an ONNX network, traced with two rows of each of its inputs, by name; it takes any number."""
    import torch

    rows = torch.export.Dim("n")
    program = torch.onnx.export(
        module.eval(),
        tuple(inputs.values()),
        input_names=[*inputs],
        output_names=["output"],
        dynamic_shapes=tuple({0: rows} for _ in inputs),
        dynamo=True,
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None  # noqa: S101 - only an export to a file returns None
    return program.model_proto


def wrap_onnx(source: Path, preprocessing: Preprocessing, target: Path) -> None:
    """Give an ONNX network (normalised float (n, 3, h, w) in) its normalisation and pooling. Raises `EncoderError`."""
    model = load_checked(source)
    try:
        write_wrapped(model, preprocessing, target)
    except EncoderError as error:
        raise EncoderError(f"{source}: {error}") from error


def load_checked(source: Path) -> "onnx.ModelProto":
    """Read an ONNX file with its weights. Raises `EncoderError` where it is none."""
    import onnx

    model = load_with_weights(source)
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise EncoderError(f"expected an ONNX model in {source}, and it cannot be read: {first_line(error)}") from error
    return model


def write_wrapped(model: "onnx.ModelProto", preprocessing: Preprocessing, target: Path) -> None:
    """Add normalisation in front and pooling behind; drop names of files and machines; write `target`.

    Raises `EncoderError` for a network that does not turn n images into n rows of features.
    """
    import onnx

    output = feature_output(model.graph, preprocessing.output, _WHOLE)
    one = _image_input(model.graph, preprocessing)[0].type.tensor_type.shape.dim[:1]
    says_one = bool(one) and one[0].dim_value == 1
    if any(name in ("pixels", "features") or name.startswith(OURS) for name in _names(model)):
        onnx.compose.add_prefix(model, "network_", inplace=True)
    channels_last = _add_normalisation(model, preprocessing)
    add_pooling(model, output, preprocessing.size, channels_last)
    strip(model)
    content = model.SerializeToString(deterministic=True)
    if says_one and not _takes_two(content, preprocessing.size):
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = 1
        content = model.SerializeToString(deterministic=True)
    write_tried(content, preprocessing.size, target)


def write_tried(content: bytes, size: tuple[int, int], target: Path) -> None:
    """Write a finished ONNX file to `target`. Raises `EncoderError` where it does not make two rows of two images.

    Of one that says that it takes a single image at a time, that is tried.
    """
    model = read_graph(content)
    check_sizes(model)
    _try_images(content, size, model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 2)
    write(target, content)


def _takes_two(content: bytes, size: tuple[int, int]) -> bool:
    """Whether a network takes two images: some that were exported for one do, and some have that number within."""
    try:
        shape = shape_of_two(content, size, "features")
    except Exception:  # what is wrong is said where one is tried
        return False
    return len(shape) == 2 and shape[0] == 2


def _names(model: "onnx.ModelProto") -> set[str]:
    """What nodes and tensors are called."""
    graph = model.graph
    made = {name for node in graph.node for name in (node.name, *node.output)}
    return made | {value.name for value in (*graph.input, *graph.initializer)}


def _try_images(content: bytes, size: tuple[int, int], images: int) -> None:
    try:
        shape = shape_of_two(content, size, "features", images)
    except Exception as error:
        raise EncoderError(
            f"the network does not take {images} images of {size[0]} x {size[1]} pixels (the size in its preprocessing "
            f"file); export it with a free batch size: {first_line(error)}"
        ) from error
    if len(shape) != 2 or shape[0] != images:
        raise EncoderError(
            f"expected {images} rows of features for {images} images, got {shape}; export it with a free batch size"
        )


def feature_output(graph: "onnx.GraphProto", wanted: str | None, usual: Sequence[str]) -> "onnx.ValueInfoProto":
    """Return the output called `wanted`; without it the only one, or the first of `usual` names.

    Raises `EncoderError` where there are several of other names.
    """
    outputs: dict[str, onnx.ValueInfoProto] = {value.name: value for value in graph.output}
    if wanted is not None and wanted not in outputs:
        raise EncoderError(f"it has no output {wanted!r}; it has {', '.join(outputs)}")
    named = [name for name in usual if name in outputs]
    if wanted is None and len(outputs) > 1 and not named:
        raise EncoderError(
            f"it has {len(outputs)} outputs ({', '.join(outputs)}), and none is called {' or '.join(usual)}; say "
            f'which holds the features in its preprocessing file, as "output": "{next(iter(outputs))}"'
        )
    return outputs[wanted or [*named, *outputs][0]]


def _add_normalisation(model: "onnx.ModelProto", preprocessing: Preprocessing) -> bool:
    """Put it in front of the network; return whether this takes its channels last."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    image, channels_last = _image_input(graph, preprocessing)
    kind = image.type.tensor_type.elem_type
    form = (1, 1, 1, 3) if channels_last else (1, 3, 1, 1)
    scale = (1 / (255 * np.array(preprocessing.std))).astype(np.float32).reshape(form)
    shift = (-np.array(preprocessing.mean) / np.array(preprocessing.std)).astype(np.float32).reshape(form)
    graph.initializer.extend(
        [numpy_helper.from_array(scale, "holotype_scale"), numpy_helper.from_array(shift, "holotype_shift")]
    )
    other = kind != TensorProto.FLOAT
    planes = "holotype_float" if channels_last else "holotype_planes"
    turned = helper.make_node("Transpose", ["holotype_float"], [planes], perm=[0, 3, 1, 2])
    nodes = [
        helper.make_node("Cast", ["pixels"], ["holotype_float"], to=TensorProto.FLOAT),
        *([] if channels_last else [turned]),
        helper.make_node("Mul", [planes, "holotype_scale"], ["holotype_scaled"]),
        helper.make_node("Add", ["holotype_scaled", "holotype_shift"], ["holotype_image" if other else image.name]),
        *([helper.make_node("Cast", ["holotype_image"], [image.name], to=kind)] if other else []),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    # From version 4 of the format on, weights need not be inputs too, and are then constants to the runtimes.
    model.ir_version = max(model.ir_version, 4)
    del graph.input[:]
    shape: list[str | int | None] = ["n", *preprocessing.size, 3]
    graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape))
    return channels_last


def _image_input(graph: "onnx.GraphProto", preprocessing: Preprocessing) -> "tuple[onnx.ValueInfoProto, bool]":
    """The input that takes the image, and whether its channels come last."""
    from onnx import TensorProto

    weights = {tensor.name for tensor in graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise EncoderError(f"expected a network with one input, the image; got {[value.name for value in inputs]}")
    tensor, name = inputs[0].type.tensor_type, inputs[0].name
    kind = TensorProto.DataType.Name(tensor.elem_type)
    if kind in ("UINT8", "INT32", "INT64") and not preprocessing.raw:
        raise EncoderError(
            f"its input {name} takes pixels of 0..255 ({kind}), so its normalisation is inside; expected "
            '"do_rescale": false and "do_normalize": false in its preprocessing file'
        )
    if kind not in ("FLOAT", "FLOAT16", "DOUBLE", "UINT8", "INT32", "INT64"):
        raise EncoderError(f"expected an input of normalised floats, got {kind} for {name}")
    # 0: a size that is free
    shape = [dim.dim_value for dim in tensor.shape.dim]
    height, width = preprocessing.size
    if not shape or _may_be(shape, (3, height, width)):
        return inputs[0], False
    if _may_be(shape, (height, width, 3)):
        return inputs[0], True
    raise EncoderError(
        f"expected an input of (n, 3, {height}, {width}) after preprocessing, got {shape}{_advice_on_size(shape)}"
    )


def _may_be(shape: list[int], wanted: tuple[int, ...]) -> bool:
    return len(shape) == 4 and all(have in (0, want) for have, want in zip(shape[1:], wanted, strict=True))


def _advice_on_size(shape: list[int]) -> str:
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        return "; only networks for images of red, green and blue are supported"
    height, width = shape[2:] if shape[1] == 3 else shape[1:3]
    return f'; set "size" in its preprocessing file to [{height}, {width}], and "crop_size" if it has one'


def strip(model: "onnx.ModelProto") -> None:
    """Drop what says where and by what a network was made."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]
    del model.training_info[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs and warns about packages that we do not use."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "transformers", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without transformers' own progress bars and remarks; ours say what is going on."""
    from transformers.utils import logging as bars

    shown, before = bars.is_progress_bar_enabled(), bars.get_verbosity()
    bars.set_verbosity_error()  # type: ignore[no-untyped-call]
    bars.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        bars.set_verbosity(before)
        if shown:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]
