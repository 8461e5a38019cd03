"""What tests of encoders share: networks in torch, to compare with what a file gives."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from holotype.encoders.runtimes import Encoder

Array = NDArray[Any]
Network = Callable[["torch.Tensor"], "torch.Tensor"]

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
ODD = ((0.1, 0.6, 0.3), (0.2, 0.9, 0.4))
SHA = "0123456789abcdef0123456789abcdef01234567"


def snapshot(hub: Path, repository: str) -> Path:
    """Make the folders that the hub's own cache has for one downloaded revision; return the files' place."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    files = folder / "snapshots" / SHA
    files.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(SHA)
    return files


def preprocessor(mean: Sequence[float], std: Sequence[float], **more: object) -> str:
    return json.dumps({"image_mean": mean, "image_std": std, **more})


def images(encoder: Encoder, n: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, *encoder.size, 3), np.uint8)


def eager(network: Network, pixels: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Array:
    """What torch itself gives for `pixels`, scaled to 0..1 and normalised."""
    scaled = (pixels / 255.0 - np.array(mean)) / np.array(std)
    with torch.no_grad():
        features = network(torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32)))
    return np.asarray(features.flatten(1).numpy())


def assert_same(got: Array, wanted: Array) -> None:
    assert np.ptp(wanted, axis=0).max() > 1e-2 * np.abs(wanted).max() > 1e-6  # else any network would do
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3 * float(np.abs(wanted).max()))


def assert_runtimes_agree(first: Encoder, second: Encoder) -> None:
    assert (first.fingerprint, first.dim, first.size) == (second.fingerprint, second.dim, second.size)
    pixels = images(first)
    a, b = first.encode(pixels), second.encode(pixels)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    assert ((a * b).sum(1) / lengths[0] / lengths[1]).min() > 0.999
    np.testing.assert_allclose(*lengths, rtol=0.02)


KERNEL = np.random.default_rng(1).normal(size=(5, 3, 3, 3)).astype(np.float32)
BIAS = np.random.default_rng(2).normal(size=5).astype(np.float32)


def convolve(x: torch.Tensor) -> torch.Tensor:
    """What `convolution` computes, in torch: (n, 5, h, w)."""
    return torch.nn.functional.conv2d(x, torch.from_numpy(KERNEL), torch.from_numpy(BIAS), padding=1).relu()


def pooled(x: torch.Tensor) -> torch.Tensor:
    return convolve(x).mean((2, 3))


def first_token(x: torch.Tensor) -> torch.Tensor:
    return convolve(x)[:, :, 0, 0]


TAILS: dict[str, list[onnx.NodeProto]] = {
    "rank4": [helper.make_node("Identity", ["map"], ["out"])],
    "rank3": [
        helper.make_node("Reshape", ["map", "flat"], ["cells"]),
        helper.make_node("Transpose", ["cells"], ["out"], perm=[0, 2, 1]),
    ],
    "rank2": [
        helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["out"], axis=1),
    ],
    **{
        shape: [
            helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
            helper.make_node("Reshape", ["mean", shape], ["out"]),
        ]
        for shape in ("one row", "one of 5")
    },
}


def convolution(  # one network, and every way in which files of users differ
    folder: Path,
    tail: str = "rank2",
    *,
    normalisation: tuple[Sequence[float], Sequence[float]] = HALF,
    config: str = "net.json",
    names: tuple[str, str] = ("image", "embedding"),
    batch: str | int = "n",
    kind: int = TensorProto.FLOAT,
    rank: int | None = None,
    opset: int = 18,
    external: bool = False,
) -> Path:
    """Write a convolution with ReLU for 8 x 8 images as net.onnx, with its preprocessing file; return its path."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = {"kernel": KERNEL.astype(dtype), "bias": BIAS.astype(dtype)}
    shapes = {"flat": np.array([0, 5, 64]), "one row": np.array([1, -1]), "one of 5": np.array([1, 5])}
    nodes = [
        helper.make_node("Conv", [names[0], "kernel", "bias"], ["linear"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["linear"], ["map"]),
        *TAILS[tail],
        helper.make_node("Identity", ["out"], [names[1]]),
    ]
    rank = rank or {"rank4": 4, "rank3": 3}.get(tail, 2)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(names[0], kind, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info(names[1], kind, [None] * rank)],
        [numpy_helper.from_array(value, name) for name, value in {**weights, **shapes}.items()],
    )
    opsets = [helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    path = folder / "net.onnx"
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    (folder / config).write_text(preprocessor(*normalisation, size=8))
    return path
