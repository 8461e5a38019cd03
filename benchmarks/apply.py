"""python -m benchmarks.apply OUT: how long *Apply* takes, that is `holotype answer OUT --apply`.

The run is copied, and every time is that of a whole command. First the run is done again from nothing with 10 answers a
class: its vectors are there, what it found is not. Then come 10 more answers a class before each Apply, and at last one
more exemplar, by which the pool must be ranked again. For a pool of 92,350 images see `benchmarks.review`.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from holotype.answers.records import NewAnswer
from holotype.review.review import Review

TIMES, ANSWERS = 3, 10


def command(*words: object) -> float:
    """Seconds of a command."""
    started = time.perf_counter()
    program = str(Path(sys.executable).parent / "holotype")
    subprocess.run([program, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def give_answers(out: Path) -> None:
    """Answer what the page would ask about each class, by the estimate: what is true does not matter here."""
    with Review.open(out) as review:
        for label in review.classes:
            asked = review.next(ANSWERS, label)
            review.record(
                [
                    NewAnswer(one.id, label, "yes" if place % 3 else "no", audit=one.audit)
                    for place, one in enumerate(asked)
                ]
            )


def add_exemplar(out: Path) -> None:
    """Make the first image that is asked about another exemplar of the first class."""
    with Review.open(out) as review:
        label = review.classes[0]
        review.record([NewAnswer(review.next(1, label)[0].id, label, "exemplar")])


def forget(out: Path) -> None:
    """Remove what the run found but its vectors, its settings and the answers."""
    shutil.rmtree(out / "review")
    (out / "results.sha256").unlink()


def measure(out: Path) -> list[str]:
    """Return the rows of the table; `out` is changed."""
    give_answers(out)
    forget(out)
    rows = [f"| `holotype run OUT`, from nothing but vectors and answers | {command('run', out):.1f} |"]
    found = []
    for _ in range(TIMES):
        give_answers(out)
        found.append(command("answer", out, "--apply"))
    every = ", ".join(f"{seconds:.1f}" for seconds in found)
    rows.append(f"| Apply after {ANSWERS} answers a class, median of {every} | {statistics.median(found):.1f} |")
    add_exemplar(out)
    rows.append(f"| Apply after one more exemplar | {command('answer', out, '--apply'):.1f} |")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.apply", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder of a run")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "out"
        shutil.copytree(given.out, copy, ignore=lambda _, names: [one for one in names if one.startswith("answers.db")])
        print(*["| | s |", "|---|---|", *measure(copy)], sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
