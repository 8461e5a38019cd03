"""Which run a review is about: one that was done anew meanwhile may have other classes and other images."""

from holotype.errors import AnswersError, OutputError
from holotype.runs.folder import RunFolder
from holotype.settings import Settings


class Generation:
    """The run in `folder` as it was opened: `settings`, and the `key` of its pool (`ReviewBaseline.key`).

    A run that was done anew for the same exemplars, images and test rows is as good: answers are about it as well.

    descriptions   class -> words that describe it, as the settings had them when they were read last
    """

    def __init__(self, folder: RunFolder, settings: Settings, key: str) -> None:
        self._folder, self._settings, self._key = folder, settings, key
        self.descriptions = settings.descriptions
        self._seen: tuple[int, int, int] | None = None  # it may have been replaced since it was read

    def check(self) -> None:
        """Raise `OutputError` where there is no run in the folder any more, `AnswersError` where it is another."""
        found = self._identity()
        if found is None:
            raise OutputError(
                f"expected the run in {self._folder.path}, found none: it was deleted or moved, or is being replaced; "
                "nothing was recorded"
            )
        if found != self._seen:
            settings = self._folder.read_settings()
            self._compare(settings)
            self.descriptions, self._seen = settings.descriptions, found

    def _compare(self, settings: Settings) -> None:
        if settings.exemplars != self._settings.exemplars:
            self._refuse(f"for the classes {', '.join(settings.exemplars)}, with other exemplars")
        if settings.sources != self._settings.sources:
            self._refuse(f"for {', '.join(settings.sources)}")
        if settings.test_set != self._settings.test_set:
            self._refuse("with another test set")
        if self._folder.load_baseline().key != self._key:
            self._refuse("after its images had changed")

    def _refuse(self, how: str) -> None:
        raise AnswersError(
            f"the run in {self._folder.path} was done anew {how} since this review was opened; nothing was recorded: "
            "start the review again"
        )

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            found = self._folder.settings.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns
