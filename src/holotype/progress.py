"""Progress of work that takes long, with its rate and the time left: bars or lines on stderr, nothing from Python."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import Protocol

from holotype.names import shown

Advance = Callable[[int], None]
Step = Callable[[], None]

_FIRST, _LAST = 5.0, 60.0  # seconds between two lines in a log: few at first, and a long one is not flooded
_STEPS = 20  # up to so many, they are unlike, and no rate or time left is told
_SILENT = 2.0  # seconds of work that need no word
_SHARE = 0.1  # of the time since the start, in between


class Progress(Protocol):
    """What a stage tells its caller while it works."""

    def say(self, text: str) -> None:
        """One line about what is happening."""

    def track(self, text: str, total: int) -> AbstractContextManager[Advance]:
        """A bar over `total` items; the function it yields moves it forward."""


class Silent:
    """Shows nothing: the default in Python."""

    def say(self, text: str) -> None:
        """Drop the line."""

    @contextmanager
    def track(self, text: str, total: int) -> Iterator[Advance]:  # noqa: ARG002
        """Yield a function that does nothing."""
        yield lambda _count: None


def no_step() -> None:
    """Take a step that nobody looks at."""


@contextmanager
def in_steps(progress: Progress | None, text: str, count: int = 1) -> Iterator[Step]:
    """Show work that is done in about `count` steps; what is yielded ends one. A single one shows that it goes on."""
    with (progress or Silent()).track(text, count) as advance:
        left = count

        def step() -> None:
            nonlocal left
            advance(min(left, 1))
            left = max(left - 1, 0)

        yield step
        advance(left)


@contextmanager
def long(progress: "Progress | None", text: str) -> Iterator[None]:
    """Say `text` where the work within takes longer than two seconds."""
    timer = threading.Timer(_SILENT, (progress or Silent()).say, [text])
    timer.daemon = True
    if progress is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Terminal:
    """On stderr: bars where it is a terminal, lines now and then where it goes into a file."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, emoji=False)

    def say(self, text: str) -> None:
        """Print the line; a log that cannot be written stops no work."""
        with suppress(OSError):
            self._console.print(shown(text), markup=False, soft_wrap=True)

    @contextmanager
    def track(self, text: str, total: int) -> Iterator[Advance]:
        """Show how far it is, with the rate and the time left."""
        if not self._console.is_terminal:
            lines = _Lines(text, total, self.say)
            yield lines.advance
            lines.finish()
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text("" if speed is None else f"{speed:,.0f}/s")

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
        )
        whole = total if total != 1 else None  # of a single step nothing is known but that it goes on
        known = 2 if whole is None else 3 if total <= _STEPS else None
        with Bars(*columns[:known], console=self._console, transient=whole is None) as bars:
            task = bars.add_task(text, total=whole)
            yield lambda count: bars.advance(task, count)


class _Lines:
    """Lines about one bar: soon a first one, later fewer, and one at the end."""

    def __init__(self, text: str, total: int, say: Callable[[str], None]) -> None:
        self._text, self._total, self._say = text, total, say
        self._done = 0
        self._started = self._said = time.monotonic()

    def advance(self, count: int) -> None:
        """Take note of `count` more items."""
        now = time.monotonic()
        self._done += count
        if self._done < self._total and now - self._said >= min(max(_FIRST, _SHARE * (now - self._started)), _LAST):
            self._said = now
            seconds = (self._total - self._done) / self._rate(now)
            left = "" if self._total <= _STEPS else f", {timedelta(seconds=round(seconds))} left"
            self._say(f"{self._where(now)}{left}")

    def finish(self) -> None:
        """Say where it ended; of a single step, only if it took long."""
        now = time.monotonic()
        if self._total != 1:
            self._say(self._where(now))
        elif now - self._started >= _FIRST:
            self._say(f"{self._text}: {now - self._started:,.0f} s")

    def _rate(self, now: float) -> float:
        return max(self._done, 1) / max(now - self._started, 1e-6)

    def _where(self, now: float) -> str:
        rate = "" if self._total <= _STEPS else f", {self._rate(now):,.0f}/s"
        return f"{self._text}: {self._done:,}/{self._total:,}{rate}"
