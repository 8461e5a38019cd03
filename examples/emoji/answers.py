"""Ten pictures to ask the model about: five of the pool, and five that it has never seen."""

import csv
from pathlib import Path

from holotype import open_pool

from .build import Settings
from .drawings import Drawing, load
from .plan import CLASSES
from .rendering import Sitting, render
from .sources import SOURCES, cache_folder, fetch
from .tables import EXEMPLAR_ARTIST

NEW_SEED = 1_000_003  # no build has it


def write_pictures(data: Path, settings: Settings) -> list[str]:
    """Write `data`/ask/*.jpg and return their paths: of the pool first, then those that are not in it."""
    folder = data / "ask"
    folder.mkdir(exist_ok=True)
    with (data / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = list(csv.DictReader(file))
    pictures = _of_the_pool(data, labels) | _new(labels, settings)
    for name, jpeg in pictures.items():
        (folder / name).write_bytes(jpeg)
    return [str(folder / name) for name in pictures]


def _of_the_pool(data: Path, labels: list[dict[str, str]]) -> dict[str, bytes]:
    """Of each class the first by the exemplar's artist, and the first two of the test rows that are none of them."""
    with (data / "exemplars.csv").open(encoding="utf-8", newline="") as file:
        exemplars = {int(row["index"]) for row in csv.DictReader(file)}
    with (data / "test_set.csv").open(encoding="utf-8", newline="") as file:
        tested = [int(row["index"]) for row in csv.DictReader(file)]
    chosen = [
        next(
            i
            for i, row in enumerate(labels)
            if (row["class"], row["artist"]) == (name, EXEMPLAR_ARTIST) and i not in exemplars
        )
        for name in CLASSES
    ]
    chosen += [row for row in tested if labels[row]["class"] not in CLASSES][:2]
    pool = open_pool(data / "images.tar")
    return {f"pool-{labels[row]['drawing']}.jpg": pool.read(pool.row(str(row))) for row in chosen}


def _new(labels: list[dict[str, str]], settings: Settings) -> dict[str, bytes]:
    """New pictures: another artist's drawing of each class, and two drawings that the pool lacks (or others anew)."""
    inside = {(row["artist"], row["drawing"]) for row in labels}
    drawings = load(fetch(SOURCES, cache_folder()))
    of_class = [next(d for d in drawings if d.class_name == name and d.artist == "twemoji") for name in CLASSES]
    others = [d for d in drawings if d.class_name not in CLASSES]
    others.sort(key=lambda drawing: (drawing.artist, drawing.name) in inside)
    return {f"new-{d.name}.jpg": _picture(d, i, settings) for i, d in enumerate([*of_class, *others[:2]])}


def _picture(drawing: Drawing, number: int, settings: Settings) -> bytes:
    return render(Sitting(drawing, NEW_SEED, number, settings.sides))
