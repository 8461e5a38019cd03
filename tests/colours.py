"""A pair of towers that knows what colours are called: it sees 4 x 4 cells of colour, and reads English and German."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

LENGTH = 12
NAMES = {"red": (200, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 200)}
_OTHERS = {"rot": "red", "scarlet": "red", "azure": "blue"}
_CELLS = 16


def colour_towers(folder: Path, image: str = "cells.onnx") -> str:
    """Write two towers, that of images called `image`, and their tokenizer to `folder`; return the encoder's name."""
    _save_image(folder / image)
    told = {"size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    known = {**NAMES, **{word: NAMES[name] for word, name in _OTHERS.items()}}
    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{word: place for place, word in enumerate(known, start=2)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]", "model_max_length": LENGTH}))
    table = np.zeros((len(vocabulary), 3 * _CELLS), np.float32)
    table[2:] = [np.repeat((np.array(colour) / 255 - 0.5) / 0.5, _CELLS) for colour in known.values()]
    table[1] = 0.01  # what it does not know says little, and never nothing
    _save_text(folder / "text_model.onnx", table)
    return str(folder / image)


def _save_image(path: Path) -> None:
    nodes = [
        helper.make_node("AveragePool", ["image"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["cells"], ["flat"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])
    flat = helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", 3 * _CELLS])
    _save(helper.make_graph(nodes, "cells", [image], [flat]), path)


def _save_text(path: Path, table: np.ndarray) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("ReduceSum", ["tokens", "axis"], ["text_embeds"], keepdims=0),
    ]
    weights = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axis")]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", LENGTH])
    found = helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, ["n", table.shape[1]])
    _save(helper.make_graph(nodes, "words", [ids], [found], weights), path)


def _save(graph: onnx.GraphProto, path: Path) -> None:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
