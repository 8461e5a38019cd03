"""What a run was done with, so that it is seen whether doing it again would come to anything else."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from holotype.answers.records import Answer
from holotype.encoders.views import split_views
from holotype.filestate import FileState, regular
from holotype.grouping.premises import code_digests
from holotype.pool.pool import Pool
from holotype.runs.folder import RunFolder
from holotype.settings import Settings, Strict
from holotype.stores.copies import here

UPDATE = "update"  # what the answers of a class that is called otherwise are recorded under, with a number behind it


class RunState(Strict):
    """What a run was done with.

    images    the stamp of its pool
    settings  a digest of them, wherever the run is
    answers   the number of the last record of the answers
    files     each file that the settings name -> what the system says of it, but for links to it, as a run takes
              vectors over by these; of a folder each file in it that is not hidden
    code      digests of holotype, and of packages that compute with it
    """

    images: str
    settings: str
    answers: int
    files: dict[str, list[int]]
    code: list[str]

    @classmethod
    def of(cls, folder: RunFolder, settings: Settings, pool: Pool) -> Self:
        """Return what a run of `settings` in `folder` would be done with now."""
        text = settings.model_copy(update={"out": None}).to_toml()
        answers = 0
        if folder.answers.exists():
            with folder.open_answers() as log:
                answers = log.version
        files = {str(path): list(FileState.of(path.stat()).linked()) for path in _files(settings)}
        digest = hashlib.sha256(text.encode()).hexdigest()
        return cls(images=pool.stamp, settings=digest, answers=answers, files=files, code=code_digests())

    @classmethod
    def read(cls, folder: RunFolder) -> Self | None:
        """Return what the run in `folder` was done with; None where that is not known."""
        with suppress(OSError, ValueError, ValidationError):
            return cls.model_validate_json(regular(folder.state).read_text(encoding="utf-8"))
        return None

    def is_same(self, before: "RunState | None", images_are_same: Callable[[], bool]) -> bool:
        """Whether a run that is done again comes to what it came to.

        images_are_same   tells whether the images are, by their content: asked where their files were touched
        """
        if before is None or self.model_copy(update={"images": before.images}) != before:
            return False
        return (bool(self.images) and self.images == before.images) or images_are_same()


def take_back_unfinished(folder: RunFolder, classes: Sequence[str]) -> None:
    """Take back what an update recorded that did not come to its end, where it is of others than `classes`.

    Else it would count as answered about a class that was there before.
    """
    state = RunState.read(folder)
    if state is None or not folder.answers.exists():
        return
    with folder.open_answers() as log:
        since = [one for one in log.since(state.answers) if isinstance(one, Answer)]
        others = (one for one in since if one.label not in classes and one.verdict != "withdrawn")
        for act in dict.fromkeys(one.act for one in others):
            if act.startswith(f"{UPDATE} "):
                log.undo(act)


def _files(settings: Settings) -> Iterator[Path]:
    """The files that a run reads beside its images."""
    named = [*settings.supplied, settings.test_set, settings.embeddings_encoder, *settings.encoders]
    named += [code for codes in settings.exemplars.values() for code in codes]
    for one in named:
        path = here(split_views(one)[1]) if one else Path()
        if path.is_absolute() and path.is_file():
            yield path
        elif path.is_absolute() and path.is_dir():
            files = (inside for inside in path.rglob("*") if inside.is_file())
            yield from sorted(inside for inside in files if not inside.name.startswith("."))
