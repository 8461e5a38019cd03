"""Networks as users have them become one ONNX file that takes pixels and gives a row per image, or are refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import (
    HALF,
    ODD,
    Network,
    assert_same,
    convolution,
    eager,
    first_token,
    images,
    pooled,
    preprocessor,
)
from onnx import TensorProto, helper
from PIL import Image

from holotype.encoders.preprocessing import IMAGENET, Preprocessing
from holotype.encoders.registry import load_encoder
from holotype.errors import EncoderError

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
pytestmark = pytest.mark.usefixtures("offline")


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


def with_output(name: str, rank: int) -> Callable[[Path], None]:
    """As the files of transformers models, which give the whole image and its parts."""

    def change(path: Path) -> None:
        model = onnx.load(path)
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank))
        model.graph.node.append(helper.make_node("Identity", ["map" if rank > 2 else "out"], [name]))
        onnx.save(model, path)

    return change


def pointer(path: Path) -> None:
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n")


def foreign(path: Path) -> None:
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("evil", 1))
    model.graph.node[0].domain, model.graph.node[0].op_type = "evil", "Run"
    onnx.save(model, path)


def config(text: str) -> Callable[[Path], object]:
    return lambda path: path.with_suffix(".json").write_text(text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.with_suffix(".json").unlink(), 'expected the network.s normalisation in .*"image_mean"'),
        (config("{"), r'expected JSON like .*"image_mean": .* in .*net\.json'),
        (config("[1]"), r"expected JSON like .*net\.json, got a list"),
        (config('{"image_mean": [0.5, 0.5, 0.5], "size": 8}'), r"net\.json: image_std is missing"),
        (config(preprocessor(*HALF)), "size: expected a number of pixels, .*; got None"),
        (config(preprocessor(*HALF, size={"width": 8})), "size: .* got .'width': 8"),
        (config(preprocessor(*HALF, size=True)), "size: .* got True"),
        (config(preprocessor(*HALF, size=10**6)), "size: .* at most 2048; got 1000000"),
        (config(preprocessor(HALF[0], (0.5, 0.5), size=8)), r"image_std: expected three numbers.* got \[0.5, 0.5\]"),
        (config(preprocessor(HALF[0], (0.5, 0.5, 0), size=8)), "image_std: expected three numbers above 0"),
        (
            config(preprocessor(HALF[0], HALF[1], size=8, image_std=[0.5, 0.5, "x"])),
            "image_std: expected a number, got 'x'",
        ),
        (config(preprocessor(HALF[0], (0.5, 0.5, float("nan")), size=8)), "image_std: expected a number, got nan"),
        (config(preprocessor(*HALF, size=8, rescale_factor=0)), "a rescale_factor of 0"),
        (
            config(preprocessor((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), size=8)),
            r"image_mean: \[123.7, .* is no mean of pixels of 0..1, .* set do_rescale to false, or divide .* by 255",
        ),
        (config(preprocessor(*HALF, size=8, do_rescale=False)), "those of pixels of 0..1, and do_rescale is off"),
        (config(preprocessor(*HALF, size=8, output="mean")), "it has no output 'mean'; it has embedding"),
        (config(preprocessor(*HALF, size=8, output=1)), "output: expected the name of one"),
        (config(preprocessor(*HALF, size=8, do_flip_channel_order=True)), "a network for BGR"),
        (config(preprocessor(*HALF, size=16)), r"net\.onnx: expected an input of \(n, 3, 16, 16\).*to \[8, 8\]"),
        (lambda path: path.write_text("not a network"), r"expected an ONNX model in .*net\.onnx"),
        (lambda path: path.write_bytes(b""), r"expected an ONNX model in .*net\.onnx"),
        (two_inputs, r"one input, the image; got \['image', 'input_ids'\]"),
        (input_shape(["n", 1, 8, 8]), "only networks for images of red, green and blue"),
        (input_shape(["n", 3, 8, 8], TensorProto.UINT8), "an ONNX model in|its normalisation is inside"),
        (input_shape(["n", 3, 8, 8], TensorProto.INT8), "an ONNX model in|normalised floats, got INT8"),
        (with_output("more", 3), r"it has 2 outputs \(embedding, more\).* as \"output\": \"embedding\""),
        (pointer, r"net\.onnx: it is a Git LFS pointer"),
        (config("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), r"net\.json: it is a Git LFS"),
        (foreign, "an operator that is not known here: evil.Run"),
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


@pytest.mark.parametrize("name", ["image_embeds", "pooler_output"])
def test_of_several_outputs_that_of_the_whole_image_is_taken(name: str, tmp_path: Path) -> None:
    path = convolution(tmp_path, "rank3", names=("image", "last_hidden_state"))
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("GlobalAveragePool", ["map"], ["averaged"]))
    model.graph.node.append(helper.make_node("Flatten", ["averaged"], [name], axis=1))
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 5]))
    onnx.save(model, path)
    encoder = load_encoder(str(path))
    assert_same(encoder.encode(images(encoder)), eager(pooled, images(encoder), *HALF))
    path.with_suffix(".json").write_text(preprocessor(*HALF, size=8, output="last_hidden_state"))
    chosen = load_encoder(str(path))
    assert_same(chosen.encode(images(chosen)), eager(first_token, images(chosen), *HALF))


@pytest.mark.parametrize("tail", ["rank2", "rank4"])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_channels_may_come_last(runtime: str, tail: str, tmp_path: Path) -> None:
    """As networks of TensorFlow have them, on both sides."""
    path = convolution(tmp_path, tail)
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("last", TensorProto.FLOAT, ["n", "h", "w", 3]))
    model.graph.node.insert(0, helper.make_node("Transpose", ["last"], ["image"], perm=[0, 3, 1, 2]))
    if tail == "rank4":
        model.graph.node[-1].CopyFrom(helper.make_node("Transpose", ["out"], ["embedding"], perm=[0, 2, 3, 1]))
    onnx.save(model, path)
    encoder = load_encoder(str(path), runtime)
    assert_same(encoder.encode(images(encoder)), eager(pooled, images(encoder), *HALF))


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT32, TensorProto.DOUBLE])
def test_pixels_may_be_taken_as_they_are(kind: int, tmp_path: Path) -> None:
    """The network normalises by itself, and the file beside it says that nothing is to be done before."""
    path = convolution(tmp_path)
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("raw", kind, ["n", 3, 8, 8]))
    model.graph.node.insert(0, helper.make_node("Cast", ["raw"], ["image"], to=TensorProto.FLOAT))
    onnx.save(model, path)
    path.with_suffix(".json").write_text(json.dumps({"do_rescale": False, "do_normalize": False, "size": 8}))
    encoder = load_encoder(str(path))
    assert_same(encoder.encode(images(encoder)), eager(pooled, images(encoder), [0, 0, 0], [1 / 255] * 3))


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
