"""Pairs of towers from the hub: each layout, what is pinned, and what is not taken."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub import Hub
from networks import convolution
from test_hub import FIRST, SECOND, online
from towers import Pair, as_immich, as_pair, as_qdrant, as_saved, clip, siglip, siglip2

from holotype.encoders.hub import Snapshot
from holotype.encoders.registry import REGISTRY, load_encoder, load_text_encoder
from holotype.errors import EncoderError

pytest.importorskip("transformers")
assert online  # a fixture
TEXTS, PLAIN = ["A Cat, cat!", "x"], ["{}"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("saved")
    return {"clip": clip(folder / "clip"), "siglip": siglip(folder / "siglip"), "siglip2": siglip2(folder / "siglip2")}


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def local(name: Path) -> Any:
    return load_text_encoder(str(name), "onnxruntime").encode(TEXTS, PLAIN)


@pytest.mark.parametrize("layout", [as_pair, lambda pair, to: as_pair(pair, to, ""), as_immich, as_saved])
def test_both_towers_of_a_repository(layout: Any, online: Hub, pairs: dict[str, Pair], tmp_path: Path) -> None:
    """With a commit it is fetched without a warning; what is not needed is not asked for."""
    folder = layout(pairs["siglip"], tmp_path / "net")
    more = {"README.md": b"", "onnx/model_fp16.onnx": b"", "pytorch_model.bin": b"pickle"}
    online.repositories["a/b"] = {FIRST: files(folder) | more}
    name = f"hf:a/b@{FIRST}"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        text, image = load_text_encoder(name, "onnxruntime"), load_encoder(name, "onnxruntime")
    assert not [path for path in online.asked if "/resolve/" in path and path.endswith(tuple(more))]
    assert text.source is not None
    assert (text.source.commit, text.dim) == (FIRST, image.dim)
    np.testing.assert_allclose(text.encode(TEXTS, PLAIN), local(folder), atol=1e-5)
    assert image.fingerprint == load_encoder(str(folder), "onnxruntime").fingerprint


def test_a_text_tower_with_a_repository_of_its_own(online: Hub, pairs: dict[str, Pair], tmp_path: Path) -> None:
    folder = as_qdrant(pairs["clip"], tmp_path)
    online.repositories["a/net-vision"] = {FIRST: files(folder)}
    online.repositories["a/net-text"] = {SECOND: files(tmp_path / "net-text")}
    with pytest.warns(match=f"a/net-text is taken from the hub as it is now, at commit {SECOND}"):
        text = load_text_encoder("hf:a/net-vision", "onnxruntime")
    np.testing.assert_allclose(text.encode(TEXTS, PLAIN), local(folder), atol=1e-5)
    with pytest.warns(match="a/net-vision is taken from the hub as it is now"):
        assert load_encoder("hf:a/net-vision", "onnxruntime").dim == text.dim

    online.repositories["a/net-text"] = {SECOND: files(tmp_path / "net-text") | {"tokenizer.json": b"{}"}}
    shutil.rmtree(tmp_path / "hub")
    text.path.unlink()
    with pytest.raises(EncoderError, match=r"tokenizer\.json of a/net-text at commit b+ is not the file that is known"):
        load_text_encoder("hf:a/net-vision", "onnxruntime")


def test_weights_in_a_file_of_their_own(online: Hub, pairs: dict[str, Pair], tmp_path: Path) -> None:
    """As large networks are published; the client keeps them as links to its blobs."""
    import onnx

    folder = as_pair(pairs["siglip"], tmp_path / "net")
    wanted = local(folder)
    for name in ("text", "vision"):
        path = folder / "onnx" / f"{name}_model.onnx"
        model = onnx.load(path)
        how: dict[str, Any] = {"save_as_external_data": True, "size_threshold": 0}
        onnx.save(model, path, location=f"{path.name}_data", **how)
    online.repositories["a/b"] = {FIRST: files(folder)}
    text = load_text_encoder(f"hf:a/b@{FIRST}", "onnxruntime")
    np.testing.assert_allclose(text.encode(TEXTS, PLAIN), wanted, atol=1e-5)
    assert load_encoder(f"hf:a/b@{FIRST}", "onnxruntime").dim == text.dim


def test_a_repository_without_words(online: Hub, tmp_path: Path) -> None:
    path = convolution(tmp_path)
    about = {"preprocessor_config.json": path.with_suffix(".json").read_bytes()}
    online.repositories["a/b"] = {FIRST: {"vision_model.onnx": path.read_bytes(), **about}}
    assert load_encoder(f"hf:a/b@{FIRST}", "onnxruntime").dim == 5
    with pytest.raises(EncoderError, match=r"knows no words: a/b at commit a+ as fetched from the hub has no"):
        load_text_encoder(f"hf:a/b@{FIRST}")


@pytest.mark.parametrize("name", ["clip-vit-b32", "siglip-b16", "siglip2-b16"])
def test_of_the_named_ones_nothing_but_what_is_pinned_is_taken(name: str, online: Hub) -> None:
    origin = REGISTRY[name].text
    assert origin is not None
    assert origin.snapshot is not None
    content = {origin.network: b"other", origin.tokenizer: b"{}"}
    online.repositories[origin.repository] = {origin.snapshot.commit: content, SECOND: content}
    digest = origin.snapshot.files[origin.network]
    with pytest.raises(EncoderError, match=rf"at commit {origin.snapshot.commit} is not the file .* expected {digest}"):
        load_text_encoder(name)
    assert not any(SECOND in path or "main" in path for path in online.asked)


NAMED: list[tuple[str, str, Callable[[Pair, Path], Path]]] = [
    ("clip-vit-b32", "clip", as_qdrant),
    ("siglip-b16", "siglip", as_pair),
    ("siglip2-b16", "siglip2", as_pair),
]


@pytest.mark.parametrize(("name", "kind", "layout"), NAMED)
def test_the_rules_of_the_named_ones_are_data(
    name: str,
    kind: str,
    layout: Callable[[Pair, Path], Path],
    online: Hub,
    pairs: dict[str, Pair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The published files, by a small network of their layout: no configuration of a tokenizer is fetched."""
    folder = layout(pairs[kind], tmp_path / "net")
    root = folder.with_name("net-text") if kind == "clip" else folder
    origin = REGISTRY[name]
    assert origin.text is not None
    content = {one: (root / one).read_bytes() for one in (origin.text.network, origin.text.tokenizer)}
    online.repositories[origin.text.repository] = {FIRST: content}
    known = Snapshot(origin.text.repository, FIRST, {one: sha(value) for one, value in content.items()})
    monkeypatch.setitem(REGISTRY, name, replace(origin, text=replace(origin.text, snapshot=known)))
    text = load_text_encoder(name, "onnxruntime")
    assert text.source == known
    assert text.rules.scale == origin.text.rules.scale
    assert (text.rules.pad, text.rules.masked) == (origin.text.rules.pad, kind == "clip")
    np.testing.assert_allclose(text.encode(TEXTS, PLAIN), local(folder), atol=1e-5)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_each_named_one_says_its_licence_its_size_and_whether_it_knows_words(holotype: Any) -> None:
    code, said, _ = holotype("encoders")
    assert code == 0
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert "MIT" in lines["clip-vit-b32"]
    assert "352 MB" in lines["clip-vit-b32"]
    assert "words: 256 MB" in lines["clip-vit-b32"]
    assert "words: 1,164 MB" in lines["siglip2-b16"]
    assert "as it is at the first download" in lines["resnet50"]
    assert "words" not in lines["dinov2-small"]
    assert json.dumps(said).count("as it is at the first download") == sum(
        bool(origin.repository) and origin.snapshot is None for origin in REGISTRY.values()
    )


def test_what_is_pinned_is_a_commit_and_digests() -> None:
    for origin in REGISTRY.values():
        for snapshot in (origin.snapshot, origin.text.snapshot if origin.text else None):
            if snapshot is not None:
                assert len(snapshot.commit) == 40
                assert all(len(digest) == 64 for digest in snapshot.files.values())
