"""What answers are worth on images that were never in the pool: `python -m benchmarks.quality --new` calls it.

Before anything, a fifth of the images (whole sets of near-duplicates) is taken away. The rest is the pool: it is
grouped, a simulated reviewer answers about each class in one of several ways, and the model that was saved and loaded
judges what was taken away. Every rival learns from the same answers.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks import answers, learners
from benchmarks.episodes import CLASSES, Episode, episodes, on_every_core
from benchmarks.figures import (
    calibration_error,
    closed_figures,
    gap_closed,
    interval,
    judge_class,
    log_loss,
    opening,
)
from benchmarks.learners import Known, Said
from benchmarks.methods import Spaces
from benchmarks.pools import Truth, without
from benchmarks.reliability import OURS, SHOWN, tenths
from holotype import Classifier
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.refine import Refined
from holotype.grouping.search import Search, cosine
from holotype.model.rows import plan
from holotype.pool.exemplars import Exemplar
from holotype.progress import Silent
from holotype.review.queries import DiverseUncertainty
from holotype.settings import FitSettings
from holotype.vectors.store import EmbeddingStore

SHARE, SEED, LEAST_NEW = 0.2, 1, 4
WAYS = {  # how answers come: so many at a time, and after how many the model is judged
    "twos": (2, (0, 10, 20, 24, 30, 48, 60)),
    "files of 10": (10, (10, 30, 60)),
    "files of 20": (20, (20, 60)),
    "grids of 24": (24, (24, 48)),
}
CEILING, NAIVE = "ceiling, all labels", "nearest exemplar, cosine .75"

_SHARED: dict[str, Any] = {}


@dataclass(frozen=True)
class Prepared:
    """A pool without its new images, those, and episodes of classes that both have."""

    spaces: Spaces
    new: Truth
    episodes: Sequence[Episode]
    names: Sequence[str]

    @classmethod
    def of(cls, truth: Truth, names: Sequence[str], triples: int, draws: int) -> Self:
        """Take the new images away, and fit the spaces of what is left."""
        pool, new = without(truth, SHARE, SEED)
        eligible = [
            name
            for name in names
            if (new.classes == name).sum() >= LEAST_NEW and (pool.classes == name).sum() > CLASSES
        ]
        spaces = Spaces(pool)
        done = list(episodes(pool, eligible, triples, draws))
        pool.views(np.unique(np.concatenate([rows for episode in done for rows in episode.first(1)])))
        for space in ("raw", "whitened", "wide", "neighbours"):
            spaces.embeddings(space)
        return cls(spaces, new, done, eligible)

    @property
    def about(self) -> dict[str, Any]:
        """What a table says of it."""
        pool = self.spaces.truth
        sizes = {"images": len(pool.vectors), "new": len(self.new.vectors), "episodes": len(self.episodes)}
        return {"pool": pool.name} | sizes | {"classes to draw from": len(self.names)}


def measure(truth: Truth, names: Sequence[str], triples: int, draws: int) -> dict[str, Any]:
    """Return all figures of one pool and encoder; episodes are shared among the cores."""
    prepared = _SHARED["prepared"] = Prepared.of(truth, names, triples, draws)
    done = prepared.episodes
    found = on_every_core(_one, len(done), truth.name)
    return prepared.about | _summary(done, found)


def _one(number: int) -> dict[str, dict[str, Any]]:
    """Return the figures of one episode: way and answers, learner -> figures."""
    from threadpoolctl import threadpool_limits

    prepared: Prepared = _SHARED["prepared"]
    spaces, new, episode = prepared.spaces, prepared.new, prepared.episodes[number]
    pool, exemplars = spaces.truth, episode.first(1)
    found: dict[str, dict[str, Any]] = {}
    with threadpool_limits(1):
        start = answers.begin(spaces, exemplars, str(number))
        for way, (together, budgets) in WAYS.items():
            who = answers.Reviewer(DiverseUncertainty())
            for answered, refined in answers.review(pool, episode, start, who, number, together, budgets):
                known = known_of(refined, exemplars)
                row = {OURS: judged(new, pool, episode, ours(spaces, start, refined, episode)(new.vectors))}
                row["the pool's groups, unanswered images"] = _of_pool(pool, episode, refined, known)
                if way == "twos" and answered in SHOWN:
                    for name, learner in learners.RIVALS.items():
                        row[name] = judged(new, pool, episode, learner()(pool.vectors, known)(new.vectors))
                found[f"{way}, {answered}"] = row
        found["twos, 0"][CEILING] = ceiling(prepared, episode)
    return found


def ceiling(prepared: Prepared, episode: Episode) -> dict[str, Any]:
    """Return the figures of what learnt from all labels of the pool."""
    pool, (space, moved) = prepared.spaces.truth, prepared.spaces.fitted("whitened")
    judge = learners.ceiling(np.asarray(moved.shards[0]), pool.classes, episode.names)
    return judged(prepared.new, pool, episode, judge(space.transform(prepared.new.vectors)))


def known_of(refined: Refined, exemplars: Sequence[NDArray[np.int64]]) -> Known:
    positive = [np.concatenate([own, np.setdiff1d(refined.index.positive[k], own)]) for k, own in enumerate(exemplars)]
    return Known(positive, [np.asarray(rows) for rows in refined.index.negative], exemplars)


def ours(spaces: Spaces, start: ReviewBaseline, refined: Refined, episode: Episode) -> learners.Judge:
    """Return the model of `holotype run` after these answers, saved and loaded."""
    truth, space = spaces.truth, spaces.fitted("neighbours")[0]
    plain = spaces.embeddings("raw")
    queries = [truth.vectors[rows] for rows in episode.first(1)]
    given = [
        Exemplar(truth.pool.ids[row], k, int(row), truth.pool.read(int(row)))
        for k, rows in enumerate(episode.first(1))
        for row in rows
    ]
    searched = Search(start.groups.classes, given, plain, cosine(plain, queries), 0.0, queries, truth.encoder)
    vars(searched)["wide"] = spaces.fitted("wide")[0]  # fitted once for all episodes
    labels = refined.labels if refined.index.words else replace(refined.labels, groups=start.groups)
    labels = replace(labels, groups=replace(labels.groups, space=space))
    settings = FitSettings(encoder=truth.encoder.name)
    store = EmbeddingStore(truth.folder / truth.encoder.name_on_disk, truth.encoder, truth.pool)
    parts = plan(searched, [labels], [], settings)
    model = Classifier(**dict(settings)).learn(searched, labels, parts, truth.pool, store, Silent())
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        loaded = Classifier.load(folder)

    def judge(new: NDArray[np.float32]) -> Said:
        given = loaded.predict_features([""] * len(new), new)
        return Said(given.probabilities[:, :-1], given.numbers, given.probabilities[:, :-1])

    return judge


def judged(new: Truth, pool: Truth, episode: Episode, said: Said) -> dict[str, Any]:
    """Return the figures of what was said of new images, averaged over the classes."""
    found: list[dict[str, float]] = []
    pairs: list[tuple[float, bool]] = []
    for k, name in enumerate(episode.names):
        positive, taken = new.classes == name, said.chosen == k
        same = positive & (new.artists == pool.artists[episode.exemplars[k][0]])
        figures = judge_class(positive, same, taken, said.scores[:, k])
        if same.sum() == positive.sum():
            figures["f1 other artists"] = float("nan")  # there is none to find: the cell is left out
        found.append(figures | {"taken": figures["found"] / positive.sum()})
        if said.sure is not None:
            likely = said.sure[:, k] > 0.01
            pairs += zip(said.sure[likely, k].tolist(), positive[likely].tolist(), strict=True)
    none = ~np.isin(new.classes, episode.names)
    means: dict[str, Any] = {key: float(np.nanmean([one[key] for one in found])) for key in found[0]}
    return means | {"false alarms": 1000 * float((said.chosen[none] < CLASSES).mean()), "stated": pairs}


def _of_pool(pool: Truth, episode: Episode, refined: Refined, known: Known) -> dict[str, Any]:
    """The same of the images of the pool that nobody answered about, as the groups have them."""
    free = np.ones(len(pool.classes), bool)
    free[np.concatenate([*known.positive, *known.negative])] = False
    groups = refined.groups
    chosen = np.where(groups.decision == "member", groups.label, CLASSES)[free]
    left = replace(pool, classes=pool.classes[free], artists=pool.artists[free])
    kept = [k for k, name in enumerate(episode.names) if (left.classes == name).any()]
    if len(kept) < CLASSES:
        return {}
    return judged(left, pool, episode, Said(refined.logits[free], chosen))


def _summary(done: Sequence[Episode], found: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    triples = np.array([episode.triple for episode in done])
    low = np.array([one["twos, 0"][NAIVE]["f1"] for one in found])
    high = {key: np.array([one["twos, 0"][CEILING][key] for one in found]) for key in ("f1", "oracle f1")}
    rows: dict[str, dict[str, Any]] = {}
    for when in found[0]:
        for name in dict.fromkeys(name for one in found for name in one[when]):
            here = [(i, one[when][name]) for i, one in enumerate(found) if one[when].get(name)]
            places, figures = np.array([i for i, _ in here]), [one for _, one in here]
            row: dict[str, Any] = {
                key: float(np.nanmean([one[key] for one in figures])) for key in figures[0] if key != "stated"
            }
            f1 = np.array([one["f1"] for one in figures])
            row |= {"episodes": len(here), "f1, interval": interval(f1, triples[places], np.mean)}
            row |= closed_figures("f1", gap_closed(f1, low[places], high["f1"][places]), triples[places])
            row["share of the gap"] = float(
                (f1.mean() - low[places].mean()) / (high["f1"][places].mean() - low[places].mean())
            )
            pairs = [pair for one in figures for pair in one["stated"]]
            row |= {"calibration error": calibration_error(pairs), "log-loss": log_loss(pairs)} if pairs else {}
            row |= {"reliability": tenths(pairs)} if pairs else {}
            rows.setdefault(when, {})[name] = row
    return {"at": rows}


_COLUMNS = (
    "on new images, after answers a class",
    "F1 (95 %)",
    "other artists",
    "best in hindsight",
    "share of the gap",
    "AP",
    "AUROC",
    "taken / true",
    "false alarms / 1,000",
    "log-loss",
    "calibration error",
)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = []
    for result in results:
        about = f"{result['new']:,} images were taken away before, and are judged."
        lines += opening(result, _COLUMNS, about)
        for when, rows in result["at"].items():
            lines += [_line(f"{when}: {name}", row) for name, row in rows.items()]
        lines.append("")
    return "\n".join(lines)


def _line(name: str, row: dict[str, Any]) -> str:
    low, high = row["f1, interval"]
    stated = [f"{row[key]:.3f}" if key in row else "" for key in ("log-loss", "calibration error")]
    cells = [
        name,
        f"{row['f1']:.3f} ({low:.3f} to {high:.3f})",
        f"{row['f1 other artists']:.3f}",
        f"{row['oracle f1']:.3f}",
        f"{row['share of the gap']:.2f}",
        f"{row['ap']:.3f}",
        f"{row['auroc']:.3f}",
        f"{row['taken']:.2f}",
        f"{row['false alarms']:.1f}",
        *stated,
    ]
    return f"| {' | '.join(cells)} |"
