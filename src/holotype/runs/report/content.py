"""What the report of a run says, in words and numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.evaluation.metrics import Evaluation
from holotype.grouping.groups import Estimate
from holotype.model.classifier import versions
from holotype.model.rows import COPY
from holotype.names import counted
from holotype.pool.pool import Pool
from holotype.runs.remarks import said_of_answered
from holotype.runs.report.sheets import class_summary
from holotype.runs.results import Candidate, RunResult, unreadable
from holotype.settings import Settings

LEARNT_FROM = "Learnt from as"
_POOR = 0.1  # estimated precision below which the report warns of a group


@dataclass(frozen=True)
class ReportContent:
    """What the report shows, for n images of the pool and K classes.

    evaluation  None when no test set was given
    groups      per class: name, exemplars [(id, jpeg)], threshold, threshold_basis, explained (sentences), members,
                doubtful, and best, borderline, rejected, each [(id, caption, jpeg)]
    scores      (n, K) float, nan where missing
    measure     what the scores are, in words
    thresholds  (K,) float score from which an image is a member
    sweep       a dict per candidate: encoder, head, threshold, then numbers or None; the chosen one has chosen=True
    search      the two ways to search: rows [{name, overlap_at_k {k: share}, spearman}] and
                seconds {way: seconds}, images that both can see; None when they were not compared
    skipped     (id, reason) of images that could not be read
    ignored     files that are no images, counted by suffix
    notes       warnings, shown on top
    facts       (key, value): imbalance, split, calibration, probability thresholds
    settings    TOML
    """

    title: str
    classes: list[str]
    evaluation: Evaluation | None
    groups: list[dict[str, Any]]
    scores: NDArray[np.float64]
    measure: str
    thresholds: NDArray[np.float64]
    sweep: list[dict[str, Any]]
    search: dict[str, Any] | None
    skipped: list[tuple[str, str]]
    ignored: dict[str, int]
    notes: list[str]
    facts: list[tuple[str, Any]]
    settings: str
    versions: dict[str, str]


def report_content(settings: Settings, pool: Pool, result: RunResult) -> ReportContent:
    """Return what the report of a run says."""
    chosen, groups = result.chosen, result.chosen.groups
    stated, given = chosen.estimates, chosen.search.exemplars
    return ReportContent(
        title=f"{', '.join(groups.classes)}, or none",
        classes=list(groups.classes),
        evaluation=chosen.evaluation,
        groups=[class_summary(pool, groups, given, k, stated, chosen.refined) for k in range(len(groups.classes))],
        scores=groups.scores.astype(np.float64),
        measure="Cosine" if groups.score_kind == "cosine" else "Estimated probability",
        thresholds=np.array([t.value for t in groups.thresholds]),
        sweep=result.sweep_rows(),
        search=result.search_table(),
        skipped=unreadable(pool, chosen),
        ignored=dict(pool.ignored),
        notes=list(_notes(pool, result, stated)),
        facts=list(_facts(settings, chosen)),
        settings=settings.to_toml(),
        versions=versions(),
    )


def _facts(settings: Settings, chosen: Candidate) -> Iterator[tuple[str, Any]]:
    classifier = chosen.classifier
    calibration, training = classifier.calibration_, classifier.training_
    met = {
        "weights": "class weights, inverse to frequency",
        "effective": "class weights, inverse to the effective number of images",
        "augment": f"{training.counts['augmented views']:,} augmented views of training images",
        "none": "nothing",
    }
    yield "Images", len(classifier.groups_.decision)
    yield "Encoder", f"{chosen.encoder}, {classifier.encoder_.dim} dimensions"
    yield "Head", chosen.head
    if chosen.tuned is not None:
        tuned = chosen.tuned
        yield "Tuned", f"{tuned.trials} trials, validation loss {tuned.loss_before:.4f} -> {tuned.loss:.4f}"
    yield "Imbalance", f"met by {met[settings.fit.balance]}"
    held_out = training.counts_held_out
    for name in training.classes:
        yield f"{LEARNT_FROM} {name}", f"{training.counts[name]:,}, of which {held_out[name]:,} are held out in turn"
    yield "Augmented views", training.counts["augmented views"]
    copies = sum(why == COPY for why in training.dropped.values())
    yield "Left out as test rows or nearly the same", len(training.dropped) - copies
    yield "Copies, which are learnt from once", copies
    for one in classifier.cross_fit_.answered:
        if one.shown or one.taken:
            yield f"Answered images of {one.name}, each held out", said_of_answered(one)
    for name, value, basis in zip(classifier.classes_[:-1], calibration.thresholds, calibration.basis, strict=True):
        yield f"Probability threshold of {name}", f"{value:.3f} ({basis})"


def _notes(pool: Pool, result: RunResult, stated: Sequence[Estimate]) -> Iterator[str]:
    yield from pool.notes
    yield from (f"{why[0].upper()}{why[1:]}." for why in result.warnings)
    groups, refined = result.chosen.groups, result.chosen.refined
    follows = [one.trusted for one in refined.counts] if refined else [False] * len(groups.classes)
    provisional = [name for name, one in zip(groups.classes, groups.thresholds, strict=True) if one.provisional]
    trusting = [name for name, trusted in zip(groups.classes, follows, strict=True) if trusted]
    if left := [name for name in provisional if name not in trusting]:
        whose = f" of {', '.join(left)}" if trusting else ""
        yield (
            f"The thresholds{whose} are provisional: they come from the pool itself. Without labels no threshold "
            "can promise a precision; look at the borderline images."
        )
    if trusting:
        yield (
            f"The thresholds of {', '.join(trusting)} come from a model that learnt from answers. Only the random "
            "audit bounds the precision: see what is said of each class."
        )
    if groups.ranking is not None and result.chosen.search.encoder is None:
        yield (
            "No closer look was taken at the exemplars, as what made the embeddings is not known: name it with "
            "--embeddings-encoder."
        )
    audits = refined.audits if refined else []
    known_good = [(audit.low or 0) >= _POOR for audit in audits] or [False] * len(groups.classes)
    for name, found, good in zip(groups.classes, stated, known_good, strict=False):
        if found.estimated_precision < _POOR and not good:
            members = counted(found.found, "member")
            yield f"Most of the {members} of {name} may well be wrong: look at them; more exemplars help."
    training = result.classifier.training_
    for name in groups.classes:
        if (count := training.counts[name]) > 1 and not training.counts_held_out[name]:
            yield (
                f"No image of {name} could be held out (Training, {LEARNT_FROM} {name}: {count:,}): nothing here "
                "checks how it is told apart. A lower threshold or more exemplars help; or, if the images are all "
                "alike, a higher --set near_duplicate, as what is nearly the same is held out together."
            )
    if uncounted := result.uncounted():
        yield uncounted
    if result.answers.set_aside:
        yield f"Of the answers {result.answers}."
    for encoder, threshold, reason in result.failed:
        yield f"Threshold {threshold} with {encoder} could not be trained: {reason}"
