"""What the tests of the service share: a server of saved models, and a client that asks as it is told."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from classifiers import MODEL, png
from PIL import Image

from holotype.encoders.runtimes import in_place
from holotype.serve.app import create_app
from holotype.serve.models import ServedModels
from holotype.serve.server import make_server
from holotype.serve.service import Service
from holotype.settings import ServeSettings
from holotype.web.listening import listen

PREDICT = f"/models/{MODEL}/predict"


@dataclass(frozen=True)
class Replied:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Asks the server at `port`; `service` is what answers there."""

    port: int
    service: Service
    token: str = ""

    def ask(self, method: str, path: str, body: Any = None, **headers: str | None) -> Replied:
        """Ask; a header that is None is left out."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            own: dict[str, str | None] = {"host": f"127.0.0.1:{self.port}"}
            own |= {"authorization": f"Bearer {self.token}"} if self.token else {}
            own |= {} if content is None else {"content-length": str(len(content))}
            own |= {} if isinstance(body, bytes | None) else {"content-type": "application/json"}
            for name, value in (own | {name.replace("_", "-"): value for name, value in headers.items()}).items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(content)
            answer = connection.getresponse()
            found = Replied(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()
        assert b"Traceback" not in found.body
        return found

    def get(self, path: str, **headers: str | None) -> Replied:
        """Ask for what is at `path`."""
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str | None) -> Replied:
        """Send bytes, or anything else as JSON."""
        return self.ask("POST", path, body, **headers)

    def send(self, *parts: bytes, more: bool = False) -> bytes:
        """Send bytes as they are, and return all that comes back until the server closes; `more` might come."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            received = b""
            with suppress(OSError):  # it may answer, and close, before it has all
                for part in parts:
                    connection.sendall(part)
                if not more:
                    connection.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while part := connection.recv(65536):
                    received += part
            return received


@contextmanager
def served(*models: str, **settings: Any) -> Iterator[Client]:
    """Serve `models` on a free port, as `holotype serve` does, with other `settings`."""
    chosen = ServeSettings(port=0, **settings)
    with listen(chosen.host, chosen.port, "the models") as listener, in_place():
        service = Service(ServedModels(models), chosen)
        port = listener.getsockname()[1]
        server = make_server(create_app(service), chosen)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield Client(port, service, chosen.token)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def form(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """Return a form with files, and its content type."""
    parts = [
        f'--edge\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + content + b"\r\n"
        for name, content in files
    ]
    return b"".join([*parts, b"--edge--\r\n"]), "multipart/form-data; boundary=edge"


def noise(seed: int, side: int = 40) -> bytes:
    """Return a picture of noise as a PNG."""
    return png(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


def large(path: Path) -> bytes:
    """Return a JPEG that is decoded by a process of its own: a progressive one of many pixels."""
    Image.new("RGB", (7000, 7000), (200, 30, 30)).save(path, "JPEG", progressive=True)
    return path.read_bytes()
