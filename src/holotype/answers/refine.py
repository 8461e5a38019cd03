"""The one way from groups and answers to refined groups.

Every class is learnt anew, every answered image is decided by its answer, and the audit says what that is worth.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from holotype import forks
from holotype.answers.audit import Audit, audit
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.feedback import Expectation, FeedbackData, FeedbackModel, Logits, best_cut, learn, sigmoid
from holotype.answers.index import AnswerCounts, AnswerIndex
from holotype.answers.records import Answer
from holotype.answers.shared import index_shared
from holotype.grouping.groups import ClassThreshold, Groups, group
from holotype.model.rows import PoolLabels
from holotype.settings import TrainSettings

Rows = NDArray[np.int64]


@cache
def _products() -> ThreadpoolController:
    import_module("scipy.linalg")  # its products are limited too, and by what is loaded now
    return ThreadpoolController()


class _OneCore:
    """Learn on one core: two threads of such small products mostly wait for each other, and keep who answers waiting.

    So the outcome does not depend on the number of cores either. The limit holds for the whole process: one at a time.
    """

    def __init__(self) -> None:
        self._limits: Any = None
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Let the thread that learnt in the parent, and is not here, keep nobody waiting, nor on one core."""
        self._turn = Lock()
        if self._limits is not None:
            self._limits.restore_original_limits()
            self._limits = None
        forks.note(self)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Have the products within this on one core."""
        with self._turn, _products().limit(limits=1, user_api="blas") as limits:
            self._limits = limits
            try:
                yield
            finally:
                self._limits = None


on_one_core = _OneCore()


@dataclass(frozen=True)
class Refined:
    """Groups after answers.

    groups             with what was answered
    index              the answers by row
    counts             per class how often each was given, and whether the class follows them
    logits             (n, K) of the estimated probabilities, before any row was decided by its own answer
    untrusted_logits   (n, K) the same, where answers are believed before they have proved themselves: questions follow
    cuts               (K,) the logit from which on a row is a member
    models             per class
    audits             per class
    sampled            per class the rows that its audit is a sample of
    decided            all rows that answers decided: a "no" to one class may leave open whether it is another's
    audited            rows that were asked about as an audit: the groups do not learn from them, the model does
    words              row -> what was answered about it, where that decided
    """

    groups: Groups
    index: AnswerIndex
    counts: Sequence[AnswerCounts]
    logits: Logits
    untrusted_logits: Logits
    cuts: Logits
    models: Sequence[FeedbackModel]
    audits: Sequence[Audit]
    sampled: Sequence[Rows]
    decided: Rows
    audited: Rows
    words: Mapping[int, str]

    def reason(self, row: int) -> str:
        """Return why `row` was decided as it was."""
        return self.words.get(row) or self.groups.reason(row)

    @property
    def answered(self) -> Rows:
        """Those of the rows decided that the groups learn from too."""
        return np.setdiff1d(self.decided, self.audited)

    @property
    def labels(self) -> PoolLabels:
        """What the rows of the pool may be learnt as."""
        return PoolLabels(self.groups, self.decided, self.index.negative)


def refine(
    baseline: ReviewBaseline, answers: Sequence[Answer], rows: Mapping[str, int], settings: TrainSettings
) -> Refined:
    """Return the groups of `baseline` after `answers`; those about other images or classes decide nothing.

    answers    those that hold, in the order of recording (`index.match_answers`)
    rows       id -> pool row
    settings   the width of the doubtful band, the ambiguity and the seed
    """
    groups, classes = baseline.groups, range(len(baseline.groups.classes))
    index = index_shared(answers, groups, rows, baseline.held_out)
    with on_one_core():
        models, logits, cuts = _learn_classes(baseline, index, settings.seed)
    learnt = _regroup(baseline, logits, cuts, models, settings)
    # what the audit is a sample of: the groups after all answers but its own
    without_audits = _denied(learnt, [index.learnable(k)[1] for k in classes], settings.ambiguity)
    sampled = [np.setdiff1d(_sampled(without_audits, index, k), list(baseline.held_out)) for k in classes]
    numbers = baseline.numbers
    denied = _denied(learnt, index.negative, settings.ambiguity)
    final, is_decided = _decided(denied, index, baseline.exemplar_rows)
    explained = is_decided | (final.decision == "doubtful")  # a "no" may leave another class in doubt
    return Refined(
        groups=final,
        index=index,
        counts=[replace(one, trusted=model.trusted) for one, model in zip(index.counts, models, strict=True)],
        logits=logits,
        untrusted_logits=np.stack([one.untrusted_logits for one in models], axis=1),
        cuts=cuts,
        models=models,
        audits=[audit(sampled[k], numbers, _known(index, k), set(index.drawn[k].tolist())) for k in classes],
        sampled=sampled,
        decided=np.array([row for row in index.words if is_decided[row]], np.int64),
        audited=_union(index.audited),
        words={row: text for row, text in index.words.items() if explained[row]},
    )


def _learn_classes(
    baseline: ReviewBaseline, index: AnswerIndex, seed: int
) -> tuple[list[FeedbackModel], Logits, Logits]:
    """Return what answers lead to for each class, the logits (n, K), and the logits (K,) from which a row is a member.

    A class that does not trust its answers, and an image without a vector, stay as the exemplars alone have them.
    """
    groups = baseline.groups
    logits, cuts = exemplar_logits(groups)
    missing, models = groups.missing, []
    for k in range(len(cuts)):
        data = _feedback_data(baseline, index, k)
        model = learn(baseline.vectors, logits[:, k], data, seed, groups.distinct)
        if groups.copy_of is not None:  # equal vectors may differ in the last digit of a product, and a cut is a logit
            shared, untrusted = model.logits[groups.copy_of], model.untrusted_logits[groups.copy_of]
            model = replace(model, logits=shared, untrusted_logits=untrusted)
        models.append(model)
        if model.trusted:
            free = np.setdiff1d(np.flatnonzero(~missing & groups.distinct), [*data.rows, *baseline.exemplar_rows])
            cuts[k] = best_cut(model.logits[free], int(data.yes.sum()))
    after = np.stack([np.where(missing, logits[:, k], one.logits) for k, one in enumerate(models)], axis=1)
    return models, after, cuts


def expectation(baseline: ReviewBaseline, refined: Refined, k: int, seed: int, among: Rows) -> Expectation:
    """Return what class `k` would be learnt to be after further answers, as to the rows `among`."""
    prior, groups = exemplar_logits(baseline.groups)[0][:, k], baseline.groups
    data = _feedback_data(baseline, refined.index, k)
    correction = refined.models[k].correction
    return Expectation(baseline.vectors, prior, data, correction, among, seed, groups.distinct)


def exemplar_logits(groups: Groups) -> tuple[Logits, Logits]:
    """Return the logits (n, K) of the scores of `groups`, and those of the thresholds (K,).

    A cosine counts as a logit of 0 at the threshold, and of -1 a width of the doubtful band below. No logit is below
    -9, which is that of what is out of reach; a threshold is above.
    """
    scores = np.nan_to_num(groups.scores.astype(np.float64))
    values = np.array([threshold.value for threshold in groups.thresholds])
    if groups.score_kind == "cosine":
        bands = np.array([max(one.value - one.doubtful, 0.02) for one in groups.thresholds])
        return np.clip((scores - values) / bands, -9, 9), np.zeros(len(values))
    logit = np.log(np.maximum(scores, 1e-9)) - np.log(np.maximum(1 - scores, 1e-9))
    cuts = np.log(np.maximum(values, 1e-9)) - np.log(np.maximum(1 - values, 1e-9))
    return np.maximum(logit, -9), np.maximum(cuts, -8.9)


def _feedback_data(baseline: ReviewBaseline, index: AnswerIndex, k: int) -> FeedbackData:
    """What was answered about class `k`; answers about others alone, which are "no" to it, are no data."""
    copies = ~baseline.groups.distinct  # of which one is learnt from
    apart = np.concatenate([np.flatnonzero(baseline.groups.missing | copies), [*baseline.exemplar_rows]])
    positive, negative = (np.setdiff1d(rows, apart) for rows in index.learnable(k))
    rows = np.concatenate([positive, negative]) if index.counts[k].decided else positive[:0]
    others = [vectors for j, vectors in enumerate(baseline.exemplars) if j != k]
    dim = baseline.vectors.shape[1]
    return FeedbackData(
        baseline.exemplars[k],
        np.concatenate([np.empty((0, dim), np.float32), *others]),
        rows,
        np.arange(len(rows)) < len(positive),
    )


def _regroup(
    baseline: ReviewBaseline, logits: Logits, cuts: Logits, models: Sequence[FeedbackModel], settings: TrainSettings
) -> Groups:
    before, trusted = baseline.groups, np.array([one.trusted for one in models])
    if not trusted.any():
        return before
    scores = sigmoid(logits).astype(np.float32)
    scores[np.isnan(before.scores)] = np.nan
    halved = 0.5**settings.doubtful_band
    thresholds = [
        ClassThreshold(value, value * halved, "provisional: the greatest expected F1, after answers", True)
        if trusted[k]
        else replace(before.thresholds[k], value=value, doubtful=value * halved, basis=_basis(before, k))
        for k, value in enumerate(sigmoid(cuts).astype(np.float32).tolist())
    ]
    after = group(
        before.classes,
        scores,
        thresholds,
        baseline.exemplar_rows,
        settings.ambiguity,
        before.ranking,
        "estimate",
    )
    rounds = np.where((after.label == before.label) & ~trusted[after.label], before.rounds, np.int8(0))
    return replace(after, rounds=rounds, copy_of=before.copy_of, space=before.space, anchors=before.anchors)


def _basis(before: Groups, k: int) -> str:
    """Where the threshold of a class comes from that is grouped as before, while others follow answers."""
    one = before.thresholds[k]
    return one.basis if before.score_kind == "estimate" else f"{one.basis}; a cosine of {one.value:.3f}"


def _denied(groups: Groups, negative: Sequence[Rows], ambiguity: float) -> Groups:
    """Take each row that does not show some classes for what it is among the others."""
    rows = _union(negative)
    rows = rows[~groups.missing[rows] & (groups.decision[rows] != "exemplar")]
    if not len(rows):
        return groups
    scores = groups.scores[rows].copy()
    for k, those in enumerate(negative):
        scores[np.isin(rows, those), k] = -np.inf
    among = group(groups.classes, scores, groups.thresholds, {}, ambiguity)
    label, decision, tie = groups.label.copy(), groups.decision.copy(), groups.tie.copy()
    label[rows] = np.where(np.isinf(scores).all(axis=1), label[rows], among.label)
    decision[rows], tie[rows] = among.decision, among.tie
    return replace(groups, label=label, decision=decision, tie=tie)


def _sampled(groups: Groups, index: AnswerIndex, k: int) -> Rows:
    """What class `k` holds whatever the audit says: its members, corrected by the answers that are learnt from."""
    positive, negative = index.learnable(k)
    members = np.flatnonzero((groups.label == k) & (groups.decision == "member"))
    rows = np.setdiff1d(np.union1d(members, positive), np.concatenate([negative, index.unsure[k]]))
    return np.asarray(rows[groups.decision[rows] != "exemplar"])


def _known(index: AnswerIndex, k: int) -> dict[int, bool]:
    return dict.fromkeys(index.negative[k].tolist(), False) | dict.fromkeys(index.positive[k].tolist(), True)


def _decided(learnt: Groups, index: AnswerIndex, exemplar_rows: Mapping[int, int]) -> tuple[Groups, NDArray[np.bool_]]:
    """Let each answer decide on its own image; return which rows (n,) were. In `learnt` each "no" has its effect."""
    decided = np.zeros(len(learnt.label), bool)
    if not index.words:
        return learnt, decided
    label, decision, there = learnt.label.copy(), learnt.decision.copy(), ~learnt.missing
    for k, rows in enumerate(index.unsure):  # else "none" would be learnt from what nobody could tell
        open_ = rows[(there & ((decision == "background") | (label == k)))[rows]]
        label[open_], decision[open_], decided[open_] = k, "doubtful", True
    for k, rows in enumerate(index.positive):
        label[rows], decision[rows], decided[rows] = k, "member", True
    for row, k in exemplar_rows.items():
        label[row], decision[row], decided[row] = k, "exemplar", False
    return replace(learnt, label=label, decision=decision), decided | (decision == "background")


def _union(parts: Sequence[Rows]) -> Rows:
    return np.unique(np.concatenate([*parts, np.empty(0, np.int64)]))
