"""What the page asks of a review, and is told: only what it was shown can be answered, and each act counts once."""

import secrets
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import asdict
from threading import Lock
from typing import Annotated, Any, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field

from holotype.answers.records import NewAnswer, Pair
from holotype.pool.images import decode, thumbnail
from holotype.review.atlas import Atlas
from holotype.review.background import Applying
from holotype.review.certifying import Certifying
from holotype.review.described import Described
from holotype.review.discovering import Discovering
from holotype.review.items import Shown
from holotype.review.pictures import Picture
from holotype.review.review import Review
from holotype.review.words import WordSearch
from holotype.runs.describing import LONGEST_TEXT

SIDES = {"thumb": 320, "large": 1600}  # pixels of the long side
MOST = 200  # answers of one act, and questions that are asked for at once

Label = Annotated[str, Field(min_length=1, max_length=1000)]
Phrase = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
Row = Annotated[int, Field(ge=0, lt=2**31)]
Act = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
PageSize = Annotated[int, Field(ge=1, le=MOST)]
Size = Literal["thumb", "large"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OneAnswer(_Body):
    """Does image `row` show class `label`?

    rest   nothing was marked on it: it overrules nothing that was answered, here or in another tab
    """

    row: Row
    label: Label
    verdict: Literal["yes", "no", "unsure", "exemplar"]
    rest: bool = False


class AnswersBody(_Body):
    """What was said with one key, or on one page; `act` is made by the page, and the same when it is sent again."""

    act: Act
    answers: Annotated[list[OneAnswer], Field(min_length=1, max_length=MOST)]


class WithdrawBody(_Body):
    """An exemplar that is to be none any more."""

    act: Act
    label: Label
    name: Annotated[str, Field(min_length=1, max_length=4000)]


class UndoBody(_Body):
    """An act that is not to hold."""

    act: Act


class DescribeBody(_Body):
    """Words that are to describe a class, or not to any more."""

    label: Label
    text: Phrase


class CertifyBody(_Body):
    """A precision that is to be promised of a class, or of all; `answers`: of a class, that it may rest on."""

    label: Label | None = None
    precision: Annotated[float, Field(gt=0, le=1)]
    answers: Annotated[int, Field(ge=1, lt=2**31)] | None = None


class EmptyBody(_Body):
    """What a request sends that only starts something."""


class Session:
    """What the server knows since its start: the pictures that it served, the questions that it asked, the acts."""

    def __init__(self, review: Review, who: str) -> None:
        self.review = review
        self.described = Described(review)
        self.words = WordSearch(review)
        self.applying = Applying(review, self.described)
        self.certifying = Certifying(review)
        self.discovering = Discovering(review)
        self.atlas = Atlas(review)
        self.nonce = secrets.token_urlsafe(9)  # in the address of each picture: none of an earlier start is taken
        self._who = who
        self._recording, self._asking = Lock(), Lock()
        self._served: dict[int, str] = {}  # row -> the digest of the picture that was shown
        self._acts: dict[str, tuple[_Body, list[NewAnswer]]] = {}
        self._recorded: set[str] = set()
        self._learnt = 0
        self._audits: set[Pair] = set()  # that were asked

    def kept_picture(self, row: int, size: Size, nonce: str) -> bytes | None:
        """Return a picture of the pool as `picture` does, at once; None where it is to be drawn first."""
        self._check_row(row)
        self._check_nonce(nonce)
        found = self.review.pictures.kept(row, SIDES[size])
        return None if found is None else self._serve(row, found)

    def picture(self, row: int, size: Size, nonce: str) -> bytes:
        """Return a picture of the pool, and remember that it was served."""
        self._check_row(row)
        self._check_nonce(nonce)
        return self._serve(row, self.review.pictures.draw(row, SIDES[size]))

    def _serve(self, row: int, picture: Picture) -> bytes:
        self._served[row] = picture.digest  # an answer is about what was shown
        return picture.jpeg

    def exemplar_picture(self, number: int, size: Size, nonce: str, name: str) -> bytes:
        """Return the picture of exemplar `number`, if that is still the one called `name`."""
        self._check_nonce(nonce)
        if not any((one.number, one.name) == (number, name) for one in self._exemplars()):
            raise HTTPException(404, "there is no such exemplar any more")
        return self.review.exemplar_picture(number, SIDES[size])

    def path(self, row: int) -> str:
        """Return which file the image in `row` is."""
        self._check_row(row)
        return self.review.pool.path(row)

    def questions(
        self, label: str, n: int, exclude: Sequence[int], passed: Sequence[int] = (), *, page: bool = False
    ) -> list[dict[str, Any]]:
        """Return the next questions, or a `page` of them. Which are audits stays here: it must not sway the answer."""
        self.check_label(label)
        out, over = ({row for row in rows if row < len(self.review)} for rows in (exclude, passed))
        asked = self.review.next(n, label, out, over, page=page)
        with self._asking:
            self._audits -= {(one.id, label) for one in asked}
            self._audits |= {(one.id, label) for one in asked if one.audit}
        return [{"row": one.row, "id": one.id, "score": one.score, "why": one.why} for one in asked]

    def around(self, row: int, label: str, n: int, start: int) -> dict[str, Any]:
        """Return images that are like that of `row`. They are chosen, not drawn: none of them is asked as an audit."""
        self.check_label(label)
        self._check_row(row)
        found = [asdict(one) for one in self.review.around(row, label, n, start)]
        return {"id": self.review.ids[row], "images": found}

    def search(self, picture: bytes, label: str, n: int, start: int) -> dict[str, Any]:
        """Return images that are like `picture`, and the picture as a JPEG in base64: a browser may not show it."""
        self.check_label(label)
        found = [asdict(one) for one in self.review.search(picture, label, n, start)]
        shown = thumbnail(decode(picture, fit=SIDES["thumb"]), SIDES["thumb"])
        return {"images": found, "picture": b64encode(shown).decode()}

    def find(self, text: str, label: str, n: int, start: int) -> dict[str, Any]:
        """Return images that `text` finds. They are chosen, so none of them is asked as an audit."""
        self.check_label(label)
        return {"images": [asdict(one) for one in self.words.find(text, label, n, start)]}

    def describe(self, body: DescribeBody) -> None:
        """Let words describe a class, from the next *Apply* on."""
        self._check_settings(body.label)
        self.described.add(body.label, body.text, self.words.tower)

    def undescribe(self, body: DescribeBody) -> None:
        """Let words not describe a class any more, from the next *Apply* on."""
        self._check_settings(body.label)
        self.described.remove(body.label, body.text)

    def _check_settings(self, label: str) -> None:
        self.check_label(label)
        if self.applying.state == "running":
            raise HTTPException(409, "the answers are being applied: change the description when that is done")

    def answer(self, body: AnswersBody) -> None:
        """Record what was said about images that were served."""
        for one in body.answers:
            self.check_label(one.label)
            self._check_row(one.row)
        self._record(body.act, body, lambda: [self._given(one) for one in self._new(body.answers)])

    def withdraw(self, body: WithdrawBody) -> None:
        """Record that an exemplar is none any more."""
        self.check_label(body.label)

        def given() -> list[NewAnswer]:
            if all(one.name != body.name for one in self.review.exemplars(body.label)):
                raise HTTPException(404, "there is no such exemplar any more")
            return [NewAnswer(body.name, body.label, "withdrawn", self._who)]

        self._record(body.act, body, given)

    def undo(self, act: str) -> bool:
        """Take an act back; False when that is done already, or nothing of it was new."""
        if act in self._recorded and not self._acts[act][1]:
            return False
        return self.review.undo(act, self._who)

    def learn(self) -> None:
        """Learn from what was said since the last time."""
        self.review.refit()
        self._learnt += 1

    @property
    def version(self) -> str:
        """Another text whenever another tab has something new to show. Raises where the run is gone, or another."""
        self.review.check()
        parts = (self.review.version, self._learnt, self.applying.state, self.certifying.stamp, self.described.stamp)
        return " ".join(map(str, parts))

    def state(self, label: str, *, wait: bool = True) -> dict[str, Any]:
        """Return what the page shows beside the questions of a class.

        wait   for what the last answers changed; else `changes` are None where that takes learning once more
        """
        self.check_label(label)
        known = wait or self.review.compared
        changes = self.review.changes(label) if known else None
        return {
            "version": self.version,
            "status": asdict(self.review.standing(label, compare=known)),
            "aside": self.review.matched.explain(),
            "exemplars": [asdict(one) for one in self.review.exemplars(label)],
            "descriptions": self.described.of_class(label),
            "described": self.described.changed(),
            "changes": changes and {"joined": self._named(changes.joined), "left": self._named(changes.left)},
        }

    def images(self, label: str, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return what the page shows of `rows` that it chose itself."""
        self.check_label(label)
        for row in rows:
            self._check_row(row)
        return self.atlas.images(label, rows)

    def certify(self, body: CertifyBody) -> dict[str, Any]:
        """Begin to promise something, and say how far that is."""
        if body.label is not None:
            self.check_label(body.label)
        self.certifying.start(label=body.label, precision=body.precision, answers=body.answers)
        return self.certifying.to_json()

    def check_label(self, label: str) -> None:
        """Raise when there is no such class."""
        if label not in self.review.classes:
            raise HTTPException(404, "there is no such class in this run")

    def _record(self, act: str, body: _Body, given: Callable[[], list[NewAnswer]]) -> None:
        """Record an act once, as it was first understood: when it is sent again, what it asked for may be done."""
        with self._recording:
            known, new = self._acts.get(act) or (body, given())
            if known != body:
                raise HTTPException(409, "this act is known with other answers; give these an id of their own")
            self._acts[act] = known, new
            if act in self._recorded:
                return
        if new:
            self.review.record(new, act)  # several at once are synced together; the log takes each act once
        self._recorded.add(act)

    def _new(self, answers: Sequence[OneAnswer]) -> list[OneAnswer]:
        """Leave out the rest of a page where something is answered about it already."""
        known = {label: self.review.known(label) for label in {one.label for one in answers if one.rest}}
        return [one for one in answers if not (one.rest and self.review.ids[one.row] in known[one.label])]

    def _given(self, one: OneAnswer) -> NewAnswer:
        if one.row not in self._served:
            raise HTTPException(409, "this image was not shown since the server was started; reload the page")
        name = self.review.ids[one.row]
        return NewAnswer(
            name, one.label, one.verdict, self._who, (name, one.label) in self._audits, None, self._served[one.row]
        )

    def _named(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        return [{"row": int(row), "id": self.review.ids[row]} for row in rows]

    def _exemplars(self) -> list[Shown]:
        return [one for label in self.review.classes for one in self.review.exemplars(label)]

    def _check_row(self, row: int) -> None:
        if row >= len(self.review):
            raise HTTPException(404, f"expected the row of an image below {len(self.review)}, got {row}")

    def _check_nonce(self, nonce: str) -> None:
        if nonce != self.nonce:
            raise HTTPException(409, "the server was started anew; reload the page")
