"""The review page in a real browser, on a real run: with keys, pointer and finger, and when things go wrong."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from browser import CLASSES, QUOTE, RED, TAG, chromium, served
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect

from holotype.review.review import Review

SHOWN = "#question[data-shown=true]"
CELL = "#cells .cell[data-shown]"
LAPTOP, PHONE = (1280, 800), (390, 844)
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": LAPTOP[0], "height": LAPTOP[1]}, reduced_motion="reduce")
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def open_page(context: BrowserContext, served_review: tuple[Review, int]) -> Iterator[Open]:
    """`open_page(where)` opens the page in a new tab; what the browser complains of fails the test."""
    faults: list[str] = []

    def open_page(where: str = "", size: tuple[int, int] = LAPTOP) -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"dialog {dialog.message}"))
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.goto(f"http://127.0.0.1:{served_review[1]}/{where}")
        return page

    yield open_page
    # what a test breaks on purpose is reported as a resource that could not be loaded
    assert [one for one in faults if not one.startswith("Failed to load resource")] == []


@pytest.fixture
def page(open_page: Open) -> Page:
    page = open_page()
    page.wait_for_selector(SHOWN)
    return page


def question(page: Page) -> str:
    page.wait_for_selector(SHOWN)
    return page.inner_text("#question-name")


def press(page: Page, key: str) -> str:
    """Press `key` about the question on the screen, and return the id of its image when the next is there."""
    name = question(page)
    page.keyboard.press(key)
    expect(page.locator("#question-name")).not_to_have_text(name)
    page.wait_for_selector(SHOWN)
    return name


def answered(page: Page, count: int) -> None:
    expect(page.locator("#st-answered")).to_have_text(str(count))


def verdict(review: Review) -> dict[tuple[str, str], str]:
    return {(one.id, one.label): one.verdict for one in review.answers.current()}


def test_one_key_is_one_answer_and_z_takes_it_back(page: Page, review: Review) -> None:
    given = {(press(page, key), RED): word for key, word in (("y", "yes"), ("n", "no"), ("u", "unsure"))}
    answered(page, 3)
    assert verdict(review) == given
    expect(page.locator("#st-verdict")).to_have_text("1 yes, 1 no, 1 unsure")
    undone = list(given)[-1]
    page.keyboard.press("z")
    assert page.wait_for_selector(SHOWN)
    expect(page.locator("#question-name")).to_have_text(undone[0])
    answered(page, 2)
    assert verdict(review) == {pair: word for pair, word in given.items() if pair != undone}
    press(page, "y")
    answered(page, 3)
    assert verdict(review)[undone] == "yes"
    for _ in range(3):
        page.keyboard.press("Backspace")
    answered(page, 0)
    page.keyboard.press("z")
    expect(page.locator("#notices")).to_contain_text("nothing to undo")
    page.get_by_role("region", name="Answer").get_by_role("button", name="Yes").click()
    answered(page, 1)


def test_a_number_says_that_it_is_another_class(page: Page, review: Review) -> None:
    own = press(page, "1")
    other = press(page, "3")
    expect(page.locator("#notices")).to_contain_text("Z takes it back")
    answered(page, 2)
    assert verdict(review) == {(own, RED): "yes", (other, RED): "no", (other, QUOTE): "yes"}
    page.keyboard.press("9")
    page.keyboard.press("z")
    answered(page, 1)
    assert verdict(review) == {(own, RED): "yes"}


def test_answers_are_learnt_while_one_goes_on(page: Page, review: Review) -> None:
    for _ in range(6):
        name = question(page)
        press(page, "y" if name.endswith("0") else "n")
    expect(page.locator("#st-spoken")).to_contain_text("answers.")
    answered(page, 6)
    assert review.standing(RED).answered == 6
    asked = {name for name, _ in verdict(review)}
    assert question(page) not in asked


def test_nothing_is_answered_before_it_is_shown(open_page: Open, context: BrowserContext, review: Review) -> None:
    held: list[Route] = []
    posts: list[Request] = []

    free: list[bool] = []

    def hold(route: Route) -> None:
        if free:
            route.continue_()
        else:
            held.append(route)

    context.route("**/image/*/large*", hold)
    page = open_page()
    page.on("request", lambda request: posts.append(request) if request.method == "POST" else None)
    with page.expect_request("**/image/*/large*"):
        pass
    for key in ("y", "n", "3", "e", " ", "y"):
        page.keyboard.press(key)
    page.get_by_role("region", name="Answer").get_by_role("button", name="Yes").click(force=True)
    assert page.locator(SHOWN).count() == 0
    free.append(True)
    while held:
        held.pop().continue_()
    name = question(page)
    assert posts == []
    assert review.version == 0
    assert press(page, "y") == name
    answered(page, 1)
    assert verdict(review) == {(name, RED): "yes"}


def test_the_next_questions_are_there_before_the_key(page: Page, context: BrowserContext, review: Review) -> None:
    page.wait_for_load_state("networkidle")
    context.route("**/image/**", lambda _: None)  # from here on no picture comes any more
    context.route("**/api/refit", lambda _: None)
    names = [press(page, "n") for _ in range(5)]
    answered(page, 5)
    assert {name for name, _ in verdict(review)} == set(names)


def test_a_key_that_is_held_answers_once(page: Page, review: Review) -> None:
    name = question(page)
    page.keyboard.down("y")
    expect(page.locator("#question-name")).not_to_have_text(name)
    page.wait_for_selector(SHOWN)
    for _ in range(5):
        page.keyboard.down("y")
    page.keyboard.up("y")
    press(page, "n")
    answered(page, 2)
    page.get_by_role("region", name="Answer").get_by_role("button", name="No").focus()
    shown = question(page)
    page.keyboard.down("Enter")
    expect(page.locator("#question-name")).not_to_have_text(shown)
    for _ in range(5):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    answered(page, 3)
    assert len(verdict(review)) == 3


def test_an_image_that_cannot_be_shown_is_skipped_and_said_so(
    open_page: Open, context: BrowserContext, review: Review
) -> None:
    broken = review.next(8, RED)[0].id  # as many as the page asks for
    refusal = {"status": 422, "content_type": "application/json", "body": '{"error": "the file has 0 bytes"}'}
    context.route(f"**/image/{broken}/large*", lambda route: route.fulfill(**refusal))
    page = open_page()
    assert question(page) != broken
    expect(page.locator("#notices")).to_contain_text(f"{broken} cannot be shown: the file has 0 bytes. It is skipped.")
    assert review.version == 0


def test_what_is_not_saved_is_said_and_sent_again(page: Page, context: BrowserContext, review: Review) -> None:
    acts: list[str] = []

    def lose(route: Route) -> None:
        acts.append(json.loads(route.request.post_data or "")["act"])
        route.abort()

    context.route("**/api/answers", lose)
    first = press(page, "y")
    expect(page.locator("#unsaved")).to_contain_text("1 answer is not saved yet")
    answered(page, 0)
    names = [first, *(press(page, "n") for _ in range(4))]
    expect(page.locator("#unsaved")).to_contain_text("Answering waits")
    leave = "new Event('beforeunload', {cancelable: true})"
    assert not page.evaluate(f"window.dispatchEvent({leave})")  # the browser asks before the page is left
    waiting = question(page)
    page.keyboard.press("y")
    assert question(page) == waiting
    context.unroute("**/api/answers")
    answered(page, 5)
    expect(page.locator("#unsaved")).to_be_hidden()
    history = review.answers.history()
    assert [getattr(one, "id", None) for one in history] == names
    assert set(acts) == {history[0].act}


def test_an_answer_whose_receipt_was_lost_is_recorded_once(page: Page, context: BrowserContext, review: Review) -> None:
    lost: list[Route] = []

    def lose_receipt(route: Route) -> None:
        route.fetch()
        if lost:
            route.continue_()
        else:
            lost.append(route)
            route.abort()

    context.route("**/api/answers", lose_receipt)
    press(page, "y")
    answered(page, 1)
    assert len(review.answers.history()) == 1


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


def test_keys_alone_reach_everything(page: Page, review: Review) -> None:
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("]")
    expect(page.locator("#question-title")).to_have_text(f"Does this show {TAG}?")
    page.keyboard.press("[")
    expect(page.locator("#question-title")).to_have_text("Does this show red?")
    name = question(page)
    page.keyboard.press("Space")
    page.wait_for_selector("#viewer[data-shown=true]")
    page.keyboard.press("n")
    expect(page.locator("#viewer")).to_be_hidden()
    answered(page, 1)
    assert verdict(review) == {(name, RED): "no"}
    page.keyboard.press("l")
    page.wait_for_selector("#items .cell")
    page.locator("#items .cell").first.focus()
    page.keyboard.press("ArrowRight")
    cell = page.locator("#items .cell").nth(1)
    expect(cell).to_be_focused()
    expect(page.locator("#reason")).to_contain_text(str(cell.get_attribute("data-row")))
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[data-shown=true]")
    page.keyboard.press("y")
    expect(cell).to_have_attribute("data-mark", "yes")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#one")).to_be_visible()
    page.wait_for_selector(SHOWN)
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_page_finds_back_to_a_server_that_was_started_anew(context: BrowserContext, review: Review) -> None:
    page = context.new_page()
    with served(review) as port:
        page.goto(f"http://127.0.0.1:{port}/")
        press(page, "y")
        answered(page, 1)
        before = page.get_attribute("body", "data-nonce")
    with served(review, port):
        expect(page.locator("body")).not_to_have_attribute("data-nonce", str(before), timeout=15_000)
        press(page, "n")
        answered(page, 2)
    page.close()


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


def test_a_reload_keeps_the_class_the_view_and_the_answers(page: Page, review: Review) -> None:
    page.keyboard.press("]")
    expect(page.locator("#question-title")).to_contain_text(TAG)
    names = {press(page, "n") for _ in range(2)}
    page.keyboard.press("l")
    answered(page, 2)
    page.reload()
    expect(page.locator("#gallery")).to_be_visible()
    expect(page.locator("#gallery-title")).to_contain_text(TAG)
    answered(page, 2)
    page.keyboard.press("q")
    assert question(page) not in names
    page.keyboard.press("z")
    answered(page, 1)
    assert question(page) in names
    assert len(review.answers.current()) == 1


def test_two_tabs_see_each_other(page: Page, open_page: Open, review: Review) -> None:
    other = open_page()
    press(page, "y")
    press(page, "n")
    expect(other.locator("#st-answered")).to_have_text("2")
    assert press(other, "u")
    other.close()
    expect(page.locator("#st-answered")).to_have_text(str(len({name for name, _ in verdict(review)})))


def exemplars(page: Page) -> list[str]:
    strip = page.locator("#exemplar-strip button")
    return [str(one.get_attribute("aria-label")).removeprefix("Exemplar ") for one in strip.all()]


def test_an_exemplar_is_dragged_there_and_withdrawn(page: Page, review: Review) -> None:
    page.click("#withdraw")
    expect(page.locator("#notices")).to_contain_text("red has no other exemplar")
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


def test_apply_writes_the_report(page: Page, review: Review) -> None:
    for _ in range(2):
        press(page, "n")
    answered(page, 2)
    before = (review.out / "report.html").stat().st_mtime_ns
    page.click("#apply-open")
    page.click("#apply-start")
    expect(page.locator("#apply-verdict")).to_have_text("The answers are applied.", timeout=30_000)
    expect(page.locator("#apply-where")).to_contain_text(str(review.out / "report.html"))
    assert (review.out / "report.html").stat().st_mtime_ns > before
    with page.expect_popup() as popup:
        page.click("#apply-where a")
    popup.value.wait_for_load_state()
    assert popup.value.locator("h1").count() == 1
    assert popup.value.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth)")


def test_apply_that_fails_says_why(page: Page, review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    from holotype.errors import GroupError

    def fail(_: object) -> None:
        raise GroupError("no image is left as background")

    monkeypatch.setattr(review, "apply", fail)
    page.click("#apply-open")
    page.click("#apply-start")
    expect(page.locator("#apply-verdict")).to_have_text("It failed: no image is left as background")
    expect(page.locator("#apply-where")).to_be_hidden()


def test_names_with_html_are_text(page: Page) -> None:
    assert page.locator(".tab span").all_inner_texts() == CLASSES
    for number in (1, 2):
        page.locator(".tab").nth(number).click()
        expect(page.locator("#question-title")).to_have_text(f"Does this show {CLASSES[number]}?")
        page.wait_for_selector(SHOWN)
    assert page.locator("img[src=x], main script").count() == 0


def test_a_phone_shows_all_of_it_in_one_column(open_page: Open) -> None:
    page = open_page(size=PHONE)
    name = question(page)
    buttons = [page.locator(f"#answers [data-verdict={word}]").bounding_box() for word in ("no", "unsure", "yes")]
    assert all(box and box["y"] > PHONE[1] / 2 and box["y"] + box["height"] <= PHONE[1] for box in buttons)
    assert all(box and box["height"] >= 48 for box in buttons)
    page.click("#answers [data-verdict=yes]")
    expect(page.locator("#question-name")).not_to_have_text(name)
    for mode, there in (("one", SHOWN), ("grid", CELL), ("gallery", "#items .cell")):
        page.click(f"header [data-mode={mode}]")
        page.wait_for_selector(there)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), mode
    page.click("#help-open")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    faint = page.evaluate(
        """() => {
        const light = (text) => {
            const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((value) => {
                const share = value / 255;
                return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ground = (node) => {
            const own = getComputedStyle(node).backgroundColor;
            return own === "rgba(0, 0, 0, 0)" && node.parentElement ? ground(node.parentElement) : own;
        };
        const texts = [...document.querySelectorAll("button, h1, h2, dt, dd, p, a, select")];
        return texts.filter((node) => node.offsetParent && node.textContent.trim()).filter((node) => {
            const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05) < 4.5;
        }).map((node) => node.textContent);
        }"""
    )
    assert faint == []


def test_what_a_screen_reader_is_told(page: Page) -> None:
    for role in ("main", "banner"):
        expect(page.locator(f"role={role}")).to_have_count(1)
    expect(page.get_by_role("navigation", name="Classes")).to_have_count(1)
    expect(page.get_by_role("complementary", name="Status of red")).to_have_count(1)
    assert page.evaluate("[...document.images].every((one) => one.hasAttribute('alt'))")
    nameless = "[...document.querySelectorAll('button')].filter((one) => !one.textContent.trim() && !one.ariaLabel)"
    assert page.evaluate(f"{nameless}.map((one) => one.id)") == ["question"]  # named by its picture
    assert page.locator("#question img").get_attribute("alt") == f"Image {question(page)}"
