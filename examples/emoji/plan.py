"""Which drawings are rendered, and in which order: a variant, decided by a seed."""

from collections.abc import Sequence

import numpy as np

from .drawings import Drawing

CLASSES = ("mage", "vampire", "superhero")
VARIANTS = ("small", "full", "reference")
SMALL_COUNT = 6_000
REFERENCE_COUNT = 92_350


def choose(drawings: Sequence[Drawing], variant: str, seed: int) -> list[Drawing]:
    """Return the drawings of a variant, shuffled so that a position says nothing about class or artist.

    - small: every drawing of the three classes, and a sample of the others, 6,000 in all
    - full: every drawing once
    - reference: 92,350, so every drawing three or four times
    """
    rng = np.random.default_rng([seed, VARIANTS.index(variant)])
    if variant == "small":
        chosen = _with_all_of_the_classes(rng, drawings)
    elif variant == "full":
        chosen = list(drawings)
    else:
        chosen = _again_and_again(rng, drawings, REFERENCE_COUNT)
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _with_all_of_the_classes(rng: np.random.Generator, drawings: Sequence[Drawing]) -> list[Drawing]:
    wanted = [drawing for drawing in drawings if drawing.class_name in CLASSES]
    others = [drawing for drawing in drawings if drawing.class_name not in CLASSES]
    count = min(SMALL_COUNT - len(wanted), len(others))
    return wanted + [others[i] for i in rng.choice(len(others), count, replace=False)]


def _again_and_again(rng: np.random.Generator, drawings: Sequence[Drawing], count: int) -> list[Drawing]:
    rounds, rest = divmod(count, len(drawings))
    return list(drawings) * rounds + [drawings[i] for i in rng.choice(len(drawings), rest, replace=False)]
