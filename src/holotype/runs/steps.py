"""What to do with a finished run: the same commands on the terminal and in the report."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holotype.names import command
from holotype.runs.findings import ClassFinding

_POOR = 0.5  # F1 on a test set below which it is said


@dataclass(frozen=True)
class NextStep:
    """A command as a shell takes it, and what it is good for; what is in capitals is to be put in."""

    name: str
    command: str
    purpose: str


def next_steps(out: Path | str, *, tested: bool) -> Iterator[NextStep]:
    """Yield what to do with the run in `out`: look at it, then use it; `tested`: whether it has a test set."""
    yield NextStep(
        "review",
        command("review", out, "--open"),
        "Look the groups over, page by page: two minutes of answers per class find more images, put right what is "
        "wrong, and say how good the groups are.",
    )
    yield NextStep("predict", f"{command('predict', out)} IMAGES", "Have the model say what other images show.")
    yield NextStep(
        "certify",
        f"{command('certify', out)} --class NAME",
        "Have a precision promised that holds with 95 % confidence; about 60 answers.",
    )
    yield NextStep(
        "discover",
        command("discover", out),
        "See what else is among none, each with the command that makes it a class.",
    )
    yield NextStep("serve", command("serve", out), "Have the model at an address that images are sent to.")
    yield NextStep(
        "export",
        f"{command('export', out)} --to FORMAT --out PATH",
        "Hand on the labels and images for other programs, or the model in one file.",
    )
    if not tested:
        yield NextStep(
            "test set",
            f"{command('run', out)} --test-set FILE.csv",
            "Measure the model: a CSV of images of the pool, with the columns filename and label (a class, or none). "
            "Without one, nothing here says how often the model is right.",
        )


def advice(finding: ClassFinding) -> str:
    """Return what would help a class most, in a sentence."""
    audit, tested, estimate = finding.audit, finding.tested, finding.estimate
    advised = {
        "Give another exemplar: one that looks more like what the pool has of it.": not finding.found,
        "The test set shows it in ways that were not found: exemplars of those, or answers, help most.": (
            tested is not None and not tested.f1.reason and tested.f1.value < _POOR
        ),
        "Nothing is left to look at; another exemplar may find what is missing.": audit is not None and audit.whole,
        "More answers raise what is proven; certify promises it.": audit is not None and audit.low is not None,
        "Look at these first: another exemplar or a few answers help most here.": (
            estimate is not None and estimate.strength == "weak"
        ),
        "Look through them, and decide on the doubtful: review asks about both.": finding.doubtful > 0,
    }
    others = "Look through them: review asks about the surest and the likeliest others."
    return next((sentence for sentence, holds in advised.items() if holds), others)
