"""A saved model: its files, what must be in each, and how they fit each other. All is checked before it is used.

It may come from anybody: what is wrong with it is an error when it is loaded, and never at the first image.
"""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from holotype.checksums import digest_of_values
from holotype.encoders.graph import check_sizes, first_line, read_graph
from holotype.encoders.hub import Snapshot, is_in_snapshot
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import EncoderError, ExemplarError, ModelError
from holotype.model.promises import PROMISES_FILE, Digest, Promise, Promises, Share
from holotype.pointers import why_pointer
from holotype.pool.exemplars import check_class_names
from holotype.settings import FitSettings

DESCRIPTION_FILE, ARRAYS_FILE, HEAD_FILE, NETWORK_FILE = "model.json", "arrays.safetensors", "head.onnx", "encoder.onnx"
SAVED = (NETWORK_FILE, HEAD_FILE, ARRAYS_FILE, DESCRIPTION_FILE)  # in the order in which they are written
FORMAT = 6
_NO_DIGEST, _ONE_SLOPE = 4, 5  # the last that had no digest of the description; one slope for all, a temperature
_READ = (_NO_DIGEST, _ONE_SLOPE, FORMAT)
_MOST_BYTES = {DESCRIPTION_FILE: 2**26, ARRAYS_FILE: 2**31, HEAD_FILE: 2**31, NETWORK_FILE: 2**31, PROMISES_FILE: 2**26}

_PACKAGES = ("holotype", "numpy", "pillow", "openvino", "onnxruntime", "scikit-learn")

Arrays = dict[str, NDArray[Any]]


class _Part(BaseModel):
    """A part of model.json: an unknown name, another type or a number that is not finite is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SourceOfModel(_Part):
    """What the encoder was made from: a repository of the hub, at which commit, and the SHA-256 of its files."""

    repository: str
    commit: str
    files: dict[str, Digest]


class EncoderOfModel(_Part):
    """What encoder.onnx is: `fingerprint` when it was saved, `size` (height, width) in pixels, and its arithmetic."""

    name: str
    fingerprint: Digest
    size: tuple[int, int]
    precision: Literal["f32", "bf16", "int8"]
    source: SourceOfModel | None = None


class DescriptionOfModel(_Part):
    """Words that describe the class of number `label`."""

    text: str = Field(min_length=1)
    label: int = Field(ge=0)


class PreparationOfModel(_Part):
    """How an image is made ready for the encoder, for those who use the files without this package."""

    resize: Literal["letterbox"] = "letterbox"
    fill: tuple[int, int, int] = OnnxEncoder.fill
    normalisation: Literal["in encoder.onnx"] = "in encoder.onnx"


class Manifest(_Part):
    """What model.json holds: K classes, E exemplars, and what `Classifier` says of the rest.

    files    SHA-256 of the three other files
    digest   SHA-256 of all that stands here but the digest itself; a model of format 4 has none
    exemplar_classes   (E,) the class of each exemplar, by its number; an older model does not say
    descriptions       words that describe classes; each is the name of an exemplar too, the last of these
    temperature        of a model up to format 5: one over the slope of all classes
    """

    format: int
    files: dict[Literal["encoder.onnx", "head.onnx", "arrays.safetensors"], Digest] = Field(min_length=3)
    classes: list[str] = Field(min_length=1)
    encoder: EncoderOfModel
    preprocessing: PreparationOfModel
    layers: int = Field(ge=1, le=8)
    exemplars: list[str] = Field(min_length=1)
    exemplar_classes: list[Annotated[int, Field(ge=0)]] | None = None
    descriptions: list[DescriptionOfModel] = []
    temperature: float | None = Field(None, ge=1e-6, le=1e6)
    thresholds: list[Share]
    threshold_basis: list[str]
    prior: list[Share]
    counts: dict[str, Annotated[int, Field(ge=0)]]
    settings: FitSettings
    versions: dict[str, str]
    digest: Digest | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        count = len(self.classes)
        lengths = {"thresholds": count, "threshold_basis": count, "prior": count + 1}
        for name, wanted in lengths.items():
            if len(getattr(self, name)) != wanted:
                raise ValueError(f"expected {wanted} {name} of {count} classes, got {len(getattr(self, name))}")
        if (self.temperature is None) != (self.format > _ONE_SLOPE):
            raise ValueError(f"expected a temperature up to format {_ONE_SLOPE} alone, got {self.temperature}")
        numbers = self.exemplar_classes
        if numbers is not None and (len(numbers) != len(self.exemplars) or max(numbers) >= count):
            raise ValueError(f"expected the class of each of {len(self.exemplars)} exemplars, got {numbers}")
        said = [(one.label, f'"{one.text}"') for one in self.descriptions]
        if said and list(zip(numbers or [], self.exemplars, strict=False))[-len(said) :] != said:
            raise ValueError(f"expected the {len(said)} descriptions to be the last exemplars, with their classes")
        if abs(sum(self.prior) - 1) > 1e-3:
            raise ValueError(f"expected a prior that adds up to 1, got {sum(self.prior):.3f}")
        if len(set(self.classes)) < count:
            raise ValueError("two classes have one name")
        try:
            check_class_names(self.classes)
        except ExemplarError as error:
            raise ValueError(str(error)) from None
        if self.preprocessing.fill != OnnxEncoder.fill:
            raise ValueError(f"expected margins of {OnnxEncoder.fill}, got {self.preprocessing.fill}")
        return self

    def to_json(self) -> str:
        """Return the text of model.json, with its digest."""
        unsaid = {"digest"} if self.temperature else {"digest", "temperature"}
        unsaid |= set() if self.descriptions else {"descriptions"}  # an earlier version reads what has none
        values = self.model_dump(mode="json", exclude=unsaid)
        return json.dumps(values | {"digest": digest_of_values(values)}, indent=1)


def read_files(folder: Path, *, fetched: bool = False) -> dict[str, bytes]:
    """Read the files of a saved model. Raises `ModelError`: one is missing, too large, or a link out of the folder.

    fetched   they are links that were made to what came from the hub
    """
    if not (folder / DESCRIPTION_FILE).exists():
        raise ModelError(f"expected a saved model or a run in {folder} ({DESCRIPTION_FILE}), and there is none")
    promised = [PROMISES_FILE] if (folder / PROMISES_FILE).exists() else []
    return {name: _read(folder, name, linked=fetched) for name in [*SAVED, *promised]}


def read_description(folder: Path) -> Manifest:
    """Return what the saved model in `folder` says of itself, without its networks. Raises `ModelError`."""
    return _parse_description(_read(folder, DESCRIPTION_FILE), str(folder))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def digest_of_model(description: bytes) -> str:
    """Return the SHA-256 of model.json, which holds those of the other files: what tells a model from another."""
    return hashlib.sha256(description).hexdigest()


def parse_promises(files: Mapping[str, bytes], classes: Sequence[str], where: str) -> list[Promise]:
    """Return the promises among the files of a saved model. Raises `ModelError` where they are not about it."""
    if PROMISES_FILE not in files:
        return []
    model = digest_of_model(files[DESCRIPTION_FILE])
    return Promises.read(files[PROMISES_FILE], model, classes, where).promises


def _read(folder: Path, name: str, *, linked: bool = False) -> bytes:
    path = folder / name
    try:
        real = path.resolve(strict=True)
        within = linked or real.is_relative_to(folder.resolve()) or is_in_snapshot(real, folder.resolve())
        if not within:
            raise ModelError(f"{path} is a link out of the model's folder, to {real}; copy the file itself there")
        if not real.is_file():
            raise ModelError(f"expected a file at {path}, and it is none")
        if (size := real.stat().st_size) > _MOST_BYTES[name]:
            raise ModelError(f"{path} has {size} bytes; expected at most {_MOST_BYTES[name]}")
        content = real.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(f"the model in {folder} is not whole: {path} cannot be read: {reason}") from None
    if pointer := why_pointer(content):
        raise ModelError(f"the model in {folder} is not whole: {path}: {pointer}")
    return content


def parse(files: Mapping[str, bytes], where: str) -> tuple[Manifest, Arrays, OnnxEncoder]:
    """Return what the files (name -> content) of a saved model hold, and its encoder, ready to run.

    Raises `ModelError` that says what of it does not fit. `where` is what messages call the model.
    """
    about = _parse_description(files[DESCRIPTION_FILE], where)
    for name, digest in about.files.items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise ModelError(
                f"{where}/{name} is not the file that was saved with this model (it was cut off, or is another's); "
                "copy the folder again"
            )
    arrays = _parse_arrays(files[ARRAYS_FILE], about, where)
    dim = arrays["exemplars"].shape[1]
    _check_network(files[HEAD_FILE], HEAD_FILE, ("features", [dim]), ("scores", len(about.classes) + 1), where)
    size = about.encoder.size
    _check_network(files[NETWORK_FILE], NETWORK_FILE, ("pixels", [*size, 3]), ("features", dim), where)
    of, path = about.encoder, Path(where) / NETWORK_FILE
    try:
        encoder = OnnxEncoder(of.name, path, about.settings.runtime, of.precision, files[NETWORK_FILE], _source(of))
    except EncoderError as error:
        raise ModelError(str(error)) from error
    if (encoder.size, encoder.dim) != (size, dim):
        raise ModelError(
            f"{path}: expected {dim} features of images of {size[0]} x {size[1]} pixels, got {encoder.dim} of "
            f"{encoder.size[0]} x {encoder.size[1]}"
        )
    return about, arrays, encoder


def _source(of: EncoderOfModel) -> Snapshot | None:
    return Snapshot(**of.source.model_dump()) if of.source else None


def _parse_description(content: bytes, where: str) -> Manifest:
    try:
        values = json.loads(content)
        found = values.get("format")
        digest = digest_of_values(values)
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise ModelError(
            f"the model in {where} is not whole: {DESCRIPTION_FILE} cannot be read: {first_line(error)}"
        ) from None
    if found not in _READ:
        raise ModelError(f"{where} has format {found!r}, this version reads formats {_READ[0]} to {FORMAT}")
    try:
        about = Manifest.model_validate_json(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'all'}: {e['msg']}" for e in error.errors()[:3])
        raise ModelError(f"the model in {where} is not whole: {DESCRIPTION_FILE} has faults: {faults}") from None
    if about.digest != (digest if about.format > _NO_DIGEST else None):
        raise ModelError(
            f"{where}/{DESCRIPTION_FILE} is not as it was saved: what it holds does not fit its digest; copy the "
            "folder again"
        )
    return about


def _parse_arrays(content: bytes, about: Manifest, where: str) -> Arrays:
    from safetensors.numpy import load

    try:
        arrays: Arrays = load(content)
    except Exception as error:  # the format's own types, and numpy's
        raise ModelError(
            f"the model in {where} is not whole: {ARRAYS_FILE} cannot be read: {first_line(error)}"
        ) from None
    if fault := _fault_of_arrays(arrays, about):
        raise ModelError(f"the model in {where} is not whole: {ARRAYS_FILE}: {fault}")
    if about.temperature:
        shift = arrays["shift"][:-1] - arrays["shift"][-1]
        arrays |= {"shift": shift, "slope": np.full(len(shift), 1 / about.temperature)}
    return arrays


def _fault_of_arrays(arrays: Arrays, about: Manifest) -> str:
    """Say what does not fit, and nothing where all does."""
    layers = [(f"weights{i}", f"bias{i}") for i in range(about.layers)]
    wanted = {"exemplars": 2, "shift": 1} | {name: 3 - n for pair in layers for n, name in enumerate(pair, 1)}
    wanted |= {} if about.temperature else {"slope": 1}
    wanted |= {"descriptions": 2} if about.descriptions else {}
    if "space_mean" in arrays:
        wanted |= {"space_mean": 1, "space_power": 1}
        wanted |= {"space_projection": 2} if "space_projection" in arrays else {}
    if arrays.keys() != wanted.keys():
        return f"expected arrays {', '.join(sorted(wanted))}, got {', '.join(sorted(arrays))}"
    for name, array in arrays.items():
        dtype, ndim = np.dtype(np.float64 if name in ("shift", "slope") else np.float32), wanted[name]
        if array.dtype != dtype or array.ndim != ndim or not array.size:
            return f"expected {name} of {ndim} dimensions and {dtype}, got {array.shape} of {array.dtype}"
        if not np.isfinite(array).all():
            return f"{name} holds NaN or infinite values"
    classes, dim = len(about.classes), arrays["exemplars"].shape[1]
    shapes: dict[str, tuple[int, ...]] = {"exemplars": (len(about.exemplars), dim), "slope": (classes,)}
    shapes["shift"] = (classes + 1,) if about.temperature else (classes,)
    if "descriptions" in arrays:
        shapes["descriptions"] = (len(about.descriptions), arrays["descriptions"].shape[1])
    width = dim
    if "space_mean" in arrays:
        shapes |= {"space_mean": (dim,), "space_power": (1,)}
        if "space_projection" in arrays:
            width = arrays["space_projection"].shape[1]
            shapes["space_projection"] = (dim, width)
    for number, (weights, bias) in enumerate(layers):
        out = classes + 1 if number == about.layers - 1 else len(arrays[weights])
        shapes |= {weights: (out, width), bias: (out,)}
        width = out
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            return f"expected {name} of shape {shape}, got {arrays[name].shape}"
    return _fault_of_values(arrays, [(arrays[weights], arrays[bias]) for weights, bias in layers])


def _fault_of_values(arrays: Arrays, layers: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> str:
    """What would overflow on some image: every score of features of unit length must be a number."""
    for name in ("exemplars", "descriptions"):
        if name in arrays and np.abs(np.linalg.norm(arrays[name].astype(np.float64), axis=1) - 1).max() > 1e-3:
            return f"expected {name} of unit length"
    for name in {"shift", "slope"} & arrays.keys():
        if np.abs(arrays[name]).max() > 1e6:
            return f"a {name} of more than a million"
    reach = 1.0  # how large a value can be at this place
    if "space_mean" in arrays:
        projection = np.abs(arrays.get("space_projection", np.ones((1, 1), np.float32)))
        if (1 + np.abs(arrays["space_mean"]).max()) * projection.sum(axis=0, dtype=np.float64).max() > 1e15:
            return "a space in which features overflow"
    for weights, bias in layers:
        reach = float(np.abs(weights).sum(axis=1, dtype=np.float64).max() * reach + np.abs(bias).max())
    return "weights with which scores overflow" if reach > 1e30 else ""


def _check_network(content: bytes, name: str, given: tuple[str, list[int]], made: tuple[str, int], where: str) -> None:
    """Check that an ONNX file takes (n, ...) of `given` and makes (n, number) of `made`."""
    try:
        model = read_graph(content)
        check_sizes(model)
    except EncoderError as error:
        raise ModelError(f"{where}/{name}: {error}") from error
    inner = {tensor.name for tensor in model.graph.initializer}
    inputs = [_shape(value) for value in model.graph.input if value.name not in inner]
    outputs = [_shape(value) for value in model.graph.output]
    wanted_in, wanted_out = [(given[0], given[1])], [(made[0], [made[1]])]
    free = [(made[0], [0])]  # it is known once it runs
    if inputs != wanted_in or outputs not in (wanted_out, free):
        raise ModelError(f"{where}/{name}: expected {wanted_in} to {wanted_out}, got {inputs} to {outputs}")


def _shape(value: Any) -> tuple[str, list[int]]:
    """The name of an input or output, and its shape without the number of images; 0: free."""
    return value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
