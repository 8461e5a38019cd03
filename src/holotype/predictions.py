"""Predictions: parallel arrays, one entry per image, validated and sliceable."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE = "none"


@dataclass(frozen=True)
class Predictions:
    """The answers for n images and K classes.

    ids            (n,) str
    classes        (K,) the classes' names, without "none"
    probabilities  (n, K + 1) float64, at the pool's prior; the last column is "none"
    thresholds     (K,) probability from which a class is given
    nearest        (n,) the exemplar most similar to the image
    similarity     (n,) its cosine in the model space
    """

    ids: Sequence[str]
    classes: Sequence[str]
    probabilities: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    nearest: Sequence[str]
    similarity: NDArray[np.float64]

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
        )

    @property
    def margins(self) -> NDArray[np.float64]:
        """(n, K) probability minus threshold; the class of the greatest margin at or above zero is given."""
        return self.probabilities[:, :-1] - self.thresholds

    @property
    def vectors(self) -> NDArray[np.float64]:
        """(n, K) of 0.0 and 1.0, at most one 1.0 in a row; all zeros is "none"."""
        best = self.margins.argmax(axis=1)
        vectors = np.zeros((len(self), len(self.classes)))
        found = self.margins.max(axis=1) >= 0
        vectors[found, best[found]] = 1.0
        return vectors

    @property
    def labels(self) -> list[str]:
        """(n,) a class, or "none"."""
        return [self.classes[v.argmax()] if v.any() else NONE for v in self.vectors]

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one plain dictionary per image, with the reason in words."""
        for i, (label, vector, margin) in enumerate(zip(self.labels, self.vectors, self.margins, strict=True)):
            best = int(margin.argmax())
            verb = "reaches" if label != NONE else "stays below"
            yield {
                "id": self.ids[i],
                "label": label,
                "vector": vector.tolist(),
                "probabilities": dict(zip([*self.classes, NONE], self.probabilities[i].tolist(), strict=True)),
                "margin": float(margin[best]),
                "nearest": self.nearest[i],
                "similarity": float(self.similarity[i]),
                "reason": f"p({self.classes[best]}) = {self.probabilities[i, best]:.3f} {verb} its threshold "
                f"{self.thresholds[best]:.3f}; nearest exemplar {self.nearest[i]}, cosine {self.similarity[i]:.3f}",
            }

    def to_csv(self) -> str:
        """One line per image: id, label, one column per class (0.0/1.0), probability per class, margin, reason."""
        names = [*self.classes, NONE]
        buffer = io.StringIO()
        table = csv.writer(buffer, lineterminator="\n")
        table.writerow(["id", "label", *self.classes, *(f"p_{name}" for name in names), "margin", "reason"])
        for record in self.records():
            chances = (f"{record['probabilities'][name]:.6f}" for name in names)
            table.writerow(
                [
                    record["id"],
                    record["label"],
                    *record["vector"],
                    *chances,
                    f"{record['margin']:.6f}",
                    record["reason"],
                ]
            )
        return buffer.getvalue()
