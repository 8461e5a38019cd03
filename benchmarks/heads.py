"""python -m benchmarks.heads: seconds to train each head, per epoch, and for 50 tuning trials, on 13,196 rows.

The published notebook for the reference job takes 630 s and more for one epoch on that many images, as it runs the
whole network each time; here the features are there already.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from holotype.model.heads import TrainingRows, class_weights, fit_head
from holotype.model.tuning import tune
from holotype.settings import HeadName, HeadSettings

ROWS, DIM, CLASSES = 13_196, 1280, 4
POSITIVES = 400  # of each of the three classes; the rest is "none"


def planted(rows: int, seed: int) -> TrainingRows:
    """Return unit-scale features in which three classes lie apart from the rest, none of them quite."""
    random = np.random.default_rng(seed)
    y = np.full(rows, CLASSES - 1)
    share = POSITIVES * rows // ROWS
    for label in range(CLASSES - 1):
        y[label * share : (label + 1) * share] = label
    centres = np.random.default_rng(0).normal(size=(CLASSES, DIM))
    X = np.abs(random.normal(size=(rows, DIM)) + 0.4 * centres[y]).astype(np.float32)
    return TrainingRows(X, y, class_weights(y, CLASSES, "weights")[y])


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median over `repeats`."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure(name: HeadName, trials: int, repeats: int) -> dict[str, float | int | str]:
    """Measure one head."""
    validates = ROWS // 5
    fit, validation = planted(ROWS - validates, 1), planted(validates, 2)
    settings = HeadSettings()
    epochs = max(1, len(fit_head(name, settings, fit, validation, CLASSES, 0).history))
    training = seconds(lambda: fit_head(name, settings, fit, validation, CLASSES, 0), repeats)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        found = tune(name, settings, {"auto": (fit, validation)}, CLASSES, trials=trials, study=Path(folder) / "s.db")
        tuning = time.perf_counter() - started
    return {
        "head": name,
        "train_s": round(training, 2),
        "epochs": epochs,
        "epoch_s": round(training / epochs, 3),
        f"{trials}_trials_s": round(tuning, 1),
        "loss_before": round(found.loss_before, 4),
        "loss": round(found.loss, 4),
    }


def main() -> None:
    """Print a table; --json writes it too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", description=__doc__)
    parser.add_argument("--heads", default="linear,mlp")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results = [measure(name, given.trials, given.repeats) for name in given.heads.split(",")]
    print("  ".join(f"{key:>12}" for key in results[0]))
    for result in results:
        print("  ".join(f"{value!s:>12}" for value in result.values()))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
