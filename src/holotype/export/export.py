"""`export_run`: what a run found, or its model, in the form that another program reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from holotype import files
from holotype.errors import OutputError
from holotype.export.fiftyone import MANIFEST_OF_FIFTYONE, write_fiftyone
from holotype.export.folders import Metadata, write_folder, write_image_folder
from holotype.export.hub import check_licence, write_hub
from holotype.export.images import ExportedImages, FilesAs, check_files
from holotype.export.label_studio import write_label_studio
from holotype.export.network import to_onnx
from holotype.export.selection import Selection, select
from holotype.export.tables import TABLE_FORMATS, TableFormat, of_columns, write_table
from holotype.export.target import check_target, new_folder, today
from holotype.export.webdataset import write_webdataset
from holotype.model.saved import DESCRIPTION_FILE, digest_of_model, versions
from holotype.names import counted
from holotype.pool.exemplars import Exemplar
from holotype.pool.pool import Pool
from holotype.progress import Progress, Silent
from holotype.runs.certify import keep_holding
from holotype.runs.commands import load_classifier
from holotype.runs.folder import RunFolder
from holotype.runs.images import exemplars_of_run, open_images
from holotype.runs.places import find_inputs

WithImages = Literal["folder", "image-folder", "webdataset", "fiftyone", "label-studio"]
ExportFormat = Literal["onnx", "hub", WithImages, TableFormat]
FORMATS: tuple[ExportFormat, ...] = ("onnx", "hub", *get_args(WithImages), *TABLE_FORMATS)
_MODELS = ("onnx", "hub")
_HELD = {"folder": get_args(FilesAs), "image-folder": ("copy", "link"), "webdataset": ("copy",)}
_HELD |= dict.fromkeys(("fiftyone", "label-studio"), get_args(FilesAs))
# what only some formats have, and how it is given
_ONLY: dict[str, tuple[str, Sequence[ExportFormat]]] = {
    "files": ("--files", get_args(WithImages)),
    "metadata": ("--metadata", ["image-folder"]),
    "most_images": ("--shard-images", ["webdataset"]),
    "most_bytes": ("--shard-megabytes", ["webdataset"]),
    "url": ("--url", ["label-studio"]),
    "licence": ("--license", ["hub"]),
    "pictures": ("--pictures", ["hub"]),
}
_BY_PATH = ("fiftyone", "label-studio")  # which read an image where it is, unless it lies in a tar


@dataclass(frozen=True)
class ExportOptions:
    """What the formats leave to choose.

    files         of images: "copy", "link" or "list" (where they are); None: as is usual for the format
    metadata      of image-folder: "csv" or "parquet"
    most_images   of a shard of webdataset, and most_bytes
    url           of label-studio: what the address of an image begins with, in place of its own for local files
    licence       of hub: of the model, by its name in the hub's list
    pictures      of hub: show the exemplars
    """

    files: FilesAs | None = None
    metadata: Metadata = "csv"
    most_images: int = 10_000
    most_bytes: int = 10**9
    url: str = ""
    licence: str = ""
    pictures: bool = False

    def check(self, to: ExportFormat, selection: Selection) -> None:
        """Raise `OutputError` for what cannot be, and for what is asked of another format."""
        if to not in FORMATS:
            raise OutputError(f"expected a format of {', '.join(FORMATS)}, got {to!r}")
        for name, (option, known) in _ONLY.items():
            if getattr(self, name) != getattr(ExportOptions, name) and to not in known:
                raise OutputError(f"{option} is of {' and '.join(known)}: leave it out with --to {to}")
        if to in _MODELS and selection.chosen:
            raise OutputError(f"{to} is a model, and holds no images to choose from: leave out what chooses images")
        if self.files is not None:
            check_files(self.files)
            if self.files not in _HELD[to]:
                raise OutputError(f"{to} holds images as {' or '.join(_HELD[to])}, got --files {self.files}")
        if self.metadata not in get_args(Metadata):
            raise OutputError(f"expected the metadata as {', '.join(get_args(Metadata))}, got {self.metadata!r}")
        if self.most_images < 1 or self.most_bytes < 1:
            raise OutputError("expected at least one image in a shard, and one byte")
        check_licence(self.licence)


def export_run(
    out: str | Path,
    to: ExportFormat,
    target: str | Path,
    selection: Selection | None = None,
    options: ExportOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> str:
    """Hand on what the run in `out` found, or its model; return what was written, in words.

    to          "onnx": the model in one file. "hub": the model as a repository of the hub. "folder", "image-folder",
                "webdataset", "fiftyone", "label-studio": images with their labels. "csv", "parquet", "jsonl": labels
    target      the file, or the folder, which is whole or not there
    selection   which images: of the last seven
    force       write over a file, or over what an earlier export left

    Labels are those of the run, after the answers that it followed. An image that cannot be read is left out, counted
    and listed. Raises `HolotypeError`.
    """
    out, target, progress = Path(out), Path(target), progress or Silent()
    selection, options = selection or Selection(), options or ExportOptions()
    options.check(to, selection)
    check_target(target, force=force, run=out)
    if to == "onnx":
        classifier = load_classifier(out)
        if classifier.encoder_.precision == "bf16":
            progress.say("its encoder computes in bf16 here, in f32 elsewhere: answers differ by what bf16 leaves out")
        files.write(target, to_onnx(classifier))
        return f"the model ({', '.join(classifier.classes_)}) in {target}"
    folder = RunFolder(out)
    folder.read_settings()
    if to == "hub":
        return _write_hub(folder, target, options, progress, force=force)
    with folder.reading():
        selected = select(folder, selection, progress)
        if to in TABLE_FORMATS:
            table = of_columns(selected.table)
            write_table(target, to, table)
            return f"{counted(len(table), 'image')} in {target}"
        settings = find_inputs(folder, needed=["images"])
        model = digest_of_model((folder.model / DESCRIPTION_FILE).read_bytes())
    pool = open_images(folder, settings, progress)
    images = ExportedImages(pool, selected, progress)
    about = _about(folder, to) | {"images": len(selected.table), "selection": _plain(selection)}
    with new_folder(target, about, force=force) as place:
        _write_images(place, to, images, options, target.absolute().name, f"holotype {model[:8]}")
    left = f", {len(images.left_out):,} left out" if images.left_out else ""
    listed = to == "fiftyone" and (target / MANIFEST_OF_FIFTYONE).exists()
    how = f'; FiftyOne reads it with data_path="{MANIFEST_OF_FIFTYONE}"' if listed else ""
    return f"{counted(images.taken, 'image')} in {target}{left}{how}"


def _write_images(
    place: Path, to: ExportFormat, images: ExportedImages, options: ExportOptions, name: str, version: str
) -> None:
    handed: FilesAs = options.files or ("list" if to in _BY_PATH and _has_files(images.pool) else "copy")
    if to == "folder":
        write_folder(place, images, handed)
    elif to == "image-folder":
        write_image_folder(place, images, handed, options.metadata)
    elif to == "webdataset":
        write_webdataset(place, images, options.most_images, options.most_bytes)
    elif to == "fiftyone":
        write_fiftyone(place, images, handed)
    else:
        write_label_studio(place, images, handed, options.url, name, version)


def _has_files(pool: Pool) -> bool:
    return all(part.file(0) is not None for part in pool.parts or [pool])


def _write_hub(folder: RunFolder, target: Path, options: ExportOptions, progress: Progress, *, force: bool) -> str:
    exemplars = list[Exemplar]()
    if options.pictures:
        settings = find_inputs(folder, needed=["images"])
        pool = open_images(folder, settings, progress)
        exemplars = exemplars_of_run(folder, settings, pool)
    with folder.reading(), new_folder(target, _about(folder, "hub"), force=force) as place:
        folder.check_whole(OutputError, folder.groups)
        classifier = folder.load_model()
        keep_holding(folder, classifier)
        write_hub(place, folder, classifier, options.licence, exemplars)
    return (
        f"the model ({', '.join(classifier.classes_)}) in {target}; read its README.md first: it names the exemplars "
        f"and, with a promise, who answered; then: hf upload OWNER/NAME {target}"
    )


def _about(folder: RunFolder, to: ExportFormat) -> dict[str, Any]:
    return {"format": to, "run": folder.path.absolute().name, "date": today(), "holotype": versions()["holotype"]}


def _plain(selection: Selection) -> Mapping[str, Any]:
    return {
        "classes": list(selection.classes),
        "decisions": list(selection.taken),
        "probability": selection.probability,
        "certified": selection.certified,
        "unanswered": selection.unanswered,
    }
