"""The Open Inference Protocol, version 2, over HTTP: images as a tensor of bytes, with the binary extension."""

import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from holotype.serve.batching import Outcome
from holotype.serve.documented import ModelName, body, errors
from holotype.serve.models import ServedModel
from holotype.serve.pictures import JSON_TYPE, SentImage, beside, check_count, parse_json
from holotype.serve.service import Service
from holotype.web.responses import Json, first_fault

INPUT = "image"
HEAD_LENGTH = "inference-header-content-length"  # bytes of JSON, behind which the binary tensors lie
BINARY = "application/octet-stream"
_DIGITS = re.compile(r"[0-9]{1,18}")
_LENGTH = struct.Struct("<I")  # before each element of a binary tensor of BYTES

Version = Annotated[str, Path(description="The version of a model.", pattern="^[a-z0-9]{1,40}$")]
Whole = Annotated[int, Field(ge=0, lt=1 << 31)]


class InputTensor(BaseModel):
    """A tensor of a request: `data` in base64, or binary behind the JSON."""

    name: str
    shape: Annotated[list[Whole], Field(min_length=1, max_length=8, fail_fast=True)]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class WantedOutput(BaseModel):
    """A tensor that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferBody(BaseModel):
    """A request: one tensor `image` of BYTES, each element the bytes of an image."""

    id: str = ""
    parameters: dict[str, Any] = {}
    inputs: Annotated[list[InputTensor], Field(min_length=1, fail_fast=True)]
    outputs: Annotated[list[WantedOutput], Field(fail_fast=True)] | None = None


class TensorInfo(BaseModel):
    """What a tensor is; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class OutputTensor(BaseModel):
    """A tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferReply(BaseModel):
    """An answer; a row of each tensor for each image. Where `error` is not empty, its image has no answer."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]


class ServerMetadata(BaseModel):
    """What answers."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the server is there."""

    live: bool


class Ready(BaseModel):
    """Whether the server, or a model, answers."""

    ready: bool


def metadata(model: ServedModel) -> dict[str, Any]:
    """Return what `model` takes and gives."""
    count = len(model.classes)
    widths = {
        "label": [],
        "probabilities": [count + 1],
        "vector": [count],
        "nearest": [],
        "similarity": [],
        "error": [],
    }
    outputs = [{"name": name, "datatype": _DATATYPES[name], "shape": [-1, *wide]} for name, wide in widths.items()]
    inputs = [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}]
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": "holotype",
        "inputs": inputs,
        "outputs": outputs,
    }


_DATATYPES = {
    "label": "BYTES",
    "probabilities": "FP32",
    "vector": "FP32",
    "nearest": "BYTES",
    "similarity": "FP32",
    "error": "BYTES",
}


def router(service: Service) -> APIRouter:
    """Return the addresses of this protocol."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @routes.get("", summary="Name and version of this server", response_model=ServerMetadata, responses=errors())
    async def server() -> Response:
        extensions = ["binary_tensor_data"]
        return Json({"name": "holotype", "version": version_of("holotype"), "extensions": extensions})

    @routes.get("/health/live", summary="Whether the server is there", response_model=Live, responses=errors())
    async def live() -> Response:
        return Json({"live": True})

    @routes.get("/health/ready", summary="Whether it answers", response_model=Ready, responses=errors())
    async def ready() -> Response:
        return Json({"ready": service.ready}, 200 if service.ready else 503)

    def newest(name: ModelName) -> ServedModel:
        return service.model(name)

    def exactly(name: ModelName, version: Version) -> ServedModel:
        model = service.model(name)
        if version != model.version:
            raise HTTPException(404, f"the model {name} is served in the version {model.version}")
        return model

    _add_model(routes, "/models/{name}", newest, service)
    _add_model(routes, "/models/{name}/versions/{version}", exactly, service)
    return routes


def _add_model(routes: APIRouter, path: str, find: Callable[..., ServedModel], service: Service) -> None:
    asked = Annotated[ServedModel, Depends(find)]

    @routes.get(path, summary="The inputs and outputs of a model", response_model=ModelMetadata, responses=errors(404))
    async def about(model: asked) -> Response:
        return Json(metadata(model))

    @routes.get(f"{path}/ready", summary="Whether a model answers", response_model=Ready, responses=errors(404))
    async def ready(model: asked) -> Response:  # noqa: ARG001 - it is there
        return Json({"ready": service.ready}, 200 if service.ready else 503)

    @routes.post(
        f"{path}/infer",
        summary="Classify images: a row of each output for each",
        response_model=InferReply,
        responses=errors(404, 504),
        openapi_extra=body({JSON_TYPE: InferBody, BINARY: {"type": "string", "format": "binary"}}),
    )
    async def infer(model: asked, request: Request) -> Response:
        length = request.headers.get(HEAD_LENGTH)
        given, pictures = await beside(await request.body(), lambda content: _parse(content, length, service.most))
        wanted = _wanted(given)
        outcomes = await service.predict(model, pictures)
        if not any(one.prediction for one in outcomes):
            raise HTTPException(400, outcomes[0].error)
        return _reply(model, given.id, _tensors(model, outcomes), wanted)


def _parse(content: bytes, length: str | None, most: int) -> tuple[InferBody, Sequence[SentImage]]:
    """Return the JSON of a request, of `length` bytes, and its images: in it, or in the binary tensor behind it."""
    if length is not None and not (_DIGITS.fullmatch(length) and int(length) <= len(content)):
        raise HTTPException(400, f"expected {HEAD_LENGTH} to be the bytes of JSON, at most {len(content)}")
    count = len(content) if length is None else int(length)
    try:
        given = parse_json(content[:count], InferBody)
    except RequestValidationError as error:
        raise HTTPException(400, first_fault(error.errors())) from None
    return given, _images(given, content[count:], most)


def _images(given: InferBody, rest: bytes, most: int) -> Sequence[SentImage]:
    if len(given.inputs) != 1 or given.inputs[0].name != INPUT or given.inputs[0].datatype != "BYTES":
        raise HTTPException(400, f"expected one input, {INPUT!r}, of the datatype BYTES")
    tensor = given.inputs[0]
    if len(tensor.shape) > 1 and set(tensor.shape[1:]) != {1}:
        raise HTTPException(400, f"expected the shape [n] or [n, 1], got {tensor.shape}")
    check_count(tensor.shape[0], most)
    elements: Sequence[bytes | str]
    if "binary_data_size" in tensor.parameters:
        elements = _binary_elements(rest, tensor.parameters["binary_data_size"], tensor.shape[0])
    else:
        elements = _flat(tensor.data or [])
    count = tensor.shape[0]
    if len(elements) != count or not elements:
        raise HTTPException(400, f"expected {count or 'some'} images, as its shape says, got {len(elements)}")
    return [SentImage("", one) if isinstance(one, bytes) else SentImage.from_base64("", one) for one in elements]


def _flat(data: Sequence[Any]) -> list[str]:
    found = [value for one in data for value in (one if isinstance(one, list) else [one])]
    if not all(isinstance(one, str) for one in found):
        raise HTTPException(400, "expected the bytes of images in base64 as the data of the tensor")
    return found


def _binary_elements(content: bytes, size: Any, most: int) -> list[bytes]:
    """Return the elements of a binary tensor of BYTES, each with its length before it; of more than `most` one more."""
    wrong = HTTPException(400, "expected a binary tensor of BYTES: before each element its length in 4 bytes")
    if size != len(content):
        raise wrong
    found, at = list[bytes](), 0
    while at < len(content) and len(found) <= most:
        if at + _LENGTH.size > len(content):
            raise wrong
        [length] = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size + length
        if at > len(content):
            raise wrong
        found.append(content[at - length : at])
    return found


def _wanted(given: InferBody) -> dict[str, bool]:
    """Return the outputs that are asked for, and whether each is to be binary."""
    binary = given.parameters.get("binary_data_output") is True
    if given.outputs is None:
        return dict.fromkeys(_DATATYPES, binary)
    names = [one.name for one in given.outputs]
    if unknown := [name for name in names if name not in _DATATYPES]:
        raise HTTPException(400, f"expected outputs of {', '.join(_DATATYPES)}, got {unknown[0][:100]!r}")
    return {one.name: one.parameters.get("binary_data", binary) is True for one in given.outputs}


def _tensors(model: ServedModel, outcomes: Sequence[Outcome]) -> dict[str, NDArray[Any]]:
    """Return the outputs, a row for each image; of one without an answer zeros and no text, but for its error."""
    count, n = len(model.classes), len(outcomes)
    found: dict[str, NDArray[Any]] = {
        "label": np.full(n, "", object),
        "probabilities": np.zeros((n, count + 1), np.float32),
        "vector": np.zeros((n, count), np.float32),
        "nearest": np.full(n, "", object),
        "similarity": np.zeros(n, np.float32),
        "error": np.array([one.error for one in outcomes], object),
    }
    for row, one in enumerate(outcomes):
        if one.prediction is not None:
            found["label"][row] = one.prediction.labels[0]
            found["probabilities"][row] = one.prediction.probabilities[0]
            found["vector"][row] = one.prediction.vectors[0]
            found["nearest"][row] = one.prediction.nearest[0]
            found["similarity"][row] = one.prediction.similarity[0]
    return found


def _reply(
    model: ServedModel, number: str, tensors: Mapping[str, NDArray[Any]], wanted: Mapping[str, bool]
) -> Response:
    outputs, parts = list[dict[str, Any]](), list[bytes]()
    for name, binary in wanted.items():
        values = tensors[name]
        output: dict[str, Any] = {"name": name, "datatype": _DATATYPES[name], "shape": list(values.shape)}
        if binary:
            parts.append(_as_binary(values))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = values.ravel().tolist()
        outputs.append(output)
    said = {"model_name": model.name, "model_version": model.version, "id": number, "outputs": outputs}
    if not parts:
        return Json(said)
    head = json.dumps(said).encode()
    return Response(b"".join([head, *parts]), media_type=BINARY, headers={HEAD_LENGTH: str(len(head))})


def _as_binary(values: NDArray[Any]) -> bytes:
    if values.dtype != object:
        return values.astype("<f4").tobytes()
    texts = [text.encode("utf-8", "backslashreplace") for text in values.ravel()]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
