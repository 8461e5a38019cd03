"""python -m benchmarks.constants: how the constants of `holotype.ranking` are chosen, on development classes alone.

Each row of the first table changes one constant; what is chosen on one pool is judged on the other. Then the formula
of `Ranking.probabilities` is fitted: on both pools, which is what `_ESTIMATE` holds, and on each alone, judged on the
other.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.episodes import Episode, episodes
from benchmarks.figures import calibration_error, judge
from benchmarks.methods import Spaces, answered, ranked
from benchmarks.pools import ENCODERS, POOLS, load
from holotype.grouping import graph
from holotype.grouping.graph import Ranking
from holotype.settings import RankSettings

TRIPLES, DRAWS = 8, 3
UNCHANGED = "nothing"
REACHED = 0.003  # density below which an image is not looked at
AROUND: Mapping[str, Sequence[Any]] = {
    "_FALL": [(0.5, 0.2), (0.7, 0.4), (0.6, 0.15), (0.8, 0.3)],
    "_SUREST": [20, 80],
    "_FAITH": [0.2, 0.6],
    "_RESTART": [0.05, 0.2],
    "_NEIGHBOURS": [20, 45],
}
Rows = tuple[NDArray[np.float64], NDArray[np.bool_]]


def choices() -> Iterator[dict[str, Any]]:
    """Yield what is changed: nothing, then one constant at a time."""
    yield {}
    for name, values in AROUND.items():
        for value in values:
            yield {name: value}


def quality(spaces: Spaces, changed: Mapping[str, Any]) -> float:
    """Return the mean F1 over development episodes with the constants `changed`."""
    with patch.multiple(graph, **{"_FALL": graph._FALL, **changed}):
        return float(np.mean([_f1(spaces, episode) for episode in _episodes(spaces)]))


def _episodes(spaces: Spaces) -> Iterator[Episode]:
    return episodes(spaces.truth, spaces.truth.development, TRIPLES, DRAWS)


def _f1(spaces: Spaces, episode: Episode) -> float:
    exemplars = episode.first(1)
    found = answered(ranked(spaces, exemplars, RankSettings()), len(spaces.truth.vectors))
    return judge(spaces.truth, episode, exemplars, found)["f1"]


def rows_of(spaces: Spaces) -> Rows:
    """Return (log10 density, conductance) of what is reached in development episodes, and whether it is right."""
    seen, right = [], []
    for episode in _episodes(spaces):
        found = ranked(spaces, episode.first(1), RankSettings())
        for k, name in enumerate(episode.names):
            features, rows = _reached(found, k)
            seen.append(features)
            right.append(spaces.truth.classes[rows] == name)
    return np.concatenate(seen), np.concatenate(right)


def _reached(found: Ranking, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    kept = found.density[:, k] > REACHED
    outside = np.full(int(kept.sum()), found.cuts[k].conductance)
    return np.stack([np.log10(found.density[kept, k]), outside], axis=1), found.candidates[kept]


def fit(parts: Sequence[Rows]) -> NDArray[np.float64]:
    """Return base, and the coefficients of density and conductance."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e6).fit(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return np.concatenate([model.intercept_, model.coef_.ravel()])


def table(found: Mapping[str, Sequence[float]], columns: Sequence[str]) -> str:
    """Return the F1 of each choice, one column for each pool and encoder, as Markdown."""
    lines = [f"| changed | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |" for name, values in found.items()]
    return "\n".join(lines)


def leave_out(found: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Say for each pool what would be chosen on the others, and what that is worth there."""
    means = {name: np.reshape(values, (len(POOLS), -1)).mean(axis=1) for name, values in found.items()}
    for place, pool in enumerate(POOLS):
        chosen = max(means, key=lambda name: float(np.delete(means[name], place).mean()))
        there, usual = means[chosen][place], means[UNCHANGED][place]
        yield f"chosen without {pool}: {chosen}; F1 there {there:.3f}, unchanged {usual:.3f}"


def carried_over(parts: Mapping[tuple[str, str], Rows]) -> Iterator[str]:
    """Say how far off the estimate is on a pool that it was not fitted on."""
    for left_out in POOLS:
        formula = fit([rows for key, rows in parts.items() if key[0] != left_out])
        for encoder in ENCODERS:
            seen, right = parts[left_out, encoder]
            stated = 1 / (1 + np.exp(-(formula[0] + seen @ formula[1:])))
            sure = stated >= np.quantile(stated, 0.99)
            pairs = [(p, bool(t)) for p, t in zip(stated, right, strict=True) if p > 0.01]
            yield (
                f"fitted without {left_out}, there with {encoder}: calibration error {calibration_error(pairs):.3f}; "
                f"the surest hundredth: stated {stated[sure].mean():.2f}, right {right[sure].mean():.2f}"
            )


def main() -> int:
    """Print the tables."""
    spaces = {(pool, encoder): Spaces(load(pool, encoder)) for pool in POOLS for encoder in ENCODERS}
    found: dict[str, list[float]] = {}
    for changed in choices():
        name = ", ".join(f"{key.strip('_').lower()} {value}" for key, value in changed.items()) or UNCHANGED
        found[name] = [quality(one, changed) for one in spaces.values()]
        print(name, *(f"{value:.3f}" for value in found[name]), file=sys.stderr, flush=True)
    print(table(found, [", ".join(key) for key in spaces]), *leave_out(found), sep="\n")
    parts = {key: rows_of(one) for key, one in spaces.items()}
    print("estimate, from both pools:", np.round(fit(list(parts.values())), 2).tolist())
    print(*carried_over(parts), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
