"""Pages of questions in a real browser: with the pointer, with keys, what counts as seen, and what comes next."""

import json

import pytest
from browser import CELL, PHONE, RED, SEEN, Open, answered, verdict
from playwright.sync_api import BrowserContext, Page, Route, expect

from holotype.answers.records import NewAnswer
from holotype.review.review import Review

pytestmark = pytest.mark.browser


def marks(page: Page) -> list[str]:
    return [cell.get_attribute("data-mark") or "" for cell in page.query_selector_all("#cells .cell")]


def rows(page: Page) -> list[str]:
    return [cell.get_attribute("data-row") or "" for cell in page.query_selector_all("#cells .cell")]


@pytest.fixture
def page(open_page: Open) -> Page:
    """The page as it opens, once all of its images count as seen."""
    page = open_page("")
    expect(page.locator(SEEN)).to_have_count(24)
    return page


def test_a_page_with_the_pointer_taken_back_from_another_class(page: Page, review: Review) -> None:
    before = page.inner_text("#st-found")
    cells = page.locator("#cells .cell")
    cells.nth(0).click()
    cells.nth(1).click()
    cells.nth(1).click(delay=1)
    assert marks(page)[:3] == ["yes", "", ""]
    first, last = (cells.nth(k).bounding_box() for k in (6, 9))
    assert first
    assert last
    page.mouse.move(first["x"] + 20, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(last["x"] + 20, last["y"] + 20, steps=12)
    page.mouse.up()
    assert marks(page)[5:11] == ["", "yes", "yes", "yes", "yes", ""]
    cells.nth(12).click()
    cells.nth(15).click(modifiers=["Shift"])
    assert marks(page)[11:17] == ["", "yes", "yes", "yes", "yes", ""]
    expect(page.locator("#cells-about")).to_have_text("9 yes, the other 15 no")
    shown = rows(page)
    wanted = {row: mark or "no" for row, mark in zip(shown, marks(page), strict=True)}
    page.click("#submit")
    answered(page, 24)
    assert {name: word for (name, _), word in verdict(review).items()} == wanted
    assert len({one.act for one in review.answers.current()}) == 1
    expect(page.locator("#notices")).to_contain_text("9 yes, 15 no.")
    expect(page.locator(SEEN)).to_have_count(24)
    assert set(shown).isdisjoint(rows(page))
    expect(page.locator("#st-found")).not_to_have_text(before)
    page.keyboard.press("]")
    page.wait_for_selector(CELL)
    with page.expect_response("**/api/refit"):
        page.keyboard.press("z")
    answered(page, 0)
    expect(page.locator("#pages-title")).to_have_text("Which of these show red?")
    expect(page.locator("#st-found")).to_have_text(before)
    assert dict(zip(rows(page), marks(page), strict=True)) == {
        row: "yes" if mark == "yes" else "" for row, mark in wanted.items()
    }


def test_a_page_with_keys_alone_where_the_rest_is_put_aside(page: Page, review: Review) -> None:
    page.keyboard.press("r")
    expect(page.locator("[data-rest=aside]")).to_have_attribute("aria-pressed", "true")
    for key in ("y", "ArrowRight", "n", "ArrowDown", "u", "ArrowLeft", "y", "y"):
        page.keyboard.press(key)
    across = page.evaluate("getComputedStyle(document.querySelector('#cells')).gridTemplateColumns.split(' ').length")
    expected = [""] * 24
    expected[0], expected[1], expected[1 + across] = "yes", "no", "unsure"
    assert marks(page) == expected
    expect(page.locator("#cells-about")).to_have_text("1 yes, 1 no, 1 unsure, the other 21 put aside")
    page.keyboard.press("Space")
    page.wait_for_selector("#viewer[data-shown=true]")
    page.keyboard.press("y")
    page.keyboard.press("Escape")
    expected[across] = "yes"
    assert marks(page) == expected
    shown = rows(page)
    page.keyboard.press("Enter")
    answered(page, 4)
    assert sorted(verdict(review).values()) == ["no", "unsure", "yes", "yes"]
    expect(page.locator("#notices")).to_contain_text("20 put aside")
    expect(page.locator(SEEN)).to_have_count(24)
    assert set(shown).isdisjoint(rows(page))
    page.reload()  # the choice is kept
    expect(page.locator("[data-rest=aside]")).to_have_attribute("aria-pressed", "true")


def test_enter_submits_whatever_button_was_clicked_before(page: Page, review: Review) -> None:
    """A button that was clicked with a pointer does not keep the keys, nor does a dialog that it opened."""
    buttons = [
        "#exemplar",
        "#withdraw",
        "#menu-open",
        "#apply-open",
        "#help-open",
        "header [data-mode=pages]",
        ".tab >> nth=0",
    ]
    for button in [*buttons, ".sheet-bar .undo", "[data-rest=aside]", "[data-rest=no]", "#rest-yes"]:
        page.evaluate("document.activeElement.blur()")
        page.click(button, force=button == "#withdraw")  # which is disabled
        if page.locator("dialog[open]").count() or page.locator("#menu-open[aria-expanded=true]").count():
            page.keyboard.press("Escape")
        expect(page.locator("#cells .cell:focus"), button).to_have_count(1)
    page.keyboard.press("Enter")
    answered(page, 24)
    assert {*verdict(review).values()} == {"yes"}


def test_only_what_was_seen_is_answered_and_the_others_come_again(
    open_page: Open, context: BrowserContext, review: Review
) -> None:
    context.route("**/image/*/thumb*", lambda route: None if _last(route) in "13579" else route.continue_())
    page = open_page("", PHONE)
    page.wait_for_selector(SEEN)
    expect(page.locator("#cells-about")).to_contain_text("not seen yet")
    cells = page.evaluate(
        """() => {
        const cells = [...document.querySelectorAll("#cells .cell")].map((cell) => ({...cell.dataset}));
        document.getElementById("submit").click();
        return cells;
        }"""
    )
    seen = {cell["id"] for cell in cells if "seen" in cell}
    assert 0 < len(seen) < 24
    answered(page, len(seen))
    assert {name for name, _ in verdict(review)} == seen
    assert all(int(name) % 2 == 0 for name in seen)
    assert not {cell["id"] for cell in cells} - seen - {one.id for one in review.next(1000, RED)}


def _last(route: Route) -> str:
    return route.request.url.split("/thumb")[0][-1]


def test_the_rest_overrules_nothing_and_a_second_enter_answers_nothing_that_nobody_saw(
    page: Page, review: Review
) -> None:
    """Another tab, or a colleague, says what it shows while the page is on the screen."""
    first, second = rows(page)[:2]
    review.record([NewAnswer(first, RED, "yes", "ann"), NewAnswer(second, RED, "exemplar", "ann")])
    page.evaluate(
        """() => { for (const _ of [1, 2, 3])
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true })); }"""
    )
    expect(page.locator("#notices")).to_contain_text("Nothing was on the screen for long enough")
    answered(page, 23)
    found = verdict(review)
    assert found[first, RED] == "yes"
    assert found[second, RED] == "exemplar"
    assert sum(word == "no" for word in found.values()) == 22
    page.keyboard.press("z")
    answered(page, 1)


def test_the_next_page_is_there_and_follows_what_was_learnt(
    page: Page, context: BrowserContext, review: Review
) -> None:
    """No picture and no choice comes any more once the page behind was renewed: it is on the screen all the same."""
    asked: list[str] = []
    with page.expect_response(lambda one: "/api/questions" in one.url and "refit" in "".join(asked)):
        page.on("response", lambda one: asked.append(one.url))
        page.keyboard.press("Enter")
    answered(page, 24)
    expect(page.locator(SEEN)).to_have_count(24)
    page.wait_for_load_state("networkidle")
    expected = [str(one.row) for one in review.next(24, RED, exclude=list(map(int, rows(page))), page=True)]
    for what in ("**/image/**", "**/api/questions*", "**/api/refit"):
        context.route(what, lambda _: None)
    page.keyboard.press("Enter")
    expect(page.locator(CELL)).to_have_count(24)
    assert rows(page) == expected


def test_what_is_on_the_screen_is_not_asked_for_again_however_much_was_answered(page: Page) -> None:
    told = page.evaluate(
        """async () => {
        const { Pages } = await import("/static/pages.js");
        const told = new Promise((resolve) => {
            window.fetch = (address) => resolve(new URL(address, location).searchParams.get("exclude"));
        });
        const pages = new Pages({ hear() {}, tell() {} }, { count: 24 });
        pages.cells = [{ question: { row: 7 } }];
        pages.out = new Set([...Array(5000).keys()].map((k) => 100 + k));
        pages.asked(undefined, 24);
        return (await told).split(",").map(Number);
        }"""
    )
    assert 7 in told
    assert 5099 in told  # answered last: the server may not have it yet


def test_what_was_passed_over_is_asked_again_where_the_audit_waits_for_it(page: Page, review: Review) -> None:
    """Every second image of each page is marked: without its gaps closed, the sample would stay at the first."""
    page.click("[data-rest=aside]")
    count = 0
    for _ in range(5):
        expect(page.locator("#cells-about")).not_to_contain_text("not seen yet")
        count += page.evaluate(
            """() => [...document.querySelectorAll("#cells .cell")].filter((_, k) => k % 2 === 0).map((cell) => {
            cell.focus();
            const key = cell.dataset.row % 10 === 0 ? "y" : "n";
            cell.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
            }).length"""
        )
        with page.expect_response("**/api/refit"):
            page.click("#submit")
        answered(page, count)
    drawn = [one for one in review.answers.current() if one.audit]
    standing = review.standing("red")
    assert standing.audited >= len(drawn) > 4
    assert standing.whole
    expect(page.locator("#st-low")).to_have_text("all that was found was looked at; others may be missing")
    expect(page.locator("#st-needs")).to_be_empty()


def test_sixty_images_fit_a_window_and_scroll_on_a_phone(open_page: Open) -> None:
    page = open_page("")
    page.select_option("#count", "60")
    expect(page.locator("#cells .cell")).to_have_count(60)
    box = "(({bottom, width}) => [bottom <= innerHeight, width >= 64])"
    last = f"{box}(document.querySelector('#cells').lastChild.getBoundingClientRect())"
    assert page.evaluate(last) == [True, True]
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    page.reload()
    expect(page.locator("#cells .cell")).to_have_count(60)
    page.wait_for_selector(CELL)
    assert page.evaluate(last) == [False, True]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_address_that_names_no_view_of_the_header_opens_pages(open_page: Open) -> None:
    for name in ("toString", "selected", "sample"):
        page = open_page(f"#mode={name}")
        page.wait_for_selector(CELL)
        expect(page.locator("header [aria-pressed=true]")).to_have_attribute("data-mode", "pages")
        page.close()


def refuse(route: Route) -> None:
    route.fulfill(status=409, content_type="application/json", body=json.dumps({"error": "it is an exemplar"}))


def lose(route: Route) -> None:
    route.abort()


def test_a_page_that_is_not_taken_comes_back_and_one_that_is_lost_waits(
    page: Page, context: BrowserContext, review: Review
) -> None:
    page.keyboard.press("y")
    shown = rows(page)
    context.route("**/api/answers", refuse)
    page.keyboard.press("Enter")
    expect(page.locator("#notices")).to_contain_text("Not saved: it is an exemplar")
    expect(page.locator("#cells .cell").first).to_have_attribute("data-row", shown[0])
    assert marks(page)[0] == "yes"
    expect(page.locator(SEEN)).to_have_count(24)
    context.unroute("**/api/answers")
    context.route("**/api/answers", lose)
    page.keyboard.press("Enter")
    expect(page.locator("#unsaved")).to_contain_text("1 answer is not saved yet")
    expect(page.locator("#cells .cell").first).not_to_have_attribute("data-row", shown[0])
    context.unroute("**/api/answers")
    answered(page, 24)
    assert {name for name, _ in verdict(review)} == set(shown)
