"""What is done with a run whose pool, or whose classes, are not what they were."""

from pathlib import Path
from typing import Annotated

import typer

from holotype.cli.app import TEST_SET, app, print_lines
from holotype.cli.arguments import read_described, read_exemplars, read_renamed


@app.command()
def update(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    images: Annotated[list[str] | None, typer.Option(help="More images: tar, folder or shards; repeatable.")] = None,
    embeddings: Annotated[
        list[str] | None, typer.Option(help="Their vectors, where those of the run were given: one for each --images.")
    ] = None,
    exemplar: Annotated[
        list[str] | None, typer.Option(help="NAME=ID or NAME=path/to.jpg, of a class or of a new one; repeatable.")
    ] = None,
    exemplars: Annotated[Path | None, typer.Option(help="Folder with <class>/<image>.")] = None,
    describe: Annotated[list[str] | None, typer.Option(help="NAME=TEXT; repeatable.")] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="OLD=NEW; repeatable. Two with the same new name become one class.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A class that is taken away; repeatable.")] = None,
    test_set: Annotated[Path | None, typer.Option(help=TEST_SET)] = None,
) -> None:
    """Go on with a run: new images, and other classes.

    Only new images are encoded. Answers stay, and what is promised of images that are as they were.
    """
    from holotype.progress import Terminal
    from holotype.runs.changes import RunChanges
    from holotype.runs.folder import RunFolder
    from holotype.runs.update import update_run
    from holotype.settings import Addition

    terminal, more, vectors = Terminal(), images or [], list[str | None](embeddings or [])
    if vectors and len(vectors) != len(more):
        raise typer.BadParameter(f"expected one --embeddings for each --images, got {len(vectors)} and {len(more)}")
    changes = RunChanges(
        [Addition(images=one, embeddings=of) for one, of in zip(more, vectors or [None] * len(more), strict=True)],
        read_exemplars(exemplar or [], exemplars, terminal.say),
        read_described(describe or [], None),
        read_renamed(rename or []),
        remove or [],
        None if test_set is None else str(test_set),
    )
    updated = update_run(folder, changes, terminal)
    print_lines(updated.changed)
    if updated.result is not None:
        print_lines([f"report       {RunFolder(folder).report}"])
