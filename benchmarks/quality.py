"""python -m benchmarks.quality: how good the groups are with one exemplar per class and no label, beside every rival.

An episode is a pool, three report classes, one exemplar of each and a draw. Macro-F1 is over the three classes, on all
pool rows but the exemplars ("all"), and without the positives by an exemplar's own artist ("other artists").
"""

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks import answers, methods, new_images, seconds
from benchmarks.episodes import CLASSES, Episode, episodes
from benchmarks.figures import (
    calibration_error,
    closed_figures,
    gap_closed,
    interval,
    judge,
    log_loss,
    opening,
    stated_of_candidates,
    stated_of_members,
)
from benchmarks.methods import Method, MethodAnswer, Spaces
from benchmarks.pools import BUILT_ON, ENCODERS, POOLS, Truth, load
from holotype.settings import RankSettings, SpaceName

NAIVE, OURS = "naive, cosine .75", "ours"

MAIN: dict[str, Method] = {
    "naive, cosine .70": methods.fixed(0.70),
    NAIVE: methods.fixed(0.75),
    "naive, cosine .80": methods.fixed(0.80),
    "raw cosine, null threshold": methods.null_threshold("raw"),
    "whitened, query expansion": methods.expansion,
    "logistic, pseudo-labels": methods.pseudo_labels,
    "LabelSpreading": methods.label_spreading,
    OURS: methods.ours(RankSettings()),
}
ABLATIONS: dict[str, Method] = {
    "ours, the trained model": methods.model,
    "without self-training": methods.ours(RankSettings(self_training=False)),
    "without exemplar views": methods.ours(RankSettings(exemplar_views=False)),
    "space pairs": methods.ours(RankSettings(space="pairs")),
    "space whitened": methods.ours(RankSettings(space="whitened")),
    "space raw": methods.ours(RankSettings(space="raw")),
    "without diffusion and views": methods.null_threshold("neighbours"),
}


def measure(truth: Truth, names: Sequence[str], triples: int, draws: int, side: int) -> dict[str, Any]:
    """Return all figures of one pool and encoder; ablations and the curve take the first `side` draws of a triple."""
    spaces = Spaces(truth)
    fitting = {name: _timed(lambda name=name: spaces.embeddings(name))[1] for name in get_args(SpaceName)}
    done = list(episodes(truth, names, triples, draws))
    best = _ceilings(spaces, done)
    figures: dict[str, list[dict[str, float]]] = {}
    stated: list[tuple[float, bool]] = []
    members: list[tuple[float, bool]] = []
    started = time.perf_counter()
    for number, episode in enumerate(done):
        for name, method in MAIN.items():
            answer = _record(figures, name, method, spaces, episode, 1)
            if name == OURS:
                stated += stated_of_candidates(truth, episode, answer)
                members += stated_of_members(truth, episode, answer)
        if number % draws < side:
            for name, method in ABLATIONS.items():
                _record(figures, name, method, spaces, episode, 1)
            for count in (2, 5):
                _record(figures, f"{OURS}, {count} exemplars", MAIN[OURS], spaces, episode, count)
                _record(figures, f"{NAIVE}, {count} exemplars", MAIN[NAIVE], spaces, episode, count)
        _say(f"{truth.name}: episode {number + 1} of {len(done)}, {time.perf_counter() - started:.0f} s")
    memory = {name: _peak(method, spaces, done[0]) for name, method in (MAIN | ABLATIONS).items()}
    return _summary(truth, done, figures, best, draws, side) | {
        "classes to draw from": len(names),
        "seconds to fit and apply a space": fitting,
        "peak MB": memory,
        "estimates": _estimates(stated, members),
    }


def _estimates(stated: list[tuple[float, bool]], members: list[tuple[float, bool]]) -> dict[str, float]:
    share = float(np.mean([true for _, true in stated]))
    return {
        "calibration error": calibration_error(stated),
        "log-loss": log_loss(stated),
        "log-loss of the share": log_loss([(share, true) for _, true in stated]),
        "stated of members": float(np.mean([p for p, _ in members])),
        "right of members": float(np.mean([true for _, true in members])),
        "calibration error of members": calibration_error(members),
    }


def _record(
    figures: dict[str, list[dict[str, float]]],
    name: str,
    method: Method,
    spaces: Spaces,
    episode: Episode,
    count: int,
) -> MethodAnswer:
    exemplars = episode.first(count)
    answer, took = _timed(lambda: method(spaces, exemplars))
    figures.setdefault(name, []).append(judge(spaces.truth, episode, exemplars, answer) | {"seconds": took})
    return answer


def _ceilings(spaces: Spaces, done: Sequence[Episode]) -> list[dict[str, float]]:
    names = sorted({name for episode in done for name in episode.names})
    _say(f"{spaces.truth.name}: ceiling of {len(names)} classes")
    scores = methods.ceiling(spaces, names)
    found = []
    for episode in done:
        columns = np.stack([scores[name] for name in episode.names], axis=1)
        found.append(
            judge(spaces.truth, episode, episode.first(1), MethodAnswer([np.empty(0, int)] * CLASSES, columns))
        )
    return found


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


def _peak(method: Method, spaces: Spaces, episode: Episode) -> float:
    """Return the peak memory in MB of what `method` allocates for one episode, the spaces being there."""
    tracemalloc.start()
    method(spaces, episode.first(1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 1e6, 1)


def _summary(
    truth: Truth,
    done: Sequence[Episode],
    figures: dict[str, list[dict[str, float]]],
    best: Sequence[dict[str, float]],
    draws: int,
    side: int,
) -> dict[str, Any]:
    triples = np.array([episode.triple for episode in done])
    early = np.arange(len(done)) % draws < side
    rows = {"ceiling, all labels, oracle threshold": _means(best)}
    for name, found in figures.items():
        kept = np.ones(len(done), dtype=bool) if len(found) == len(done) else early
        same = [one for one, taken in zip(figures[OURS], kept, strict=True) if taken]
        rows[name] = _means(found) | {f"{key}, ours there": _means(same)[key] for key in ("f1", "f1 other artists")}
        for key, top in (("f1", "oracle f1"), ("f1 other artists", "oracle f1 other artists")):
            high = np.array([one[top] for one in best])[kept]
            low = np.array([one[key] for one in figures[NAIVE]])[kept]
            closed = gap_closed(np.array([one[key] for one in found]), low, high)
            part = key.removeprefix("f1").strip() or "all"
            rows[name] |= closed_figures(part, closed, triples[kept])
    return {
        "pool": truth.name,
        "images": len(truth.vectors),
        "episodes": len(done),
        "methods": rows,
        "ours minus": _differences(figures, triples),
    }


def _means(found: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {key: float(np.mean([one[key] for one in found])) for key in found[0]}


def _differences(figures: dict[str, list[dict[str, float]]], triples: NDArray[np.int64]) -> dict[str, Any]:
    """Mean of F1 (ours minus the rival's) with its interval, episode by episode."""
    own = np.array([one["f1"] for one in figures[OURS]])
    found = {}
    for name in MAIN:
        if name != OURS:
            apart = own - np.array([one["f1"] for one in figures[name]])
            found[name] = {"mean": float(apart.mean()), "interval": interval(apart, triples, np.mean)}
    return found


_COLUMNS = (
    "method",
    "F1 all",
    "F1 other artists",
    "ours in the same episodes",
    "oracle F1: all, other artists",
    "gap closed, all",
    "p10",
    "gap closed, other artists",
    "precision",
    "false alarms / 1,000: all; look-alikes, near, far",
    "AUROC",
    "FPR at .95",
    "OSCR",
    "s",
    "MB",
)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    lines = []
    for result in results:
        lines += opening(result, _COLUMNS)
        lines += [_line(name, row, result["peak MB"].get(name)) for name, row in result["methods"].items()]
        lines += ["", _stated(result), ""]
    return "\n".join(lines)


def _stated(result: dict[str, Any]) -> str:
    """What our estimates are worth, in words."""
    found = result["estimates"]
    return (
        f"Our estimate on candidates above .01: calibration error {found['calibration error']:.3f}, log-loss "
        f"{found['log-loss']:.3f} (of their share of hits alone: {found['log-loss of the share']:.3f}); on members: "
        f"stated {found['stated of members']:.2f}, right {found['right of members']:.2f}, calibration error "
        f"{found['calibration error of members']:.3f}"
    )


def _line(name: str, row: dict[str, Any], memory: float | None) -> str:
    own = "seconds" in row
    cells = [
        name,
        f"{row['f1']:.3f}" if own else "",
        f"{row['f1 other artists']:.3f}" if own else "",
        f"{row['f1, ours there']:.3f}, {row['f1 other artists, ours there']:.3f}" if own else "",
        f"{row['oracle f1']:.3f}, {row['oracle f1 other artists']:.3f}",
        _closed(row, "all") if own else "",
        f"{row['gap closed, all, p10']:.2f}" if own else "",
        _closed(row, "other artists") if own else "",
        f"{row['precision']:.2f}" if own else "",
        ", ".join(f"{row[f'false alarms, {part}']:.3g}" for part in ("all", "look-alikes", "near", "far"))
        if own
        else "",
        f"{row['auroc']:.3f}",
        f"{row['fpr at recall .95']:.3f}",
        f"{row['oscr']:.3f}",
        f"{row['seconds']:.2f}" if own else "",
        f"{memory:.0f}" if memory is not None else "",
    ]
    return f"| {' | '.join(cells)} |"


def _closed(row: dict[str, Any], part: str) -> str:
    low, high = row[f"gap closed, {part}, interval"]
    return f"{row[f'gap closed, {part}']:.2f} ({low:.2f} to {high:.2f})"


def _say(line: str) -> None:
    print(line, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Mode:
    """What an option measures: how, laid out how, into which file, with so many draws of a triple, on which pools."""

    measure: Callable[[Truth, Sequence[str], int, int], dict[str, Any]]
    table: Callable[[Sequence[dict[str, Any]]], str]
    file: str
    draws: int
    pools: Sequence[str]
    about: str


MODES = {
    "answers": Mode(answers.measure, answers.table, "answers", 2, BUILT_ON, "what answers are worth"),
    "new": Mode(new_images.measure, new_images.table, "new_images", 2, list(POOLS), "the same on new images"),
    "seconds": Mode(seconds.measure, seconds.table, "seconds", 1, BUILT_ON, "what a person's seconds are worth"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments ask for; print the table, and write it beside the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one pool and encoder, few episodes: under 3 minutes")
    parser.add_argument("--development", action="store_true", help="on the classes that the method may be built with")
    parser.add_argument("--pool", choices=POOLS, action="append", help="only this pool (may be repeated)")
    parser.add_argument("--encoder", choices=ENCODERS, action="append", help="only this encoder (may be repeated)")
    parser.add_argument("--triples", type=int, default=10)
    parser.add_argument("--draws", type=int, help="of each triple (default 20)")
    parser.add_argument("--side", type=int, default=3, help="draws that the ablations and the curve take (default 3)")
    for name, mode in MODES.items():
        about = f"{mode.about}; by default {mode.draws} of the draws"
        parser.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=about)
    parser.add_argument("--out", type=Path, help="(default benchmarks/results/quality.json; answers.json, ...)")
    given = parser.parse_args(arguments)
    unaided = Mode(partial(measure, side=given.side), table, "quality", 20, BUILT_ON, "")
    mode = MODES.get(given.mode, unaided)
    out = given.out or Path("benchmarks/results") / f"{mode.file}.json"
    pools, encoders = given.pool or mode.pools, given.encoder or ENCODERS
    triples, draws = given.triples, given.draws or mode.draws
    if given.quick:
        pools, encoders, triples, draws = pools[:1], encoders[:1], 3, min(draws, 2)
        mode = mode if given.mode else replace(mode, measure=partial(measure, side=1))
    results: list[dict[str, Any]] = []
    for pool in pools:
        for encoder in encoders:
            truth = load(pool, encoder)
            names = truth.development if given.development else truth.report
            results.append(mode.measure(truth, names, triples, draws))
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(results, indent=1), encoding="utf-8")
            out.with_suffix(".md").write_text(mode.table(results) + "\n", encoding="utf-8")
    print(mode.table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
