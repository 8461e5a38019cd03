"""The files that are kept, each with what reads it: a small run of its own, and another one to exchange files with."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.chaos.house import House, write_tar
from holotype import open_pool
from holotype.answers.log import AnswerLog
from holotype.encoders.cached import kept
from holotype.files import write
from holotype.model.heads import TrainingRows
from holotype.model.tuning import Parts, tune
from holotype.pool.images import decode, letterbox
from holotype.pool.pool import Pool
from holotype.runs.commands import load_classifier
from holotype.runs.folder import RunFolder
from holotype.runs.results import read_learnt
from holotype.settings import HeadSettings, Threshold
from holotype.vectors.folders import known_folders, open_shared
from holotype.vectors.store import EmbeddingStore
from holotype.vectors.supplied import import_embeddings

ANSWERS, LAST = 240, 30  # acts in the log, and those of them that are in its -wal
LISTED = 2500  # members of a tar from which on its listing is kept
DATABASE = "answers.db"

Read = Callable[[Path], Any]
Pictures = Callable[[int], bytes]


@dataclass(frozen=True)
class Kept:
    """Files of one kind below `root`; `read` takes that folder and returns all that is in them for whoever reads them.

    other   a folder with the same of another run
    cuts    whether it is damage when its end is missing: of what a cut of the power leaves, nobody can tell
    own     whether it is damage when it is of another run: answers may be copied, as each names its picture
    """

    name: str
    root: Path
    other: Path
    files: tuple[str, ...]
    read: Read
    cuts: bool = True
    own: bool = True


class Cells:
    """An encoder that any test can wait for: 4 x 4 cells of colour."""

    name, fingerprint, dim, size, fill = "cells", "c" * 64, 48, (16, 16), (127, 127, 127)
    content, runtime, precision, workers, name_on_disk = b"", "none", "f32", 1, "cells"
    source: Any = None

    def prepare(self, source: Any) -> NDArray[np.uint8]:
        return letterbox(decode(source, fit=16), self.size, self.fill)

    def encode(self, pixels: NDArray[np.uint8], *, busy: bool = False) -> NDArray[np.float32]:  # noqa: ARG002
        return np.asarray(pixels.reshape(-1, 4, 4, 4, 4, 3).mean(axis=(2, 4)).reshape(-1, 48), np.float32)


def kinds(scratch: Path, runs: tuple[House, House], picture: Pictures) -> Iterator[Kept]:
    """Yield every kind of file that is kept; the cache is one in `scratch`."""
    os.environ["HOLOTYPE_CACHE"] = str(scratch / "cache")
    yield from _of_answers(scratch)
    yield from _of_runs(scratch, runs)
    yield _of_study(scratch)
    yield from _of_vectors(scratch, picture)
    yield from _of_cache(scratch, picture)


def _pair(scratch: Path, name: str, fill: Callable[[Path, int], object]) -> tuple[Path, Path]:
    """Two folders that `fill` fills, with a number each."""
    folders = scratch / name, scratch / f"{name}, other"
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        fill(folder, number)
    return folders


def write_answers(folder: Path, number: int) -> None:
    """Write a log of answers, of which some were undone and some are of an audit."""
    with AnswerLog(folder / DATABASE) as log:
        for place in range(ANSWERS):
            one = log.add(f"{number}-{place}", ("red", "blue")[place % 2], "yes", who="Ada", audit=place % 7 == 0)
            if place % 20 == 0:
                log.undo(one.act)
        log.draw([(f"{number}-drawn-{place}", "red") for place in range(20)])


def write_hot_answers(folder: Path, number: int) -> None:
    """Write a log of answers as a process leaves it that is killed."""
    (folder / "open").mkdir()
    write_answers(folder / "open", number)
    with AnswerLog(folder / "open" / DATABASE) as log:
        for place in range(LAST):
            log.add(f"{number}-last-{place}", "red", "no", who="Ada")
        for path in (folder / "open").iterdir():
            shutil.copyfile(path, folder / path.name)
    shutil.rmtree(folder / "open")


def read_answers(folder: Path) -> Any:
    """Return every record, and what was drawn for the audit."""
    with AnswerLog(folder / DATABASE) as log:
        found = log.history()
        with closing(sqlite3.connect(folder / DATABASE)) as plain:
            return found, log.current(), sorted(plain.execute("SELECT id, class FROM drawn"))


def _of_answers(scratch: Path) -> Iterator[Kept]:
    root, other = _pair(scratch, "answers", write_answers)
    yield Kept("answers.db", root, other, (DATABASE,), read_answers, own=False)
    root, other = _pair(scratch, "killed", write_hot_answers)
    yield Kept("answers.db-wal, after a kill", root, other, (f"{DATABASE}-wal",), read_answers)

    def without_index(folder: Path, number: int) -> None:
        write_hot_answers(folder, number)
        (folder / f"{DATABASE}-shm").unlink()

    root, other = _pair(scratch, "power", without_index)
    yield Kept("answers.db-wal, after a power cut", root, other, (f"{DATABASE}-wal",), read_answers, cuts=False)


def _of_runs(scratch: Path, runs: tuple[House, House]) -> Iterator[Kept]:
    def fill(folder: Path, number: int) -> None:
        shutil.copytree(runs[number].out.path, folder / "out")

    pool = open_pool(runs[0].root / "images.tar")
    root, other = _pair(scratch, "run", fill)
    for files, read in (
        (("out/review/vectors.npy", "out/review/groups.safetensors", "out/review/baseline.json"), _read_baseline(pool)),
        (("out/groups.parquet",), lambda root: read_learnt(RunFolder(root / "out"))),
        (("out/holotype.toml",), _read_settings),
        (("out/model/model.json", "out/model/arrays.safetensors"), _read_model),
        (("out/model/head.onnx", "out/model/encoder.onnx"), _read_model),
        (("out/.lock",), _take_lock),
    ):
        yield Kept(files[0].removeprefix("out/").split("/")[0], root, other, files, read)


def _read_baseline(pool: Pool) -> Read:
    def read(root: Path) -> Any:
        found = RunFolder(root / "out")
        with found.reading():
            one = found.read_baseline(list(found.read_settings().exemplars), pool)
        groups = one.groups
        arrays = [one.vectors, groups.scores, groups.label, groups.decision, groups.tie, groups.rounds, one.numbers]
        arrays += [*one.exemplars, *([] if groups.copy_of is None else [groups.copy_of])]
        plain = [one.names, groups.classes, groups.thresholds, groups.score_kind, one.exemplar_rows, one.key]
        return [array.tobytes() for array in arrays], plain, list(one.held_out), one.images, one.pictures

    return read


def _read_settings(root: Path) -> Any:
    return RunFolder(root / "out").read_settings().model_copy(update={"out": None})


def _read_model(root: Path) -> Any:
    found = load_classifier(root / "out")
    features = np.random.default_rng(0).normal(size=(20, found.encoder_.dim)).astype(np.float32)
    return list(found.predict_features([""] * 20, features).records()), found.encoder_.fingerprint


def _take_lock(root: Path) -> Any:
    with RunFolder(root / "out").lock("holotype"):
        return True


def _of_study(scratch: Path) -> Kept:
    def read(root: Path, number: int = 0) -> Any:
        random = np.random.default_rng(number)
        y = random.integers(0, 3, 60)
        rows = TrainingRows((random.normal(size=(60, 8)) + np.eye(3, 8)[y]).astype(np.float32), y, np.ones(60))
        parts: dict[Threshold, Parts] = {"auto": (rows, rows)}
        return tune("linear", HeadSettings(), parts, 3, trials=6, study=root / "study.db")

    root, other = _pair(scratch, "study", read)
    return Kept("study.db", root, other, ("study.db",), read)


def _of_vectors(scratch: Path, picture: Pictures) -> Iterator[Kept]:
    pools = []
    for number in range(2):
        write_tar(scratch / f"{number}.tar", {str(one): picture(one + 20 * number) for one in range(16)})
        pools.append(open_pool(scratch / f"{number}.tar"))

    def open_store(root: Path, number: int = 0) -> EmbeddingStore:
        return open_shared(root / "vectors", Cells(), pools[number])

    def embed(root: Path, number: int = 0) -> Any:
        found = open_store(root, number).embed()
        return [(rows.tolist(), np.asarray(block).tobytes()) for rows, block in found.stored()], found.unreadable

    def supplied(root: Path) -> Any:
        found = import_embeddings(root / "vectors", pools[0])
        return [(rows.tolist(), np.asarray(block).tobytes()) for rows, block in found.stored()], found.unreadable

    root, other = _pair(scratch, "vectors", embed)
    files = tuple(str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.suffix)
    shutil.rmtree(scratch / "cache", ignore_errors=True)  # else what is lacking is taken from the other
    yield Kept("vectors", root, other, files, embed)
    yield Kept("vectors, supplied", root, other, files, supplied)


def _of_cache(scratch: Path, picture: Pictures) -> Iterator[Kept]:
    for number in range(2):
        few = {str(one): picture(one + 20 * number) for one in range(16)}
        many = {f"{number}-{one}": b"" for one in range(LISTED)}
        write_tar(scratch / f"few{number}.tar", few)
        write_tar(scratch / f"many{number}.tar", many)
        for name in ("few", "many"):  # a tar that was written just now is not kept
            os.utime(scratch / f"{name}{number}.tar", (1e9, 1e9))

    def digests(root: Path, number: int = 0) -> Any:
        os.environ["HOLOTYPE_CACHE"] = str(root)
        return open_pool(scratch / f"few{number}.tar").digests()

    def listing(root: Path, number: int = 0) -> Any:
        os.environ["HOLOTYPE_CACHE"] = str(root)
        return open_pool(scratch / f"many{number}.tar").ids

    def encoder(root: Path, number: int = 0) -> Any:
        content = np.random.default_rng(number).bytes(20_000)
        return kept(root / "one.onnx", lambda path: write(path, content)).read_bytes()

    def known(root: Path, number: int = 0) -> Any:
        os.environ["HOLOTYPE_CACHE"] = str(root)
        store = open_shared(scratch / f"known{number}", Cells(), open_pool(scratch / f"few{number}.tar"))
        return [str(folder) for folder in known_folders() if folder.is_relative_to(scratch)], store.pool.ids

    for name, read in (("digests", digests), ("listings", listing), ("encoders", encoder), ("known", known)):
        root, other = _pair(scratch, f"cache {name}", read)
        files = tuple(str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file())
        yield Kept(f"cache, {name}", root, other, files, read)
