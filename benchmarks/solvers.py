"""python -m benchmarks.solvers: our logistic regression and our ridge beside scikit-learn's.

Both take turns in every repeat, in the code that calls them: three classes learnt from answers, as after every two
answers of a review, and the ridge of self-training. Ratios are of medians within one run. `docs/solvers.md` says what
follows.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from holotype.answers import feedback
from holotype.answers.feedback import FeedbackData, FeedbackModel
from holotype.encoders.encode import l2_normalize
from holotype.grouping import graph

DIM, CLASSES = 256, 3
SIZE, POOL = 60, 2000  # images of a class; all others, of which a background is drawn
ANSWERS = (2, 10, 30, 60)
SUREST, JUDGED = 42, 12_000  # images that the ridge learns from beside 2,000, and images that it judges
REPEATS, STARTS = 9, 5
THREADS: Mapping[str, int | None] = {"1": 1, "default": None}
RESULTS = Path(__file__).parent / "results" / "solvers.md"
COLUMNS = ("work", "threads", "ours, s", "scikit-learn, s", "ratio", "greatest difference")

Logits = NDArray[np.float64]
Matrix = NDArray[np.float32]
Work = Callable[[], Any]


def logistic(X: Matrix, y: NDArray[np.bool_], weights: Logits, near: Logits | None) -> Logits:
    """Do what `feedback._logistic` does with scikit-learn, in float32 as there."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=feedback._STRENGTH, solver="newton-cholesky", warm_start=True)
    if near is not None:
        model.coef_, model.intercept_ = near[None, :-1].astype(np.float32), near[-1:].astype(np.float32)
    model.fit(X, y, sample_weight=weights)
    return np.append(model.coef_.ravel(), model.intercept_).astype(np.float64)


def ridge(positives: Matrix, weights: Logits, sample: Matrix, vectors: Matrix) -> Logits:
    """Do what `graph._ridge` does with equations of our own, as it did before it asked scikit-learn."""
    X = np.concatenate([positives, sample]).astype(np.float64)
    share = np.concatenate([weights / weights.sum(), np.full(len(sample), 1 / len(sample))])
    sign = np.concatenate([np.ones(len(positives)), -np.ones(len(sample))])
    X -= share @ X / 2
    normal = (X * share[:, None]).T @ X + graph._RIDGE * np.eye(X.shape[1])
    direction = np.linalg.solve(normal, (share * sign) @ X)
    there = sample @ direction
    return np.asarray((vectors @ direction - np.median(there)) / max(float(there.std()), 1e-9), dtype=np.float64)


def planted(others: int, seed: int = 0) -> tuple[Matrix, NDArray[np.int64]]:
    """Return unit vectors of three classes of 60 among `others` around 400 centres, and the class of each."""
    rng = np.random.default_rng(seed)
    centres = l2_normalize(rng.normal(size=(CLASSES + 400, DIM)))
    truth = np.append(np.repeat(np.arange(CLASSES), SIZE), CLASSES + rng.integers(0, 400, others))
    return l2_normalize(centres[truth] + 1.2 * rng.normal(size=(len(truth), DIM)) / np.sqrt(DIM)), truth


def lessons(vectors: Matrix, truth: NDArray[np.int64], count: int) -> Iterator[FeedbackData]:
    """Yield per class what `count` answers say about images near its exemplar, which is its first."""
    first = [int(np.flatnonzero(truth == k)[0]) for k in range(CLASSES)]
    for k, row in enumerate(first):
        likely = np.setdiff1d(np.argsort(-(vectors @ vectors[row]))[:150], first)
        rows = np.append(likely[truth[likely] == k][:1], likely[truth[likely] != k][:1])  # a "yes" and a "no"
        more = np.random.default_rng(k).permutation(np.setdiff1d(likely, rows))[: count - len(rows)]
        rows = np.concatenate([rows, more])
        yield FeedbackData(vectors[[row]], vectors[[other for other in first if other != row]], rows, truth[rows] == k)


def refit(count: int) -> Callable[[], list[FeedbackModel]]:
    """Return what learns three classes from `count` answers each, five held-out folds included."""
    vectors, truth = planted(POOL)
    data = list(lessons(vectors, truth, count))
    priors = [np.clip(20 * (vectors @ one.exemplars[0] - 0.5), -9, 9).astype(np.float64) for one in data]
    return lambda: [feedback.learn(vectors, prior, one) for prior, one in zip(priors, data, strict=True)]


def compare(ways: Mapping[str, Work]) -> tuple[list[float], list[Any]]:
    """Return the median seconds of each way, which take turns, and what each found."""
    found = [work() for work in ways.values()]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return [statistics.median(each) for each in seconds.values()], found


def learnt_by(solver: Callable[..., Logits], work: Work) -> Work:
    """Return `work` with `solver` in place of the logistic regression."""

    def done() -> Any:
        with patch.object(feedback, "_logistic", solver):
            return work()

    return done


def rows() -> Iterator[tuple[str, ...]]:
    """Yield the lines of the table."""
    import_module("sklearn.linear_model")  # a limit of threads holds for what is loaded
    for threads, limit in THREADS.items():
        with threadpool_limits(limit) if limit else nullcontext():
            for count in ANSWERS:
                ours, theirs = feedback._logistic, logistic
                work = refit(count)
                seconds, found = compare({"ours": learnt_by(ours, work), "theirs": learnt_by(theirs, work)})
                apart = max(
                    float(np.abs(one.untrusted_logits - other.untrusted_logits).max())
                    for one, other in zip(*found, strict=True)
                )
                yield line(f"refit of 3 classes, {count} answers each", threads, seconds, f"{apart:.1e} (logits)")
            given = ridge_inputs()
            seconds, margins = compare({"ours": partial(ridge, *given), "theirs": partial(graph._ridge, *given)})
            yield line("ridge of a class", threads, seconds, f"{np.abs(margins[0] - margins[1]).max():.1e} (margins)")
    yield line("first refit of a process", "default", started(), "")


def ridge_inputs() -> tuple[Matrix, Logits, Matrix, Matrix]:
    """Return what the ridge of self-training is given."""
    vectors, truth = planted(JUDGED)
    positives = vectors[truth == 0][:SUREST]
    sample = vectors[np.random.default_rng(0).permutation(len(vectors))[:POOL]]
    return positives, np.linspace(1, 0.3, len(positives)), sample, vectors


FIRST = """
import time
from benchmarks import solvers
work = solvers.learnt_by(solvers.{solver}, solvers.refit(30))
start = time.perf_counter()
work()
print(time.perf_counter() - start)
"""


def started() -> list[float]:
    """Return the median seconds of the first refit of a process, with the import of what it needs: ours, theirs."""
    seconds: dict[str, list[float]] = {"feedback._logistic": [], "logistic": []}
    for _ in range(STARTS):
        for solver, measured in seconds.items():
            command = [sys.executable, "-c", FIRST.format(solver=solver)]
            measured.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return [statistics.median(each) for each in seconds.values()]


def line(work: str, threads: str, seconds: list[float], apart: str) -> tuple[str, ...]:
    """Return a line of the table."""
    ours, theirs = seconds
    return work, threads, f"{ours:.3f}", f"{theirs:.3f}", f"{theirs / ours:.2f}", apart


def main() -> int:
    """Print the table, and write it to benchmarks/results/solvers.md."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for cells in rows():
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(["`python -m benchmarks.solvers`", "", *lines, ""]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
