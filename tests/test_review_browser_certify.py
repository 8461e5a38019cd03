"""A precision is certified on the review page, by keys alone or with a finger, in a real browser."""

import re

import pytest
from browser import CLASSES, PHONE, RED, SEEN, SHOWN, Open, verdict
from playwright.sync_api import Page, expect

from holotype import Classifier
from holotype.review.review import Review

pytestmark = pytest.mark.browser


def answer_all(page: Page, k: int) -> list[str]:
    """Mark what is true of each image of the sample, page by page, with keys; return the images."""
    asked = list[str]()
    while page.locator("#certify[open]").count() == 0:
        cells = page.locator("#cells .cell")
        expect(page.locator("#cells-about")).to_contain_text(f"{len(asked) + 1} to ")
        expect(page.locator(SEEN)).to_have_count(cells.count())
        names = [cell.get_attribute("data-id") or "" for cell in cells.all()]
        for place, name in enumerate(names):
            page.keyboard.press("y" if int(name) % 10 == k else "n")
            if place < len(names) - 1:
                page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        asked += names
        after = page.locator(f"#certify[open], #cells .cell:not([data-id='{names[0]}']):first-child")
        expect(after).not_to_have_count(0)
    return asked


def test_a_class_is_certified_by_keys_alone(page: Page, review: Review) -> None:
    page.keyboard.press("c")
    expect(page.locator("#certify-start")).to_be_focused()
    assert page.locator("#certify-class").input_value() == RED
    page.keyboard.press("Enter")
    expect(page.locator("#certify-answer")).to_be_focused()
    expect(page.locator("#certify-answer")).to_have_text(re.compile(r"^Answer \d+ images$"))
    page.keyboard.press("Enter")
    asked = answer_all(page, 0)
    expect(page.locator("#certify-lines")).to_contain_text("at least 95 % of 2")
    (found,) = Classifier.load(review.folder.path).promises_
    assert (found.label, found.precision, found.who) == (RED, 0.95, ["tester"])
    assert len({*asked}) == len(asked)
    assert verdict(review) == {(name, RED): "yes" if int(name) % 10 == 0 else "no" for name in asked}
    page.keyboard.press("Escape")
    expect(page.locator("#certify")).not_to_be_visible()
    expect(page.locator("#pages")).to_be_visible()


def test_what_the_model_makes_of_an_image_is_not_said_meanwhile(page: Page) -> None:
    page.keyboard.press("c")
    page.keyboard.press("Enter")
    expect(page.locator("#certify-answer")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#cells .cell").first).to_have_attribute("title", re.compile("Drawn at random"))
    told = [cell.get_attribute("title") or "" for cell in page.locator("#cells .cell").all()]
    assert all(re.fullmatch(r"\S+\. Drawn at random", title) for title in told)
    page.keyboard.press("Escape")  # left before the end, and gone on with
    expect(page.locator("#certify-answer")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#cells .cell").first).to_have_attribute("title", told[0])
    page.keyboard.press("]")  # another class: nothing of this sample is said of it
    expect(page.locator("#certify")).to_be_visible()


def test_all_classes_at_once_on_a_phone(open_page: Open, review: Review) -> None:
    page = open_page(size=PHONE)
    page.wait_for_selector(SHOWN, state="attached")
    page.click("#certify-open")
    page.select_option("#certify-class", "")
    with review.folder.lock("another command"):
        page.click("#certify-start")
        expect(page.locator("#certify-lines")).to_contain_text("It failed: ")
        expect(page.locator("#certify-lines")).to_contain_text("another command")
    page.click("#certify-again")
    page.click("#certify-start")
    expect(page.locator("#certify-answer")).to_be_visible()
    assert page.locator("#certify-lines li").count() == len(CLASSES)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    box = page.locator("#certify").bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE[0]
    assert page.locator("#certify img[src=x], #certify script").count() == 0  # names with HTML are text
    assert review.version == 0
