"""The whole job."""

from pathlib import Path
from typing import Annotated, Any

import typer

from holotype.cli.app import TEST_SET, AllowTruncated, Moved, Views, app, note_place, print_lines
from holotype.cli.arguments import (
    read_described,
    read_exemplars,
    read_options,
    read_thresholds,
    refuse_expanded,
    refuse_settings,
)


@app.command()
def run(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="Repeat the run in this folder.")] = None,
    images: Annotated[str | None, typer.Option(help="Tar, folder, or shards such as pool-{000..150}.tar.")] = None,
    exemplar: Annotated[
        list[str] | None, typer.Option(help="NAME=ID or NAME=path/to.jpg; repeatable, also for one class.")
    ] = None,
    exemplars: Annotated[Path | None, typer.Option(help="Folder with <class>/<image>.")] = None,
    describe: Annotated[
        list[str] | None, typer.Option(help="NAME=TEXT, in place of an exemplar or beside it; repeatable.")
    ] = None,
    describe_file: Annotated[Path | None, typer.Option(help="CSV of such: class,text.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help=".npy, or a folder in clip-retrieval's layout.")] = None,
    embeddings_encoder: Annotated[str | None, typer.Option(help="What made the embeddings; it is checked.")] = None,
    search: Annotated[
        str | None, typer.Option(help="auto (the embeddings, if given), embeddings, encoder, or both (compared).")
    ] = None,
    test_set: Annotated[
        Path | None,
        typer.Option(help=TEST_SET),
    ] = None,
    threshold: Annotated[str | None, typer.Option(help="auto, a cosine, or several: 0.7,0.75,0.8.")] = None,
    head: Annotated[str | None, typer.Option(help="linear, mlp, or both: linear,mlp.")] = None,
    encoder: Annotated[str | None, typer.Option(help="One or several of `holotype encoders`.")] = None,
    views: Views = None,
    balance: Annotated[str | None, typer.Option(help="weights, effective, augment or none.")] = None,
    tune: Annotated[int | None, typer.Option(help="Tune the chosen head with this many trials.")] = None,
    tune_threshold: Annotated[bool, typer.Option(help="Search over the thresholds given as well.")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting: negatives=5000, head_settings.units=128; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the results go.")] = None,
    allow_truncated: AllowTruncated = False,
    all_rows: Annotated[bool, typer.Option(help="Of a very large pool write a row for each image.")] = False,
    force: Annotated[bool, typer.Option(help="Write over a run.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
) -> None:
    """Find classes and train a model.

    From a pool and one exemplar per class to a model, predictions and a report.
    """
    from holotype.encoders.views import join_views
    from holotype.progress import Terminal
    from holotype.runs.folder import RunFolder
    from holotype.runs.places import find_inputs, repoint
    from holotype.runs.steps import next_steps
    from holotype.runs.sweep import repeat
    from holotype.runs.sweep import run as run_settings
    from holotype.settings import ENCODER, Settings, as_option

    terminal = Terminal()
    given = {
        "images": images,
        "exemplars": read_exemplars(exemplar or [], exemplars, terminal.say),
        "descriptions": read_described(describe or [], describe_file),
        "embeddings": None if embeddings is None else str(embeddings),
        "embeddings_encoder": embeddings_encoder,
        "search": search,
        "test_set": None if test_set is None else str(test_set),
        "thresholds": None if threshold is None else read_thresholds(threshold),
        "heads": head and head.split(","),
        "encoders": (encoder or views) and [join_views(views, one) for one in (encoder or ENCODER).split(",")],
        "trials": tune,
        "tune_threshold": tune_threshold,
        "allow_truncated": allow_truncated,
        "all_rows": all_rows,
        "fit": read_options(option or []) | ({} if balance is None else {"balance": balance}),
    }
    given = {key: value for key, value in given.items() if value}
    if folder is not None:
        refuse_expanded(folder, images)
        refuse_settings(context, RunFolder(folder).settings)
        repoint(folder, given, terminal)
    elif images is None or out is None:
        raise typer.BadParameter("give --images and --out, or the folder of a run to repeat it")
    elif not given.keys() & {"exemplars", "descriptions"}:
        raise typer.BadParameter("give at least one --exemplar NAME=ID, a folder with --exemplars, or --describe")
    target = out or folder
    assert target is not None  # noqa: S101 - one of them was given
    if out is None:
        result = repeat(target, stopped=resume, progress=terminal)
    else:
        called = str if folder else as_option
        settings = find_inputs(RunFolder(folder), stopped=resume) if folder else Settings.parse(given, called)
        how: dict[str, Any] = {"force": force, "resume": resume, "called": called}
        result = run_settings(settings, target, answers_of=folder, progress=terminal, **how)
    left = RunFolder(target)
    print_lines(result.summary())
    print_lines([f"report       {left.report}", f"model        {left.model}"])
    if result.predictions is not None:
        print_lines([f"predictions  {left.predictions}"])
    print_lines(f"{step.name:<12} {step.command}" for step in next_steps(target, tested=result.evaluation is not None))


@app.command()
def discover(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many communities are listed, each with a sheet.")] = 20,
    images: Moved = None,
) -> None:
    """Look at what else is among none.

    Communities of images that belong to no class, and the command that makes a class of each.
    """
    from holotype.progress import Terminal
    from holotype.runs.discover import discover_run

    note_place(folder, images)
    found = discover_run(folder, k, Terminal())
    print_lines(found.lines(k))
    if found.communities:
        print_lines([f"sheets  {found.folder.discovered}", f"report  {found.folder.report}"])
