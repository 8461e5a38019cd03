"""A hub on this machine: what the real one answers when a snapshot is fetched from it, over HTTP."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest

Commits = dict[str, dict[str, bytes]]


class Hub:
    """Repositories, each with its commits and their files; the last commit is the newest, unless it is hidden."""

    def __init__(self) -> None:
        self.repositories: dict[str, Commits] = {}
        self.asked: list[str] = []
        self.address = ""

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories.get(repository, {})
        commit = next(reversed(commits)) if commits and revision == "main" else revision
        return (commit, commits[commit]) if commit in commits else None


def ask_it(hub: Hub, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the client ask `hub`, with caches in `folder`: HF_ENDPOINT and HF_HUB_CACHE, read when it is imported."""
    from huggingface_hub import constants

    patch.setenv("HOLOTYPE_CACHE", str(folder / "cache"))
    patch.setattr(constants, "ENDPOINT", hub.address)
    patch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(self.path.partition("?")[0])
            hub.asked.append(path)
            found = self._about(path) if path.startswith("/api/") else self._file(path)
            status, headers, body = found or (404, {"X-Error-Code": "RevisionNotFound"}, b"")
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def _about(self, path: str) -> tuple[int, dict[str, str], bytes] | None:
            repository, _, rest = path.removeprefix("/api/models/").partition("/revision/")
            if not rest and "/tree/" in path:
                repository, _, rest = path.removeprefix("/api/models/").partition("/tree/")
            found = hub.files(repository, rest or "main")
            if found is None:
                return None
            commit, files = found
            if "/tree/" in path:
                answer: object = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
            else:
                answer = {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

        def _file(self, path: str) -> tuple[int, dict[str, str], bytes] | None:
            repository, _, rest = path.removeprefix("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            found = hub.files(repository, revision)
            if found is None or name not in found[1]:
                return None
            content = found[1][name]
            etag = hashlib.sha256(content).hexdigest()
            return 200, {"X-Repo-Commit": found[0], "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}, content

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
