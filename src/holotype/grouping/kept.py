"""What groups were found by and rest on, as arrays: with it, those that are read again are as whole as when found."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.grouping.groups import Groups
from holotype.grouping.premises import Premises
from holotype.grouping.ranking import Cut, Ranking
from holotype.grouping.space import Space


def found_by(groups: Groups, premises: Premises) -> dict[str, NDArray[Any]]:
    """Return the spaces, the anchors and the ranking of `groups`, and the `premises` that they rest on."""
    digests = {f"{name}_premise": digest for name, digest in asdict(premises).items()}
    arrays: dict[str, NDArray[Any]] = {f"anchors{k}": vectors for k, vectors in enumerate(groups.anchors)}
    arrays |= {name: np.frombuffer(bytes.fromhex(digest), np.uint8) for name, digest in digests.items()}
    arrays |= {} if groups.space is None else groups.space.arrays()
    arrays |= {} if groups.wide is None else {f"wide_{name}": array for name, array in groups.wide.arrays().items()}
    if (ranking := groups.ranking) is not None:
        arrays |= {f"cut{k}": cut.rows for k, cut in enumerate(ranking.cuts)}
        arrays |= {
            "cosine": ranking.cosine,
            "candidates": ranking.candidates,
            "density": ranking.density,
            "conductance": np.array([cut.conductance for cut in ranking.cuts], np.float64),
            "ranking_rounds": np.array(ranking.rounds, np.int64),
            "first": ranking.first.astype(np.uint8),
            "agreement": ranking.agreement,
            "heard": ranking.heard.astype(np.uint8),
        }
    return arrays


def with_found(groups: Groups, arrays: Mapping[str, NDArray[Any]]) -> Groups:
    """Return `groups` with what `found_by` gave of them."""
    space = Space.from_arrays(arrays) if "space_mean" in arrays else None
    ranking = _ranking(space, arrays) if space is not None and "density" in arrays else None
    anchors = [arrays[f"anchors{k}"] for k in range(len(groups.classes))]
    premises = Premises(*(arrays[f"{one.name}_premise"].tobytes().hex() for one in fields(Premises)))
    own = {name.removeprefix("wide_"): array for name, array in arrays.items() if name.startswith("wide_")}
    wide = Space.from_arrays(own) if own else None
    return replace(groups, space=space, anchors=anchors, ranking=ranking, premises=premises, wide=wide)


def _ranking(space: Space, arrays: Mapping[str, NDArray[Any]]) -> Ranking:
    cuts = [Cut(arrays[f"cut{k}"], share) for k, share in enumerate(arrays["conductance"].tolist())]
    return Ranking(
        space,
        arrays["cosine"],
        arrays["candidates"],
        arrays["density"],
        cuts,
        arrays["ranking_rounds"].tolist(),
        arrays["first"].astype(bool),
        arrays["agreement"],
        arrays["heard"].astype(bool),
    )
