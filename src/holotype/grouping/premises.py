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

    space    of what the space of the pool rests on: the vectors as they are stored, the settings, and the code
    groups   of that and all else: the exemplars, their encoder, words, and which rows are of a test set
    """

    space: str
    groups: str


def premises_of(search: Search, settings: FitSettings, held_out: Collection[int]) -> Premises:
    """Return what the groups of `search` rest on; all vectors are read for it, once."""
    space = _digest(settings.model_dump(mode="json"), _code(), search.embeddings.digest)
    given = [(one.label, one.row, hashlib.sha256(one.data).hexdigest()) for one in search.exemplars]
    encoder = None if search.encoder is None else search.encoder.fingerprint
    words = None if search.words is None else search.words.premise
    return Premises(space, _digest(space, list(search.classes), given, encoder, words, sorted(map(int, held_out))))


def share_space(one: Premises | None, other: Premises | None) -> bool:
    """Return whether both are known, and what a space rests on is the same in both."""
    return one is not None and other is not None and one.space == other.space


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


@cache
def _code() -> list[str]:
    """What computes groups, and the vectors of exemplars: holotype, the constants in it as well, and packages."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    return [hashlib.sha256(b"".join(sources)).hexdigest(), *(version(name) for name in _PACKAGES)]
