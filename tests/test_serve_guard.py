"""Who may ask the service, and what it refuses: hosts, tokens, other sites, sizes, connections that keep it waiting."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from classifiers import MODEL
from serving import PREDICT, Client, noise, served

from holotype import HolotypeError
from holotype.serve.server import check_access
from holotype.settings import ServeSettings, as_option
from holotype.web import connections

PICTURE = noise(1)
UPWARDS = ["..", "%2e%2e", ".%2e", "..%00", "..%5c", "%252e%252e", "%c0%ae%c0%ae", "....//", "%2fetc%2fpasswd", "~root"]
WRONG_TOKENS = ["", "Bearer", "Bearer ", "Bearer wrong", "Basic secret", "secret", "Bearer secre", "Bearer secrett"]
WRONG_TOKENS += ["Bearer SECRET", "Bearer \xff", "Bearer " + "a" * 9000, "bearer wrong", "Bearer secret, Bearer wrong"]
HOSTS = ["evil.example", "127.0.0.1:{port}@evil.example", "127.0.0.1.evil.example:{port}", "127.1:{port}", "0:{port}"]
HOSTS += ["2130706433:{port}", "", "*", "localhost..", "user@127.0.0.1:{port}", "127.0.0.1.:x", "[::1", "::1", "[::1]x"]
HOSTS += ["[127.0.0.1]", "[localhost]", "[fe80::1%25lo]", "0x7f.1", "127.0.0.1,evil.example", "localhost/evil.example"]
METHODS = ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"]


@pytest.fixture(scope="module")
def client(saved: Path) -> Iterator[Client]:
    with served(str(saved), megabytes=1) as client:
        yield client
        assert client.get(f"/models/{MODEL}").status == 200  # whatever came before
        assert client.post(PREDICT, PICTURE).status == 200


@pytest.fixture(scope="module")
def locked(saved: Path) -> Iterator[Client]:
    with served(str(saved), token="secret") as client:
        yield client


def test_others_than_this_machine_need_a_token() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "localhost", "::1"):
        check_access(ServeSettings(host=host))
    for host in ("0.0.0.0", "::", "192.168.1.7", "models.example", "127.0.0.1.example"):
        with pytest.raises(HolotypeError, match="--token"):
            check_access(ServeSettings(host=host))
        check_access(ServeSettings(host=host, token="x"))
        check_access(ServeSettings(host=host, insecure=True))


@pytest.mark.parametrize("token", WRONG_TOKENS)
def test_without_the_token_there_is_nothing(locked: Client, token: str) -> None:
    for method, path in [
        ("GET", "/models"),
        ("GET", "/metrics"),
        ("POST", PREDICT),
        ("GET", "/nowhere"),
        ("GET", "/health/"),
    ]:
        reply = locked.ask(method, path, PICTURE if method == "POST" else None, authorization=token)
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == "Bearer"
    assert locked.ask("POST", "/health", b"x", authorization=token).status == 401


def test_with_the_token_there_is_everything_and_health_without(locked: Client) -> None:
    assert locked.get("/models").status == 200
    assert locked.post(PREDICT, PICTURE).status == 200
    for path in ("/health", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json", "/static/swagger-ui.css"):
        assert locked.get(path, authorization=None).status == 200
    assert locked.get("/models", host="any.example").status == 200  # no page of that name has the token


@pytest.mark.parametrize("host", HOSTS)
def test_another_name_is_refused(client: Client, host: str) -> None:
    for path in ("/models", "/health"):
        assert client.get(path, host=host.format(port=client.port)).status in (400, 421)


def test_names_that_are_ours(client: Client, saved: Path) -> None:
    for host in ("localhost", "LOCALHOST", "localhost.", "127.0.0.1", "192.168.1.7", "[::1]", "[2001:DB8::7]"):
        for port in ("", f":{client.port}", ":80"):  # behind a proxy, or a container's port, it is another
            assert client.get("/health", host=host + port).status == 200
    with served(str(saved), allowed_hosts=["Models.Example", "b.example:9000"], token="x") as named:
        for host in ("models.example", "MODELS.example.", "models.example:9000", "b.example"):
            assert named.get("/models", host=host).status == 200
        assert named.get("/models", host="other.example").status == 421


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1"])
def test_where_everybody_may_ask_its_own_address_is_known(saved: Path, host: str) -> None:
    with served(str(saved), host=host, insecure=True) as client:
        own = f"[::1]:{client.port}" if ":" in host else f"127.0.0.1:{client.port}"
        address = "::1" if ":" in host else "127.0.0.1"
        with socket.create_connection((address, client.port), timeout=30) as connection:
            connection.sendall(f"GET /models HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n".encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("token", ["q7 b", " q7", "q7\n", "\xe9", "q7\x85", "q7\t", "\u0430"])
def test_a_token_that_cannot_be_sent_is_refused_at_once(token: str) -> None:
    with pytest.raises(HolotypeError, match="--token") as refused:
        ServeSettings.parse({"token": token}, as_option)
    assert token not in str(refused.value)


@pytest.mark.parametrize("behind", ["\x85", "\xa0", "\x1c", "\x0b"])
def test_a_token_with_more_behind_it_is_another(locked: Client, behind: str) -> None:
    assert locked.get("/models", authorization=f"Bearer secret{behind}").status in (400, 401)
    assert locked.get("/models", authorization="Bearer secret \t").status == 200


def test_the_description_says_what_needs_the_token(client: Client, locked: Client) -> None:
    about = locked.get("/openapi.json").json
    assert about["security"] == [{"token": []}]
    assert about["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    open_ = {path for path, known in about["paths"].items() if known.get("get", {}).get("security") == []}
    assert open_ == {"/health", "/v2/health/live", "/v2/health/ready"}
    assert "security" not in client.get("/openapi.json").json


def test_the_head_of_what_can_be_read(client: Client, locked: Client) -> None:
    for path in ("/health", "/metrics", "/models", "/docs", "/v2"):
        reply = client.ask("HEAD", path)
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["content-type"] == client.get(path).headers["content-type"]
    assert client.ask("HEAD", PREDICT).status == 405
    assert "HEAD" in client.ask("PUT", "/models").headers["allow"]
    assert b'method="HEAD"' in client.get("/metrics").body
    assert locked.ask("HEAD", "/models", authorization=None).status == 401
    assert locked.ask("HEAD", "/health", authorization=None).status == 200


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/static/swagger-ui.css", "/"])
def test_a_page_takes_no_post(client: Client, locked: Client, path: str) -> None:
    for method in ("POST", "OPTIONS", "PUT"):
        reply = client.ask(method, path, b"x")
        assert (reply.status, "GET" in reply.headers["allow"]) == (405, True)
        assert locked.ask(method, path, b"x", authorization=None).status == 401


def test_another_protocol_is_not_spoken_with_a_body(client: Client) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    hidden = b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for body in (f"Content-Length: {len(hidden)}\r\n\r\n".encode(), b"Transfer-Encoding: chunked\r\n\r\n"):
        reply = client.send(head.encode() + body, hidden, more=True)  # it is refused, and then closed
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert b"Upgrade" in reply
        assert b"thresholds" not in reply
    assert client.get("/models", connection="Upgrade", upgrade="h2c").status == 200


@pytest.mark.parametrize("name", ["https://models.example", "", "a@b", "[x]", "a:b:c"])
def test_what_is_no_name_is_not_allowed(name: str) -> None:
    with pytest.raises(HolotypeError, match="expected a name as --allowed-host"):
        check_access(ServeSettings(allowed_hosts=[name]))


def test_room_for_one_request_is_needed() -> None:
    with pytest.raises(HolotypeError, match="--memory of at least --megabytes"):
        ServeSettings.parse({"memory": 1, "megabytes": 4}, as_option)


def test_what_is_nowhere_says_where_to_look(client: Client) -> None:
    assert (client.get("/").status, client.get("/").headers["location"]) == (307, "/docs")
    for path in ("/model", f"/v2/models/{MODEL}/x"):
        reply = client.get(path)
        assert (reply.status, "/docs" in reply.json["error"]) == (404, True)
    assert client.post(PREDICT, {"a": 1}).json["error"].startswith("images: ")
    assert client.post(PREDICT, [1]).json["error"].startswith("the request: ")


def test_a_page_of_another_site_is_refused(client: Client, locked: Client) -> None:
    own = f"http://127.0.0.1:{client.port}"
    assert client.post(PREDICT, PICTURE, origin=own).status == 200
    for origin in (
        "http://evil.example",
        "null",
        "",
        f"{own}.evil.example",
        own[:-1],
        "http://127.0.0.1",
        f"http://x@127.0.0.1:{client.port}",
    ):
        assert client.post(PREDICT, PICTURE, origin=origin).status == 403
    for site in ("cross-site", "same-site", "x"):
        assert client.post(PREDICT, PICTURE, sec_fetch_site=site).status == 403
    for headers in ({"origin": "http://page.example"}, {"sec_fetch_site": "cross-site"}):
        assert locked.post(PREDICT, PICTURE, **headers).status == 403  # a browser may send the password by itself
    assert client.post(PREDICT, PICTURE, origin=f"https://127.0.0.1:{client.port}").status == 200  # a proxy with TLS


@pytest.mark.parametrize("up", UPWARDS)
@pytest.mark.parametrize("path", ["/{}", "/static/{}", "/models/{}", "/v2/models/{}/ready", "/models/{}/predict"])
def test_no_way_upwards_is_found(client: Client, path: str, up: str) -> None:
    reply = client.get(path.format(f"{up}/{up}/etc/passwd"))
    assert reply.status in (404, 405, 422)
    assert b"root:" not in reply.body


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_do_nothing(client: Client, method: str) -> None:
    for path in ("/models", PREDICT, "/metrics"):
        assert client.ask(method, path).status in (400, 405)


def test_every_answer_has_safe_headers_and_a_number(client: Client) -> None:
    for reply in (
        client.get("/models"),
        client.get("/nowhere"),
        client.post(PREDICT, b"x"),
        client.get("/x", host="y"),
    ):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        assert len(reply.headers["x-request-id"]) == 32
        assert "server" not in reply.headers
    assert client.get("/models", x_request_id="mine-7").headers["x-request-id"] == "mine-7"
    for wrong in ("a b", "a" * 65, "\xe9", '"><script>'):
        assert client.get("/models", x_request_id=wrong).headers["x-request-id"] != wrong


def test_a_large_body_is_refused_before_it_is_read(client: Client) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1900000\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert b" 413 " in client.send(f"{head}\r\n".encode(), b"x" * 1_900_000, more=True)
    chunked = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert b" 413 " in client.send(chunked, *[b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 17, b"0\r\n\r\n", more=True)


def test_all_bodies_together_have_a_limit(saved: Path) -> None:
    with served(str(saved), megabytes=2, memory=2) as client:
        waiting = []
        for _ in range(2):
            connection = socket.create_connection(("127.0.0.1", client.port))
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n"
            connection.sendall(head.encode() + b"x" * 1_000_000)
            waiting.append(connection)
        until = time.monotonic() + 60
        while b"holotype_body_bytes 2e+06" not in client.get("/metrics").body and time.monotonic() < until:
            time.sleep(0.05)
        reply = client.post(PREDICT, b"x" * 200_000)
        assert reply.status == 503
        assert reply.headers["retry-after"]
        for connection in waiting:
            connection.close()
        while client.post(PREDICT, PICTURE).status != 200 and time.monotonic() < until:
            time.sleep(0.05)
        assert client.post(PREDICT, PICTURE).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: +5"],
        ["Content-Length: -1"],
        ["Content-Length: 5 6"],
        ["Transfer-Encoding: identity, chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Host: other"],
        ["X: " + "y" * 40_000],
    ],
)
def test_no_request_hides_in_another(client: Client, lines: list[str]) -> None:
    head = "\r\n".join([f"POST {PREDICT} HTTP/1.1", "Host: localhost", *lines, "", ""])
    reply = client.send(head.encode() + b"0\r\n\r\nGET /models HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"thresholds" not in reply
    assert b" 200 " not in reply


def test_a_head_without_an_end_is_not_kept(client: Client) -> None:
    received = client.send(b"GET /models HTTP/1.1\r\nHost: localhost\r\n", *[b"X: " + b"y" * 8000 + b"\r\n"] * 500)
    assert b" 200 " not in received


def test_slow_clients_are_let_go_and_others_are_answered(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE", 0.5)
    with served(str(saved), seconds=10) as client:
        body = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx".encode()
        starts = [b"", b"G", b"GET /models HTTP/1.1\r\nHost: x\r\nX: ", body]
        slow = []
        for number in range(200):
            connection = socket.create_connection(("127.0.0.1", client.port), timeout=60)
            connection.sendall(starts[number % len(starts)])
            slow.append(connection)
        assert client.post(PREDICT, PICTURE).status == 200
        for connection in slow:
            while connection.recv(65536):  # until the server closes it; it times out where that does not happen
                pass
            connection.close()


def test_a_connection_may_rest_between_two_requests(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE", 0.2)
    with served(str(saved)) as client, socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        for _ in range(3):
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while not received.endswith(b"}"):
                received += connection.recv(65536)
            time.sleep(0.5)
        connection.sendall(b"GET /v2")  # a head that began has no more time than any other
        assert connection.recv(65536) == b""
