"""The drawings inside the packages: every entry of `icons`, hidden ones too; aliases are not drawings."""

import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import EmojiError
from .naming import class_of

_UNITS = 16  # an iconify drawing that says no size is so wide and high
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="0 0 {width} {height}" width="{width}" height="{height}">{body}</svg>'
)


@dataclass(frozen=True)
class Drawing:
    """One emoji by one artist, as a complete SVG document; `width` and `height` are its own units."""

    artist: str
    name: str
    svg: str
    width: float
    height: float

    @property
    def class_name(self) -> str:
        """The emoji without skin tone and gender."""
        return class_of(self.name)


def load(archives: Iterable[Path]) -> list[Drawing]:
    """Return the drawings of all archives, by artist and then by name.

    Raises `EmojiError` when an archive is not a whole iconify package.
    """
    drawings = [drawing for archive in archives for drawing in _load_one(archive)]
    return sorted(drawings, key=lambda drawing: (drawing.artist, drawing.name))


def _load_one(archive: Path) -> list[Drawing]:
    try:
        with tarfile.open(archive) as package:
            member = package.extractfile("package/icons.json")
            icons = json.load(member) if member else {}
        return [_drawing(icons, name) for name in icons["icons"]]
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError) as error:
        raise EmojiError(
            f"expected an iconify package in {archive}, but it cannot be read ({error}); delete it and repeat"
        ) from error


def _drawing(icons: dict[str, Any], name: str) -> Drawing:
    icon = icons["icons"][name]
    width = icon.get("width", icons.get("width", _UNITS))
    height = icon.get("height", icons.get("height", _UNITS))
    svg = _SVG.format(width=width, height=height, body=icon["body"])
    return Drawing(icons["prefix"], name, svg, width, height)
