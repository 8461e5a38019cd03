"""Pre-labels: what is said of the tasks of Label Studio, as many at once as it asks for."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from anyio.to_thread import run_sync
from pydantic import BaseModel, Field

from holotype.errors import HolotypeError
from holotype.serve.batching import QueueFull
from holotype.serve.fetching import LabelStudioFiles
from holotype.serve.labelling import Labelling
from holotype.serve.learning import Learning
from holotype.serve.models import ServedModel
from holotype.serve.pictures import SentImage
from holotype.serve.scores import certainty
from holotype.serve.service import Service
from holotype.serve.tasks import TaskImage, TaskImages

_AT_ONCE = 16  # images of a request that are read, and wait, at once
_log = logging.getLogger(__name__)


class TaskBody(BaseModel):
    """A task: its number, and the data that it was imported with."""

    id: Annotated[int, Field(strict=True)] | None = None
    data: dict[str, Any] = {}


@dataclass(frozen=True)
class Prelabel:
    """What an image is taken for, how sure that is, and by which version; or why nothing can be said.

    What nothing can be said of has a version of its own: Label Studio asks about it again.
    """

    label: str = ""
    score: float | None = None
    version: str = ""
    error: str = ""

    def to_json(self, labelling: Labelling) -> dict[str, Any]:
        """Return it as Label Studio takes it."""
        if self.error:
            return {"result": [], "score": None, "model_version": f"{self.version}-failed", "error": self.error}
        return {"result": labelling.result(self.label), "score": self.score, "model_version": self.version}


class Prelabels:
    """Answers for tasks: of the pool under review by what was learnt, of all others by the model."""

    def __init__(self, service: Service) -> None:
        self._service, settings = service, service.settings
        address = settings.label_studio
        files = LabelStudioFiles(address, settings.megabytes << 20, settings.seconds) if address else None
        self._images = TaskImages(files)

    def learning(self, model: ServedModel) -> Learning | None:
        """Return what learns for `model`, if anything does."""
        found = self._service.learning
        return found if found is not None and found.name == model.name else None

    def version(self, model: ServedModel) -> str:
        """Return the version of what is said of the pool now."""
        learning = self.learning(model)
        return model.version if learning is None else learning.version(model)

    async def of(
        self,
        model: ServedModel,
        tasks: Sequence[TaskBody],
        labelling: Labelling,
        gone: Callable[[], Awaitable[bool]],
    ) -> list[Prelabel]:
        """Return what is said of each task; fewer where whoever asked is `gone` meanwhile."""
        found = list[Prelabel]()
        if (learning := self.learning(model)) is not None:
            await learning.caught_up()
        for start in range(0, len(tasks), _AT_ONCE):
            if await gone():
                break
            some = tasks[start : start + _AT_ONCE]
            ready = await run_sync(self._look_up, model, some, labelling.key)
            found += await self._predict(model, ready)
        faults = [(task.id, one.error) for task, one in zip(tasks, found, strict=False) if one.error]
        for number, why in faults[:_AT_ONCE]:
            _log.warning("task without pre-label", extra={"task": number, "why": why})
        return found

    def _look_up(self, model: ServedModel, tasks: Sequence[TaskBody], key: str) -> list[Prelabel | bytes]:
        """Return for each task what is known of it, or the bytes of its image."""
        learning = self.learning(model)
        pool = None if learning is None else learning.review.pool
        found = list[Prelabel | bytes]()
        for task in tasks:
            try:
                image = self._images.find(model, pool, task.data, key)
                found.append(self._known(model, learning, image) or image.read())
            except (HolotypeError, OSError) as error:
                found.append(Prelabel(version=self.version(model), error=str(error)))
        return found

    def _known(self, model: ServedModel, learning: Learning | None, image: TaskImage) -> Prelabel | None:
        if learning is None or image.row is None:
            return None
        label, score = learning.prelabel(image.row)
        return Prelabel(label, score, learning.version(model))

    async def _predict(self, model: ServedModel, ready: Sequence[Prelabel | bytes]) -> list[Prelabel]:
        """Put what the model says in the place of the bytes of each image."""
        pictures = [SentImage("", one) for one in ready if isinstance(one, bytes)]
        thresholds, version = model.classifier.calibration_.thresholds, self.version(model)
        said = list[Prelabel]()
        for one in await self._patiently(model, pictures) if pictures else []:
            if one.prediction is None:
                said.append(Prelabel(version=version, error=one.error))
            else:
                score = certainty(one.prediction.probabilities[0, :-1], thresholds)
                said.append(Prelabel(str(one.prediction.labels[0]), score, version))
        rest = iter(said)
        return [next(rest) if isinstance(one, bytes) else one for one in ready]

    async def _patiently(self, model: ServedModel, pictures: Sequence[SentImage]) -> list[Any]:
        """Ask the model, a few at a time, and wait where there is no room: Label Studio asks once, for many tasks."""
        service, most = self._service, self._service.most
        until, found = time.monotonic() + service.settings.seconds, list[Any]()
        while len(found) < len(pictures):
            try:
                found += await service.predict(model, pictures[len(found) : len(found) + most])
            except QueueFull as full:
                if time.monotonic() + full.seconds > until:
                    raise
                await asyncio.sleep(full.seconds)
        return found
