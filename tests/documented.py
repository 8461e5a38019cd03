"""The commands and the code of the documentation: where they are, and how a test does what a reader would do."""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from holotype.cli.main import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1`*\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, the word behind it, and what is in it."""

    language: str
    mark: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, directives of the site among them."""
    for _, about, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        language, _, mark = about.strip().partition(" ")
        yield Block(language, mark, text)


def follow(page: Path, folder: Path, replaced: Mapping[str, str] = MappingProxyType({})) -> int:
    """Do in `folder` what a page says, from top to bottom; return how many blocks that were.

    Commands are given to a shell, Python shares its names within the page, and a block whose mark is the name of a file
    is written to it. What needs more than this machine is left out. `replaced`: text -> what stands for it here.
    """
    names: dict[str, Any] = {"__name__": "__documented__"}
    count = 0
    for block in blocks(page):
        text = block.text
        for old, new in replaced.items():
            text = text.replace(old, new)
        if block.mark.startswith("needs-"):
            continue
        if block.language == "sh":
            _shell(text, folder)
        elif block.language == "python":
            exec(compile(text, str(page), "exec"), names)
        elif "." in block.mark:
            (folder / block.mark).write_text(text, encoding="utf-8")
        else:
            continue
        count += 1
    return count


def _shell(text: str, folder: Path) -> None:
    """Do the lines of a block: `holotype` in this process, as it takes seconds to start, and the others in a shell."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "holotype":
            _holotype(words[1:], folder)
        elif words:
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            given = ["bash", "-euo", "pipefail", "-c", line]
            inside = os.environ | {"PATH": path}
            done = subprocess.run(given, cwd=folder, env=inside, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\ngave {done.returncode}:\n{done.stdout}\n{done.stderr}"


def _holotype(words: list[str], folder: Path) -> None:
    assert not {"|", "<", ">>", "&&", ";"} & {*words}, f"expected a plain command, or one with >, got {words}"
    name = os.devnull
    if ">" in words:
        words, (name,) = words[: words.index(">")], words[words.index(">") + 1 :]
    with (
        pytest.MonkeyPatch.context() as patch,
        (folder / name).open("w", encoding="utf-8") as target,
        redirect_stdout(target),
        redirect_stderr(io.StringIO()) as said,
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["holotype", *words])
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
    assert code == 0, f"holotype {shlex.join(words)}\ngave {code}:\n{said.getvalue()}"
