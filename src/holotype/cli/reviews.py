"""What a person says of the images of a run, and what can be promised by it."""

from pathlib import Path
from typing import Annotated

import typer

from holotype.cli.app import Moved, app, note_place, print_lines
from holotype.cli.arguments import read_who


@app.command()
def review(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free.")] = 0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    who: Annotated[str | None, typer.Option(help="The name that answers are kept under (else the user's).")] = None,
    images: Moved = None,
) -> None:
    """Mark images in the browser; it learns at once.

    The page is served on this machine, and reached from no other.
    """
    from holotype.progress import Terminal
    from holotype.review.review import Review
    from holotype.review.server import serve

    note_place(folder, images)
    with Review.open(folder, progress=Terminal()) as opened:
        serve(opened, port=port, open_browser=open_browser, who=read_who(who), say=lambda line: print_lines([line]))


@app.command()
def suggest(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many images of each class.")] = 10,
    label: Annotated[str | None, typer.Option("--class", help="Only this class.")] = None,
    images: Moved = None,
) -> None:
    """Print which images to ask about next, as CSV.

    Fill in yes, no or unsure, and give the file to `holotype answer`.
    """
    from holotype.progress import Terminal
    from holotype.review.queries import better_rounds
    from holotype.review.review import Review

    note_place(folder, images)
    progress = Terminal()
    with Review.open(folder, progress=progress) as opened:
        lines = list(opened.form(n, [label] if label else opened.classes))
        print_lines(lines)
    if better := better_rounds(lines):
        progress.say(better)


@app.command()
def answer(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    answers: Annotated[
        Path | None,
        typer.Argument(help="CSV: id,class,answer and, if known, when,who,audit; or an export of Label Studio."),
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Write all answers there: .csv, or .json as tasks.")] = None,
    apply: Annotated[bool, typer.Option(help="Do the run again with the answers.")] = False,
    salvage: Annotated[bool, typer.Option(help="Keep the answers that are whole in a damaged file.")] = False,
    who: Annotated[str | None, typer.Option(help="Whose answers those without a name are (else the user's).")] = None,
    images: Moved = None,
) -> None:
    """Take answers into a run; apply or export them.

    It tells where each class stands.
    """
    from holotype.answers.salvage import salvage as salvaged
    from holotype.progress import Terminal
    from holotype.review.review import Review
    from holotype.runs.folder import RunFolder

    note_place(folder, images)
    if salvage:
        print_lines([salvaged(RunFolder(folder).answers)])
    with Review.open(folder, progress=Terminal()) as opened:
        if answers is not None:
            print_lines(opened.load(answers, read_who(who)).lines())
        if apply:
            print_lines(opened.apply(Terminal()).summary())
        print_lines(opened.summary())
        if export is not None:
            opened.export(export)
            print_lines([f"answers  {export}: {opened.matched}"])


@app.command()
def certify(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    label: Annotated[str | None, typer.Option("--class", help="Only this class (else all of them together).")] = None,
    precision: Annotated[float, typer.Option(help="What is to be promised.")] = 0.95,
    confidence: Annotated[float, typer.Option(help="With which it is to hold.")] = 0.95,
    answers: Annotated[
        int | None,
        typer.Option(help="About a class, that it may rest on (else 60, or what the first threshold takes)."),
    ] = None,
    recall: Annotated[int, typer.Option(help="Estimate the recall as well, by so many answers about others.")] = 0,
    form: Annotated[Path | None, typer.Option(help="Write what is to be answered there, as a CSV.")] = None,
    images: Moved = None,
) -> None:
    """Promise a precision, by a random sample.

    Answer it, and know from which probability on that precision holds in this pool.

    Answer on the page (`holotype review`, key C), or in a form for `holotype answer`, and give the same command again.
    """
    from holotype.progress import Terminal
    from holotype.runs.certify import certify_run

    note_place(folder, images)
    lines, _ = certify_run(folder, label, precision, confidence, answers, recall, Terminal(), form)
    print_lines(lines)
