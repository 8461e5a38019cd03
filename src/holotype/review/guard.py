"""Which requests the page's server hears at all: small ones, of its own page, from who has its address."""

import asyncio
import json
import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holotype.pool.limits import limits
from holotype.review.access import CLOSED, CLOSED_POLICY, ONWARD, PAGE, Access, asks_to_enter

BODY = 256 * 1024  # bytes that a request may have
HEAD = 32 * 1024  # bytes that its headers may have
BODY_PATIENCE = 10  # seconds that its body may take
JSON, PICTURE = "application/json", "application/octet-stream"  # neither of which a foreign page can send unasked
SEARCH = "/api/search"  # takes a picture: as many bytes as an image of a pool may have ...
PICTURE_PATIENCE = 60  # ... within so many seconds, and one at a time
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Refused(Exception):
    """A request is not heard: the status, and why in a sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Guard:
    """Lets `app` see only whole requests of its own page that `access` allows; gives all answers `HEADERS`.

    Another name in Host is a site that had its own name point here (DNS rebinding). Browsers state truly in Origin
    and Sec-Fetch-Site which page asks, and no page can make them do otherwise.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._pictures = asyncio.Lock()
        self._hosts = (f"127.0.0.1:{access.port}", f"localhost:{access.port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded, headers = _Headed(send), Headers(scope=scope)
        try:
            self._check(scope, headers)
            if await self._at_the_door(scope, headers, guarded):
                return
        except Refused as refused:
            await guarded.refuse(refused.status, str(refused))
            return
        if scope["path"] != SEARCH:
            await self._pass_on(scope, headers, receive, guarded, BODY, BODY_PATIENCE)
            return
        async with self._pictures:
            await self._pass_on(scope, headers, receive, guarded, limits().size, PICTURE_PATIENCE)

    async def _pass_on(
        self, scope: Scope, headers: Headers, receive: Receive, guarded: "_Headed", most: int, patience: int
    ) -> None:
        """Let the app see a request whose body has at most so many bytes, within so many seconds."""
        try:
            body = await _body(headers, receive, most, patience)
        except Refused as refused:
            await guarded.refuse(refused.status, str(refused))
            return
        if body is None:
            return
        try:
            await self._app(scope, _Whole(body, receive), guarded)
        except Exception:
            logging.getLogger("uvicorn.error").exception("%s failed", scope["path"])
            if guarded.started:
                raise
            await guarded.refuse(500, "this should not have happened; the terminal of holotype review says more")

    def _check(self, scope: Scope, headers: Headers) -> None:
        if sum(len(name) + len(value) for name, value in headers.raw) > HEAD:
            raise Refused(431, f"expected at most {HEAD // 1024} kB of headers")
        host = headers.getlist("host")
        if len(host) != 1 or host[0] not in self._hosts:
            raise Refused(421, "expected this page to be opened by the address that the terminal shows")
        if "content-length" in headers and "transfer-encoding" in headers:  # where it ends, others may see elsewhere
            raise Refused(400, "expected one way to tell where the request ends, got two")
        if scope["method"] == "POST":
            _check_post(headers, f"http://{host[0]}", PICTURE if scope["path"] == SEARCH else JSON)
        elif headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            raise Refused(400, f"a {scope['method']} has no body")
        if not _is_own(scope["path"], headers):
            raise Refused(403, "this address is only for the page of holotype review")

    async def _at_the_door(self, scope: Scope, headers: Headers, send: "_Headed") -> bool:
        """Answer who comes with a token, or with nothing; False for who is in already. Raises `Refused`.

        A browser sends no cookie of ours where another site led to the page; from a page of ours it does.
        """
        held, query = self._access.holds(headers), scope["query_string"]
        page = scope["path"] == PAGE and scope["method"] == "GET"
        entering = page and asks_to_enter(query)
        if held and not entering:
            return False
        admitted = entering and self._access.admits(query)
        cookie = {"set-cookie": self._access.cookie} if admitted else {}
        foreign = page and headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if foreign and (admitted or not entering):
            await send.page(200, ONWARD, cookie)
        elif admitted or held:
            await send.page(303, "", {"location": PAGE, **cookie})
        elif page:
            await send.page(401, CLOSED, {"www-authenticate": "Bearer", "content-security-policy": CLOSED_POLICY})
        else:
            raise Refused(401, "the key to this page is new at each start: open the address that the terminal shows")
        return True


def _check_post(headers: Headers, own: str, content: str) -> None:
    if headers.getlist("origin") != [own]:
        raise Refused(403, f"expected a request of the page {own}; open that page")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != content:
        raise Refused(415, f"expected the content type {content}")


def _is_own(path: str, headers: Headers) -> bool:
    """Whether a page of ours asks, or the user's address bar; from elsewhere only a link to the page itself may."""
    opened = (
        path == PAGE and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )
    return opened or headers.get("sec-fetch-site", "none") in ("same-origin", "none")


async def _body(headers: Headers, receive: Receive, most: int, patience: int) -> bytes | None:
    """Return the body, counted as it comes; None when the client went away."""
    too_large = Refused(413, f"expected at most {most // 1024:,} kB")
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
                content += message.get("body", b"")
                if len(content) > most:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(content)
    except TimeoutError:
        raise Refused(408, f"the request was not complete after {patience} seconds") from None


class _Whole:
    """Gives the app the body that was read, then what comes behind it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._message: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive

    async def __call__(self) -> Message:
        message, self._message = self._message, None
        return message or await self._receive()


class _Headed:
    """Sends answers with `HEADERS`, where the answer has none of its own by that name."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
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
