"""Looking around an image, and searching by another picture, in a real browser."""

import base64
from pathlib import Path

import numpy as np
import pytest
from browser import CELL, PHONE, RED, SEEN, SHOWN, Open, answered, question, verdict
from conftest import Picture
from numpy.typing import NDArray
from pictures import encoded
from PIL import Image
from playwright.sync_api import BrowserContext, FileChooser, Page, expect

from holotype.answers.records import NewAnswer
from holotype.review.review import Review

pytestmark = pytest.mark.browser

# drops, or pastes, files of the names and contents (base64) that are given
TRANSFER = """([kind, files]) => {
    const data = new DataTransfer();
    for (const [name, content] of files)
        data.items.add(new File([Uint8Array.from(atob(content), (one) => one.charCodeAt(0))], name));
    if (kind === "paste") {
        document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
    } else {
        const event = (name) => new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true });
        if (document.body.dispatchEvent(event("dragover")) || document.body.dispatchEvent(event("drop")))
            throw new Error("the browser would leave the page for the file");
    }
}"""


def rows(page: Page) -> list[int]:
    expect(page.locator(CELL).first).to_be_visible()
    return [int(cell.get_attribute("data-row") or "") for cell in page.query_selector_all("#cells .cell")]


def png(pixels: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def steps(page: Page, count: int) -> None:
    expect(page.locator("#trail-strip button")).to_have_count(count)


def give(page: Page, kind: str, *files: tuple[str, bytes]) -> None:
    page.evaluate(TRANSFER, [kind, [[name, base64.b64encode(content).decode()] for name, content in files]])


def test_around_an_image_with_keys_alone_and_back(open_page: Open, review: Review) -> None:
    page = open_page("", PHONE)
    page.wait_for_selector(SEEN)
    first = rows(page)
    review.record([NewAnswer("10", RED, "yes", "ann"), NewAnswer("3", RED, "no", "ann")])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("u")
    page.keyboard.press("a")
    steps(page, 1)
    near = review.around(first[1], RED, 24)
    assert rows(page) == [one.row for one in near]
    shown = [cell.get_attribute("data-mark") for cell in page.query_selector_all("#cells .cell")]
    assert shown == [one.verdict for one in near]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    steps(page, 2)
    assert rows(page) == [one.row for one in review.around(near[1].row, RED, 24)]
    expect(page.locator("#trail-name")).to_have_text(near[1].id)
    page.keyboard.press("Escape")
    steps(page, 1)
    assert rows(page) == [one.row for one in near]
    expect(page.locator("#cells .cell").nth(1)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#trail")).to_be_hidden()
    assert rows(page) == first
    expect(page.locator("#cells .cell").nth(1)).to_be_focused()
    expect(page.locator("#cells .cell").nth(1)).to_have_attribute("data-mark", "unsure")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_is_answered_around_an_image_is_no_audit_and_goes_on(open_page: Open, review: Review) -> None:
    page = open_page()
    asked = question(page)
    page.keyboard.press("a")
    expect(page.locator(SEEN)).to_have_count(24)
    near = rows(page)
    exemplars = sum(one.verdict == "exemplar" for one in review.around(int(asked), RED, 24))
    marked = int(page.locator("#cells .cell[data-mark='']").first.get_attribute("data-row") or "")
    page.locator("#cells .cell[data-mark='']").first.focus()
    page.keyboard.press("y")
    page.keyboard.press("Enter")
    answered(page, 24 - exemplars)
    given = review.answers.current()
    assert {one.id: one.verdict for one in given} == {
        str(row): "yes" if row == marked else "no" for row in near if row != 0
    }
    assert not any(one.audit for one in given)
    assert rows(page) == [one.row for one in review.around(int(asked), RED, 24, start=24)]
    page.keyboard.press("z")
    answered(page, 0)
    assert rows(page) == near
    expect(page.locator(f"#cells [data-row='{marked}']")).to_have_attribute("data-mark", "yes")
    page.keyboard.press("]")  # by another class nothing is marked
    expect(page.locator("#pages-title")).not_to_contain_text("red")
    expect(page.locator("#cells .cell[data-mark=yes]")).to_have_count(0)
    page.keyboard.press("Escape")
    page.wait_for_selector(SHOWN)


def test_what_was_answered_around_it_is_not_overruled_by_the_page(open_page: Open, review: Review) -> None:
    page = open_page("")
    expect(page.locator(SEEN)).to_have_count(24)
    first = rows(page)
    page.locator("#cells .cell").last.focus()
    page.keyboard.press("n")  # it was begun, so it stays
    page.locator("#cells .cell").first.focus()
    page.keyboard.press("a")
    steps(page, 1)
    both = [row for row in rows(page) if row in first]
    assert both
    cell = page.locator(f"#cells [data-row='{both[0]}'][data-shown]")
    cell.focus()
    page.keyboard.press("y")
    page.click("[data-rest=aside]")
    page.locator("#cells .cell").first.focus()
    page.keyboard.press("Enter")
    answered(page, 1)
    page.click("[data-rest=no]")
    page.keyboard.press("Escape")
    assert rows(page) == first
    expect(page.locator(f"#cells [data-row='{both[0]}']")).to_have_attribute("data-mark", "yes")
    expect(page.locator(SEEN)).to_have_count(24)
    page.keyboard.press("Enter")
    answered(page, 24)
    assert verdict(review)[str(both[0]), RED] == "yes"


def test_a_page_that_was_not_begun_is_chosen_anew_when_more_is_known(open_page: Open) -> None:
    page = open_page("")
    expect(page.locator(SEEN)).to_have_count(24)
    first = rows(page)
    page.keyboard.press("a")
    steps(page, 1)
    expect(page.locator(SEEN)).to_have_count(24)
    around = rows(page)
    with page.expect_response("**/api/refit"):
        page.keyboard.press("Enter")
    expect(page.locator("#st-spoken")).not_to_be_empty()  # it was learnt
    page.keyboard.press("Escape")
    expect(page.locator("#trail")).to_be_hidden()
    expect(page.locator(SEEN)).to_have_count(24)
    assert rows(page) != first
    assert not set(rows(page)) & set(around)


def test_around_an_image_from_every_view(open_page: Open) -> None:
    page = open_page("#mode=gallery")
    page.locator("#items .cell").nth(2).focus()
    page.keyboard.press("a")
    steps(page, 1)
    page.keyboard.press("Escape")
    expect(page.locator("#items .cell").nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[data-shown=true]")
    page.keyboard.press("a")
    expect(page.locator("#viewer")).to_be_hidden()
    steps(page, 1)
    page.locator("#exemplar").focus()
    page.keyboard.press("a")
    expect(page.locator("#trail-name")).to_have_text("0")
    page.keyboard.press("q")
    page.wait_for_selector(SHOWN)
    page.click("#answers .around")
    steps(page, 1)
    page.reload()  # opens the view that one looked around from
    page.wait_for_selector(SHOWN)


def test_search_by_a_picture(open_page: Open, review: Review, picture: Picture, tmp_path: Path) -> None:
    page = open_page("")
    choosers: list[FileChooser] = []

    def note(one: FileChooser) -> None:
        choosers.append(one)

    page.on("filechooser", note)
    page.wait_for_selector(SEEN)
    red = png(picture(30))
    give(page, "drop", ("red.png", red), ("other.png", red))
    expect(page.locator("#notices")).to_contain_text("red.png is searched for, the first of 2 files.")
    expect(page.locator("#trail-name")).to_have_text("red.png")
    expect(page.locator("#trail-strip img")).to_have_js_property("complete", True)
    assert page.evaluate("document.querySelector('#trail-strip img').naturalWidth") > 0
    assert rows(page) == [one.row for one in review.search(red, RED, 24)]
    assert rows(page)[0] == 30
    give(page, "paste", ("green.png", png(picture(31))))
    expect(page.locator("#trail-name")).to_have_text("green.png")
    assert rows(page)[0] == 31
    (tmp_path / "blue.png").write_bytes(png(picture(32)))
    page.keyboard.press("f")
    page.wait_for_timeout(10)  # lets the browser say so
    choosers[0].set_files(tmp_path / "blue.png")
    steps(page, 3)
    assert rows(page)[0] == 32
    assert review.version == 0


def test_what_is_no_picture_is_said_and_changes_nothing(open_page: Open, context: BrowserContext) -> None:
    page = open_page("")
    page.wait_for_selector(SEEN)
    first = rows(page)
    for name, content, why in (
        ("words.txt", b"no picture at all", "Nothing can be compared with words.txt"),
        ("cut.jpg", b"\xff\xd8\xff\xe0 cut off", "Nothing can be compared with cut.jpg"),
        ("nothing.png", b"", "nothing.png is empty"),
    ):
        give(page, "drop", (name, content))
        expect(page.locator("#notices")).to_contain_text(why)
    page.evaluate("document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: new DataTransfer()}))")
    expect(page.locator("#trail")).to_be_hidden()
    assert rows(page) == first
    page.locator("#exemplar img").dispatch_event("dragstart")  # an image of the page is dragged: it is no file
    context.route("**/api/search*", lambda route: route.abort())
    page.evaluate(
        """() => {
        const data = new DataTransfer();
        data.items.add(new File(["x"], "own.png"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    expect(page.locator("#notices")).not_to_contain_text("own.png")
