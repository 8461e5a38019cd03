"""The folder of a run: what its files are called, who may write them, and how new results replace the old ones."""

import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from holotype import files, locks
from holotype.answers.baseline import FOUND_BY, ReviewBaseline
from holotype.answers.log import AnswerLog
from holotype.answers.records import Answer, Rules
from holotype.checksums import file_digest, is_whole, read_checksums, write_checksums
from holotype.encoders.runtimes import Encoder
from holotype.errors import AnswersError, HolotypeError, HolotypeWarning, ModelError, OutputError
from holotype.model.classifier import MODEL, Classifier
from holotype.model.saved import DESCRIPTION_FILE
from holotype.names import command, named
from holotype.pool.members import is_nothing
from holotype.pool.pool import Pool
from holotype.runs.differences import differences
from holotype.settings import SETTINGS, UNFINISHED, Settings
from holotype.stores.copies import refuse_url
from holotype.vectors.folders import open_shared
from holotype.vectors.store import EmbeddingStore

_LOCK = ".lock"
_NEW = ".new"  # and a name of its own: where a file system has no locks, two may write
_OLD = "old"


class RunFolder:
    """What a run keeps at `path`, and where.

    settings      every setting, resolved; it comes last, and says that the folder holds a finished run
    unfinished    the settings of a run that has no results yet
    pool          of a very large pool the images that were ranked
    groups        what each image of the pool was taken for, and why; `others`: those that were not ranked
    found         the members of each class, the surest first; `unreadable`: images without a vector, and why
    model         the classifier
    predictions   of the test set; `certified`: the images of the pool that are promised
    metrics       all figures; `evaluation`: those of a later test set
    report        with its `figures`; `discovered`: communities of what belongs to no class (`holotype discover`)
    sweep         a line for each candidate; `tuning`, `study`: of the chosen one's head
    baseline      what a review starts from
    answers       what people said; a run follows it and never writes it
    map           where images lie on the map of a review; made again where these are others
    vectors       by encoder, used again by the next run
    state         what it was done with
    checksums     what the results were when they were written
    """

    def __init__(self, path: Path | str) -> None:
        self.path = refuse_url(Path(path))
        self._lock: locks.Lock | None = None
        self.settings = self.path / SETTINGS
        self.unfinished = self.path / UNFINISHED
        self.pool = self.path / "pool.npz"
        self.groups = self.path / "groups.parquet"
        self.others = self.path / "others"
        self.found = self.path / "found.csv"
        self.unreadable = self.path / "unreadable.csv"
        self.model = self.path / MODEL
        self.predictions = self.path / "predictions.csv"
        self.certified = self.path / "certified.csv"
        self.metrics = self.path / "metrics.json"
        self.evaluation = self.path / "evaluation.json"
        self.report = self.path / "report.html"
        self.figures = self.path / "figures"
        self.discovered = self.path / "discovered"
        self.sweep = self.path / "sweep.csv"
        self.tuning = self.path / "tuning.json"
        self.study = self.path / "study.db"
        self.baseline = self.path / "review"
        self.answers = self.path / "answers.db"
        self.map = self.path / "map.safetensors"
        self.vectors = self.path / "vectors"
        self.state = self.path / "state.json"
        self.checksums = self.path / "results.sha256"

    @property
    def results(self) -> list[Path]:
        """What is of one run, in the order in which it takes its place: without settings a run is not finished."""
        return [
            self.groups,
            self.pool,
            self.others,
            self.found,
            self.unreadable,
            self.model,
            self.predictions,
            self.certified,
            self.tuning,
            self.sweep,
            self.figures,
            self.report,
            self.metrics,
            self.evaluation,
            self.discovered,
            self.baseline,
            self.state,
            self.checksums,
            self.settings,
        ]

    @contextmanager
    def lock(self, doing: str) -> Iterator[None]:
        """Hold the folder for writing. Raises `OutputError` that says who holds it already."""
        with locks.locked(self.path / _LOCK, doing) as self._lock:
            self._finish_swap()
            if self._lock.safe:
                self._remove_leftovers()
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the results as they are while they are opened: those of one run, and not of two."""
        with locks.reading(self.path):  # a swap that goes on is waited for
            cut_off = self._cut_off() is not None
            if not cut_off:
                yield
        if cut_off:
            with self.lock("holotype"):
                pass  # it finishes the swap
            with locks.reading(self.path):
                yield

    def check(
        self, settings: Settings, *, force: bool = False, resume: bool = False, called: Callable[[str], str] = str
    ) -> None:
        """Raise `OutputError` when a run of `settings` may not go here: a finished one is there, or anything else.

        called   how a setting is called where it was given
        """
        place = named(str(self.path))
        given = (*settings.sources, *settings.supplied, settings.test_set)
        if ours := next((one for one in given if one and self._is_result(Path(one))), None):
            raise OutputError(
                f"{ours} is of the results in {place}, which new ones replace: copy it elsewhere, or change --out"
            )
        finished = self.settings.exists()
        if finished and not (force or resume):
            raise OutputError(
                f"{place} already holds a run; give --resume to go on with it, --force to write over it (vectors "
                "that were computed are used again), or another --out (in Python resume=True, force=True)"
            )
        known = self.known_settings() if finished and not force else []
        if known and all(others := [differences(settings, one, called) for one in known]):
            raise OutputError(
                f"{place} holds a run with other settings ({'; '.join(others[-1])}): "
                f"{command('run', place, '--resume')} goes on with its own, as they were given or were the default "
                "then; give --force to write over it with these, or another --out"
            )
        if not (finished or self.unfinished.exists()) and self._is_taken():
            raise OutputError(f"{place} is not empty and holds no run; give another --out")

    def _is_result(self, path: Path) -> bool:
        return any(path.absolute().is_relative_to(one.absolute()) for one in self.results)

    def known_settings(self) -> list[Settings]:
        """The settings of the finished run, and of one that was stopped."""
        return [Settings.load(path) for path in (self.settings, self.unfinished) if path.exists()]

    def _is_taken(self) -> bool:
        """Whether something is there that is somebody's work: no log of this very command, nothing hidden or empty.

        Answers alone are none in the way, as a run follows them, and a map none, as it can be made again.
        """
        if not self.path.is_dir():
            return self.path.exists()
        return not all(path in (self.answers, self.map) or is_nothing(path) for path in self.path.iterdir())

    def claim(self, settings: Settings) -> None:
        """Note that a run of `settings` goes here; what a finished one left stays until there are new results."""
        files.write(self.unfinished, settings.to_toml())

    def change_settings(self, settings: Settings) -> None:
        """Write other settings of the run that is here, and note what they are."""
        self.change({self.settings: settings.to_toml()})

    def change(self, contents: Mapping[Path, str | None]) -> None:
        """Write other contents of files of the run that is here, or remove them, and note what they are."""
        for path, content in contents.items():
            if content is not None:
                files.write(path, content)
            else:
                path.unlink(missing_ok=True)
        digests = read_checksums(self.checksums)
        if self._is_outdated(digests, self.metrics):
            self.checksums.unlink()  # else it would be newer than the results
        elif digests:
            names = {path: path.relative_to(self.path).as_posix() for path in contents}
            kept = {name: digest for name, digest in digests.items() if name not in names.values()}
            new = {name: file_digest(path) for path, name in names.items() if contents[path] is not None}
            write_checksums(self.checksums, kept | new)

    def _seal(self) -> None:
        """Note what the results are, so that it is seen when one is damaged, or of another run."""
        inside = [path for one in self.results for path in ([one] if one.is_file() else sorted(one.rglob("*")))]
        write_checksums(
            self.checksums,
            {path.relative_to(self.path).as_posix(): file_digest(path) for path in inside if path.is_file()},
        )

    def check_whole(self, kind: type[HolotypeError], *paths: Path) -> None:
        """Raise an error of `kind` where one of `paths` is not what the run left, or the run is not finished."""
        if self.unfinished.exists() and not self.settings.exists():
            raise kind(f"the run in {self.path} is not finished: let it end, or do {command('run', self.path)}")
        digests = read_checksums(self.checksums)
        names = {path: path.relative_to(self.path).as_posix() for path in paths if path.is_file()}
        with ThreadPoolExecutor() as threads:  # who opens a review waits for this
            whole = threads.map(lambda path: is_whole(path, digests, names[path]), names)
        for path, is_sound in zip(names, whole, strict=True):
            if not is_sound:
                if self._is_outdated(digests, path):
                    warnings.warn(
                        f"{self.checksums} is of an earlier run than the results, which another version of holotype "
                        "made again: not checked whether they are whole",
                        HolotypeWarning,
                        stacklevel=3,
                    )
                    return
                raise kind(
                    f"{path} is not what the run left there (it is damaged, or of another run: {self.checksums}); copy "
                    f"it again, or do the run again ({command('run', self.path)}): vectors and answers are kept"
                )

    def _is_outdated(self, digests: Mapping[str, str], path: Path) -> bool:
        """Whether a version that knows no list of digests did the run again, with `path`, and left the old list.

        No two runs have the same metrics, as these have times: a copy whose times are new is not taken for one.
        """
        if self.metrics.name not in digests or not self.metrics.is_file():
            return False
        since = self.checksums.stat().st_mtime_ns
        newer = all(one.stat().st_mtime_ns > since for one in (self.metrics, path))
        return newer and not is_whole(self.metrics, digests, self.metrics.name)

    def finish(self) -> None:
        """Note that the results are there."""
        self.unfinished.unlink(missing_ok=True)

    def read_settings(self, *, stopped: bool = False) -> Settings:
        """Return the settings of the run here, finished or not. Raises `HolotypeError` where there is none.

        stopped   those of a run that was stopped before it replaced the finished one, where there is one
        """
        if self.path.is_file():
            inside = next((one for one in self.path.absolute().parents if RunFolder(one).settings.exists()), None)
            meant = f"it is a file of {inside}" if inside else "a new run begins with holotype run --images"
            raise HolotypeError(f"expected the folder of a run, got the file {self.path}: {meant}")
        with self.reading():
            waiting = self.unfinished.exists() and (stopped or not self.settings.exists())
            path = self.unfinished if waiting else self.settings
            digests = read_checksums(self.checksums)
            edited = path == self.settings and path.is_file() and not is_whole(path, digests, path.name)
            if edited and not self._is_outdated(digests, path):
                warnings.warn(
                    f"{path} is not as holotype wrote it (it was edited, or is damaged): what it says now holds",
                    HolotypeWarning,
                    stacklevel=2,
                )
            return Settings.load(path)

    @contextmanager
    def replacing(self) -> Iterator["RunFolder"]:
        """Yield a folder for new results; they take the place of the old ones when all of them are there.

        To be called with the lock held. Raises `OutputError` when they cannot be written.
        """
        new = RunFolder(self.path / f"{_NEW}-{secrets.token_hex(4)}")
        try:
            yield new
            new._seal()
            if self._lock is not None:
                self._lock.check()
            with files.explain(self.path):
                self._swap(new)
        except BaseException:
            if self._cut_off() is None:  # else the next that comes goes on with the swap
                shutil.rmtree(new.path, ignore_errors=True)
            raise

    def _swap(self, new: "RunFolder") -> None:
        """Let the results in `new`, of which the first is always there, take the place of the old ones.

        Whatever happens in between, also to the power, either the old ones are whole or the new ones are.
        """
        files.sync(new.path)
        files.sync(self.path)
        with locks.changing(self.path):
            if new.results[0].exists():  # else that was begun before
                _remove(self.settings, new.path)
                files.sync(self.path)  # from here on the new ones count
                for old in reversed(self.results):
                    _remove(old, new.path)
            for fresh, place in zip(new.results, self.results, strict=True):
                if place == self.settings:
                    files.sync(self.path)
                if fresh.exists():
                    fresh.rename(place)
            files.sync(self.path)
            shutil.rmtree(new.path, ignore_errors=True)  # a system may have left something of its own in it

    def _cut_off(self) -> "RunFolder | None":
        """The new results whose swap was cut off: they are whole, and the old ones are not any more."""
        whole = [new for path in files.matching(self.path, f"{_NEW}*") if (new := RunFolder(path)).settings.exists()]
        return None if self.settings.exists() else next(iter(whole), None)

    def _finish_swap(self) -> None:
        new = self._cut_off()
        if new is not None:
            with files.explain(self.path):
                if new.results[0].exists() and not new.checksums.exists():  # a first run was killed just before it
                    new._seal()
                self._swap(new)
            self.finish()

    def _remove_leftovers(self) -> None:
        """Remove what killed processes left half-written."""
        for path in files.matching(self.path, f"{_NEW}*"):
            shutil.rmtree(path, ignore_errors=True)
        for whole in (self.unfinished, self.evaluation):
            for part in self.path.glob(f".{whole.name}.*.part"):
                part.unlink(missing_ok=True)

    def open_store(self, encoder: Encoder, pool: Pool, supplied: Sequence[Path] = ()) -> EmbeddingStore:
        """Return the vectors of `encoder`; those in `supplied`, or elsewhere on this machine, are taken over."""
        return open_shared(self.vectors / encoder.name_on_disk, encoder, pool, *supplied)

    @property
    def stores(self) -> list[Path]:
        """The folders of vectors, one for each encoder."""
        return [*self.vectors.glob("*")]

    def open_answers(self, rules: Rules | None = None) -> AnswerLog:
        """Return the log of answers, which is made where there is none. Raises `AnswersError`."""
        return AnswerLog(self.answers, rules)

    def read_answers(self) -> list[Answer]:
        """Return the answers that hold; none where nobody gave any."""
        if not self.answers.exists():
            return []
        with self.open_answers() as log:
            return log.current()

    def copy_answers(self, other: "RunFolder") -> str:
        """Take over the answers of another run, if there are none here; return what was done, in words."""
        if not other.answers.exists() or other.path.resolve() == self.path.resolve():
            return ""
        if self.answers.exists():
            return f"answers: {self.answers} has its own; those in {other.answers} are not taken over"
        with other.open_answers() as log:
            log.copy(self.answers)
            return f"answers: {len(log.current()):,} taken over from {other.answers}"

    def read_baseline(self, classes: Sequence[str], pool: Pool) -> ReviewBaseline:
        """Return what a review of `pool` starts from, its classes in the order of `classes`.

        Its rows are those of the pool as it is now (`ReviewBaseline.following`). Raises `AnswersError` where it is not
        whole, or of other images or classes.
        """
        return self.load_baseline().following(pool).in_order(classes)

    def load_baseline(self) -> ReviewBaseline:
        """Return what a review starts from, as the run left it. Raises `AnswersError` where it is not whole."""
        self.check_whole(AnswersError, *(path for path in self.baseline.glob("*") if path.name != FOUND_BY))
        return ReviewBaseline.load(self.baseline)

    def read_before(self) -> ReviewBaseline | None:
        """Return what the run here found, for one that is done again; None where it is not all there as it was left."""
        digests = read_checksums(self.checksums)
        with suppress(OSError, AnswersError):
            kept = ((path, path.relative_to(self.path).as_posix()) for path in self.baseline.glob("*"))
            if all(file_digest(path) == digests.get(name) for path, name in kept):
                return ReviewBaseline.load(self.baseline, whole=True)
        return None

    def load_model(self) -> Classifier:
        """Return the classifier of the run. Raises `ModelError` where it is not whole."""
        self.check_whole(ModelError, self.model / DESCRIPTION_FILE)  # which knows the others
        try:
            return Classifier.load(self.path)
        except ModelError as error:
            again = f"{command('run', self.path)} makes it again: vectors and answers are kept"
            raise ModelError(f"{error}; {again}") from error


def _remove(path: Path, aside: Path) -> None:
    """Remove a result. A folder goes into `aside` first: on NFS and FUSE it cannot go while a file of it is open."""
    if path.is_dir() and not path.is_symlink():
        path.rename(aside / f"{_OLD}-{path.name}")
    else:
        path.unlink(missing_ok=True)
