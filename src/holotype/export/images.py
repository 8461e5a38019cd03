"""The images of an export: their bytes as they are in the pool, and which of them cannot be had."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from holotype import files
from holotype.encoders.encode import most_away
from holotype.errors import OutputError, PoolError, UnreadableImage, UnreadableNow
from holotype.export.selection import EXPORT_COLUMNS, Selected
from holotype.export.tables import records
from holotype.names import counted, printable
from holotype.pool.members import split_suffix
from holotype.pool.pool import Pool
from holotype.progress import Progress
from holotype.runs.results import csv_table

FilesAs = Literal["copy", "link", "list"]
LEFT_OUT = "left_out.csv"  # in the folder of an export, where an image could not be had
_GONE = "it is not in the pool any more"
_OTHER = "another picture is there than the run was done with"
_NONE = "it was unreadable in the run, and is of no class"


@dataclass(frozen=True)
class ExportedImage:
    """One image that is handed on.

    about    what is known of it, by `EXPORT_COLUMNS`
    row      in the pool as it is now, `before`: in that of the run
    suffix   of its file, in small letters: ".jpg"
    path     of its file; None where it lies in a tar
    """

    about: Mapping[str, Any]
    row: int
    before: int
    suffix: str
    path: Path | None

    @property
    def label(self) -> str:
        """Its class, or "none"."""
        return str(self.about["class"])

    @property
    def stem(self) -> str:
        """Its id, which may have kept the suffix of its file, without that."""
        name = str(self.about["id"])
        return name[: len(name) - len(self.suffix)] if name.lower().endswith(self.suffix) else name


@dataclass
class ExportedImages:
    """The images of an export, in the order of the pool, which is that of its files.

    left_out   (id, reason, path) of those that could not be had
    taken      how many could
    """

    pool: Pool
    selected: Selected
    progress: Progress
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    taken: int = 0

    def __post_init__(self) -> None:
        self._now, self._away = _rows_now(self.pool, self.selected), 0

    def each(self) -> Iterator[ExportedImage]:
        """Yield those that are in the pool, and have a class."""
        for about in records(self.selected.table.sort_by("row")):
            row = self._now.get(about["row"])
            if about["class"] is None:
                self._leave_out(about, f"{_NONE}: {about['reason']}")
            elif row is None:
                self._leave_out(about, _GONE)
            else:
                here = {name: about[name] for name in EXPORT_COLUMNS} | {"path": self.pool.path(row)}
                yield ExportedImage(here, row, about["row"], _suffix(self.pool, row), self.pool.file(row))

    def contents(self) -> Iterator[tuple[ExportedImage, bytes]]:
        """Yield each image with its encoded bytes; one that cannot be read, or is another one now, is left out."""
        with self.progress.track("copy images", len(self.selected.table)) as advance:
            for image in self.each():
                content = self._read(image)
                if content is not None:
                    self.taken += 1
                    yield image, content
                advance(1)

    def files(self) -> Iterator[tuple[ExportedImage, Path]]:
        """Yield each image with its file. Raises `OutputError` where they lie in tars."""
        for image in self.each():
            if image.path is None:
                raise OutputError(
                    f"{self.pool.source} is no folder of images, so they can only be copied (--files copy)"
                )
            if not image.path.is_file():
                self._leave_out(image.about, _GONE)
            elif printable(str(image.path)) != str(image.path):
                self._leave_out(image.about, "the name of its file cannot be written as text")
            else:
                self.taken += 1
                yield image, image.path

    def write_left_out(self, folder: Path) -> None:
        """List what was left out in `folder`, if anything was. Raises `OutputError` where nothing else is left."""
        if not self.taken:
            name, why, _ = self.left_out[0]
            raise OutputError(f"none of {counted(len(self.left_out), 'image')} could be had: {name}: {why}")
        if self.left_out:
            files.write(folder / LEFT_OUT, csv_table(["id", "reason", "path"], self.left_out))
            name, why, _ = self.left_out[0]
            self.progress.say(f"left out: {counted(len(self.left_out), 'image')}, listed in {LEFT_OUT} ({name}: {why})")

    def _read(self, image: ExportedImage) -> bytes | None:
        try:
            content = self.pool.read(image.row)
        except UnreadableImage as error:
            self._leave_out(image.about, str(error))
            self._away += isinstance(error, UnreadableNow)
            if self._away > most_away(len(self.selected.table)):
                raise PoolError(
                    f"{self._away:,} images, {image.about['id']} among them, cannot be read now ({error}): give "
                    "the same command again when that has passed"
                ) from None
            return None
        images = self.selected.images
        known = "" if images is None else images.digests[image.before]
        if known and hashlib.sha256(content).hexdigest() != known:
            self._leave_out(image.about, _OTHER)
            return None
        return content

    def _leave_out(self, about: Mapping[str, Any], why: str) -> None:
        self.left_out.append((about["id"], why, about["path"]))


def check_files(given: str) -> None:
    """Raise `OutputError` for another way to hand images on than there is."""
    if given not in get_args(FilesAs):
        raise OutputError(f"expected the images as {', '.join(get_args(FilesAs))}, got {given!r}")


def place(image: Path | bytes, target: Path) -> None:
    """Let the image be at `target`: its bytes, or a link to its file."""
    if isinstance(image, bytes):
        target.write_bytes(image)
    else:
        target.symlink_to(image.absolute())


def _rows_now(pool: Pool, selected: Selected) -> dict[int, int]:
    """Return row of the run -> row of `pool`."""
    images = selected.images
    if images is None:
        known = zip(selected.table["row"].to_pylist(), selected.table["id"].to_pylist(), strict=True)
        return {row: pool.rows[name] for row, name in known if name in pool.rows}
    if images.are_of(pool):
        return {row: row for row in range(len(pool))}
    now: dict[int, int] = {}
    for row, before in enumerate(images.places_in(pool).tolist()):
        now.setdefault(before, row)
    return now


def _suffix(pool: Pool, row: int) -> str:
    suffix = pool.suffixes[row] if pool.suffixes else ""
    return (suffix or split_suffix(pool.ids[row])[1]).lower()
