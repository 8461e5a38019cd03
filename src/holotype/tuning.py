"""Search over the head's hyperparameters, on training rows only: no function here can receive test rows."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from holotype.calibration import softmax
from holotype.heads import TrainingRows, fit_head
from holotype.progress import Progress, Silent
from holotype.settings import HeadName, HeadSettings

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Tuned:
    """The best settings found, their validation loss, the loss of the settings before, and the trials done."""

    settings: HeadSettings
    loss: float
    loss_before: float
    trials: int


def validation_loss(
    name: HeadName, settings: HeadSettings, fit: TrainingRows, validation: TrainingRows, classes: int, seed: int
) -> float:
    """Return the weighted log-loss on the validation rows of a head fitted on the fit rows."""
    head = fit_head(name, settings, fit, validation, classes, seed)
    chances = softmax(head.scores(validation.X))[np.arange(len(validation.y)), validation.y]
    return float(-(validation.weights * np.log(np.maximum(chances, 1e-12))).sum() / validation.weights.sum())


def tune(
    name: HeadName,
    start: HeadSettings,
    fit: TrainingRows,
    validation: TrainingRows,
    classes: int,
    *,
    trials: int,
    study: Path,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tuned:
    """Try `trials` settings with TPE (Bergstra et al., NeurIPS 2011); those in the SQLite file `study` count.

    The settings from before are the first trial, so the result is never worse on the validation rows.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        search = optuna.create_study(
            study_name=name,
            storage=f"sqlite:///{study}",
            sampler=optuna.samplers.TPESampler(seed=seed),
            load_if_exists=True,
        )
    if not search.trials:
        search.enqueue_trial({key: getattr(start, key) for key in _SPACE[name]})
    with (progress or Silent()).track(f"tune ({name})", trials) as advance:
        done = sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in search.trials)
        advance(min(done, trials))
        for _ in range(trials - done):
            trial = search.ask()
            settings = _suggest(trial, name, start)
            search.tell(trial, validation_loss(name, settings, fit, validation, classes, seed))
            advance(1)
    best = start.model_copy(update=search.best_params)
    return Tuned(best, float(search.best_value), float(search.trials[0].value or np.nan), len(search.trials))


_SPACE: dict[HeadName, tuple[str, ...]] = {
    "linear": ("strength",),
    "mlp": ("learning_rate", "units", "dropout", "weight_decay"),
}


def _suggest(trial: "optuna.Trial", name: HeadName, start: HeadSettings) -> HeadSettings:
    if name == "linear":
        return start.model_copy(update={"strength": trial.suggest_float("strength", 1e-5, 10, log=True)})
    return start.model_copy(
        update={
            "learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
            "units": trial.suggest_categorical("units", [32, 64, 128, 256, 512]),
            "dropout": trial.suggest_float("dropout", 0.0, 0.7),
            "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
        }
    )
