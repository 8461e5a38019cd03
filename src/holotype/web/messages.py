"""A request with its whole body, and an answer with the headers that every answer has."""

import asyncio
import json
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Send

HEAD = 32 * 1024  # bytes that the headers of a request may have
DRAIN = 2  # seconds that what comes of a request that is refused is let go


class Refused(Exception):
    """A request is not heard: the status, and why in a sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def check_head(headers: Headers) -> None:
    """Raise `Refused` for headers that are too many, or tell in two ways where the request ends."""
    if sum(len(name) + len(value) for name, value in headers.raw) > HEAD:
        raise Refused(431, f"expected at most {HEAD // 1024} kB of headers")
    body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if "upgrade" in headers and body:  # the parser takes what follows for another protocol
        raise Refused(400, "expected a request with a body to have no Upgrade: send it by HTTP/1.1 alone")
    if "content-length" in headers and "transfer-encoding" in headers:  # where it ends, others may see elsewhere
        raise Refused(400, "expected one way to tell where the request ends, got two")


async def read_body(
    headers: Headers, receive: Receive, most: int, patience: float, take: Callable[[int], None] = lambda _: None
) -> bytes | None:
    """Return the body, counted as it comes; None when the client went away.

    most      bytes that it may have; patience: seconds that it may take
    take      is told of each part how many bytes it has; it may raise `Refused`
    """
    limit = f"{most >> 20} MB" if most >= 1 << 20 else f"{most >> 10} kB"
    too_large = Refused(413, f"expected at most {limit}")
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > most:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(patience):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                take(len(message.get("body", b"")))
                content += message.get("body", b"")
                if len(content) > most:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(content)
    except TimeoutError:
        raise Refused(408, f"the request was not complete after {patience} seconds") from None


async def drain(receive: Receive, most: int) -> None:
    """Let go what still comes of a request that is refused: a client that sends does not hear, and loses the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


class WholeRequest:
    """Gives the app the body that was read, then what comes behind it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._message: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive

    async def __call__(self) -> Message:
        message, self._message = self._message, None
        return message or await self._receive()


class Reply:
    """Sends an answer with `headers`, where it has none of its own by that name."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send, self._headers = send, headers
        self.started = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def refuse(self, status: int, why: str) -> None:
        """Answer with an error, and close the connection: what is left of the request is not read."""
        headers = {"content-type": "application/json", "connection": "close"}
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        await self._answer(status, json.dumps({"error": why}), headers)

    async def page(self, status: int, html: str, headers: Mapping[str, str]) -> None:
        """Answer with a page."""
        await self._answer(status, html, {"content-type": "text/html; charset=utf-8", **headers})

    async def _answer(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        body = text.encode()
        both = {**headers, "content-length": str(len(body))}
        sent = [(name.encode(), value.encode()) for name, value in both.items()]
        await self({"type": "http.response.start", "status": status, "headers": sent})
        await self({"type": "http.response.body", "body": body})
