"""What a run hands on to other programs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from holotype.cli.app import Moved, app, note_place, print_lines


class FormatName(StrEnum):
    """What a run is handed on as."""

    ONNX = "onnx"
    HUB = "hub"
    FOLDER = "folder"
    IMAGE_FOLDER = "image-folder"
    WEBDATASET = "webdataset"
    FIFTYONE = "fiftyone"
    LABEL_STUDIO = "label-studio"
    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


class FilesName(StrEnum):
    """How images are handed on."""

    COPY = "copy"
    LINK = "link"
    LIST = "list"


class MetadataName(StrEnum):
    """What the table of an image-folder is."""

    CSV = "csv"
    PARQUET = "parquet"


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    to: Annotated[FormatName, typer.Option(help="What it is handed on as.")],
    out: Annotated[Path, typer.Option(help="The file, or the folder, to write.")],
    label: Annotated[list[str] | None, typer.Option("--class", help="Only this class, or none; repeatable.")] = None,
    decision: Annotated[
        list[str] | None,
        typer.Option(help="exemplar, member (the default are these two), doubtful or background; repeatable."),
    ] = None,
    probability: Annotated[float, typer.Option(help="The least, of their class.")] = 0.0,
    certified: Annotated[bool, typer.Option(help="Only images that are promised.")] = False,
    unanswered: Annotated[bool, typer.Option(help="Only images that nobody answered about.")] = False,
    handed: Annotated[
        FilesName | None,
        typer.Option(
            "--files",
            help="Images: copy, link or list (else list for fiftyone and label-studio where the pool is a folder, and "
            "copy for the others).",
        ),
    ] = None,
    metadata: Annotated[MetadataName, typer.Option(help="Of an image-folder: csv or parquet.")] = MetadataName.CSV,
    shard_images: Annotated[int, typer.Option(min=1, help="Of a shard of webdataset, at most.")] = 10_000,
    shard_megabytes: Annotated[int, typer.Option(min=1, help="Of a shard of webdataset, at most.")] = 1000,
    url: Annotated[str, typer.Option(help="What addresses begin with in label-studio (else local files).")] = "",
    licence: Annotated[
        str, typer.Option("--license", help="Of the model on the hub, as its list has it: apache-2.0.")
    ] = "",
    pictures: Annotated[bool, typer.Option(help="Show the exemplars on the card for the hub.")] = False,
    force: Annotated[bool, typer.Option(help="Write over an earlier export.")] = False,
    images: Moved = None,
) -> None:
    """Hand on a run: its labels or its model.

    onnx: the model in one file. hub: the model as a repository of the model hub.

    folder, image-folder (datasets), webdataset, fiftyone, label-studio: images with labels.

    csv, parquet, jsonl: labels.
    """
    from typing import cast, get_args

    from holotype.export.export import ExportOptions, export_run
    from holotype.export.selection import Selection
    from holotype.grouping.groups import Decision
    from holotype.progress import Terminal

    known = get_args(Decision)
    if wrong := [one for one in decision or [] if one not in known]:
        raise typer.BadParameter(f"expected --decision of {', '.join(known)}, got {', '.join(wrong)}")
    selection = Selection(label or (), cast(list[Decision], decision or []), probability, certified, unanswered)
    options = ExportOptions(
        files=handed.value if handed else None,
        metadata=metadata.value,
        most_images=shard_images,
        most_bytes=shard_megabytes * 10**6,
        url=url,
        licence=licence,
        pictures=pictures,
    )
    options.check(to.value, selection)
    note_place(folder, images)
    print_lines([export_run(folder, to.value, out, selection, options, force=force, progress=Terminal())])
