"""Images as a review gives them: asked about, listed, alike, found by words, or standing for a class."""

from dataclasses import dataclass

from holotype.review.status import Part


@dataclass(frozen=True)
class Question:
    """Does the image `id` show the class `label`?

    audit   asked as part of the random audit; who answers is not to be told
    score   the estimated probability
    why     that the image is found so far, in words; "" where it is not, as most are
    """

    row: int
    id: str
    label: str
    audit: bool
    score: float
    why: str


@dataclass(frozen=True)
class Item:
    """An image in the gallery of a class: `verdict` is what was answered, `reason` why it is where it is."""

    row: int
    id: str
    score: float
    part: Part
    verdict: str | None
    reason: str


@dataclass(frozen=True)
class Shown:
    """An exemplar; `number` counts those of all classes, `row` is None for a picture from outside the pool."""

    number: int
    row: int | None
    name: str


@dataclass(frozen=True)
class FoundByWords:
    """An image of the pool that words find: `score` deviations above the pool's median; `verdict` as in `Neighbour`."""

    row: int
    id: str
    score: float
    verdict: str


@dataclass(frozen=True)
class Neighbour:
    """An image of the pool that is like another one: their `cosine`, and what was answered by a class ("" for nothing).

    Where it is an exemplar of the class, `verdict` says so.
    """

    row: int
    id: str
    cosine: float
    verdict: str
