"""A head that answers for new images: each row is judged by a head that has not learnt from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.model.calibration import Calibration, calibrate
from holotype.model.heads import Head, averaged, fit_head
from holotype.model.rows import Training
from holotype.progress import Step, no_step
from holotype.settings import HeadName, HeadSettings


@dataclass(frozen=True)
class CrossFit:
    """A head, its calibration, and what it says of the rows that it was calibrated on.

    head            the mean of one head for each fold that was held out
    rows            (m,) places in the training of the rows that were held out
    probabilities   (m, K + 1) of these, by the head that did not learn from them
    """

    head: Head
    calibration: Calibration
    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def cross_fit(name: HeadName, settings: HeadSettings, training: Training, seed: int, step: Step = no_step) -> CrossFit:
    """Fit a head for each fold of `training` that is held out, and calibrate them on what they have not seen.

    Where no row can be held out, one head learns from all, and its probabilities are not fitted to anything. `step` is
    called after each head.
    """
    count, heads, scores = training.targets.shape[1], [], np.zeros(training.targets.shape)
    folds: list[int | None] = [*training.folds] or [None]
    for fold in folds:
        fit = training.without(fold)
        held = fit if fold is None else training.held_out(fold)
        heads.append(fit_head(name, settings, fit, held, count, seed))
        if fold is not None:
            scores[training.places(fold)] = heads[-1].scores(held.X)
        step()
    rows = np.flatnonzero((training.fold >= 0) & (training.stands > 0))
    calibration = calibrate(scores[rows], training.targets[rows], training.stands[rows], training.told[rows])
    return CrossFit(averaged(heads), calibration, rows, calibration.probabilities(scores[rows]))
