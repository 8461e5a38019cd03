"""Promises of the benchmarks' small CLIP: it learns from no report class, and its files give what its maps give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import HALF, images
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from benchmarks.maps import Examples, Maps, Recipe, fit
from benchmarks.pools import is_development
from benchmarks.towers import learnable, read_maps, text_vectors, words_of, write_towers
from holotype.encoders.encode import l2_normalize
from holotype.encoders.export import export
from holotype.encoders.preprocessing import Preprocessing
from holotype.encoders.registry import load_encoder, load_text_encoder
from holotype.encoders.runtimes import OnnxEncoder
from holotype.encoders.templates import TEMPLATES, in_each

pytest.importorskip("transformers")

NAMES = ["red cat", "blue cat", "red dog", "blue dog"]
SIDE, CHANNELS = 32, 24
SMALL = Recipe(directions=(12, 8), dim=3, epochs=2, batch=16)


def encoder_in(folder: Path) -> OnnxEncoder:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, CHANNELS, 8, 8), torch.nn.ReLU())
    folder.mkdir()
    export(network, Preprocessing((SIDE, SIDE), *HALF), folder / "small.onnx")
    return OnnxEncoder("small", folder / "small.onnx")


def sentences_in(folder: Path) -> Path:
    """A sentence encoder with random weights, as transformers saves it."""
    import transformers as hf

    words = sorted({word for text in (*NAMES, *TEMPLATES) for word in text.split()} - {"{}"})
    pieces = ["[PAD]", "[UNK]", *words]
    tokenizer = Tokenizer(models.WordLevel({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = hf.BertConfig(vocab_size=len(pieces), num_attention_heads=2, initializer_range=0.5, **sizes)
    torch.manual_seed(0)
    hf.BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def examples_for(encoder: OnnxEncoder, sentences: Path) -> Examples:
    texts = text_vectors(sentences, [one for template in TEMPLATES for one in in_each_name(template)])
    shows = np.arange(48) % len(NAMES)
    vectors = l2_normalize(encoder.encode(images(encoder, len(shows))))
    return Examples(vectors, shows, NAMES, texts.reshape(len(TEMPLATES), len(NAMES), -1))


def in_each_name(template: str) -> list[str]:
    return [one for name in NAMES for one in in_each(name, [template])]


def test_the_files_give_what_the_maps_give(tmp_path: Path) -> None:
    encoder, sentences = encoder_in(tmp_path / "images"), sentences_in(tmp_path / "sentences")
    examples = examples_for(encoder, sentences)
    maps = fit(examples, SMALL)
    folder = tmp_path / "towers"
    write_towers(folder, encoder, sentences, maps)
    image, text = load_encoder(str(folder)), load_text_encoder(str(folder))
    pixels = images(encoder, 5)
    wanted = maps.images(encoder.encode(pixels))
    assert wanted.shape == (5, SMALL.dim)
    assert np.ptp(wanted, axis=0).min() > 0.01
    np.testing.assert_allclose(l2_normalize(image.encode(pixels)), wanted, atol=1e-3)
    np.testing.assert_allclose(text.encode(NAMES), maps.names(examples.texts), atol=1e-3)
    saved, fingerprint = read_maps(folder)
    assert fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(saved.images(examples.images), maps.images(examples.images))
    assert str(tmp_path).encode() not in (folder / "text_model.onnx").read_bytes()


def drawn(seed: int = 0) -> Examples:
    """Images that show what their names say, in a space of their own."""
    rng = np.random.default_rng(seed)
    texts = l2_normalize(rng.normal(size=(60, 16)))
    shows = np.arange(1200) % 60
    seen = texts[shows] @ np.random.default_rng(1).normal(size=(16, 24)) + rng.normal(size=(1200, 24))
    return Examples(l2_normalize(np.exp(seen / 4)), shows, [f"name {k}" for k in range(60)], texts[None])


def rank_of_its_name(maps: Maps, examples: Examples) -> float:
    """The mean share of names that are nearer to an image than its own: .5 where nothing was learnt."""
    cosines = maps.images(examples.images) @ maps.names(examples.texts).T
    own = np.take_along_axis(cosines, examples.shows[:, None], axis=1)
    return float((cosines > own).mean())


def test_names_that_were_not_seen_are_known_and_the_same_twice() -> None:
    examples = drawn()
    seen, unseen = examples.of(np.arange(40)), examples.of(np.arange(40, 60))
    maps, again = (fit(seen, Recipe(directions=(20, 16), dim=12, batch=64)) for _ in range(2))
    assert rank_of_its_name(maps, unseen) < 0.2
    np.testing.assert_array_equal(maps.image.matrix, again.image.matrix)
    np.testing.assert_array_equal(maps.text.matrix, again.text.matrix)


def test_only_development_classes_are_learnt_from_and_none_with_the_words_of_another() -> None:
    assert words_of("getting-haircut") == "getting haircut"
    names = [f"a-{k}" for k in range(40)]
    kept = {name for name in names if is_development(name)}
    assert 0 < len(kept) < len(names)
    assert set(learnable([*names, ""])) == kept
    other = next(f"{name}".replace("-", "_") for name in sorted(kept) if not is_development(name.replace("-", "_")))
    assert set(learnable([*names, other])) == kept - {other.replace("_", "-")}
