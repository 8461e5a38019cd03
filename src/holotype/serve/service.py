"""What every protocol asks: images to what a model says of them."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import HTTPException

from holotype.serve.batching import Batching, Outcome
from holotype.serve.learning import Learning
from holotype.serve.metrics import Metrics
from holotype.serve.models import ServedModel, ServedModels
from holotype.serve.pictures import SentImage, check_count
from holotype.serve.record import Recorder
from holotype.settings import ServeSettings


class Service:
    """The models, the queue before them, and what is counted. Made within the loop that it answers in."""

    def __init__(self, models: ServedModels, settings: ServeSettings) -> None:
        self.models, self.settings = models, settings
        self.learning = Learning.open(list(models)) if settings.learn else None
        self.metrics = Metrics(lambda: self.batching.accepted)
        self.record = Recorder(Path(settings.record)) if settings.record else None
        self.batching = Batching(settings.queue, self.metrics.batch)

    def model(self, name: str) -> ServedModel:
        """Return the model called `name`. Raises `HTTPException`, 404."""
        found = self.models.get(name)
        if found is None:
            raise HTTPException(404, f"there is no model of that name here; there are {', '.join(self.names)}")
        return found

    @property
    def ready(self) -> bool:
        """Whether images are answered."""
        return self.batching.alive

    @property
    def names(self) -> list[str]:
        """What the models are called."""
        return [one.name for one in self.models]

    @property
    def most(self) -> int:
        """How many images a request may have."""
        return min(self.settings.images, self.settings.queue)

    async def predict(self, model: ServedModel, pictures: Sequence[SentImage]) -> list[Outcome]:
        """Return what `model` says of each image. Raises `HTTPException` 413, `QueueFull`, `TooLate`, `Failed`."""
        check_count(len(pictures), self.most)
        images = [one.content for one in pictures if not one.error]
        said = iter(await self.batching.answer(model, images, self.settings.seconds))
        found = [Outcome(None, one.error) if one.error else next(said) for one in pictures]
        self.metrics.answered(model, found)
        if self.record is not None:
            self.record.answered(model, found)
        return found

    def start(self) -> None:
        """Begin to look for newer models."""
        self.models.start()

    def stop(self) -> None:
        """Answer what was accepted, and end."""
        self.batching.stop()
        self.models.stop()
        if self.record is not None:
            self.record.close()
        if self.learning is not None:
            self.learning.close()
