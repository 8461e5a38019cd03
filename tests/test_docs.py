"""Promises of the documentation: links lead somewhere, figures are those measured, options and modules exist."""

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import holotype
from holotype.cli.main import app
from holotype.settings import Strict, TrainSettings

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "holotype"
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS = {
    name: {"--help"} | {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
}
OF_COMMANDS = [ROOT / "README.md", DOCS / "review.md", DOCS / "certify.md"]
FOLLOWED = [
    DOCS / "index.md",
    DOCS / "export.md",
    DOCS / "tutorial.md",
    *sorted((DOCS / "guides").glob("*.md")),
]  # by test_guides.py
EXAMPLES = ("precision at least .86", "a cosine of .75", "with 95 % confidence")  # of the README, not measured
ANSWERED = ("0", "10", "20", "30", "50")
POOLS = (
    "emoji, efficientnet_lite0",
    "emoji, efficientnet_lite2",
    "icons, efficientnet_lite0",
    "icons, efficientnet_lite2",
)
EMOJI, _, ICONS, _ = POOLS
CEILING = "ceiling, all labels, oracle threshold"
RENAMED = {
    "raw cosine, threshold from the pool": "raw cosine, null threshold",
    "cosine .75, 5 exemplars": "naive, cosine .75, 5 exemplars",
    "ours, best threshold in hindsight": "ours",
    "ceiling, all labels": CEILING,
}


FENCED = re.compile(r"^(`{3,})[^\n]*\n(.*?)^\1`*\s*$", re.MULTILINE | re.DOTALL)


def without_code(text: str) -> str:
    """Return Markdown without its blocks and spans of code."""
    text = FENCED.sub("", text)
    lines = [line for line in text.splitlines() if not line.startswith("    ")]
    return re.sub(r"`[^`]*`", "", "\n".join(lines))


def links(page: Path) -> list[str]:
    """Return where the links of a page lead that stay in the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page can be linked by, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pieces_of_code(text: str) -> Iterator[str]:
    """Yield each line of a block of code, without its comment, and each span of code in a text."""
    text = FENCED.sub(lambda fence: textwrap.indent(fence[2], "    "), text)
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = joined.splitlines()
    yield from (line.partition(" # ")[0].strip() for line in lines if line.startswith("    "))
    yield from re.findall(r"`([^`]+)`", "\n".join(line for line in lines if not line.startswith("    ")))


def options_in(text: str) -> list[str]:
    """Return the options of a command line that are named in `text`."""
    return re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text)


def table(page: Path, header: str) -> dict[str, list[str]]:
    """Return the rows of the table below a line that begins with `header`: the first cell -> the others."""
    after = page.read_text().partition(f"\n{header}")[2].partition("\n|---")[2].splitlines()[1:]
    rows = [line.strip("|").split("|") for line in after[: after.index("")]]
    return {row[0].strip(" *"): [cell.strip() for cell in row[1:]] for row in rows}


def results(name: str) -> dict[str, dict[str, Any]]:
    """Return what was measured: the pool and its encoder -> its figures."""
    return {entry["pool"]: entry for entry in json.loads((RESULTS / name).read_text())}


def f1(name: str, pool: str, method: str, score: str = "f1") -> float:
    return float(results(name)[pool]["methods"][method][score])


def answered(pool: str, count: str, score: str) -> float:
    return float(results("answers.json")[pool]["reviewers"]["ours"][count][score])


def short(value: float) -> str:
    """Return a share as the README writes it."""
    return f"{value:.2f}".removeprefix("0")


def measured_phrases() -> list[str]:
    """Return what the README is to say of what was measured."""
    quality, stages = "quality.json", "stages.json"
    here, there = (
        (short(f1(quality, pool, "ours")), short(f1(quality, pool, "naive, cosine .75"))) for pool in (EMOJI, ICONS)
    )
    best = [short(f1(quality, pool, CEILING, "oracle f1")) for pool in (EMOJI, ICONS)]
    others = [short(f1(quality, pool, "ours", "f1 other artists")) for pool in (EMOJI, ICONS)]
    more = [short(f1(stages, EMOJI, method)) for method in ("ours", "ours, 5 exemplars")]
    emoji, icons = ([short(answered(pool, count, "f1")) for count in ("0", "30")] for pool in (EMOJI, ICONS))
    paged, asked = (
        [short(results("seconds.json")[pool]["ways"][way]["60"]["all"]["f1"]) for pool in (EMOJI, ICONS)]
        for way in ("pages of 24", "single questions")
    )
    labels = [short(results("seconds.json")[pool]["ends"]["all"]["all labels"]) for pool in (EMOJI, ICONS)]
    encoding = json.loads((RESULTS / "speed.json").read_text())["encoding"]
    rates = {entry["network"]: f"{entry['rows']['holotype f32']['rate']:.0f}" for entry in encoding}
    speeds = [rates["efficientnet_lite0"], rates["resnet50"]]
    return [
        f"{here[0]} on emoji (a cosine of .75: {here[1]}, all labels: {best[0]})",
        f"{there[0]} on icons ({there[1]}, {best[1]})",
        f"{others[0]} on emoji, {others[1]} on icons",
        f"(emoji: {more[0]} -> {more[1]})",
        f"({emoji[0]} -> {emoji[1]}; icons {icons[0]} -> {icons[1]})",
        f"F1 {paged[0]} on emoji and {paged[1]} on icons (single questions: {asked[0]} and {asked[1]}",
        f"a classifier that learnt from all labels: {labels[0]} and {labels[1]})",
        f"{speeds[0]} large JPEGs a second become vectors of `efficientnet_lite0`, {speeds[1]} of a ResNet50",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}, and there is no such file"
        assert target.is_relative_to(ROOT), f"{page.name} links out of the repository: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}, and there is no such heading"


def test_every_page_is_linked_from_where_readers_begin() -> None:
    """That is the README, and the first page of the documentation; the site shows its last two pages in its menu."""
    beginnings = [ROOT / "README.md", DOCS / "index.md"]
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in beginnings for link in links(page)}
    assert {*PAGES} - {ROOT / "README.md"} <= linked | {DOCS / "contributing.md", DOCS / "changelog.md"}
    assert DOCS / "index.md" in linked


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menus = re.findall(r"^```{toctree}\n(.*?)^```", (DOCS / "index.md").read_text(), re.MULTILINE | re.DOTALL)
    named = [line for menu in menus for line in menu.splitlines() if line and not line.startswith(":")]
    pages = [str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md") if page != DOCS / "index.md"]
    assert sorted(named) == sorted(pages)


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "python.md").read_text()
    assert {*holotype.__all__} <= {*re.findall(r"^\.\. auto\w+:: holotype\.(\w+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("phrase", measured_phrases())
def test_the_figures_of_the_readme_are_those_measured(phrase: str) -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    assert phrase in text, f"expected in README.md, from benchmarks/results: {phrase}"


def test_the_readme_has_no_other_figures() -> None:
    text = " ".join(without_code((ROOT / "README.md").read_text()).split())
    for phrase in [*measured_phrases(), *EXAMPLES]:
        text = text.replace(" ".join(without_code(phrase).split()), "")
    assert re.findall(r"(?<![\w.])\d*\.\d+|\d+ %", text) == []


def test_the_table_of_groups_is_that_measured() -> None:
    rows = table(DOCS / "results.md", "F1 with the method's own threshold")
    assert len(rows) == 8
    for name, cells in rows.items():
        score = "oracle f1" if "hindsight" in name or "ceiling" in name else "f1"
        method = RENAMED.get(name, name)
        for pool, cell in zip(POOLS, cells, strict=True):
            both = [f1("quality.json", pool, method, f"{score}{more}") for more in ("", " other artists")]
            assert cell == f"{both[0]:.3f} / {both[1]:.3f}", f"{name}, {pool}"


def test_the_table_of_stages_is_that_measured() -> None:
    rows = table(DOCS / "results.md", "Stages, and more exemplars")
    gaps = rows.pop("gap closed with 1, with 5 exemplars, all")
    assert len(rows) == 10
    for place, pool in enumerate((EMOJI, ICONS)):
        for name, cells in rows.items():
            both = [f1("stages.json", pool, RENAMED.get(name, name), f"f1{more}") for more in ("", " other artists")]
            assert cells[place] == f"{both[0]:.3f} / {both[1]:.3f}", f"{name}, {pool}"
        two = [f1("stages.json", pool, method, "gap closed, all") for method in ("ours", "ours, 5 exemplars")]
        assert gaps[place] == f"{two[0]:.2f}, {two[1]:.2f}"


@pytest.mark.parametrize(("header", "pool"), [("Emoji (naive", EMOJI), ("Icons (naive", ICONS)])
def test_the_tables_of_answers_are_those_measured(header: str, pool: str) -> None:
    page, found = DOCS / "results.md", results("answers.json")[pool]
    assert f"{header} {found['naive']:.2f}, ceiling {found['ceiling']:.2f}):" in page.read_text()
    rows = table(page, header)
    assert rows.keys() == found["reviewers"].keys()
    for name, cells in rows.items():
        there = [found["reviewers"][name][count] for count in ANSWERED]
        assert cells[:-1] == [f"{one['f1']:.3f} ({one['gap closed, f1']:.2f})" for one in there], name


def test_the_table_of_modules_names_each_once() -> None:
    named = re.findall(r"^\| `([\w/]+\.py)` \|", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    there = [str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(named) == sorted(there)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_that_are_named_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # it names those of before
        return
    for code in pieces_of_code(page.read_text()):
        if re.fullmatch(r"[\w/.]+\.py", code):
            assert any((folder / code).exists() for folder in (SOURCE, ROOT)), f"{page.name} names {code}"


@pytest.mark.parametrize("page", [*OF_COMMANDS, *FOLLOWED], ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    text, seen = page.read_text(), 0
    for code in pieces_of_code(text):
        called = re.match(r"(?:\S*/)?holotype +([a-z]+)", code) or re.match(
            rf"({'|'.join(filter(None, COMMANDS))}) -", code
        )
        if called:
            assert called[1] in COMMANDS, f"{page.name} calls holotype {called[1]}"
            unknown = {*options_in(code)} - COMMANDS[called[1]]
            assert not unknown, f"{page.name} gives holotype {called[1]} the options {unknown}"
            seen += 1
    if page in FOLLOWED:
        return
    assert seen > 2
    known = set().union(*COMMANDS.values()) | {"-m"}  # of Python
    assert {*options_in(text)} <= known, "in comments and elsewhere an option is that of some command"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_exist(page: Path) -> None:
    for name in re.findall(r"--set ([\w.]+)=", page.read_text()):
        settings: type[Strict] = TrainSettings
        for part in name.split("."):
            assert part in settings.model_fields, f"{page.name} sets {name}"
            kind = settings.model_fields[part].annotation
            settings = kind if isinstance(kind, type) and issubclass(kind, Strict) else Strict


def test_the_table_of_promises_is_that_measured() -> None:
    measured = json.loads((RESULTS / "certify.json").read_text())
    rows = table(DOCS / "certify.md", "| case | promised | broken |")
    assert rows == {
        name: [f"{100 * found['promised']:.0f} %", f"{100 * found['broken']:.1f} %"]
        for name, found in measured["adverse"].items()
    }
    assert all(found["broken"] <= 0.055 for found in measured["adverse"].values())  # 5 % within what 2,000 can tell
    for share, cells in table(DOCS / "certify.md", "| precision of the class").items():
        found = [measured["power"][f"0{share}, {answers} answers"] for answers in (60, 120, 240)]
        assert cells == [f"{100 * one['promised']:.0f} %, {100 * one['covered']:.0f} %" for one in found]
