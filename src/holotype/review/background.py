"""What a review does in a thread of its own, while the page goes on."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import Any, Literal

from holotype.errors import HolotypeError
from holotype.model.promises import read_promises
from holotype.progress import Advance
from holotype.review.described import Described
from holotype.review.outcome import Change, changes, held_images
from holotype.review.review import Review


class Background(ABC):
    """Work that is started, and followed by whoever asks; also the `Progress` that its stages tell."""

    def __init__(self, review: Review) -> None:
        self.review = review
        self.about: dict[str, Any] = {}
        self._lock = Lock()
        self._thread: Thread | None = None
        self.state: Literal["never", "running", "done", "failed"] = "never"
        self.stage, self.message, self.done, self.total = "", "", 0, 0

    @abstractmethod
    def work(self) -> str:
        """Do it; return what the page says then."""

    def start(self, **about: Any) -> None:
        """Start what `about` says, unless something runs already."""
        with self._lock:
            if self.state == "running":
                return
            self.about = about
            self.stage, self.message, self.done, self.total, self.state = "", "", 0, 0, "running"
            self._thread = Thread(target=self._run, name=type(self).__name__, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            message = self.work()
        except HolotypeError as error:
            self.message, self.state = str(error), "failed"
        except Exception:
            logging.getLogger("uvicorn.error").exception("%s failed", type(self).__name__)
            self.message, self.state = "this should not have happened; the terminal says more", "failed"
        else:
            self.message, self.state = message, "done"

    def say(self, text: str) -> None:
        """Take one line about what is happening."""
        self.stage, self.done, self.total = text, 0, 0

    @contextmanager
    def track(self, text: str, total: int) -> Iterator[Advance]:
        """Take a bar over `total` items."""
        self.stage, self.done, self.total = text, 0, total

        def advance(count: int) -> None:
            self.done += count

        yield advance

    def wait(self) -> None:
        """Return when it does not run any more."""
        if self._thread is not None:
            self._thread.join()

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {
            "state": self.state,
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "message": self.message,
        }


class Applying(Background):
    """The answers going into the groups.

    fell      classes of which something was promised until then: it was about the model before
    changes   what each class holds now, and did not before
    summary   what was found of each class, and what the predictions are worth
    """

    def __init__(self, review: Review, described: Described) -> None:
        super().__init__(review)
        self.described = described
        self.fell: list[str] = []
        self.changes: list[Change] = []
        self.summary: list[str] = []
        self._of = 0  # the version of the answers that were applied

    def work(self) -> str:
        """Do the run again; return where its report is."""
        folder, model = self.review.folder, self.review.folder.model
        self.fell, self.changes, self.summary = [], [], []
        before, self._of = read_promises(model), self.review.version
        with folder.reading():
            held = held_images(folder.groups)
        self.summary = list(self.review.apply(self).summary())
        with folder.reading():
            self.changes = changes(held, held_images(folder.groups), self.review.classes)
        after = read_promises(model)
        self.fell = [one.label for one in before if one not in after]
        return str(folder.report)

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows; `described`: the classes whose words wait for it."""
        described = list[str]()
        with suppress(HolotypeError):  # the run is gone, or being replaced: whoever starts this is told
            described = [] if self.state == "running" else self.described.changed()
        later = self.state == "done" and (self.review.version != self._of or bool(described))
        changed = [one.to_json(self.review.pool.rows) for one in self.changes]
        more = {"fell": self.fell, "changes": changed, "summary": self.summary}
        return super().to_json() | more | {"later": later, "described": described}
