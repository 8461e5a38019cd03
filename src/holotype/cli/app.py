"""The app that commands belong to, and what several of them take."""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from holotype.cli.arguments import Commands
from holotype.exits import standard_output
from holotype.names import shown

app = Commands(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes cut the names of options in a terminal of 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)

Views = Annotated[int | None, typer.Option(help="Views of each image: 2 find more, and take twice as long; or 3.")]
EncoderName = Annotated[str | None, typer.Option(help="One of `holotype encoders`.")]
TEST_SET = "CSV of images of the pool: index and a 0/1 column per class; or filename,label."
Moved = Annotated[str | None, typer.Option("--images", help="Where the images of the run are now.")]
AllowTruncated = Annotated[bool, typer.Option(help="Take the whole images of a tar that is cut off.")]

ShareName = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="I/N", help="Do the I-th of N shares; I from 0, or from 1: $SLURM_ARRAY_TASK_ID/N."
    ),
]
ClusterAddress = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Do it on a Ray cluster: auto, HOST:PORT, or local."),
]
DryRun = Annotated[bool, typer.Option(help="Only say what it will take: images, bytes, time and money.")]
NodeCount = Annotated[int, typer.Option(min=1, help="Machines like this one, for --dry-run.")]
Price = Annotated[float, typer.Option(min=0.0, help="Of a machine for an hour, for --ray and --dry-run.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print_lines([f"holotype {version('holotype')}"])
        raise typer.Exit


@app.callback()
def holotype(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One picture of each class and a pile of unlabelled pictures become a classifier: which of these, or none."""


def print_lines(text: Iterable[str]) -> None:
    """Print lines, whatever is in the names of files."""
    with standard_output():
        for line in text:
            print(shown(line), flush=True)  # noqa: T201


def note_place(folder: Path, images: str | None) -> None:
    """Note in the run in `folder` where its images are now, if somebody says so."""
    from holotype.progress import Terminal
    from holotype.runs.places import repoint

    repoint(folder, {"images": images}, Terminal())
