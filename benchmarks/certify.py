"""Are promises kept? `python -m benchmarks.certify` simulates people who certify classes, and counts.

Everything is what ships: a classifier scores a pool, `ScoredPool.certify` draws and decides, and answers go through an
`AnswerLog`, one by one, from files, corrected, and taken back. Only the pool has no pictures: its images are digests.
Scores are as adverse as they come, and a promise counts as broken wherever the class is less precise than was said, at
any look, for any precision that was asked for.
"""

import argparse
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from holotype.answers.forms import read_csv, write_csv
from holotype.answers.log import AnswerLog
from holotype.answers.records import NewAnswer, Verdict
from holotype.answers.scored import Certified, ScoredPool
from holotype.model.calibration import Calibration
from holotype.model.classifier import Classifier
from holotype.model.heads import Head
from holotype.pool.pool import Pool
from holotype.vectors.embeddings import Embeddings

RESULTS = Path(__file__).parent / "results" / "certify.json"
_STEEP = 60.0  # of the head: odds of exp(30) are features of unit length
Rows = NDArray[np.int64]
Made = tuple[NDArray[np.float64], Rows]  # (n, K) odds, as logits, and the class of each image, K for none


class _NoPictures:
    def read(self, row: int) -> bytes:
        raise OSError(f"image {row} has no picture")


@dataclass
class Case:
    """A pool of known classes and a person who answers about it.

    logits   (n, K) of the probability of each class, as the model has them
    truth    (n,) the class of each image; K for none
    same     (n,) images with one number are copies
    models   the models that were certified: whether anything that was claimed of one was not so
    """

    name: str
    logits: NDArray[np.float64]
    truth: Rows
    same: Rows
    errs: float = 0.0
    models: dict[str, bool] = field(default_factory=dict, init=False)
    promised: bool = field(default=False, init=False)
    covered: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        digests = [hashlib.sha256(f"{self.name} {one}".encode()).hexdigest() for one in self.same.tolist()]
        count = len(digests)
        self.pool = Pool(self.name, [f"{self.name} {row}" for row in range(count)], [1] * count, _NoPictures())
        self.pool.note_digests(dict(enumerate(digests)))

    @property
    def classes(self) -> list[str]:
        return [f"class {k}" for k in range(self.logits.shape[1])]

    def scored(self, model: str = "model") -> ScoredPool:
        """What the model, whose digest is made of its name, says of the pool."""
        found = np.clip(self.logits, -25, 25) / (_STEEP * np.sqrt(self.logits.shape[1]))
        rest = np.sqrt(1 - (found**2).sum(axis=1, keepdims=True))
        features = np.concatenate([found, rest], axis=1).astype(np.float32)
        vectors = Embeddings([features], np.arange(len(features)), len(features))
        digest = hashlib.sha256(f"{self.name} {model}".encode()).hexdigest()
        self.models.setdefault(digest, False)
        return ScoredPool.of(_classifier(self.logits.shape[1]), digest, self.pool, vectors)

    def answer(self, log: AnswerLog, asked: Sequence[tuple[int, int]], rng: np.random.Generator) -> list[NewAnswer]:
        """Answer about rows and classes: as they are, but for errors; some through a file. Returns what was wrong."""
        given, right = list[NewAnswer](), list[NewAnswer]()
        for row, k in asked:
            said: list[Verdict] = ["yes", "no"] if self.truth[row] == k else ["no", "yes"]
            wrong = rng.random() < self.errs
            both = [NewAnswer(self.pool.ids[row], f"class {k}", one, digest=self.pool.digest(row)) for one in said]
            given.append(both[wrong])
            right += both[:1] if wrong else []
        if rng.random() < 0.5:
            log.take(read_csv(io.StringIO(write_csv(given))))
        else:
            log.record(given)
        return right

    @property
    def broken(self) -> int:
        """How many models had a promise that was not so."""
        return sum(self.models.values())

    def look(self, found: Sequence[Certified], model: str) -> None:
        """Note what is claimed of a model, and whether it is so."""
        for one in found:
            k = self.classes.index(one.label)
            if one.promise is not None:
                assert one.decision.reached is not None
                rows = one.decision.reached.top.rows
                assert one.promise.covered == len(rows)
                self.promised, self.covered = True, max(self.covered, len(rows))
                self.models[model] |= float((self.truth[rows] == k).mean()) < one.precision
            if one.decision.next is not None:
                rows = one.decision.next.top.rows
                self.models[model] |= float((self.truth[rows] == k).mean()) < one.decision.low


def _classifier(classes: int) -> Classifier:
    """A classifier whose probabilities are what the features say."""
    made, plain = Classifier(), np.ones(classes)
    weights = np.zeros((classes + 1, classes + 1), np.float32)
    weights[np.arange(classes), np.arange(classes)] = _STEEP * np.sqrt(classes)
    made.head_ = Head([(weights, np.zeros(classes + 1, np.float32))])
    prior = np.full(classes + 1, 1 / (classes + 1))
    made.calibration_ = Calibration(plain, np.zeros(classes), plain / 2, prior, ["given"] * classes)
    made.classes_ = [*(f"class {k}" for k in range(classes)), "none"]
    made.exemplar_names_, made.exemplar_classes_, made.promises_ = ["exemplar"], [0], []
    made.descriptions_, made.pool_ = [], None
    made.exemplar_vectors_ = -np.eye(1, classes + 1, classes, dtype=np.float32)
    return made


def _wrong(count: int, wrong: int, rng: np.random.Generator) -> Rows:
    """A class 0 of `count` images of which so many, anywhere, are none."""
    truth = np.zeros(count, np.int64)
    truth[rng.choice(count, wrong, replace=False)] = 1
    return truth


def _falling(count: int, high: float = 4.0, low: float = 1.0) -> NDArray[np.float64]:
    return np.linspace(high, low, count)[:, None]


def _just_under(rng: np.random.Generator) -> Made:
    return _falling(100), _wrong(100, 6, rng)


def _equal(rng: np.random.Generator) -> Made:
    return np.full((60, 1), 3.0), _wrong(60, 4, rng)


def _upside_down(_: np.random.Generator) -> Made:
    return _falling(80), np.repeat([1, 0], [5, 75])  # the surest are wrong


def _cliff(_: np.random.Generator) -> Made:
    """The first part is just precise enough, the next is not."""
    truth = np.zeros(120, np.int64)
    truth[[7, 31, *range(60, 120, 9)]] = 1
    return _falling(120, 5, 3), truth


def _tiny(rng: np.random.Generator) -> Made:
    return np.concatenate([_falling(24), np.full((60, 1), -9.0)]), np.append(_wrong(24, 2, rng), np.ones(60, np.int64))


def _unsure_model(rng: np.random.Generator) -> Made:
    return _falling(60, -0.5, -1.5), _wrong(60, 4, rng)


def _overconfident(rng: np.random.Generator) -> Made:
    return np.full((60, 1), 15.0) + rng.random((60, 1)), _wrong(60, 4, rng)


def _several(rng: np.random.Generator) -> Made:
    """Three classes, each just under."""
    logits = np.concatenate([np.roll([3.0, -5.0, -5.0], k) + rng.random((60, 3)) for k in range(3)])
    truth = np.repeat(np.arange(3), 60)
    for k in range(3):
        truth[60 * k + rng.choice(60, 4, replace=False)] = 3
    return logits, truth


ADVERSE: dict[str, Callable[[np.random.Generator], Made]] = {
    "just under everywhere": _just_under,
    "all scores equal": _equal,
    "the surest are wrong": _upside_down,
    "precise, then a cliff": _cliff,
    "a tiny class": _tiny,
    "a model that is unsure": _unsure_model,
    "a model that is too sure": _overconfident,
    "three classes at once": _several,
    "copies": _just_under,
    "errors that are corrected": _just_under,
    "learnt from in between": _just_under,
}


def simulate(name: str, seed: int, log: AnswerLog) -> Case:
    """Let somebody certify an adverse case, look often, and ask for other precisions as well."""
    rng = np.random.default_rng([seed, *name.encode()])
    logits, truth = ADVERSE[name](rng)
    same = np.arange(len(truth))
    if name == "copies":  # each wrong image is there twice, in the place of a right one, with the same score
        wrong = np.flatnonzero(truth == 1)[:4]
        others = rng.choice(np.flatnonzero(truth == 0), len(wrong), replace=False)
        same[others], logits[others], truth[others] = wrong, logits[wrong], 1
        truth[np.flatnonzero(truth == 1)[8:]] = 0
        truth = truth[same]
    case = Case(f"{name} {seed}", logits, truth, same, errs=0.08 if "errors" in name else 0.0)
    wrong_answers = _certify(case, case.scored(), log, rng, looks=not case.errs)
    if wrong_answers:
        log.record(wrong_answers)
        _certify(case, case.scored(), log, rng)
    if "learnt" in name:
        label = case.classes[0]
        shown = [one for one in log.current() if one.verdict == "yes" and one.id in case.pool.rows]
        for one in shown[:2]:
            log.record([NewAnswer(one.id, label, "exemplar", digest=one.digest)])
        log.record([NewAnswer(shown[0].id, label, "withdrawn", digest=shown[0].digest)])
        known = [case.pool.rows[one.id] for one in shown]
        case.logits[known] = 6.0  # what was answered is what the next model is surest of
        _certify(case, case.scored("the next"), log, rng)
    return case


def _certify(
    case: Case, scored: ScoredPool, log: AnswerLog, rng: np.random.Generator, *, looks: bool = True
) -> list[NewAnswer]:
    """Answer what is asked, in pieces, and look after each; return the answers that were wrong, as they should be."""
    corrections = list[NewAnswer]()
    goals = [(0.95, 60), (0.95, 110), (0.9, 110)]
    for precision, answers in goals[: int(rng.choice([1, 2, 3], p=[0.8, 0.1, 0.1]))]:
        while True:
            found = scored.certify(log, case.classes, precision, 0.95, answers)
            if looks:
                case.look(found, scored.model)
            wanted = [(row, case.classes.index(one.label)) for one in found for row in one.decision.wanted]
            if not wanted:
                break
            corrections += case.answer(log, wanted[: int(rng.integers(20, 200))], rng)
    return corrections


def run(names: Sequence[str], runs: int, first: int = 0) -> Iterator[Case]:
    """Simulate each of `names` so many times."""
    fast = Path("/dev/shm")  # a disk that need not be synced
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder:
        empty, path = Path(folder) / "empty.db", Path(folder) / "answers.db"
        AnswerLog(empty).close()
        for seed in range(first, first + runs):
            for name in names:
                shutil.copy(empty, path)
                with AnswerLog(path) as log:
                    yield simulate(name, seed, log)
                for end in ("-wal", "-shm"):
                    path.with_name(f"{path.name}{end}").unlink(missing_ok=True)


def figures(name: str, runs: int) -> dict[str, float]:
    """Simulate a case so many times; return how many models were certified, and which share of promises was broken."""
    cases = list(run([name], runs))
    models = sum(len(one.models) for one in cases)
    return {
        "models": models,
        "promised": sum(one.promised for one in cases) / len(cases),
        "broken": sum(one.broken for one in cases) / models,
    }


def _precise(share: float, rng: np.random.Generator) -> Case:
    """A class of 1,000 images among 4,000 others, as a model would score it that is neither too sure nor too unsure."""
    count = 1000
    chance = np.append(1 - (1 - share) * 2 * np.arange(count) / count, np.full(4 * count, 1e-3))
    truth = (rng.random(len(chance)) > chance).astype(np.int64)
    logits = np.log(np.clip(chance, 1e-9, 1 - 1e-9) / np.clip(1 - chance, 1e-9, 1))[:, None]
    return Case(f"precise {share} {rng.random()}", logits, truth, np.arange(len(truth)))


def power(share: float, answers: int, runs: int) -> dict[str, float]:
    """How often .95 is promised of a class of that precision, of how much of it, and after how many answers."""
    covered, used = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(runs):
            rng = np.random.default_rng(seed)
            case = _precise(share, rng)
            scored = case.scored()
            with AnswerLog(Path(folder) / f"{seed}.db") as log:
                while True:
                    (found,) = scored.certify(log, case.classes, 0.95, 0.95, answers)
                    if not (wanted := found.decision.wanted):
                        break
                    case.answer(log, [(row, 0) for row in wanted], rng)
                promised = 0 if found.promise is None else found.promise.covered
                covered.append(promised / (case.truth == 0).sum())
                used.append(len(log.current()))
    return {
        "promised": float(np.mean(np.array(covered) > 0)),
        "covered": float(np.mean(covered)),
        "answers": float(np.mean(used)),
    }


def main() -> None:
    """Simulate, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="of each adverse case")
    parser.add_argument("--power", type=int, default=200, help="of each precision")
    given = parser.parse_args()
    adverse = {}
    for name in ADVERSE:
        adverse[name] = figures(name, given.runs)
        print(f"{name:28} {adverse[name]}", flush=True)
    found = {
        f"{share}, {answers} answers": power(share, answers, given.power)
        for share in (0.99, 0.98, 0.97)
        for answers in (60, 120, 240)
    }
    for what, row in found.items():
        print(f"{what:28} {row}")
    RESULTS.write_text(json.dumps({"adverse": adverse, "power": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
