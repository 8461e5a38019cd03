"""The map of a review: which images are on it, where they lie, and how each stands."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.errors import AnswersError, OutputError
from holotype.filestate import regular
from holotype.review.background import Background
from holotype.review.layout import ROUNDS, SEED, Laying, Places, on_grid
from holotype.review.review import Review
from holotype.review.status import ReviewState, Rows

POINTS = 20_000  # images on a map: as many as are drawn in one frame, and laid out in the time it takes to answer some
_LATER = 2_000  # places of these that are kept free, for what is answered or found when the map is there
_CANDIDATES = 0.75  # of a map: the most likely images of each class in equal parts; the others are drawn at random
_NEAR = 5  # a later image lies amid so many that are nearest to it
_SHARPNESS = 3  # they weigh cosine ** 3
STATES = ("rejected", "doubtful", "found", "no", "unsure", "yes", "exemplar")  # the last that is so counts


@dataclass(frozen=True)
class Points:
    """Images on a map: their `rows` (m,) in the pool, and their `places` (m, 2) from 0 to 65,535."""

    rows: Rows
    places: Places

    def save(self, path: Path, vectors: NDArray[Any]) -> None:
        """Keep it in `path`, as the map of `vectors`. Raises `OutputError`."""
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {
            "rows": self.rows,
            "places": self.places,
            "digest": _digest(vectors, self.rows),
        }
        files.write(path, save(arrays))

    @classmethod
    def load(cls, path: Path, vectors: NDArray[Any]) -> "Points | None":
        """Return what was kept in `path`; None where that is not whole, or of other images or of another space."""
        from safetensors.numpy import load_file

        try:
            arrays = load_file(regular(path))
            found = cls(arrays["rows"], arrays["places"])
            same = np.array_equal(arrays["digest"], _digest(vectors, found.rows))
        except Exception:  # it is made again
            return None
        return found if same and found.places.shape == (len(found.rows), 2) else None

    def with_later(self, rows: Rows, vectors: NDArray[Any], laid_out: int) -> "Points":
        """Return it with more `rows`, each amid those that are nearest to it of the first `laid_out`."""
        known = np.asarray(vectors[self.rows[:laid_out]], np.float32)
        cosine = np.asarray(vectors[rows], np.float32) @ known.T
        count = min(_NEAR, laid_out)
        nearest = np.argpartition(cosine, laid_out - count, axis=1)[:, laid_out - count :]
        weights = np.maximum(np.take_along_axis(cosine, nearest, axis=1), 1e-3) ** _SHARPNESS
        amid = (weights[:, :, None] * self.places[nearest]).sum(axis=1) / weights.sum(axis=1)[:, None]
        places = np.concatenate([self.places, np.round(amid).astype(np.uint16)])
        return Points(np.concatenate([self.rows, rows]), places)


def _digest(vectors: NDArray[Any], rows: Rows) -> NDArray[np.uint8]:
    """What the map of `rows` rests on: the same images in the same space, laid out in the same way."""
    found = hashlib.sha256(f"{SEED} {ROUNDS}".encode())
    found.update(np.ascontiguousarray(rows, np.int64).tobytes())
    found.update(np.ascontiguousarray(vectors[rows]).tobytes())
    return np.frombuffer(found.digest(), np.uint8)


def choose(
    usable: NDArray[np.bool_],
    first: Rows,
    logits: NDArray[np.float64],
    numbers: NDArray[np.float64],
    most: int = POINTS - _LATER,
) -> Rows:
    """Return at most `most` rows for a map, in order: `first`, the most likely of each class, some of the rest.

    usable    (n,) bool: may be on it
    logits    (n, K) how likely each row shows each class
    numbers   (n,) random numbers that stay with the images: a larger pool, or a second map, has the same of them
    """
    share = int(most * _CANDIDATES) // logits.shape[1]
    order = np.argsort(np.where(usable[:, None], -logits, np.inf), axis=0, kind="stable")
    place = np.full(len(logits), share)
    for column in order[:share].T:
        place[column] = np.minimum(place[column], np.arange(len(column)))
    late = np.ones(len(logits), np.bool_)
    late[first] = False
    taken = np.lexsort((numbers, place, late))
    return np.sort(taken[usable[taken]][:most])


class Atlas(Background):
    """The map of a review, laid out once, while the page goes on; several threads may use it."""

    def __init__(self, review: Review) -> None:
        super().__init__(review)
        self._turn = Lock()
        self._laying: Laying | None = None
        self._stopped = False
        self._points: Points | None = None
        self._laid_out = 0

    def start(self, **about: Any) -> None:
        """Have the map made, unless it is there or on its way; what was kept is there at once."""
        if self._points is None:
            super().start(**about)

    def stop(self) -> None:
        """End what runs: whoever opens the run next begins anew."""
        self._stopped = True
        if self._laying is not None:
            self._laying.stop()
        self.wait()

    def work(self) -> str:
        """Take the map that was kept, or have one laid out and keep it; return why it could not be kept."""
        baseline, path, note = self.review.state.baseline, self.review.folder.map, ""
        points = Points.load(path, baseline.vectors)
        if points is None:
            points = self._lay_out(baseline.vectors)
            try:
                points.save(path, baseline.vectors)
            except OutputError as error:
                note = f"The map is not kept for the next time: {error}"
        open_ = ~np.isin(points.rows, list(baseline.held_out))  # the test set may be another by now
        self._points, self._laid_out = Points(points.rows[open_], points.places[open_]), int(open_.sum())
        return note

    def _lay_out(self, vectors: NDArray[Any]) -> Points:
        rows = self._choose()
        self._laying = Laying(vectors[rows])
        if self._stopped:
            self._laying.stop()
        with self.track("", ROUNDS) as advance:
            return Points(rows, on_grid(self._laying.places(advance)))

    def _choose(self) -> Rows:
        state, pool = self.review.state, self.review.pool
        usable = ~state.baseline.groups.missing
        usable[list(state.baseline.held_out)] = False
        answered = [pool.rows[one.id] for one in self.review.matched.answers]
        first = np.array([*answered, *state.baseline.exemplar_rows], np.int64)
        return choose(usable, first, state.refined.logits, state.baseline.numbers)

    def points(self, start: int = 0) -> dict[str, Any]:
        """Return the points from `start` on, rows and places as little-endian uint32 and uint16 in base64.

        total   images of the pool
        """
        points = self._known()
        rows, places = _base64(points.rows[start:], "<u4"), _base64(points.places[start:], "<u2")
        return {"rows": rows, "places": places, "count": len(points.rows), "total": len(self.review)}

    def states(self, label: str) -> dict[str, Any]:
        """Return how each point stands to the class `label`, a digit each: a place in `STATES`.

        What was answered or found and is not on the map yet is put on it, amid what is like it.
        """
        state, k = self.review.state, self.review.classes.index(label)
        points = self._with_later()
        found = stand(state, k, {self.review.pool.rows[one]: how for one, how in self.review.known(label).items()})
        return {"states": (found[points.rows] + np.uint8(ord("0"))).tobytes().decode(), "count": len(points.rows)}

    def images(self, label: str, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return what is known of `rows`, and what was answered about them by the class `label`."""
        ids, known, refined = self.review.ids, self.review.known(label), self.review.state.refined
        return [
            {"row": row, "id": ids[row], "why": refined.reason(row), "verdict": known.get(ids[row], "")} for row in rows
        ]

    def _known(self) -> Points:
        if self._points is None:
            raise AnswersError("there is no map yet: it is to be asked for first")
        return self._points

    def _with_later(self) -> Points:
        """Return the points, with those that count by now."""
        review, state = self.review, self.review.state
        answered = [review.pool.rows[one.id] for one in review.matched.answers]
        found = [state.refined.groups.found(k) for k in range(len(review.classes))]
        with self._turn:
            points = self._known()
            wanted = np.concatenate([np.array([*answered, *state.baseline.exemplar_rows], np.int64), *found])
            out = {
                *points.rows.tolist(),
                *state.baseline.held_out,
                *np.flatnonzero(state.baseline.groups.missing).tolist(),
            }
            later = [row for row in dict.fromkeys(wanted.tolist()) if row not in out][: POINTS - len(points.rows)]
            if later:
                vectors = state.baseline.vectors
                points = self._points = points.with_later(np.array(later, np.int64), vectors, self._laid_out)
            return points


def stand(state: ReviewState, k: int, known: Mapping[int, str]) -> NDArray[np.uint8]:
    """Return (n,) how each row stands to class `k`, as a place in `STATES`.

    known   what was answered about rows; an exemplar is one of them
    """
    groups = state.refined.groups
    found = np.zeros(len(groups.label), np.uint8)
    for decision in ("doubtful", "found"):
        of = "member" if decision == "found" else decision
        found[(groups.label == k) & (groups.decision == of)] = STATES.index(decision)
    for row, how in known.items():
        if how in STATES:
            found[row] = STATES.index(how)
    return found


def _base64(values: NDArray[Any], kind: str) -> str:
    return b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()
