"""The documentation as a site: it is built without a warning, and read without any other host."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from browser import PATIENCE

from holotype.cli.main import app

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WIDTHS = (1280, 390)  # of a laptop and of a telephone
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    out = tmp_path_factory.mktemp("site")
    options = ["-q", "-E", "-W", "--keep-going", "-b", "html", "-d", str(out / "kept")]
    built = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(out / "html")]
    done = subprocess.run(built, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.fixture
def visit(browser: "Browser", site: Path) -> "Iterator[Page]":
    """A tab that may load files of the site alone, and may not complain."""
    asked: list[str] = []
    faults: list[str] = []
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()

    def note(request: "Request") -> None:
        if not request.url.startswith((site.as_uri(), "data:")):
            asked.append(request.url)

    page.on("request", note)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(request.url))
    yield page
    context.close()
    assert asked == []
    assert faults == []


def test_the_makefile_and_the_check_build_it_as_the_tests_do() -> None:
    command = "-m sphinx -q -E -W --keep-going -b html docs"
    assert command in (ROOT / "Makefile").read_text()
    assert command in (ROOT / "scripts" / "check").read_text()


def test_each_page_is_there(site: Path) -> None:
    pages = [page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")]
    assert [page for page in pages if not (site / page).is_file()] == []


def test_no_page_names_another_host_but_in_links(site: Path) -> None:
    """What a browser loads by itself is in `src` and in `link`; a link that is clicked may lead anywhere."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"([^\"]+)", text)
        loaded += re.findall(r"<link\b[^>]*\bhref=\"([^\"]+)", text)
        assert [one for one in loaded if re.match(r"(\w+:)?//", one)] == [], page.name


def test_the_reference_has_every_command_and_option(site: Path) -> None:
    text = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    for name, command in COMMANDS.items():
        assert f'<section id="{name}">' in text
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert f'id="cmdoption-holotype-{name}-{option.lstrip("-")}"' in text, f"{name} {option}"


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_read_without_another_host_and_fits_the_screen(visit: "Page", site: Path, width: int) -> None:
    visit.set_viewport_size({"width": width, "height": 844})
    for page in sorted(site.rglob("*.html")):
        visit.goto(page.as_uri())
        # what is wider than the screen scrolls within itself
        assert visit.evaluate("document.documentElement.scrollWidth") <= width, page.name
        assert visit.locator("img").evaluate_all("all => all.every(one => one.naturalWidth)"), page.name


@pytest.mark.browser
def test_it_can_be_searched_without_a_server(visit: "Page", site: Path) -> None:
    visit.goto((site / "search.html").as_uri() + "?q=conductance")
    visit.wait_for_selector("#search-results li a")
    assert "Glossary" in visit.locator("#search-results").inner_text()
