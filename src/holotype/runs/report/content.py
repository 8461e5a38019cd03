"""What the report of a run says, in words and numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.evaluation.metrics import Evaluation
from holotype.model.rows import COPY
from holotype.model.saved import versions
from holotype.names import counted
from holotype.pool.pool import Pool
from holotype.runs.findings import ClassFinding
from holotype.runs.remarks import said_of_answered
from holotype.runs.report.layout import LISTED, SECTIONS, clipped, first_few, layout_for
from holotype.runs.report.sheets import ClassSheet, class_sheet
from holotype.runs.results import Candidate, RunResult, unreadable
from holotype.runs.steps import NextStep, next_steps
from holotype.settings import Settings

_POOR = 0.1  # estimated precision below which the report warns of a group
_TITLED = 6  # classes that the title names
_LONGEST = 40_000  # characters of the settings that are shown


@dataclass(frozen=True)
class Fact:
    """How something was done, and in a few words what that means."""

    name: str
    value: Any
    meaning: str = ""


@dataclass(frozen=True)
class Trained:
    """How many images of a class, or of none, the model learnt from, and where its threshold is ("" of none)."""

    name: str
    learnt: int
    held_out: int
    threshold: str = ""


@dataclass(frozen=True)
class ReportContent:
    """What the report shows, for n images of the pool and K classes.

    sources     where the images are
    findings    what was found of each class
    sheets      what is shown of each, of the first `SECTIONS`
    evaluation  None when no test set was given
    scores      (n, K) float, nan where missing
    measure     what the scores are, in words
    thresholds  (K,) float score from which an image is found
    sweep       a dict per candidate: encoder, head, threshold, then numbers or None; the chosen one has chosen=True
    search      the two ways to search: rows [{name, overlap_at_k {k: share}, spearman}] and
                seconds {way: seconds}, images that both can see; None when the comparison was not asked for
    skipped     (id, reason) of images that could not be read
    ignored     files that are no images, counted by suffix
    notes       what to know before one relies on it
    steps       what to do next
    facts       how it was made
    trained     per class, and for none
    settings    TOML
    """

    classes: list[str]
    sources: list[str]
    findings: list[ClassFinding]
    sheets: list[ClassSheet]
    evaluation: Evaluation | None
    scores: NDArray[np.float64]
    measure: str
    thresholds: NDArray[np.float64]
    sweep: list[dict[str, Any]]
    search: dict[str, Any] | None
    skipped: list[tuple[str, str]]
    ignored: dict[str, int]
    notes: list[str]
    steps: list[NextStep]
    facts: list[Fact]
    trained: list[Trained]
    settings: str
    versions: dict[str, str]

    @property
    def title(self) -> str:
        """The classes, or how many there are."""
        few = len(self.classes) <= _TITLED
        return f"{first_few(self.classes, _TITLED) if few else f'{len(self.classes):,} classes'}, or none"


def report_content(settings: Settings, pool: Pool, result: RunResult) -> ReportContent:
    """Return what the report of a run says."""
    chosen, groups, found = result.chosen, result.chosen.groups, result.findings()
    layout, given, tested = layout_for(len(found)), chosen.search.exemplars, chosen.evaluation is not None
    return ReportContent(
        classes=list(groups.classes),
        sources=[one.source for one in pool.parts or [pool]],
        findings=found,
        sheets=[class_sheet(pool, groups, given, k, one, layout) for k, one in enumerate(found[:SECTIONS])],
        evaluation=chosen.evaluation,
        scores=groups.scores.astype(np.float64),
        measure="Cosine" if groups.score_kind == "cosine" else "Estimated probability",
        thresholds=np.array([t.value for t in groups.thresholds]),
        sweep=result.sweep_rows(),
        search=result.search_table() if settings.search == "both" else None,
        skipped=unreadable(pool, chosen),
        ignored=dict(pool.ignored),
        notes=list(_notes(pool, result, found)),
        steps=list(next_steps(settings.out or "OUT", tested=tested)),
        facts=list(_facts(settings, chosen)),
        trained=list(_trained(chosen)),
        settings=_cut(settings.to_toml()),
        versions=versions(),
    )


def _cut(settings: str) -> str:
    """Return the settings; of very many exemplars the first."""
    if len(settings) <= _LONGEST:
        return settings
    head, tail = settings[: _LONGEST * 3 // 4], settings[-_LONGEST // 4 :]
    return f"{head}\n# … {len(settings) - len(head) - len(tail):,} characters more are in holotype.toml …\n{tail}"


def _facts(settings: Settings, chosen: Candidate) -> Iterator[Fact]:
    classifier, search = chosen.classifier, chosen.search
    training = classifier.training_
    met = {
        "weights": "class weights, inverse to frequency",
        "effective": "class weights, inverse to the effective number of images",
        "augment": f"{training.counts['augmented views']:,} augmented views of training images",
        "none": "nothing",
    }
    yield Fact("Images", len(classifier.groups_.decision), "in the pool")
    yield Fact(
        "Searched by",
        f"the vectors of {search.encoder.name}" if search.encoder else "the vectors that were given",
        "a vector is what a network makes of an image: similar images have similar vectors",
    )
    yield Fact("Encoder", f"{chosen.encoder}, {classifier.encoder_.dim} dimensions", "the network of the model")
    yield Fact("Head", chosen.head, "the small model that is trained on what the encoder makes of an image")
    if chosen.tuned is not None:
        tuned = chosen.tuned
        yield Fact("Tuned", f"{tuned.trials} trials, validation loss {tuned.loss_before:.4f} -> {tuned.loss:.4f}")
    automatic = chosen.threshold == "auto"
    yield Fact(
        "Threshold of the groups",
        "found for each class" if automatic else f"cosine {chosen.threshold}",
        "where each class stands apart best" if automatic else "as it was given",
    )
    yield Fact(
        "Imbalance", f"met by {met[settings.fit.balance]}", "so that a rare class counts as much as a common one"
    )
    copies = sum(why == COPY for why in training.dropped.values())
    if tested := len(training.dropped) - copies:
        yield Fact("Kept out of training", tested, "images of the test set, and what is nearly the same")
    if copies:
        yield Fact("Copies", copies, "of other images: learnt from once")
    for one in classifier.cross_fit_.answered[:LISTED]:
        if one.shown or one.taken:
            yield Fact(
                f"Answered images of {clipped(one.name)}",
                said_of_answered(one),
                "each predicted by a model that did not learn from it",
            )


def _trained(chosen: Candidate) -> Iterator[Trained]:
    calibration, training = chosen.classifier.calibration_, chosen.classifier.training_
    where = [f"{value:.3f} ({basis})" for value, basis in zip(calibration.thresholds, calibration.basis, strict=True)]
    for name, threshold in zip(training.classes, [*where, ""], strict=True):
        yield Trained(name, training.counts[name], training.counts_held_out[name], threshold)


def _notes(pool: Pool, result: RunResult, found: Sequence[ClassFinding]) -> Iterator[str]:
    yield from pool.notes
    yield from (f"{why[0].upper()}{why[1:]}." for why in result.warnings)
    trusting = [one.name for one in found if one.trusted]
    if left := [one.name for one in found if one.threshold.provisional and not one.trusted]:
        whose = f" of {first_few(left)}" if trusting else ""
        yield (
            f"The thresholds{whose} are provisional: they come from the pool itself. Without labels no threshold "
            "can promise a precision (how many of the images found are right); look at the images around the threshold."
        )
    if trusting:
        yield (
            f"The thresholds of {first_few(trusting)} come from a model that learnt from answers. Only the random "
            "audit bounds the precision: see what is said of each class."
        )
    if result.chosen.groups.ranking is not None and result.chosen.search.encoder is None:
        yield (
            "No closer look was taken at the exemplars, as what made the embeddings is not known: name it with "
            "--embeddings-encoder."
        )
    for one in found:
        good = one.audit is not None and (one.audit.low or 0) >= _POOR
        if one.estimate is not None and one.estimate.estimated_precision < _POOR and not good:
            images = counted(one.found, "image")
            yield f"Most of the {images} found of {one.name} may well be wrong: look at them; more exemplars help."
    training = result.classifier.training_
    for name in result.chosen.groups.classes:
        if (count := training.counts[name]) > 1 and not training.counts_held_out[name]:
            yield (
                f"No image of {name} could be held out ({count:,} to learn from): nothing here "
                "checks how it is told apart. A lower threshold or more exemplars help; or, if the images are all "
                "alike, a higher --set near_duplicate, as what is nearly the same is held out together."
            )
    if uncounted := result.uncounted():
        yield uncounted
    if result.answers.set_aside:
        yield f"Of the answers {result.answers}."
    for encoder, threshold, reason in result.failed:
        yield f"Threshold {threshold} with {encoder} could not be trained: {reason}"


def name_of(source: str) -> str:
    """Return what the place of a pool is called, without the folders it is in."""
    return Path(source).name or source
