"""Requests that no page of ours sends: each is refused in a sentence, and none learns or records anything.

Those about hosts, origins and forms are in `test_review_guard`, about keys in `test_review_access`, and about where a
request ends in `test_review_connections`.
"""

import json
from urllib.parse import quote
from uuid import uuid4

import pytest
from browser import RED
from client import Client, Headers, answers, request_head, send

GET_ONLY = ["/", "/api/state?label=red", "/api/version", "/api/questions?label=red&n=1", "/answers.csv", "/report"]
GET_ONLY += ["/found.csv", "/api/path?row=0"]
POST_ONLY = ["/api/answers", "/api/undo", "/api/withdraw", "/api/refit"]
METHODS = ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD", "PROPFIND", "get", "X"]
UPWARDS = [
    "..",
    ".%2e",
    "%2e%2e",
    "%252e%252e",
    "..%00",
    "..;",
    "..%5c",
    "..\\",
    "%c0%ae%c0%ae",
    "%ef%bc%8e%ef%bc%8e",
    "%u002e%u002e",
    "....//",
    "file:///etc",
    "~root",
    "%2fetc%2fpasswd%23",
]
HOSTS = ["127.0.0.1:{port}@evil.example", "user@127.0.0.1:{port}", "[::1]:{port}", "2130706433:{port}", "0:{port}"]
HOSTS += ["127.1:{port}", "0.0.0.0:{port}", "LOCALHOST:{port}", "localhost.:{port}", "127.0.0.1:0{port}", "", "*"]
ORIGINS = ["http://127.0.0.1:{port}/", "HTTP://127.0.0.1:{port}", "http://user@127.0.0.1:{port}", "http://[::1]:{port}"]
ORIGINS += ["http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:{port}, http://evil.example", "file://", ""]
QUERIES = [
    "",
    "label=red",
    "n=1",
    "label=red&n=0",
    "label=red&n=-1",
    "label=red&n=201",
    "label=red&n=1e1",
    "label=red&n=NaN",
    "label=red&n=" + "9" * 5000,
    "label=red&n=1&exclude=-1",
    "label=red&n=1&exclude=1,,2",
    "label=red&n=1&exclude=1;2",
    "label=red&n=1&exclude=%D9%A1",
    "label=red&n=1&exclude=" + "1," * 2001 + "1",
    "label=red%00&n=1",
    "label=%00&n=1",
    "label=RED&n=1",
    "label=red%20&n=1",
    "label=%ff&n=1",
    "label=" + "a" * 1001 + "&n=1",
    "label=../../etc/passwd&n=1",
    "label=red'%20OR%201=1--&n=1",
    "label[]=red&n=1",
]
GALLERY = ["part=all", "part=found&sort=x", "part=found&start=-1", "part=found&start=1e9", "part=found&count=0"]
GALLERY += [
    "part=found&count=201",
    "part=found&start=2147483648",
    "part=found&answered=maybe",
    "part=found&text=" + "a" * 1001,
]
ACT = str(uuid4())
BODIES = [
    ("/api/answers", answers(row=-1)),
    ("/api/answers", answers(row=2**31)),
    ("/api/answers", answers(row=10**400)),
    ("/api/answers", answers(row=float("nan"))),
    ("/api/answers", answers(row=float("inf"))),
    ("/api/answers", answers(row=[3])),
    ("/api/answers", answers(label="red\0")),
    ("/api/answers", answers(label="RED")),
    ("/api/answers", answers(label=[RED])),
    ("/api/answers", answers(label="a" * 1001)),
    ("/api/answers", answers(verdict="undo")),
    ("/api/answers", answers(verdict="yes ")),
    ("/api/answers", answers(verdict=["yes"])),
    ("/api/answers", answers(digest="0" * 64)),
    ("/api/answers", answers(when="2026-01-01T00:00:00Z")),
    ("/api/answers", answers(act=ACT.upper())),
    ("/api/answers", answers(act=ACT + "\n")),
    ("/api/answers", answers(act="'; DROP TABLE record; --")),
    ("/api/answers", answers() | {"act": None}),
    ("/api/answers", answers() | {"answers": {"0": 1}}),
    ("/api/answers", answers() | {"answers": [None]}),
    ("/api/answers", answers() | {"__proto__": {}}),
    ("/api/answers", [answers()]),
    ("/api/answers", b"\xef\xbb\xbf{}"),
    ("/api/answers", b'{"a":' * 4000 + b"1" + b"}" * 4000),
    ("/api/answers", b"1" * 200_000),
    ("/api/answers", b'"' + b"a" * 200_000 + b'"'),
    ("/api/undo", {"act": str(uuid4())}),
    ("/api/undo", {"act": ""}),
    ("/api/undo", {"act": ACT, "who": "somebody"}),
    ("/api/undo", {"act": ["%"]}),
    ("/api/withdraw", {"act": ACT, "label": RED, "name": "3"}),
    ("/api/withdraw", {"act": ACT, "label": RED, "name": "0\0"}),
    ("/api/withdraw", {"act": ACT, "label": RED, "name": "a" * 4001}),
    ("/api/withdraw", {"act": ACT, "label": RED, "name": 0}),
    ("/api/withdraw", {"act": ACT, "label": "nothing", "name": "0"}),
    ("/api/refit", {"force": True}),
    ("/api/refit", b""),
    ("/api/refit", b"[]"),
    ("/api/apply", {"out": "/tmp"}),
    ("/api/apply", b"null"),
]


def check(client: Client, status: int, text: str) -> None:
    """A refusal says why, and nothing of what is on the disk or in the program."""
    assert 400 <= status < 500, (status, text)
    assert "root:" not in text
    assert client.nonce not in text


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_do_nothing(refusing: Client, method: str) -> None:
    body = json.dumps(answers()).encode()
    own: Headers = {"Origin": refusing.origin, "Content-Type": "application/json"}
    for path in [*GET_ONLY, *POST_ONLY]:
        answer = refusing.ask(method, path, own)
        check(refusing, answer.status, answer.text)
        answer = refusing.ask(method, path, own | {"Content-Length": str(len(body))}, body)
        check(refusing, answer.status, answer.text)


def test_get_and_post_are_not_taken_for_each_other(refusing: Client) -> None:
    for path in GET_ONLY:
        check(refusing, refusing.post(path, {}).status, "")
    for path in POST_ONLY:
        check(refusing, refusing.get(path).status, "")
        check(refusing, refusing.get(path, **{"X-HTTP-Method-Override": "POST", "X-Method": "POST"}).status, "")


@pytest.mark.parametrize("up", UPWARDS)
def test_no_way_upwards_is_found(refusing: Client, up: str) -> None:
    for start in ("/static/", "/image/", "/exemplar/", "/report/", "/"):
        for end in ("/etc/passwd", "%2fetc%2fpasswd", "/thumb", ""):
            if (path := f"{start}{up}{end}") != "/" and not path.endswith("/.."):
                answer = refusing.get(path)
                check(refusing, answer.status, answer.text)


@pytest.mark.parametrize("host", HOSTS)
def test_no_other_form_of_the_host_is_heard(refusing: Client, host: str) -> None:
    answer = refusing.get("/answers.csv", Host=host.format(port=refusing.port))
    check(refusing, answer.status, answer.text)
    forwarded = {"X-Forwarded-Host": f"127.0.0.1:{refusing.port}", "Forwarded": f"host=127.0.0.1:{refusing.port}"}
    assert refusing.get("/answers.csv", Host=host.format(port=refusing.port), **forwarded).status in (400, 421)


@pytest.mark.parametrize("origin", ORIGINS)
def test_no_other_form_of_the_origin_is_heard(refusing: Client, origin: str) -> None:
    refusing.show(3)
    sent = {"Origin": origin.format(port=refusing.port), "Referer": f"{refusing.origin}/"}
    assert refusing.post("/api/answers", answers(), dict(sent)).status == 403
    twice = request_head(refusing, f"Origin: {refusing.origin}", "Content-Length: 2") + b"{}"
    assert send(refusing, twice).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("query", QUERIES)
def test_a_question_that_makes_no_sense_is_refused(refusing: Client, query: str) -> None:
    answer = refusing.get(f"/api/questions?{query}")
    check(refusing, answer.status, answer.text)


@pytest.mark.parametrize(
    "query", ["", "row=240", "row=-1", "row=1e3", "row=9" + "9" * 5000, "row=../../etc/passwd", "path=/etc/passwd"]
)
def test_no_path_is_told_but_that_of_an_image_of_the_pool(refusing: Client, query: str) -> None:
    answer = refusing.get(f"/api/path?{query}")
    check(refusing, answer.status, answer.text)


@pytest.mark.parametrize("query", GALLERY)
def test_a_gallery_that_makes_no_sense_is_refused(refusing: Client, query: str) -> None:
    answer = refusing.get(f"/api/gallery?label=red&{query}")
    check(refusing, answer.status, answer.text)


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_body_that_makes_no_sense_is_refused(refusing: Client, path: str, body: object) -> None:
    refusing.show(3)
    answer = refusing.post(path, body)
    check(refusing, answer.status, answer.text)
    assert set(json.loads(answer.text)) == {"error"}
    assert len(answer.text) < 1000


@pytest.mark.parametrize("nonce", ["", "\0", "../..", "a" * 30_000, "%00", "null"])
def test_a_picture_of_another_start_is_not_shown(refusing: Client, nonce: str) -> None:
    for path in ("/image/3/thumb?v=", "/exemplar/0/thumb?name=0&v="):
        answer = refusing.get(path + quote(nonce))
        check(refusing, answer.status, answer.text)


@pytest.mark.parametrize("header", [("Range", "bytes=0-1"), ("Upgrade", "h2c"), ("TE", "trailers"), ("Expect", "x")])
def test_what_a_header_asks_for_besides_is_not_done(refusing: Client, header: tuple[str, str]) -> None:
    answer = refusing.get("/api/version", **dict([header]))
    assert (answer.status, set(json.loads(answer.text))) == (200, {"version", "nonce"})


def test_an_act_of_another_reviewer_is_his(client: Client) -> None:
    """One act cannot be given another meaning, nor be done again once it was taken back."""
    client.show(3)
    first = answers()
    assert client.post("/api/answers", first).status == 200
    for other in (answers(act=first["act"], verdict="no"), answers(act=first["act"], label="nothing")):
        assert client.post("/api/answers", other).status in (404, 409)
    assert client.post("/api/withdraw", {"act": first["act"], "label": RED, "name": "0"}).status == 409
    assert json.loads(client.post("/api/undo", {"act": first["act"]}).text)["undone"]
    assert client.post("/api/answers", first).status == 200  # sent again: done, and undone since
    assert json.loads(client.get("/api/state?label=red").text)["status"]["answered"] == 0
