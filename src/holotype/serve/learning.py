"""A run that learns while it is served: annotations of Label Studio are its answers, and pre-labels follow them."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Self

from anyio.to_thread import run_sync
from fastapi import HTTPException
from pydantic import BaseModel, Field

from holotype.answers.feedback import sigmoid
from holotype.answers.forms import parse_time
from holotype.answers.label_studio import IMAGE, answers_of_tasks
from holotype.errors import AnswersError, HolotypeError
from holotype.model.classifier import MODEL
from holotype.model.predictions import NONE
from holotype.review.background import Applying
from holotype.review.described import Described
from holotype.review.review import Review
from holotype.serve.labelling import read_labelling
from holotype.serve.models import ServedModel
from holotype.serve.scores import certainty
from holotype.serve.tasks import find_in_pool
from holotype.web.shared import Shared

ROUND = 10  # records after which pre-labels have another version: until then they keep their order in Label Studio
_WRITTEN = {"ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED"}
_DELETED = "ANNOTATIONS_DELETED"
_TRAIN = "START_TRAINING"
_log = logging.getLogger(__name__)


_Records = Annotated[list[dict[str, Any]], Field(fail_fast=True)]


class HookBody(BaseModel):
    """What Label Studio tells of: an action, and what it was done to. Of several annotations, each has its task."""

    action: Annotated[str, Field(max_length=100)]
    project: dict[str, Any] = {}
    annotation: dict[str, Any] | _Records = []
    task: dict[str, Any] | _Records = []
    annotations: _Records = []


class _Logged(Applying):
    """Says in the log what became of it."""

    def work(self) -> str:
        try:
            report = super().work()
        except HolotypeError as error:
            _log.warning("answers not applied", extra={"why": str(error)})
            raise
        _log.info("answers applied", extra={"report": report})
        return report


class Learning:
    """The review of the run that is served as `name`. What `take` returned from is on the disk."""

    def __init__(self, name: str, review: Review) -> None:
        self.name, self.review = name, review
        self.applying = _Logged(review, Described(review))
        self._refit = Shared(review.refit)
        self._refitting: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, models: Sequence[ServedModel]) -> Self:
        """Open the review of the one run among `models`. Raises `HolotypeError` where it is not one."""
        if len(models) != 1:
            raise HolotypeError(f"--learn takes answers into one run: expected one MODEL, got {len(models)}")
        path = models[0].path
        folder = path.parent if path.name == MODEL else path
        try:
            return cls(models[0].name, Review.open(folder))
        except HolotypeError as error:
            raise type(error)(f"--learn takes the folder of a run whose images are at hand: {error}") from error

    def close(self) -> None:
        """Close the answers, unless they are still being applied: then whoever waits for that closes them."""
        if self.applying.state != "running":
            self.review.close()

    def take(self, hook: HookBody) -> dict[str, Any]:
        """Record what a hook tells of; return what became of it. Raises `AnswersError` where nothing of it can be.

        An annotation that is changed counts as it is then; one that is emptied, skipped or deleted is taken back. What
        came before, or is older than what came since, changes nothing.
        """
        if hook.action == _TRAIN:
            return self.apply()
        if hook.action == _DELETED:
            return {"taken_back": sum(self._take_back(_start(hook, one)) for one in hook.annotations)}
        if hook.action not in _WRITTEN:
            return {"ignored": f"{hook.action} is about no answer"}
        taken, refused, key = 0, list[str](), self._key(hook)
        pairs = list(_pairs(hook))
        for annotation, task in pairs:
            try:
                taken += self._take_one(_start(hook, annotation), annotation, task, key)
            except AnswersError as error:
                refused.append(str(error))
        if refused and len(refused) == len(pairs):
            raise AnswersError("; ".join(refused))
        return {"answers": taken, "refused": refused}

    def _key(self, hook: HookBody) -> str:
        """Return what the tasks of the project have their images under."""
        with suppress(HTTPException):  # of another project, or one whose choices are not all the classes
            return read_labelling(str(hook.project.get("label_config", "")), tuple(self.review.classes)).key
        return IMAGE

    def _take_one(self, start: str, annotation: Mapping[str, Any], task: Mapping[str, Any], key: str) -> int:
        data = task.get("data")
        if not isinstance(data, dict):
            raise AnswersError("expected the data of the task with its annotation, got none")
        row, why = find_in_pool(self.review.pool, data, key)
        if row is None:
            raise AnswersError(f"the annotation is {why}; nothing was recorded")
        data = {**data, "image_id": self.review.ids[row]}
        whole = {"id": task.get("id"), "data": data, "meta": task.get("meta"), "annotations": [annotation]}
        new = answers_of_tasks(start.strip(), [whole], self.review.classes)
        stamp = str(annotation.get("updated_at") or annotation.get("created_at") or "")
        if self._is_older(start, stamp):
            return 0
        if not new:
            return self._take_back(start)
        self.review.record(new, f"{start}{stamp}")
        return len(new)

    def _is_older(self, start: str, stamp: str) -> bool:
        """Whether something later is known of the annotation whose acts begin with `start`."""
        when = parse_time(stamp)
        known = (parse_time(act.removeprefix(start)) for act in self.review.answers.acts(start))
        return any(one is not None and when is not None and one > when for one in known)

    def _take_back(self, start: str) -> int:
        """Take back all that an annotation ever said; return how many acts that were."""
        return sum(self.review.undo(act) for act in reversed(self.review.answers.acts(start)))

    def apply(self) -> dict[str, Any]:
        """Begin to do the run again with the answers, unless that goes on already: the new model is served then."""
        self.review.check()
        self.applying.start()
        return {"applying": self.applying.state}

    def follow(self) -> None:
        """Begin to learn from what was recorded; whoever wants to know more waits for `caught_up`."""
        if self._refitting is None or self._refitting.done():
            self._refitting = asyncio.create_task(self._refit())
            self._refitting.add_done_callback(_note)

    async def caught_up(self, seconds: float | None = None) -> None:
        """Return when all answers so far are learnt from, or `seconds` are over. Raises where the run is another."""
        await run_sync(self.review.check)
        if self.review.state.version == self.review.version:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._refit()
        except TimeoutError:
            _log.info("answers are still being learnt from")

    def version(self, model: ServedModel) -> str:
        """Return the version of the pre-labels of the pool: that of the model, and every `ROUND` records another."""
        learnt = self.review.state.version // ROUND * ROUND
        return f"{model.version}+{learnt}" if learnt else model.version

    def prelabel(self, row: int) -> tuple[str, float]:
        """Return what an image of the pool is taken for after the answers, and how sure that is.

        What is less sure is to be asked about next. Raises `AnswersError` where it has no vector.
        """
        refined = self.review.state.refined
        groups, decision = refined.groups, refined.groups.decision[row]
        if groups.missing[row]:
            raise AnswersError("it has no vector: it could not be read when the run was done")
        label = groups.classes[groups.label[row]] if decision in ("exemplar", "member") else NONE
        if decision == "exemplar" or row in refined.words:
            return label, 1.0
        return label, certainty(sigmoid(refined.untrusted_logits[row]), sigmoid(refined.cuts))


def _note(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.warning("answers not learnt from", extra={"why": str(error)})


def _start(hook: HookBody, annotation: Mapping[str, Any]) -> str:
    """Return what the acts of an annotation begin with: its number, in a project that is known by when it was made."""
    project, number = hook.project.get("id", 0), annotation.get("id")
    if not isinstance(number, int) or not isinstance(project, int):
        raise AnswersError("expected the number of an annotation as its id, and that of its project, got none")
    made = parse_time(str(hook.project.get("created_at") or ""))
    return f"label-studio {project}.{int(made.timestamp()) if made else 0}.{number} "


def _pairs(hook: HookBody) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each annotation with its task. Raises `AnswersError` where one has none."""
    annotations = hook.annotation if isinstance(hook.annotation, list) else [hook.annotation]
    tasks = hook.task if isinstance(hook.task, list) else [hook.task]
    if not annotations:
        raise AnswersError("expected the annotation and its task: let the webhook send its payload")
    by_number = {str(one.get("id")): one for one in tasks}
    for one in annotations:
        number = str(one.get("task"))
        if number not in by_number:
            raise AnswersError(f"expected the task {number:.20} with its annotation, got none")
        yield one, by_number[number]
