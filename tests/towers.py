"""Pairs of towers with random weights, in files laid out as the hub and users have them, and what transformers says."""

import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import Array, preprocessor
from tokenizers import Regex, Tokenizer, models, normalizers, processors

LENGTH, PIXELS = 16, 32
_SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_VISION = _SMALL | {"image_size": PIXELS, "patch_size": 16}
_LETTERS = [chr(place) for place in range(ord("!"), ord("~") + 1)]
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass
class Pair:
    """A network with both towers, and the folder where transformers saved it with its tokenizer."""

    network: Any
    folder: Path
    masked: bool

    def features(self, ids: Sequence[Sequence[int]], pad: int) -> Array:
        """What transformers gives for token ids that are padded to the whole length with `pad`."""
        rows = [[*row, *[pad] * (LENGTH - len(row))] for row in ids]
        mask = [[1] * len(row) + [0] * (LENGTH - len(row)) for row in ids]
        more = {"attention_mask": torch.tensor(mask)} if self.masked else {}
        with torch.no_grad():
            found = self.network.get_text_features(input_ids=torch.tensor(rows), **more)
        return unit(plain(found).numpy())


def plain(output: Any) -> torch.Tensor:
    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return found


def unit(vectors: Array) -> Array:
    found: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def _spread(network: Any) -> Any:
    """Weights large enough that each token counts, the last of many fillers too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            if weights.dim() > 1:
                weights.normal_(std=0.4)
    return network.eval()


def clip(folder: Path) -> Pair:
    import transformers as hf

    pieces = ["<|startoftext|>", *_LETTERS, *(f"{one}</w>" for one in _LETTERS), "ca", "cat</w>", "<|endoftext|>"]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    merges: Any = [("c", "a"), ("ca", "t</w>")]
    tokenizer = hf.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
    ids = {"vocab_size": len(pieces), "bos_token_id": 0, "eos_token_id": len(pieces) - 1, "pad_token_id": 1}
    text = _SMALL | ids | {"max_position_embeddings": LENGTH}
    network = _spread(hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=24)))
    _save(network, tokenizer, folder)
    return Pair(network, folder, masked=True)


def siglip(folder: Path) -> Pair:
    """With a tokenizer.json that leaves capitals and punctuation as they are; transformers' own class changes both."""
    import transformers as hf

    pieces = ["<pad>", "</s>", "<unk>", "▁", *_LETTERS, "▁a", "▁cat"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(len(pieces) - len(piece))) for piece in pieces], unk_id=2))
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(Regex(" "), "▁")])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    text = _SMALL | {"vocab_size": len(pieces), "max_position_embeddings": LENGTH}
    network = _spread(hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=_VISION)))
    _save(network, None, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "SiglipTokenizer", "pad_token": {"content": "</s>"}, "model_max_length": LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps(told | {"do_lower_case": True}))
    return Pair(network, folder, masked=False)


def siglip2(folder: Path) -> Pair:
    """A SigLIP 2 of a fixed size: as SigLIP to transformers, with the tokenizer of Gemma."""
    import transformers as hf

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *_LETTERS]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True))
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    text = _SMALL | {"vocab_size": len(pieces), "max_position_embeddings": LENGTH}
    network = _spread(hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=_VISION)))
    _save(network, None, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "GemmaTokenizer", "pad_token": "<pad>", "eos_token": "<eos>", "add_eos_token": True}
    told |= {"padding_side": "right"}  # as the published one says
    (folder / "tokenizer_config.json").write_text(json.dumps(told | {"model_max_length": LENGTH}))
    return Pair(network, folder, masked=False)


def siglip2_in_patches(folder: Path) -> Pair:
    import transformers as hf

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *_LETTERS]
    tokenizer = hf.Siglip2Tokenizer({piece: place for place, piece in enumerate(pieces)}, model_max_length=LENGTH)
    text = _SMALL | {"vocab_size": len(pieces), "max_position_embeddings": LENGTH}
    vision = _SMALL | {"num_patches": 4, "patch_size": 16}
    network = _spread(hf.Siglip2Model(hf.Siglip2Config(text_config=text, vision_config=vision)))
    _save(network, tokenizer, folder)
    return Pair(network, folder, masked=False)


def _save(network: Any, tokenizer: Any, folder: Path) -> None:
    network.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(preprocessor(*HALF, size={"height": PIXELS, "width": PIXELS}))


class _Tower(torch.nn.Module):
    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.network = pair.network


class _Words(_Tower):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        more = {} if mask is None else {"attention_mask": mask}
        return plain(self.network.get_text_features(input_ids=ids.to(torch.int64), **more))


class _Image(_Tower):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return plain(self.network.get_image_features(pixel_values=pixels))


def save_words(pair: Pair, target: Path, name: str = "input_ids", out: str = "text_embeds", **how: Any) -> None:
    """Write the text tower with torch's older exporter, as published files are; one text at a time where `alone`."""
    kind, alone = how.get("kind", torch.int64), how.get("alone", False)
    names = [name, "attention_mask"] if how.get("masked", pair.masked) else [name]
    inputs = tuple(torch.ones(1 if alone else 2, LENGTH, dtype=kind) for _ in names)
    _export(_Words(pair), inputs, target, names, out, alone=alone)


def save_image(
    pair: Pair, target: Path, name: str = "pixel_values", out: str = "image_embeds", *, alone: bool = False
) -> None:
    pixels = torch.zeros(1 if alone else 2, 3, PIXELS, PIXELS)
    _export(_Image(pair), (pixels,), target, [name], out, alone=alone)


def _export(
    module: Any, inputs: tuple[torch.Tensor, ...], target: Path, names: list[str], out: str, *, alone: bool = False
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    free = {} if alone else {name: {0: "batch"} for name in (*names, out)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            inputs,
            target,
            input_names=names,
            output_names=[out],
            dynamic_axes=free,
            opset_version=14,
            dynamo=False,
        )


def as_pair(pair: Pair, folder: Path, inner: str = "onnx/") -> Path:
    """As onnx-community and Xenova lay it out; with `inner` "" in one folder. Returns what an encoder is called by."""
    save_words(pair, folder / inner / "text_model.onnx", out="text_embeds" if pair.masked else "pooler_output")
    save_image(pair, folder / inner / "vision_model.onnx", out="image_embeds" if pair.masked else "pooler_output")
    _copy(pair, folder, "config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
    return folder


def as_immich(pair: Pair, folder: Path) -> Path:
    """As immich-app lays it out: names of open_clip, ids of 32 bits, one image or text at a time."""
    save_words(pair, folder / "textual" / "model.onnx", "text", "embedding", kind=torch.int32, alone=True, masked=False)
    save_image(pair, folder / "visual" / "model.onnx", "image", "embedding", alone=True)
    _copy(pair, folder / "textual", "tokenizer.json", "tokenizer_config.json")
    about = {"size": [PIXELS, PIXELS], "mean": HALF[0], "std": HALF[1], "mode": "RGB", "interpolation": "bicubic"}
    (folder / "visual" / "preprocess_cfg.json").write_text(json.dumps(about | {"resize_mode": "squash"}))
    clean = {} if pair.masked else {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "canonicalize"}}
    (folder / "config.json").write_text(json.dumps({"text_cfg": {"context_length": LENGTH, **clean}}))
    return folder


def as_qdrant(pair: Pair, folder: Path) -> Path:
    """As Qdrant lays it out: a repository for each tower."""
    image, text = folder / "net-vision", folder / "net-text"
    save_words(pair, text / "model.onnx")
    save_image(pair, image / "model.onnx")
    _copy(pair, image, "preprocessor_config.json")
    _copy(pair, text, "tokenizer.json", "tokenizer_config.json", "config.json")
    return image


def as_files(pair: Pair, folder: Path) -> Path:
    """An ONNX file of a user, with its text tower beside it."""
    save_words(pair, folder / "text_model.onnx")
    save_image(pair, folder / "mine.onnx")
    _copy(pair, folder, "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
    return folder / "mine.onnx"


def as_saved(pair: Pair, folder: Path) -> Path:
    """As transformers itself saves it."""
    shutil.copytree(pair.folder, folder, dirs_exist_ok=True)
    return folder


def _copy(pair: Pair, folder: Path, *names: str) -> None:
    for name in names:
        shutil.copy(pair.folder / name, folder / name)


Layout = Callable[[Pair, Path], Path]
LAYOUTS: list[Layout] = [as_pair, as_immich, as_qdrant, as_files, as_saved]
