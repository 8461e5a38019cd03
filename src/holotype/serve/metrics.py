"""What is counted while models are served, for Prometheus: no image, and nothing of one, but what was said of it."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from holotype.evaluation.drift import FEW, stability_index
from holotype.model.predictions import NONE
from holotype.runs.folder import RunFolder
from holotype.serve.batching import Outcome
from holotype.serve.models import OfVersion, ServedModel

LATELY = 1000  # images of a model whose share of none, and whose scores, are told
_HIGHEST = "highest_probability"  # the column of a run's groups
_UNREADABLE = "unreadable"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The figures of one server. `waiting`: tells how many images wait or are computed."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Requests that were answered.", "method", "route", "status")
        self.seconds = Histogram(
            "holotype_request_seconds",
            "From the head of a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_images = Histogram(
            "holotype_batch_images", "Images of a batch.", buckets=(1, 2, 3, 4), registry=self.registry
        )
        self.batch_seconds = Histogram(
            "holotype_batch_seconds", "To decode and encode a batch.", buckets=_SECONDS, registry=self.registry
        )
        self.images = self._counter("images", "Images by the label that was given, or unreadable.", "model", "label")
        self.none_share = self._gauge("none_share", f"Share of none among the last {LATELY:,} images.", "model")
        self.drift = self._gauge(
            "score_drift",
            f"Population stability index of the last {LATELY:,} probabilities of the likeliest class against those of "
            "the pool; above .25 the images are others than those of the pool.",
            "model",
        )
        self.loaded = self._gauge("model_loaded_timestamp_seconds", "When a model was read.", "model", "version")
        self.refused = self._gauge("model_refused", "1 where a newer model was refused.", "model")
        self._gauge("queue_images", "Images that wait or are computed.").set_function(waiting)
        self.bodies = self._gauge("body_bytes", "Bytes of the bodies of requests that are being read or answered.")
        self._lately = OfVersion(lambda _: deque[tuple[bool, float]](maxlen=LATELY))
        self._pools = OfVersion(pool_scores)
        self._rendering = Lock()

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"holotype_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"holotype_{name}", about, labels, registry=self.registry)

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_images.observe(images)
        self.batch_seconds.observe(seconds)

    def answered(self, model: ServedModel, outcomes: Sequence[Outcome]) -> None:
        """Count what was said of images."""
        lately = self._lately.of(model)
        for one in outcomes:
            label = one.prediction.labels[0] if one.prediction else _UNREADABLE
            self.images.labels(model.name, label).inc()
            if one.prediction:
                lately.append((label == NONE, float(one.prediction.probabilities[0, :-1].max())))

    def render(self, models: Sequence[ServedModel]) -> bytes:
        """Return all figures in the text format of Prometheus."""
        with self._rendering:
            for gauge in (self.loaded, self.none_share, self.drift):
                gauge.clear()
            for model in models:
                self._tell(model)
            return generate_latest(self.registry)

    def _tell(self, model: ServedModel) -> None:
        self.loaded.labels(model.name, model.version).set(model.loaded.timestamp())
        self.refused.labels(model.name).set(bool(model.fault))
        if lately := list(self._lately.of(model)):
            self.none_share.labels(model.name).set(sum(none for none, _ in lately) / len(lately))
            self._compare(model, np.array([score for _, score in lately]))

    def _compare(self, model: ServedModel, scores: NDArray[np.float64]) -> None:
        pool = self._pools.of(model)
        if pool is not None and len(scores) >= FEW:
            self.drift.labels(model.name).set(stability_index(pool, scores))


def pool_scores(model: ServedModel) -> NDArray[np.float64] | None:
    """Return the probability of the likeliest class of each image of the pool that `model` was learnt from.

    None of a model that is not in its run, where an older release left none, or where the run knew them of less than
    half of the pool.
    """
    folder = RunFolder(model.path)
    try:
        column = pq.read_table(folder.groups, columns=[_HIGHEST])[_HIGHEST]
    except (OSError, KeyError, ValueError):
        return None
    found: NDArray[np.float64] = column.drop_null().to_numpy()
    return found if 2 * len(found) > len(column) else None
