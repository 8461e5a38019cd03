"""What an answer is worth: each figure of one episode."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.episodes import Episode
from benchmarks.methods import Exemplars, MethodAnswer
from benchmarks.pools import Truth
from benchmarks.reliability import tenths

LOOK_ALIKES = 200  # the most similar images to an exemplar that show something else


def judge(truth: Truth, episode: Episode, exemplars: Exemplars, answer: MethodAnswer) -> dict[str, float]:
    """Return the figures of one answer, averaged over its classes."""
    found = [_judge_class(truth, name, k, exemplars, answer) for k, name in enumerate(episode.names)]
    figures = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    return (
        figures | _false_alarms(truth, episode, exemplars, answer) | {"oscr": _oscr(truth, episode, exemplars, answer)}
    )


def _judge_class(truth: Truth, name: str, k: int, exemplars: Exemplars, answer: MethodAnswer) -> dict[str, float]:
    left = np.setdiff1d(np.arange(len(truth.classes)), np.concatenate(exemplars))
    positive = truth.classes[left] == name
    same = positive & np.isin(truth.artists[left], truth.artists[exemplars[k]])
    return judge_class(positive, same, np.isin(left, answer.chosen[k]), answer.scores[left, k])


def judge_class(
    positive: NDArray[np.bool_], same: NDArray[np.bool_], taken: NDArray[np.bool_], scores: NDArray[np.float64]
) -> dict[str, float]:
    """Return the figures of one class: which of n images are `positive`, and of these by an exemplar's own artist.

    taken, scores   (n,) whether each was taken for the class, and what it is ranked by; -inf where it is not
    """
    other, chosen = positive & ~same, np.flatnonzero(taken)
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])][:3000]
    return {
        "f1": _f1(positive, chosen),
        "f1 other artists": _f1(other, chosen[~same[chosen]]),
        "oracle f1": _best_f1(positive, order),
        "oracle f1 other artists": _best_f1(other, order[~same[order]]),
        "ap": average_precision(positive, order),
        "precision": float(positive[chosen].mean()) if len(chosen) else 0.0,
        "recall": float(positive[chosen].sum() / positive.sum()),
        "found": float(len(chosen)),
    } | _separation(positive, scores)


def _separation(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, float]:
    """AUROC, and the share of the others above what 95 % of the positives reach; what is not ranked ties, last."""
    from scipy.stats import rankdata

    places, hits = rankdata(scores), int(positive.sum())
    area = (places[positive].sum() - hits * (hits + 1) / 2) / (hits * (len(places) - hits))
    reached = np.sort(places[positive])[hits // 20]
    return {"auroc": float(area), "fpr at recall .95": float((places[~positive] >= reached).mean())}


def _oscr(truth: Truth, episode: Episode, exemplars: Exemplars, answer: MethodAnswer) -> float:
    """Area under the share of the classes' images that are answered rightly, over the share of the others answered.

    Dhamija et al., NeurIPS 2018. An image that no class ranks is not answered.
    """
    best, label = answer.scores.max(axis=1), answer.scores.argmax(axis=1)
    known, right = np.isin(truth.classes, episode.names), truth.classes == np.array(episode.names)[label]
    best[np.concatenate(exemplars)] = -np.inf
    order = np.argsort(-best, kind="stable")[: np.isfinite(best).sum()]
    answered = np.cumsum(np.append(0, right[order])) / max(known.sum() - sum(map(len, exemplars)), 1)
    alarms = np.cumsum(np.append(0, ~known[order])) / np.count_nonzero(~known)
    return float(np.trapezoid(np.append(answered, answered[-1]), np.append(alarms, 1.0)))


def _f1(positive: NDArray[np.bool_], chosen: NDArray[np.int64]) -> float:
    return float(2 * positive[chosen].sum() / max(len(chosen) + positive.sum(), 1))


def _best_f1(positive: NDArray[np.bool_], order: NDArray[np.int64]) -> float:
    hits = np.cumsum(positive[order])
    return float((2 * hits / (np.arange(1, len(order) + 1) + positive.sum())).max(initial=0.0))


def average_precision(positive: NDArray[np.bool_], order: NDArray[np.int64]) -> float:
    hits = positive[order]
    precision = np.cumsum(hits) / np.arange(1, len(order) + 1)
    return float((precision * hits).sum() / max(positive.sum(), 1))


def _false_alarms(truth: Truth, episode: Episode, exemplars: Exemplars, answer: MethodAnswer) -> dict[str, float]:
    """False alarms per 1,000 rows that are none of the classes: look-alikes, the farther half, the rest; and all."""
    none = ~np.isin(truth.classes, episode.names)
    cosine = np.stack([(truth.vectors @ truth.vectors[rows[:1]].T)[:, 0] for rows in exemplars], axis=1)
    alike, far = np.zeros(len(none), dtype=bool), cosine.max(axis=1) < np.median(cosine.max(axis=1))
    alike[np.argsort(-np.where(none[:, None], cosine, -1), axis=0)[:LOOK_ALIKES]] = True
    taken = np.zeros(len(none), dtype=bool)
    for rows in answer.chosen:
        taken[rows] = True
    parts = {"look-alikes": alike, "near": ~alike & ~far, "far": far & ~alike, "all": none}
    return {f"false alarms, {name}": 1000 * float(taken[none & part].mean()) for name, part in parts.items()}


def stated_of_candidates(truth: Truth, episode: Episode, answer: MethodAnswer) -> list[tuple[float, bool]]:
    """Return (estimate, truth) of every candidate whose estimated probability is above .01."""
    if answer.sure is None:
        return []
    return _stated(truth, episode, answer.sure, [np.flatnonzero(column > 0.01) for column in answer.sure.T])


def stated_of_members(truth: Truth, episode: Episode, answer: MethodAnswer) -> list[tuple[float, bool]]:
    """Return (estimate, truth) of every image that a class takes."""
    return [] if answer.sure is None else _stated(truth, episode, answer.sure, answer.chosen)


def _stated(
    truth: Truth, episode: Episode, sure: NDArray[np.float64], chosen: Sequence[NDArray[np.int64]]
) -> list[tuple[float, bool]]:
    pairs: list[tuple[float, bool]] = []
    for k, (name, rows) in enumerate(zip(episode.names, chosen, strict=True)):
        pairs += zip(sure[rows, k].tolist(), (truth.classes[rows] == name).tolist(), strict=True)
    return pairs


def calibration_error(pairs: Sequence[tuple[float, bool]]) -> float:
    """Return the expected calibration error over ten equal bins."""
    if not pairs:
        return float("nan")
    return float(sum(abs(stated - true) * (count / len(pairs)) for stated, true, count in tenths(pairs)))


def log_loss(pairs: Sequence[tuple[float, bool]]) -> float:
    """Return the mean log-loss, in nats."""
    if not pairs:
        return float("nan")
    stated, true = np.clip([p for p, _ in pairs], 1e-6, 1 - 1e-6), np.array([t for _, t in pairs])
    return float(-np.mean(np.log(np.where(true, stated, 1 - stated))))


def gap_closed(ours: NDArray[np.float64], naive: NDArray[np.float64], best: NDArray[np.float64]) -> Any:
    """Return per episode the share of the way from naive to the ceiling."""
    return (ours - naive) / np.maximum(best - naive, 1e-9)


def interval(values: NDArray[np.float64], triples: NDArray[np.int64], statistic: Callable[..., Any]) -> list[float]:
    """Return the 95 % bootstrap interval of `statistic`: triples are drawn again, and their draws."""
    rng, names, drawn = np.random.default_rng(0), np.unique(triples), []
    groups = {name: values[triples == name] for name in names}
    for _ in range(1000):
        again = [groups[name] for name in rng.choice(names, len(names))]
        drawn.append(statistic(np.concatenate([rng.choice(group, len(group)) for group in again])))
    return [float(bound) for bound in np.percentile(drawn, [2.5, 97.5])]


def closed_figures(part: str, closed: NDArray[np.float64], triples: NDArray[np.int64]) -> dict[str, Any]:
    """Return median, its interval and the tenth percentile of the gap closed, named after the `part` they are of."""
    return {
        f"gap closed, {part}": float(np.median(closed)),
        f"gap closed, {part}, interval": interval(closed, triples, np.median),
        f"gap closed, {part}, p10": float(np.percentile(closed, 10)),
    }


def opening(result: Mapping[str, Any], columns: Sequence[str], about: str = "") -> list[str]:
    """Return the first lines of a table in Markdown, with what there is to say `about` it all."""
    title = f"### {result['pool']}: {result['images']:,} images, {result['episodes']} episodes"
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return [title, "", *([about, ""] if about else []), *head]
