"""A run goes on with what is new: images, classes, answers; what did not change is not done again, and stays."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from holotype.answers.baseline import ReviewBaseline
from holotype.answers.images import RowImages
from holotype.answers.records import NewAnswer
from holotype.errors import AnswersError, TestSetError
from holotype.filestate import regular
from holotype.model.classifier import Classifier
from holotype.names import counted, same_name
from holotype.pool.exemplars import Exemplar
from holotype.pool.pool import Pool, open_pool
from holotype.progress import Progress, Silent
from holotype.runs.changes import RunChanges
from holotype.runs.folder import RunFolder
from holotype.runs.images import kept_exemplars
from holotype.runs.inputs import open_inputs, with_exemplars
from holotype.runs.lasting import LastingPromises
from holotype.runs.places import find_inputs
from holotype.runs.results import RunResult
from holotype.runs.state import UPDATE, RunState, take_back_unfinished
from holotype.runs.sweep import do_run, known_exemplars
from holotype.settings import Settings


@dataclass(frozen=True)
class Updated:
    """What came of an update.

    result    None where nothing was new, and so nothing was done
    changed   what is another now, line by line
    """

    result: RunResult | None
    changed: Sequence[str]


def update_run(out: Path, changes: RunChanges | None = None, progress: Progress | None = None) -> Updated:
    """Bring the run in `out` up to what its images, its answers and `changes` are now.

    Images are encoded that have no vector yet, and only these. Groups, model and report are made again, in the space
    that they were found in, unless the images are others now (`growth.keeps_space`). Answers hold, as does a promise of
    which all images and answers are as they were. Where nothing is new, nothing is done. Raises `HolotypeError`.
    """
    progress, folder = progress or Silent(), RunFolder(out)
    folder.read_settings()  # where there is no run, no folder is made
    with folder.lock("holotype update"):
        before = find_inputs(folder)
        asked, classes = changes or RunChanges(), list(before.exemplars)
        changes = asked.of(classes)
        settings = changes.change(before)
        take_back_unfinished(folder, classes)
        pool = open_pool(settings.sources, allow_truncated=settings.allow_truncated, progress=progress)
        earlier, found = _Earlier(folder), list[Exemplar]()
        if settings.exemplars != before.exemplars:
            found = earlier.exemplars(settings, pool, progress)
            settings = with_exemplars(settings, found)
        if RunState.of(folder, settings, pool).is_same(RunState.read(folder), lambda: earlier.has_images_of(pool)):
            same = f"nothing is new: {counted(len(pool), 'image')}, and answers, classes and settings"
            return Updated(None, [same, *_said_of_unknown(asked, classes)])
        updated = _Update(folder, changes, progress).do(settings, pool, earlier, found)
        return replace(updated, changed=[*updated.changed, *_said_of_unknown(asked, classes)])


@dataclass(frozen=True)
class _Earlier:
    """What the run in `folder` left, read once, when it is first asked for; nothing where that cannot be read."""

    folder: RunFolder

    @cached_property
    def _baseline(self) -> ReviewBaseline | None:
        with suppress(AnswersError):
            return self.folder.load_baseline()
        return None

    @property
    def images(self) -> RowImages | None:
        return None if self._baseline is None else self._baseline.images

    def has_images_of(self, pool: Pool) -> bool:
        return self.images is not None and self.images.are_of(pool)

    def exemplars(self, settings: Settings, pool: Pool, progress: Progress) -> list[Exemplar]:
        """Return those of `settings` as they are now, by the pictures that the run kept of them."""
        return known_exemplars(kept_exemplars(self.folder, self._baseline, settings, pool), pool, progress)


@dataclass(frozen=True)
class _Update:
    """An update of a run whose `folder` is held."""

    folder: RunFolder
    changes: RunChanges
    progress: Progress

    def do(self, settings: Settings, pool: Pool, earlier: _Earlier, exemplars: list[Exemplar]) -> Updated:
        """Do it; `exemplars` are those of `settings`, where these are others than in the run before."""
        folder, images = self.folder, earlier.images
        before, promises = _Members.of(folder, images), LastingPromises.of(folder, images)
        follows = self._follows(list(settings.exemplars))

        def known(opened: Pool) -> list[Exemplar]:
            return exemplars or earlier.exemplars(settings, opened, self.progress)

        try:
            inputs = open_inputs(settings, known, self.progress, pool=pool)
        except TestSetError as error:
            raise TestSetError(f"{error}; of other classes, give another one with --test-set") from error
        if follows:
            with folder.open_answers() as log:
                log.record(follows, act=f"{UPDATE} {log.version}")
        kept = list[str]()

        def carry(new: RunFolder, classifier: Classifier, ranked: Pool) -> None:
            kept.extend(promises.carry(self.changes.renamed, new, classifier, ranked))

        result = do_run(replace(inputs, grows=True), folder, self.progress, carry)
        after = _Members.of(folder, result.baseline.images)
        told = [*_said_of_images(before, after), *_said_of_classes(before, after, self.changes)]
        return Updated(result, [*told, *kept])

    def _follows(self, classes: list[str]) -> list[NewAnswer]:
        """What the answers of classes that go say of the `classes` that are left."""
        if not (self.changes.renamed or self.changes.removed):
            return []
        state = RunState.read(self.folder)
        return list(self.changes.answers(self.folder.read_answers(), classes, state.answers if state else 0))


@dataclass(frozen=True)
class _Members:
    """What a run found: the images that it ranked, and of each class those in its group, by digests of their content.

    The exemplars, which were given, are in no group.

    ranked   whether they are only some of its pool
    """

    images: set[str]
    classes: dict[str, set[str]]
    ranked: bool = False

    @classmethod
    def of(cls, folder: RunFolder, images: RowImages | None) -> "_Members":
        """Read what the run in `folder` found in `images`; nothing of it where that cannot be read."""
        if images is None:
            return cls(set(), {})
        digests, found = _digests(images), defaultdict[str, set[str]](set)
        with suppress(OSError, KeyError, csv.Error), regular(folder.found).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found[row["class"]] |= {digests[row["id"]]} if row["decision"] == "member" else set()
        return cls({*digests.values()}, dict(found), folder.pool.exists())


def _digests(images: RowImages) -> dict[str, str]:
    """Id -> digest; of an image that could not be read its id, so that it is one of its own."""
    return {name: digest or name for name, digest in zip(images.ids, images.digests, strict=True)}


def _said_of_images(before: _Members, after: _Members) -> Iterator[str]:
    new, gone = len(after.images - before.images), len(before.images - after.images)
    if before.ranked or after.ranked:
        yield f"images that are ranked: {len(after.images):,}, {new:,} of them not before; {gone:,} are not any more"
    else:
        yield f"images: {len(after.images):,}, of which {new:,} are new; {gone:,} are gone"


def _said_of_classes(before: _Members, after: _Members, changes: RunChanges) -> Iterator[str]:
    was: dict[str, set[str]] = defaultdict(set)
    for name, images in before.classes.items():
        was[changes.renamed.get(name, name)] |= images
    for name, images in after.classes.items():
        if name not in was:
            yield f"{name}: a new class, {len(images):,} found"
            continue
        new, left = images - was[name], (was[name] - images) & after.images
        fresh = len(new - before.images)
        of = "those not ranked then" if before.ranked or after.ranked else "the new images"
        yield (
            f"{name}: {len(images):,} found, {len(new):,} of them not before ({fresh:,} of {of}); "
            f"{len(left):,} are not among them any more"
        )
    yield from (f"{name}: taken away" for name in changes.removed)


def _said_of_unknown(asked: RunChanges, classes: Sequence[str]) -> Iterator[str]:
    """What cannot be taken away: most often it was already, and else its name is another."""
    there = ", ".join(classes)
    for name in asked.removed:
        if same_name(name, classes) not in classes:
            yield f"{name}: none of the classes ({there}), so nothing is taken away"
