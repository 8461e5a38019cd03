"""A run whose encoder knows words, for tests of the review: a pair of tiny towers with random weights."""

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
