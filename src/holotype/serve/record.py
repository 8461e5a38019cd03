"""What was said of each image, kept in a file of bounded size: no image, and no name of one."""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from holotype import files
from holotype.model.predictions import DISTANCE
from holotype.serve.batching import Outcome
from holotype.serve.models import ServedModel

MOST_BYTES = 64 * 2**20  # of the file; the one before it is kept beside it, with .1 at its end
_log = logging.getLogger(__name__)


class Recorder(RotatingFileHandler):
    """Appends a line of JSON to `path` for each image that was answered; `holotype drift` reads it.

    Raises `OutputError` where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        with files.explain(path):
            super().__init__(path, maxBytes=MOST_BYTES, backupCount=1, encoding="utf-8")

    def answered(self, model: ServedModel, outcomes: Sequence[Outcome]) -> None:
        """Note what `model` said; of images that could not be read nothing is."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        for one in outcomes:
            if one.prediction is None:
                continue
            said = {
                "time": when,
                "model": model.name,
                "version": model.version,
                "label": one.prediction.labels[0],
                "probability": float(one.prediction.probabilities[0, :-1].max()),
            }
            if len(one.prediction.distances):
                said[DISTANCE] = float(one.prediction.distances[0])
            self.handle(logging.makeLogRecord({"msg": json.dumps(said, ensure_ascii=False)}))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - as logging calls it
        """Say that a line is lost, as where the disk is full: images are answered all the same."""
        _log.warning("not recorded", extra={"why": f"{self.baseFilename} cannot be written"})
