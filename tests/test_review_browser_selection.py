"""Many images of the list are selected and answered at once, in a real browser: with clicks, a drag, or keys."""

import re

import pytest
from browser import PHONE, RED, Open, answered, verdict
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect

from holotype.review.review import Review

pytestmark = pytest.mark.browser
SELECTED = "#items .cell.selected"


@pytest.fixture
def page(open_page: Open, review: Review) -> Page:
    """The rejected images, of which the first are shown."""
    page = open_page("#mode=gallery")
    page.check("input[value=rejected]", force=True)
    expect(page.locator("#gallery-about")).to_have_text(f"{review.gallery(RED, 'rejected')[1]} images")
    shown(page)
    return page


def shown(page: Page, count: int = 12) -> None:
    """Wait until the first images of the list are painted: only what is shown can be selected."""
    page.wait_for_function(
        f"""() => {{
        const images = [...document.querySelectorAll("#items img")].slice(0, {count});
        return images.length === {count} && images.every((one) => one.complete && one.naturalWidth);
        }}"""
    )


def rows(page: Page, cells: str = "#items .cell") -> list[str]:
    return [cell.get_attribute("data-row") or "" for cell in page.query_selector_all(cells)]


def test_a_range_is_answered_at_once_and_undone_at_once(page: Page, review: Review) -> None:
    cells = page.locator("#items .cell")
    cells.nth(1).click(modifiers=["ControlOrMeta"])
    cells.nth(8).click(modifiers=["Shift"])
    wanted = rows(page)[1:9]
    assert rows(page, SELECTED) == wanted
    cells.nth(4).click()  # once something is selected, a click selects
    wanted.remove(rows(page)[4])
    assert rows(page, SELECTED) == wanted
    expect(page.locator("#selection-about")).to_have_text("7 images selected")
    assert "selected" in str(cells.nth(1).get_attribute("aria-label"))
    page.locator("#selection [data-verdict=no]").click()
    answered(page, 7)
    assert verdict(review) == {(row, RED): "no" for row in wanted}
    assert len({one.act for one in review.answers.current()}) == 1
    expect(page.locator("#selection")).to_be_hidden()
    expect(page.locator("#notices")).to_contain_text("7 images: no. Undo takes it back.")
    page.keyboard.press("z")
    answered(page, 0)
    expect(page.locator("#items .cell[data-mark=no]")).to_have_count(0)
    assert verdict(review) == {}


def test_a_drag_selects_what_is_inside(page: Page, review: Review) -> None:
    page.click("#select")
    expect(page.locator("#select")).to_have_attribute("aria-pressed", "true")
    across = page.evaluate("getComputedStyle(document.querySelector('#items')).gridTemplateColumns.split(' ').length")
    first, last = (page.locator("#items .cell").nth(k).bounding_box() for k in (1, across + 2))
    assert first
    assert last
    page.mouse.move(first["x"] + 20, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(last["x"] + 20, last["y"] + 20, steps=4)
    expect(page.locator(".band")).to_be_visible()
    page.mouse.up()
    expect(page.locator(".band")).to_have_count(0)
    listed = rows(page)
    assert rows(page, SELECTED) == [*listed[1:3], *listed[across + 1 : across + 3]]
    expect(page.locator("#viewer")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator(SELECTED)).to_have_count(0)
    expect(page.locator("#gallery")).to_be_visible()
    page.locator("#items .cell").first.click()
    expect(page.locator("#viewer")).to_be_visible()
    assert review.version == 0


def test_keys_alone_select_and_answer(page: Page, review: Review) -> None:
    page.locator("#items .cell").first.focus()
    page.keyboard.press("u")  # of the one in focus
    answered(page, 1)
    for key in ("ArrowRight", "x", "Shift+ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(key)
    listed = rows(page)
    assert rows(page, SELECTED) == listed[1:4]
    page.keyboard.press("x")
    page.keyboard.press("n")
    answered(page, 3)
    expected = {(listed[0], RED): "unsure", (listed[1], RED): "no", (listed[2], RED): "no"}
    assert verdict(review) == expected
    page.keyboard.press("ControlOrMeta+a")
    expect(page.locator("#selection-about")).to_have_text(re.compile(r"^\d+ images selected$"))
    count = page.locator(SELECTED).count()
    assert 12 <= count <= 200
    page.keyboard.press("n")
    expect(page.locator("#items .cell[data-mark=no]")).to_have_count(count)
    answered(page, count)  # what was answered before was among them
    assert len({one.act for one in review.answers.current()}) == 1
    page.keyboard.press("z")
    answered(page, 3)
    assert verdict(review) == expected


def test_what_is_not_taken_is_not_shown_as_answered(page: Page, context: BrowserContext, review: Review) -> None:
    refusal = {"status": 409, "content_type": "application/json", "body": '{"error": "it is an exemplar"}'}
    context.route("**/api/answers", lambda route: route.fulfill(**refusal))
    page.locator("#items .cell").nth(2).click(modifiers=["ControlOrMeta"])
    page.keyboard.press("y")
    expect(page.locator("#notices")).to_contain_text("Not saved: it is an exemplar")
    expect(page.locator("#items .cell[data-mark=yes]")).to_have_count(0)
    assert review.version == 0


def test_with_a_finger(browser: Browser, served_review: tuple[Review, str]) -> None:
    review, address = served_review
    size: ViewportSize = {"width": PHONE[0], "height": PHONE[1]}
    context = browser.new_context(viewport=size, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{address}#mode=gallery")
    shown(page, 4)
    page.tap("#select")
    for place in (0, 3):
        page.locator("#items .cell").nth(place).tap()
    expect(page.locator("#selection-about")).to_have_text("2 images selected")
    box = page.locator("#selection").bounding_box()
    assert box
    assert box["y"] + box["height"] <= PHONE[1] + 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#selection [data-verdict=yes]").tap()
    answered(page, 2)
    assert sorted(verdict(review).values()) == ["yes", "yes"]
    context.close()
