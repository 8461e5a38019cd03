"""The whole way: fetch the drawings, render them, write the tables, and last the mark that all is there."""

import importlib.metadata
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from . import tables
from .archive import write_tar
from .drawings import Drawing, load
from .plan import choose
from .rendering import Picture, Sitting, render_all
from .sources import SOURCES, Source, cache_folder, fetch

RECIPE = 2  # raise it when the same settings would give other files
MARK = "build.json"  # written last: without it a folder is not finished
# A new build removes all of these first; embeddings.npy belongs to the images that it was made from.
OUTPUTS = (MARK, "images.tar", "labels.csv", "exemplars.csv", "more_exemplars.csv", "test_set.csv", "embeddings.npy")


@dataclass(frozen=True)
class Settings:
    """What is asked for; `sides` are the least and the greatest long side in pixels."""

    variant: str
    seed: int
    sides: tuple[int, int]
    sources: tuple[Source, ...] = SOURCES

    def record(self) -> dict[str, Any]:
        """Return everything that decides the bytes of a build."""
        return {
            "recipe": RECIPE,
            "variant": self.variant,
            "seed": self.seed,
            "size": list(self.sides),
            "packages": [source.package for source in self.sources],
            "software": {name: importlib.metadata.version(name) for name in ("numpy", "pillow", "resvg-py")},
        }


@dataclass
class Gallery:
    """What has been rendered: drawing i is image i; `unrendered` lists the failed drawings, and why."""

    drawings: list[Drawing] = field(default_factory=list)
    unrendered: list[str] = field(default_factory=list)


def build(out: Path, settings: Settings) -> bool:
    """Fill the folder `out`; return False, at once, where it already holds the same build.

    Raises `EmojiError` when the drawings cannot be had.
    """
    if is_built(out, settings):
        return False
    chosen = choose(load(fetch(settings.sources, cache_folder())), settings.variant, settings.seed)
    build_from(chosen, out, settings)
    return True


def is_built(out: Path, settings: Settings) -> bool:
    """Tell whether `out` holds a finished build of these settings."""
    try:
        found = json.loads((out / MARK).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):  # no mark, or none of ours
        return False
    return found == settings.record() and (out / "images.tar").is_file()


def build_from(chosen: Sequence[Drawing], out: Path, settings: Settings) -> Gallery:
    """Render `chosen` in order and write every file of the reference shape to `out`."""
    gallery = render_to(out, chosen, settings)
    first, *more = (
        tables.choose_exemplars(gallery.drawings, artist) for artist in (tables.EXEMPLAR_ARTIST, *tables.MORE_ARTISTS)
    )
    tables.write_exemplars(out / "exemplars.csv", first)
    tables.write_exemplars(out / "more_exemplars.csv", *more)
    given = [row for each in (first, *more) for row in each.values()]
    rows = tables.choose_test_rows(gallery.drawings, given, settings.seed)
    tables.write_test_set(out / "test_set.csv", gallery.drawings, rows)
    write_mark(out, gallery, settings)
    return gallery


def render_to(out: Path, chosen: Sequence[Drawing], settings: Settings) -> Gallery:
    """Render `chosen` in order to `out`/images.tar, with `labels.csv`; what was there before is removed first."""
    out.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "vectors", ignore_errors=True)
    gallery = Gallery()
    write_tar(out / "images.tar", _jpegs(chosen, settings, gallery))
    tables.write_labels(out / "labels.csv", gallery.drawings)
    return gallery


def _jpegs(chosen: Sequence[Drawing], settings: Settings, gallery: Gallery) -> Iterator[bytes]:
    """Yield the JPEGs, noting in `gallery` what became an image; a drawing that fails takes no index."""
    sittings = (Sitting(drawing, settings.seed, i, settings.sides) for i, drawing in enumerate(chosen))
    for drawing, picture in zip(chosen, _with_progress(render_all(sittings), len(chosen)), strict=True):
        if picture.reason:
            gallery.unrendered.append(f"{drawing.artist}:{drawing.name}: {picture.reason}")
        else:
            gallery.drawings.append(drawing)
            yield picture.jpeg


def write_mark(out: Path, gallery: Gallery, settings: Settings) -> None:
    """Say that `out` is finished, and with which settings."""
    mark = {"settings": settings.record(), "images": len(gallery.drawings), "unrendered": gallery.unrendered}
    part = out / f"{MARK}.part"
    part.write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
    part.replace(out / MARK)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.0f}/s")


def _with_progress(pictures: Iterator[Picture], total: int) -> Iterator[Picture]:
    columns = (
        TextColumn("rendering"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(pictures, total=total)
