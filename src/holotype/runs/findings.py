"""What a run found of each class: counted once, for the terminal and for the report."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from holotype.answers.audit import Audit, in_percent
from holotype.answers.index import AnswerCounts
from holotype.answers.refine import Refined
from holotype.evaluation.metrics import ClassResult, Evaluation
from holotype.grouping.groups import ClassThreshold, Estimate, Groups, ScoreKind
from holotype.grouping.ways import ClassWays
from holotype.names import counted

_CONNECTED = {"strong": "closely connected", "fair": "connected", "weak": "hardly connected"}  # by similarity


@dataclass(frozen=True)
class ClassFinding:
    """What was found of one class.

    found       images, without the exemplars
    doubtful    images that may show it, and are left out
    estimate    None where the group comes from a cosine that was given
    counts      answers about it, and `audit`: what those of the random sample prove; None without any answer
    tested      what the model is worth on the test set; None without one
    texts       words that describe it
    ways        what pictures, words and both found; None without both
    """

    name: str
    found: int
    doubtful: int
    score_kind: ScoreKind
    threshold: ClassThreshold
    estimate: Estimate | None = None
    counts: AnswerCounts | None = None
    audit: Audit | None = None
    tested: ClassResult | None = None
    texts: Sequence[str] = ()
    ways: ClassWays | None = None

    @property
    def trusted(self) -> bool:
        """Whether it follows answers beyond the images that were answered."""
        return self.counts is not None and self.counts.trusted

    @property
    def known(self) -> str:
        """How good it is known to be, in a few words: what is proven, else how strong it looks."""
        if self.audit is not None and self.audit.whole:
            return "all looked at" if self.unseen == 0 else f"all looked at but {self.unseen:,}"
        if self.audit is not None and self.audit.low is not None:
            return f"at least {in_percent(self.audit.low)} % right"
        return self.estimate.strength if self.estimate is not None and self.trusted else "not checked"

    @property
    def unseen(self) -> int:
        """Images found that no answer counts for, where the others were all looked at, such as rows of a test set."""
        return max(self.found - self.audit.yes, 0) if self.audit is not None and self.audit.whole else 0

    @property
    def basis(self) -> str:
        """What that rests on."""
        audit = self.audit
        if audit is not None and audit.whole:
            each = f"a person looked at each: {audit.yes:,} of {audit.among:,} were right, the others are out"
            others = f"; {self.unseen:,} are of the test set, whose answers do not count, or were not looked at"
            return each + (others if self.unseen else "")
        if audit is not None and audit.low is not None:
            return f"proven with 95 % confidence: {audit.yes:,} of {audit.asked:,} drawn at random were right"
        if self.estimate is None:
            return "the threshold was given, and nothing is estimated"
        if self.trusted:
            return "estimated by a model that learnt from the answers"
        return f"its images are {_CONNECTED[self.estimate.strength]}, which does not say that they are right"

    @property
    def compared(self) -> str:
        """What its pictures and its words found, each alone and together; nothing for a class without words."""
        if (ways := self.ways) is None:
            return "They alone describe it: whether its images show it, only looking tells." if self.texts else ""
        alone = f"pictures alone find {counted(len(ways.picture), 'image')}, words alone {len(ways.words):,}"
        how = "find hardly anything that the pictures reach, and do not count"
        if ways.heard:
            how = "describe the pictures"
        elif ways.disagree:
            how = "hardly describe the pictures, and do not count"
        heard = "" if math.isnan(ways.agreement) else f" The words {how} (agreement {ways.agreement:.1f})."
        return f"By the exemplars, {alone}, {ways.common:,} of them in common; together {len(ways.both):,}.{heard}"

    def measured(self) -> str:
        """Return the F1 on the test set with its interval, or why there is none; nothing without a test set."""
        if self.tested is None:
            return ""
        f1 = self.tested.f1
        if f1.reason:
            return f"F1 undefined, {f1.reason}"
        rows = counted(self.tested.support, "row")
        return f"F1 {f1.value:.2f} {f'({f1.low:.2f} to {f1.high:.2f}) ' if math.isfinite(f1.low) else ''}on {rows}"

    def __str__(self) -> str:
        kind = "cosine" if self.score_kind == "cosine" else "score"
        said = f"{self.name}: {self.found:,} found, {self.doubtful:,} doubtful; {self.known}"
        said += f"; {kind} from {self.threshold.value:.3f}"
        if self.tested is None:
            return said
        area = "" if self.tested.roc_auc.reason else f", AUC {self.tested.roc_auc.value:.2f}"
        return f"{said}; test set: {self.measured()}{area}"


def findings(
    groups: Groups, stated: Sequence[Estimate], refined: Refined | None, evaluation: Evaluation | None
) -> Iterator[ClassFinding]:
    """Yield what was found of each class; `stated`: what is estimated about them, nothing where nothing is."""
    for k, name in enumerate(groups.classes):
        yield ClassFinding(
            name,
            len(groups.found(k)),
            int(((groups.label == k) & (groups.decision == "doubtful")).sum()),
            groups.score_kind,
            groups.thresholds[k],
            stated[k] if stated else None,
            refined.counts[k] if refined else None,
            refined.audits[k] if refined else None,
            evaluation.classes[k] if evaluation else None,
        )
