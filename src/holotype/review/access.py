"""Who may use the page: whoever has its address, which only the terminal shows; every user can reach 127.0.0.1."""

import secrets
from importlib.resources import files as resources
from urllib.parse import parse_qs

from starlette.datastructures import Headers

PAGE = "/"  # the one address that a link on another page may lead to

CLOSED = (resources("holotype.review") / "closed.html").read_text(encoding="utf-8")
CLOSED_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
ONWARD = f'<!doctype html><meta http-equiv="refresh" content="0; url={PAGE}"><title>Review</title>'


class Access:
    """The token of one start of the server, on 127.0.0.1 at `port`, and the cookie that a browser gets for it.

    A browser sends the cookies of a host to all its ports, so the name of ours has the port in it.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.token = secrets.token_urlsafe(32)
        self._once: str | None = None
        self._name, self._value = f"holotype-{port}", secrets.token_urlsafe(32)

    @property
    def origin(self) -> str:
        """The page's address without the token."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """The page's address, for the terminal."""
        return f"{self.origin}{PAGE}?token={self.token}"

    def address_once(self) -> str:
        """Return an address that opens the page once: what a browser is started with can be read by other users."""
        self._once = secrets.token_urlsafe(32)
        return f"{self.origin}{PAGE}?token={self._once}"

    def admits(self, query: bytes) -> bool:
        """Whether the query of an address holds the token."""
        given = parse_qs(query.decode("latin-1")).get("token", [])
        if len(given) != 1:
            return False
        if _same(given[0], self._once):
            self._once = None
            return True
        return _same(given[0], self.token)

    def holds(self, headers: Headers) -> bool:
        """Whether a request has the cookie, or the token as a script sends it: `Authorization: Bearer`."""
        cookies = [part.strip().partition("=") for line in headers.getlist("cookie") for part in line.split(";")]
        if any(name == self._name and _same(value, self._value) for name, _, value in cookies):
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and _same(given.strip(), self.token)

    @property
    def cookie(self) -> str:
        """The header that gives a browser the cookie: no script reads it, and no other site's request carries it."""
        return f"{self._name}={self._value}; Path=/; HttpOnly; SameSite=Strict"


def asks_to_enter(query: bytes) -> bool:
    """Whether an address has a token, right or wrong."""
    return b"token=" in query


def _same(given: str, expected: str | None) -> bool:
    return expected is not None and secrets.compare_digest(given.encode(errors="replace"), expected.encode())
