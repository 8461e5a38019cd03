"""The words that describe the classes of a run under review, and what of them waits for *Apply*."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from holotype.errors import ModelError
from holotype.model.saved import DESCRIPTION_FILE
from holotype.review.review import Review
from holotype.runs.describing import (
    LoadTower,
    Texts,
    applied_descriptions,
    describe_run,
    descriptions_of,
    undescribe_run,
)


class Described:
    """What describes each class now, and what did when the results were made; several threads may use one."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._changing, self._looking = Lock(), Lock()
        self._model: tuple[int, int] | None = None  # the one that was looked at last, and its words
        self._applied: Texts = {}
        self._read: tuple[Mapping[str, Sequence[str]], Texts] | None = None  # settings as they are, and as a run does

    def add(self, label: str, text: str, load: LoadTower) -> None:
        """Let `text` describe the class `label` too, from the next *Apply* on. Raises `HolotypeError`, as it does."""
        self._review.check()
        with self._changing:
            describe_run(self._review.folder, label, text, load)

    def remove(self, label: str, text: str) -> None:
        """Let `text` not describe it any more, from the next *Apply* on."""
        self._review.check()
        with self._changing:
            undescribe_run(self._review.folder, label, text)

    def now(self) -> Texts:
        """Return the words that the settings of the run have now, whoever wrote them there."""
        generation = self._review.generation
        generation.check()
        known, given = self._read, generation.descriptions
        if known is None or known[0] is not given:
            self._read = known = given, descriptions_of(self._review.settings, given)
        return known[1]

    def changed(self) -> list[str]:
        """Return the classes that are described by other words now than the results rest on."""
        now, applied = self.now(), self._in_results()
        return [name for name in self._review.classes if set(now[name]) != set(applied.get(name, ()))]

    def of_class(self, label: str) -> list[dict[str, Any]]:
        """Return what the page shows of a class: its words, also those that only the results rest on still.

        state   "" for what holds, "added" and "removed" for what waits for *Apply*
        """
        now, applied = self.now()[label], self._in_results().get(label, [])
        found = [{"text": one, "state": "" if one in applied else "added"} for one in now]
        return found + [{"text": one, "state": "removed"} for one in applied if one not in now]

    @property
    def stamp(self) -> str:
        """Something else whenever other words describe the classes."""
        return hashlib.sha256(json.dumps(self._review.generation.descriptions).encode()).hexdigest()[:12]

    def _in_results(self) -> Texts:
        """The words that the results rest on; where no model says so, those that the settings have."""
        path = self._review.folder.model / DESCRIPTION_FILE
        with self._looking:
            try:
                about = path.stat()
                if (seen := (about.st_ino, about.st_mtime_ns)) != self._model:
                    self._applied = applied_descriptions(self._review.folder)
                    self._model = seen
            except (ModelError, OSError):
                return self.now()
            return self._applied
