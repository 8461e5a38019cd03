"""python -m examples.emoji.story DATA OUT: what each step of the product is worth, on the same labelled drawings."""

import csv
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from holotype import HolotypeError, Predictions, Review, evaluate
from holotype.answers.records import NewAnswer, Verdict
from holotype.evaluation.test_set import read_test_set
from holotype.progress import Terminal
from holotype.review.items import Question
from holotype.runs.folder import RunFolder
from holotype.runs.lookup import search_pool
from holotype.settings import ENCODER

from .plan import CLASSES

COSINE = 0.75  # from which on users of image search often say "the same"
ROUNDS, A_ROUND = 4, 5  # of answers about each class
WHO = "demo"

Exemplars = Mapping[str, Sequence[str]]
Figures = Mapping[str, Any]  # means over the classes, as in metrics.json


@dataclass(frozen=True)
class Data:
    """The files that `python -m examples.emoji` left in `folder`."""

    folder: Path

    @property
    def images(self) -> Path:
        """The pool."""
        return self.folder / "images.tar"

    @property
    def test_set(self) -> Path:
        """The labelled drawings."""
        return self.folder / "test_set.csv"

    def rows(self, name: str) -> list[dict[str, str]]:
        """Return the rows of one of the tables."""
        with (self.folder / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def exemplars(self, *tables: str) -> dict[str, list[str]]:
        """Return the exemplars in `tables`, by class."""
        listed = [row for table in tables for row in self.rows(table)]
        return {name: [row["index"] for row in listed if row["class"] == name] for name in CLASSES}


def by_cosine(data: Data, exemplars: Exemplars) -> Figures:
    """Judge what needs no product: the class of the most similar exemplar, where its cosine is at least .75."""
    found = [search_pool(str(data.images), codes, ENCODER) for codes in exemplars.values()]
    test = read_test_set(data.test_set, list(exemplars), found[0].pool)
    cosines = np.column_stack([one.scores[test.rows] for one in found]).astype(np.float64)
    chances = np.column_stack([cosines, 1 - cosines.max(axis=1)])
    n, k = cosines.shape
    predictions = Predictions(test.ids, list(exemplars), chances, np.full(k, COSINE), [""] * n, cosines.max(axis=1))
    macro: Figures = evaluate(predictions, test.truth).to_json()["macro"]
    return macro


def job(data: Data, exemplars: Exemplars, out: Path) -> Figures:
    """Show and do `holotype run`; return what its model is worth on the test set."""
    given = [word for name, codes in exemplars.items() for code in codes for word in ("--exemplar", f"{name}={code}")]
    words = ["run", "--images", data.images, *given, "--test-set", data.test_set, "--out", out, "--force"]
    command = ["holotype", *map(str, words)]
    print(f"\n{shlex.join(command)}", flush=True)
    subprocess.run([Path(sys.executable).with_name("holotype"), *command[1:]], check=True)
    return worth(out)


def worth(out: Path) -> Figures:
    """Return what the model of a run is worth on its test set."""
    macro: Figures = json.loads(RunFolder(out).metrics.read_text(encoding="utf-8"))["evaluation"]["macro"]
    return macro


def answer(data: Data, out: Path) -> Figures:
    """Answer the questions of a review of the run in `out` by the truth, and let the run follow."""
    print(f"\n{ROUNDS * A_ROUND} answers about each class, which the demo takes from its labels:", flush=True)
    shows = {row["index"]: row["class"] for row in data.rows("labels.csv")}
    RunFolder(out).answers.unlink(missing_ok=True)  # those of an earlier demo
    with Review.open(out, progress=Terminal()) as review:
        for _ in range(ROUNDS):
            for label in review.classes:
                review.record([_verdict(one, shows) for one in review.next(A_ROUND, label)])
            review.refit()
        for line in review.apply(Terminal()).summary():
            print(line, flush=True)
    return worth(out)


def _verdict(question: Question, shows: Mapping[str, str]) -> NewAnswer:
    verdict: Verdict = "yes" if shows[question.id] == question.label else "no"
    return NewAnswer(question.id, question.label, verdict, WHO, question.audit)


def main() -> int:
    """Tell the story in four figures, over what an earlier demo left."""
    data, out = Data(Path(sys.argv[1])), Path(sys.argv[2])
    one, three = data.exemplars("exemplars.csv"), data.exemplars("exemplars.csv", "more_exemplars.csv")
    try:
        found = {"1 exemplar of each class": job(data, one, out / "one")}
        found["3 exemplars of each class"] = job(data, three, out / "three")
        found["3 exemplars, and 20 truthful answers about each class"] = answer(data, out / "three")
        found = {"1 exemplar of each class, and a cosine of .75: no holotype": by_cosine(data, one)} | found
    except subprocess.CalledProcessError as error:
        return error.returncode
    except HolotypeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    tested = data.rows("test_set.csv")
    counts = ", ".join(f"{sum(int(row[name]) for row in tested)} of a {name}" for name in CLASSES)
    print(f"\nF1 on {len(tested)} labelled drawings that nothing was learnt from ({counts}), and its 95 % interval:\n")
    for way, figures in found.items():
        low, high = figures["f1_interval"]
        print(f"    {figures['f1']:.2f}  ({low:.2f} to {high:.2f})  {way}")
    print(f"\nreport             {RunFolder(out / 'three').report}")
    print(f"answer yourself    holotype review {out / 'one'} --open")
    print("your own pictures  holotype run --images FOLDER --exemplar cat=cat.jpg --out runs/cats", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
