"""The map of the review page in a real browser: drawn, moved, gone around with a lasso, and used by keys alone."""

import re

import pytest
from browser import CELL, PHONE, N, Open, answered, verdict
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from holotype.errors import HolotypeError
from holotype.review.atlas import STATES
from holotype.review.layout import Laying
from holotype.review.review import Review

pytestmark = pytest.mark.browser
COLOURS = """() => {
    const { width, height } = document.querySelector("#points");
    if (!width || !height) return {}; // not laid out yet
    const data = document.querySelector("#points").getContext("2d").getImageData(0, 0, width, height).data;
    const found = new Map();
    for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] < 255) continue;
        const name = [data[i], data[i + 1], data[i + 2]].map((one) => one.toString(16).padStart(2, "0")).join("");
        found.set(name, (found.get(name) ?? 0) + 1);
    }
    return Object.fromEntries(found);
}"""
REJECTED, FOUND, YES = "a9b0b7", "0072b2", "00805c"


@pytest.fixture
def mapped(review: Review, kept_map: bytes) -> Review:
    """A review whose map is there."""
    review.folder.map.write_bytes(kept_map)
    return review


def counts(page: Page) -> dict[str, int]:
    """How many points stand how to the class."""
    found = page.locator("#plot").get_attribute("data-states") or ""
    return dict(zip(STATES, map(int, found.split()), strict=True))


def stands(page: Page, **wanted: int) -> None:
    """Wait until so many points stand so to the class."""
    pattern = " ".join(str(wanted.get(state, r"\d+")) for state in STATES)
    expect(page.locator("#plot")).to_have_attribute("data-states", re.compile(f"^{pattern}$"))


def drawn(page: Page) -> Locator:
    """Wait until the whole map is shown; return it."""
    expect(page.locator("#points")).to_have_attribute("data-drawn", str(N))
    stands(page)
    return page.locator("#plot")


def around(page: Page, *corners: tuple[float, float]) -> None:
    """Drag around what lies between `corners`, as shares of the map."""
    box = page.locator("#plot").bounding_box()
    assert box
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=3)
    page.mouse.up()


ALL = ((0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98))


def test_the_map_is_laid_out_and_kept(page: Page, review: Review, kept_map: bytes) -> None:
    assert not review.folder.map.exists()
    page.keyboard.press("m")
    expect(page.locator("#map-stage")).to_contain_text("Laying out the map")
    drawn(page)
    expect(page.locator("#map-wait")).to_be_hidden()
    expect(page.locator("#map-title")).to_have_text("Map for red: 240 images")
    before = counts(page)
    found = len(review.state.refined.groups.found(0))
    assert (before["exemplar"], before["found"], sum(before.values())) == (1, found, N)
    expect(page.locator("#legend li")).to_have_count(len(STATES))
    expect(page.locator("#legend")).to_contain_text(f"Found {found}")
    colours = page.evaluate(COLOURS)
    assert colours[REJECTED] > 50
    assert colours[FOUND] > 20
    assert YES not in colours
    assert review.folder.map.exists()
    page.reload()
    drawn(page)
    assert counts(page) == before
    assert review.folder.map.read_bytes() == kept_map
    page.keyboard.press("]")
    expect(page.locator("#map-title")).to_contain_text("Map for <img src=x onerror=alert(1)>: 240 images")
    stands(page, found=len(review.state.refined.groups.found(1)))


def test_a_lasso_leads_to_a_page_and_answers_there_change_colours(open_page: Open, mapped: Review) -> None:
    page = open_page("#mode=map")
    drawn(page)
    page.keyboard.down("Shift")
    around(page, (0.02, 0.02), (0.04, 0.02), (0.02, 0.04))
    expect(page.locator("#notices")).to_contain_text("No image is inside the line.")
    around(page, *ALL)
    page.keyboard.up("Shift")
    expect(page.locator(CELL)).to_have_count(24)
    rows = [int(cell.get_attribute("data-row") or "") for cell in page.locator("#cells .cell").all()]
    assert {*rows} <= set(mapped.state.refined.groups.found(0).tolist())
    expect(page.locator("#trail-from")).to_have_text(f"Chosen on the map: 1 to 24 of {N}")
    page.click("#trail-back")
    expect(page.locator("#map")).to_be_visible()
    page.keyboard.down("Shift")
    around(page, *ALL)
    page.keyboard.up("Shift")
    expect(page.locator(CELL)).to_have_count(24)
    page.keyboard.press("y")
    expect(page.locator("#cells-about")).to_have_text("1 yes, the other 23 no")
    page.keyboard.press("Enter")
    answered(page, 24)
    expect(page.locator("#cells .cell").first).not_to_have_attribute("data-row", str(rows[0]))
    page.keyboard.press("Escape")
    stands(page, yes=1, no=23)
    page.wait_for_function(f"() => ({COLOURS})()['{YES}'] > 10")
    assert {int(name): word for (name, _), word in verdict(mapped).items()} == {
        row: "no" if place else "yes" for place, row in enumerate(rows)
    }
    page.keyboard.press("z")
    answered(page, 0)
    expect(page.locator("#cells-about")).to_contain_text("1 yes")
    page.keyboard.press("r")
    page.keyboard.press("n")
    page.keyboard.press("Enter")  # what else was chosen comes behind, as before
    expect(page.locator("#cells .cell")).to_have_count(24)
    following = [int(cell.get_attribute("data-row") or "") for cell in page.locator("#cells .cell").all()]
    assert set(following).isdisjoint(rows)
    answered(page, 1)
    page.keyboard.press("z")
    answered(page, 0)
    page.keyboard.press("Escape")
    stands(page, yes=0, no=0)


def test_what_is_near_on_the_map_is_near_on_the_page(open_page: Open) -> None:
    """The curve along which a lasso's images are ordered goes through every place, always to one beside."""
    steps = open_page().evaluate(
        """async () => {
        const { Plot } = await import("/static/plot.js");
        const plot = new Plot(document.createElement("canvas"));
        const places = [...Array(256).keys()].map((k) => [4096 * (k % 16), 4096 * Math.floor(k / 16)]);
        plot.add(new Uint32Array(256), new Uint16Array(places.flat()));
        const order = places.map((_, k) => k).sort((one, other) => plot.along(one) - plot.along(other));
        const apart = (k) => Math.abs(places[order[k]][0] - places[order[k - 1]][0])
            + Math.abs(places[order[k]][1] - places[order[k - 1]][1]);
        return order.slice(1).map((_, k) => apart(k + 1));
        }"""
    )
    assert set(steps) == {4096}


def test_a_map_of_many_shows_pictures_in_its_overview_the_same_while_it_moves(open_page: Open) -> None:
    shown, moved, closer = open_page().evaluate(
        """async () => {
        const { Plot } = await import("/static/plot.js");
        const plot = new Plot(document.createElement("canvas"));
        const places = [...Array(2500).keys()].map((k) => [1300 * (k % 50), 1300 * Math.floor(k / 50)]);
        plot.add(Uint32Array.from(places.keys()), new Uint16Array(places.flat()));
        plot.states = new Uint8Array(2500);
        plot.states[1234] = 6;
        plot.size = { width: 900, height: 600 };
        plot.whole();
        const pictured = () => [...plot.placePictures(plot.inView)];
        const shown = pictured();
        plot.pan(3, 2);
        const moved = pictured();
        plot.zoom(8);
        return [shown, moved, pictured()];
        }"""
    )
    assert 8 <= len(shown) <= 60
    assert shown[0] == 1234  # what matters most has a place
    assert set(moved) == set(shown)
    assert set(closer) - set(shown)


AT_ONCE = """async () => {
    const enter = (at) => at.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
    enter(document.getElementById("plot"));
    let cells;
    while ((cells = document.querySelectorAll("#cells .cell")).length < 24) await new Promise(requestAnimationFrame);
    enter(cells[0]);
}"""


def test_the_map_with_keys_alone(open_page: Open, mapped: Review) -> None:
    page = open_page()
    page.keyboard.press("m")
    plot = drawn(page)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#map-about")).not_to_be_empty()
    for key in ("ArrowRight", "ArrowDown", "ArrowUp"):
        before = plot.get_attribute("data-at")
        page.keyboard.press(key)
        expect(plot).not_to_have_attribute("data-at", before or "")
    for _ in range(4):
        page.keyboard.press("+")
    expect(page.locator("#points")).not_to_have_attribute("data-drawn", str(N))
    expect(page.locator("#points")).not_to_have_attribute("data-pictures", "0")
    page.keyboard.press("0")
    drawn(page)
    page.get_by_role("button", name="Exemplar 1", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#map-about")).to_contain_text("0: exemplar.")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#map-about")).not_to_contain_text("0: exemplar.")
    plot.focus()
    page.keyboard.press("Space")
    page.wait_for_selector("#viewer[data-shown=true]")
    at = plot.get_attribute("data-at") or ""
    expect(page.locator("#viewer-name")).to_have_text(at)
    page.keyboard.press("n")
    answered(page, 1)
    page.keyboard.press("Escape")
    stands(page, no=1)
    page.evaluate(AT_ONCE)
    expect(page.locator("#notices")).to_contain_text("Nothing was on the screen for long enough")
    expect(page.locator(CELL)).to_have_count(24)
    known = page.locator("#cells .cell").first
    expect(known).to_have_attribute("data-row", at)
    expect(known).to_have_attribute("data-mark", "no")
    page.keyboard.press("Escape")
    drawn(page)
    assert plot.get_attribute("data-at") == at
    page.keyboard.press("a")
    expect(page.locator("#trail-name")).to_have_text(at)
    page.wait_for_selector(CELL)
    page.keyboard.press("Escape")
    drawn(page)
    page.keyboard.press("Escape")
    page.wait_for_selector("#pages:not([hidden])")
    assert list(verdict(mapped).values()) == ["no"]


def test_a_point_shows_its_picture_and_the_map_moves_with_the_pointer(open_page: Open, mapped: Review) -> None:
    page = open_page("#mode=map")
    plot = drawn(page)
    box = plot.bounding_box()
    assert box
    page.keyboard.press("ArrowRight")
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.wheel(0, -400)
    page.mouse.wheel(0, -400)
    expect(page.locator("#points")).not_to_have_attribute("data-drawn", str(N))
    fewer = page.locator("#points").get_attribute("data-drawn")
    around(page, (0.5, 0.5), (0.9, 0.9))
    expect(page.locator("#points")).not_to_have_attribute("data-drawn", fewer or "")
    page.click("#map-whole")
    drawn(page)
    x, y = page.evaluate(
        """() => {
        const pen = document.querySelector("#points").getContext("2d");
        const { data, width, height } = pen.getImageData(0, 0, 2000, 2000);
        const ink = [0, 1, 2].map((k) => parseInt("0072b2".slice(2 * k, 2 * k + 2), 16));
        for (let i = 0; i < width * height; i++)
            if (ink.every((one, k) => data[4 * i + k] === one)) return [i % width, Math.floor(i / width)];
        }"""
    )
    page.mouse.move(box["x"] + x + 2, box["y"] + y + 2)
    expect(page.locator("#map-tip")).to_have_text("Found")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("#viewer[data-shown=true]")
    page.keyboard.press("y")
    answered(page, 1)
    page.keyboard.press("Escape")
    stands(page, yes=1)
    assert list(verdict(mapped).values()) == ["yes"]


def test_the_map_on_a_phone(browser: Browser, served_review: tuple[Review, str], mapped: Review) -> None:
    size: ViewportSize = {"width": PHONE[0], "height": PHONE[1]}
    context = browser.new_context(viewport=size, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = context.new_page()
    page.goto(f"{served_review[1]}#mode=map")
    box = drawn(page).bounding_box()
    assert box
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert min(one.bounding_box()["height"] for one in page.locator("#map-tools button").all()) >= 36  # type: ignore[index]
    left, top, middle = box["x"], box["y"], box["width"] / 2
    touch = context.new_cdp_session(page)

    def fingers(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": left + x, "y": top + y, "id": k} for k, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", (middle - 20, middle), (middle + 20, middle))
    for far in (60, 100, 140):
        fingers("touchMove", (middle - far, middle), (middle + far, middle))
    fingers("touchEnd")
    expect(page.locator("#points")).not_to_have_attribute("data-drawn", str(N))
    page.tap("#map-whole")
    drawn(page)
    page.tap("#map-lasso")
    expect(page.locator("#map-lasso")).to_have_attribute("aria-pressed", "true")
    corners = [(x * box["width"], y * box["height"]) for x, y in ALL]
    fingers("touchStart", corners[0])
    for place in corners[1:]:
        fingers("touchMove", place)
    fingers("touchEnd")
    page.wait_for_selector(CELL)
    expect(page.locator("#cells .cell")).to_have_count(24)
    context.close()


def test_why_there_is_no_map_is_said(
    open_page: Open, review: Review, kept_map: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(vectors: object) -> Laying:
        raise HolotypeError("the map was not laid out: its process was ended, with signal 9")

    with monkeypatch.context() as patch:
        patch.setattr("holotype.review.atlas.Laying", refuse)
        page = open_page("#mode=map")
        expect(page.locator("#map-stage")).to_contain_text("ended, with signal 9")
    review.folder.map.write_bytes(kept_map)
    page.click("#map-again")
    drawn(page)
