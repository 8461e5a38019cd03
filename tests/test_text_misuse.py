"""What goes wrong with words is said in a sentence: what was expected, what came, what to do."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import convolution
from system import plain_environment
from towers import LENGTH, Pair, as_files, as_pair, as_qdrant, as_saved, clip, save_words, siglip

from holotype.encoders.registry import has_text, load_encoder, load_text_encoder
from holotype.encoders.text import TextEncoder
from holotype.errors import EncoderError

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("offline")
CLIP, SIGLIP, PLAIN = "clip", "siglip", ["{}"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("saved")
    return {CLIP: clip(folder / CLIP), SIGLIP: siglip(folder / SIGLIP)}


@pytest.fixture(scope="module")
def made(pairs: dict[str, Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_pair(pairs[CLIP], tmp_path_factory.mktemp("pair"), "")


@pytest.fixture(scope="module")
def text(made: Path, offline: None) -> TextEncoder:
    return load_text_encoder(str(made), "onnxruntime")


@pytest.mark.parametrize(
    ("texts", "templates", "message"),
    [
        (
            ["x" * LENGTH],
            PLAIN,
            rf"{LENGTH + 2} tokens, and the text tower takes {LENGTH}, begin, end and template among",
        ),
        (["x" * 8], ["{}", "a very long {}"], f"19 tokens, and the text tower takes {LENGTH}.*'a very long xxxxxxxx'"),
        ([""], PLAIN, "expected words that say what an image shows, got ''"),
        (["cat", " \n\t"], PLAIN, r"expected words .*, got ' \\n\\t'"),
        ([3], PLAIN, "expected words .*, got 3"),
        (["\x00\x07"], PLAIN, "of which nothing is left"),
        ("cat", None, r"expected a list of texts, got one text; give \['cat'\]"),
        (["cat"], [], "expected at least one template"),
        (["cat"], ["a photo"], r"a template with \{\} where the words go, .* got 'a photo'"),
    ],
)
def test_texts_and_templates_that_cannot_be_used(texts: Any, templates: Any, message: str, text: TextEncoder) -> None:
    with pytest.raises(EncoderError, match=message) as error:
        text.encode(texts, templates)
    assert "\n" not in str(error.value)


def test_a_text_of_punctuation_alone_is_empty_to_siglip(pairs: dict[str, Pair], tmp_path: Path) -> None:
    found = load_text_encoder(str(as_pair(pairs[SIGLIP], tmp_path / "net")), "onnxruntime")
    with pytest.raises(EncoderError, match=r"got '\?!', of which nothing is left"):
        found.encode(["?!"], PLAIN)


def test_lines_and_control_characters_are_spaces(text: TextEncoder) -> None:
    wanted = text.encode(["the red cat"], PLAIN)
    for same in ("the\nred\r\ncat", "\x00the\x1b red\x07  cat ", "THE RED CAT"):
        np.testing.assert_array_equal(text.encode([same], PLAIN), wanted)


def test_a_special_token_in_a_text_is_text(text: TextEncoder) -> None:
    """Else it would end the text there, as far as the tower sees."""
    rows = text._tokens.encode(["<s>", "x"])[0]
    assert (rows == text._tokens.encode(["<s>"])[0][0]).all(axis=1).tolist() == [True, False]
    end = text.rules.pad
    with pytest.raises(EncoderError, match=r"tokens, and the text tower takes"):  # letter by letter it is too long
        text.encode([f"xx {end}"], PLAIN)


NO_WORDS = r"knows no words: .* Those that do: clip-vit-b32, siglip-b16, siglip2-b16; a folder or hf:owner/model"


@pytest.mark.parametrize("name", ["efficientnet_lite0", "views2:resnet50", "dinov2-small"])
def test_an_encoder_without_a_text_tower_names_those_that_have_one(name: str) -> None:
    assert not has_text(name)
    with pytest.raises(EncoderError, match=f"{name.rpartition(':')[2]} {NO_WORDS}"):
        load_text_encoder(name)


def test_a_file_of_a_user_without_a_text_tower(tmp_path: Path) -> None:
    path = str(convolution(tmp_path))
    assert not has_text(path)
    with pytest.raises(EncoderError, match=NO_WORDS):
        load_text_encoder(path)


def test_a_vision_model_of_transformers_knows_no_words(tmp_path: Path) -> None:
    import transformers as hf

    hf.ViTModel(hf.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(tmp_path)
    assert not has_text(str(tmp_path))
    with pytest.raises(EncoderError, match=NO_WORDS):
        load_text_encoder(str(tmp_path))


def test_which_have_words_is_known_without_loading(made: Path) -> None:
    assert all(has_text(name) for name in ("clip-vit-b32", "siglip-b16", "views3:siglip2-b16", str(made), "hf:a/b"))
    for name in ("resnet5", "hf:a/b@main"):
        with pytest.raises(EncoderError, match=r"no encoder 'resnet5'|expected hf:owner/model"):
            has_text(name)
    with pytest.raises(EncoderError, match=r"no encoder 'resnet5': expected one of .*siglip-b16"):
        load_text_encoder("resnet5")
    with pytest.raises(EncoderError, match="a runtime of openvino, onnxruntime, got 'tensorrt'"):
        load_text_encoder("clip-vit-b32", "tensorrt")


def told(folder: Path, **values: object) -> None:
    path = folder / "tokenizer_config.json"
    kept = {name: value for name, value in json.loads(path.read_text()).items() if name not in values}
    path.write_text(json.dumps(kept | {name: value for name, value in values.items() if value is not None}))


def without_rules(folder: Path) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).unlink()
    tokens = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokens | {"added_tokens": [], "padding": None}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda at: (at / "tokenizer.json").unlink(), r"expected the tokenizer of the text tower in .*tokenizer\.json"),
        (lambda at: (at / "tokenizer.json").write_text("{"), r"expected JSON in .*tokenizer\.json"),
        (
            lambda at: (at / "tokenizer.json").write_text("[]"),
            r"expected a JSON table in .*tokenizer\.json, got a list",
        ),
        (lambda at: (at / "tokenizer.json").write_text("{}"), r"expected a tokenizer\.json of the package tokenizers"),
        (lambda at: (at / "tokenizer_config.json").write_text("["), r"expected JSON in .*tokenizer_config\.json"),
        (
            lambda at: told(at, pad_token="<none>"),
            "the tokenizer has no token '<none>', which its text tower is padded",
        ),
        (without_rules, 'expected "pad_token" and "model_max_length" in tokenizer_config.json'),
        (lambda at: shutil.copy(at / "vision_model.onnx", at / "text_model.onnx"), "expected a text tower alone"),
        (lambda at: (at / "text_model.onnx").write_bytes(b"x"), r"expected an ONNX model in .*text_model\.onnx"),
    ],
)
def test_a_pair_that_cannot_be_used(spoil: Callable[[Path], object], message: str, made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "spoilt"))
    spoil(folder)
    with pytest.raises(EncoderError, match=message) as error:
        load_text_encoder(str(folder))
    assert "\n" not in str(error.value)


def test_what_is_beside_an_image_tower_is_its_text_tower(pairs: dict[str, Pair], tmp_path: Path) -> None:
    """Whichever of the files or folders is named."""
    folder = as_pair(pairs[CLIP], tmp_path / "net")
    names = [folder, folder / "onnx" / "vision_model.onnx"]
    assert len({load_text_encoder(str(one), "onnxruntime").fingerprint for one in names}) == 1
    assert has_text(str(as_qdrant(pairs[CLIP], tmp_path)))
    shutil.rmtree(tmp_path / "net-text")
    assert not has_text(str(tmp_path / "net-vision"))
    mine = as_files(pairs[CLIP], tmp_path / "mine")
    (mine.parent / "tokenizer.json").unlink()
    assert not has_text(str(mine))


def test_the_fingerprint_is_of_network_tokenizer_and_rules(made: Path, pairs: dict[str, Pair], tmp_path: Path) -> None:
    def other(name: str, change: Callable[[Path], object]) -> str:
        folder = Path(shutil.copytree(made, tmp_path / name))
        change(folder)
        return load_text_encoder(str(folder), "onnxruntime").fingerprint

    def retoken(folder: Path) -> None:
        tokens = json.loads((folder / "tokenizer.json").read_text())
        tokens["model"]["vocab"] |= {"~": tokens["model"]["vocab"]["!"], "!": tokens["model"]["vocab"]["~"]}
        (folder / "tokenizer.json").write_text(json.dumps(tokens))

    found = [
        other("same", lambda at: (at / "README.md").write_text("x")),
        other("rules", lambda at: told(at, padding_side="left")),
        other("tokens", retoken),
        other("network", lambda at: save_words(pairs[CLIP], at / "text_model.onnx", masked=False)),
    ]
    assert load_text_encoder(str(made), "onnxruntime").fingerprint == found[0]
    assert len(set(found)) == 4


def test_an_altered_file_of_the_cache_is_made_again(made: Path) -> None:
    first = load_text_encoder(str(made), "onnxruntime")
    first.path.write_bytes(first.content[:-1] + b"x")
    with pytest.warns(match="is damaged; what it held is made again"):
        again = load_text_encoder(str(made), "onnxruntime")
    assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_from_many_threads_and_as_a_copy(runtime: str, made: Path) -> None:
    found = load_text_encoder(str(made), runtime)
    texts = [f"cat {place}" for place in range(12)]
    wanted = found.encode(texts, PLAIN)
    with ThreadPoolExecutor(4) as threads:
        for got in threads.map(lambda _: found.encode(texts, PLAIN), range(16)):
            np.testing.assert_allclose(got, wanted, atol=1e-5)
    copy = pickle.loads(pickle.dumps(found))
    assert copy.fingerprint == found.fingerprint
    np.testing.assert_allclose(copy.encode(texts, PLAIN), wanted, atol=1e-5)


AFTER_FORK = """
import multiprocessing, sys
import numpy as np
from holotype.encoders.registry import load_text_encoder

text = load_text_encoder(sys.argv[1], sys.argv[2])
before = text.encode(["cat", "a red cat"], ["{}"])

def work(ways):
    ways.put(text.encode(["cat", "a red cat"], ["{}"]))

context = multiprocessing.get_context("fork")
ways = context.Queue()
child = context.Process(target=work, args=(ways,))
child.start()
print(np.allclose(ways.get(timeout=60), before, atol=1e-4))
child.join()
print(np.allclose(text.encode(["cat", "a red cat"], ["{}"]), before, atol=1e-4), child.exitcode)
"""


def in_a_process(code: str, *words: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, words)],
        env=plain_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_after_a_fork(runtime: str, made: Path, cache: Path) -> None:
    done = in_a_process(AFTER_FORK, made, runtime, HOLOTYPE_CACHE=str(cache))
    assert (done.stdout.split(), done.stderr) == (["True", "True", "0"], "")


def test_neither_torch_nor_transformers_is_needed_for_a_pair_of_onnx_files(made: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'huggingface_hub', 'onnxscript']))\n"
        "from holotype.encoders.registry import load_text_encoder\n"
        "print(load_text_encoder(sys.argv[1]).encode(['cat'], ['{}']).shape)\n"
    )
    done = in_a_process(code, made, HOLOTYPE_CACHE=str(tmp_path))
    assert (done.stdout.strip(), done.stderr) == ("(1, 24)", "")


@pytest.mark.parametrize(
    ("absent", "of_hub", "message"),
    [
        ("tokenizers", False, "package tokenizers, which is not installed: pip install 'holotype[words]'"),
        (
            "huggingface_hub",
            True,
            "clip-vit-b32-text is fetched once, which needs huggingface_hub: pip install 'holotype[words]'",
        ),
        ("torch", False, "which needs torch: pip install 'holotype[hub]'"),
    ],
)
def test_what_is_not_installed_is_named(
    absent: str, of_hub: bool, message: str, pairs: dict[str, Pair], tmp_path: Path
) -> None:
    folder = as_saved(pairs[CLIP], tmp_path / "net")
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from holotype.encoders.registry import load_text_encoder\nfrom holotype.errors import EncoderError\n"
        "try:\n    load_text_encoder(sys.argv[1])\nexcept EncoderError as error:\n    print(error)\n"
    )
    name = "clip-vit-b32" if of_hub else folder
    done = in_a_process(code, name, HOLOTYPE_CACHE=str(tmp_path / "cache"))
    assert message in done.stdout
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_no_network_is_said() -> None:
    with pytest.raises(EncoderError, match=r"could not be fetched from the hub .* Without a network, give a folder"):
        load_text_encoder("siglip-b16")
    with pytest.raises(EncoderError, match="for words a folder on this disk with both towers"):
        load_encoder("siglip-b16")


def test_large_weights_are_looked_at_by_their_shapes(
    pairs: dict[str, Pair], made: Path, text: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holotype.encoders.text_network._LARGE", 20)
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    assert load_text_encoder(str(made), "onnxruntime").fingerprint == text.fingerprint
