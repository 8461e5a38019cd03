"""Image classification as the inference services of Hugging Face speak it: `InferenceClient(model=ADDRESS)`."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from holotype.model.predictions import NONE, Predictions
from holotype.serve.documented import RAW, ModelName, body, errors
from holotype.serve.pictures import JSON_TYPE, SentImage, beside, kind_of, parse_json, read_raw
from holotype.serve.service import Service
from holotype.web.responses import Json

Apply = Literal["softmax", "sigmoid", "none"]
_LEAST = 1e-12  # a probability whose logarithm is taken
TOP_LABELS = 5  # labels that are given where nobody says how many


class Parameters(BaseModel):
    """What a client may ask for."""

    top_k: Annotated[int, Field(ge=1)] | None = None
    function_to_apply: Apply | None = None


class ClassificationBody(BaseModel):
    """An image in JSON, in base64."""

    inputs: str
    parameters: Parameters | None = None


class Scored(BaseModel):
    """A label and its score."""

    label: str
    score: float


def scored(prediction: Predictions, parameters: Parameters) -> list[dict[str, Any]]:
    """Return the labels of one image by their scores, the greatest first; "none" is one of them.

    "softmax" gives the probabilities. Their logits are log p less that of "none": "none" gives these, "sigmoid" each
    one's own sigmoid.
    """
    scores: NDArray[np.float64] = prediction.probabilities[0]
    if parameters.function_to_apply in ("none", "sigmoid"):
        logits = np.log(np.maximum(scores, _LEAST))
        scores = logits - logits[-1]
        if parameters.function_to_apply == "sigmoid":
            scores = 1 / (1 + np.exp(-scores))
    names = [*prediction.classes, NONE]
    best = np.argsort(-scores, kind="stable")[: parameters.top_k or TOP_LABELS]
    return [{"label": names[i], "score": float(scores[i])} for i in best]


def _parse(content: bytes) -> tuple[SentImage, Parameters]:
    given = parse_json(content, ClassificationBody)
    return SentImage.from_base64("", given.inputs), given.parameters or Parameters()


def router(service: Service) -> APIRouter:
    """Return the addresses of this protocol."""
    routes = APIRouter(tags=["Hugging Face"])

    @routes.post(
        "/models/{name}",
        summary="Classify an image, as at Hugging Face: labels and scores",
        response_model=list[Scored],
        responses=errors(404, 504),
        openapi_extra=body(
            {
                JSON_TYPE: ClassificationBody,
                "application/octet-stream": RAW,
                "image/*": RAW,
            }
        ),
    )
    async def classify(name: ModelName, request: Request) -> Response:
        asked = service.model(name)
        parameters = Parameters()
        if kind_of(request) == JSON_TYPE:
            picture, parameters = await beside(await request.body(), _parse)
        else:
            picture = await read_raw(request)
        [outcome] = await service.predict(asked, [picture])
        if outcome.prediction is None:
            raise HTTPException(422, outcome.error)
        return Json(scored(outcome.prediction, parameters))

    return routes
