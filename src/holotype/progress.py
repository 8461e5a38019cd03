"""Progress of work that takes long, with its rate and the time left: bars on the command line, nothing from Python."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


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


class Terminal:
    """Lines and bars on stderr, with the rate and the time left."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """Print the line."""
        self._console.print(text, markup=False)

    @contextmanager
    def track(self, text: str, total: int) -> Iterator[Advance]:
        """Show a bar; when stderr is no terminal, one line at the start and one at the end."""
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
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=self._console) as bars:
            task = bars.add_task(text, total=total)
            yield lambda count: bars.advance(task, count)
