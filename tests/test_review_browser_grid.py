"""The grid of the review page in a real browser: with the pointer, with keys, and what counts as shown."""

import pytest
from browser import CELL, PHONE, Open, answered, verdict
from playwright.sync_api import BrowserContext, Page, Route, expect

from holotype.review.review import Review

pytestmark = pytest.mark.browser


def marks(page: Page) -> list[str]:
    return [cell.get_attribute("data-mark") or "" for cell in page.query_selector_all("#cells .cell")]


def open_grid(page: Page) -> None:
    page.keyboard.press("g")
    expect(page.locator(CELL)).to_have_count(24)


def test_the_grid_with_the_pointer(page: Page, review: Review) -> None:
    open_grid(page)
    cells = page.locator("#cells .cell")
    cells.nth(0).click()
    cells.nth(1).click()
    cells.nth(1).click()
    cells.nth(2).click(click_count=1)
    cells.nth(2).click()
    cells.nth(2).click()
    assert marks(page)[:4] == ["yes", "no", "", ""]
    first, last = (cells.nth(k).bounding_box() for k in (6, 9))
    assert first
    assert last
    page.mouse.move(first["x"] + 20, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(last["x"] + 20, last["y"] + 20, steps=12)
    page.mouse.up()
    assert marks(page)[5:11] == ["", "yes", "yes", "yes", "yes", ""]
    cells.nth(12).click()
    cells.nth(12).click()
    cells.nth(15).click(modifiers=["Shift"])
    assert marks(page)[11:17] == ["", "no", "no", "no", "no", ""]
    page.click("#rest-no")
    assert set(marks(page)) == {"yes", "no"}
    rows = [cell.get_attribute("data-row") for cell in cells.all()]
    wanted = dict(zip(rows, marks(page), strict=True))
    page.click("#submit")
    answered(page, 24)
    assert {name: word for (name, _), word in verdict(review).items()} == wanted
    assert len({one.act for one in review.answers.current()}) == 1
    expect(page.locator(CELL)).to_have_count(24)
    assert set(rows).isdisjoint(cell.get_attribute("data-row") for cell in cells.all())
    page.keyboard.press("z")
    answered(page, 0)
    assert dict(zip([cell.get_attribute("data-row") for cell in cells.all()], marks(page), strict=True)) == wanted


def test_the_grid_with_keys_alone(page: Page, review: Review) -> None:
    open_grid(page)
    page.keyboard.press("Enter")
    expect(page.locator("#notices")).to_contain_text("Nothing is marked yet.")
    for key in ("y", "ArrowRight", "n", "ArrowDown", "u", "ArrowLeft", "y", "y"):
        page.keyboard.press(key)
    expected = [""] * 24
    expected[0], expected[1], expected[7] = "yes", "no", "unsure"
    assert marks(page) == expected
    page.keyboard.press("Space")
    page.wait_for_selector("#viewer[data-shown=true]")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    answered(page, 3)
    assert sorted(verdict(review).values()) == ["no", "unsure", "yes"]
    expect(page.locator("#notices")).to_contain_text("21 without a mark are put aside")


def test_all_others_are_those_that_were_on_the_screen(open_page: Open, context: BrowserContext, review: Review) -> None:
    context.route("**/image/*/thumb*", lambda route: None if _last(route) in "13579" else route.continue_())
    page = open_page("#mode=grid", PHONE)
    page.wait_for_selector(CELL)
    expect(page.locator("#grid-about")).to_contain_text("not shown yet")
    cells = page.evaluate(
        """() => {
        document.getElementById("rest-no").click();
        return [...document.querySelectorAll("#cells .cell")].map((cell) => ({...cell.dataset}));
        }"""
    )
    shown = ["shown" in cell for cell in cells]
    assert [cell["mark"] == "no" for cell in cells] == shown
    assert 0 < sum(shown) < 24
    page.click("#submit")
    answered(page, sum(shown))
    assert all(int(name) % 2 == 0 for name, _ in verdict(review))


def _last(route: Route) -> str:
    return route.request.url.split("/thumb")[0][-1]


def test_what_was_passed_over_is_asked_again_where_the_audit_waits_for_it(page: Page, review: Review) -> None:
    """Every second image of each grid is marked: without its gaps closed, the sample would stay at the first."""
    open_grid(page)
    count = 0
    for _ in range(5):
        expect(page.locator("#cells .cell[data-shown]").first).to_be_visible()
        cells = page.locator("#cells .cell")
        expect(page.locator("#grid-about")).not_to_contain_text("not shown yet")
        rows = [int(cell.get_attribute("data-row") or "") for cell in cells.all()]
        for place in range(0, len(rows), 2):
            cells.nth(place).focus()
            page.keyboard.press("y" if rows[place] % 10 == 0 else "n")
        count += len(rows[::2])
        with page.expect_response("**/api/refit"):
            page.click("#submit")
        answered(page, count)
    drawn = [one for one in review.answers.current() if one.audit]
    standing = review.standing("red")
    assert standing.audited >= len(drawn) > 4
    assert standing.whole
    expect(page.locator("#st-low")).to_have_text("all that was found was looked at; others may be missing")
    expect(page.locator("#st-needs")).to_be_empty()


def test_undoing_a_grid_learns_anew(page: Page, review: Review) -> None:
    open_grid(page)
    before = page.inner_text("#st-found")
    page.click("#rest-no")
    with page.expect_response("**/api/refit"):
        page.click("#submit")
    answered(page, 24)
    expect(page.locator("#st-found")).not_to_have_text(before)
    with page.expect_response("**/api/refit"):
        page.keyboard.press("z")
    answered(page, 0)
    expect(page.locator("#st-found")).to_have_text(before)
