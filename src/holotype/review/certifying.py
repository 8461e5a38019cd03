"""A promise from the page: what is asked for it, and what came of it."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from holotype.answers.scored import Certified, still_holding
from holotype.errors import OutputError
from holotype.model.promises import PROMISES_FILE, Promise, read_promises
from holotype.model.saved import DESCRIPTION_FILE
from holotype.review.background import Background
from holotype.review.review import Review
from holotype.runs.certify import Certification

Stamp = tuple[tuple[int, int] | None, ...]


class Certifying(Background):
    """The classes of a run being certified: its model scores the pool once, and each look then is quick."""

    def __init__(self, review: Review) -> None:
        super().__init__(review)
        self._certification: Certification | None = None
        self._found: Sequence[Certified] = ()
        self._promised: Stamp = ()  # the files as the last look left them
        self._answers = 0  # which that look knew

    def work(self) -> str:
        """Score the pool, if this model did not yet, and promise what can be of a class, or of all together."""
        review, label = self.review, self.about["label"]
        self._found, self._answers = (), review.version
        review.check()
        with review.folder.lock("holotype review (Certify)"):
            certification = self._opened()
            labels = review.classes if label is None else [label]
            self._found = certification.attempt(
                review.answers, labels, self.about["precision"], answers=self.about["answers"]
            )
            self._promised = self.stamp
        return "\n".join(certification.lines(self._found, attrgetter("in_numbers")))

    def _opened(self) -> Certification:
        """What the model that is in the folder now says of the pool."""
        known = self._certification
        if known is not None:
            try:
                known.check()
            except OutputError:
                known = None
        if known is None:
            review = self.review
            baseline = review.folder.read_baseline(review.classes, review.pool)
            known = self._certification = Certification.open(review.folder, review.pool, baseline, self)
        return known

    @property
    def stamp(self) -> Stamp:
        """Something else whenever the model in the folder, or what is promised of it, is another."""
        found = list[tuple[int, int] | None]()
        for name in (DESCRIPTION_FILE, PROMISES_FILE):
            try:
                about = (self.review.folder.model / name).stat()
            except OSError:
                found.append(None)
            else:
                found.append((about.st_ino, about.st_mtime_ns))
        return tuple(found)

    def holding(self) -> list[Promise]:
        """What is promised now, by the page or a command, and rests on answers that are as they were."""
        return still_holding(read_promises(self.review.folder.model), self.review.answers.current())

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows: also what is to be answered, of each class in the order in which it is drawn.

        What came of the last look is none any more where the model or a promise is another since; `answered`: it does
        not know all answers. `holding`: what is promised now; not told while it runs. `goal`: what was asked for.
        """
        if self.state == "done" and self._promised != self.stamp:
            self.state, self._found = "never", ()
        found, certification = self._found, self._certification
        asked = [] if certification is None or self.state != "done" else certification.asked(found)
        ids = self.review.ids
        images: dict[str, list[dict[str, Any]]] = {}
        for row, label in asked:
            images.setdefault(label, []).append({"row": row, "id": ids[row]})
        enough = [one.decision.enough for one in found if one.decision.enough is not None]
        return super().to_json() | {
            "goal": self.about or None,
            "asked": [{"label": label, "images": some} for label, some in images.items()],
            "enough": max(enough, default=None),
            "promised": [one.label for one in found if one.promise is not None],
            "answered": self.state == "done" and self.review.version != self._answers,
            "holding": []
            if self.state == "running"
            else [{"label": one.label, "text": one.in_numbers} for one in self.holding()],
        }
