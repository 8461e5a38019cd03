"""What a run works on: its inputs, opened and checked before anything is written."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.answers.baseline import ReviewBaseline
from holotype.answers.index import current_exemplars
from holotype.answers.records import Answer
from holotype.encoders.registry import REGISTRY, load_encoder
from holotype.encoders.runtimes import Encoder, OnnxEncoder
from holotype.encoders.views import join_views, split_views
from holotype.errors import EmbeddingsError, EncoderError
from holotype.evaluation.test_set import TestSet, read_test_set
from holotype.grouping.words import Words, hear
from holotype.pool.descriptions import Description, check_defined, describe
from holotype.pool.exemplars import Exemplar, resolve
from holotype.pool.pool import Pool, open_pool
from holotype.progress import Progress, in_steps
from holotype.runs.others import Others
from holotype.runs.remarks import say_missing
from holotype.settings import Addition, FitSettings, Settings
from holotype.stores.copies import address, here
from holotype.stores.urls import whole
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.identity import check_identity
from holotype.vectors.shards import MANIFEST, read_manifest
from holotype.vectors.supplied import Unchanged, import_embeddings


@dataclass(frozen=True)
class WholePool:
    """The pool of which a run ranks some images alone.

    left         how many of its images are not ranked: they are none
    drawn        (d,) rows of those that are ranked and were drawn at random
    unreadable   id -> why an image of it has no vector
    others       what is written of those that are not ranked, where that was asked for
    """

    left: int
    drawn: NDArray[np.int64]
    unreadable: Mapping[str, str]
    others: Others | None


@dataclass(frozen=True)
class RunInputs:
    """What a run works on, opened and checked before anything is written.

    encoders   those of the sweep
    words      descriptions as vectors, by the name of the encoder whose vectors are searched
    supplied   vectors that somebody computed
    maker      the encoder that made them, where it is known
    unchanged  their files, as they were before they were read
    before     what the run before found, where it is done again
    grows      whether its images are those of the run before, and more of the same kind: then their space stays
    whole      the pool that the images were taken from, where `pool` is not all of it
    """

    settings: Settings
    pool: Pool
    exemplars: Sequence[Exemplar]
    descriptions: Sequence[Description]
    test_set: TestSet | None
    encoders: Sequence[OnnxEncoder]
    supplied: Embeddings | None
    maker: OnnxEncoder | None
    unchanged: Unchanged | None = None
    words: Mapping[str, Words | None] = field(default_factory=dict)
    before: ReviewBaseline | None = None
    grows: bool = False
    whole: WholePool | None = None

    @property
    def classes(self) -> list[str]:
        """The K classes."""
        return list(self.settings.exemplars)

    @property
    def test_rows(self) -> list[int]:
        """Pool rows that nothing may be learnt from."""
        return self.test_set.rows if self.test_set else []

    @property
    def searches_supplied(self) -> bool:
        """Whether the vectors that are searched are those that somebody supplied."""
        return self.supplied is not None and self.settings.search != "encoder"

    @property
    def encodes_all(self) -> bool:
        """Whether each encoder is asked for the whole pool, and not only for what is learnt from and tested."""
        return self.supplied is None or self.settings.search in ("encoder", "both")

    def known_by(self, embeddings: Embeddings) -> Embeddings:
        """Return `embeddings` of the pool with what they know of the images that are not ranked."""
        if (whole := self.whole) is None:
            return embeddings
        unreadable = {**whole.unreadable, **embeddings.unreadable}
        return replace(embeddings, drawn=whole.drawn, left=whole.left, unreadable=unreadable)

    def words_in(self, encoder: Encoder | None) -> Words | None:
        """Return what describes the classes, as vectors in the space of `encoder`."""
        return self.words.get(encoder.name if encoder else "")

    def following(self, answers: Sequence[Answer]) -> "RunInputs":
        """Return these inputs with the exemplars that `answers` make of them."""
        worded = self.settings.descriptions
        return replace(self, exemplars=current_exemplars(self.exemplars, answers, self.classes, self.pool, worded))

    def with_exemplars(self, names: Collection[str]) -> "RunInputs":
        """Return these inputs with those of their exemplars that are in `names`, all of a class of which none is."""
        kept = [one for one in self.exemplars if one.name in names]
        left = {one.label for one in self.exemplars} - {one.label for one in kept}
        return replace(self, exemplars=kept + [one for one in self.exemplars if one.label in left])

    def fit_settings(self, encoder: str, **more: Any) -> FitSettings:
        """Return the settings of one classifier: those of the run, its encoder, and what else it is trained with."""
        return FitSettings.parse(self.settings.fit.model_dump() | {"encoder": encoder} | more)


def open_inputs(
    settings: Settings,
    known: Callable[[Pool], Sequence[Exemplar]] | None = None,
    progress: Progress | None = None,
    *,
    words: bool = True,
    pool: Pool | None = None,
) -> RunInputs:
    """Open and check everything that a run needs; paths become absolute, so that the settings can be repeated.

    words   whether descriptions are needed as vectors
    known   gives the exemplars of the settings where they were found before; else they are looked up
    pool    the images, where they are open
    """
    if pool is None:
        pool = open_pool(settings.sources, allow_truncated=settings.allow_truncated, progress=progress)
    found = known(pool) if known else _resolved(pool, settings)
    classes, described = describe(settings.exemplars, settings.descriptions)
    check_defined(classes, found, described)
    if described and settings.search == "both" and progress is not None:
        progress.say("the two ways to search are not compared, as words may be known to one of them alone")
    test_set = read_test_set(here(settings.test_set), list(settings.exemplars), pool) if settings.test_set else None
    with in_steps(progress, "note how the embeddings are"):
        given = [here(one) for one in settings.supplied]
        unchanged = Unchanged(given) if given else None
    with in_steps(progress, "check embeddings"):
        supplied = import_embeddings(given, pool) if given else None
    if supplied is None and settings.search in ("embeddings", "both"):
        raise EmbeddingsError(f"--search {settings.search} needs vectors to search in: give --embeddings")
    if supplied is not None and progress is not None:
        say_missing(supplied, settings.embeddings, settings.images, progress)
    encoders = [load_encoder(name, settings.fit.runtime, progress) for name in settings.encoders]
    named, runtime = settings.embeddings_encoder, settings.fit.runtime
    maker = None if supplied is None else maker_of(supplied, named, pool, runtime, progress)
    searched = [maker] if supplied is not None and settings.search != "encoder" else encoders
    texts = described if words else []
    heard = _heard(texts, searched, progress)
    settings = with_exemplars(settings, found)
    return RunInputs(settings, pool, found, described, test_set, encoders, supplied, maker, unchanged, heard)


def _heard(
    texts: Sequence[Description], searched: Sequence[OnnxEncoder | None], progress: Progress | None
) -> dict[str, Words | None]:
    """Descriptions as vectors by the name of each encoder; views are of images, so one tower is for all of them."""
    found: dict[str, Words | None] = {}
    for one in searched:
        alone = split_views(one.name)[1] if one else ""
        if alone not in found:
            found[alone] = hear(texts, one, progress)
    return {one.name if one else "": found[split_views(one.name)[1] if one else ""] for one in searched}


def searched_encoders(settings: Settings) -> list[str | None]:
    """Return what made the vectors that a run of `settings` searches in, by name, as `open_inputs` finds it.

    None where nobody said what made supplied vectors. No encoder is loaded.
    """
    if settings.embeddings is None or settings.search == "encoder":
        return list(settings.encoders)
    noted = here(settings.embeddings) / MANIFEST
    return [settings.embeddings_encoder or (str(read_manifest(noted.parent)["encoder"]) if noted.exists() else None)]


def _resolved(pool: Pool, settings: Settings) -> list[Exemplar]:
    return [_absolute_exemplar(one) for one in resolve(pool, settings.exemplars, settings.descriptions)]


def maker_of(
    supplied: Embeddings, named: str | None, pool: Pool, runtime: str, progress: Progress | None
) -> OnnxEncoder | None:
    """Return the encoder that made `supplied`: as `named`, or as `holotype embed` noted; checked on a sample.

    None where nobody knows it.
    """
    name = named or supplied.encoder
    if name is None:
        return None
    try:
        maker = load_encoder(name, runtime, progress)
    except EncoderError:
        if named is not None:
            raise
        return None  # only noted, and not at hand here
    check_identity(supplied, pool, maker, progress)
    return maker


def with_exemplars(settings: Settings, found: Sequence[Exemplar]) -> Settings:
    """Return `settings` with whole paths, and with the exemplars that were `found` by what they are called."""
    codes: dict[str, list[str]] = {name: [] for name in settings.exemplars}
    for exemplar in found:
        codes[list(codes)[exemplar.label]].append(exemplar.name)
    return absolute(settings).model_copy(update={"exemplars": codes})


def absolute(settings: Settings) -> Settings:
    """Return `settings` with whole paths, so that they hold wherever a run is repeated from."""
    more: dict[str, Any] = {
        key: address(path) for key in ("embeddings", "test_set") if (path := getattr(settings, key))
    }
    more["more"] = [_absolute_addition(one) for one in settings.more]
    if settings.embeddings_encoder is not None:
        more["embeddings_encoder"] = _absolute_encoder(settings.embeddings_encoder)
    encoders = [_absolute_encoder(name) for name in settings.encoders]
    return settings.model_copy(update=more | {"images": whole(settings.images), "encoders": encoders})


def _absolute_addition(one: Addition) -> Addition:
    return Addition(images=whole(one.images), embeddings=None if one.embeddings is None else address(one.embeddings))


def _absolute_exemplar(exemplar: Exemplar) -> Exemplar:
    """A file is called by its whole path: answers about it hold wherever a run is repeated from."""
    if exemplar.row is not None:
        return exemplar
    return replace(exemplar, name=address(here(exemplar.name).expanduser()))


def _absolute_encoder(name: str) -> str:
    views, alone = split_views(name)
    named = alone in REGISTRY or alone.startswith("hf:")
    return name if named else join_views(views, str(Path(alone).absolute()))
