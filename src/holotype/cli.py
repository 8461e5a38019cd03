"""The command line: parse, call, print; no logic."""

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from holotype.errors import HolotypeError

app = typer.Typer(
    help="One picture of each class and a pile of unlabelled pictures become a classifier: which of these, or none.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """How predictions are printed."""

    JSONL = "jsonl"
    CSV = "csv"
    TABLE = "table"


Debug = Annotated[bool, typer.Option(help="Show the traceback of an error.", hidden=True)]
Exemplar = Annotated[list[str], typer.Option("--exemplar", help="NAME=ID or NAME=path/to.jpg; repeatable.")]


@app.command()
def run(
    folder: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="Repeat the run in this folder.")] = None,
    images: Annotated[str | None, typer.Option(help="Tar, folder, or shards such as pool-{000..150}.tar.")] = None,
    exemplar: Exemplar = [],  # noqa: B006
    exemplars: Annotated[Path | None, typer.Option(help="Folder with <class>/<image>.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help=".npy, or a folder in clip-retrieval's layout.")] = None,
    embeddings_encoder: Annotated[str | None, typer.Option(help="What made the embeddings; it is checked.")] = None,
    search: Annotated[str, typer.Option(help="auto, embeddings, encoder, or both (compared in the report).")] = "auto",
    test_set: Annotated[Path | None, typer.Option(help="CSV: index and one 0/1 column per class.")] = None,
    threshold: Annotated[str, typer.Option(help="Cosine, several (0.7,0.75,0.8), or auto.")] = "auto",
    head: Annotated[str, typer.Option(help="linear, mlp, or both (linear,mlp).")] = "linear",
    encoder: Annotated[str, typer.Option(help="One or several of `holotype encoders`.")] = "efficientnet_lite0",
    balance: Annotated[str, typer.Option(help="weights, effective, augment or none.")] = "weights",
    seed: Annotated[int, typer.Option(help="Another seed, another sample and split.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where the results go.")] = None,
    allow_truncated: Annotated[bool, typer.Option(help="Take the whole images of a tar that is cut off.")] = False,
    force: Annotated[bool, typer.Option(help="Write over a run.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
) -> None:
    """The whole job: from a pool and one exemplar per class to a model, predictions and a report."""
    from holotype import pipeline
    from holotype.progress import Terminal
    from holotype.settings import Settings

    if folder is not None:
        settings = Settings.load(folder / pipeline.SETTINGS)
        target, resume = out or folder, resume or out is None
    else:
        if images is None or out is None:
            raise typer.BadParameter("give --images and --out, or the folder of a run to repeat it")
        settings = Settings.parse(
            {
                "images": images,
                "exemplars": _exemplars(exemplar, exemplars),
                "embeddings": None if embeddings is None else str(embeddings),
                "embeddings_encoder": embeddings_encoder,
                "search": search,
                "test_set": None if test_set is None else str(test_set),
                "thresholds": [_threshold(part) for part in threshold.split(",")],
                "heads": head.split(","),
                "encoders": encoder.split(","),
                "allow_truncated": allow_truncated,
                "fit": {"balance": balance, "seed": seed},
            }
        )
        target = out
    pipeline.run(settings, target, force=force, resume=resume, progress=Terminal())
    _print(f"report       {target / 'report.html'}")
    _print(f"model        {target / 'model'}")
    if settings.test_set:
        _print(f"predictions  {target / 'predictions.csv'}")


@app.command()
def embed(
    images: str,
    out: Annotated[Path, typer.Option(help="Folder for the vectors; give it again to go on after a stop.")],
    encoder: Annotated[str, typer.Option(help="One of `holotype encoders`.")] = "efficientnet_lite0",
    allow_truncated: Annotated[bool, typer.Option(help="Take the whole images of a tar that is cut off.")] = False,
) -> None:
    """Compute the vectors of a pool; a run takes them back with --embeddings."""
    from holotype.embeddings import embed as compute
    from holotype.encoders import load_encoder
    from holotype.pool import open_pool
    from holotype.progress import Terminal

    pool = open_pool(images, allow_truncated=allow_truncated)
    embeddings = compute(pool, load_encoder(encoder), out, Terminal())
    _print(f"{len(embeddings.rows):,} vectors in {out}, {len(embeddings.unreadable):,} images unreadable")
    for name, reason in embeddings.unreadable.items():
        _print(f"unreadable  {name}  {reason}")


@app.command()
def search(
    images: str,
    exemplar: Annotated[list[str], typer.Option(help="ID or path/to.jpg; repeatable.")],
    vectors: Annotated[Path, typer.Option(help="Where the pool's vectors are, or will be kept.")],
    k: Annotated[int, typer.Option("-k", help="How many images.")] = 50,
    encoder: Annotated[str, typer.Option(help="One of `holotype encoders`.")] = "efficientnet_lite0",
    sheet: Annotated[Path | None, typer.Option(help="A PNG of the images found.")] = None,
) -> None:
    """List the images of a pool that are most similar to the exemplars."""
    from holotype.pipeline import search_pool
    from holotype.progress import Terminal

    found = search_pool(images, exemplar, encoder, vectors, Terminal())
    for rank, (name, score) in enumerate(found.best(k), start=1):
        _print(f"{rank:4}  {score:.4f}  {name}")
    if sheet is not None:
        found.sheet(k, sheet)


@app.command()
def tune(
    folder: Path, trials: Annotated[int, typer.Option(help="Settings to try, those of earlier calls included.")]
) -> None:
    """Search for better settings of a run's head, and do the run again with the best."""
    from holotype.pipeline import tune_run
    from holotype.progress import Terminal

    tuned = tune_run(folder, trials, Terminal())
    _print(f"validation loss {tuned.loss_before:.4f} -> {tuned.loss:.4f} after {tuned.trials} trials")
    _print(json.dumps(tuned.settings.model_dump()))


@app.command()
def evaluate(
    folder: Path, test_set: Annotated[Path, typer.Option(help="CSV: index and a 0/1 column per class.")]
) -> None:
    """Evaluate the model of a run on labelled rows."""
    from holotype.pipeline import evaluate_run
    from holotype.progress import Terminal

    _print(json.dumps(evaluate_run(folder, test_set, Terminal()).to_json(), indent=1))


@app.command()
def predict(
    model: Path,
    images: list[str],
    format: Annotated[Format, typer.Option(help="jsonl, csv or table.")] = Format.JSONL,  # noqa: A002
    out: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
) -> None:
    """Classify images, tars or folders: id, label, vector, probabilities and the reason, one line per image."""
    from holotype.classifier import Classifier

    classifier = Classifier.load(model)
    stream = out.open("w") if out else sys.stdout
    table = csv.writer(stream)
    if format is Format.CSV:
        names = classifier.classes_
        table.writerow(["id", "label", *names[:-1], *(f"p_{name}" for name in names), "reason"])
    failed = 0
    for record in _records(classifier, images):
        failed += "error" in record
        if "error" in record:
            print(f"unreadable  {record['id']}  {record['error']}", file=sys.stderr)  # noqa: T201
        elif format is Format.JSONL:
            stream.write(json.dumps(record) + "\n")
        elif format is Format.CSV:
            chances = record["probabilities"].values()
            table.writerow([record["id"], record["label"], *record["vector"], *chances, record["reason"]])
        else:
            stream.write(f"{record['id']:24} {record['label']:16} {record['vector']}  {record['reason']}\n")
    if out:
        stream.close()
    if failed:
        raise HolotypeError(f"{failed} images could not be read; the others were classified")


@app.command()
def encoders() -> None:
    """List the encoders: where each comes from, and whether it works offline."""
    from holotype.encoders import REGISTRY

    for name, origin in REGISTRY.items():
        _print(f"{name:20} {'offline' if origin.offline else 'needs the hub':14} {origin.about:38} {origin.where}")
    _print("path/to/model.onnx   offline        with its preprocessor_config.json beside it")
    _print("hf:owner/model       needs the hub  any transformers vision model")


def main() -> None:
    """Run the command line; an error of ours is one line and exit code 1."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except HolotypeError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None


def _records(classifier: Any, images: list[str]) -> Any:
    from holotype.errors import UnreadableImage
    from holotype.images import SUFFIXES
    from holotype.pool import open_pool

    for source in images:
        if Path(source).suffix.lower() in SUFFIXES:
            try:
                yield from classifier.explain(source, source).records()
            except UnreadableImage as error:
                yield {"id": source, "error": str(error)}
            continue
        pool = open_pool(source)
        for predictions, unreadable in classifier.predict_pool(pool, range(len(pool))):
            yield from predictions.records()
            yield from ({"id": name, "error": reason} for name, reason in unreadable.items())


def _exemplars(given: list[str], folder: Path | None) -> dict[str, list[str]]:
    from holotype.exemplars import read_folder

    found = read_folder(folder) if folder else {}
    for one in given:
        name, equals, code = one.partition("=")
        if not (name and equals and code):
            raise typer.BadParameter(f"expected NAME=ID or NAME=path/to.jpg, got {one!r}")
        found.setdefault(name, []).append(code)
    if not found:
        raise typer.BadParameter("give at least one --exemplar NAME=ID, or a folder with --exemplars")
    return found


def _threshold(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected numbers or auto, got {text!r}") from None


def _print(text: str) -> None:
    print(text)  # noqa: T201
