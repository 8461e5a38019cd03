"""A precision is certified on the review page, by keys alone or with a finger, in a real browser."""

import re

import pytest
from browser import CLASSES, PHONE, RED, SEEN, SHOWN, Open, verdict
from playwright.sync_api import Page, expect

from holotype import Classifier
from holotype.answers.records import NewAnswer
from holotype.model.promises import PROMISES_FILE
from holotype.review.review import Review
from holotype.runs.certify import certify_run

pytestmark = pytest.mark.browser
NUMBERS = re.compile(rf"{RED}: 2\d images, from .* At least 2\d of them show it \(95 %, with 95 % confidence\)")
HEADING = "#sample-title"


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
    expect(page.locator("#certify-lines")).to_contain_text(NUMBERS)
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


def started(page: Page) -> int:
    """Open the dialog, start with what it has, and return how many images it asks about."""
    page.keyboard.press("c")
    expect(page.locator("#certify-start")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#certify-answer")).to_be_focused()
    return int(page.locator("#certify-answer").inner_text().split()[1])


def promised(review: Review, precision: float = 0.95) -> None:
    """Answer the sample of a class as another program would, until a command promises it."""
    for _ in range(9):
        _, form = certify_run(review.folder.path, RED, precision)
        if not form:
            return
        rows = [review.pool.rows[line.split(",")[0]] for line in form[1:]]
        review.take(
            [NewAnswer(str(row), RED, "no" if row % 10 else "yes", digest=review.pool.digest(row)) for row in rows]
        )
    raise AssertionError("it never ends")


def test_what_holds_is_said_when_the_dialog_opens_and_when_it_changes_underneath(page: Page, review: Review) -> None:
    started(page)
    promised(review)  # by a command, behind the open dialog
    expect(page.locator("#certify-holding")).to_contain_text(NUMBERS)
    expect(page.locator("#certify-ask")).to_be_visible()
    expect(page.locator("#certify-end")).to_be_hidden()
    page.keyboard.press("Escape")
    page.click("#apply-open")
    expect(page.locator("#apply-promised")).to_have_text(re.compile(rf"promised of {RED} ends with this"))
    page.click("#apply-start")
    expect(page.locator("#apply-verdict")).to_contain_text(f"What was promised of {RED} does not hold any more")
    page.click("#apply-end .close")
    assert not (review.folder.model / PROMISES_FILE).exists()
    page.keyboard.press("c")
    expect(page.locator("#certify-start")).to_be_focused()
    expect(page.locator("#certify-now")).to_be_hidden()
    expect(page.locator("#certify-end")).to_be_hidden()


def test_the_keys_are_for_the_page_after_the_pointer_opened_something(page: Page) -> None:
    page.click("[data-mode=pages]")
    expect(page.locator("#cells .cell").first).to_be_focused()
    page.locator(".tab").nth(1).click()
    expect(page.locator("#cells .cell").first).to_be_focused()
    page.locator(".tab").nth(0).click()
    expect(page.locator("#cells .cell").first).to_be_focused()
    page.click("#apply-open")
    page.click("#apply-ask .close")
    expect(page.locator("#cells .cell").first).to_be_focused()
    page.click("#certify-open")
    page.click("#certify-start")
    page.click("#certify-answer")
    expect(page.locator("#cells-about")).to_contain_text("1 to ")
    expect(page.locator("#cells .cell").first).to_be_focused()
    expect(page.locator(SEEN)).to_have_count(page.locator("#cells .cell").count())
    page.keyboard.press("Enter")
    expect(page.locator("#cells-about")).to_contain_text("25 to ")


def test_a_sample_that_is_gone_on_with_asks_for_the_rest(page: Page) -> None:
    page.click("[data-mode=pages]")
    expect(page.locator(HEADING)).to_be_hidden()
    count = started(page)
    page.keyboard.press("Enter")
    expect(page.locator("#cells-about")).to_contain_text("1 to ")
    expect(page.locator(SEEN)).to_have_count(page.locator("#cells .cell").count())
    page.keyboard.press("y")
    page.click("#certify-open")  # in between: the page stays as it is marked
    page.click("#certify-answer")
    expect(page.locator("#cells .cell[data-mark=yes]")).to_have_count(1)
    expect(page.locator("#cells .cell:focus")).to_have_count(1)  # the keys are for the page again
    page.keyboard.press("r")  # the others are put aside
    page.keyboard.press("Enter")
    expect(page.locator("#cells-about")).to_contain_text(f"25 to {count} of {count}")
    page.keyboard.press("Escape")
    expect(page.locator("#certify-answer")).to_have_text(f"Answer {count - 1} images")
    page.keyboard.press("Enter")
    expect(page.locator("#cells-about")).to_contain_text(f"of {count - 1} drawn at random")
    expect(page.locator(HEADING)).to_have_text("A random sample: look closely, this is the test.")
    page.keyboard.press("]")
    expect(page.locator("#certify-class")).to_have_value(CLASSES[1])  # of the class at hand nothing was found yet
    expect(page.locator("#certify-start")).to_be_focused()
    expect(page.locator(HEADING)).to_be_hidden()
