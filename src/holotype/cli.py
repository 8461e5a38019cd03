"""The command line: parse, call, print."""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from holotype.arguments import (
    ArithmeticName,
    Commands,
    OutputFormat,
    read_exemplars,
    read_options,
    read_thresholds,
    read_who,
    refuse_expanded,
    refuse_settings,
)
from holotype.errors import HolotypeError
from holotype.exits import one_line, standard_output
from holotype.names import counted, shown

app = Commands(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        _print_lines([f"holotype {version('holotype')}"])
        raise typer.Exit


@app.callback()
def holotype(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One picture of each class and a pile of unlabelled pictures become a classifier: which of these, or none."""


Views = Annotated[int | None, typer.Option(help="Views of each image: 2 find more, and take twice as long; or 3.")]
EncoderName = Annotated[str | None, typer.Option(help="One of `holotype encoders`.")]
Moved = Annotated[str | None, typer.Option("--images", help="Where the images of the run are now.")]
AllowTruncated = Annotated[bool, typer.Option(help="Take the whole images of a tar that is cut off.")]


@app.command()
def run(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="Repeat the run in this folder.")] = None,
    images: Annotated[str | None, typer.Option(help="Tar, folder, or shards such as pool-{000..150}.tar.")] = None,
    exemplar: Annotated[
        list[str] | None, typer.Option(help="NAME=ID or NAME=path/to.jpg; repeatable, also for one class.")
    ] = None,
    exemplars: Annotated[Path | None, typer.Option(help="Folder with <class>/<image>.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help=".npy, or a folder in clip-retrieval's layout.")] = None,
    embeddings_encoder: Annotated[str | None, typer.Option(help="What made the embeddings; it is checked.")] = None,
    search: Annotated[
        str | None, typer.Option(help="auto (the embeddings, if given), embeddings, encoder, or both (compared).")
    ] = None,
    test_set: Annotated[Path | None, typer.Option(help="CSV: index and one 0/1 column per class.")] = None,
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
    force: Annotated[bool, typer.Option(help="Write over a run.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
) -> None:
    """The whole job: from a pool and one exemplar per class to a model, predictions and a report."""
    from holotype.encoders.views import join_views
    from holotype.progress import Terminal
    from holotype.runs.folder import RunFolder
    from holotype.runs.places import find_inputs, repoint
    from holotype.runs.sweep import repeat
    from holotype.runs.sweep import run as run_settings
    from holotype.settings import ENCODER, Settings, as_option

    terminal = Terminal()
    given = {
        "images": images,
        "exemplars": read_exemplars(exemplar or [], exemplars, terminal.say),
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
        "fit": read_options(option or []) | ({} if balance is None else {"balance": balance}),
    }
    given = {key: value for key, value in given.items() if value}
    if folder is not None:
        refuse_expanded(folder, images)
        refuse_settings(context, RunFolder(folder).settings)
        repoint(folder, given, terminal)
    elif images is None or out is None:
        raise typer.BadParameter("give --images and --out, or the folder of a run to repeat it")
    elif "exemplars" not in given:
        raise typer.BadParameter("give at least one --exemplar NAME=ID, or a folder with --exemplars")
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
    _print_lines(result.summary())
    _print_lines([f"report       {left.report}", f"model        {left.model}"])
    if result.predictions is not None:
        _print_lines([f"predictions  {left.predictions}"])


@app.command()
def embed(
    images: str,
    out: Annotated[Path, typer.Option(help="Folder for the vectors; give it again to go on after a stop.")],
    encoder: EncoderName = None,
    views: Views = None,
    precision: Annotated[
        ArithmeticName | None, typer.Option(help="auto (default): the fastest that gives nearly the same.")
    ] = None,
    allow_truncated: AllowTruncated = False,
) -> None:
    """Compute the vectors of a pool; a run takes them back with --embeddings."""
    from holotype.encoders.views import join_views
    from holotype.progress import Terminal
    from holotype.runs.commands import embed_pool
    from holotype.settings import ARITHMETIC, ENCODER

    arithmetic = precision.value if precision else ARITHMETIC
    network = join_views(views, encoder or ENCODER)
    embeddings = embed_pool(images, network, out, arithmetic, allow_truncated=allow_truncated, progress=Terminal())
    found, lost = counted(len(embeddings.rows), "vector"), counted(len(embeddings.unreadable), "image")
    _print_lines([f"{found} in {out}, {lost} unreadable"])
    _print_lines(f"unreadable  {name}  {reason}" for name, reason in embeddings.unreadable.items())


@app.command()
def search(
    images: str,
    exemplar: Annotated[list[str], typer.Option(help="ID or path/to.jpg; repeatable.")],
    embeddings: Annotated[Path | None, typer.Option(help="Search in these vectors: .npy, or a folder.")] = None,
    vectors: Annotated[Path | None, typer.Option(help="Folder for the encoder's vectors (else the cache).")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many images.")] = 50,
    encoder: EncoderName = None,
    sheet: Annotated[Path | None, typer.Option(help="A PNG of the images found.")] = None,
    allow_truncated: AllowTruncated = False,
) -> None:
    """List the images of a pool that are most similar to the exemplars."""
    from holotype.progress import Terminal
    from holotype.runs.commands import search_pool
    from holotype.settings import ENCODER

    found = search_pool(
        images,
        exemplar,
        encoder or ENCODER,
        vectors=vectors,
        embeddings=embeddings,
        sheet=sheet,
        allow_truncated=allow_truncated,
        progress=Terminal(),
    )
    _print_lines(f"{rank:4}  {score:.4f}  {name}" for rank, (name, score) in enumerate(found.best(k), start=1))
    if sheet is not None:
        found.sheet(k, sheet)


@app.command()
def tune(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    trials: Annotated[int, typer.Option(min=1, help="Settings to try, those of earlier calls included.")],
    threshold: Annotated[str | None, typer.Option(help="Search over these as well: 0.7,0.75,0.8.")] = None,
    images: Moved = None,
) -> None:
    """Search for better settings of a run's head, and do the run again with the best."""
    from holotype.progress import Terminal
    from holotype.runs.commands import tune_run

    _note_place(folder, images)
    tuned = tune_run(folder, trials, read_thresholds(threshold) if threshold else (), Terminal()).tuned
    assert tuned is not None  # noqa: S101 - trials is at least 1
    _print_lines([f"validation loss {tuned.loss_before:.4f} -> {tuned.loss:.4f} after {tuned.trials} trials"])
    _print_lines([json.dumps(tuned.to_json(), indent=1)])


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    test_set: Annotated[Path, typer.Option(help="CSV: index and a 0/1 column per class.")],
    images: Moved = None,
) -> None:
    """Evaluate the model of a run on labelled rows; those that it learnt from do not count (run OUT --test-set CSV)."""
    from holotype.progress import Terminal
    from holotype.runs.commands import evaluate_run

    _note_place(folder, images)
    _print_lines([json.dumps(evaluate_run(folder, test_set, Terminal()).to_json(), indent=1)])


@app.command()
def review(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free.")] = 0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    who: Annotated[str | None, typer.Option(help="The name that answers are kept under (else the user's).")] = None,
    images: Moved = None,
) -> None:
    """Answer questions about the images of a run on a page of this machine: it learns at once."""
    from holotype.progress import Terminal
    from holotype.review.review import Review
    from holotype.review.server import serve

    _note_place(folder, images)
    with Review.open(folder, progress=Terminal()) as opened:
        serve(opened, port=port, open_browser=open_browser, who=read_who(who), say=lambda line: _print_lines([line]))


@app.command()
def suggest(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many images of each class.")] = 10,
    label: Annotated[str | None, typer.Option("--class", help="Only this class.")] = None,
    images: Moved = None,
) -> None:
    """Print the images to ask about next, as a CSV for `holotype answer` in which the answers are to be filled in."""
    from holotype.progress import Terminal
    from holotype.review.queries import better_rounds
    from holotype.review.review import Review

    _note_place(folder, images)
    progress = Terminal()
    with Review.open(folder, progress=progress) as opened:
        lines = list(opened.form(n, [label] if label else opened.classes))
        _print_lines(lines)
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
    """Take answers into a run, tell where each class stands; write them out, or do the run again with them."""
    from holotype.answers.salvage import salvage as salvaged
    from holotype.progress import Terminal
    from holotype.review.review import Review
    from holotype.runs.folder import RunFolder

    _note_place(folder, images)
    if salvage:
        _print_lines([salvaged(RunFolder(folder).answers)])
    with Review.open(folder, progress=Terminal()) as opened:
        if answers is not None:
            _print_lines(opened.load(answers, read_who(who)).lines())
        if apply:
            _print_lines(opened.apply(Terminal()).summary())
        _print_lines(opened.summary())
        if export is not None:
            opened.export(export)
            _print_lines([f"answers  {export}: {opened.matched}"])


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
    """Promise a precision: answer a random sample, and know from which probability on it holds in this pool.

    Answer on the page (`holotype review`, key C), or in a form for `holotype answer`, and give the same command again.
    """
    from holotype.progress import Terminal
    from holotype.runs.certify import certify_run

    _note_place(folder, images)
    lines, _ = certify_run(folder, label, precision, confidence, answers, recall, Terminal(), form)
    _print_lines(lines)


def _note_place(folder: Path, images: str | None) -> None:
    """Note in the run in `folder` where its images are now, if somebody says so."""
    from holotype.progress import Terminal
    from holotype.runs.places import repoint

    repoint(folder, {"images": images}, Terminal())


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A saved model, or the folder of a run.")],
    images: list[str],
    format: Annotated[OutputFormat, typer.Option(help="jsonl, csv or table.")] = OutputFormat.JSONL,  # noqa: A002
    out: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
    allow_truncated: AllowTruncated = False,
) -> None:
    """Classify images, tars or folders: id, label, vector, probabilities and the reason, one line per image."""
    from holotype.files import atomic, text_file
    from holotype.model.predictions import lines
    from holotype.progress import Terminal
    from holotype.runs.commands import load_classifier, predict_sources

    classifier = load_classifier(model)
    count, unreadable = 0, 0

    def counted() -> Iterable[dict[str, Any]]:
        nonlocal count, unreadable
        for record in predict_sources(classifier, images, Terminal(), allow_truncated=allow_truncated):
            count += 1
            unreadable += "error" in record
            yield record

    with atomic(out) if out else nullcontext() as part, text_file(part) if part else standard_output() as file:
        promised = bool(classifier.promises_)
        file.writelines(lines(counted(), classifier.classes_[:-1], format.value, file.encoding, promised=promised))
    if count == unreadable:
        raise HolotypeError(f"none of the {count} images could be read; each line says why")


@app.command()
def encoders() -> None:
    """List the encoders: where each comes from, and whether it works offline."""
    from holotype.encoders.registry import REGISTRY

    _print_lines(
        f"{name:20} {'offline' if origin.offline else 'needs the hub':14} {origin.about:38} {origin.where}"
        for name, origin in REGISTRY.items()
    )
    _print_lines(
        [
            "path/to/model.onnx   offline        with its preprocessor_config.json beside it",
            "path/to/model/       offline        a folder with a transformers vision model",
            "hf:owner/model       needs the hub  any transformers vision model; with @commit always the same",
        ]
    )


def main() -> None:
    """Run the command line; an error is one line and exit code 1, Ctrl-C one line and 130."""
    with one_line():
        app()


def _print_lines(text: Iterable[str]) -> None:
    with standard_output():
        for line in text:
            print(shown(line), flush=True)  # noqa: T201
