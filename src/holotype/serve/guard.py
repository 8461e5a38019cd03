"""Which requests are heard: of who may ask, whole, within their limits; each is counted and logged."""

import base64
import binascii
import hmac
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from holotype.serve.service import Service
from holotype.web.messages import Refused, Reply, WholeRequest, check_head, drain, read_body

SAFE_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
OPEN = frozenset(["/", "/health", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"])  # without a token
STATIC = "/static/"  # what /docs is made of
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_HOST = re.compile(
    r"(\[[0-9a-f]*:[0-9a-f:.]*\]|[^\[\]:@/]+?)\.?(?::[0-9]{1,5})?", re.IGNORECASE
)  # a name or address, and a port
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger(__name__)


class Memory:
    """Bytes of bodies that all requests hold together, of at most `most`."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    @contextmanager
    def holder(self) -> Iterator["_Held"]:
        """Yield what counts the bytes of one request, and let them go behind it."""
        held = _Held(self)
        try:
            yield held
        finally:
            self.held -= held.count


class _Held:
    def __init__(self, memory: Memory) -> None:
        self._memory, self.count = memory, 0

    def take(self, count: int) -> None:
        """Count more bytes. Raises `Refused` where there is no room for them."""
        if self._memory.held + count > self._memory.most:
            raise Refused(503, "the bodies of requests take all the memory that there is for them: try again in 1 s")
        self._memory.held += count
        self.count += count


class ServiceGuard:
    """Lets `app` see only whole requests of who may ask; gives all answers `SAFE_HEADERS` and a request id.

    Another name in Host is a site that had its own name point here (DNS rebinding), which no site can do with an
    address; where there is a token, no such site has it. What a page of another site sends is refused: a browser says
    whose page asks.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        settings = service.settings
        self._token = settings.token.encode()
        self._names = {name_in(name) for name in ("localhost", settings.host, *settings.allowed_hosts)} - {""}
        self._any_host = bool(settings.token) and not settings.allowed_hosts
        self._memory = Memory(settings.memory << 20)
        service.metrics.bodies.set_function(lambda: self._memory.held)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, headers = scope["method"], Headers(scope=scope)
        if method == "HEAD":  # what it asks for is what GET would be told; the server leaves the body out
            scope = {**scope, "method": "GET"}
        given = headers.get("x-request-id", "")
        number = given if _ID.fullmatch(given) else uuid4().hex
        reply = _Counted(send, number)
        began = time.monotonic()
        try:
            with self._memory.holder() as held:
                await self._answer(scope, headers, receive, reply, held)
        finally:
            self._count(scope, method, reply, time.monotonic() - began)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, reply: "_Counted", held: _Held) -> None:
        settings = self._service.settings
        try:
            self._check(scope, headers)
            body = await read_body(headers, receive, settings.megabytes << 20, settings.seconds, held.take)
        except Refused as refused:
            if "expect" not in headers:  # which waits with its body until it is told to go on
                await drain(receive, settings.megabytes << 20)
            await reply.refuse(refused.status, str(refused))
            return
        if body is None:
            return
        try:
            await self._app(scope, WholeRequest(body, receive), reply)
        except Exception:
            _log.exception("a request failed", extra={"request": reply.number})
            if reply.started:
                raise
            await reply.refuse(500, f"this should not have happened; the log has it as request {reply.number}")

    def _check(self, scope: Scope, headers: Headers) -> None:
        check_head(headers)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not (self._any_host or self._is_ours(hosts[0])):
            raise Refused(421, "this is not a name of this server; --allowed-host NAME allows one")
        if (scope["path"] in OPEN or scope["path"].startswith(STATIC)) and scope["method"] == "GET":
            return
        if self._token and not self._has_token(headers):
            raise Refused(401, "expected the header Authorization: Bearer TOKEN, with the token of this server")
        foreign = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        if foreign or urlsplit(headers.get("origin", f"http://{hosts[0]}")).netloc != hosts[0]:
            raise Refused(403, "a page of another site may not ask: let its own server ask")

    def _is_ours(self, host: str) -> bool:
        """Whether a page at `host` can only have come from us: by a name of ours, or by an address, at any port."""
        name = name_in(host)
        with suppress(ValueError):
            return bool(ip_address(name))
        return name in self._names

    def _has_token(self, headers: Headers) -> bool:
        given = headers.getlist("authorization")
        kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        shown = token.strip(" \t").encode("latin-1", "replace")
        if kind.lower() == "basic":  # all that Label Studio can send: any user, and the token as the password
            shown = _password(shown)
        return hmac.compare_digest(shown, self._token) and kind.lower() in ("bearer", "basic")

    def _count(self, scope: Scope, method: str, reply: "_Counted", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        metrics = self._service.metrics
        method = method if method in _METHODS else "other"
        metrics.requests.labels(method, route, reply.status).inc()
        metrics.seconds.labels(route).observe(seconds)
        said = {"request": reply.number, "method": method, "route": route, "status": reply.status}
        _log.info("request", extra=said | {"seconds": round(seconds, 6)})


def name_in(host: str) -> str:
    """Return the name, or the address, in what stands in Host; nothing where there is none."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").lower() if found else ""


def _password(credentials: bytes) -> bytes:
    """Return the password of a user and his password in base64; nothing where they are none."""
    with suppress(binascii.Error):
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    return b""


class _Counted(Reply):
    """A reply whose status is known afterwards; 499 where the client left before there was one."""

    def __init__(self, send: Send, number: str) -> None:
        super().__init__(send, SAFE_HEADERS | {"x-request-id": number})
        self.number, self.status = number, 499

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status in (429, 503):
                MutableHeaders(scope=message).setdefault("retry-after", "1")
        await super().__call__(message)


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, and what else is known of it."""

    _PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= {name: value for name, value in vars(record).items() if name not in self._PLAIN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
