"""What a run works on: its inputs opened and checked, and the folder that its results go to."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holotype import exemplars, files
from holotype.answers import Answer, Answers
from holotype.embeddings import Embeddings
from holotype.encoders import REGISTRY, OnnxEncoder, load_encoder
from holotype.errors import EmbeddingsError, EncoderError, OutputError
from holotype.evaluation import TestSet, read_test_set
from holotype.exemplars import Exemplar
from holotype.pool import Pool, open_pool
from holotype.settings import Settings
from holotype.supplied import check_identity, import_embeddings

SETTINGS = "holotype.toml"
UNFINISHED = "unfinished.toml"  # the settings of a run that has no results yet
ANSWERS = "answers.db"  # what people said; a run follows it and never writes it
START = "review"  # what a review starts from


@dataclass(frozen=True)
class Job:
    """What a run works on, opened and checked before anything is written.

    encoders   those of the sweep
    supplied   vectors that somebody computed
    maker      the encoder that made them, where it is known
    """

    settings: Settings
    pool: Pool
    exemplars: Sequence[Exemplar]
    test_set: TestSet | None
    encoders: Sequence[OnnxEncoder]
    supplied: Embeddings | None
    maker: OnnxEncoder | None

    @property
    def classes(self) -> list[str]:
        """The K classes."""
        return list(self.settings.exemplars)

    @property
    def test_rows(self) -> list[int]:
        """Pool rows that nothing may be learnt from."""
        return self.test_set.rows if self.test_set else []


def open_job(settings: Settings) -> Job:
    """Open and check everything that a run needs; paths become absolute, so that the settings can be repeated."""
    pool = open_pool(settings.images, allow_truncated=settings.allow_truncated)
    found = [_absolute_exemplar(one) for one in exemplars.resolve(pool, settings.exemplars)]
    test_set = read_test_set(Path(settings.test_set), list(settings.exemplars), pool) if settings.test_set else None
    supplied = import_embeddings(Path(settings.embeddings), pool) if settings.embeddings else None
    if supplied is None and settings.search in ("embeddings", "both"):
        raise EmbeddingsError(f"--search {settings.search} needs vectors to search in: give --embeddings")
    encoders = [load_encoder(name, settings.fit.runtime) for name in settings.encoders]
    maker = _maker(settings, supplied, pool) if supplied is not None else None
    return Job(_absolute(settings, found), pool, found, test_set, encoders, supplied, maker)


def _maker(settings: Settings, supplied: Embeddings, pool: Pool) -> OnnxEncoder | None:
    """The encoder that made the supplied vectors: as named, or as `holotype embed` noted; checked on a sample."""
    name = settings.embeddings_encoder or supplied.encoder
    if name is None:
        return None
    try:
        maker = load_encoder(name, settings.fit.runtime)
    except EncoderError:
        if settings.embeddings_encoder is not None:
            raise
        return None  # only noted, and not at hand here
    check_identity(supplied, pool, maker)
    return maker


def _absolute(settings: Settings, found: Sequence[Exemplar]) -> Settings:
    codes: dict[str, list[str]] = {name: [] for name in settings.exemplars}
    for exemplar in found:
        codes[list(codes)[exemplar.label]].append(exemplar.name)
    paths = {key: str(Path(path).absolute()) for key in ("embeddings", "test_set") if (path := getattr(settings, key))}
    more: dict[str, Any] = {"exemplars": codes, "images": str(Path(settings.images).absolute())}
    more["encoders"] = [_absolute_encoder(name) for name in settings.encoders]
    if settings.embeddings_encoder is not None:
        more["embeddings_encoder"] = _absolute_encoder(settings.embeddings_encoder)
    return settings.model_copy(update=paths | more)


def _absolute_exemplar(exemplar: Exemplar) -> Exemplar:
    """A file is called by its whole path: answers about it hold wherever a run is repeated from."""
    if exemplar.row is not None:
        return exemplar
    return replace(exemplar, name=str(Path(exemplar.name).expanduser().absolute()))


def _absolute_encoder(name: str) -> str:
    return name if name in REGISTRY or name.startswith("hf:") else str(Path(name).absolute())


def read_answers(out: Path) -> list[Answer]:
    """Return the answers in the folder of a run that hold; none where nobody gave any."""
    if not (out / ANSWERS).exists():
        return []
    with Answers(out / ANSWERS) as answers:
        return answers.current()


def answerable(pool: Pool, test_rows: Collection[int]) -> dict[str, int]:
    """Return id -> row of the images that an answer may decide on: none of the test set, which would prove nothing."""
    if not test_rows:
        return pool.rows
    held_out = set(test_rows)
    return {name: row for name, row in pool.rows.items() if row not in held_out}


def revised(given: Sequence[Exemplar], answers: Iterable[Answer], classes: Sequence[str], pool: Pool) -> list[Exemplar]:
    """Return the exemplars `given`, with those that `answers` add, without those that they withdraw.

    The last exemplar of a class stays, and an image stands for one class: the first.
    """
    found = list(given)
    for answer in answers:
        if answer.label not in classes:
            continue
        k = classes.index(answer.label)
        there = [one for one in found if (one.name, one.label) == (answer.id, k)]
        row = pool.rows.get(answer.id)
        if answer.said == "exemplar" and row is not None and all(one.row != row for one in found):
            found.append(Exemplar(answer.id, k, row, pool.read(row)))
        elif answer.said == "withdrawn" and sum(one.label == k for one in found) > len(there):
            found = [one for one in found if one not in there]
    return found


def prepare_folder(out: Path, settings: Settings, *, force: bool = False, resume: bool = False) -> None:
    """Take `out` for a run. Raises `OutputError` when it holds a finished one, or anything else.

    What a finished run left stays as it is until the new results take its place.
    """
    existing = out / SETTINGS
    if existing.exists() and not (force or resume):
        raise OutputError(
            f"{out} already holds a run; give --resume to go on with it, --force to write over it (vectors that were "
            "computed are used again), or another --out"
        )
    if existing.exists() and resume and not force and Settings.load(existing) != settings:
        raise OutputError(f"{out} holds a run with other settings; give --force to write over it, or another --out")
    ours = existing.exists() or (out / UNFINISHED).exists()
    if not ours and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is not empty and holds no run; give another --out")
    files.write(out / UNFINISHED, settings.to_toml())


def settings_of(out: Path) -> Settings:
    """Return the settings of the run in `out`, finished or not. Raises `HolotypeError` where there is none."""
    unfinished = out / UNFINISHED
    return Settings.load(unfinished if unfinished.exists() and not (out / SETTINGS).exists() else out / SETTINGS)
