"""The server of the review page, attacked where it runs: what is not its own page learns and changes nothing."""

import json
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from browser import RED
from client import Client, answers, request_head, send

from holotype.review.app import SERVED
from holotype.review.guard import BODY, HEADERS
from holotype.review.review import Review
from holotype.review.server import serve


def test_every_answer_has_the_headers_that_shut_others_out(client: Client) -> None:
    paths = ["/", "/static/main.js", "/api/version", "/api/state?label=red", "/answers.csv", "/nothing"]
    for path in paths:
        assert client.get(path).headers.items() >= HEADERS.items(), path
    picture = client.get(f"/image/3/thumb?v={client.nonce}")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.headers["cache-control"].startswith("private")
    assert client.post("/api/refit", {}, {"Origin": None}).headers.items() >= HEADERS.items()
    report = client.get("/report")
    assert (report.status, "<h1>" in report.text) == (200, True)
    assert report.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert {"server", "access-control-allow-origin", "set-cookie"}.isdisjoint(client.get("/").headers)


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://evil.example", "http://127.0.0.1", "http://127.0.0.1:1", "https://127.0.0.1:{port}"],
)
def test_a_post_of_another_page_is_refused(refusing: Client, origin: str | None) -> None:
    refusing.show(3)
    sent = origin and origin.format(port=refusing.port)
    for path in ("/api/answers", "/api/undo", "/api/refit", "/api/apply", "/api/withdraw"):
        assert refusing.post(path, {}, {"Origin": sent}).status == 403
    body = {"act": str(uuid4()), "answers": [{"row": 3, "label": RED, "verdict": "yes"}]}
    assert refusing.post("/api/answers", body, {"Origin": sent}).status == 403


@pytest.mark.parametrize(
    "host", [None, "evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}."]
)
def test_another_name_for_this_machine_is_refused(refusing: Client, host: str | None) -> None:
    for path in ("/", "/api/state?label=red", "/answers.csv", f"/image/3/large?v={refusing.nonce}"):
        answer = refusing.get(path, Host=host and host.format(port=refusing.port))
        assert answer.status in (400, 421)
        assert refusing.nonce not in answer.text
    assert refusing.get("/", Host=f"localhost:{refusing.port}").status == 200


def test_other_sites_may_link_to_the_page_and_ask_for_nothing(refusing: Client) -> None:
    navigates = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for site in ("cross-site", "same-site"):
        assert refusing.get("/", **navigates, **{"Sec-Fetch-Site": site}).status == 200
        assert refusing.get("/", **{"Sec-Fetch-Site": site}).status == 403
        for path in (
            "/answers.csv",
            "/report",
            "/api/version",
            "/static/main.js",
            f"/image/3/large?v={refusing.nonce}",
        ):
            assert refusing.get(path, **navigates, **{"Sec-Fetch-Site": site}).status == 403
    assert refusing.get("/answers.csv", **{"Sec-Fetch-Site": "same-origin"}).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/image/../../etc/passwd",
        "/image/..%2f..%2f..%2fetc%2fpasswd/large",
        "/image/%2e%2e/%2e%2e/etc/passwd",
        "/static/../page.py",
        "/static/..%2fpage.py",
        "/static/%2e%2e/page.py",
        "/static/....//page.py",
        "/static//etc/passwd",
        "/static/main.js%00.css",
        "/static/page.py",
        "/report/../answers.db",
        "//etc/passwd",
        "/openapi.json",
        "/docs",
    ],
)
def test_no_path_reaches_the_disk(refusing: Client, path: str) -> None:
    answer = refusing.get(path)
    assert answer.status in (404, 422)
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_only_the_files_on_the_list_are_served(refusing: Client) -> None:
    static = Path(sys.modules[serve.__module__].__file__ or "").with_name("static")
    assert sorted(SERVED) == sorted(path.name for path in static.iterdir())
    for name, kind in SERVED.items():
        assert refusing.get(f"/static/{name}").headers["content-type"].startswith(kind)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 5000,
        {},
        answers() | {"more": 1},
        answers(who="somebody"),
        answers(audit=True),
        answers(verdict="maybe"),
        answers(verdict="withdrawn"),
        answers(verdict=True),
        answers(row="3"),
        answers(row=3.5),
        answers(row=True),
        answers(row=None),
        answers(label=""),
        answers(label="\ud800"),
        answers(label=7),
        answers(act="1"),
        answers(act="x" * 36),
        answers() | {"answers": []},
        answers() | {"answers": answers()["answers"] * 201},
        answers() | {"\ud800<script>": 1},
    ],
)
def test_a_body_that_is_no_answer_is_refused(refusing: Client, body: object) -> None:
    refusing.show(3)
    answer = refusing.post("/api/answers", body)
    assert answer.status in (400, 404, 422)
    assert set(json.loads(answer.text)) == {"error"}
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_a_form_is_no_request_of_the_page(refusing: Client, kind: str | None) -> None:
    refusing.show(3)
    assert refusing.post("/api/answers", answers(), {"Content-Type": kind}).status == 415


def test_a_large_body_is_cut_off(refusing: Client) -> None:
    megabyte = b" " * 2**20
    declared = send(refusing, request_head(refusing, f"Content-Length: {10 * 2**20}"))
    assert declared.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in declared.lower()
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    chunked = send(refusing, request_head(refusing, "Transfer-Encoding: chunked"), *[chunk] * (BODY // 0x8000 + 1))
    assert chunked.startswith(b"HTTP/1.1 413")
    chunk = b"100000\r\n" + megabyte + b"\r\n"
    for head, parts in (
        (request_head(refusing, f"Content-Length: {10 * 2**20}"), [megabyte] * 10),
        (request_head(refusing, "Transfer-Encoding: chunked"), [chunk] * 10),
    ):
        assert send(refusing, head, *parts)[:12] in (b"", b"HTTP/1.1 413")
    assert refusing.post("/api/answers", b" " * (BODY + 1)).status == 413
    assert refusing.post("/api/answers", b" " * BODY).status == 422
    assert refusing.get("/api/version").status == 200


def test_a_length_that_is_wrong_records_nothing(client: Client, review: Review) -> None:
    client.show(3)
    body = json.dumps(answers()).encode()
    assert b" 200 " not in send(client, request_head(client, f"Content-Length: {len(body) + 5}"), body)
    assert b" 200 " not in send(client, request_head(client, f"Content-Length: {len(body) - 5}"), body)
    for length in ("-1", "0x10", "1e3", "9" * 30):
        assert b" 200 " not in send(client, request_head(client, f"Content-Length: {length}"), body)
    both = request_head(client, f"Content-Length: {len(body)}", "Transfer-Encoding: chunked")
    assert b" 200 " not in send(client, both, body)
    assert client.get("/api/version", **{"Content-Length": "5"}).status == 400
    assert review.version == 0
