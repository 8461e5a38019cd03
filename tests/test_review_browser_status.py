"""How a class stands is said at once, also where what the last answers moved takes a while, in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from browser import RED, SHOWN, Held, Open, answered, press, served
from playwright.sync_api import BrowserContext, Page, expect
from reviewer import answer

from holotype.review.review import Review

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def answered_run(reviewed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with 30 answers of an earlier sitting."""
    out = Path(shutil.copytree(reviewed_run, tmp_path_factory.mktemp("answered") / "out"))
    with Review.open(out) as review:
        answer(review, RED, 30)
    return out


@pytest.fixture
def later_review(answered_run: Path, tmp_path: Path) -> Iterator[tuple[Review, str]]:
    with Review.open(shutil.copytree(answered_run, tmp_path / "out")) as review, served(review) as address:
        yield review, address


def test_what_is_known_is_said_before_what_takes_a_while(
    later_review: tuple[Review, str], context: BrowserContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    review, address = later_review
    compared, look_back = Event(), review._look_back

    def slowly() -> None:
        assert compared.wait(60)
        look_back()

    monkeypatch.setattr(review, "_look_back", slowly)
    page = context.new_page()
    page.goto(address)
    answered(page, 30)
    found = len(review.state.refined.groups.found(0))
    expect(page.locator("#st-found")).to_have_text(str(found))
    expect(page.locator("#st-change")).to_have_text("comparing…")
    compared.set()
    joined, left = (review.standing(RED).joined, review.standing(RED).left)
    expect(page.locator("#st-change")).to_have_text(
        f"+{joined} found, \u2212{left}" if joined + left else "nothing moved"
    )
    expect(page.locator("#st-hint")).not_to_be_empty()


def test_a_reload_shows_what_was_known_until_the_server_says_what_is(page: Page, context: BrowserContext) -> None:
    press(page, "y")
    press(page, "n")
    answered(page, 2)
    page.wait_for_load_state("networkidle")
    found = page.inner_text("#st-found")
    held = Held(context, "**/api/state*")
    page.reload()
    answered(page, 2)
    expect(page.locator("#st-found")).to_have_text(found)
    expect(page.locator("#st-hint")).to_have_text("As it was known last. Asking how it is now…")
    expect(page.locator("#exemplar-name")).to_have_text("0")
    held.let_go()
    expect(page.locator("#st-hint")).to_contain_text("The first 20 answers")


def test_what_is_not_known_yet_is_said_to_be_on_its_way(open_page: Open, context: BrowserContext) -> None:
    held = Held(context, "**/api/state*")
    page = open_page()
    page.wait_for_selector(SHOWN)
    expect(page.locator("#st-hint")).to_have_text("Reading the answers, and what they lead to…")
    for figure in ("answered", "found", "size", "precision", "change"):
        expect(page.locator(f"#st-{figure}")).to_have_text("…")
    held.let_go()
    answered(page, 0)
