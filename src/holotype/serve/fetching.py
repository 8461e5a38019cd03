"""Pictures that a Label Studio keeps: fetched from the one that the operator named, and from nowhere else."""

import json
import os
import time
from http.client import HTTPException as HttpFault
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from holotype.errors import HolotypeError, UnreadableImage

API_KEY = "LABEL_STUDIO_API_KEY"
_KEPT = ("/data/upload/", "/data/local-files/")  # where it has what was uploaded to it, and files of its machine
_PART = 1 << 16  # bytes that are read at a time


class _SameOrigin(HTTPRedirectHandler):
    """Goes on only to where it was already: the key is sent along."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        """Return the request to go on with. Raises `HTTPError` where that is of another server."""
        if _origin(newurl) != _origin(req.full_url):
            raise HTTPError(req.full_url, code, "it leads to another server", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class LabelStudioFiles:
    """The pictures of the Label Studio at `address`; its key is in the environment (`API_KEY`), and never logged.

    most      bytes that a picture may have
    seconds   in which it has to come

    Raises `HolotypeError` where `address` is none.
    """

    def __init__(self, address: str, most: int, seconds: float) -> None:
        self._address, self._most, self._seconds = address.rstrip("/"), most, seconds
        if _origin(self._address) is None or urlsplit(address).query:
            raise HolotypeError(f"expected the address of a Label Studio, as http://localhost:8080, got {address!r}")
        self._key = os.environ.get(API_KEY, "")
        self._access = ""  # what a personal access token was exchanged for
        self._opener = build_opener(_SameOrigin)

    def has(self, address: str) -> bool:
        """Whether `address`, as a task has it, is of a picture there: a path, or beneath the address that was named."""
        return self._path(address) is not None

    def _path(self, address: str) -> str | None:
        inside = address.removeprefix(self._address)
        inside = inside.removeprefix(urlsplit(self._address).path) if inside.startswith("/") else inside
        try:
            path = unquote(urlsplit(inside).path)
        except ValueError:
            return None
        odd = not inside.startswith(_KEPT) or "\\" in path or ".." in path.split("/")
        return None if odd else quote(inside, safe="/?=&%+,:;@!$'()*~", errors="replace")

    def read(self, address: str) -> bytes:
        """Return the bytes of the picture at `address`. Raises `UnreadableImage` that says why there are none."""
        path = self._path(address)
        if path is None:
            raise UnreadableImage("the address is none of a picture that this Label Studio keeps")
        try:
            try:
                return self._get(self._address + path)
            except HTTPError as error:
                if error.code != 401 or not self._exchange():
                    raise
                return self._get(self._address + path)
        except HTTPError as error:
            key = f"; is ${API_KEY} its key?" if error.code in (401, 403) else ""
            raise UnreadableImage(f"Label Studio answered {error.code} {error.reason}{key}") from None
        except (OSError, HttpFault, ValueError) as error:
            raise UnreadableImage(f"Label Studio did not give it: {error}") from None

    def _exchange(self) -> bool:
        """Get an access token for a personal access token, which is a JWT; False where the key is none."""
        if self._key.count(".") != 2:
            return False
        body = json.dumps({"refresh": self._key}).encode()
        request = Request(f"{self._address}/api/token/refresh", body, {"Content-Type": "application/json"})  # noqa: S310
        found = json.loads(self._within(request, 1 << 16))
        self._access = str(found.get("access", "")) if isinstance(found, dict) else ""
        return True

    def _get(self, address: str) -> bytes:
        given = f"Bearer {self._access}" if self._access else f"Token {self._key}"
        headers = {"Authorization": given} if self._key else {}
        return self._within(Request(address, headers=headers), self._most)  # noqa: S310 - http or https, see _origin

    def _within(self, request: Request, most: int) -> bytes:
        """Return the body of an answer, read within the bytes and the seconds that it may take."""
        until, content = time.monotonic() + self._seconds, bytearray()
        with self._opener.open(request, timeout=self._seconds) as answer:
            while part := answer.read1(_PART):
                content += part
                if len(content) > most:
                    raise UnreadableImage(f"Label Studio sends more than {most // 1024:,} kB for it")
                if time.monotonic() > until:
                    raise UnreadableImage(f"Label Studio did not send it within {self._seconds:g} s")
        return bytes(content)


def _origin(address: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an address; None where it is none of http or https."""
    try:
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    named = parts.scheme in ("http", "https") and parts.hostname and not parts.username
    return (parts.scheme, str(parts.hostname), port) if named else None
