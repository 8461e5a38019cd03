"""Searching by words, and describing a class by them, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CELL, PHONE, RED, SEEN, SHOWN, TAG, Open, answered, look, served, verdict
from conftest import Picture
from playwright.sync_api import Browser, Page, expect
from worded import worded_run

from holotype import Settings
from holotype.encoders.text import TextEncoder
from holotype.errors import EncoderError
from holotype.review import words
from holotype.review.review import Review
from holotype.review.session import Session

pytest.importorskip("transformers")
pytestmark = pytest.mark.browser
WORDS = "a red cat"


@pytest.fixture(scope="module")
def reviewed_run(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Iterator[Path]:
    yield from worded_run(tmp_path_factory, picture)


def search(page: Page, text: str = WORDS) -> None:
    page.keyboard.press("/")
    expect(page.locator("#words")).to_be_focused()
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(page.locator("#trail-name")).to_have_text(text)
    expect(page.locator("#trail-about")).to_have_text(f"Found by {text}")


def descriptions(page: Page, *texts: str) -> None:
    expect(page.locator("#descriptions .described-text")).to_have_text(list(texts))


def rows(page: Page) -> list[int]:
    expect(page.locator(CELL).first).to_be_visible()
    return [int(cell.get_attribute("data-row") or "") for cell in page.query_selector_all("#cells .cell")]


def test_search_mark_describe_and_apply_with_keys_alone(open_page: Open, review: Review) -> None:
    page = open_page("")
    page.wait_for_selector(SEEN)
    first = rows(page)
    search(page)
    best = [one.row for one in Session(review, "ann").words.find(WORDS, RED, 48)]
    assert rows(page) == best[:24]
    expect(page.locator("#cells .cell").first).to_be_focused()
    expect(page.locator("#cells .cell[data-seen]")).to_have_count(24)
    marked = page.locator("#cells .cell[data-mark='']").first.get_attribute("data-row")
    page.locator(f"#cells [data-row='{marked}']").focus()
    page.keyboard.press("y")
    page.locator("#trail-describe").focus()
    page.keyboard.press("Enter")
    descriptions(page, WORDS)
    expect(page.locator("#described-wait")).to_be_visible()
    expect(page.locator("#trail-describe")).to_have_text("Added as description")
    page.locator("#cells .cell").first.focus()
    page.keyboard.press("Enter")
    assert rows(page) == best[24:]
    expect(page.locator("#st-answered")).not_to_have_text("0")
    assert verdict(review)[str(marked), RED] == "yes"
    page.keyboard.press("e")  # the image in focus
    expect(page.locator("#exemplar-strip button")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator("#trail")).to_be_hidden()
    assert set(rows(page)) & set(first)
    page.reload()
    page.wait_for_selector(SEEN)
    descriptions(page, WORDS)
    page.click("#apply-open")
    expect(page.locator("#apply-described")).to_contain_text("The words that describe red have changed")
    page.click("#apply-start")
    expect(page.locator("#apply-verdict")).to_contain_text("The answers are applied")
    page.keyboard.press("Escape")
    expect(page.locator("#described-wait")).to_be_hidden()
    assert Settings.load(review.folder.settings).descriptions == {RED: [WORDS]}
    assert [one.text for one in review.folder.load_model().descriptions_] == [WORDS]


def test_the_enter_of_a_search_that_is_pressed_twice_answers_nothing(open_page: Open, review: Review) -> None:
    page = open_page("")
    page.wait_for_selector(SEEN)
    search(page)
    shown = rows(page)
    expect(page.locator("#cells .cell[data-seen]")).to_have_count(24)
    page.keyboard.press("Enter")
    expect(page.locator("#notices")).to_contain_text("Nothing is marked. Submit again says no to 24 images.")
    assert rows(page) == shown
    assert not verdict(review)
    page.keyboard.press("Enter")  # whoever means it
    expect(page.locator("#cells .cell").first).not_to_have_attribute("data-row", str(shown[0]))
    expect(page.locator("#st-answered")).not_to_have_text("0")
    assert set(verdict(review).values()) == {"no"}


def test_the_box_has_the_words_that_are_shown(open_page: Open, review: Review) -> None:
    page = open_page("")
    page.wait_for_selector(SEEN)
    search(page)
    page.keyboard.press("/")
    page.keyboard.type("anything else")
    page.keyboard.press("Escape")
    page.locator("#cells .cell").first.focus()
    expect(page.locator("#words")).to_have_value(WORDS)
    page.keyboard.press("Escape")
    expect(page.locator("#trail")).to_be_hidden()
    expect(page.locator("#words")).to_have_value("")


def test_without_any_answer_words_are_applied_after_an_apply(open_page: Open, review: Review) -> None:
    page = open_page("")
    page.wait_for_selector(SEEN)
    page.click("#apply-open")
    expect(page.locator("#apply-described")).to_be_hidden()
    page.click("#apply-start")
    expect(page.locator("#apply-verdict")).to_contain_text("The answers are applied")
    page.click("#apply-end .close")
    expect(page.locator("dialog[open]")).to_have_count(0)
    search(page)
    page.click("#trail-describe")
    descriptions(page, WORDS)
    page.click("#apply-open")
    page.click("#apply-start")
    expect(page.locator("#described-wait")).to_be_hidden()
    assert review.version == 0
    assert [one.text for one in review.folder.load_model().descriptions_] == [WORDS]


def test_what_one_tab_adds_the_others_see_and_undo(open_page: Open, review: Review) -> None:
    page, other = open_page(""), open_page("#mode=gallery", PHONE)
    page.wait_for_selector(SEEN)
    search(page)
    page.click("#trail-describe")
    descriptions(page, WORDS)
    look(other)
    descriptions(other, WORDS)
    assert other.evaluate("document.documentElement.scrollWidth <= innerWidth")
    other.click("#descriptions .small")
    descriptions(other)
    expect(other.locator("#notices")).to_contain_text("describes red no more")
    expect(other.locator("#described")).to_be_hidden()
    look(page)
    descriptions(page)
    expect(page.locator("#trail-describe")).to_have_text("Add as description")
    other.keyboard.press("z")
    descriptions(other, WORDS)
    expect(other.locator("#notices")).to_contain_text("Undone: removing the description")
    look(page)
    descriptions(page, WORDS)
    page.keyboard.press("z")
    descriptions(page)
    page.keyboard.press("]")
    expect(page.locator("#pages-title")).not_to_contain_text("red")
    page.click("#trail-describe")  # of the other class
    descriptions(page, WORDS)
    assert Settings.load(review.folder.settings).descriptions == {TAG: [WORDS]}
    page.keyboard.press("[")
    descriptions(page)
    page.click("#trail-describe")
    expect(page.locator("#notices")).to_contain_text("they can stand for one class only")
    assert review.version == 0


def test_a_description_is_searched_again_from_every_view(open_page: Open) -> None:
    page = open_page()
    page.wait_for_selector(SHOWN)
    search(page)
    page.click("#trail-describe")
    descriptions(page, WORDS)
    for key, section in (("q", "#one"), ("l", "#gallery"), ("m", "#map")):
        page.keyboard.press(key)
        expect(page.locator(f"{section} #words")).to_be_visible()
        page.click(".described-text")
        expect(page.locator("#trail-name")).to_have_text(WORDS)
        expect(page.locator("#pages #words")).to_have_value(WORDS)
        page.keyboard.press("Escape")
        expect(page.locator(section)).to_be_visible()


def test_what_cannot_be_searched_is_told_at_the_box(
    open_page: Open, review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> TextEncoder:
        raise EncoderError("the hub cannot be reached")

    monkeypatch.setattr(words, "load_text_encoder", fail)
    page = open_page("", PHONE)
    page.wait_for_selector(SEEN)
    page.fill("#words", WORDS)
    page.keyboard.press("Enter")
    expect(page.locator("#words-why")).to_have_text("Nothing was searched: the hub cannot be reached.")
    expect(page.locator("#words")).to_be_focused()
    expect(page.locator("#trail")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    monkeypatch.undo()
    page.fill("#words", "x" * 200)
    page.keyboard.press("Enter")
    expect(page.locator("#words-why")).to_contain_text("say it in fewer words")
    page.fill("#words", "  ")
    page.keyboard.press("Enter")
    expect(page.locator("#words-why")).to_contain_text("Type what the images show")
    page.fill("#words", WORDS)
    page.keyboard.press("Enter")
    expect(page.locator("#trail-name")).to_have_text(WORDS)
    expect(page.locator("#words-note")).to_be_hidden()
    answered(page, 0)


def test_where_no_words_are_known_the_box_says_why(browser: Browser, made_run: Path) -> None:
    with Review.open(made_run) as review, served(review) as address:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        page.goto(address)
        page.wait_for_selector(SEEN)
        expect(page.locator("#words")).to_have_attribute("aria-disabled", "true")
        page.keyboard.press("/")
        page.keyboard.type(WORDS)
        page.keyboard.press("Enter")
        expect(page.locator("#words")).to_have_value("")
        expect(page.locator("#words-why")).to_contain_text("knows no words")
        expect(page.locator("#words-why")).to_contain_text("clip-vit-b32, siglip-b16, siglip2-b16")
        page.keyboard.press("Escape")
        expect(page.locator("#words-note")).to_be_hidden()
        page.close()
        assert [one for one in asked if "/api/words/" in one] == []
