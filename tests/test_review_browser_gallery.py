"""The gallery and the exemplars of the review page, in a real browser."""

import re

import pytest
from browser import RED, SHOWN, TAG, Open, answered, press, question, verdict
from playwright.sync_api import BrowserContext, Page, expect

from holotype.review.review import Review

pytestmark = pytest.mark.browser


def test_the_gallery_sorts_filters_and_answers(page: Page, review: Review) -> None:
    press(page, "n")
    answered(page, 1)
    with page.expect_response("**/api/refit"):
        page.click("header [data-mode=gallery]")
    cells = page.locator("#items .cell")
    names = [item.id for item in review.gallery(RED, "found")[0]]
    expect(cells).to_have_count(len(names))
    expect(cells.first).to_have_attribute("data-row", names[0])
    assert [cell.get_attribute("data-row") for cell in cells.all()] == names
    page.select_option("select[name=sort]", "worst")
    expect(cells.first).to_have_attribute("data-row", names[-1])
    page.fill("input[name=text]", names[3])
    expect(cells).to_have_count(sum(names[3] in name for name in names))
    page.keyboard.press("y")  # is text here
    page.fill("input[name=text]", "")
    page.select_option("select[name=answered]", "true")
    expect(cells).to_have_count(review.gallery(RED, "found", answered=True)[1])
    page.select_option("select[name=answered]", "")
    page.check("input[value=rejected]", force=True)
    expect(page.locator("#gallery-about")).to_have_text(re.compile(f"^{review.gallery(RED, 'rejected')[1]} "))
    expect(cells).to_have_count(60)
    page.locator("#gallery-more").scroll_into_view_if_needed()
    expect(cells).to_have_count(120)
    cells.first.scroll_into_view_if_needed()
    name = cells.nth(1).get_attribute("data-row")
    cells.nth(1).click()
    page.wait_for_selector("#viewer[data-shown=true]")
    page.click("#viewer button[data-verdict=no]")
    expect(cells.nth(1)).to_have_attribute("data-mark", "no")
    assert verdict(review)[str(name), RED] == "no"
    assert "score" in str(cells.nth(1).get_attribute("aria-label"))
    page.click("#viewer-close")
    page.keyboard.press("z")
    expect(cells.nth(1)).to_have_attribute("data-mark", "")


def test_the_path_of_an_image_is_shown_and_copied(open_page: Open, context: BrowserContext, review: Review) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = open_page("#mode=gallery")
    page.locator("#items .cell").nth(1).click()
    for _ in range(2):
        page.wait_for_selector("#viewer[data-shown=true]")
        path = review.pool.path(review.pool.rows[page.inner_text("#viewer-name")])
        expect(page.locator("#viewer-path")).to_have_text(path)
        page.click("#viewer-copy")
        expect(page.locator("#viewer-copy")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == path
        page.click("#viewer-next")
        expect(page.locator("#viewer-copy")).to_have_text("Copy path")


def test_the_exemplars_are_there_before_anything_is_learnt(page: Page, context: BrowserContext, review: Review) -> None:
    """What comes of another exemplar takes a while on a large pool; that there is one is said at once."""
    context.route("**/api/refit", lambda _: None)  # it never ends
    name = question(page)
    page.drag_and_drop("#question", "#exemplars")
    expect(page.locator("#exemplar-strip button")).to_have_count(2)
    expect(page.locator("#exemplar-name")).to_have_text(name)
    expect(page.locator("#withdraw-why")).to_be_hidden()
    page.click("#withdraw")
    expect(page.locator("#exemplar-strip button")).to_have_count(0)
    expect(page.locator("#exemplar-name")).to_have_text("0")
    assert [one.name for one in review.exemplars(RED)] == ["0"]
    page.keyboard.press("z")
    expect(page.locator("#exemplar-strip button")).to_have_count(2)


def exemplars(page: Page) -> list[str]:
    strip = page.locator("#exemplar-strip button")
    return [str(one.get_attribute("aria-label")).removeprefix("Exemplar ") for one in strip.all()]


def test_an_exemplar_is_dragged_there_and_withdrawn(page: Page, review: Review) -> None:
    expect(page.locator("#withdraw")).to_have_attribute("aria-disabled", "true")
    expect(page.locator("#withdraw-why")).to_contain_text("It is the only one, so it stays")
    page.click("#withdraw", force=True)
    expect(page.locator("#notices")).to_contain_text("It is the only one, so it stays")
    name = question(page)
    page.drag_and_drop("#question", "#exemplars")
    expect(page.locator("#exemplar-strip button")).to_have_count(2)
    assert exemplars(page) == ["0", name]
    expect(page.locator("#exemplar-name")).to_have_text(name)
    page.click("#withdraw")
    expect(page.locator("#exemplar-strip button")).to_have_count(0)
    assert [one.name for one in review.exemplars(RED)] == ["0"]
    page.keyboard.press("l")
    cell = page.locator("#items .cell").nth(2)
    dragged = str(cell.get_attribute("data-row"))
    cell.drag_to(page.locator(".tab").nth(1))
    expect(page.locator("#notices")).to_contain_text(f"{dragged} is an exemplar of {TAG}.")
    assert [one.name for one in review.exemplars(TAG)] == ["1", dragged]
    page.keyboard.press("z")
    expect(page.locator("#notices")).to_contain_text("Undone")
    page.keyboard.press("q")
    page.wait_for_selector(SHOWN)
    made = press(page, "e")
    expect(page.locator("#exemplar-strip button")).to_have_count(2)
    assert [one.name for one in review.exemplars(RED)] == ["0", made]
    shown = question(page)
    page.keyboard.press("Shift+E")
    page.keyboard.press("2")
    expect(page.locator("#question-name")).not_to_have_text(shown)
    page.keyboard.press("]")
    expect(page.locator("#exemplar-strip button")).to_have_count(2)
    assert [one.name for one in review.exemplars(TAG)] == ["1", shown]
