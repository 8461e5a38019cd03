"""Search over the head's hyperparameters, on training rows only: no function here can receive test rows."""

import hashlib
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from holotype import files
from holotype.checksums import digest_of_values
from holotype.encoders.graph import first_line
from holotype.errors import OutputError
from holotype.filestate import regular
from holotype.locks import has_locks
from holotype.model.calibration import softmax
from holotype.model.heads import TrainingRows, Watch, fit_head
from holotype.progress import Progress, Silent
from holotype.settings import HeadName, HeadSettings, Threshold

if TYPE_CHECKING:
    import optuna

_CHECKSUM = "sha256"  # of a trial, beside it
_DAMAGED = "it is damaged; move it away, and the trials begin anew"
_AGAIN = "and give the same command again: finished trials are kept"
_REASONS = {
    sqlite3.SQLITE_FULL: f"no space left on the disk; free some space, {_AGAIN}",
    sqlite3.SQLITE_IOERR: f"the disk refuses to be written or read; free some space or check it, {_AGAIN}",
    sqlite3.SQLITE_BUSY: f"another program holds it, or its file system has no locks; close that program, {_AGAIN}",
    sqlite3.SQLITE_READONLY: f"it can only be read; let this user write there, {_AGAIN}",
    sqlite3.SQLITE_CANTOPEN: f"it cannot be opened; check that it is no folder and may be written, {_AGAIN}",
    sqlite3.SQLITE_NOTADB: "it is no study (no SQLite database); move it away, and the trials begin anew",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
}
Parts = tuple[TrainingRows, TrainingRows]  # to fit, and to validate


@dataclass(frozen=True)
class Tuned:
    """The best settings found, their validation loss, the loss of the settings before, and the trials done."""

    settings: HeadSettings
    threshold: Threshold
    loss: float
    loss_before: float
    trials: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(self.__dict__) | {"settings": self.settings.model_dump()}


def validation_loss(
    name: HeadName,
    settings: HeadSettings,
    fit: TrainingRows,
    validation: TrainingRows,
    classes: int,
    seed: int,
    watch: Watch = lambda _epoch, _loss: None,
) -> float:
    """Return the weighted log-loss on the validation rows of a head fitted on the fit rows."""
    head = fit_head(name, settings, fit, validation, classes, seed, watch)
    probabilities = softmax(head.scores(validation.X))[np.arange(len(validation.y)), validation.y]
    return float(-(validation.weights * np.log(np.maximum(probabilities, 1e-12))).sum() / validation.weights.sum())


def tune(
    name: HeadName,
    start: HeadSettings,
    candidates: Mapping[Threshold, Parts],
    classes: int,
    *,
    trials: int,
    study: Path,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tuned:
    """Try `trials` settings with TPE (Bergstra et al., NeurIPS 2011); those in the SQLite file `study` count.

    start        the settings from before; where no trial is better on the validation rows, they stay
    candidates   threshold -> the rows that it gives, that of `start` first; with several, the threshold is searched
                 as well. All must validate on the same rows with the same labels.

    Trials of the mlp that fall behind are given up early (successive halving, Li et al., MLSys 2020). A study
    belongs to its rows: with others, a new one begins in the same file.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    files.make_folder(study.parent)
    keys = {str(threshold): threshold for threshold in candidates}
    with _explain(study), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna_study = _open(study, f"{name}-{_digest(start, candidates)}")
        optuna_study.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)

    def objective(trial: optuna.Trial) -> float:
        steps: dict[int, float] = {}

        def watch(epoch: int, loss: float) -> None:
            steps[epoch + 1] = loss
            trial.report(loss, epoch + 1)
            if trial.should_prune():
                trial.set_user_attr(_CHECKSUM, _checksum(trial.params, steps, None))
                raise optuna.TrialPruned

        parts = candidates[keys[trial.suggest_categorical("threshold", list(keys))]]
        loss = validation_loss(name, _suggest(trial, name, start), *parts, classes, seed, watch)
        trial.set_user_attr(_CHECKSUM, _checksum(trial.params, steps, loss))
        return loss

    with _explain(study), (progress or Silent()).track(f"tune ({name})", trials) as advance:
        done = sum(trial.state.is_finished() for trial in optuna_study.trials)
        advance(min(done, trials))
        for number in range(done, trials):  # each by its own seed: a study that goes on tries what it would have tried
            optuna_study.sampler = optuna.samplers.TPESampler(seed=seed + number)
            optuna_study.optimize(objective, n_trials=1)
            advance(1)
        loss, best = optuna_study.best_value, dict(optuna_study.best_params)
    first = next(iter(candidates))
    before = validation_loss(name, start, *candidates[first], classes, seed)
    if loss >= before:
        return Tuned(start, first, before, before, max(done, trials))
    threshold = keys[best.pop("threshold")]
    return Tuned(start.model_copy(update=best), threshold, loss, before, max(done, trials))


def _open(study: Path, name: str) -> "optuna.Study":
    """Return the study called `name`, which is made where there is none. Raises `OutputError` where it is damaged."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if regular(study).exists():
            with closing(sqlite3.connect(study)) as file:
                faults = [text for (text,) in file.execute("PRAGMA integrity_check(1)") if text != "ok"]
        else:
            faults = []
        found = optuna.create_study(study_name=name, storage=_address(study), load_if_exists=True)
        faults += [f"trial {one.number}" for one in found.trials if one.state.is_finished() and not _is_whole(one)]
    except (sqlite3.Error, SQLAlchemyError, optuna.exceptions.StorageInternalError):
        raise
    except Exception as error:  # what it holds is parsed in many ways
        faults = [first_line(error)]
    if faults:
        raise OutputError(f"cannot use {study}: {_DAMAGED} ({' '.join(faults[0].split())})")
    return found


def _is_whole(trial: "optuna.trial.FrozenTrial") -> bool:
    """Whether a trial is as it was done; one of an earlier version does not say."""
    loss = trial.value if trial.state.name == "COMPLETE" else None
    return trial.user_attrs.get(_CHECKSUM) in (None, _checksum(trial.params, trial.intermediate_values, loss))


def _checksum(params: Mapping[str, Any], steps: Mapping[int, float], loss: float | None) -> str:
    return digest_of_values({"params": dict(params), "steps": [*steps.items()], "loss": loss})


def _address(study: Path) -> str:
    """Where a disk has no locks, SQLite must do without: who tunes holds the folder of the run, or was warned."""
    locked = "" if has_locks(study.parent) else "nolock=1&"
    return f"sqlite:///file:{quote(str(study.absolute()))}?{locked}uri=true"


@contextmanager
def _explain(study: Path) -> Iterator[None]:
    """Say what keeps the study from being read or written; the trials that are in it are kept."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (sqlite3.Error, SQLAlchemyError, StorageInternalError) as error:
        cause: BaseException = error
        while not isinstance(cause, sqlite3.Error):
            cause = cause.__cause__ or cause.__context__ or sqlite3.Error(str(error))
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # without what it adds to the kind of fault
        raise OutputError(f"cannot use {study}: {_REASONS.get(code, f'{cause}; check the disk')}") from error


def _suggest(trial: "optuna.Trial", name: HeadName, start: HeadSettings) -> HeadSettings:
    if name == "linear":
        return start.model_copy(update={"strength": trial.suggest_float("strength", 1e-2, 1e3, log=True)})
    return start.model_copy(
        update={
            "learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
            "units": trial.suggest_int("units", 16, 512, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.7),
            "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
        }
    )


def _digest(start: HeadSettings, candidates: Mapping[Threshold, Parts]) -> str:
    digest = hashlib.sha256(start.model_dump_json().encode())
    for threshold, parts in candidates.items():
        digest.update(str(threshold).encode())
        for rows in parts:
            for array in (rows.X, rows.y, rows.weights):
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
