"""Predictions: parallel arrays, one entry per image, validated and sliceable."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from holotype.model.promises import CERTIFIED, Promise, certified
from holotype.names import printable

NONE = "none"
DISTANCE = "distance"
Layout = Literal["jsonl", "csv", "table"]


@dataclass(frozen=True)
class Predictions:
    """The predictions for n images and K classes.

    ids            (n,) str
    classes        (K,) the classes' names, without "none"
    probabilities  (n, K + 1) float64, at the pool's prior; the last column is "none"
    thresholds     (K,) probability from which a class is given
    nearest        (n,) the exemplar most similar to the image
    similarity     (n,) its cosine in the model space
    distances      (n,) 1 - cosine to the nearest image of a sample of the model's pool; nothing where there is none
    promises       what is promised of classes, about the pool that each was drawn from
    digests        (n,) SHA-256 of each image's content, by which it is known whether it is promised; "" where unknown
    paths          (n,) where each image lies; "" where unknown
    """

    ids: Sequence[str]
    classes: Sequence[str]
    probabilities: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    nearest: Sequence[str]
    similarity: NDArray[np.float64]
    promises: Sequence[Promise] = ()
    digests: Sequence[str] = ()
    paths: Sequence[str] = ()
    distances: Sequence[float] | NDArray[np.float64] = ()

    def __post_init__(self) -> None:
        n, k = len(self.ids), len(self.classes)
        shapes = (self.probabilities.shape, self.thresholds.shape, len(self.nearest), self.similarity.shape)
        if shapes != ((n, k + 1), (k,), n, (n,)):
            raise ValueError(f"expected arrays for {n} images and {k} classes, got shapes {shapes}")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: NDArray[Any]) -> "Predictions":
        """Return the predictions of `rows` (indices or a mask)."""
        index = np.arange(len(self))[rows]
        return Predictions(
            [self.ids[i] for i in index],
            self.classes,
            self.probabilities[index],
            self.thresholds,
            [self.nearest[i] for i in index],
            self.similarity[index],
            self.promises,
            [self.digests[i] for i in index] if self.digests else (),
            [self.paths[i] for i in index] if self.paths else (),
            [self.distances[i] for i in index] if len(self.distances) else (),
        )

    @property
    def margins(self) -> NDArray[np.float64]:
        """(n, K) probability minus threshold; the class of the greatest margin at or above zero is given."""
        return self.probabilities[:, :-1] - self.thresholds

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """(n,) number of the class that is given; K, the number after the last, is "none"."""
        return classified(self.probabilities, self.thresholds)

    @property
    def vectors(self) -> NDArray[np.float64]:
        """(n, K) of 0.0 and 1.0, at most one 1.0 in a row; all zeros is "none"."""
        return np.eye(len(self.classes) + 1)[self.numbers, :-1]

    @cached_property
    def labels(self) -> list[str]:
        """(n,) a class, or "none"."""
        names = [*self.classes, NONE]
        return [names[number] for number in self.numbers]

    @cached_property
    def certified(self) -> list[str]:
        """(n,) the class that is promised of each image; nothing where it is none of those that were promised."""
        return certified(self.promises, self.digests or [""] * len(self))

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one plain dictionary per image, with the reason in words; "certified" where anything is promised."""
        promised = self.certified
        likeliest = self.probabilities[:, :-1].argmax(axis=1) if len(self) else self.numbers
        chosen = np.where(self.numbers < len(self.classes), self.numbers, likeliest).tolist()
        for i, (label, vector, margin) in enumerate(zip(self.labels, self.vectors, self.margins, strict=True)):
            best = chosen[i]
            verb = "reaches" if label != NONE else "stays below"
            yield {
                "id": self.ids[i],
                "label": label,
                **({CERTIFIED: promised[i]} if self.promises else {}),
                "vector": vector.tolist(),
                "probabilities": dict(zip([*self.classes, NONE], self.probabilities[i].tolist(), strict=True)),
                "margin": float(margin[best]),
                "nearest": self.nearest[i],
                "similarity": float(self.similarity[i]),
                "reason": f"p({self.classes[best]}) = {self.probabilities[i, best]:.3f} {verb} its threshold "
                f"{self.thresholds[best]:.3f}; nearest exemplar {self.nearest[i]}, cosine {self.similarity[i]:.3f}",
                "path": self.paths[i] if self.paths else "",
                **({DISTANCE: float(self.distances[i])} if len(self.distances) else {}),
            }

    def to_csv(self) -> str:
        """One line per image, as `lines` writes them."""
        known = bool(len(self.distances))
        return "".join(lines(self.records(), self.classes, "csv", promised=bool(self.promises), distances=known))


def classified(probabilities: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return (n,) class numbers: of the class furthest above its threshold; K, "none", where all are below.

    probabilities   (n, K + 1), "none" last; thresholds   (K,)
    """
    if not len(probabilities):
        return np.zeros(0, np.int64)
    margins = probabilities[:, :-1] - thresholds
    return np.where(margins.max(axis=1) >= 0, margins.argmax(axis=1), len(thresholds))


def lines(
    records: Iterable[Mapping[str, Any]],
    classes: Sequence[str],
    layout: Layout,
    encoding: str = "utf-8",
    *,
    promised: bool = False,
    distances: bool = False,
) -> Iterator[str]:
    """Yield one line per record; an unreadable image is a record of "id" and "error", and has its line too.

    `encoding`: what the lines are written in; JSON escapes in its own way what another than UTF-8 may not have.

    "csv" has a header: id, label, one column per class (0.0/1.0), a probability per class and none, margin, reason,
    path; with `promised`, certified behind the label; with `distances`, distance behind the path.
    "table" is for the eye: a control character is escaped, as `\\n` is.
    """
    if layout == "csv":
        names = [*classes, *(f"p_{name}" for name in [*classes, NONE])]
        last = ["margin", "reason", "path", *([DISTANCE] if distances else [])]
        yield csv_line(["id", "label", *([CERTIFIED] if promised else []), *names, *last])
    for record in records:
        if layout == "jsonl":
            yield json.dumps(record, ensure_ascii=encoding.lower().replace("-", "") != "utf8") + "\n"
        elif layout == "csv":
            cells = _cells(record, len(classes), promised=promised)
            yield csv_line([*cells, *([_distance(record)] if distances else [])])
        else:
            yield _table_line(record)


def _table_line(record: Mapping[str, Any]) -> str:
    if "error" in record:
        text = f"{record['id']}  unreadable: {record['error']}"
    else:
        promised = f"  {CERTIFIED} {record[CERTIFIED]}" if record.get(CERTIFIED) else ""
        text = f"{record['id']}  {record['label']}{promised}  {record['vector']}  {record['reason']}"
    return printable(text.encode(errors="backslashreplace").decode()) + "\n"


def _cells(record: Mapping[str, Any], count: int, *, promised: bool) -> list[Any]:
    if "error" in record:
        why = f"unreadable: {record['error']}"
        return [record["id"], *[""] * (2 * count + 3 + promised), why, record.get("path", "")]
    probabilities = [f"{value:.6f}" for value in record["probabilities"].values()]
    return [
        record["id"],
        record["label"],
        *([record[CERTIFIED]] if promised else []),
        *record["vector"],
        *probabilities,
        f"{record['margin']:.6f}",
        record["reason"],
        record["path"],
    ]


def _distance(record: Mapping[str, Any]) -> str:
    return f"{record[DISTANCE]:.6f}" if DISTANCE in record else ""


def csv_line(cells: Sequence[Any]) -> str:
    """Return one line of a CSV; cells with line ends of any kind come back as they were."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)  # it quotes only what is in its line's end
    return buffer.getvalue().removesuffix("\r\n") + "\n"
