"""Words on the page: the images of the pool that they find, and those that describe the classes."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.registry import encoders_with_text, load_text_encoder, why_no_text
from holotype.encoders.text import TextEncoder
from holotype.errors import EmbeddingsError, EncoderError, HolotypeError
from holotype.grouping.search import top_k
from holotype.grouping.words import compare_texts
from holotype.model.saved import read_description
from holotype.names import command
from holotype.review.background import Background
from holotype.review.items import FoundByWords
from holotype.review.review import Review
from holotype.runs.inputs import searched_encoders
from holotype.stores.copies import here
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.shards import MANIFEST, read_manifest
from holotype.vectors.supplied import import_embeddings

_KEPT = 16  # searches whose scores are kept: who goes on to the next images waits for none


@dataclass(frozen=True)
class _Comparison:
    """What words are compared with: the vectors of the pool, which stay on the disk; `about` tells whose they are."""

    about: tuple[Any, ...]
    tower: TextEncoder
    embeddings: Embeddings


class WordSearch(Background):
    """Images that words find. The text tower is loaded at the first search, and once; several threads may use one."""

    def __init__(self, review: Review) -> None:
        super().__init__(review)
        self._turn = Lock()
        self._comparison: _Comparison | None = None
        self._scores: OrderedDict[tuple[Any, ...], NDArray[np.float32]] = OrderedDict()

    def work(self) -> str:
        """Make all ready that a search needs."""
        self.say("make ready to search by words")
        self._compared()
        return ""

    def why_not(self) -> str:
        """Say why words cannot be searched in this run; "" where they can. Nothing is loaded, and no network used."""
        try:
            self._speaker()
        except HolotypeError as error:
            return str(error)
        return ""

    def find(self, text: str, label: str, n: int, start: int = 0) -> list[FoundByWords]:
        """Return the `n` images that `text` finds, from place `start` on: the best first, without those of the test.

        Raises `HolotypeError` where words cannot be searched, or the text tower does not take these.
        """
        review, scores = self.review, self._scored(text).copy()
        baseline, known = review.state.baseline, review.known(label)
        scores[baseline.groups.missing | ~baseline.groups.distinct] = np.nan
        scores[list(baseline.held_out)] = np.nan
        rows: Sequence[int] = top_k(scores, start + n)[start:].tolist()
        return [FoundByWords(row, review.ids[row], float(scores[row]), known.get(review.ids[row], "")) for row in rows]

    def tower(self, name: str, runtime: str) -> TextEncoder:
        """Return the text tower of the encoder called `name`: the one that searches, where it is that."""
        known = self._comparison
        if known is not None and (known.tower.name, known.tower.runtime) == (name, runtime):
            return known.tower
        return load_text_encoder(name, runtime, self)

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows; `why` words cannot be searched."""
        return super().to_json() | {"why": self.why_not()}

    def _scored(self, text: str) -> NDArray[np.float32]:
        """(n,) how many deviations of the pool each image lies above its median, nan without a vector."""
        compared, words = self._compared(), " ".join(text.split())
        with self._turn:
            key = (*compared.about, words)
            if key not in self._scores:
                vectors = compared.tower.encode([text])
                self._scores[key] = compare_texts(compared.embeddings, vectors)[0][:, 0]
            self._scores.move_to_end(key)
            while len(self._scores) > _KEPT:
                self._scores.popitem(last=False)
            return self._scores[key]

    def _compared(self) -> _Comparison:
        settings, name = self.review.settings, self._speaker()
        about = (name, settings.fit.runtime, tuple(settings.supplied), settings.search)
        with self._turn:
            if self._comparison is None or self._comparison.about != about:
                tower = load_text_encoder(name, settings.fit.runtime, self)
                embeddings = self._embeddings()
                if embeddings.dim != tower.dim:
                    raise EncoderError(
                        f"the words of {name} have {tower.dim} dimensions and the vectors of this run "
                        f"{embeddings.dim}: they are of two encoders"
                    )
                self._comparison = _Comparison(about, tower, embeddings)
            return self._comparison

    def _speaker(self) -> str:
        """The encoder whose words can be compared with the vectors that the run searched in. Raises `EncoderError`."""
        names = searched_encoders(self.review.settings)
        name = names[0] if len(names) == 1 else self._chosen([one for one in names if one])
        if name is None:
            raise EncoderError(
                "words cannot be searched, as it is not known what made the vectors of this run: do it again with "
                f"--embeddings-encoder, or with an encoder that knows words: {encoders_with_text()}"
            )
        if why := why_no_text(name):
            raise EncoderError(why)
        return name

    def _chosen(self, names: Sequence[str]) -> str:
        """Which of the encoders of a sweep the results are of; its model may call it by a path that is not whole."""
        made = read_description(self.review.folder.model).encoder.name
        return next((one for one in names if one == made or Path(one).name == Path(made).name), made)

    def _embeddings(self) -> Embeddings:
        """The vectors that the run searched in, where it keeps them."""
        settings, folder, pool = self.review.settings, self.review.folder, self.review.pool
        if settings.embeddings is not None and settings.search != "encoder":
            return import_embeddings([here(one) for one in settings.supplied], pool)
        made = read_description(folder.model).encoder.fingerprint
        for store in folder.stores:
            if (store / MANIFEST).exists() and read_manifest(store)["fingerprint"] == made:
                return import_embeddings(store, pool)
        raise EmbeddingsError(
            f"the vectors of this run are not in {folder.vectors} any more: {command('run', folder.path)} computes "
            "them again"
        )
