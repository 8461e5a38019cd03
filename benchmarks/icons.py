"""A pool of user-interface icons by eighteen design teams: one colour, thin lines, nothing like the emoji.

A class is what an icon shows, without its style: `home`, `home-outline` and `round-home-filled` are all `home`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.emoji.build import Settings, is_built, render_to, write_mark
from examples.emoji.drawings import Drawing, load
from examples.emoji.sources import Source, cache_folder, fetch

SOURCES = (
    Source("basil", "1.2.4"),
    Source("bi", "1.2.7"),
    Source("bx", "1.2.3"),
    Source("carbon", "1.2.29"),
    Source("fluent", "1.2.60"),
    Source("heroicons", "1.2.3"),
    Source("iconamoon", "1.2.2"),
    Source("iconoir", "1.2.11"),
    Source("ion", "1.2.7"),
    Source("lucide", "1.2.137"),
    Source("material-symbols", "1.2.98"),
    Source("mdi", "1.2.3"),
    Source("mingcute", "1.2.8"),
    Source("ph", "1.2.2"),
    Source("ri", "1.2.10"),
    Source("solar", "1.2.13"),
    Source("tabler", "1.2.41"),
    Source("uil", "1.2.3"),
)
COUNT = 16_000
LEAST, ARTISTS = 20, 5  # a class has at least so many icons, by at least so many artists

_WEIGHTS = frozenset({"bold", "broken", "duotone", "light", "regular", "thin"})
_OUTLINES = frozenset({"fill", "filled", "glyph", "line", "linear", "outline", "outlined", "solid"})
_STYLES = _WEIGHTS | _OUTLINES | {"alt", "color", "round", "rounded", "sharp", "variant"}
_OTHER_SIZE = re.compile(r"-(10|12|16|20|28|32|48)-")  # fluent draws each icon anew for seven sizes; one is enough


@dataclass(frozen=True)
class Icon(Drawing):
    """One icon by one team."""

    @property
    def class_name(self) -> str:
        """What it shows; empty where the name is nothing but a style or a number."""
        return class_of(self.name)


def class_of(name: str) -> str:
    """Return `name` without the words for a style, and without numbers."""
    return "-".join(word for word in name.split("-") if word not in _STYLES and not word.isdigit())


def build(out: Path) -> None:
    """Fill the folder `out` with `images.tar` and `labels.csv`, unless they are there."""
    settings = Settings("icons", seed=0, sides=(96, 224), sources=SOURCES)
    if is_built(out, settings):
        return
    icons = [
        Icon(drawing.artist, drawing.name, drawing.svg, drawing.width, drawing.height)
        for drawing in load(fetch(SOURCES, cache_folder()))
        if not (drawing.artist == "fluent" and _OTHER_SIZE.search(drawing.name))
    ]
    write_mark(out, render_to(out, choose(icons), settings), settings)


def choose(icons: Sequence[Icon]) -> list[Icon]:
    """Return every icon of the classes that are large enough, and a sample of the others, shuffled."""
    count, artists = Counter(icon.class_name for icon in icons), defaultdict(set)
    for icon in icons:
        artists[icon.class_name].add(icon.artist)
    large = {name for name in count if name and count[name] >= LEAST and len(artists[name]) >= ARTISTS}
    wanted = [icon for icon in icons if icon.class_name in large]
    others = [icon for icon in icons if icon.class_name not in large]
    rng = np.random.default_rng(0)
    chosen = wanted + [others[i] for i in rng.choice(len(others), COUNT - len(wanted), replace=False)]
    return [chosen[i] for i in rng.permutation(len(chosen))]
