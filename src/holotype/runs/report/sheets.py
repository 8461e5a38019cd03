"""What the report shows of each class: its pictures, and in words what is estimated without labels."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from holotype.answers.audit import Audit, in_percent
from holotype.answers.index import AnswerCounts
from holotype.errors import UnreadableImage
from holotype.grouping.groups import Estimate, Groups, strength_basis
from holotype.grouping.search import top_k
from holotype.pool.exemplars import Exemplar
from holotype.pool.images import decode, thumbnail
from holotype.pool.pool import Pool
from holotype.runs.findings import ClassFinding
from holotype.runs.report.layout import SheetLayout, clipped

_WORDS = {"member": "found", "background": "left out"}  # what a decision is called here


@dataclass(frozen=True)
class SheetPicture:
    """An image as it is shown: `place` is where it lies, `link` the URL of its file where it is one of its own."""

    name: str
    caption: str
    jpeg: bytes
    place: str = ""
    link: str = ""


@dataclass(frozen=True)
class ClassSheet:
    """What is shown of a class.

    exemplars   the first of `exemplar_count`
    face, strip small JPEGs, of the first exemplar (nothing where there is none) and of the surest images
    best        the surest of those found; borderline: around the threshold; rejected: the likeliest of those left out
    explained   sentences
    by_picture, by_words   the surest of those that pictures alone find and words do not, and the other way round
    """

    finding: ClassFinding
    exemplars: Sequence[SheetPicture]
    exemplar_count: int
    face: bytes
    strip: Sequence[bytes]
    best: Sequence[SheetPicture]
    borderline: Sequence[SheetPicture]
    rejected: Sequence[SheetPicture]
    explained: Sequence[str]
    by_picture: Sequence[SheetPicture] = ()
    by_words: Sequence[SheetPicture] = ()


class Album:
    """Takes the pictures of one class out of `pool`, as long as there is room for them."""

    def __init__(self, pool: Pool, groups: Groups, k: int, layout: SheetLayout) -> None:
        self.pool, self.groups, self.k, self.layout = pool, groups, k, layout
        self.left = layout.share

    def exemplars(self, given: Sequence[Exemplar]) -> Iterator[SheetPicture]:
        """Yield the first of the exemplars that are given; of one that is a file of its own, its path."""
        for one in given[: self.layout.exemplars]:
            place, link = (one.name, _file_url(one.name)) if one.row is None else place_of(self.pool, one.row)
            if jpeg := self._fitting(decode(one.data, fit=self.layout.side), self.layout.side):
                yield SheetPicture(clipped(one.name), "exemplar", jpeg, place, link)

    def face(self, given: Sequence[Exemplar]) -> bytes:
        """Return a small picture of the first exemplar, where there is a strip beside which it stands."""
        if not (given and self.layout.strip):
            return b""
        return self._fitting(decode(given[0].data, fit=self.layout.small), self.layout.small)

    def strip(self, rows: Iterable[int]) -> Iterator[bytes]:
        """Yield small pictures of the first of `rows`."""
        for row in list(rows)[: self.layout.strip]:
            if (image := self._decoded(row)) and (jpeg := self._fitting(image, self.layout.small)):
                yield jpeg

    def pictures(self, rows: Iterable[int]) -> Iterator[SheetPicture]:
        """Yield the pictures of `rows`, each with its score and what it was taken for."""
        for row in rows:
            image = self._decoded(row)
            if image and (jpeg := self._fitting(image, self.layout.side)):
                caption = f"{self.groups.scores[row, self.k]:.3f} {_decided(self.groups, row, self.k)}"
                yield SheetPicture(clipped(self.pool.ids[row]), caption, jpeg, *place_of(self.pool, row))

    def _decoded(self, row: int) -> Image.Image | None:
        """The image; none where it cannot be read, as unreadable.csv says, or where there is no room for any."""
        try:
            return decode(self.pool.read(row), fit=self.layout.side) if self.left > 0 else None
        except UnreadableImage:
            return None

    def _fitting(self, image: Image.Image, side: int) -> bytes:
        """The JPEG where there is room for it, else nothing, and then no more of this class."""
        jpeg = thumbnail(image, side) if self.left > 0 else b""
        self.left -= len(jpeg)
        return jpeg if self.left >= 0 else b""


def class_sheet(
    pool: Pool, groups: Groups, given: Sequence[Exemplar], k: int, one: ClassFinding, lay: SheetLayout
) -> ClassSheet:
    """Return what is shown of class `k`, which `one` counts: what matters most is taken first, while there is room."""
    column, own = groups.scores[:, k], groups.found(k)
    reached = column if groups.score_kind == "cosine" else np.where(column > 0, column, np.nan)
    near = np.abs(np.where(groups.decision == "exemplar", np.nan, reached) - one.threshold.value)
    rejected = np.where((groups.label == k) & (groups.decision == "background"), reached, np.nan)
    best, own_exemplars = own[np.argsort(-column[own])], [exemplar for exemplar in given if exemplar.label == k]
    album = Album(pool, groups, k, lay)
    return ClassSheet(
        one,
        list(album.exemplars(own_exemplars)),
        len(own_exemplars),
        album.face(own_exemplars),
        list(album.strip(_rows(best[: lay.strip]))),
        list(album.pictures(_rows(best[: lay.best]))),
        list(album.pictures(_rows(top_k(-near, lay.others)))),
        list(album.pictures(_rows(top_k(rejected, lay.others)))),
        list(explain_class(clipped(one.name), one.estimate, one.counts, one.audit)),
        *(list(album.pictures(_rows(rows[: lay.others]))) for rows in _differing(one)),
    )


def _differing(one: ClassFinding) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if one.ways is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return one.ways.only_picture, one.ways.only_words


def _rows(rows: NDArray[np.int64]) -> list[int]:
    return [int(row) for row in rows]


def place_of(pool: Pool, row: int) -> tuple[str, str]:
    """Return where the image of `row` lies, and the URL of its file; nothing for one inside a tar."""
    place = pool.path(row)
    return place, _file_url(place)


def _file_url(place: str) -> str:
    """Return the URL of the file at `place`, whatever is in its name; nothing where that is none."""
    own = place.startswith("/") and os.path.isfile(place)  # noqa: PTH113 - a `Path` raises where a name is too long
    return f"file://{quote(place)}" if own else ""


def explain_class(
    name: str, stated: Estimate | None, counts: AnswerCounts | None, audit: Audit | None
) -> Iterator[str]:
    """Say what people said of a class and what that proves, and what is estimated; each where it is known."""
    if counts is not None:
        yield from _answered(name, counts)
        if counts.answers and audit is not None:
            yield _audited(name, audit)
    if stated is not None:
        yield from _estimated(stated, counts is not None and counts.trusted)


def _answered(name: str, counts: AnswerCounts) -> Iterator[str]:
    if not counts.answers:
        yield f"Nobody was asked about {name} yet."
        return
    yield f"Answers about {name}: {counts.answers:,} ({counts.yes:,} yes, {counts.no:,} no, {counts.unsure:,} unsure)."
    if counts.trusted:
        yield (
            "The group follows them: answers that were kept aside are predicted better with the other answers than "
            "without."
        )
    else:
        yield (
            "They decide on their own images only: answers that were kept aside are predicted no better with the other "
            "answers than without."
        )


def _audited(name: str, audit: Audit) -> str:
    waiting = f" Audits: {audit.needs}." if audit.needs else ""
    if audit.low is None:
        return f"None of them counts as an audit (a random check) yet, so nothing is proven.{waiting}"
    if audit.whole:
        return (
            f"All that was found was looked at; others may be missing. Of {audit.among:,} images {audit.yes:,} show "
            f"{name}, the others are out."
        )
    return (
        f"Audit: {audit.yes:,} of {audit.asked:,} images drawn at random from the {audit.among:,} that were found show "
        f"{name}. So with 95 % confidence at least {in_percent(audit.low)} % of what was found do.{waiting}"
    )


def _estimated(found: Estimate, trusted: bool) -> Iterator[str]:
    """Say what is estimated about a class, on which basis, what was left out, and what it may be confused with."""
    tell = "" if trusted else " How many of them are right, only looking at some of them can tell."
    yield f"The group is {found.strength}, {strength_basis(trusted)}; others may be missing.{tell}"
    yield (
        f"Left out as doubtful: {found.below:,} just below the threshold, {found.tied:,} nearly as far above that of "
        "another class."
    )
    if found.confused is None:
        yield "No image is near the thresholds of this and of another class."
    else:
        other, count = found.confused
        yield f"Most often confused with {clipped(other)}: {count:,} images are above or just below both thresholds."


def _decided(groups: Groups, row: int, k: int) -> str:
    """The decision in words, for the sheet of class `k`: what another class has is called so."""
    decision = str(groups.decision[row])
    word = _WORDS.get(decision, decision)
    if groups.label[row] != k and decision in ("member", "exemplar"):
        return f"{word} {'as' if decision == 'member' else 'of'} {clipped(groups.classes[groups.label[row]])}"
    return word
