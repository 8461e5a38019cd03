"""Sphinx extension: pages that are made while the site is built, and links that lead out of docs/.

A page that has `<!-- commands -->` gets the reference of the command line there, from the commands themselves. A page
named in `WHOLE` is the file of the repository that it stands for. Links between files stay as they are on GitHub.
"""

import re
from collections.abc import Iterator
from os.path import relpath
from pathlib import Path
from typing import Any

import typer
from sphinx.application import Sphinx

from holotype.cli.main import app as command_line

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COMMANDS = "<!-- commands -->"
WHOLE = {"contributing": ROOT / "CONTRIBUTING.md", "changelog": ROOT / "CHANGELOG.md"}
# files of the repository that are pages of the site -> the page
PAGES = {path: DOCS / f"{name}.md" for name, path in WHOLE.items()} | {ROOT / "README.md": DOCS / "index.md"}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def setup(app: Sphinx) -> dict[str, bool]:
    """Take part in the build."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True}


def read(_: Sphinx, name: str, source: list[str]) -> None:
    """Put the text of a page into the form that is built: `source` holds it."""
    path = WHOLE.get(name, DOCS / f"{name}.md")
    text = path.read_text(encoding="utf-8") if name in WHOLE else source[0]
    if COMMANDS in text:
        text = text.replace(COMMANDS, "\n".join(reference()))
    source[0] = LINK.sub(lambda link: relinked(link, path.parent, (DOCS / name).parent), text)


def relinked(link: re.Match[str], where: Path, home: Path) -> str:
    """Return a link of a file in the folder `where` as one of a page in `home`; what is no page is a download or text.

    What only resembles a link, or leads to another site or to a place on the same page, is left as it is.
    """
    path, _, anchor = link[2].partition("#")
    target = (where / path).resolve()
    if not path or re.match(r"[a-z]+:", path) or not target.exists():
        return link[0]
    if target.is_relative_to(DOCS) or target in PAGES:
        to = relpath(PAGES.get(target, target), home)
        return f"[{link[1]}]({to}{'#' + anchor if anchor else ''})"
    return f"[{link[1]}](<path:{relpath(target, home)}>)" if target.is_file() else link[1]


def reference() -> Iterator[str]:
    """Yield the lines of the reference of the command line, as Markdown."""
    group: Any = typer.main.get_command(command_line)
    for name in group.list_commands(typer.Context(group)):
        command = group.commands[name]
        context = typer.Context(command, info_name=f"holotype {name}")
        yield from ["", f"## {name}", "", *escaped(command.help.strip()).splitlines(), ""]
        yield from [
            f"```{{program}} holotype {name}",
            "```",
            "```text",
            " ".join(["holotype", name, *command.collect_usage_pieces(context)]),
            "```",
            "",
        ]
        for parameter in command.params:
            called, text = parameter.get_help_record(context)
            called = re.sub(r"<list\[(\w+)\]>", r"<\1>", called).replace(" / ", ", ").strip()
            yield from [f"````{{option}} {called}", escaped(text.strip()), "````", ""]


def escaped(text: str) -> str:
    """Return plain text as Markdown; what is in backticks is code in both."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\<*_\[{])", r"\\\1", part) for part in parts)
