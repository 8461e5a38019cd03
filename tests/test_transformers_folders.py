"""Folders as transformers saves them become encoders; Python code in them is never run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import assert_same, eager, images
from safetensors import safe_open

from holotype.encoders.preprocessing import Preprocessing, find_preprocessing
from holotype.encoders.registry import load_encoder
from holotype.errors import EncoderError

pytestmark = pytest.mark.usefixtures("offline")

SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = SMALL | {"image_size": 32, "patch_size": 16}
TEXT = SMALL | {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"


def clip(folder: Path) -> Any:
    """With the processor of pictures and texts in one, which transformers 5 saves in processor_config.json."""
    hf: Any = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models

    tokens = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=tokens)
    shown = hf.CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
    hf.CLIPProcessor(shown, tokenizer).save_pretrained(folder)
    return hf.CLIPModel(hf.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16))


def siglip(folder: Path) -> Any:
    hf: Any = pytest.importorskip("transformers")

    hf.SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return hf.SiglipModel(hf.SiglipConfig(text_config=TEXT, vision_config=VISION))


def dinov2(folder: Path) -> Any:
    hf: Any = pytest.importorskip("transformers")

    size: dict[str, Any] = {"size": {"shortest_edge": 36}, "crop_size": {"height": 28, "width": 28}}
    hf.BitImageProcessorPil(**size).save_pretrained(folder)
    config: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_ratio": 1}
    return hf.Dinov2Model(hf.Dinov2Config(**config, image_size=28, patch_size=14))


def vit(folder: Path) -> Any:
    hf: Any = pytest.importorskip("transformers")

    hf.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return hf.ViTModel(hf.ViTConfig(**VISION))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], Any]], tuple[Path, Any]]:
    """A folder that the library saved, and the network in it."""
    made: dict[Any, tuple[Path, Any]] = {}

    def save(make: Callable[[Path], Any]) -> tuple[Path, Any]:
        if make not in made:
            folder = tmp_path_factory.mktemp("saved") / make.__name__
            torch.manual_seed(0)
            network = make(folder)
            network.save_pretrained(folder)
            made[make] = folder, network.eval()
        return made[make]

    return save


@pytest.mark.parametrize("make", [clip, siglip, dinov2, vit])
def test_a_folder_as_the_library_saves_it(make: Any, saved: Any, capfd: pytest.CaptureFixture[str]) -> None:
    folder, network = saved(make)
    values = json.loads(
        (folder / ("processor_config.json" if make is clip else "preprocessor_config.json")).read_text()
    )
    values = values.get("image_processor", values)
    if make is vit:
        with_code(folder, "vit")  # which is not needed, as transformers has it
    capfd.readouterr()
    encoder = load_encoder(str(folder), "onnxruntime")
    assert capfd.readouterr() == ("", "")

    def features(x: torch.Tensor) -> torch.Tensor:
        found = network.get_image_features(x) if hasattr(network, "get_image_features") else network(x)
        pooled: torch.Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
        return pooled

    pixels = images(encoder)
    wanted = eager(features, pixels, values["image_mean"], values["image_std"])
    assert wanted.shape == (3, 16 if make is clip else 32)
    assert_same(encoder.encode(pixels), wanted)
    assert not (folder / "was-run").exists()


def test_the_nested_configuration_counts_before_the_older_file(saved: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved(clip)[0], tmp_path / "both"))
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "size": 16}')
    assert Preprocessing.read(find_preprocessing(folder)).size == (32, 32)
    (folder / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')  # as transformers 4 wrote it
    assert Preprocessing.read(find_preprocessing(folder)).size == (16, 16)
    assert find_preprocessing(folder / "model.onnx") == folder / "preprocessor_config.json"


def with_code(folder: Path, model_type: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": model_type, "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(folder / 'was-run')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")


def with_kernels(folder: Path, kernels: object = "someone/kernels") -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attn_implementation": kernels}))


def in_parts(folder: Path, part: str) -> None:
    """Say in an index that all weights are in `part`."""
    weights = (folder / "model.safetensors").rename(folder / "other.safetensors")
    with safe_open(weights, "np") as file:
        parts = {"metadata": {}, "weight_map": dict.fromkeys(file.keys(), part)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(parts))


def with_index(folder: Path, content: str) -> None:
    (folder / "model.safetensors.index.json").write_text(content)


def test_the_index_of_other_weights_beside_safetensors_is_of_no_matter(saved: Any, tmp_path: Path) -> None:
    folder, _ = saved(vit)
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    parts = {"weight_map": {"x": "pytorch_model-00001-of-00002.bin"}}
    (other / "pytorch_model.bin.index.json").write_text(json.dumps(parts))
    assert load_encoder(str(other)).dim == load_encoder(str(folder)).dim


def test_code_in_a_folder_is_never_run_and_never_asked_about(saved: Any, tmp_path: Path) -> None:
    """Also where "yes" waits on standard input."""
    folder = Path(shutil.copytree(saved(vit)[0], tmp_path / "code"))
    with_code(folder, "its-own")
    code = (
        "import sys\nfrom holotype.encoders.registry import load_encoder\nfrom holotype.errors import EncoderError\n"
        "try:\n    load_encoder(sys.argv[1])\nexcept EncoderError as error:\n    print(error)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        input="y\nyes\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"HOLOTYPE_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "home")},
    )
    assert "needs Python code of its own (auto_map in its config.json), which is never run" in found.stdout
    assert (found.stdout.count("\n"), found.stderr) == (1, "")
    assert not (folder / "was-run").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (with_kernels, "asks for a program from the hub"),
        (lambda folder: with_kernels(folder, {"": "someone/kernels"}), "asks for a program from the hub"),
        (lambda folder: in_parts(folder, "pytorch_model.bin"), r"names 'pytorch_model\.bin'; expected \*\.safetensors"),
        (lambda folder: in_parts(folder, "../x.safetensors"), r"names '\.\./x\.safetensors'; expected \*\.safetensors"),
        (lambda folder: with_index(folder, "{}"), r'expected a "weight_map" in .*index\.json.* \(KeyError\)'),
        (lambda folder: with_index(folder, "[" * 10**5), r"index\.json.* \(RecursionError\); copy it again"),
        (lambda folder: (folder / "model.safetensors").write_text(POINTER), r"model\.safetensors: it is a Git LFS"),
        (lambda folder: (folder / "config.json").write_text(POINTER), r"config\.json: it is a Git LFS pointer"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"it has no \*\.safetensors, which hold no code"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "network.onnx"),
            "its ONNX file can be given itself",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 100), "expected a transformers vision model"),
        (lambda folder: (folder / "config.json").write_text("[" * 10**5), "expected a transformers vision model"),
    ],
)
def test_a_folder_that_cannot_be_used(
    spoil: Callable[[Path], object], message: str, saved: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved(vit)[0], tmp_path / "spoilt"))
    spoil(folder)
    with pytest.raises(EncoderError, match=message) as error:
        load_encoder(str(folder))
    assert "\n" not in str(error.value)
