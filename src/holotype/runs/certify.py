"""A promise of a run's classes: what its model says of the pool, a random sample to answer, and where it is written."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from holotype import files
from holotype.answers.audit import CONFIDENCE
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.certify import PRECISION
from holotype.answers.exchange import read_answers
from holotype.answers.forms import form_lines
from holotype.answers.log import AnswerLog
from holotype.answers.records import Answer
from holotype.answers.scored import Certified, ScoredPool, still_holding
from holotype.errors import AnswersError, HolotypeError, HolotypeWarning, OutputError
from holotype.model.classifier import Classifier
from holotype.model.predictions import csv_line
from holotype.model.promises import CERTIFIED, PROMISES_FILE, Promise, Promises, certified
from holotype.model.saved import DESCRIPTION_FILE, digest_of_model
from holotype.names import command, counted
from holotype.pool.pool import Pool
from holotype.progress import Progress, Silent, in_steps
from holotype.runs.card import CARD, model_card
from holotype.runs.folder import RunFolder
from holotype.runs.images import open_images
from holotype.runs.places import find_inputs
from holotype.runs.report.promised import with_promises


@dataclass(frozen=True)
class Certification:
    """The saved model of a run, and what it says of the pool. It is about this model: what was promised falls with it.

    scored   what the model says
    fallen   classes whose promise the last attempt took back, as answers or images are others now
    others   what was promised, in another way, of the classes that the last attempt was about
    """

    folder: RunFolder
    classifier: Classifier
    scored: ScoredPool
    fallen: list[str] = field(default_factory=list)
    others: list[Promise] = field(default_factory=list)

    @classmethod
    def open(cls, folder: RunFolder, pool: Pool, baseline: ReviewBaseline, progress: Progress) -> "Certification":
        """Let the model of the run in `folder` score `pool`; vectors that are missing are computed.

        Raises `HolotypeError` where there is no model, or it is about other classes.
        """
        classifier = folder.load_model()
        model = digest_of_model((folder.model / DESCRIPTION_FILE).read_bytes())
        if CERTIFIED in classifier.classes_:
            raise AnswersError(
                f"predictions say in a column {CERTIFIED} what is promised, and a class is called so too: call the "
                "class something else, in a run of its own"
            )
        store = folder.open_store(classifier.encoder_, pool)
        vectors = store.embed(progress)
        with in_steps(progress, "score the pool"):
            scored = ScoredPool.of(classifier, model, pool, vectors, baseline.exemplar_rows, baseline.held_out)
        return cls(folder, classifier, scored)

    def attempt(
        self,
        log: AnswerLog,
        labels: Sequence[str],
        precision: float = PRECISION,
        confidence: float = CONFIDENCE,
        answers: int | None = None,
        recall: int = 0,
    ) -> list[Certified]:
        """Promise what can be promised of `labels`, as `ScoredPool.certify` does, and write it down.

        Promises of other classes stay as long as their answers and images do.
        """
        self.check()
        found = self.scored.certify(log, labels, precision, confidence, answers, recall)
        kept = [
            one
            for one in still_holding(self.classifier.promises_, self.scored.answered(log))
            if self._has_all_of(one) and not _replaced(one, found)
        ]
        before = {one.label: one for one in self.classifier.promises_}
        goals = {one.label: (one.precision, one.confidence, len(found)) for one in found}
        self.others[:] = [one for one in before.values() if one.goal != goals.get(one.label, one.goal)]
        new = [_following(one.promise, before.get(one.label)) for one in found if one.promise is not None]
        made = {one.label: one for one in [*kept, *new]}
        promises = [made[label] for label in self.scored.classes if label in made]
        self.fallen[:] = [label for label in before if label not in made]
        if promises or self.classifier.promises_:
            self.write(promises)
        return found

    def check(self) -> None:
        """Raise `OutputError` where the model in the folder is not the one that is certified."""
        with suppress(OSError):
            if digest_of_model((self.folder.model / DESCRIPTION_FILE).read_bytes()) == self.scored.model:
                return
        raise OutputError(f"the model in {self.folder.model} is another now, or gone: certify again")

    def write(self, promises: Sequence[Promise]) -> None:
        """Write `promises`, and no others, wherever the run says what is promised."""
        self.classifier.promises_ = list(promises)
        write_promises(self.folder, self.classifier, self.scored.model, self._covered())

    def _has_all_of(self, one: Promise) -> bool:
        """Whether the images of a promise are as they were; of one by an earlier model, those that are promised."""
        scored = self.scored
        if not one.earlier:
            return one.images == scored.images
        return one.lies_in(scored.pool.digests(np.flatnonzero(scored.eligible).tolist()))

    def _covered(self) -> Iterator[Sequence[object]]:
        """The images that are promised, as lines of a table."""
        scored = self.scored
        yield "id", "class", "probability", "path"
        rows = np.flatnonzero(scored.eligible).tolist()
        labels = certified(self.classifier.promises_, scored.pool.digests(rows))
        for row, label in zip(rows, labels, strict=True):
            if label:
                probability = scored.probabilities[row, list(scored.classes).index(label)]
                yield scored.pool.ids[row], label, f"{probability:.6f}", scored.pool.path(row)

    def lines(self, found: Sequence[Certified], say: Callable[[Promise], str] = str) -> list[str]:
        """Return what a person is told of the last attempt; `say` puts a promise into words."""
        fell = (
            "what was promised before does not hold any more, as its answers or the images of the pool are others now"
        )
        new = {one.label for one in found if one.promise is not None}
        ended = [
            f"{one.label}: this was promised before, and what follows takes its place: {one.brief}"
            if one.label in new
            else f"{one.label}: promised now, until what is asked for here can be and takes its place: {one.brief}"
            for one in self.others
            if one.label in new or one.label not in self.fallen
        ]
        fallen = [f"{label}: {fell}" for label in self.fallen]
        return [*fallen, *ended, *(line for one in found for line in one.lines(say))]

    def form(self, found: Sequence[Certified]) -> list[str]:
        """Return the lines of a form of what is to be answered; nothing where that is nothing."""
        asked = self.asked(found)
        return list(form_lines(asked, self.scored.pool)) if asked else []

    def asked(self, found: Sequence[Certified]) -> list[tuple[int, str]]:
        """Return the rows and classes that are to be answered.

        They come in the order in which images are drawn, which says nothing of their probabilities. Of copies one is
        asked about.
        """
        scored, rows = self.scored, dict[tuple[str, str], int]()
        for one in found:
            for row in sorted(one.decision.wanted, key=lambda row: scored.numbers[row]):
                rows.setdefault((one.label, scored.pool.digest(row)), row)
        return [(row, label) for (label, _), row in rows.items()]


def write_promises(folder: RunFolder, classifier: Classifier, model: str, covered: Iterable[Sequence[object]]) -> None:
    """Write what `classifier` promises, and no more, wherever the run in `folder` says what is promised.

    model     the digest of the saved model
    covered   the lines of the table of images that are promised
    """
    promises = classifier.promises_
    text = Promises(model=model, promises=promises).to_json()
    changed: dict[Path, str | None] = {folder.model / PROMISES_FILE: text if promises else None}
    changed[folder.model / CARD] = model_card(classifier, folder.metrics)
    changed[folder.certified] = "".join(map(csv_line, covered)) if promises else None
    with suppress(OSError):
        changed[folder.report] = with_promises(folder.report.read_text(encoding="utf-8"), promises)
    folder.change(changed)


def _following(new: Promise, old: Promise | None) -> Promise:
    """Return a promise with what an earlier one knows of it: looked at again, it is of the day when it was made."""
    if old is None or old.threshold != new.threshold:
        return new
    new = new.model_copy(update={"recall": new.recall or old.recall})
    return old if new.model_copy(update={"date": old.date}) == old else new


def _replaced(old: Promise, found: Sequence[Certified]) -> bool:
    """Whether a promise gives way: to another one, or as it could not be made again."""
    return any(
        one.label == old.label and (one.promise is not None or (one.precision, one.confidence, len(found)) == old.goal)
        for one in found
    )


def certify_run(
    out: Path,
    label: str | None = None,
    precision: float = PRECISION,
    confidence: float = CONFIDENCE,
    answers: int | None = None,
    recall: int = 0,
    progress: Progress | None = None,
    form: Path | None = None,
) -> tuple[list[str], list[str]]:
    """Promise a precision of a class of the run in `out`, or of all its classes at once.

    Returns what is said, and the lines of a form with the images of the random sample that are to be answered first;
    nothing where none are. They are written to the file `form` as well; not over one with answers that were not taken
    yet. What can be promised is written into the run. Raises `HolotypeError`.
    """
    progress, folder = progress or Silent(), RunFolder(out)
    folder.read_settings()  # where there is no run, no folder is made
    if not files.is_writable(out):
        raise OutputError(f"{out} can only be read, and a promise is written there: copy the folder of the run")
    with folder.lock("holotype certify"):
        settings = find_inputs(folder, needed=["images"])
        if label is not None and label not in settings.exemplars:
            raise AnswersError(f"expected one of the classes {', '.join(settings.exemplars)}, got {label!r}")
        if form is not None and form.exists():
            check_taken(form, list(settings.exemplars), folder.read_answers(), out)
        pool = open_images(folder, settings, progress)
        baseline = folder.read_baseline(list(settings.exemplars), pool)
        certification = Certification.open(folder, pool, baseline, progress)
        with folder.open_answers() as log:
            labels = [label] if label is not None else list(settings.exemplars)
            found = certification.attempt(log, labels, precision, confidence, answers, recall)
    asked = certification.form(found)
    lines = certification.lines(found)
    again = ["certify", out, *(["--class", label] if label is not None else [])]
    again += ["--precision", f"{precision:g}"] if precision != PRECISION else []
    again += ["--confidence", f"{confidence:g}"] if confidence != CONFIDENCE else []
    if asked:
        again += ["--answers", answers] if answers is not None else []
        again += ["--recall", recall] if recall else []
        count, page = counted(len(asked) - 1, "image"), f"{command('review', out)}, key C, shows the pictures"
        if form is None:
            lines.append(f"{count} to answer: {page}; or as a form: {command(*again, '--form', 'form.csv')}")
        else:
            files.write(form, "".join(f"{line}\n" for line in asked))
            lines.append(
                f"{count} to answer, in {form}: fill in yes, no or unsure ({page}), give it to "
                f"{command('answer', out, form)}, and then: {command(*again, '--form', form)}"
            )
    elif enough := [one.decision.enough for one in found if one.decision.enough is not None]:
        lines.append(f"to go on: {command(*again, '--answers', max(enough))}")
    return lines, asked


def check_taken(form: Path, classes: Sequence[str], known: Sequence[Answer], out: Path) -> None:
    """Raise `AnswersError` where the file `form` has answers that the run in `out` has not, or is no form."""
    try:
        given = read_answers(form, classes)
    except HolotypeError as error:
        raise AnswersError(f"{form} is there already and is no form, so it is not written over ({error})") from None
    there = {(one.id, one.label, "yes" if one.verdict == "exemplar" else one.verdict) for one in known}
    if new := sum((one.id, one.label, one.verdict) not in there for one in given):
        raise AnswersError(
            f"{form} has {counted(new, 'answer')} that the run has not: give it to {command('answer', out, form)} "
            "first, or name another file"
        )


def keep_holding(folder: RunFolder, classifier: Classifier) -> None:
    """Let `classifier`, of the run in `folder`, promise only what still rests on the answers as they are now."""
    if not classifier.promises_:
        return
    kept: list[Promise] = []
    with suppress(AnswersError):
        kept = still_holding(classifier.promises_, folder.read_answers())
    for one in classifier.promises_:
        if one not in kept:
            warnings.warn(
                f"what was promised of {one.label} does not hold any more, as answers that it rests on were changed or "
                "are gone: "
                f"{command('certify', folder.path, '--class', one.label)} says what can be promised now",
                HolotypeWarning,
                stacklevel=3,
            )
    classifier.promises_ = kept
