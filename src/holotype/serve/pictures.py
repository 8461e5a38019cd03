"""The images in a request: raw, as the parts of a form, or as base64 in JSON."""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TypeVar

from anyio.to_thread import run_sync
from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

JSON_TYPE, FORM = "application/json", "multipart/form-data"
_LONG = 1 << 20  # bytes of JSON above which it is read in a thread, and the others do not wait
_VALUES = 100_000  # values that JSON may have: others wait while it is read, for half a second at most
_ADDRESS = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w.+-]+=[\w.+-]+)*;base64,")
_Body = TypeVar("_Body", bound=BaseModel)
_CHARSETS = frozenset([b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"latin-1"])
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class SentImage:
    """An image of a request: its bytes, and what it is called in the answer; `error` where it has no bytes."""

    name: str
    content: bytes
    error: str = ""

    @classmethod
    def from_base64(cls, name: str, text: str) -> "SentImage":
        """Return the image whose bytes are in base64, alone or in an address as `data:image/png;base64,...`."""
        address = _ADDRESS.match(text)
        content = text[address.end() :] if address else text
        try:
            if "\n" in content:  # lines, as of MIME and of `base64`
                content = content.replace("\r", "").replace("\n", "")
            return cls(name, base64.b64decode(content, validate=True))
        except (binascii.Error, ValueError):
            return cls(name, b"", "expected the bytes of an image in base64; addresses are not fetched")


class _InMemory(MultiPartParser):
    """Keeps what it reads in memory: the body is there already, and the disk may be read-only."""

    spool_max_size = 1 << 40
    whole = False

    def on_end(self) -> None:
        """See the last boundary: what ends before it was cut off."""
        self.whole = True


def kind_of(request: Request) -> str:
    """Return the content type of a request, without what is behind it."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, kind: type[_Body]) -> _Body:
    """Return the body of a request as a `kind`. Raises as `parse_json` does."""
    return await beside(await request.body(), lambda content: parse_json(content, kind))


def parse_json(content: bytes, kind: type[_Body]) -> _Body:
    """Return JSON as a `kind`. Raises `RequestValidationError` where it is none, `HTTPException` 413 for too much."""
    if content.count(b",") > _VALUES:  # each but the first of a list or an object has one before it
        raise HTTPException(413, f"expected at most {_VALUES:,} values in JSON: send several requests")
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_input=False)) from None


def check_count(count: int, most: int) -> None:
    """Raise `HTTPException`, 413, for more images than a request may have."""
    if count > most:
        raise _too_many(most, str(count))


def _too_many(most: int, got: str) -> HTTPException:
    return HTTPException(413, f"expected at most {most} images a request, got {got}: send several")


async def beside(content: bytes, read: Callable[[bytes], _Read]) -> _Read:
    """Return `read(content)`, done in a thread where there is much of it: the others do not wait for that."""
    return await run_sync(read, content) if len(content) > _LONG else read(content)


async def read_raw(request: Request) -> SentImage:
    """Return the one image that the body is. Raises `HTTPException` where it is empty."""
    body = await request.body()
    if not body:
        raise HTTPException(422, "expected the bytes of an image as the body, got none")
    return SentImage("0", body)


async def read_form(request: Request, most: int) -> list[SentImage]:
    """Return the images in the parts of a form, at most `most`. Raises `HTTPException` where there is none."""
    body, headers = await request.body(), request.headers
    charset = parse_options_header(headers.get("content-type"))[1].get(b"charset", b"utf-8").lower()
    if charset not in _CHARSETS:  # some take hours to decode what is meant to
        raise HTTPException(422, "the form cannot be read: expected it in UTF-8")
    if len(body) > _LONG:
        return await run_sync(asyncio.run, _form(body, headers, most))
    return await _form(body, headers, most)


async def _form(body: bytes, headers: Headers, most: int) -> list[SentImage]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body
        if not parser.whole:
            raise MultiPartException("it was cut off: expected the boundary that ends it")

    try:
        parser = _InMemory(headers, whole(), max_files=most, max_fields=most)
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many"):
            raise _too_many(most, "more") from None
        raise HTTPException(422, f"the form cannot be read: {error.message}") from None
    except (KeyError, ValueError):  # no boundary, or not in its character set
        raise HTTPException(422, "the form cannot be read: expected multipart/form-data with a boundary") from None
    parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    found = [SentImage(part.filename or str(number), await part.read()) for number, part in enumerate(parts)]
    await form.close()
    if not found:
        raise HTTPException(422, "expected images as the files of the form, got none, as in curl -F file=@one.jpg")
    return found
