"""The images of all requests in one queue, which as many threads as there are cores empty a few images at a time."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from threading import Condition, Thread

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.encode import NO_VECTOR, one_thread_a_matrix
from holotype.encoders.runtimes import BATCH, cores
from holotype.errors import HolotypeError, UnreadableImage
from holotype.model.predictions import Predictions
from holotype.pool.images import Pixels, is_ordinary
from holotype.pool.pool import digest_of
from holotype.serve.models import ServedModel

_ALONE = 1.0  # seconds in which no two images were there at once, after which every core works on one


class QueueFull(HolotypeError):
    """There is no room for the images of a request now; in so many `seconds` there may be."""

    def __init__(self, why: str, seconds: int) -> None:
        super().__init__(f"{why}: try again in {seconds} s")
        self.seconds = seconds


class TooLate(HolotypeError):
    """A request was not answered in the time that it has."""


class Failed(HolotypeError):
    """An image has no answer by a fault that is not its own."""


@dataclass(frozen=True)
class Outcome:
    """What is said of one image: its prediction (a single row), or the reason why there is none."""

    prediction: Predictions | None
    error: str = ""


@dataclass(eq=False)
class _Waiting:
    """One image of a request; `pixels` where it was decoded apart."""

    model: ServedModel
    source: bytes
    until: float
    future: "asyncio.Future[Outcome]"
    pixels: Pixels | None = None

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done() or time.monotonic() > self.until


class Batching:
    """Answers images in the order in which they came, whichever request and model they are of.

    room      images that may wait, or be computed, at once
    told      is told of each batch: how many images it had, and the seconds that it took

    A thread takes what waits, a few images at most, and never waits for more: on a processor a full batch takes as
    long for each image as a single one (docs/performance.md#serving), so waiting would only make answers late.
    Never more threads compute than there are cores, however many models there are. All cores work on one image where
    none came beside another lately: beside others that would make both late. What no ordinary image is, is
    decoded by a process of its own, and a thread of its own waits for that: others do not wait behind it.
    """

    def __init__(self, room: int, told: Callable[[int, float], object] = lambda _images, _seconds: None) -> None:
        self.room = room
        self._told = told
        self._jobs, self._large = deque[_Waiting](), deque[_Waiting]()
        self._changed = Condition()
        self._accepted, self._stopping = 0, False
        self._crowded = -_ALONE  # when more than one image was there, last
        self._rate = 0.0  # images a second of one thread, lately
        self._workers = cores()
        self._matrices = ExitStack()
        self._matrices.enter_context(one_thread_a_matrix())
        names = [f"batch-{number}" for number in range(self._workers)]
        self._threads = [Thread(target=self._compute, name=name, daemon=True) for name in names]
        self._threads.append(Thread(target=self._decode_large, name="batch-large", daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def accepted(self) -> int:
        """How many images wait, or are being computed."""
        return self._accepted

    @property
    def alive(self) -> bool:
        """Whether all threads are there."""
        return all(thread.is_alive() for thread in self._threads)

    async def answer(self, model: ServedModel, sources: Sequence[bytes], seconds: float) -> list[Outcome]:
        """Return what is said of each image, within `seconds`. Raises `QueueFull`, `TooLate`, `Failed`."""
        loop, until = asyncio.get_running_loop(), time.monotonic() + seconds
        jobs = [_Waiting(model, source, until, loop.create_future()) for source in sources]
        self._accept(jobs)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.gather(*(job.future for job in jobs))
        except TimeoutError:
            raise TooLate(f"not answered within {seconds:g} s: try again, or with fewer images at once") from None

    def _accept(self, jobs: Sequence[_Waiting]) -> None:
        with self._changed:
            if self._stopping:
                raise QueueFull("the server is being stopped", 1)
            if self._accepted + len(jobs) > self.room:
                raise QueueFull(f"{self._accepted} images wait, and there is room for {self.room}", self._patience())
            self._accepted += len(jobs)
            if self._accepted > 1:
                self._crowded = time.monotonic()
            self._jobs.extend(jobs)
            self._changed.notify_all()

    def _patience(self) -> int:
        """Seconds in which half of what waits should be done."""
        rate = self._rate * self._workers
        return max(1, min(30, round(self._accepted / rate / 2))) if rate else 1

    def stop(self) -> None:
        """Answer what was accepted, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._matrices.close()

    def _over(self) -> bool:
        return self._stopping and not self._accepted

    def _compute(self) -> None:
        while batch := self._take():
            began = time.monotonic()
            ready = [job for job in batch if not self._set_apart(job) and self._decode(job)]
            if ready:
                self._finish(zip(ready, self._said(ready), strict=True))
            seconds = max(time.monotonic() - began, 1e-6)
            with self._changed:
                self._rate += 0.1 * (len(batch) / seconds - self._rate)
            self._told(len(batch), seconds)

    def _take(self) -> list[_Waiting]:
        """Return some images for one encoder: as many as every thread may have by what waits. None when all is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._over())
            most = min(BATCH, -(-len(self._jobs) // self._workers))
            taken, passed = list[_Waiting](), list[_Waiting]()
            while self._jobs and len(taken) < most and len(passed) < BATCH * self._workers:
                job = self._jobs.popleft()
                same = not taken or job.model.encoder is taken[0].model.encoder
                (taken if same else passed).append(job)
            self._jobs.extendleft(reversed(passed))
            return taken

    def _set_apart(self, job: _Waiting) -> bool:
        """Leave an image that is no ordinary one to the thread that waits for its process; return whether it was."""
        try:
            if job.pixels is not None or job.given_up or is_ordinary(job.source, fit=max(job.model.encoder.size)):
                return False
        except Exception as error:
            self._finish([(job, _failed(error))])
            return True
        with self._changed:
            self._large.append(job)
            self._changed.notify_all()
        return True

    def _decode(self, job: _Waiting) -> bool:
        """Decode the image of a job, if that is still to be done. What has no pixels is finished, with the reason."""
        outcome: Outcome | Failed
        try:
            if not job.given_up:
                job.pixels = job.model.encoder.prepare(job.source) if job.pixels is None else job.pixels
                return True
            outcome = Outcome(None, "nobody waits for it any more")
        except (UnreadableImage, OSError) as error:
            outcome = Outcome(None, str(error))
        except Exception as error:
            outcome = _failed(error)
        self._finish([(job, outcome)])
        return False

    def _said(self, ready: Sequence[_Waiting]) -> Sequence[Outcome | Failed]:
        """Return what is said of decoded images for one encoder. A fault that is not theirs is told to each."""
        try:
            pixels = np.stack([job.pixels for job in ready if job.pixels is not None])
            busy = time.monotonic() - self._crowded < _ALONE
            features = ready[0].model.encoder.encode(pixels, busy=busy)
            return _predicted(ready, features)
        except Exception as error:
            return [_failed(error)] * len(ready)

    def _decode_large(self) -> None:
        while job := self._take_large():
            if self._decode(job):
                with self._changed:
                    self._jobs.appendleft(job)
                    self._changed.notify_all()

    def _take_large(self) -> _Waiting | None:
        with self._changed:
            self._changed.wait_for(lambda: self._large or self._over())
            return self._large.popleft() if self._large else None

    def _finish(self, found: Iterable[tuple[_Waiting, Outcome | Failed]]) -> None:
        """Tell each request what was found, in the loop that it waits in."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Outcome | Failed]]] = {}
        for one in found:
            loops.setdefault(one[0].future.get_loop(), []).append(one)
        with self._changed:
            self._accepted -= sum(map(len, loops.values()))
            self._changed.notify_all()
        for loop, some in loops.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_tell, some)


def _tell(found: Iterable[tuple[_Waiting, Outcome | Failed]]) -> None:
    for job, outcome in found:
        if job.future.done():  # given up
            continue
        if isinstance(outcome, Failed):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)


def _failed(error: Exception) -> Failed:
    """Log what went wrong, and return what those who asked are told."""
    logging.getLogger(__name__).error("an image has no answer", exc_info=error)
    why = str(error) if isinstance(error, HolotypeError) else "the log of the server says more"
    return Failed(f"this should not have happened: {why}")


def _predicted(jobs: Sequence[_Waiting], features: NDArray[np.float32]) -> list[Outcome]:
    """Return what is said of images by their features (n, dim), each by the model that was asked."""
    found: list[Outcome] = [Outcome(None, NO_VECTOR)] * len(jobs)
    finite = np.asarray(np.isfinite(features).all(axis=1))
    for model in dict.fromkeys(job.model for job in jobs):
        rows = [row for row, job in enumerate(jobs) if job.model is model and finite[row]]
        digests = [digest_of(jobs[row].source) for row in rows] if model.classifier.promises_ else ()
        predictions = model.classifier.predict_features([""] * len(rows), features[rows], digests)
        for place, row in enumerate(rows):
            found[row] = Outcome(predictions[np.array([place])])
    return found
