"""The three CSV files: the truth about every image, the exemplars, and the labelled test rows."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .drawings import Drawing
from .errors import EmojiError
from .plan import CLASSES

EXEMPLAR_ARTIST = "noto"
MORE_ARTISTS = ("openmoji", "twemoji")  # whose plain drawings are two more exemplars of each class
TEST_ROWS = 200
POSITIVES = {"mage": 30, "vampire": 25, "superhero": 0}  # one class has none, as in the reference job
LOOK_ALIKE_ROWS = 50
LOOK_ALIKES = ("elf", "fairy", "genie", "guard", "merperson", "ninja", "prince", "supervillain", "zombie")


def write_labels(path: Path, drawings: Sequence[Drawing]) -> None:
    """Write `index,class,artist,drawing` for every image; drawing i is image i."""
    rows = [(i, drawing.class_name, drawing.artist, drawing.name) for i, drawing in enumerate(drawings)]
    _write_csv(path, ("index", "class", "artist", "drawing"), rows)


def choose_exemplars(drawings: Sequence[Drawing], artist: str = EXEMPLAR_ARTIST) -> dict[str, int]:
    """Return the first image of each class's plain drawing (the artist's `mage`, `vampire`, `superhero`).

    Raises `EmojiError` when a class has no such drawing.
    """
    first = {(drawing.artist, drawing.name): i for i, drawing in reversed(list(enumerate(drawings)))}
    missing = [name for name in CLASSES if (artist, name) not in first]
    if missing:
        raise EmojiError(
            f"expected {artist}'s drawings of {', '.join(CLASSES)} as exemplars, but there is no "
            f"{', '.join(missing)} among the {len(drawings)} rendered ones"
        )
    return {name: first[artist, name] for name in CLASSES}


def write_exemplars(path: Path, *exemplars: dict[str, int]) -> None:
    """Write `class,index`, a row for each exemplar of each class."""
    _write_csv(path, ("class", "index"), [row for each in exemplars for row in each.items()])


def choose_test_rows(drawings: Sequence[Drawing], exemplars: Iterable[int], seed: int) -> list[int]:
    """Return 200 images: positives of two classes, look-alikes, and any others; the third class is left out.

    No image shows the same drawing as one of the `exemplars`.
    """
    rng = np.random.default_rng([seed, len(drawings)])
    taken = {drawings[i] for i in exemplars}
    classes = {i: drawing.class_name for i, drawing in enumerate(drawings) if drawing not in taken}
    rows: list[int] = []
    for name, count in POSITIVES.items():
        rows += _sample(rng, [i for i, found in classes.items() if found == name], count)
    rows += _sample(rng, [i for i, found in classes.items() if found in LOOK_ALIKES], LOOK_ALIKE_ROWS)
    others = [i for i, found in classes.items() if found not in (*CLASSES, *LOOK_ALIKES)]
    rows += _sample(rng, others, TEST_ROWS - len(rows))
    return [rows[i] for i in rng.permutation(len(rows))]


def write_test_set(path: Path, drawings: Sequence[Drawing], rows: Iterable[int]) -> None:
    """Write `index` and one 0/1 column for each class; a row of zeros shows none of the classes."""
    marked = [(i, *(int(drawings[i].class_name == name) for name in CLASSES)) for i in rows]
    _write_csv(path, ("index", *CLASSES), marked)


def _sample(rng: np.random.Generator, images: Sequence[int], count: int) -> list[int]:
    return [images[i] for i in rng.choice(len(images), count, replace=False)]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
