"""What is done with a model: predict, evaluate, tune."""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from holotype.cli.app import (
    TEST_SET,
    AllowTruncated,
    ClusterAddress,
    DryRun,
    Moved,
    NodeCount,
    Price,
    ShareName,
    app,
    note_place,
    print_lines,
)
from holotype.cli.arguments import OutputFormat, read_share, read_thresholds
from holotype.errors import HolotypeError
from holotype.exits import standard_output


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A saved model, or the folder of a run.")],
    images: list[str],
    format: Annotated[  # noqa: A002
        OutputFormat | None, typer.Option(help="jsonl, csv or table (else by the name of --out, or jsonl).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A file instead of stdout; with --shard or --ray a folder.")] = None,
    allow_truncated: AllowTruncated = False,
    shard: ShareName = None,
    ray: ClusterAddress = None,
    dry_run: DryRun = False,
    nodes: NodeCount = 1,
    price: Price = 0.0,
) -> None:
    """Classify images, tars or folders.

    One line per image: id, label, vector, probabilities and the reason. Several machines do it together with --shard,
    or with --ray: then --out is a folder of parts, which cat joins to the same file.
    """
    from holotype.files import atomic, text_file
    from holotype.model.predictions import lines
    from holotype.progress import Terminal
    from holotype.runs.commands import load_classifier, predict_sources

    share = read_share(shard, ray)
    apart = share is not None or ray is not None
    if apart or dry_run:
        from holotype.runs.blocks import PredictTask
        from holotype.runs.cluster import do_task
        from holotype.runs.estimate import estimate_predict

        if apart and out is None:
            raise typer.BadParameter("expected --out FOLDER, where each block of images has a file of its own")
        layout = format or OutputFormat.JSONL
        task = PredictTask(str(model), tuple(images), str(out or Path()), layout.value, allow_truncated)
        if dry_run:
            print_lines(estimate_predict(task, Terminal()).lines(nodes, price))
        else:
            print_lines([do_task(task, share, ray, price, Terminal())])
        return
    classifier = load_classifier(model)
    count, unreadable = 0, 0

    def counted() -> Iterable[dict[str, Any]]:
        nonlocal count, unreadable
        for record in predict_sources(classifier, images, Terminal(), allow_truncated=allow_truncated):
            count += 1
            unreadable += "error" in record
            yield record

    with atomic(out) if out else nullcontext() as part, text_file(part) if part else standard_output() as file:
        more = {"promised": bool(classifier.promises_), "distances": classifier.pool_ is not None}
        layout = format or (OutputFormat.CSV if out and out.suffix.lower() == ".csv" else OutputFormat.JSONL)
        file.writelines(lines(counted(), classifier.classes_[:-1], layout.value, file.encoding, **more))
    if count == unreadable:
        raise HolotypeError(f"none of the {count} images could be read; each line says why")


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    test_set: Annotated[Path, typer.Option(help=TEST_SET)],
    images: Moved = None,
) -> None:
    """Evaluate the model of a run on labelled rows.

    Those that it learnt from do not count, unless the run knows of them (run OUT --test-set CSV).
    """
    from holotype.progress import Terminal
    from holotype.runs.commands import evaluate_run

    note_place(folder, images)
    print_lines([json.dumps(evaluate_run(folder, test_set, Terminal()).to_json(), indent=1)])


@app.command()
def tune(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    trials: Annotated[int, typer.Option(min=1, help="Settings to try, those of earlier calls included.")],
    threshold: Annotated[str | None, typer.Option(help="Search over these as well: 0.7,0.75,0.8.")] = None,
    images: Moved = None,
) -> None:
    """Search for better settings of a run's head.

    Then the run is done again with the best.
    """
    from holotype.progress import Terminal
    from holotype.runs.commands import tune_run

    note_place(folder, images)
    tuned = tune_run(folder, trials, read_thresholds(threshold) if threshold else (), Terminal()).tuned
    assert tuned is not None  # noqa: S101 - trials is at least 1
    print_lines([f"validation loss {tuned.loss_before:.4f} -> {tuned.loss:.4f} after {tuned.trials} trials"])
    print_lines([json.dumps(tuned.to_json(), indent=1)])


@app.command()
def drift(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a run.")],
    new: Annotated[
        list[str], typer.Argument(metavar="NEW...", help="Images, or what predict --out or serve --record wrote.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Say how far new images are from a run's pool.

    By the share of none, the probabilities, and how far each is from the images of the pool.
    """
    from holotype.progress import Terminal
    from holotype.runs.drift import drift_run

    found = drift_run(folder, new, Terminal())
    print_lines([json.dumps(found.to_json(), indent=1)] if as_json else found.lines())
