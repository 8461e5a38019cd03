"""What stands before a real S3 server on this machine: it counts requests, and has faults on demand."""

import http.client
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote
from urllib.request import Request, urlopen

KEY, SECRET = "AKIDOFTESTS", "secret/OfTests+0123456789"
_SPAN = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True)
class Asked:
    """A request: which method, what of, which bytes of it, and by whose key."""

    method: str
    path: str
    start: int = 0
    end: int = 0
    key: str = ""

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Fault:
    """What a request is answered with.

    status   in place of what the server says; 0: what it says
    code     how S3 calls that
    cut      after how many bytes of its body the connection is closed; 0 before anything is said
    slow     seconds before the answer
    """

    status: int = 0
    code: str = "SlowDown"
    cut: int | None = None
    slow: float = 0.0


@dataclass
class Proxy:
    """Hands requests on to the server at `port`.

    fault   says what is to go wrong with a request
    asked   all requests so far
    """

    port: int
    fault: Callable[[Asked], Fault | None] = lambda _asked: None
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def of(self, method: str, end: str = "") -> list[Asked]:
        """The requests of a kind for what ends so."""
        return [one for one in self.asked if one.method == method and one.path.endswith(end)]

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        """Answer requests."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                span = _SPAN.fullmatch(self.headers.get("Range", ""))
                start, end = (int(span[1]), int(span[2]) + 1) if span else (0, 0)
                key = self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
                asked = Asked(self.command, self.path.partition("?")[0], start, end, key)
                proxy.asked.append(asked)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.fault(asked) or Fault()
                time.sleep(fault.slow)
                if fault.cut == 0:
                    self._close()
                elif fault.status:
                    text = f"<Error><Code>{fault.code}</Code><Message>{SECRET}</Message></Error>".encode()
                    self._send(fault.status, {"Retry-After": "1"}, text)
                else:
                    self._send(*proxy.forward(self.command, self.path, dict(self.headers), body), fault.cut)

            def _send(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
                self.send_response(status)
                kept = {name: value for name, value in headers.items() if name.lower() not in _OWN}
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
                for name, value in (kept | {"Content-Length": length}).items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(b"" if self.command == "HEAD" else body[:cut])
                    self.wfile.flush()
                if cut is not None:
                    self._close()

            def _close(self) -> None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask the server, also for who signs nothing, and return its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Authorization": _WHO} | headers)
            found = connection.getresponse()
            return found.status, dict(found.getheaders()), found.read()
        finally:
            connection.close()


_WHO = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
_OWN = {"content-length", "connection", "transfer-encoding", "date", "server"}


def make_bucket(port: int, name: str) -> None:
    """Make a bucket; who asks is told by the region in its signature."""
    _ask(f"http://127.0.0.1:{port}/{name}", "PUT", b"")


def upload(port: int, url: str, content: bytes) -> None:
    """Put `content` at an s3:// URL, past the proxy."""
    _ask(_at(port, url), "PUT", content)


def download(port: int, url: str) -> bytes:
    """What is at an s3:// URL."""
    return _ask(_at(port, url), "GET")


def _ask(url: str, method: str, content: bytes | None = None) -> bytes:
    headers = {"Authorization": _WHO, "Content-Type": "application/octet-stream"}
    with urlopen(Request(url, data=content, method=method, headers=headers), timeout=60) as answer:
        return bytes(answer.read())


def _at(port: int, url: str) -> str:
    return f"http://127.0.0.1:{port}/{quote(url.removeprefix('s3://'))}"
