"""python -m benchmarks.words: what words find, what a picture finds, and both, on classes that the towers never saw.

The towers are those of benchmarks.towers. The words for a class are its name. An episode is one of benchmarks.episodes;
F1 is over its three classes, as in benchmarks.quality. Words go wrong in two ways: they are the name of another class,
or so vague that they say nothing; "a tenth" is where each class has such with a chance of one in ten.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import answers, towers
from benchmarks.answers import REVIEWERS, review
from benchmarks.episodes import CLASSES, Episode, episodes, on_every_core
from benchmarks.figures import interval, judge, opening
from benchmarks.methods import Exemplars, MethodAnswer, answered
from benchmarks.pools import BUILT_ON, Truth, load
from holotype.answers.baseline import ReviewBaseline
from holotype.encoders.encode import l2_normalize
from holotype.encoders.registry import load_encoder, load_text_encoder
from holotype.grouping.assign import group_pool
from holotype.grouping.groups import Groups
from holotype.grouping.search import Search
from holotype.grouping.space import Space, fit_space, fit_wide_space
from holotype.grouping.ways import DISAGREE
from holotype.grouping.words import Words, score_words
from holotype.pool.descriptions import Description
from holotype.pool.exemplars import Exemplar
from holotype.settings import FitSettings
from holotype.vectors.embeddings import Embeddings

ENCODER = "efficientnet_lite0"
VAGUE = ("a thing", "a picture", "something", "a symbol", "an image")
WRONG = 0.1  # of the classes have wrong or vague words, where a tenth has
PICTURE, WORDS, BOTH = "picture", "words", "both"
SHARES = "heard", "told"  # of classes whose words count, and are said to mean something else
BUDGETS = (0, 10, 30)
REPORT, DEVELOPMENT, KNOWN = "report", "development", "known"
_UNTAUGHT = FitSettings()

Texts = Sequence[str]


@dataclass(frozen=True)
class Stage:
    """A pool as the towers see it, with its spaces, and vectors of all the words that episodes need."""

    truth: Truth
    embeddings: Embeddings
    space: Space
    moved: NDArray[np.float32]
    wide: NDArray[np.float32]
    texts: Mapping[str, NDArray[np.float32]]
    views: bool

    def search(self, exemplars: Exemplars, texts: Texts) -> Search:
        """Return the search by the pictures `exemplars` and by one text for each class; none of either may be given."""
        queries = [self._seen(rows) for rows in exemplars]
        ids = self.truth.pool.ids
        given = [Exemplar(ids[row], k, int(row), b"") for k, rows in enumerate(exemplars) for row in rows]
        words = said = None
        if texts:
            described = [Description(text, k) for k, text in enumerate(texts)]
            words = Words(described, np.stack([self.texts[text] for text in texts]), "")
            said = score_words(self.embeddings, words, queries)
        scores = np.zeros((self.embeddings.size, CLASSES), np.float32)  # raw cosines are not needed
        names = [f"class {k}" for k in range(CLASSES)]
        return Search(names, given, self.embeddings, scores, 0.0, queries, words=words, said=said)

    def _seen(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if not len(rows):
            return np.empty((0, self.embeddings.dim), np.float32)
        plain = self.truth.vectors[rows]
        return l2_normalize(plain + self.truth.views(rows)) if self.views else plain

    def group(self, exemplars: Exemplars, texts: Texts) -> tuple[Search, Groups]:
        """Return the search, and the groups that `holotype run` makes of it."""
        searched = self.search(exemplars, texts)
        return searched, group_pool(searched, _UNTAUGHT, self.space)

    def begin(self, exemplars: Exemplars, texts: Texts, key: str) -> ReviewBaseline:
        """Return what `holotype run` leaves for a review."""
        searched, groups = self.group(exemplars, texts)
        anchors = [self.space.transform(vectors) for vectors in groups.anchors]
        said = searched.said
        if said is not None:
            said = replace(said, anchors=[self.space.transform(vectors) for vectors in said.anchors])
        names = [[f"class {k}"] * len(rows) for k, rows in enumerate(exemplars)]
        own = searched.exemplar_rows
        return ReviewBaseline(self.moved, anchors, names, groups, own, key, wide=self.wide, said=said)


def prepare(pool: str, fold: int | None = None) -> Stage:
    """Return a pool as the towers see it; as maps see it that know nothing of a `fold` of its development classes."""
    plain = load(pool, ENCODER)
    names = [towers.words_of(name) for name in [*plain.development, *plain.report]]
    texts = list(dict.fromkeys([*names, *VAGUE]))
    if fold is None:
        folder = towers.build(ENCODER)
        truth = replace(plain, vectors=towers.image_vectors(plain, folder), encoder=load_encoder(str(folder)))
        vectors = load_text_encoder(str(folder)).encode(texts)
    else:
        maps = towers.maps_without(fold, ENCODER)
        kept = [name for name in plain.development if towers.fold_of(towers.words_of(name).lower()) == fold]
        truth = replace(plain, vectors=maps.images(plain.vectors), development=kept)
        vectors = towers.encode_texts(maps, texts)
    embeddings = Embeddings([truth.vectors], np.arange(len(truth.vectors)), len(truth.vectors))
    space, wide = fit_space(embeddings), fit_wide_space(embeddings)
    moved, wider = (one.transform(truth.vectors) for one in (space, wide))
    return Stage(truth, embeddings, space, moved, wider, dict(zip(texts, vectors, strict=True)), fold is None)


def ways(stage: Stage, episode: Episode, seed: int) -> dict[str, tuple[Exemplars, Texts]]:
    """Return what each way is given in an episode: exemplars and texts of its classes."""
    rng, truth = np.random.default_rng(seed), stage.truth
    right = [towers.words_of(name) for name in episode.names]
    others = [towers.words_of(one) for one in [*truth.development, *truth.report] if one not in episode.names]
    wrong, vague = list(rng.choice(others, CLASSES, replace=False)), list(rng.choice(VAGUE, CLASSES, replace=False))
    bad = [(wrong if rng.random() < 0.5 else vague)[k] for k in range(CLASSES)]
    tenth = [bad[k] if rng.random() < WRONG else right[k] for k in range(CLASSES)]
    pictures, none = episode.first(1), [np.empty(0, np.int64)] * CLASSES
    return {
        PICTURE: (pictures, []),
        WORDS: (none, right),
        BOTH: (pictures, right),
        f"{WORDS}, a tenth wrong": (none, tenth),
        f"{BOTH}, a tenth wrong": (pictures, tenth),
        f"{BOTH}, all wrong": (pictures, wrong),
        f"{BOTH}, all vague": (pictures, vague),
    }


_SHARED: dict[str, Any] = {}


def _one(number: int) -> dict[str, Any]:
    """Return the figures of each way in an episode; after answers too, in the first of some triples."""
    from threadpoolctl import threadpool_limits

    stage, episode, draws = _SHARED["stage"], _SHARED["episodes"][number], _SHARED["draws"]
    truth, out = stage.truth, episode.first(1)  # the exemplar counts for no way, so that all are judged on the same
    found: dict[str, Any] = {}
    with threadpool_limits(1):
        for name, (exemplars, texts) in ways(stage, episode, number).items():
            groups = stage.group(exemplars, texts)[1]
            figures = judge(truth, episode, out, _without(answered(groups), np.concatenate(out)))
            found[name] = figures | _heard(groups)
        if number % draws == 0 and episode.triple < _SHARED["taught"]:
            for name, (exemplars, texts) in list(ways(stage, episode, number).items())[:3]:
                start = stage.begin(exemplars, texts, str(number))
                for count, refined in review(truth, episode, start, REVIEWERS[answers.OURS], number, budgets=BUDGETS):
                    found[f"{name}, {count} answers"] = answers.figures(truth, episode, out, refined)
    return found


def _heard(groups: Groups) -> dict[str, float]:
    """The shares of classes whose words count, and of those whose words are said to be others; nan without both."""
    ranking = groups.ranking
    if ranking is None or not np.isfinite(ranking.agreement).all():
        return dict.fromkeys(SHARES, float("nan"))
    return dict(zip(SHARES, (float(ranking.heard.mean()), float(np.mean(ranking.agreement < DISAGREE))), strict=True))


def _without(answer: MethodAnswer, rows: NDArray[np.int64]) -> MethodAnswer:
    scores = answer.scores.copy()
    scores[rows] = -np.inf
    return MethodAnswer([np.setdiff1d(chosen, rows) for chosen in answer.chosen], scores)


def measure(pool: str, triples: int, draws: int, taught: int, classes: str = REPORT) -> dict[str, Any]:
    """Return the figures of one pool; in the first draw of `taught` triples answers are given too.

    classes   those of the report; of development, in three folds, each by towers that have not seen it and without
              closer looks; or those that are known, because the towers were built with them
    """
    found, numbers = list[Any](), list[int]()
    for fold in range(towers.FOLDS) if classes == DEVELOPMENT else [None]:
        stage = prepare(pool, fold)
        names = stage.truth.report if classes == REPORT else stage.truth.development
        done = list(episodes(stage.truth, names, triples, draws))
        if stage.views:
            stage.truth.views(np.unique(np.concatenate([rows for episode in done for rows in episode.first(1)])))
        _SHARED.update(stage=stage, episodes=done, draws=draws, taught=taught)
        found += on_every_core(_one, len(done), pool)
        numbers += [episode.triple + triples * (fold or 0) for episode in done]
    return {
        "pool": f"{pool}, towers on {ENCODER}, {classes} classes",
        "images": len(stage.truth.vectors),
        "episodes": len(found),
        "ways": _summary(found, np.array(numbers)),
    }


def _summary(found: Sequence[Mapping[str, Any]], triples: NDArray[np.int64]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name in found[0]:
        here = [number for number, one in enumerate(found) if name in one]
        taught = name.partition(", ")[2] if name.endswith("answers") else ""
        rival = ", ".join(filter(None, [PICTURE, taught]))
        column = partial(_column, found, here)
        apart = column(name, "f1") - column(rival, "f1")
        rows[name] = {key: float(column(name, key).mean()) for key in ("f1", "f1 other artists", "precision")}
        shares = {key: column(name, key).mean() if key in found[here[0]][name] else np.nan for key in SHARES}
        rows[name] |= {key: None if np.isnan(share) else float(share) for key, share in shares.items()}
        rows[name] |= {"episodes": len(here), "minus the picture": float(apart.mean())}
        rows[name]["interval"] = interval(apart, triples[here], np.mean)
        rows[name]["f1 interval"] = interval(column(name, "f1"), triples[here], np.mean)
    return rows


def _column(found: Sequence[Mapping[str, Any]], here: Sequence[int], name: str, key: str) -> NDArray[np.float64]:
    return np.array([found[number][name][key] for number in here])


_COLUMNS = (
    "way",
    "F1 (95 % interval)",
    "F1 other artists",
    "precision",
    "minus the picture alone",
    "words that count",
    "words said to be others",
    "episodes",
)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = []
    for result in results:
        lines += opening(result, _COLUMNS)
        for name, row in result["ways"].items():
            (low, high), (less, more) = row["f1 interval"], row["interval"]
            rival = name == PICTURE or name.startswith(f"{PICTURE}, ")
            apart = "" if rival else f"{row['minus the picture']:+.3f} ({less:+.3f} to {more:+.3f})"
            figures = [f"{row['f1']:.3f} ({low:.3f} to {high:.3f})", f"{row['f1 other artists']:.3f}"]
            shares = ["" if row[key] is None else f"{row[key]:.2f}" for key in SHARES]
            cells = [name, *figures, f"{row['precision']:.2f}", apart, *shares, str(row["episodes"])]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; print the table, and write it beside the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.words", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    parser.set_defaults(classes=REPORT)
    for classes, told in (
        (DEVELOPMENT, "that the method may be built with, by towers that have not seen them"),
        (KNOWN, "that the towers were built with, so that words say more than a picture does"),
    ):
        which.add_argument(f"--{classes}", dest="classes", action="store_const", const=classes, help=f"classes {told}")
    parser.add_argument("--pool", choices=BUILT_ON, action="append", help="only this pool (may be repeated)")
    parser.add_argument("--triples", type=int, default=30)
    parser.add_argument("--draws", type=int, default=3, help="of each triple (default 3)")
    parser.add_argument("--taught", type=int, default=8, help="triples with answers (default 8)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/words.json"))
    given = parser.parse_args(arguments)
    results = []
    for pool in given.pool or BUILT_ON:
        results.append(measure(pool, given.triples, given.draws, given.taught, given.classes))
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
        given.out.with_suffix(".md").write_text(table(results) + "\n", encoding="utf-8")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
