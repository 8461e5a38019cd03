"""Which requests the page's server hears at all: small ones, of its own page, from who has its address."""

import asyncio
import logging

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from holotype.pool.limits import limits
from holotype.review.access import CLOSED, CLOSED_POLICY, ONWARD, PAGE, Access, asks_to_enter
from holotype.web.messages import Refused, Reply, WholeRequest, check_head, read_body

BODY = 256 * 1024  # bytes that a request may have
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
        guarded, headers = Reply(send, HEADERS), Headers(scope=scope)
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
        self, scope: Scope, headers: Headers, receive: Receive, guarded: Reply, most: int, patience: int
    ) -> None:
        """Let the app see a request whose body has at most so many bytes, within so many seconds."""
        try:
            body = await read_body(headers, receive, most, patience)
        except Refused as refused:
            await guarded.refuse(refused.status, str(refused))
            return
        if body is None:
            return
        try:
            await self._app(scope, WholeRequest(body, receive), guarded)
        except Exception:
            logging.getLogger("uvicorn.error").exception("%s failed", scope["path"])
            if guarded.started:
                raise
            await guarded.refuse(500, "this should not have happened; the terminal of holotype review says more")

    def _check(self, scope: Scope, headers: Headers) -> None:
        check_head(headers)
        host = headers.getlist("host")
        if len(host) != 1 or host[0] not in self._hosts:
            raise Refused(421, "expected this page to be opened by the address that the terminal shows")
        if scope["method"] == "POST":
            _check_post(headers, f"http://{host[0]}", PICTURE if scope["path"] == SEARCH else JSON)
        elif headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            raise Refused(400, f"a {scope['method']} has no body")
        if not _is_own(scope["path"], headers):
            raise Refused(403, "this address is only for the page of holotype review")

    async def _at_the_door(self, scope: Scope, headers: Headers, send: Reply) -> bool:
        """Reply who comes with a token, or with nothing; False for who is in already. Raises `Refused`.

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
