"""Our own: everything that is known of an image, and of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from holotype.model.predictions import NONE
from holotype.serve.batching import Outcome
from holotype.serve.documented import FORM_BODY, RAW, WHY, ErrorReply, ModelName, body, errors
from holotype.serve.models import ServedModel
from holotype.serve.pictures import (
    FORM,
    JSON_TYPE,
    SentImage,
    beside,
    check_count,
    kind_of,
    parse_json,
    read_form,
    read_raw,
)
from holotype.serve.service import Service
from holotype.web.responses import Json

_CURL = "application/x-www-form-urlencoded"  # what curl says of what it sends; by -d, without the ends of lines


class ModelInfo(BaseModel):
    """A model that is served."""

    name: str
    version: str = Field(description="By the content of its files.")
    classes: list[str]
    thresholds: dict[str, float] = Field(description="The probability from which each class is given.")
    encoder: str
    size: list[int] = Field(min_length=2, max_length=2, description="Height and width in pixels of what it looks at.")
    loaded: str = Field(description="When it was read (UTC).")
    promises: list[str] = Field(description="What is promised of the pool that it was learnt from.")
    fault: str = Field(description="Why what its files are now was refused; the model before answers.")


class ModelList(BaseModel):
    """All models that are served."""

    models: list[ModelInfo]


class Prediction(BaseModel):
    """What is said of one image: all of it, or an error."""

    id: str = Field(description="The name that the image came with, or its number in the request.")
    label: str | None = Field(None, description='A class, or "none".')
    vector: list[float] | None = Field(None, description="0 and 1 for each class, at most one 1.")
    probabilities: dict[str, float] | None = Field(None, description='Of each class and "none".')
    threshold: float | None = Field(None, description="Of the class that the reason is about.")
    margin: float | None = Field(None, description="Its probability less its threshold.")
    certified: str | None = Field(None, description="The class that is promised of this very image, or nothing.")
    nearest: str | None = Field(None, description="The exemplar that it is most like.")
    similarity: float | None = Field(None, description="The cosine to it.")
    distance: float | None = Field(None, description="How far it is from the images of the model's pool.")
    reason: str | None = None
    error: str | None = Field(None, description="Why this image has no answer.")


class PredictReply(BaseModel):
    """The answer, image by image, in the order of the request."""

    model: str
    version: str
    predictions: list[Prediction]


class NamedImage(BaseModel):
    """An image in JSON."""

    data: str = Field(description="Its bytes in base64.")
    id: Annotated[str, Field(max_length=1000)] | None = None


class PredictBody(BaseModel):
    """Images in JSON."""

    images: Annotated[list[NamedImage | str], Field(min_length=1, fail_fast=True)]


def thresholds_of(model: ServedModel) -> dict[str, float]:
    """Return the probability from which each class is given."""
    return dict(zip(model.classes, model.classifier.calibration_.thresholds.tolist(), strict=True))


def describe(model: ServedModel) -> dict[str, Any]:
    """Return what is told of a model."""
    classifier = model.classifier
    return {
        "name": model.name,
        "version": model.version,
        "classes": model.classes,
        "thresholds": thresholds_of(model),
        "encoder": model.encoder.name,
        "size": model.encoder.size,
        "loaded": model.loaded.isoformat(timespec="seconds"),
        "promises": [str(one) for one in classifier.promises_],
        "fault": model.fault,
    }


def as_record(name: str, outcome: Outcome, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Return what is said of an image, as `holotype predict` writes it, with the threshold of its class."""
    if outcome.prediction is None:
        return {"id": name, "error": outcome.error}
    record = next(outcome.prediction.records()) | {"id": name, "certified": outcome.prediction.certified[0]}
    del record["path"]
    likeliest = max(outcome.prediction.classes, key=record["probabilities"].__getitem__)
    about = likeliest if record["label"] == NONE else record["label"]
    return record | {"threshold": thresholds[about]}


def router(service: Service) -> APIRouter:
    """Return the addresses of this protocol."""
    routes = APIRouter(tags=["holotype"])

    @routes.get(
        "/models", summary="The models: their names, classes and versions", response_model=ModelList, responses=errors()
    )
    async def models() -> Response:
        return Json({"models": [describe(one) for one in service.models]})

    @routes.get(
        "/models/{name}",
        summary="One model: its classes, thresholds and version",
        response_model=ModelInfo,
        responses=errors(404),
    )
    async def model(name: ModelName) -> Response:
        return Json(describe(service.model(name)))

    @routes.post(
        "/models/{name}/predict",
        summary="Classify images: label, probabilities and reason",
        response_model=PredictReply,
        responses=errors(404, 504) | {422: {"description": WHY[422], "model": PredictReply | ErrorReply}},
        openapi_extra=body(
            {
                FORM: FORM_BODY,
                JSON_TYPE: PredictBody,
                "application/octet-stream": RAW,
                "image/*": RAW,
            }
        ),
    )
    async def predict(name: ModelName, request: Request) -> Response:
        asked = service.model(name)
        pictures = await _pictures(request, service.most)
        outcomes = await service.predict(asked, pictures)
        if outcomes[0].error and (hint := _hint(kind_of(request), pictures[0].content)):
            outcomes = [replace(outcomes[0], error=f"{outcomes[0].error} ({hint})")]
        thresholds = thresholds_of(asked)
        records = [as_record(one.name, outcome, thresholds) for one, outcome in zip(pictures, outcomes, strict=True)]
        reply = {"model": asked.name, "version": asked.version, "predictions": records}
        return Json(reply, 200 if any(one.prediction for one in outcomes) else 422)

    return routes


def _hint(kind: str, content: bytes) -> str:
    """Return what may be wrong with one image that is sent as it is; nothing where that is not known."""
    if content[:1] in (b"{", b"[") and kind != FORM:
        return "JSON is read where content-type is application/json, as of curl --json"
    return "curl sends a file as it is by --data-binary" if kind == _CURL else ""


async def _pictures(request: Request, most: int) -> Sequence[SentImage]:
    kind = kind_of(request)
    if kind == FORM:
        return await read_form(request, most)
    if kind != JSON_TYPE:
        return [await read_raw(request)]
    return await beside(await request.body(), lambda content: _named(content, most))


def _named(content: bytes, most: int) -> Sequence[SentImage]:
    """Return the images in JSON. Raises `HTTPException`, 413, for more than `most`."""
    images = parse_json(content, PredictBody).images
    check_count(len(images), most)
    named = [NamedImage(data=one) if isinstance(one, str) else one for one in images]
    return [
        SentImage.from_base64(str(number) if one.id is None else one.id, one.data) for number, one in enumerate(named)
    ]
