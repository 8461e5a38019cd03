"""A head that answers for new images: each row is judged by a head that has not learnt from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.model.calibration import Calibration, calibrate
from holotype.model.heads import Head, averaged, fit_head
from holotype.model.predictions import classified
from holotype.model.rows import Training
from holotype.progress import Step, no_step
from holotype.settings import HeadName, HeadSettings


@dataclass(frozen=True)
class Answered:
    """Of the images that people said show a class (`shown`), how many the model gave it (`found`); `taken` in all.

    Each was judged by a head that had not learnt from it. What is asked about is harder than the rest of a pool.
    """

    name: str
    shown: int
    found: int
    taken: int


@dataclass(frozen=True)
class CrossFit:
    """A head, its calibration, and what it says of the rows that it was calibrated on.

    head            the mean of one head for each fold that was held out
    rows            (m,) places in the training of the rows that were held out
    probabilities   (m, K + 1) of these, by the head that did not learn from them
    answered        per class how the images that people answered were judged while they were held out
    """

    head: Head
    calibration: Calibration
    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    answered: Sequence[Answered]


def cross_fit(name: HeadName, settings: HeadSettings, training: Training, seed: int, step: Step = no_step) -> CrossFit:
    """Fit a head for each fold of `training` that is held out, and calibrate them on what they have not seen.

    Where no row can be held out, one head learns from all, and its probabilities are not fitted to anything. `step` is
    called after each head. The mlp stops early by another fold: what calibrates it has told it nothing.
    """
    count, heads, scores = training.targets.shape[1], [], np.zeros(training.targets.shape)
    for fold in training.folds:
        fit, watched = training.watched(fold) if name == "mlp" else (training.without(fold),) * 2
        heads.append(fit_head(name, settings, fit, watched, count, seed))
        scores[training.places(fold)] = heads[-1].scores(training.X[training.places(fold)])
        step()
    if not heads:
        heads.append(fit_head(name, settings, everything := training.without(), everything, count, seed))
        step()
    rows = np.flatnonzero((training.fold >= 0) & (training.stands > 0))
    targets, stands, trust = training.targets[rows], training.stands[rows], training.trust[rows]
    calibration = calibrate(scores[rows], targets, stands, training.said[rows], trust)
    probabilities = calibration.probabilities(scores[rows])
    told = training.told[rows]
    given = classified(probabilities[told], calibration.thresholds)
    return CrossFit(averaged(heads), calibration, rows, probabilities, _answered(training, rows[told], given))


def _answered(training: Training, rows: NDArray[np.int64], given: NDArray[np.int64]) -> list[Answered]:
    certain, found = training.targets[rows] == 1, []
    for k, name in enumerate(training.classes[:-1]):
        taken = given == k
        found.append(Answered(name, int(certain[:, k].sum()), int((taken & certain[:, k]).sum()), int(taken.sum())))
    return found
