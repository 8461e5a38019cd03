"""What the tests of the Classifier share: one that is fitted, and pictures as bytes."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from holotype import Classifier, Pool, open_pool

PICTURES = 150
OPTIONS: dict[str, Any] = {"threshold": 0.9, "near_duplicate": 0.99999, "doubtful_band": 0.25}
MODEL = "colours"  # what a saved one is called
CLASSES = {"red": ["000"], "green": ["001"]}


def png(pixels: Any) -> bytes:
    """Return `pixels` as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def fit_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("holotype-cache")


@pytest.fixture(scope="module")
def fit_cache(fit_home: Path) -> Iterator[Path]:
    """What the tests of the Classifier keep apart from other runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(fit_home))
        yield fit_home


@pytest.fixture(scope="session")
def fit_pool(tmp_path_factory: pytest.TempPathFactory, picture: Callable[[int], NDArray[np.uint8]]) -> Pool:
    """A folder of 150 pictures."""
    folder = tmp_path_factory.mktemp("pool")
    for row in range(PICTURES):
        Image.fromarray(picture(row)).save(folder / f"{row:03}.png")
    return open_pool(folder)


@pytest.fixture(scope="session")
def fit_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all fits on `fit_pool` use."""
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture(scope="session")
def fitted(fit_pool: Pool, network: str, fit_vectors: Path, fit_home: Path) -> Classifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(fit_home))
        return Classifier(encoder=network, **OPTIONS).fit(fit_pool, CLASSES, cache=fit_vectors)


@pytest.fixture(scope="session")
def saved(fitted: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That classifier as a model in a folder; only read."""
    path = tmp_path_factory.mktemp("saved") / MODEL
    fitted.save(path)
    return path
