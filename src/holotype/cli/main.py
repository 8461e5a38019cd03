"""The commands together, and how one ends."""

from holotype.cli import exports, growth, models, pools, reviews, runs, services  # noqa: F401 - each adds its commands
from holotype.cli.app import app
from holotype.exits import one_line

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; an error is one line and exit code 1, Ctrl-C one line and 130."""
    with one_line():
        app()
