"""What else is among none is looked for on the review page, in a real browser."""

import re
import shlex
from pathlib import Path

import pytest
from browser import PHONE, Open
from playwright.sync_api import Page, expect

from holotype.review.review import Review
from holotype.runs.discover import COMMUNITIES

pytestmark = pytest.mark.browser


def found(page: Page) -> None:
    """Look, and wait for what is found."""
    page.click("#menu-open")
    page.click("#discover-open")
    page.click("#discover-start")
    expect(page.locator("#discover-verdict")).to_have_text(re.compile(r"^\d+ communit(y|ies) with \d+ images, of \d+ "))


def test_communities_are_shown_with_the_command_that_makes_a_class_of_each(page: Page, review: Review) -> None:
    found(page)
    boxes = page.locator("#discover-list .change")
    assert boxes.count() >= 1
    first = boxes.first
    words = shlex.split(first.locator("code").inner_text())
    assert words[:4] == ["holotype", "update", str(review.folder.path), "--exemplar"]
    name = words[4].removeprefix("NAME=")
    assert name in review.ids
    expect(first.locator("img").first).to_have_attribute("title", name)
    page.wait_for_function("document.querySelector('#discover-list img').naturalWidth > 0")
    assert name in (review.folder.discovered / COMMUNITIES).read_text()
    assert "What else is among none" in review.folder.report.read_text()
    page.click("#discover-end .close")
    expect(page.locator("#discover")).not_to_be_visible()
    page.click("#menu-open")
    page.click("#discover-open")  # they are still there
    expect(first.locator("code")).to_be_visible()


def test_they_end_with_the_results_that_they_are_of(page: Page, review: Review) -> None:
    found(page)
    page.click("#discover-end .close")
    page.click("#apply-open")
    page.click("#apply-start")
    expect(page.locator("#apply-verdict")).to_contain_text("The answers are applied")
    page.click("#apply-end .close")
    page.click("#menu-open")
    page.click("#discover-open")
    expect(page.locator("#discover-start")).to_be_focused()


def test_it_fits_a_phone(open_page: Open, tmp_path: Path) -> None:
    page = open_page("", PHONE)
    found(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = page.locator("#discover").bounding_box()
    assert box is not None
    assert box["width"] <= PHONE[0]
    page.keyboard.press("Escape")
    expect(page.locator("#discover")).not_to_be_visible()
