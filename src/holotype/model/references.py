"""What defines the classes, in the model space: a prediction names the nearest."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.encode import l2_normalize
from holotype.errors import GroupError
from holotype.grouping.search import Search
from holotype.names import counted
from holotype.pool.pool import Pool
from holotype.progress import Progress
from holotype.vectors.store import EmbeddingStore


@dataclass(frozen=True)
class References:
    """Exemplars, and behind them descriptions: what each is called, the number of its class, its unit vector.

    The name of a description is its text in quotes; its vector (dim,) is the mean of the images that it finds.
    """

    names: list[str]
    labels: list[int]
    vectors: NDArray[np.float32]


def refer(searched: Search, pool: Pool, store: EmbeddingStore, progress: Progress) -> References:
    """Return what defines the classes of a search, by the encoder of `store`."""
    encoder, exemplars = store.encoder, searched.exemplars
    pixels = [encoder.prepare(one.data) for one in exemplars]
    vectors = [encoder.encode(np.stack(pixels))] if pixels else []
    names, labels = [one.name for one in exemplars], [one.label for one in exemplars]
    words, said = searched.words, searched.said
    for one, rows in zip(words.descriptions if words else (), said.found if said else (), strict=True):
        ids = [pool.ids[row] for row in rows]
        store.ensure(ids, lambda name: pool.read(pool.rows[name]), progress, "encode what words find")
        found, unreadable = store.take(ids)
        if not len(found):
            raise GroupError(
                f"none of the {counted(len(ids), 'image')} that the words {one.text!r} find can be read "
                f"({next(iter(unreadable.values()))}): describe it in other words, or give a picture"
            )
        vectors.append(l2_normalize(found).mean(axis=0, keepdims=True))
        names.append(f'"{one.text}"')
        labels.append(one.label)
    return References(names, labels, l2_normalize(np.concatenate(vectors)))
