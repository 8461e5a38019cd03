"""The ML backend of Label Studio: pre-labels for its tasks, and its annotations as answers of the run."""

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from holotype.answers.label_studio import CHOICE, IMAGE
from holotype.errors import HolotypeError
from holotype.serve.documented import ModelName, body, errors
from holotype.serve.labelling import Labelling, read_labelling
from holotype.serve.learning import HookBody
from holotype.serve.models import ServedModel
from holotype.serve.pictures import JSON_TYPE, read_json
from holotype.serve.prelabels import Prelabels, TaskBody
from holotype.serve.service import Service
from holotype.web.responses import Json

NOT_LEARNING = {"ignored": "annotations are not taken as answers: serve the run with --learn"}
_PATIENCE = 1.0  # seconds that /setup waits for what is being learnt: Label Studio waits for 3
TASKS = 10_000  # of one request
_OURS = Labelling(CHOICE, IMAGE, IMAGE, none=True)
_Model = type[BaseModel]
_Answer = Callable[[ServedModel, Request], Awaitable[Response]]
_log = logging.getLogger(__name__)


class SetupBody(BaseModel):
    """A project begins to use the model. The token of its maker, which comes along, is not looked at."""

    project: str = ""
    labelling: str = Field("", alias="schema", description="The labelling configuration.")


class TasksBody(BaseModel):
    """Tasks that want pre-labels."""

    tasks: Annotated[list[TaskBody], Field(max_length=TASKS, fail_fast=True)]
    label_config: str = ""


class TrainBody(BaseModel):
    """What a request has that only starts something; what comes with it is not looked at."""


class HookReply(BaseModel):
    """What became of a webhook."""

    answers: int | None = Field(None, description="That were recorded.")
    refused: list[str] | None = Field(None, description="Why others were not.")
    taken_back: int | None = Field(None, description="Acts of annotations that do not hold any more.")
    applying: str | None = Field(None, description="Whether the run is being done again.")
    ignored: str | None = Field(None, description="Why nothing was done.")


class SetupReply(BaseModel):
    """Which model there is."""

    model_version: str


class TaskReply(BaseModel):
    """What is said of a task."""

    result: list[dict[str, Any]]
    score: float | None = Field(description="How sure it is: 0 at the threshold, 1 the surest.")
    model_version: str
    error: str | None = Field(None, description="Why nothing is said.")


class TasksReply(BaseModel):
    """What is said of the tasks, in their order."""

    results: list[TaskReply]
    model_version: str


class VersionsReply(BaseModel):
    """The one version that there is."""

    versions: list[str]


class _Backend:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._prelabels = Prelabels(service)

    def model(self, name: str | None) -> ServedModel:
        return self._service.models.first if name is None else self._service.model(name)

    async def setup(self, model: ServedModel, request: Request) -> Response:
        given = await read_json(request, SetupBody)
        if given.labelling:
            self._fit(given.labelling, model)
        if (learning := self._prelabels.learning(model)) is not None:
            await learning.caught_up(_PATIENCE)
        return Json({"model_version": self._prelabels.version(model)})

    def _fit(self, config: str, model: ServedModel) -> Labelling:
        """Return the control that names the classes; why there is none is logged: Label Studio shows it nobody."""
        try:
            return read_labelling(config, tuple(model.classes))
        except HTTPException as error:
            _log.warning("labelling configuration refused", extra={"model": model.name, "why": error.detail})
            raise

    async def predict(self, model: ServedModel, request: Request) -> Response:
        given = await read_json(request, TasksBody)
        labelling = self._fit(given.label_config, model) if given.label_config else _OURS
        found = await self._prelabels.of(model, given.tasks, labelling, request.is_disconnected)
        results = [one.to_json(labelling) for one in found]
        return Json({"results": results, "model_version": self._prelabels.version(model)})

    async def hook(self, model: ServedModel, request: Request) -> Response:
        given, learning = await read_json(request, HookBody), self._prelabels.learning(model)
        if learning is None:
            return Json(NOT_LEARNING)
        try:
            done = await run_sync(learning.take, given)
        except HolotypeError as error:
            _log.warning("webhook refused", extra={"action": given.action, "why": str(error)})
            raise
        learning.follow()  # Label Studio waits a second for the answer: it is not kept until this is learnt from
        _log.info("webhook taken", extra={"action": given.action, **done})
        return Json(done)

    async def train(self, model: ServedModel, request: Request) -> Response:
        await read_json(request, TrainBody)
        learning = self._prelabels.learning(model)
        return Json(NOT_LEARNING if learning is None else await run_sync(learning.apply))

    def versions(self, model: ServedModel) -> Response:
        return Json({"versions": [self._prelabels.version(model)]})


def _add(routes: APIRouter, backend: _Backend, start: str, asked: Any) -> None:
    """Add the addresses below `start`, of the model that `asked` finds."""
    found = errors(*([404] if start else []))

    def add(name: str, summary: str, sent: _Model, reply: _Model, answer: _Answer, *also: int) -> None:
        async def answered(request: Request, model: ServedModel = asked) -> Response:
            return await answer(model, request)

        routes.add_api_route(
            f"{start}/{name}",
            answered,
            methods=["POST"],
            name=name,
            summary=summary,
            response_model=reply,
            responses=found | errors(*also),
            openapi_extra=body({JSON_TYPE: sent}),
        )

    add("setup", "A project of Label Studio begins", SetupBody, SetupReply, backend.setup)
    add("predict", "Pre-labels for tasks of Label Studio", TasksBody, TasksReply, backend.predict, 504)
    add("webhook", "Annotations of Label Studio become answers", HookBody, HookReply, backend.hook, 409)
    add("train", "The run is done again with its answers", TrainBody, HookReply, backend.train, 409)

    @routes.get(f"{start}/versions", summary="The version of pre-labels", response_model=VersionsReply, responses=found)
    async def versions(model: ServedModel = asked) -> Response:
        return backend.versions(model)


def router(service: Service) -> APIRouter:
    """Return the addresses of this protocol: at the root for the model named first, and below a name for any."""
    routes, backend = APIRouter(tags=["Label Studio"]), _Backend(service)

    async def first() -> ServedModel:
        return service.models.first

    async def called(name: ModelName) -> ServedModel:
        return service.model(name)

    @routes.get("/label-studio/{name}/health", summary="Whether there is such a model", responses=errors(404))
    async def health(_: Annotated[ServedModel, Depends(called)]) -> Response:
        return Json({"status": "UP"})

    _add(routes, backend, "", Depends(first))
    _add(routes, backend, "/label-studio/{name}", Depends(called))
    return routes
