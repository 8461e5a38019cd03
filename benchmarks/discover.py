"""python -m benchmarks.discover: are classes that nobody asked for among the communities of what belongs to no class?

An episode gives one exemplar each of three report classes; the other report classes are held out. What the groups leave
to "none" is parted by `find_communities` and by its rivals, which see the same vectors. A class stands alone in a
community that has at least half of its images in the pool, and of whose images at least half show it. With
--development everything is on the classes that the method may be built with, and constants are varied too.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.episodes import Episode, episodes
from benchmarks.methods import Spaces, grouped
from benchmarks.pools import BUILT_ON, POOLS, Truth, load
from holotype.grouping import communities
from holotype.grouping.communities import find_communities
from holotype.grouping.graph import build_graph
from holotype.settings import RankSettings

FIRST = (10, 20, 50, 100)  # proposals that somebody may look through
ENOUGH = 0.5  # purity and recall with which a class stands alone
ALL_PAIRS = 20_000  # images above which HDBSCAN is left out: the distances of all pairs take 5 GB of 16,000
VARIED: dict[str, Sequence[int]] = {"_SIZE": (150, 500, 800), "_MOST": (8192,)}

Rows = NDArray[np.int64]
Matrix = NDArray[np.float32]
Proposed = Sequence[Rows]  # the rows of each, in the order in which they are proposed, the exemplar first
Others = Callable[[Matrix, int], Iterator[tuple[str, Callable[[], Proposed]]]]


def variants(vectors: Matrix, _count: int) -> Iterator[tuple[str, Callable[[], Proposed]]]:
    """Yield ours with other constants, each by its name."""
    for name, values in VARIED.items():
        for value in values:
            with patch.object(communities, name, value):
                yield f"{name} {value}", lambda: ours(vectors)


def rivals(vectors: Matrix, count: int) -> Iterator[tuple[str, Callable[[], Proposed]]]:
    """Yield other clusterings of the same vectors: as many clusters as we propose, in two orders."""
    known: list[Rows] = []

    def first() -> Proposed:
        known.append(k_means(vectors, count))
        return tightest(vectors, known[0])

    yield "k-means, the tightest first", first
    yield "the same, in our order", lambda: apart(vectors, known[0])
    if len(vectors) <= ALL_PAIRS:
        yield "HDBSCAN, the tightest first", lambda: tightest(vectors, hdbscan(vectors))


def ours(vectors: Matrix) -> Proposed:
    """Return what `holotype discover` proposes."""
    return [one.rows for one in find_communities(vectors)]


def k_means(vectors: Matrix, count: int) -> Rows:
    """Return the cluster of each image, of as many as we propose."""
    from sklearn.cluster import KMeans

    return np.asarray(KMeans(count, n_init=1, random_state=0, max_iter=25).fit_predict(vectors))


def apart(vectors: Matrix, labels: Rows) -> Proposed:
    """Return clusters in our order: by the share of their connections that lead outside."""
    conductance = communities._connections(build_graph(vectors).steps, labels)[1]
    return [_central(vectors, rows) for _, rows in communities._apart(labels, conductance)]


def hdbscan(vectors: Matrix) -> Rows:
    """Return the cluster of density of each image, -1 for none."""
    from sklearn import cluster

    return np.asarray(cluster.HDBSCAN(min_samples=3, algorithm="brute", copy=False).fit_predict(vectors))


def tightest(vectors: Matrix, labels: Rows) -> Proposed:
    """Return clusters in the order of the mean cosine inside."""
    found = [np.flatnonzero(labels == k) for k in range(int(labels.max(initial=-1)) + 1)]
    large = [_central(vectors, rows) for rows in found if len(rows) >= communities.LEAST_TOGETHER]
    return sorted(large, key=lambda rows: -float(np.linalg.norm(vectors[rows].mean(axis=0))))


def _central(vectors: Matrix, rows: Rows) -> Rows:
    """Return `rows`, the most central first."""
    return np.asarray(rows[np.argsort(-(vectors[rows] @ vectors[rows].mean(axis=0)), kind="stable")])


def judge(truth: Truth, held_out: Sequence[str], proposed: Sequence[Rows]) -> dict[str, Any]:
    """Return the figures of one episode; `first`: the place of the community in which each held-out class is alone."""
    total = {name: int((truth.classes == name).sum()) for name in held_out}
    first, best = dict.fromkeys(held_out, 0), dict.fromkeys(held_out, 0.0)
    pure, started = [], []
    for place, rows in enumerate(proposed, start=1):
        names, counts = np.unique(truth.classes[rows], return_counts=True)
        pure.append(float(counts.max() / len(rows)))
        started.append(truth.classes[rows[0]] == names[counts.argmax()])
        for name, count in zip(names.tolist(), counts.tolist(), strict=True):
            if name in total:
                best[name] = max(best[name], 2 * count / (len(rows) + total[name]))
                if min(count / len(rows), count / total[name]) >= ENOUGH and not first[name]:
                    first[name] = place
    return {
        "first": first,
        "best F1": best,
        "proposed": len(proposed),
        "median size": float(np.median([len(rows) for rows in proposed])) if proposed else 0.0,
        "purity of the first 50": float(np.mean(pure[:50])) if pure else 0.0,
        "exemplar of the commonest": float(np.mean(started[:50])) if started else 0.0,
    }


def measure(truth: Truth, names: Sequence[str], triples: int, others: Others) -> dict[str, Any]:
    """Return the figures of ours and of `others`, each by its name."""
    spaces = Spaces(truth)
    found: dict[str, list[dict[str, Any]]] = {}
    for episode in episodes(truth, names, triples, 1):
        held_out = [name for name in names if name not in episode.names]
        for name, figures in _figures(truth, held_out, *_rejected(spaces, episode), others):
            found.setdefault(name, []).append(figures)
            print(f"{truth.name}: {name}, {figures['seconds']:.0f} s", file=sys.stderr, flush=True)
    return {
        "pool": truth.name,
        "episodes": triples,
        "held out": len(names) - 3,
        "methods": {name: _summary(several) for name, several in found.items()},
    }


def _figures(
    truth: Truth, held_out: Sequence[str], vectors: Matrix, rows: Rows, others: Others
) -> Iterator[tuple[str, dict[str, Any]]]:
    def figures(part: Callable[[], Proposed]) -> dict[str, Any]:
        started = time.perf_counter()
        proposed = [rows[one] for one in part()]
        return judge(truth, held_out, proposed) | {"seconds": time.perf_counter() - started}

    own = figures(lambda: ours(vectors))
    yield "communities", own
    for name, part in others(vectors, own["proposed"]):
        yield name, figures(part)


def _rejected(spaces: Spaces, episode: Episode) -> tuple[Matrix, Rows]:
    """Return what belongs to no class, in the space of the ranking: vectors, and their rows of the pool."""
    groups = grouped(spaces, episode.first(1), RankSettings())
    rows = np.flatnonzero((groups.decision == "background") & groups.distinct)
    return spaces.embeddings("neighbours").take(rows), rows


def _summary(several: Sequence[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for k in (*FIRST, None):
        alone = [{name: 0 < place <= (k or place) for name, place in one["first"].items()} for one in several]
        figures[f"alone, {k or 'all'}"] = float(np.mean([sum(one.values()) for one in alone]))
        if k in (100, None):
            figures[f"share, {k or 'all'}"] = _share(alone)
    figures["best F1"] = float(np.mean([value for one in several for value in one["best F1"].values()]))
    plain = [key for key, value in several[0].items() if isinstance(value, int | float)]
    return figures | {key: float(np.mean([one[key] for one in several])) for key in plain if key != "best F1"}


def _share(alone: Sequence[dict[str, bool]]) -> list[float]:
    """Return the share of the held-out classes that are alone, with its 95 % bootstrap interval over classes."""
    names = sorted({name for one in alone for name in one})
    means = np.array([np.mean([one[name] for one in alone if name in one]) for name in names])
    drawn = means[np.random.default_rng(0).integers(0, len(means), (2000, len(means)))].mean(axis=1)
    return [float(means.mean()), *np.percentile(drawn, [2.5, 97.5]).tolist()]


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = []
    for result in results:
        lines += [f"### {result['pool']}: {result['held out']} classes held out, {result['episodes']} episodes", ""]
        heads = ["method", "proposed, median size", *(f"alone in the first {k}" for k in FIRST), "alone in all"]
        heads += ["share of all", "best F1", "purity of the first 50", "exemplar shows the commonest", "s"]
        lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        lines += [f"| {' | '.join(_cells(name, row))} |" for name, row in result["methods"].items()]
        lines.append("")
    return "\n".join(lines)


def _cells(name: str, row: dict[str, Any]) -> Iterator[str]:
    share, low, high = row["share, all"]
    yield from (name, f"{row['proposed']:.0f}, {row['median size']:.0f}")
    yield from (f"{row[f'alone, {k}']:.1f}" for k in (*FIRST, "all"))
    yield from (f"{share:.2f} ({low:.2f} to {high:.2f})", f"{row['best F1']:.2f}")
    yield from (f"{row['purity of the first 50']:.2f}", f"{row['exemplar of the commonest']:.2f}")
    yield f"{row['seconds']:.0f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments ask for; print the table, and write it beside the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.discover", description=__doc__)
    parser.add_argument("--development", action="store_true", help="on the classes that the method may be built with")
    parser.add_argument("--pool", choices=POOLS, action="append", help="only this pool (may be repeated)")
    parser.add_argument("--triples", type=int, default=1, help="episodes of a pool (default 1)")
    parser.add_argument("--out", type=Path, help="(default benchmarks/results/discover.json)")
    given = parser.parse_args(arguments)
    others = variants if given.development else rivals
    out = given.out or Path("benchmarks/results/discover.json")
    results: list[dict[str, Any]] = []
    for pool in given.pool or BUILT_ON:
        truth = load(pool, "efficientnet_lite0")
        names = truth.development if given.development else truth.report
        results.append(measure(truth, names, given.triples, others))
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1), encoding="utf-8")
        out.with_suffix(".md").write_text(table(results) + "\n", encoding="utf-8")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
