"""What the review page looks like, and is read aloud as, in a real browser."""

import pytest
from browser import CELL, CLASSES, LAPTOP, PHONE, SHOWN, Open, press, question
from playwright.sync_api import Browser, Page, ViewportSize, expect

from holotype.review.review import Review

pytestmark = pytest.mark.browser


def test_names_with_html_are_text(page: Page) -> None:
    assert page.locator(".tab span").all_inner_texts() == CLASSES
    for number in (1, 2):
        page.locator(".tab").nth(number).click()
        expect(page.locator("#question-title")).to_have_text(f"Does this show {CLASSES[number]}?")
        page.wait_for_selector(SHOWN)
    assert page.locator("img[src=x], main script").count() == 0


def test_a_name_from_right_to_left_takes_nothing_along(page: Page) -> None:
    """What stands behind it in the text stands to its right on the screen, also where there can be no markup."""
    places = page.evaluate(
        """async () => {
        const { isolated } = await import("/static/names.js");
        const name = "\u05e8\u05e2 12";
        const place = (line, text) => {
            const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
            while (!walker.nextNode().data.includes(text)) continue;
            const range = document.createRange();
            const start = walker.currentNode.data.indexOf(text);
            range.setStart(walker.currentNode, start);
            range.setEnd(walker.currentNode, start + text.length);
            return range.getBoundingClientRect().x;
        };
        const title = document.querySelector("#question-title");
        title.querySelector(".of-class").textContent = name;
        title.append(" 34");
        const sentence = document.createElement("p");
        sentence.textContent = `${isolated(name)}, 34`;
        document.body.append(sentence);
        const plain = document.createElement("p");
        plain.textContent = `${name}, 34`;
        document.body.append(plain);
        return [title, sentence, plain].map((line) => place(line, "34") > place(line, name));
        }"""
    )
    assert places == [True, True, False]  # the last is what happens without
    assert page.evaluate("import('/static/names.js').then(({ isolated }) => isolated('red'))") == "red"


@pytest.mark.parametrize("size", [PHONE, (768, 1024), (1200, 800)])
def test_a_notice_covers_nothing_that_is_asked_and_hints_are_whole(open_page: Open, size: tuple[int, int]) -> None:
    page = open_page(size=size)
    asked = [press(page, "y") for _ in range(3)]
    for name in reversed(asked):
        page.keyboard.press("z")
        expect(page.locator("#question-name")).to_have_text(name)
    expect(page.locator("#notices p")).to_contain_text("Undone")  # one, not three
    box, title = (page.locator(name).bounding_box() for name in ("#notices p", "#question-title"))
    assert box
    assert title
    assert box["y"] + box["height"] <= title["y"]
    page.click("header [data-mode=gallery]")
    page.wait_for_selector("#items .cell")
    room, hint = page.evaluate(
        """() => {
        const field = document.querySelector("#filters input[type=search]"), style = getComputedStyle(field);
        const pen = document.createElement("canvas").getContext("2d");
        pen.font = style.font;
        const inside = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        return [inside, pen.measureText(field.placeholder).width];
        }"""
    )
    assert room >= hint


def test_a_phone_shows_all_of_it_in_one_column(open_page: Open) -> None:
    page = open_page(size=PHONE)
    name = question(page)
    buttons = [page.locator(f"#answers [data-verdict={word}]").bounding_box() for word in ("no", "unsure", "yes")]
    assert all(box and box["y"] > PHONE[1] / 2 and box["y"] + box["height"] <= PHONE[1] for box in buttons)
    assert all(box and box["height"] >= 48 for box in buttons)
    page.click("#answers [data-verdict=yes]")
    expect(page.locator("#question-name")).not_to_have_text(name)
    for mode, there in (("one", SHOWN), ("pages", CELL), ("gallery", "#items .cell")):
        page.click(f"header [data-mode={mode}]")
        page.wait_for_selector(there)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), mode
    page.click("#menu-open")
    page.click("#help-open")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", [LAPTOP, (1920, 1080), (2560, 1440)])
def test_a_page_of_images_fills_a_window_of_any_width(open_page: Open, size: tuple[int, int]) -> None:
    page = open_page("", size)
    expect(page.locator(CELL)).to_have_count(24)
    box, right, bottom = page.evaluate(
        """() => {
        const box = document.getElementById("cells").getBoundingClientRect();
        const places = [...document.querySelectorAll("#cells .cell")].map((cell) => cell.getBoundingClientRect());
        const end = (side) => Math.max(...places.map((one) => one[side]));
        return [box.toJSON(), end("right"), end("bottom")];
        }"""
    )
    assert box["width"] > 0.6 * size[0]
    assert right > box["right"] - 12
    assert 0.7 * box["height"] < bottom - box["top"] <= box["height"]


def test_little_stands_above_the_images_of_a_phone(open_page: Open) -> None:
    page = open_page("", PHONE)
    page.wait_for_selector(CELL)
    first = page.locator("#cells .cell").first.bounding_box()
    assert first
    assert first["y"] < 0.25 * PHONE[1]
    expect(page.locator("#apply-open")).to_be_hidden()
    page.click("#menu-open")
    for name in ("Search", "Help", "Apply", "Certify"):
        expect(page.locator("#menu").get_by_role("button", name=name)).to_be_visible()
    page.locator("#cells").click(position={"x": 5, "y": 5})
    expect(page.locator("#apply-open")).to_be_hidden()


def test_the_menu_has_what_was_found_and_keys_reach_it(page: Page) -> None:
    menu = page.locator("#menu")
    expect(menu.get_by_role("link", name="What was found (CSV)")).to_be_hidden()
    page.focus("#menu-open")
    page.keyboard.press("Enter")
    links = {"What was found (CSV)": "/found.csv", "Report": "/report", "Answers (CSV)": "/answers.csv"}
    for name, address in links.items():
        expect(menu.get_by_role("link", name=name)).to_have_attribute("href", address)
    page.keyboard.press("l")  # the keys are for the menu
    page.keyboard.press("Escape")
    expect(menu.get_by_role("link", name="Report")).to_be_hidden()
    expect(page.locator("#one")).to_be_visible()
    page.click("#menu-open")
    with page.expect_download() as download:
        menu.get_by_role("link", name="What was found (CSV)").click()
    assert download.value.suggested_filename == "found.csv"


def test_help_shows_keys_where_there_are_keys_and_gestures_where_there_are_fingers(
    page: Page, browser: Browser, served_review: tuple[Review, str]
) -> None:
    page.get_by_role("button", name="Help").click()
    expect(page.get_by_role("dialog", name="Help")).to_be_visible()
    expect(page.locator("#help .typed")).to_be_visible()
    expect(page.locator("#help .touch")).to_be_hidden()
    size: ViewportSize = {"width": PHONE[0], "height": PHONE[1]}
    context = browser.new_context(viewport=size, has_touch=True, is_mobile=True)
    phone = context.new_page()
    phone.goto(served_review[1])
    phone.tap("#menu-open")
    phone.tap("#help-open")
    expect(phone.locator("#help .touch")).to_be_visible()
    expect(phone.locator("#help .touch")).to_contain_text("Tap")
    assert phone.locator("kbd").evaluate_all("(keys) => keys.filter((one) => one.checkVisibility()).length") == 0
    context.close()


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
    shown = f"{nameless}.filter((one) => one.checkVisibility()).map((one) => one.id)"
    assert page.evaluate(shown) == ["question"]  # named by its picture
    assert page.locator("#question img").get_attribute("alt") == f"Image {question(page)}"
