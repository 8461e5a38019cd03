"""The server of the review page, attacked where it runs: what is not its own page learns and changes nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from browser import QUOTE, RED, TAG, reviewed, served

from holotype.errors import OutputError
from holotype.review.guard import BODY, HEADERS
from holotype.review.review import Review
from holotype.review.server import SERVED, serve

Headers = dict[str, str | None]


class Client:
    """Sends requests as the page does, but for what a test changes; a header that is None is left out."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"
        self.nonce = self.get("/").text.partition('data-nonce="')[2].partition('"')[0]

    def ask(self, method: str, path: str, headers: Headers, body: bytes | None = None) -> SimpleNamespace:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in ({"Host": f"127.0.0.1:{self.port}"} | headers).items():
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


@pytest.fixture
def client(served_review: tuple[Review, int]) -> Client:
    return Client(served_review[1])


@pytest.fixture(scope="module")
def shared(reviewed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Review, Client]]:
    with reviewed(reviewed_run, tmp_path_factory.mktemp("shared")) as (review, port):
        yield review, Client(port)


@pytest.fixture
def refusing(shared: tuple[Review, Client]) -> Iterator[Client]:
    """A client of a review in which nothing may be recorded, whatever the test sends."""
    review, client = shared
    yield client
    assert review.version == 0
    assert client.get("/api/apply").text.startswith('{"state":"never"')


def test_every_answer_has_the_headers_that_shut_others_out(client: Client) -> None:
    paths = ["/", "/static/page.js", "/api/version", "/api/state?label=red", "/answers.csv", "/nothing"]
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
            "/static/page.js",
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
        "/static/page.js%00.css",
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


@pytest.mark.parametrize("row", ["240", "-1", "99999999999999999999", "1e3", "x", "0x1", ""])
def test_an_image_that_is_not_there(refusing: Client, row: str) -> None:
    answer = refusing.get(f"/image/{row}/large?v={refusing.nonce}")
    assert answer.status in (404, 422)
    assert set(json.loads(answer.text)) == {"error"}
    sent = int(row) if row.lstrip("-").isdecimal() else row
    assert refusing.post("/api/answers", _answers(row=sent)).status in (404, 422)


def test_only_an_image_that_was_served_since_the_start_is_answered(client: Client, review: Review) -> None:
    assert client.get("/image/3/large?v=another").status == 409
    refused = client.answer(3)
    assert (refused.status, "was not shown" in refused.text) == (409, True)
    client.show(3)
    assert client.answer(3).status == 200
    assert client.answer(4).status == 409
    together = [{"row": 3, "label": RED, "verdict": "no"}, {"row": 4, "label": RED, "verdict": "no"}]
    assert client.post("/api/answers", {"act": str(uuid4()), "answers": together}).status == 409
    assert [(one.id, one.verdict, one.who) for one in review.answers.current()] == [("3", "yes", "tester")]
    with served(review) as port:
        assert Client(port).answer(3).status == 409


def _answers(act: str | None = None, **more: object) -> dict[str, Any]:
    return {"act": act or str(uuid4()), "answers": [{"row": 3, "label": RED, "verdict": "yes"} | more]}


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
        _answers() | {"more": 1},
        _answers(who="somebody"),
        _answers(audit=True),
        _answers(verdict="maybe"),
        _answers(verdict="withdrawn"),
        _answers(verdict=True),
        _answers(row="3"),
        _answers(row=3.5),
        _answers(row=True),
        _answers(row=None),
        _answers(label=""),
        _answers(label="\ud800"),
        _answers(label=7),
        _answers(act="1"),
        _answers(act="x" * 36),
        _answers() | {"answers": []},
        _answers() | {"answers": _answers()["answers"] * 201},
        _answers() | {"\ud800<script>": 1},
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
    assert refusing.post("/api/answers", _answers(), {"Content-Type": kind}).status == 415


def _head(refusing: Client, *lines: str) -> bytes:
    first = ["POST /api/answers HTTP/1.1", f"Host: 127.0.0.1:{refusing.port}", f"Origin: {refusing.origin}"]
    return "\r\n".join([*first, "Content-Type: application/json", *lines, "", ""]).encode()


def _send(refusing: Client, *parts: bytes) -> bytes:
    """Send `parts` as far as the server takes them, and return all it says until it closes."""
    with socket.create_connection(("127.0.0.1", refusing.port), timeout=20) as connection:
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


def test_a_large_body_is_cut_off(refusing: Client) -> None:
    megabyte = b" " * 2**20
    declared = _send(refusing, _head(refusing, f"Content-Length: {10 * 2**20}"))
    assert declared.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in declared.lower()
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    chunked = _send(refusing, _head(refusing, "Transfer-Encoding: chunked"), *[chunk] * (BODY // 0x8000 + 1))
    assert chunked.startswith(b"HTTP/1.1 413")
    chunk = b"100000\r\n" + megabyte + b"\r\n"
    for head, parts in (
        (_head(refusing, f"Content-Length: {10 * 2**20}"), [megabyte] * 10),
        (_head(refusing, "Transfer-Encoding: chunked"), [chunk] * 10),
    ):
        assert _send(refusing, head, *parts)[:12] in (b"", b"HTTP/1.1 413")
    assert refusing.post("/api/answers", b" " * (BODY + 1)).status == 413
    assert refusing.post("/api/answers", b" " * BODY).status == 422
    assert refusing.get("/api/version").status == 200


def test_a_length_that_is_wrong_records_nothing(client: Client, review: Review) -> None:
    client.show(3)
    body = json.dumps(_answers()).encode()
    assert b" 200 " not in _send(client, _head(client, f"Content-Length: {len(body) + 5}"), body)
    assert b" 200 " not in _send(client, _head(client, f"Content-Length: {len(body) - 5}"), body)
    for length in ("-1", "0x10", "1e3", "9" * 30):
        assert b" 200 " not in _send(client, _head(client, f"Content-Length: {length}"), body)
    both = _head(client, f"Content-Length: {len(body)}", "Transfer-Encoding: chunked")
    assert b" 200 " not in _send(client, both, body)
    assert client.get("/api/version", **{"Content-Length": "5"}).status == 400
    assert review.version == 0


def test_html_in_a_name_stays_text(client: Client, review: Review) -> None:
    page = client.get("/").text
    assert TAG not in page
    assert QUOTE not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") == 2
    assert "<script>" not in page
    assert " style=" not in page
    client.show(3)
    assert client.answer(3, label=TAG).status == 200
    assert [one.label for one in review.answers.current()] == [TAG]
    missing = client.get("/api/state?label=%3Cscript%3Ealert(1)%3C/script%3E")
    assert (missing.status, "script" in missing.text) == (404, False)
    assert missing.headers["content-type"] == "application/json"


def test_an_act_that_is_sent_again_is_recorded_once(client: Client, review: Review) -> None:
    client.show(3)
    body = _answers()
    assert [client.post("/api/answers", body).status for _ in range(3)] == [200] * 3
    assert len(review.answers.history()) == 1
    other = _answers(act=body["act"], verdict="no")
    assert client.post("/api/answers", other).status == 409
    undo = {"act": body["act"]}
    assert [json.loads(client.post("/api/undo", undo).text)["undone"] for _ in range(2)] == [True, False]
    assert review.answers.current() == []
    assert client.post("/api/undo", {"act": str(uuid4())}).status == 409


def test_what_is_audited_is_known_to_the_server_alone(client: Client, review: Review) -> None:
    for row in range(30, 45):
        client.show(row)
        client.answer(row, "yes" if row % 10 == 0 else "no")
    client.post("/api/refit", {})
    asked = json.loads(client.get("/api/questions?label=red&n=40").text)["questions"]
    audits = {one.row for one in review.next(40, RED) if one.audit}
    assert audits
    assert all(set(one) == {"row", "id", "score", "why"} for one in asked)
    before = {one.id for one in review.answers.current() if one.audit}
    for one in asked:
        client.show(one["row"])
        client.answer(one["row"], "no")
    recorded = {int(one.id) for one in review.answers.current() if one.audit} - set(map(int, before))
    assert recorded == audits
    row = audits.pop()
    client.answer(row, "yes")
    assert next(one for one in review.answers.current() if one.id == str(row)).audit


def test_it_is_another_class_is_one_act(client: Client, review: Review) -> None:
    client.show(1)
    client.show(11)
    answers = [{"row": 11, "label": RED, "verdict": "no"}, {"row": 11, "label": TAG, "verdict": "yes"}]
    act = str(uuid4())
    assert client.post("/api/answers", {"act": act, "answers": answers}).status == 200
    assert {one.act for one in review.answers.current()} == {act}
    assert json.loads(client.get("/api/state?label=red").text)["status"]["no"] == 1


def test_exemplars_come_and_go_but_the_last_stays(client: Client, review: Review) -> None:
    last = client.post("/api/withdraw", {"act": str(uuid4()), "label": RED, "name": "0"})
    assert (last.status, "no other exemplar" in last.text) == (409, True)
    client.show(10)
    assert client.answer(10, "exemplar").status == 200
    body = {"act": str(uuid4()), "label": RED, "name": "0"}
    assert [client.post("/api/withdraw", body).status for _ in range(2)] == [200, 200]
    assert [one.name for one in review.exemplars(RED)] == ["10"]
    assert client.post("/api/withdraw", body | {"act": str(uuid4())}).status == 404
    assert client.get(f"/exemplar/0/large?v={client.nonce}&name=0").status == 404
    assert client.get(f"/exemplar/-1/large?v={client.nonce}&name=10").status == 422
    [shown] = review.exemplars(RED)
    assert client.get(f"/exemplar/{shown.number}/thumb?v={client.nonce}&name=10").status == 200


def test_answers_leave_as_csv_and_for_label_studio(client: Client) -> None:
    client.show(3)
    client.answer(3)
    table = client.get("/answers.csv")
    assert table.text.splitlines()[1].startswith("3,red,yes,")
    assert table.headers["content-disposition"] == 'attachment; filename="answers.csv"'
    [task] = json.loads(client.get("/label-studio.json").text)
    assert task["data"]["id"] == "3"


@pytest.mark.parametrize(
    "query",
    ["label=red&n=0", "label=red&n=10000", "label=red", "n=5", "label=none&n=5", "label=red&n=5&exclude=x"],
)
def test_questions_that_cannot_be_asked_for(refusing: Client, query: str) -> None:
    assert refusing.get(f"/api/questions?{query}").status in (404, 422)


def test_rows_that_are_not_there_can_be_left_out(client: Client) -> None:
    assert client.get("/api/questions?label=red&n=5&exclude=3,4,9999999999").status == 200
    for query in ("part=all", "part=found&start=-1", "part=found&count=9999", "part=found&sort=x", "part=x"):
        assert client.get(f"/api/gallery?label=red&{query}").status == 422
    found = json.loads(client.get("/api/gallery?label=red&part=found&text=3").text)
    assert all("3" in item["id"] for item in found["items"])


def test_an_error_of_ours_is_no_traceback(client: Client, review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(review, "standing", broken)
    answer = client.get("/api/state?label=red")
    assert answer.status == 500
    assert "secret" not in answer.text
    assert answer.headers.items() >= HEADERS.items()


def test_serve_says_where_it_is_and_ctrl_c_ends_it(reviewed_run: Path) -> None:
    code = (
        "from pathlib import Path\nfrom functools import partial\nfrom holotype.review.server import serve\n"
        "from holotype.review.review import Review\n"
        f"with Review.open(Path({str(reviewed_run)!r})) as review: serve(review, say=partial(print, flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line.startswith("review at http://127.0.0.1:")
        port = int(line.split()[2].rpartition(":")[2])
        assert Client(port).get("/").status == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)
        os.kill(child.pid, signal.SIGINT)
        _, stderr = child.communicate(timeout=20)
    assert (child.returncode, stderr) == (0, "")


def test_a_port_that_is_taken(shared: tuple[Review, Client]) -> None:
    review, client = shared
    with pytest.raises(OutputError, match="choose another --port"):
        serve(review, port=client.port)
