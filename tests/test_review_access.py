"""Who gets into the review page: who has the address of the terminal, and nobody else of this machine."""

import pickle
import stat
import subprocess
import sys
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
from browser import CELL, RED, SHOWN, answered, look, press, served
from client import Client, answers
from playwright.sync_api import BrowserContext, expect

from holotype.review.app import SERVED
from holotype.review.review import Review

PATHS = [
    *(f"/static/{name}" for name in SERVED),
    "/api/version",
    "/api/state?label=red",
    "/api/questions?label=red&n=5",
    "/api/gallery?label=red&part=found",
    "/api/apply",
    "/answers.csv",
    "/label-studio.json",
    "/report",
    "/nothing",
    "/?label=red",
]


def nobody(client: Client, cookie: str | None = None) -> Client:
    """Return a client that knows all but the cookie."""
    other = object.__new__(Client)
    other.__dict__ = client.__dict__ | {"cookie": cookie}
    return other


@pytest.mark.parametrize(
    "cookie",
    [
        None,
        "",
        "holotype",
        "holotype-{port}=",
        "holotype-{port}=x",
        "holotype-1={value}",
        "={value}",
        "{value}",
        "\xff",
    ],
)
def test_without_the_cookie_there_is_nothing(refusing: Client, cookie: str | None) -> None:
    value = str(refusing.cookie).partition("=")[2]
    other = nobody(refusing, cookie and cookie.format(port=refusing.port, value=value))
    for path in [*PATHS, f"/image/3/large?v={refusing.nonce}", f"/exemplar/0/thumb?v={refusing.nonce}&name=0"]:
        answer = other.get(path)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert refusing.nonce not in answer.text
        assert "set-cookie" not in answer.headers
    refusing.show(3)
    for path in ("/api/answers", "/api/undo", "/api/withdraw", "/api/refit", "/api/apply"):
        assert other.post(path, answers()).status == 401
    page = other.get("/")
    assert page.status == 401
    assert "Open the address that the terminal shows" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")


@pytest.mark.parametrize(
    "token", ["", "x", "{token}x", "{half}", "{token}&token=x", "x&token={token}", "%00", "\u00e9"]
)
def test_a_wrong_token_opens_nothing(refusing: Client, token: str) -> None:
    right = refusing.address.partition("token=")[2]
    given = token.format(token=right, half=right[:-1]).encode().decode("latin-1")
    answer = nobody(refusing).get(f"/?token={given.replace(chr(0xC3), '%C3').replace(chr(0xA9), '%A9')}")
    assert (answer.status, "set-cookie" in answer.headers) == (401, False)
    for path in ("/answers.csv", "/api/version", "/static/main.js"):  # the token opens the page alone
        assert nobody(refusing).get(f"{path}?token={right}").status == 401
    bearer = {"Authorization": f"Bearer {given}".encode("ascii", "replace").decode()}
    assert nobody(refusing).get("/api/version", **bearer).status == 401


def test_the_right_token_becomes_a_cookie_and_leaves_the_address(refusing: Client) -> None:
    token = refusing.address.partition("token=")[2]
    answer = nobody(refusing).get(f"/?token={token}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert answer.headers["referrer-policy"] == "no-referrer"
    cookie = answer.headers["set-cookie"].split("; ")
    assert cookie[0].startswith(f"holotype-{refusing.port}=")  # all ports of a host share its cookies
    assert cookie[1:] == ["Path=/", "HttpOnly", "SameSite=Strict"]
    assert token not in cookie[0]
    again = refusing.get("/?token=of-an-earlier-start")  # a bookmark, in a browser that is in already
    assert (again.status, again.headers["location"]) == (303, "/")
    assert token not in refusing.get("/").text
    beside = nobody(refusing, f"a=b; holotype-{refusing.port}=planted; {refusing.cookie}; c")
    assert beside.get("/").status == 200
    assert nobody(refusing).get("/api/version", Authorization=f"Bearer {token}").status == 200
    jar = build_opener(HTTPCookieProcessor(CookieJar()))
    with jar.open(refusing.address) as page:
        assert (page.status, page.url) == (200, f"{refusing.origin}/")


def test_the_key_is_new_at_each_start(review: Review, client: Client) -> None:
    with served(review) as address:
        other = Client(address)
        assert address.partition("token=")[2] != client.address.partition("token=")[2]
        assert nobody(other, client.cookie).get("/").status == 401
        assert nobody(other).get(f"/?{client.address.partition('?')[2]}").status == 401
        both = nobody(other, f"{client.cookie}; {other.cookie}")
        assert both.get("/").status == 200
        assert nobody(client, both.cookie).get("/").status == 200


def test_the_browser_is_started_with_an_address_that_works_once(reviewed_run: Path, tmp_path: Path) -> None:
    log = tmp_path / "opened"
    code = (
        "import webbrowser\nfrom pathlib import Path\nfrom functools import partial\n"
        "from holotype.review.server import serve\nfrom holotype.review.review import Review\n"
        f"webbrowser.open = Path({str(log)!r}).write_text\n"
        f"with Review.open(Path({str(reviewed_run)!r})) as review:\n"
        "    serve(review, open_browser=True, say=partial(print, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = child.stdout.readline().split()[2]
        client = Client(said)  # which waits until the browser was started
        opened = log.read_text()
        assert opened != said
        assert Client(opened).get("/").status == 200
        assert nobody(client).get(f"/?{opened.partition('?')[2]}").status == 401
        assert Client(said).get("/").status == 200
        child.terminate()


def test_no_file_of_the_run_holds_the_key(review: Review, client: Client) -> None:
    client.show(3)
    assert client.answer(3).status == 200
    secrets = [client.address.partition("token=")[2].encode(), str(client.cookie).partition("=")[2].encode()]
    written = [path.read_bytes() for path in review.out.rglob("*") if path.is_file()]
    assert written
    assert not any(secret in content for content in written for secret in secrets)


def test_another_user_sees_nothing_of_a_run(review: Review) -> None:
    assert stat.S_IMODE(review.out.stat().st_mode) & 0o007 == 0
    review.answers.copy(review.out / "copy.db")
    assert stat.S_IMODE((review.out / "copy.db").stat().st_mode) == 0o600


def test_a_copy_of_a_review_is_a_review_of_the_same_run(review: Review) -> None:
    with pickle.loads(pickle.dumps(review)) as other:
        label = review.classes[0]
        row = review.queue(label).next(1)[0]
        review.answers.add(row.id, label, "yes")
        assert [one.id for one in other.answers.current()] == [row.id]


@pytest.mark.browser
def test_a_link_on_another_site_leads_to_the_page(context: BrowserContext, refusing: Client) -> None:
    page = context.new_page()
    for address in (refusing.address, f"{refusing.origin}/"):
        page.goto(f"http://localhost:{refusing.port}/static/main.js")  # another site: its name is another
        page.evaluate("(to) => { location.href = to }", address)
        page.wait_for_selector(CELL)
        assert page.url.startswith(f"{refusing.origin}/#")
    assert page.evaluate("document.cookie") == ""
    page.close()


@pytest.mark.browser
def test_two_tabs_and_the_way_back_need_no_token(context: BrowserContext, served_review: tuple[Review, str]) -> None:
    page, address = context.new_page(), served_review[1]
    page.goto(f"{address}#mode=one")
    press(page, "y")
    page.goto("about:blank")
    page.go_back()
    page.wait_for_selector(SHOWN)
    answered(page, 1)
    other = context.new_page()
    other.goto(address.partition("?")[0])
    answered(other, 1)
    assert "token" not in page.url + other.url
    with other.expect_download() as download:
        other.click("#menu-open")
        other.click("text=Answers (CSV)")
    assert ",red,yes," in Path(download.value.path()).read_text()
    page.close()
    other.close()


@pytest.mark.browser
def test_a_page_of_an_earlier_start_says_what_to_open(context: BrowserContext, review: Review) -> None:
    page = context.new_page()
    with served(review) as address:
        page.goto(f"{address}#mode=one")
        press(page, "y")
        answered(page, 1)
        before = str(page.get_attribute("body", "data-nonce"))
        port = int(address.partition("/?")[0].rpartition(":")[2])
    with served(review, port) as address:
        look(page)
        expect(page.locator("#unsaved")).to_contain_text("open the address that the terminal shows")
        reloaded = context.new_page()
        reloaded.goto(address.partition("?")[0])
        expect(reloaded.locator("h1")).to_have_text("Open the address that the terminal shows")
        reloaded.goto(f"{address}#mode=one")
        press(reloaded, "n")
        answered(reloaded, 2)
        look(page)
        expect(page.locator("body")).not_to_have_attribute("data-nonce", before)
        answered(page, 2)
    assert {one.verdict for one in review.answers.current()} == {"yes", "no"}
    assert {one.label for one in review.answers.current()} == {RED}
    page.close()
