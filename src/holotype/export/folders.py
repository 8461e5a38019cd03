"""Images in a folder for each class: copies, links or lists; or as the `imagefolder` of datasets reads them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from holotype import files
from holotype.export.filenames import FileNames
from holotype.export.images import LEFT_OUT, ExportedImage, ExportedImages, FilesAs, place
from holotype.export.selection import ANSWERED, EXPORT_COLUMNS
from holotype.export.tables import write_table
from holotype.export.target import ABOUT

if TYPE_CHECKING:
    import pyarrow as pa

Metadata = Literal["csv", "parquet"]
INDEX = "labels.csv"  # which file is which image, and what is known of it
METADATA = "metadata"  # what `imagefolder` calls that, before the suffix


def write_folder(folder: Path, images: ExportedImages, handed: FilesAs) -> None:
    """Fill `folder` with a folder for each class and `INDEX`, or with a list of paths for each class.

    The file of an image is called as its id is, with "-" for "/". Raises `OutputError`.
    """
    if handed == "list":
        _write_lists(folder, images)
        return
    found = [{"file": name, **about} for name, about in _placed(folder, images, handed)]
    images.write_left_out(folder)
    write_table(folder / INDEX, "csv", _table(["file", *EXPORT_COLUMNS], found))


def write_image_folder(folder: Path, images: ExportedImages, handed: FilesAs, metadata: Metadata) -> None:
    """Fill `folder` as `load_dataset("imagefolder", data_dir=...)` reads it: files, and a table about them.

    The columns are `file_name`, by which it finds the image, `label`, and what else is known. Raises `OutputError`.
    """
    others = [name for name in EXPORT_COLUMNS if name != "class"]
    found = [
        {"file_name": name, "label": about["class"], **{key: about[key] for key in others}}
        for name, about in _placed(folder, images, handed)
    ]
    images.write_left_out(folder)
    write_table(folder / f"{METADATA}.{metadata}", metadata, _table(["file_name", "label", *others], found))


def _placed(folder: Path, images: ExportedImages, handed: FilesAs) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place each image in the folder of its class; yield where, within `folder`, and what is known of it."""
    of_classes, within = FileNames(), dict[str, tuple[str, FileNames]]()
    for ours in (INDEX, LEFT_OUT, ABOUT, f"{METADATA}.csv", f"{METADATA}.parquet"):
        of_classes.give(ours)
    for label in images.selected.classes:
        within[label] = of_classes.give(label), FileNames()
    sources: Iterator[tuple[ExportedImage, bytes | Path]] = images.contents() if handed == "copy" else images.files()
    for image, source in sources:
        of_class, names = within[image.label]
        (folder / of_class).mkdir(exist_ok=True)
        name = f"{of_class}/{names.give(image.stem, image.suffix)}"
        place(source, folder / name)
        yield name, image.about


def _write_lists(folder: Path, images: ExportedImages) -> None:
    """Write a text file for each class, with the path of each of its images on a line of its own, the surest first."""
    names, paths = FileNames(), {image.about["id"]: (image.label, path) for image, path in images.files()}
    order = [paths[one] for one in images.selected.table["id"].to_pylist() if one in paths]
    for label in images.selected.classes:
        if lines := [f"{path}\n" for other, path in order if other == label]:
            files.write(folder / names.give(label, ".txt"), "".join(lines))
    images.write_left_out(folder)


def _table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
    import pyarrow as pa

    kinds = {"probability": pa.float64(), "score": pa.float64(), ANSWERED: pa.bool_()}
    return pa.Table.from_pylist(rows, pa.schema([(name, kinds.get(name, pa.string())) for name in names]))
