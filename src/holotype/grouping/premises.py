"""What groups rest on, as digests: where they are the same, a run that is done again takes what it found before."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from holotype.grouping.search import Search
from holotype.settings import FitSettings

_PACKAGES = ("holotype", "numpy", "scipy", "scikit-learn", "numkong", "pillow", "openvino", "onnxruntime")


@dataclass(frozen=True)
class Premises:
    """Digests of what groups rest on.

    way       of how they are found: the settings, what made the vectors, and the code
    vectors   of that and the vectors as they are stored: what a space that is fitted on them rests on
    space     the same of the vectors that the space was fitted on, which may be those of fewer images
    groups    of all that and all else: the exemplars, their encoder, words, and which rows are of a test set
    """

    way: str
    vectors: str
    space: str
    groups: str


def premises_of(
    search: Search,
    settings: FitSettings,
    held_out: Collection[int],
    before: Premises | None = None,
    *,
    keeps_space: bool = False,
) -> Premises:
    """Return what the groups of `search` rest on; all vectors are read for it, once.

    before        what those rest on that were found earlier: where the vectors are the same, their space is as well
    keeps_space   their space is taken for other images too, as long as it is found in the same way
    """
    encoder = None if search.encoder is None else search.encoder.fingerprint
    way = _digest(settings.model_dump(mode="json"), encoder, code_digests())
    vectors = space = _digest(way, search.embeddings.digest)
    if before is not None and (before.vectors == vectors or (keeps_space and before.way == way)):
        space = before.space
    given = [(one.label, one.row, hashlib.sha256(one.data).hexdigest()) for one in search.exemplars]
    words = None if search.words is None else search.words.premise
    told = (list(search.classes), given, words, sorted(map(int, held_out)))
    return Premises(way, vectors, space, _digest(space, vectors, *told))


def share_vectors(one: Premises | None, other: Premises | None) -> bool:
    """Return whether both are known, and the vectors, and what is done with them, are the same in both."""
    return one is not None and other is not None and one.vectors == other.vectors


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


@cache
def code_digests() -> list[str]:
    """Return digests of what computes groups, and vectors of exemplars: holotype with its constants, and packages."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    return [hashlib.sha256(b"".join(sources)).hexdigest(), *(version(name) for name in _PACKAGES)]
