"""python -m benchmarks.estimate: fit the formula of `ranking.Ranking.chances` on development classes.

Prints the coefficients from both pools, which `ranking._ESTIMATE` holds, and how far off they are on a pool that they
were not fitted on.
"""

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods import Spaces, ranked
from benchmarks.pools import ENCODERS, POOLS, Truth, load
from benchmarks.quality import calibration_error, episodes
from holotype.settings import RankSettings

TRIPLES, DRAWS = 8, 3
REACHED = 0.003  # density below which an image is not looked at
Rows = tuple[NDArray[np.float64], NDArray[np.bool_]]


def rows_of(truth: Truth) -> Rows:
    """Return (log10 density, conductance) of what is reached in development episodes, and whether it is right."""
    spaces = Spaces(truth)
    seen, right = [], []
    for episode in episodes(truth, truth.development, TRIPLES, DRAWS):
        ranking = ranked(spaces, episode.first(1), RankSettings())
        for k, name in enumerate(episode.names):
            density = ranking.density[:, k]
            kept = density > REACHED
            outside = np.full(int(kept.sum()), ranking.cuts[k].conductance)
            seen.append(np.stack([np.log10(density[kept]), outside], axis=1))
            right.append(truth.classes[ranking.candidates[kept]] == name)
    return np.concatenate(seen), np.concatenate(right)


def fit(parts: Sequence[Rows]) -> NDArray[np.float64]:
    """Return base, and the coefficients of density and conductance."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e6).fit(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return np.concatenate([model.intercept_, model.coef_.ravel()])


def main() -> int:
    """Print the coefficients and the errors."""
    found = {pool: [rows_of(load(pool, encoder)) for encoder in ENCODERS] for pool in POOLS}
    print("both pools:", np.round(fit([rows for parts in found.values() for rows in parts]), 2).tolist())
    for left_out, parts in found.items():
        formula = fit([rows for pool, others in found.items() if pool != left_out for rows in others])
        for encoder, (seen, right) in zip(ENCODERS, parts, strict=True):
            stated = 1 / (1 + np.exp(-(formula[0] + seen @ formula[1:])))
            sure = stated >= np.quantile(stated, 0.99)
            pairs = [(p, bool(t)) for p, t in zip(stated, right, strict=True) if p > 0.01]
            print(
                f"fitted without {left_out}, there with {encoder}: calibration error {calibration_error(pairs):.3f}; "
                f"the surest hundredth: stated {stated[sure].mean():.2f}, right {right[sure].mean():.2f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
