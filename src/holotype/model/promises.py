"""Promises that were made for a saved model: they lie beside it, and are about it alone."""

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from holotype.checksums import digest_of_values
from holotype.errors import ModelError
from holotype.filestate import regular
from holotype.names import counted

PROMISES_FILE = "promises.json"  # beside the model's own files
_DIGITS = 16  # of a digest, by which an image that is promised is known
_WIDE = 0.3  # an interval of which it is said
CERTIFIED = "certified"  # what it is called in a file of predictions

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RecallEstimate(_Part):
    """An estimate of how many of a class's images are among those that are promised, from `asked` others.

    value   the likeliest; low, high: with the confidence of the promise
    """

    value: Share
    low: Share
    high: Share
    asked: Count

    def __str__(self) -> str:
        low, high = math.floor(100 * self.low) / 100, math.ceil(100 * self.high) / 100
        wide = ": that is wide, and more answers make it narrower" if high - low > _WIDE else ""
        return (
            f"Estimated, not promised: {_percent(round(self.value, 2))} of the pool's images of the class are among "
            f"them, {_percent(low)} to {_percent(high)} by {counted(self.asked, 'answer')} about others{wide}"
        )


class Promise(_Part):
    """Of the images of a pool that a model gives a class with a probability of `threshold` or more.

    label       the class; an image counts for its likeliest class
    precision   of these images at least so many show it, with the `confidence`: that is the promise
    together    so many classes were promised at once, and all of it holds with the confidence
    covered     how many images of the pool that is; `among`: how many it was drawn from
    asked, yes  of so many, drawn at random, so many were said to show it
    sample      the images that this rests on, by the SHA-256 of their content, and whether they were said to show it
    who         whose answers these are
    pool        what the images were called together, `images` a digest of their contents, `date` when (UTC)
    contents    the images that are promised: the first 16 digits of each one's SHA-256, sorted, one after the other
    earlier     whether an earlier model chose them: what is promised of images holds, whatever model came since
    """

    label: str
    precision: Share
    confidence: Share
    together: Annotated[int, Field(ge=1)]
    threshold: Share
    covered: Count
    among: Count
    asked: Count
    yes: Count
    sample: dict[Digest, bool]
    who: list[str]
    pool: str
    images: Digest
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    contents: Annotated[str, Field(pattern="^([0-9a-f]{16})*$")] = ""
    recall: RecallEstimate | None = None
    earlier: bool = False

    def __str__(self) -> str:
        gives = "an earlier model gave" if self.earlier else "the model gives"
        return (
            f"{self.label}: {self.brief}: those of {self.pool} that {gives} it with a "
            f"probability of {self.threshold:.3g} or more ({self.yes:,} of {self.asked:,} drawn at random show it, by "
            f"the answers of {self.answered_by}, {self.date})"
        )

    @cached_property
    def promised(self) -> frozenset[str]:
        """The images that it is about, as `contents` has them."""
        return frozenset(self.contents[at : at + _DIGITS] for at in range(0, len(self.contents), _DIGITS))

    def lies_in(self, digests: Iterable[str]) -> bool:
        """Whether all images that are promised are among those with these digests."""
        return bool(self.promised) and self.promised <= {digest[:_DIGITS] for digest in digests}

    @property
    def in_numbers(self) -> str:
        """What it says, in numbers of images, as one reads it who answered about some of them."""
        least = math.ceil(round(self.precision * self.covered, 9))
        at_once = "" if self.together == 1 else f" for all {self.together} classes together"
        did = "all" if self.yes == self.asked else f"{self.yes:,}"
        return (
            f"{self.label}: {counted(self.covered, 'image')}, from a probability of {self.threshold:.3g} on"
            f"{' by an earlier model' if self.earlier else ''}. At least "
            f"{least:,} of them show it ({_percent(self.precision)}, with {_percent(self.confidence)} "
            f"confidence{at_once}). {self.asked:,} of them were drawn at random and answered: {did} show it"
        )

    @property
    def goal(self) -> tuple[float, float, int]:
        """What was asked for: precision, confidence, and how many classes together."""
        return self.precision, self.confidence, self.together

    @property
    def brief(self) -> str:
        """What it says, without the class and what it rests on."""
        at_once = "" if self.together == 1 else f" for all {self.together} classes together"
        return (
            f"at least {_percent(self.precision)} of {counted(self.covered, 'image')} show it, with "
            f"{_percent(self.confidence)} confidence{at_once}"
        )

    @property
    def answered_by(self) -> str:
        """Whose answers it rests on, in words."""
        return ", ".join(one or "somebody" for one in self.who) or "nobody"


class Promises(_Part):
    """What promises.json holds.

    model    SHA-256 of the model.json that they are about
    digest   of all that stands here but the digest itself
    """

    format: Literal[1] = 1
    model: Digest
    promises: list[Promise]
    digest: Digest | None = None

    def to_json(self) -> str:
        """Return the text of the file, with its digest."""
        values = self.model_dump(mode="json", exclude={"digest"})
        return json.dumps(values | {"digest": digest_of_values(values)}, indent=1)

    @classmethod
    def read(cls, content: bytes, model: str, classes: Sequence[str], where: str) -> Self:
        """Return what a file holds. Raises `ModelError` where it is damaged, or about another model than `model`."""
        try:
            digest = digest_of_values(json.loads(content))
            found = cls.model_validate_json(content)
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it cannot be read"
            raise ModelError(f"{_place(where)} is damaged ({fault}); {_REMOVE}") from None
        if found.digest != digest:
            raise ModelError(f"{_place(where)} is not as it was written; {_REMOVE}")
        if found.model != model:
            raise ModelError(f"{_place(where)} is about another model than the one beside it; {_REMOVE}")
        labels = [one.label for one in found.promises]
        if len({*labels}) < len(labels) or not {*labels} <= {*classes}:
            raise ModelError(f"{_place(where)} is about other classes than the model's; {_REMOVE}")
        return found


_REMOVE = "copy the folder again, or remove this file: then nothing is promised"


def _place(where: str) -> str:
    return f"{where}/{PROMISES_FILE}"


def joined(digests: Iterable[str]) -> str:
    """Return the `contents` of a promise about the images with these digests."""
    return "".join(sorted({digest[:_DIGITS] for digest in digests}))


def certified(promises: Iterable[Promise], digests: Iterable[str]) -> list[str]:
    """Return the class that is promised of each image by the digest of its content, "" where none is.

    How probable a class is does not tell: of an image that was not in the pool nothing is promised.
    """
    promises = list(promises)
    return [next((one.label for one in promises if digest[:_DIGITS] in one.promised), "") for digest in digests]


def read_promises(model: Path) -> list[Promise]:
    """Return what was promised of the saved model in the folder `model`, as far as that can be read."""
    with suppress(OSError, ValueError):
        return Promises.model_validate_json(regular(model / PROMISES_FILE).read_bytes()).promises
    return []


def _percent(share: float) -> str:
    return f"{100 * share:.10g} %"
