"""python -m benchmarks.demo DATA RUN: what truthful answers change in the demo, by the README's own recipe.

DATA and RUN are what `make demo` leaves (demo/emoji, demo/run). For each way the run is copied, asked for questions
(`holotype suggest`), answered by the labels (`holotype answer`) in rounds, applied, and its test figures are read.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

WAYS = ((1, 20), (2, 10), (3, 10), (6, 10))  # rounds, and questions of each class in one


def holotype(*arguments: str) -> str:
    """Return what a command prints."""
    program = Path(sys.executable).with_name("holotype")
    return subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def test_f1(out: Path) -> float:
    """Macro-F1 on the test set of a run."""
    return float(json.loads((out / "metrics.json").read_text())["evaluation"]["macro"]["f1"])


def answer(out: Path, shows: dict[str, str], rounds: int, n: int) -> None:
    """Answer `n` questions of each class in each of some rounds, by the truth, and apply."""
    form = out.with_suffix(".csv")
    for _ in range(rounds):
        rows = list(csv.DictReader(holotype("suggest", str(out), "-n", str(n)).splitlines()))
        with form.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(row | {"answer": "yes" if shows[row["id"]] == row["class"] else "no"} for row in rows)
        holotype("answer", str(out), str(form))
    holotype("answer", str(out), "--apply")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    given = parser.parse_args(arguments)
    with (given.data / "labels.csv").open(encoding="utf-8", newline="") as file:
        shows = {row["index"]: row["class"] for row in csv.DictReader(file)}
    print(f"test macro-F1 without answers: {test_f1(given.run):.3f}")
    for rounds, n in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            shutil.copytree(given.run, out)
            answer(out, shows, rounds, n)
            print(f"{rounds} x {n} answers of each class, by file: {test_f1(out):.3f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
