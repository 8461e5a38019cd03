"""Which images the rows of a run are, so that what is known of them follows the images when the pool changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from holotype.answers.audit import numbers_of
from holotype.pool.digests import first_rows
from holotype.pool.pool import Pool


@dataclass(frozen=True)
class RowImages:
    """The image of each row.

    ids       what they were called
    digests   of their bytes; nothing for one that could not be read
    stamp     of the pool that they were in
    """

    ids: Sequence[str]
    digests: Sequence[str]
    stamp: str

    @classmethod
    def of(cls, pool: Pool) -> Self:
        """Return the images of `pool`; those that were read already are not read again."""
        return cls(pool.ids, pool.digests(), pool.stamp)

    def are_of(self, pool: Pool) -> bool:
        """Whether they are the rows of `pool` as it is now."""
        if self.stamp and self.stamp == pool.stamp:
            return True
        return list(self.ids) == pool.ids and list(self.digests) == pool.digests()

    def places_in(self, pool: Pool) -> NDArray[np.int64]:
        """Return (n,) for each row of `pool` the row that its image has here, -1 where it has none.

        Of several copies of an image it is the one of its own name.
        """
        own = {name: row for row, name in enumerate(self.ids)}
        first = first_rows(self.digests)
        places = []
        for name, digest in zip(pool.ids, pool.digests(), strict=True):
            same = own.get(name, -1)
            places.append(same if same >= 0 and self.digests[same] == digest else first.get(digest, -1))
        return np.array(places, np.int64)

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """(n,) who is audited first."""
        return numbers_of(self.digests)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return them as arrays to be kept."""
        known = np.array([bool(digest) for digest in self.digests], bool)
        digests = np.zeros((len(known), 32), np.uint8)
        digests[known] = np.frombuffer(bytes.fromhex("".join(self.digests)), np.uint8).reshape(-1, 32)
        return {"ids": np.frombuffer("\0".join(self.ids).encode(), np.uint8), "digests": digests}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], stamp: str) -> Self:
        """Return what `arrays` gave."""
        found = arrays["digests"]
        text, known = found.tobytes().hex(), np.flatnonzero(found.any(axis=1))
        digests = [""] * len(found)
        for row in known.tolist():
            digests[row] = text[row * 64 : row * 64 + 64]
        return cls(arrays["ids"].tobytes().decode().split("\0"), digests, stamp)
