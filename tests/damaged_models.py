"""Saved models as they may come from elsewhere: every kind of damage, also with digests that fit it."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from safetensors.numpy import load, save

Files = dict[str, bytes]
ODD_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    float("nan"),
    "",
    "x",
    "none",
    "a\nb",
    [],
    [[]],
    {},
    {"x": 1},
]


def forged(files: Files) -> Files:
    """The same files with digests that fit them, as somebody would write them who means harm."""
    try:
        about = json.loads(files["model.json"])
        found = {name: hashlib.sha256(files[name]).hexdigest() for name in about["files"]}
        about["files"] = found
        about.pop("digest", None)
        plain = json.dumps(about, sort_keys=True, separators=(",", ":"))
        about["digest"] = hashlib.sha256(plain.encode()).hexdigest()
    except (AttributeError, KeyError, TypeError, ValueError):
        return files
    return files | {"model.json": json.dumps(about).encode()}


def bytes_changed(files: Files, random: np.random.Generator, name: str) -> Files:
    """Some bytes flipped, cut off, doubled or put in."""
    content = bytearray(files[name])
    place = int(random.integers(len(content)))
    match int(random.integers(4)):
        case 0:
            for _ in range(int(random.integers(1, 9))):
                content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
        case 1:
            del content[place:]
        case 2:
            content[place:place] = content[place // 2 : place]
        case _:
            content[place : place + 8] = random.bytes(int(random.integers(9)))
    return files | {name: bytes(content)}


def json_changed(files: Files) -> Iterator[tuple[str, Files]]:
    """Each value of model.json, at any depth, removed or put in the place of by each odd one."""
    about = json.loads(files["model.json"])
    for path in list(_paths(about)):
        for odd in ("gone", *ODD_VALUES):
            changed = json.loads(files["model.json"])
            where = changed
            for key in path[:-1]:
                where = where[key]
            if odd == "gone":
                del where[path[-1]]
            else:
                where[path[-1]] = odd
            yield f"{'.'.join(map(str, path))} = {odd!r}", files | {"model.json": json.dumps(changed).encode()}


def _paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*before, key)
        yield from _paths(below, (*before, key))


ARRAYS: dict[str, Callable[[Any], Any]] = {
    "gone": lambda _array: None,
    "empty": lambda array: array[:0],
    "flat": lambda array: array.reshape(-1),
    "deep": lambda array: array[None],
    "turned": lambda array: np.ascontiguousarray(array.T) if array.ndim > 1 else np.append(array, array[:1]),
    "shorter": lambda array: array[:-1],
    "narrower": lambda array: np.ascontiguousarray(array[..., :-1]),
    "half": lambda array: array.astype(np.float16),
    "whole numbers": lambda array: array.astype(np.int64),
    "nan": lambda array: array * np.nan,
    "huge": lambda array: np.full_like(array, 3e38),
    "infinite": lambda array: np.full_like(array, np.inf),
}


def arrays_changed(files: Files) -> Iterator[tuple[str, Files]]:
    """Each array gone, in another shape or type, or with numbers that no model has."""
    for name in load(files["arrays.safetensors"]):
        for what, change in ARRAYS.items():
            arrays = load(files["arrays.safetensors"])
            found = change(arrays.pop(name))
            arrays |= {} if found is None else {name: found}
            yield f"{name} {what}", files | {"arrays.safetensors": save(arrays)}
    more = load(files["arrays.safetensors"]) | {"weights9": np.zeros((2, 2), np.float32)}
    yield "one more", files | {"arrays.safetensors": save(more)}


def onnx_changed(files: Files, random: np.random.Generator, name: str) -> Files:
    """A network whose parts are other ones, but which is a whole ONNX file."""
    model = onnx.load_from_string(files[name])
    nodes, weights = model.graph.node, model.graph.initializer
    node = nodes[int(random.integers(len(nodes)))]
    match int(random.integers(7)):
        case 0:
            node.op_type = str(random.choice(["Relu", "Loop", "Gemm", "NoSuchThing", "Reshape", "EPContext"]))
        case 1:
            nodes.remove(node)
        case 2:
            node.input[0] = str(random.choice(["", "pixels", "features", "nowhere"]))
        case 3 if len(weights):
            one = weights[int(random.integers(len(weights)))]
            one.dims[:] = [int(size) for size in random.integers(-1, 2**40, int(random.integers(4)))]
        case 4:
            value = random.choice([*model.graph.input, *model.graph.output])
            value.type.tensor_type.shape.dim.add().dim_value = int(random.integers(-9, 2**40))
        case 5:
            value = random.choice([*model.graph.input, *model.graph.output])
            value.type.tensor_type.elem_type = int(random.integers(0, 20))
        case _:
            model.graph.output[0].name = str(random.choice(["pixels", "nowhere", nodes[0].output[0]]))
    return files | {name: model.SerializeToString()}
