"""ONNX files as others may have made them: read, and refused before a runtime sees what it should not run.

A file must hold all of itself, consist of operators that are known, and end: no loops, no tensors beyond all measure.
"""

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from holotype.encoders.hub import is_in_snapshot
from holotype.errors import EncoderError
from holotype.pointers import why_pointer

if TYPE_CHECKING:
    import onnx

_STANDARD = ("", "ai.onnx")
_DOMAINS = (*_STANDARD, "com.microsoft")  # the second is ONNX Runtime's own, of quantised and fused networks
_ENDLESS = frozenset(["Loop", "Scan", "SequenceMap"])
_OUTSIDE = frozenset(["EPContext"])  # it names a file with a program for an accelerator
_MOST_NODES = 100_000
_DEEPEST = 8  # graphs within graphs, of If
_LARGEST = 2**28  # numbers in one tensor, for one image: a gigabyte
_MOST_BYTES = 2**31 - 1  # of a network and its weights: an ONNX file holds no more


def read_graph(content: bytes) -> "onnx.ModelProto":
    """Parse an ONNX file. Raises `EncoderError` where it cannot be read, or holds what is not run here."""
    import onnx

    if pointer := why_pointer(content):
        raise EncoderError(pointer)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise EncoderError(f"it is no ONNX file, or a damaged one: {first_line(error)}") from error
    if not model.graph.node:
        raise EncoderError("it is no ONNX file, or a damaged one: it has no operators")
    check_operators(model)
    if files := _locations(model):
        raise EncoderError(
            f"its weights are in other files ({', '.join(files[:3])}); expected one ONNX file that holds all of itself"
        )
    return model


def external_files(source: Path) -> list[Path]:
    """The files beside an ONNX file that hold its weights; none for most.

    Raises `EncoderError` where it cannot be read, a file lies outside of its folder, or all is too much for one file.
    """
    import onnx

    _check_bytes(source, [source])
    try:
        model = onnx.load(source, load_external_data=False)
    except Exception as error:
        raise EncoderError(f"expected an ONNX model in {source}, and it cannot be read: {first_line(error)}") from error
    names = _locations(model)
    for name in names:
        if not _is_inside(source.parent, name):
            raise EncoderError(
                f"the weights of {source} are in {name!r}; expected a file in its folder, and no link out"
            )
    files = [source.parent / name for name in names]
    _check_bytes(source, [source, *files])
    return files


def load_with_weights(source: Path) -> "onnx.ModelProto":
    """Read an ONNX file and the files beside it that hold its weights. Raises `EncoderError` as `external_files` does.

    The library follows no link, as they lie in the hub's cache: what is linked there is copied before it is read.
    """
    import onnx

    names = [file.relative_to(source.parent) for file in external_files(source)]  # before a byte of them is read
    try:
        if not any((source.parent / name).is_symlink() for name in names):
            return onnx.load(source)
        with TemporaryDirectory(prefix="holotype-onnx-") as folder:
            for name in (Path(source.name), *names):
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                copyfile(source.parent / name, Path(folder) / name)
            return onnx.load(Path(folder) / source.name)
    except Exception as error:
        raise EncoderError(f"expected an ONNX model in {source}, and it cannot be read: {first_line(error)}") from error


def _is_inside(folder: Path, name: str) -> bool:
    """Whether `name` is a file of `folder`, or would be one; in the hub's cache also a link to one of its own files."""
    try:
        if ".." in Path(name).parts or Path(name).is_absolute():
            return False
        path, place = (folder / name).resolve(), folder.resolve()
        if not path.exists():
            return path.is_relative_to(place)
        return path.is_file() and (path.is_relative_to(place) or is_in_snapshot(path, place))
    except (OSError, RuntimeError, ValueError):  # too long a name, links in a circle, a null in it
        return False


def _check_bytes(source: Path, files: Sequence[Path]) -> None:
    size = sum(file.stat().st_size for file in files if file.is_file())
    if size > _MOST_BYTES:
        raise EncoderError(f"{source} has {size} bytes with its weights; expected at most {_MOST_BYTES}")


def check_operators(model: "onnx.ModelProto") -> None:
    """Raise `EncoderError` for operators that are unknown, may never end, or reach for files."""
    from onnx import defs

    own = {(function.domain, function.name) for function in model.functions}
    count = 0
    for count, node in enumerate(_nodes(model), 1):
        if count > _MOST_NODES:
            break
        name, domain = str(node.op_type), str(node.domain)  # bytes, where they are no text
        if name in _ENDLESS:
            raise EncoderError(f"it has a loop ({name}), which may never end; expected a network without")
        known = defs.has(name) if domain in _STANDARD else domain in _DOMAINS
        if name in _OUTSIDE or not (known or (domain, name) in own):
            whole = f"{domain}.{name}" if domain else name
            raise EncoderError(
                f"it has an operator that is not known here: {whole}; export it with ONNX's own operators"
            )
    if count > _MOST_NODES:
        raise EncoderError(f"it has more than {_MOST_NODES} operators")


def check_sizes(model: "onnx.ModelProto") -> None:
    """Raise `EncoderError` where shapes do not fit each other, or one image would take tensors beyond all measure."""
    import onnx

    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    for value in trial.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.dim_value = 1
    try:
        onnx.checker.check_model(trial)
        del trial.graph.value_info[:]  # what the file says of shapes within may be untrue
        for value in trial.graph.output:
            value.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(trial, data_prop=True).graph
    except Exception as error:
        raise EncoderError(f"it is no valid ONNX file: {first_line(error)}") from error
    for value in (*inferred.value_info, *inferred.output, *inferred.input):
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if prod(size or 1 for size in shape) > _LARGEST:
            raise EncoderError(f"one image would make a tensor of shape {shape}, more than {_LARGEST} numbers")


def shape_of_two(content: bytes, size: tuple[int, int], output: str, images: int = 2) -> tuple[int, ...]:
    """Return the shape of an `output` of a network for `pixels` of two blank images of `size` (height, width).

    `images` is another number, for a network that takes one at a time.
    """
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised; no need to print it as well
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return tuple(session.run([output], {"pixels": np.zeros((images, *size, 3), np.uint8)})[0].shape)


def first_line(error: Exception) -> str:
    """What an error of a library says, in a line."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _nodes(model: "onnx.ModelProto") -> "Iterator[onnx.NodeProto]":
    """Every operator, of graphs within the graph too. Raises `EncoderError` where these are nested too deep."""
    ahead = [(node, 0) for part in (model.graph, *model.functions) for node in reversed(part.node)]
    defaults = [value for function in model.functions for value in function.attribute_proto]
    ahead += [(node, 1) for value in defaults for graph in (value.g, *value.graphs) for node in graph.node]
    while ahead:
        node, depth = ahead.pop()
        if depth > _DEEPEST:
            raise EncoderError(f"it has graphs nested more than {_DEEPEST} deep")
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                ahead.extend((inner, depth + 1) for inner in graph.node)


def _tensors(model: "onnx.ModelProto") -> "Iterator[onnx.TensorProto]":
    """Every tensor, wherever it stands: in graphs and what is within them, in functions, in what is for training."""
    import onnx

    ahead: list[Any] = [model]
    while ahead:
        part = ahead.pop()
        if isinstance(part, onnx.TensorProto):
            yield part
            continue
        for field, value in part.ListFields():
            if field.message_type is not None:
                ahead += [value] if hasattr(value, "ListFields") else value


def _locations(model: "onnx.ModelProto") -> list[str]:
    """Which files hold weights of the network."""
    import onnx

    found: set[str] = set()
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            found |= {entry.value for entry in tensor.external_data if entry.key == "location"} or {"?"}
    return sorted(found)
