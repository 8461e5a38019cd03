"""What the tests of the review server share: a client that asks as the page does, or not quite."""

import json
import socket
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from browser import RED

Headers = dict[str, str | None]


class Client:
    """Opens `address` and asks as the page does, but for what a test changes; a header that is None is left out."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.origin, _, query = address.partition("/?")
        self.port = int(self.origin.rpartition(":")[2])
        self.cookie: str | None = None
        self.cookie = self.get(f"/?{query}").headers["set-cookie"].partition(";")[0]
        self.nonce = self.get("/").text.partition('data-nonce="')[2].partition('"')[0]

    def ask(self, method: str, path: str, headers: Headers, body: bytes | None = None) -> SimpleNamespace:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            own: Headers = {"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie}
            for name, value in (own | headers).items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert b"Traceback" not in content
        found = {name.lower(): value for name, value in answer.getheaders()}
        return SimpleNamespace(status=answer.status, headers=found, text=content.decode(errors="replace"))

    def get(self, path: str, **headers: str | None) -> SimpleNamespace:
        return self.ask("GET", path, headers)

    def post(self, path: str, body: object, headers: Headers | None = None) -> SimpleNamespace:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        own: Headers = {
            "Origin": self.origin,
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
        }
        return self.ask("POST", path, own | (headers or {}), content)

    def show(self, row: int) -> None:
        assert self.get(f"/image/{row}/large?v={self.nonce}").status == 200

    def answer(self, row: int, verdict: str = "yes", label: str = RED, **more: object) -> SimpleNamespace:
        answers = [{"row": row, "label": label, "verdict": verdict}]
        return self.post("/api/answers", {"act": str(uuid4()), "answers": answers} | more)


def answers(act: str | None = None, **more: object) -> dict[str, Any]:
    """Return an act of one answer as the page sends it."""
    return {"act": act or str(uuid4()), "answers": [{"row": 3, "label": RED, "verdict": "yes"} | more]}


def request_head(client: Client, *lines: str) -> bytes:
    """Return the head of a request that records answers, with `lines` more."""
    first = ["POST /api/answers HTTP/1.1", f"Host: 127.0.0.1:{client.port}", f"Origin: {client.origin}"]
    return "\r\n".join([*first, f"Cookie: {client.cookie}", "Content-Type: application/json", *lines, "", ""]).encode()


def send(client: Client, *parts: bytes) -> bytes:
    """Send `parts` as far as the server takes them, and return all it says until it closes."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # it has closed already
            pass
        verdict = b""
        try:
            while more := connection.recv(65536):
                verdict += more
        except ConnectionResetError:  # closed on what we still sent
            pass
    return verdict
