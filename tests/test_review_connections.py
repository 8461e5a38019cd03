"""Connections that keep the review server waiting: many, silent, slow, half closed or malformed."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest
from client import Client, request_head, send

from holotype.web import connections


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, refusing: Client) -> Client:
    """A client of a server that waits for nobody longer than .3 seconds."""
    monkeypatch.setattr(connections, "IDLE", 0.3)
    return refusing


def connect(client: Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", client.port), timeout=10)


def received(connection: socket.socket) -> int:
    """Count the bytes that come until the server closes the connection; it times out where that does not happen."""
    count = 0
    try:
        while more := connection.recv(65536):
            count += len(more)
    except ConnectionResetError:
        pass
    return count


@pytest.mark.parametrize("said", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_client_that_says_nothing_more_is_let_go(hasty: Client, said: bytes) -> None:
    with connect(hasty) as connection:
        connection.sendall(said)
        assert received(connection) < 1000


def test_a_head_that_comes_byte_by_byte_gets_no_more_time(hasty: Client) -> None:
    with connect(hasty) as connection:
        connection.settimeout(0.01)
        for _ in range(3000):  # a byte each, a hundredth of a second apart
            try:
                connection.sendall(b"G")
                if not connection.recv(1):
                    break
            except TimeoutError:
                pass
            except OSError:
                break
        else:
            pytest.fail("each byte was given its time")


def test_the_second_request_has_its_time_as_the_first(hasty: Client) -> None:
    ask = f"GET /api/version HTTP/1.1\r\nHost: 127.0.0.1:{hasty.port}\r\nCookie: {hasty.cookie}\r\n\r\n".encode()
    with connect(hasty) as connection:
        for _ in range(4):
            connection.sendall(ask)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.1)
        connection.sendall(ask[:20])
        assert received(connection) < 1000


def test_who_does_not_read_is_let_go(hasty: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, abort = Event(), connections.Connection.abort

    def noted(self: connections.Connection) -> None:
        abort(self)
        let_go.set()

    ask = f"GET /static/page.css HTTP/1.1\r\nHost: 127.0.0.1:{hasty.port}\r\nCookie: {hasty.cookie}\r\n\r\n".encode()
    size = len(hasty.get("/static/page.css").text)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", hasty.port))
        monkeypatch.setattr(connections.Connection, "abort", noted)
        connection.sendall(ask * 1000)
        assert let_go.wait(60)
        assert received(connection) < 1000 * size
    assert hasty.get("/api/version").status == 200


def test_a_body_that_does_not_come_is_not_waited_for(refusing: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from holotype.review import guard

    monkeypatch.setattr(guard, "BODY_PATIENCE", 0.3)
    assert b" 408 " in send_and_wait(refusing, request_head(refusing, "Content-Length: 200") + b"{")


def send_and_wait(client: Client, content: bytes) -> bytes:
    with connect(client) as connection:
        connection.sendall(content)
        return connection.recv(65536)


@pytest.fixture
def small_server(reviewed_run: Path) -> "Iterator[tuple[subprocess.Popen[str], Client]]":
    """`holotype review` where a process may open 256 files."""
    command = (
        f"ulimit -n 256; exec {sys.executable} -c 'from holotype.cli.main import main; main()' review {reviewed_run}"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(["bash", "-c", command], stdout=pipe, stderr=pipe, text=True) as child:
        assert child.stdout is not None
        yield child, Client(child.stdout.readline().split()[2])
        child.kill()


def test_more_silent_sockets_than_files_leave_the_page_as_it_is(
    small_server: "tuple[subprocess.Popen[str], Client]",
) -> None:
    child, client = small_server
    with ExitStack() as opened:
        for number in range(600):
            opened.enter_context(connect(client))
            if number % 50 == 49:
                assert client.get("/").status == 200
        assert len(list(Path(f"/proc/{child.pid}/fd").iterdir())) < 256
        assert json.loads(client.get("/api/state?label=red").text)["status"]["answered"] == 0
    for _ in range(50):
        assert send(client, b"\x16\x03\x01\x00 no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400")
        upgrade = (
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        assert send(client, upgrade.encode()).startswith(b"HTTP/1.1 401")
    assert client.get("/").status == 200
    child.terminate()
    assert child.communicate(timeout=20)[1] == ""  # what strangers send fills no log


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5, 6"],
        ["Content-Length: +5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding:\x0bchunked"],
        ["X: a\x00b"],
        ["X" * 70_000 + ": a"],
        [f"X{number}: {'a' * 100}" for number in range(1000)],
        ["Host: evil.example"],
        ["Content-Length: 5", " folded: yes"],
    ],
)
def test_no_request_hides_in_another(refusing: Client, lines: list[str]) -> None:
    hidden = request_head(refusing, "Content-Length: 2") + b"{}"
    answer = send(refusing, request_head(refusing, *lines), b"0\r\n\r\n", hidden)
    assert b" 200 " not in answer
    assert answer.count(b"HTTP/1.1") <= 1
    assert refusing.get("/api/version").status == 200


@pytest.mark.parametrize(
    "line",
    [
        "GET http://evil.example/ HTTP/1.1",
        "CONNECT evil.example:80 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "TRACE / HTTP/1.1",
        "PUT /api/answers HTTP/1.1",
        "HEAD /answers.csv HTTP/1.1",
        "GET /api/version HTTP/1.0",
        "GET /api/version HTTP/0.9",
        "GET /api/version",
        "GET  /api/version HTTP/1.1",
        "PRI * HTTP/2.0",
    ],
)
def test_other_requests_than_those_of_a_page_get_nothing(refusing: Client, line: str) -> None:
    head = f"{line}\r\nHost: evil.example\r\nCookie: {refusing.cookie}\r\n\r\n"
    assert b" 200 " not in send(refusing, head.encode())
    if not line.endswith(("HTTP/1.0", "HTTP/0.9")):  # older, and understood
        own = head.replace("evil.example\r\n", f"127.0.0.1:{refusing.port}\r\n")
        assert b" 200 " not in send(refusing, own.encode())


def test_the_second_part_of_an_answer_does_not_wait_for_the_first(
    refusing: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    made = connections.Connection.connection_made

    def look(self: connections.Connection, transport: asyncio.Transport) -> None:
        made(self, transport)
        found.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(connections.Connection, "connection_made", look)
    assert refusing.get("/api/version").status == 200
    assert found
    assert 0 not in found
