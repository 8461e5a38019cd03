"""Encoders: real networks with random weights, in files laid out as the hub and users have them."""

import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import (
    ODD,
    SHA,
    Network,
    assert_runtimes_agree,
    assert_same,
    convolution,
    eager,
    images,
    preprocessor,
    snapshot,
)

from holotype import files
from holotype.encoders.preprocessing import IMAGENET
from holotype.encoders.registry import REGISTRY, load_encoder
from holotype.encoders.runtimes import RUNTIMES, OnnxEncoder, in_place, runs_bf16
from holotype.errors import EncoderError

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
pytestmark = [
    pytest.mark.usefixtures("offline"),
    pytest.mark.filterwarnings("ignore:.* is taken from the hub as it is now"),
]


@pytest.fixture(scope="module", autouse=True)
def stand_ins() -> Iterator[None]:
    """The networks made here stand in for the real ones, whose digests they do not have."""
    with pytest.MonkeyPatch.context() as patch:
        for name, origin in list(REGISTRY.items()):
            patch.setitem(REGISTRY, name, replace(origin, snapshot=None))
        yield


class Output(torch.nn.Module):
    """A transformers model reduced to one of its outputs, as the ONNX files on the hub are."""

    def __init__(self, network: torch.nn.Module, output: str) -> None:
        super().__init__()
        self.network = network
        self.output = output
        self.eval()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = getattr(self.network(pixel_values=pixel_values), self.output)
        return features


def save_onnx(network: torch.nn.Module, target: Path) -> None:
    """With torch's older exporter and its older opset, like the published files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, 224, 224),),
            target,
            input_names=["pixel_values"],
            output_names=["features"],
            dynamic_axes={"pixel_values": {0: "batch"}, "features": {0: "batch"}},
            opset_version=14,
            dynamo=False,
        )


@pytest.fixture(scope="module")
def resnet50(hub: Path) -> Network:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    network = Output(ResNetModel(ResNetConfig(depths=[1, 1, 1, 1])), "pooler_output")
    save_onnx(network, snapshot(hub, "Qdrant/resnet50-onnx") / "model.onnx")
    return network


@pytest.fixture(scope="module")
def clip(hub: Path) -> Network:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, projection_dim=512
    )
    network = Output(CLIPVisionModelWithProjection(config), "image_embeds")
    save_onnx(network, snapshot(hub, "Qdrant/clip-ViT-B-32-vision") / "model.onnx")
    return network


@pytest.fixture(scope="module")
def efficientnet(hub: Path) -> Network:
    """B0 with one block per stage, which exports in half the time; its widths, and so its 1280-d, are B0's."""
    from transformers import EfficientNetConfig, EfficientNetModel

    torch.manual_seed(0)
    config = EfficientNetConfig(width_coefficient=1.0, depth_coefficient=0.1, hidden_dim=1280, image_size=224)
    network = EfficientNetModel(config)
    for part in network.modules():  # transformers' own random start fades to zeros on the way
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
        elif isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
    files = snapshot(hub, "google/efficientnet-b0")
    network.save_pretrained(files)
    # The published file: a crop that is never done, and the root of the std, because it divides by it twice.
    (files / "preprocessor_config.json").write_text(
        preprocessor(
            IMAGENET[0],
            [0.47853944, 0.4732864, 0.47434163],
            crop_size={"height": 289, "width": 289},
            do_center_crop=False,
            image_processor_type="EfficientNetImageProcessor",
            include_top=True,
            size={"height": 224, "width": 224},
        )
    )
    return Output(network, "pooler_output")


@pytest.fixture(scope="module")
def dinov2(hub: Path) -> Network:
    """Much smaller, with positions for 518 pixels like the real one; its weights are in half precision here."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=48, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, image_size=518, patch_size=14
    )
    network = Dinov2Model(config)
    torch.nn.Module.half(network)
    files = snapshot(hub, "facebook/dinov2-small")
    network.save_pretrained(files)
    torch.nn.Module.float(network)
    (files / "preprocessor_config.json").write_text(
        preprocessor(*IMAGENET, size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224})
    )
    return Output(network, "pooler_output")


@pytest.fixture(scope="module")
def vit(hub: Path) -> Network:
    """A classifier's checkpoint: it holds a head that nobody asked for, and no pooler."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=48, patch_size=16
    )
    network = ViTForImageClassification(config)
    files = snapshot(hub, "someone/vit-tiny")
    network.save_pretrained(files)
    (files / "preprocessor_config.json").write_text(preprocessor(*ODD, size=48))
    body = Output(network.vit, "last_hidden_state")
    return lambda x: body(x)[:, 0]


HUB = [
    ("resnet50", "resnet50", 2048, IMAGENET),
    ("clip-vit-b32", "clip", 512, CLIP),
    ("efficientnet_b0", "efficientnet", 1280, IMAGENET),
    ("dinov2-small", "dinov2", 48, IMAGENET),
    ("hf:someone/vit-tiny", "vit", 32, ODD),
]


@pytest.mark.parametrize(("name", "fixture", "dim", "normalisation"), HUB)
def test_an_encoder_of_the_hub_equals_torch(
    name: str,
    fixture: str,
    dim: int,
    normalisation: tuple[Sequence[float], Sequence[float]],
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
) -> None:
    network = request.getfixturevalue(fixture)
    capfd.readouterr()
    encoder = load_encoder(name, "onnxruntime")
    assert capfd.readouterr() == ("", "")
    assert encoder.dim == dim
    pixels = images(encoder)
    vectors = encoder.encode(pixels)
    assert vectors.shape == (3, dim)
    assert vectors.dtype == np.float32
    assert_same(vectors, eager(network, pixels, *normalisation))
    with pytest.raises(AssertionError):
        assert_same(vectors, eager(network, pixels, (0, 0, 0), (1, 1, 1)))


@pytest.mark.parametrize(("name", "fixture"), [case[:2] for case in HUB])
def test_both_runtimes_give_the_same_vectors(name: str, fixture: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(fixture)
    assert_runtimes_agree(load_encoder(name, "openvino"), load_encoder(name, "onnxruntime"))


def test_where_threads_wait_for_the_same_cores_they_compute_themselves(tmp_path: Path) -> None:
    """A network in float32 is then one of ONNX Runtime, and the same encoder; outside, nothing is different."""
    path = str(convolution(tmp_path))
    outside, bf16 = load_encoder(path), runs_bf16("openvino")
    with in_place():
        inside = load_encoder(path)
        assert_runtimes_agree(outside, inside)
        assert (inside.fingerprint, inside.runtime) == (outside.fingerprint, outside.runtime)
        assert {type(one) for one in inside._networks.values()} == {RUNTIMES["onnxruntime"]}
        assert runs_bf16("openvino") == bf16
    assert {type(one) for one in load_encoder(path)._networks.values()} == {RUNTIMES["openvino"]}


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(EncoderError, match="a runtime of openvino, onnxruntime, got 'tensorrt'"):
        load_encoder("resnet50", "tensorrt")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(EncoderError, match=r"no encoder 'resnet5': expected one of efficientnet_lite0.*\.onnx"):
        load_encoder("resnet5")


def test_a_repository_without_safetensors_is_refused(hub: Path) -> None:
    files = snapshot(hub, "someone/pickled")
    (files / "config.json").write_text("{}")
    (files / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(EncoderError, match=r"someone/pickled .*has no \*\.safetensors"):
        load_encoder("hf:someone/pickled")


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_encode_takes_pixels_and_nothing_else(runtime: str, tmp_path: Path) -> None:
    encoder = load_encoder(str(convolution(tmp_path)), runtime)
    assert encoder.encode(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, 5)
    with pytest.raises(EncoderError, match=r"pixels of 0..255, .*uint8; got \(2, 8, 8, 3\) of float32"):
        encoder.encode(np.zeros((2, 8, 8, 3), np.float32))
    with pytest.raises(EncoderError, match=r"\(n, 8, 8, 3\).* got \(2, 3, 8, 8\)"):
        encoder.encode(np.zeros((2, 3, 8, 8), np.uint8))


def test_a_saved_encoder_is_the_same_encoder(tmp_path: Path) -> None:
    encoder = load_encoder(str(convolution(tmp_path)))
    (tmp_path / "copy.onnx").write_bytes(encoder.content)
    copy = OnnxEncoder("copy", tmp_path / "copy.onnx")
    assert copy.fingerprint == encoder.fingerprint
    assert (copy.encode(images(copy)) == encoder.encode(images(encoder))).all()


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_damaged_file_of_the_cache_is_named(runtime: str, tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"\x08\x07half of a file")
    with pytest.raises(EncoderError, match=rf"{runtime} cannot load .*encoder\.onnx: .*If .* damaged, delete it"):
        OnnxEncoder("encoder", tmp_path / "encoder.onnx", runtime)


def test_a_folder_with_a_transformers_model_gives_the_same_file_as_the_hub(vit: Network, hub: Path) -> None:
    """So it also equals torch, and an export is the same file every time."""
    local = load_encoder(str(hub / "models--someone--vit-tiny" / "snapshots" / SHA))
    fetched = load_encoder("hf:someone/vit-tiny")
    assert local.path != fetched.path
    assert local.fingerprint == fetched.fingerprint


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_half_of_the_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "query" not in name},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "expected the network.s normalisation"),
        (lambda folder: (folder / "config.json").unlink(), "expected a transformers vision model"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "a transformers vision model"),
        (without_weights, "expected a transformers vision model"),
        (with_half_of_the_weights, "the weights lack .*"),
    ],
)
def test_a_folder_that_is_no_vision_model_is_refused(
    spoil: Callable[[Path], object], message: str, vit: Network, hub: Path, tmp_path: Path
) -> None:
    for file in (hub / "models--someone--vit-tiny" / "snapshots" / SHA).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path)
    with pytest.raises(EncoderError, match=message):
        load_encoder(str(tmp_path))


def test_what_is_kept_of_a_network_has_a_name_that_any_disk_takes(network: str, tmp_path: Path) -> None:
    for suffix in (".onnx", ".json"):
        shutil.copy(Path(network).with_suffix(suffix), tmp_path / f"a:b?*{suffix}")
    encoder = load_encoder(str(tmp_path / "a:b?*.onnx"))
    assert encoder.name_on_disk.startswith("a-b---")
    assert list((files.cache_folder() / "encoders").glob("a-b---*.onnx"))
