"""What the tests of Label Studio's ML backend share: requests that it sent, and a stand-in for its files."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

# captured from Label Studio 1.23.2, but for tokens
_SENT = json.loads((Path(__file__).parent / "label_studio" / "requests.json").read_text())
CONFIG: str = _SENT["setup"]["schema"]


def sent(name: str) -> Any:
    """Return a request as Label Studio sent it; the caller may change it."""
    return copy.deepcopy(_SENT[name])


def hook(name: str, image: str, *choices: str, number: int = 1, at: int = 0) -> Any:
    """Return the webhook `name` about one image, `at` seconds after noon, by what was captured."""
    body = sent(name)
    body["annotation"] |= {"id": number, "updated_at": f"2026-11-28T12:00:{at:02}.000001Z"}
    [result] = sent("created")["annotation"]["result"]
    body["annotation"]["result"] = [result | {"value": {"choices": list(choices)}}] if choices else []
    body["task"]["data"] = {"image": f"/data/local-files/?d=photos/{image}.jpg", "image_id": image}
    return body


def tasks(*data: dict[str, Any], config: str = CONFIG) -> Any:
    """Return a request for pre-labels about tasks with `data`, by what was captured."""
    body = sent("predict")
    [first, *_] = body["tasks"]
    body["tasks"] = [first | {"id": number, "data": one} for number, one in enumerate(data, 1)]
    return body | {"label_config": config}


class Kept:
    """What the stand-in has, by path, and what it was asked: path and key."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.address = ""


@contextmanager
def keeping(key: str) -> Iterator[Kept]:
    """Keep files at an address of their own, for who has the `key`; a JWT is exchanged for "short" first."""
    kept = Kept()
    expected = "Bearer short" if key.count(".") == 2 else f"Token {key}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("authorization", "")
            kept.asked.append((self.path, given))
            if self.path in kept.moved:
                self.send_response(302)
                self.send_header("location", kept.moved[self.path])
                self.end_headers()
            elif given != expected:
                self.send_error(401)
            elif self.path not in kept.files:
                self.send_error(404)
            else:
                self._say(kept.files[self.path])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            kept.asked.append((self.path, ""))
            self._say(json.dumps({"access": "short" if body == {"refresh": key} else "wrong"}).encode())

        def _say(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.address = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
