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


def test_a_page_of_the_sample_that_is_undone_is_of_the_sample_again(page: Page, review: Review) -> None:
    page.keyboard.press("c")
    page.keyboard.press("Enter")
    expect(page.locator("#certify-answer")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#cells .cell").first).to_be_focused()
    first = page.locator("#cells .cell").first.get_attribute("data-id")
    count = page.locator("#cells .cell").count()
    expect(page.locator(SEEN)).to_have_count(count)
    page.keyboard.press("y")
    page.keyboard.press("Enter")
    expect(page.locator("#st-answered")).to_have_text(str(count))
    if page.locator("#certify[open]").count():
        page.keyboard.press("Escape")
    page.keyboard.press("z")
    expect(page.locator("#cells .cell").first).to_have_attribute("data-id", first or "")
    expect(page.locator("#cells .cell").first).to_have_attribute("title", re.compile("Drawn at random"))
    expect(page.locator("#cells-about")).to_contain_text("drawn at random")
    assert page.evaluate("location.hash").endswith("mode=pages")
    assert not verdict(review)


def test_a_page_of_the_sample_is_undone_after_a_reload_and_from_another_class(page: Page, review: Review) -> None:
    page.keyboard.press("c")
    page.select_option("#certify-class", "")
    page.focus("#certify-start")
    page.keyboard.press("Enter")
    expect(page.locator("#certify-answer")).to_be_focused()
    page.keyboard.press("Enter")
    asked = dict[str, list[str]]()
    while (named := page.evaluate("new URLSearchParams(location.hash.slice(1)).get('class')")) == RED:
        expect(page.locator("#cells .cell").first).to_be_focused()
        names = [cell.get_attribute("data-id") or "" for cell in page.locator("#cells .cell").all()]
        asked.setdefault(named, []).append(names[0])
        expect(page.locator(SEEN)).to_have_count(len(names))
        page.keyboard.press("y")
        with page.expect_response("**/api/refit"):  # what a page of the sample says is learnt at once
            page.keyboard.press("Enter")
        expect(page.locator(f"#cells .cell[data-id='{names[0]}']")).to_have_count(0)
        expect(page.locator("#cells .cell").first).to_be_visible()
    for reload in (False, True):
        if reload:
            page.reload()
            expect(page.locator("#cells .cell").first).to_be_visible()
        before = len(review.answers.current())
        with page.expect_response("**/api/undo"):
            page.keyboard.press("z")
        expect(page.locator("#cells .cell").first).to_have_attribute("data-id", asked[RED].pop())
        expect(page.locator("#cells-about")).to_contain_text(re.compile("drawn at random, .*1 yes"))
        expect(page.locator("#certify")).not_to_be_visible()
        expect(page.locator("#st-answered")).to_have_text(str(len(review.answers.current())))
        assert len(review.answers.current()) < before
        if not asked[RED]:
            break


def test_what_another_tab_found_out_is_what_is_shown(page: Page, open_page: Open, review: Review) -> None:
    page.keyboard.press("c")
    page.keyboard.press("Enter")
    expect(page.locator("#certify-answer")).to_be_focused()
    page.keyboard.press("Escape")
    other = open_page()
    other.keyboard.press("c")
    expect(other.locator("#certify-answer")).to_be_focused()
    other.keyboard.press("Enter")
    answer_all(other, 0)
    expect(other.locator("#certify-lines")).to_contain_text(NUMBERS)
    said = other.locator("#certify-lines li").all_inner_texts()
    other.close()
    page.keyboard.press("c")
    expect(page.locator("#certify-lines li")).to_have_text(said)


def test_a_page_that_is_loaded_anew_knows_what_was_asked_for(page: Page) -> None:
    page.keyboard.press("c")
    page.select_option("#certify-precision", "0.9")
    page.focus("#certify-start")
    page.keyboard.press("Enter")
    expect(page.locator("#certify-answer")).to_be_focused()
    said = page.locator("#certify-lines").inner_text()
    page.reload()
    expect(page.locator("#certify")).not_to_be_visible()
    page.keyboard.press("c")
    expect(page.locator("#certify-answer")).to_be_focused()
    expect(page.locator("#certify-lines")).to_have_text(said)
    page.keyboard.press("Escape")
    with page.expect_response(lambda one: one.url.endswith("/api/certify") and one.request.method == "POST"):
        page.evaluate("""() => {
            const body = JSON.stringify({ label: null, precision: 0.8, answers: null });
            const headers = { "content-type": "application/json" };
            fetch("/api/certify", { method: "POST", body, headers });
        }""")
    page.reload()  # while it runs, or just after
    page.keyboard.press("c")
    expect(page.locator("#certify-lines")).to_contain_text(f"{CLASSES[1]}: 0.8 with 95 % confidence")


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
    page.click("#menu-open")
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
