"""Text towers give what transformers gives, in every layout: words in the space of images."""

from collections.abc import Callable
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import assert_same, eager, images
from towers import LAYOUTS, LENGTH, Layout, Pair, as_immich, as_pair, as_saved, clip, plain, siglip, siglip2, unit

from holotype.encoders.registry import has_text, load_encoder, load_text_encoder
from holotype.encoders.templates import TEMPLATES

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("offline")

TEXTS = ["A Cat, cat!", "x", "the  red\tcat"]
PLAIN = ["{}"]
Make = Callable[[Path], Pair]
# what each tokenizer must see of them, and the token that fills
SEEN: dict[Make, tuple[list[str], str]] = {
    clip: (["a cat, cat!", "x", "the red cat"], "<|endoftext|>"),
    siglip: (["a cat cat", "x", "the red cat"], "</s>"),
    siglip2: (["a cat, cat!", "x", "the red cat"], "<pad>"),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Make], Pair]:
    return once(lambda make: make(tmp_path_factory.mktemp("saved") / make.__name__))


def wanted(pair: Pair, make: Make, pad: str = "") -> Any:
    """What transformers gives for what each tokenizer must see."""
    from tokenizers import Tokenizer

    seen, usual = SEEN[make]
    tokenizer: Any = Tokenizer.from_file(str(pair.folder / "tokenizer.json"))
    ends = [tokenizer.token_to_id("<eos>")] if make is siglip2 else []
    ids = [tokenizer.encode(text).ids + ends for text in seen]
    return pair.features(ids, tokenizer.token_to_id(pad or usual))


def cosines(one: Any, other: Any) -> Any:
    return (one * other).sum(axis=1)


@pytest.mark.parametrize(
    ("make", "layout"),  # open_clip says itself what is cleaned, as for SigLIP
    [(make, layout) for make in SEEN for layout in LAYOUTS if (make, layout) != (siglip2, as_immich)],
)
def test_words_and_images_are_as_transformers_has_them(make: Make, layout: Layout, pair: Any, tmp_path: Path) -> None:
    name = str(layout(pair(make), tmp_path / "net"))
    assert has_text(name)
    text, image = load_text_encoder(name, "onnxruntime"), load_encoder(name, "onnxruntime")
    assert (text.name, text.dim) == (image.name, image.dim)
    vectors = text.encode(TEXTS, PLAIN)
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, image.dim)
    assert_same(vectors, wanted(pair(make), make))
    pixels = images(image)
    features = lambda x: plain(pair(make).network.get_image_features(pixel_values=x))  # noqa: E731
    assert_same(image.encode(pixels), eager(features, pixels, (0.5,) * 3, (0.5,) * 3))


@pytest.mark.parametrize("make", [siglip, siglip2])
def test_another_filler_makes_other_vectors(make: Make, pair: Any, tmp_path: Path) -> None:
    """These towers look at all places, so a test with a wrong one must fail."""
    vectors = load_text_encoder(str(as_saved(pair(make), tmp_path / "net"))).encode(TEXTS, PLAIN)
    wrong = wanted(pair(make), make, "<unk>")
    assert cosines(vectors, wanted(pair(make), make)).min() > 0.999
    assert cosines(vectors, wrong).min() < 0.98
    with pytest.raises(AssertionError):
        assert_same(vectors, wrong)


@pytest.mark.parametrize("make", SEEN)
def test_both_runtimes_give_the_same(make: Make, pair: Any, tmp_path: Path) -> None:
    name = str(as_pair(pair(make), tmp_path / "net"))
    first, second = load_text_encoder(name, "openvino"), load_text_encoder(name, "onnxruntime")
    assert first.fingerprint == second.fingerprint
    np.testing.assert_allclose(first.encode(TEXTS, PLAIN), second.encode(TEXTS, PLAIN), atol=1e-4)


def test_a_tokenizer_of_transformers_is_met_to_the_token(pair: Any, tmp_path: Path) -> None:
    """Its own processor, its own padding and its own mask, for texts of differing lengths in one batch."""
    from transformers import AutoTokenizer

    folder = as_saved(pair(clip), tmp_path / "net")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = tokenizer(TEXTS, padding="max_length", max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        found = plain(pair(clip).network.get_text_features(**given)).numpy()
    assert_same(load_text_encoder(str(folder)).encode(TEXTS, PLAIN), unit(found))


def test_a_mask_that_a_tower_should_not_have_is_all_ones(pair: Any, tmp_path: Path) -> None:
    """SigLIP learnt without one; some exports ask for it all the same."""
    from towers import save_words

    folder = as_pair(pair(siglip), tmp_path / "net", "")
    save_words(pair(siglip), folder / "text_model.onnx", out="pooler_output", masked=True)
    assert_same(load_text_encoder(str(folder)).encode(TEXTS, PLAIN), wanted(pair(siglip), siglip))


def test_templates_are_averaged_and_the_mean_is_of_unit_length(pair: Any, tmp_path: Path) -> None:
    text = load_text_encoder(str(as_saved(pair(clip), tmp_path / "net")))
    each = np.stack([text.encode([one.replace("{}", "cat")], PLAIN)[0] for one in ("a {}", "{} x")])
    mean = text.encode(["cat"], ["a {}", "{} x"])
    np.testing.assert_allclose(mean, unit(each.mean(axis=0, keepdims=True)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(mean, axis=1), 1, atol=1e-6)
    short = ["a {}", "{} x", "{}"]
    both = text.encode(["cat", "dog"], short)
    np.testing.assert_allclose(both, np.concatenate([text.encode([one], short) for one in ("cat", "dog")]), atol=1e-5)


def test_one_row_does_not_depend_on_the_others(pair: Any, tmp_path: Path) -> None:
    text = load_text_encoder(str(as_pair(pair(clip), tmp_path / "net")))
    many = [f"cat {place}" for place in range(20)]
    np.testing.assert_allclose(text.encode(many, PLAIN)[13:14], text.encode(many[13:14], PLAIN), atol=1e-5)
    assert text.encode([]).shape == (0, text.dim)


def test_a_sentence_is_put_in_as_it_is() -> None:
    from holotype.encoders.templates import with_templates

    for whole in ("A red circle, crossed out.", "a photo of a cat", "An icon of a bell", "is it a cat?"):
        assert with_templates(whole, TEMPLATES) == [whole]
    assert with_templates("red circle", TEMPLATES)[:2] == ["red circle", "a photo of red circle"]
    assert with_templates("a {} b", ["x {}"]) == ["x a {} b"]


def test_what_cosines_mean_is_kept_where_it_is_known(pair: Any, tmp_path: Path) -> None:
    found = load_text_encoder(str(as_saved(pair(siglip), tmp_path / "net"))).rules
    network = pair(siglip).network
    assert found.scale == pytest.approx(network.logit_scale.exp().item())
    assert found.bias == pytest.approx(network.logit_bias.item())
    assert load_text_encoder(str(as_pair(pair(siglip), tmp_path / "pair"))).rules.scale is None


def test_a_siglip2_of_transformers_own_class(tmp_path: Path) -> None:
    """Its images come in patches, of which nothing is made here; its words are."""
    import transformers as hf
    from towers import siglip2_in_patches

    texts = [" ".join(text.split()) for text in TEXTS]  # spaces are tokens of this one
    pair = siglip2_in_patches(tmp_path)
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path)
    given = tokenizer(texts, padding="max_length", max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        found = plain(pair.network.get_text_features(input_ids=given["input_ids"])).numpy()
    assert_same(load_text_encoder(str(tmp_path)).encode(texts, PLAIN), unit(found))
