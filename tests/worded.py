"""A run whose encoder knows words, for tests of the review: a pair of tiny towers with random weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import towers
from browser import make_run
from conftest import Picture

TOKENS = 64  # that its text tower takes: the words of the tests, within every template


def make_worded_run(folder: Path, picture: Picture) -> Path:
    """Run on the pictures of `make_run`; the cache of this process has its networks then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(towers, "LENGTH", TOKENS)
        network = towers.as_saved(towers.siglip(folder / "saved"), folder / "net")
    return make_run(folder, str(network), picture)


def worded_run(folders: pytest.TempPathFactory, picture: Picture) -> Iterator[Path]:
    """Yield such a run, with a cache of its own as long as it is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(folders.mktemp("cache")))
        yield make_worded_run(folders.mktemp("run"), picture)
