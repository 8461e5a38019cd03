"""python -m benchmarks.constants: how the constants of the method are chosen, on development classes alone.

Without an option those of `holotype.grouping.graph`: each row of the first table changes one constant; what is chosen
on one pool is judged on the other. Then the formula of `Ranking.probabilities` is fitted: on both pools, which is what
`_ESTIMATE` holds, and on each alone, judged on the other.

    --feedback   those of `holotype.answers.feedback`, with efficientnet_lite0: `_COMBINED` is fitted to what a
                 simulated reviewer's answers lead to, the others are changed one at a time
    --space      those of `holotype.grouping.space`, each changed one at a time
    --questions  those of `holotype.review.queries`: F1 after 30 answers, with efficientnet_lite0
    --quick      few episodes, and efficientnet_lite0 alone: to see that it runs, and the order of things
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.answers import OURS, REVIEWERS, begin, figures, review
from benchmarks.episodes import Episode, episodes
from benchmarks.figures import calibration_error, judge, log_loss
from benchmarks.methods import Spaces, answered, grouped, ranked
from benchmarks.pools import BUILT_ON, ENCODERS, load
from holotype.answers import feedback
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.feedback import sigmoid
from holotype.answers.refine import Refined, exemplar_logits
from holotype.grouping import graph, space
from holotype.grouping.ranking import Ranking
from holotype.review import queries
from holotype.settings import RankSettings

TRIPLES, DRAWS = 8, 3
QUICK = 2, 1
UNCHANGED = "nothing"
REACHED = 0.003  # density below which an image is not looked at
AROUND: Mapping[str, Sequence[Any]] = {
    "_FALL": [(0.5, 0.2), (0.7, 0.4), (0.6, 0.15), (0.8, 0.3)],
    "_SUREST": [20, 80],
    "_FAITH": [0.2, 0.6],
    "_RESTART": [0.05, 0.2],
    "_NEIGHBOURS": [20, 45],
    "_SHARPNESS": [1, 5],
    "_STEPS": [20, 200],
    "_FARTHEST": [0.02, 0.1],
    "_REACH": [1e-5, 1e-3],
    "_ALONE": [0.005, 0.08],
    "_APART": [0.0, 0.005],
    "_THIRD": [0, 9],
    "_LEAST": [2, 10],
    "_RIDGE": [0.001, 0.01],
    "_MARGIN": [0.0, 0.5],
    "_NEGATIVES": [500, 8000],
    "_FEWEST": [500, 2000],
    "_MOST": [600],
}
SPACE: Mapping[str, Sequence[Any]] = {
    "_PAIRED": [3, 10],
    "_PAIRED_AGAIN": [5, 20],
    "_AVERAGED": [1, 4],
    "_SHARPNESS": [1, 6],
    "_COARSE": [128],
    "_DIRECTIONS": [128, 512],
    "_SHRINKAGE": [0.01, 0.2],
}
QUESTIONS: Mapping[str, Sequence[Any]] = {
    "_DEEP": [200, 800],
    "_WIDE": [2.0, 8.0],
    "_APART": [0.0, 1.0],
    "_TINY": [5.0, 20.0],
    "_LIKELY": [-4.0, -2.0],
    "FIRST_ANSWERS": [10, 30],
    "_AUDITED": [2, 5],
}
REFITTED = (10, 20, 30)  # answers of a class after which the formula is fitted
LEARNT: Mapping[str, Sequence[Any]] = {"_STRENGTH": [10.0, 90.0], "_NO": [0.5, 2.0], "_FADING": [0.03, 0.3]}
REVIEWS, COMPARED = 8, 4  # episodes of a pool that the formula is fitted on, and that each change is tried on
NEGLIGIBLE = 0.01  # probability below which an image is not looked at
Rows = tuple[NDArray[np.float64], NDArray[np.bool_]]


def choices(around: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield what is changed: nothing, then one constant at a time."""
    yield {}
    for name, values in around.items():
        for value in values:
            yield {name: value}


def named(changed: Mapping[str, Any]) -> str:
    """Return what a row of a table is called."""
    return ", ".join(f"{key.strip('_').lower()} {value}" for key, value in changed.items()) or UNCHANGED


def with_constants(module: ModuleType, changed: Mapping[str, Any]) -> Any:
    """Return a context in which the constants of `module` are `changed`."""
    return patch.multiple(module, **({"__doc__": module.__doc__} | dict(changed)))  # it refuses to patch nothing


def quality(spaces: Spaces, module: ModuleType, changed: Mapping[str, Any], size: tuple[int, int]) -> float:
    """Return the mean F1 over development episodes, `size` (triples, draws), with constants of `module` `changed`."""
    with with_constants(module, changed):
        own = Spaces(spaces.truth) if module is space else spaces  # a space is kept once it is fitted
        return float(np.mean([_f1(own, episode) for episode in _episodes(own, size)]))


def _episodes(spaces: Spaces, size: tuple[int, int]) -> Iterator[Episode]:
    return episodes(spaces.truth, spaces.truth.development, *size)


def _f1(spaces: Spaces, episode: Episode) -> float:
    exemplars = episode.first(1)
    found = answered(grouped(spaces, exemplars, RankSettings()))
    return judge(spaces.truth, episode, exemplars, found)["f1"]


def rows_of(spaces: Spaces, size: tuple[int, int]) -> Rows:
    """Return (log10 density, conductance) of what is reached in development episodes, and whether it is right."""
    seen, right = [], []
    for episode in _episodes(spaces, size):
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
    """Return base, and the coefficient of each column."""
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
    means = {name: np.reshape(values, (len(BUILT_ON), -1)).mean(axis=1) for name, values in found.items()}
    for place, pool in enumerate(BUILT_ON):
        chosen = max(means, key=lambda name: float(np.delete(means[name], place).mean()))
        there, usual = means[chosen][place], means[UNCHANGED][place]
        yield f"chosen without {pool}: {chosen}; F1 there {there:.3f}, unchanged {usual:.3f}"


def carried_over(parts: Mapping[tuple[str, str], Rows]) -> Iterator[str]:
    """Say how far off the estimate is on a pool that it was not fitted on."""
    for left_out in BUILT_ON:
        formula = fit([rows for key, rows in parts.items() if key[0] != left_out])
        for encoder in sorted({key[1] for key in parts}):
            seen, right = parts[left_out, encoder]
            stated = 1 / (1 + np.exp(-(formula[0] + seen @ formula[1:])))
            sure = stated >= np.quantile(stated, 0.99)
            pairs = [(p, bool(t)) for p, t in zip(stated, right, strict=True) if p > 0.01]
            yield (
                f"fitted without {left_out}, there with {encoder}: calibration error {calibration_error(pairs):.3f}; "
                f"the surest hundredth: stated {stated[sure].mean():.2f}, right {right[sure].mean():.2f}"
            )


def reviewed(spaces: Spaces, episode: Episode, number: int) -> Iterator[tuple[int, ReviewBaseline, Refined]]:
    """Yield (answers of a class, what it began with, what they led to) after 10, 20 and 30 answers of a reviewer."""
    start = begin(spaces, episode.first(1), str(number))
    for count, refined in review(spaces.truth, episode, start, REVIEWERS[OURS], number):
        if count in REFITTED:
            yield count, start, refined
        if count == max(REFITTED):
            return


def learnt_rows(spaces: Spaces, reviews: int) -> tuple[Rows, list[float]]:
    """Return (learnt score in deviations, fading prior) of images that nobody asked about, and whether they are right.

    And the F1 of each of the `reviews` after 30 answers.
    """
    seen, right, worth = [], [], []
    for number, episode in enumerate(_episodes(spaces, (reviews, 1))):
        for count, start, refined in reviewed(spaces, episode, number):
            for k, name in enumerate(episode.names):
                if np.isfinite(refined.models[k].losses[0]):  # with at least one "yes"
                    features, rows = _learnt(start, refined, k)
                    seen.append(features)
                    right.append(spaces.truth.classes[rows] == name)
            if count == max(REFITTED):
                worth.append(figures(spaces.truth, episode, episode.first(1), refined)["f1"])
    return (np.concatenate(seen), np.concatenate(right)), worth


def _learnt(start: ReviewBaseline, refined: Refined, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Take the two parts of a class's logits apart again, for the rows that are not decided by an answer."""
    base, by_score, by_prior = feedback._COMBINED
    positives = len(start.exemplars[k]) + len(refined.index.learnable(k)[0])
    logits, prior = refined.untrusted_logits[:, k], exemplar_logits(start.groups)[0][:, k]
    faded = prior / (1 + feedback._FADING * positives)
    score = (logits - base - by_prior * faded) / by_score
    asked = np.concatenate([refined.answered, refined.audited, np.array(list(start.exemplar_rows), np.int64)])
    rows = np.setdiff1d(np.flatnonzero(sigmoid(logits) > NEGLIGIBLE), asked)
    return np.stack([score[rows], faded[rows]], axis=1), rows


def after_answers(spaces: Spaces, module: ModuleType, changed: Mapping[str, Any], reviews: int) -> list[float]:
    """Return the F1 of each of the `reviews` after 30 answers, with constants of `module` `changed`."""
    with with_constants(module, changed):
        return learnt_rows(spaces, reviews)[1]


def judged(formula: Sequence[float] | NDArray[np.float64], rows: Rows) -> str:
    """Say how good the probabilities of a `formula` (base, per deviation, per unit of the prior) are."""
    seen, right = rows
    stated = sigmoid(formula[0] + seen @ np.asarray(formula[1:]))
    pairs = list(zip(stated.tolist(), right.tolist(), strict=True))
    return f"log-loss {log_loss(pairs):.4f}, calibration error {calibration_error(pairs):.3f}"


def feedback_tables(quick: bool) -> None:
    """Print what `_COMBINED` is when it is fitted, and the F1 with the other constants changed."""
    reviews, compared = (2, 1) if quick else (REVIEWS, COMPARED)
    spaces = {pool: Spaces(load(pool, ENCODERS[0])) for pool in BUILT_ON}
    learnt = {pool: learnt_rows(one, reviews) for pool, one in spaces.items()}
    parts = {pool: rows for pool, (rows, _) in learnt.items()}
    for pool, (seen, right) in parts.items():
        print(f"{pool}: {reviews} reviews, {len(seen):,} images, {right.mean():.3f} right")
    print("combined, in the code:", list(feedback._COMBINED))
    print("combined, from both pools:", np.round(fit(list(parts.values())), 2).tolist())
    for pool, other in [*pairwise(BUILT_ON), *pairwise(reversed(list(BUILT_ON)))]:
        formula = fit([parts[pool]])
        print(f"combined, from {pool}: {np.round(formula, 2).tolist()}; on {other}: {judged(formula, parts[other])}")
        print(f"the code's on {other}: {judged(feedback._COMBINED, parts[other])}", flush=True)
    found = reviewed_with(spaces, feedback, LEARNT, compared)
    print(f"F1 after {max(REFITTED)} answers, {compared} reviews:", table(found, list(BUILT_ON)), sep="\n")


def reviewed_with(
    spaces: Mapping[str, Spaces], module: ModuleType, around: Mapping[str, Sequence[Any]], reviews: int
) -> dict[str, list[float]]:
    """Return the mean F1 after 30 answers, of each pool, with each constant of `module` changed."""
    found: dict[str, list[float]] = {}
    for changed in choices(around):
        name = named(changed)
        found[name] = [float(np.mean(after_answers(one, module, changed, reviews))) for one in spaces.values()]
        print(name, *(f"{value:.3f}" for value in found[name]), file=sys.stderr, flush=True)
    return found


def question_tables(quick: bool) -> None:
    """Print the F1 after answers with the constants of the questions changed."""
    reviews = 1 if quick else COMPARED
    spaces = {pool: Spaces(load(pool, ENCODERS[0])) for pool in BUILT_ON}
    found = reviewed_with(spaces, queries, QUESTIONS, reviews)
    print(f"F1 after {max(REFITTED)} answers, {reviews} reviews:", table(found, list(BUILT_ON)), sep="\n")


def ranked_with(
    module: ModuleType, around: Mapping[str, Sequence[Any]], quick: bool
) -> tuple[dict[tuple[str, str], Spaces], tuple[int, int]]:
    """Print the F1 with each constant of `module` changed; return the pools, and the size of the episodes."""
    size, encoders = (QUICK, ENCODERS[:1]) if quick else ((TRIPLES, DRAWS), ENCODERS)
    spaces = {(pool, encoder): Spaces(load(pool, encoder)) for pool in BUILT_ON for encoder in encoders}
    found: dict[str, list[float]] = {}
    for changed in choices(around):
        found[named(changed)] = [quality(one, module, changed, size) for one in spaces.values()]
        print(named(changed), *(f"{value:.3f}" for value in found[named(changed)]), file=sys.stderr, flush=True)
    print(table(found, [", ".join(key) for key in spaces]), *leave_out(found), sep="\n")
    return spaces, size


def space_tables(quick: bool) -> None:
    """Print the F1 with the constants of the space changed."""
    ranked_with(space, SPACE, quick)


def graph_tables(quick: bool) -> None:
    """Print the F1 with the constants of the graph changed, and `_ESTIMATE` when it is fitted."""
    spaces, size = ranked_with(graph, AROUND, quick)
    parts = {key: rows_of(one, size) for key, one in spaces.items()}
    print("estimate, from both pools:", np.round(fit(list(parts.values())), 2).tolist())
    print(*carried_over(parts), sep="\n")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--feedback", action="store_true", help="the constants of what answers teach")
    parser.add_argument("--quick", action="store_true", help="few episodes, one encoder")
    parser.add_argument("--space", action="store_true", help="the constants of the space")
    parser.add_argument("--questions", action="store_true", help="the constants of the questions")
    given = parser.parse_args()
    wanted = {feedback_tables: given.feedback, space_tables: given.space, question_tables: given.questions}
    next((tables for tables, asked in wanted.items() if asked), graph_tables)(given.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
