"""The groups of each combination that is asked for: by the exemplars alone, and as answers change them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from holotype.answers.baseline import ReviewBaseline, make_baseline
from holotype.answers.records import Answer
from holotype.answers.refine import Refined, refine
from holotype.encoders.runtimes import Encoder
from holotype.grouping.assign import group_pool, lonely_classes
from holotype.grouping.groups import Groups
from holotype.grouping.search import Search, search
from holotype.model.rows import PoolLabels
from holotype.progress import Progress, in_steps
from holotype.runs.folder import RunFolder
from holotype.runs.growth import Growth
from holotype.runs.inputs import RunInputs
from holotype.settings import FitSettings, Threshold
from holotype.stores.copies import here
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.folders import in_arithmetic
from holotype.vectors.store import EmbeddingStore

Key = tuple[str, Threshold]  # an encoder and a threshold


@dataclass(frozen=True, eq=False)
class SearchSource:
    """Vectors of the pool to search in, and what made them, where that is known."""

    embeddings: Embeddings
    encoder: Encoder | None


def open_stores(inputs: RunInputs, folder: RunFolder, progress: Progress) -> Iterator[tuple[str, EmbeddingStore]]:
    """Yield each encoder of a sweep, by name, and where its vectors are kept: in the arithmetic that suits the pool."""
    settings = inputs.settings
    supplied = [here(one) for one in settings.supplied]
    kept = [*folder.stores, *supplied]
    for encoder in inputs.encoders:
        chosen = in_arithmetic(encoder, inputs.pool, settings.fit.precision, progress, kept, whole=inputs.encodes_all)
        yield chosen.name, folder.open_store(chosen, inputs.pool, supplied)


def search_sources(
    inputs: RunInputs, stores: Mapping[str, EmbeddingStore], progress: Progress
) -> dict[str, SearchSource]:
    """Return the supplied vectors (way 2), the same for all encoders, or each encoder's own (way 1)."""
    if inputs.supplied is not None and inputs.searches_supplied:
        return dict.fromkeys(stores, SearchSource(inputs.supplied, inputs.maker))
    each = stores.items()
    return {name: SearchSource(inputs.known_by(store.embed(progress)), store.encoder) for name, store in each}


def search_in(
    sources: Mapping[str, SearchSource], inputs: RunInputs, held_out: Sequence[int] = ()
) -> dict[str, Search]:
    """Search in each of `sources`, once. Words are understood without the rows `held_out`."""
    found = {
        source: search(
            source.embeddings,
            inputs.classes,
            inputs.exemplars,
            source.encoder,
            inputs.words_in(source.encoder),
            held_out,
        )
        for source in dict.fromkeys(sources.values())
    }
    return {name: found[source] for name, source in sources.items()}


@dataclass(frozen=True)
class Grouping:
    """Groups by the exemplars alone; and where people said anything, what that was added to, and what came of it.

    lonely   why a class has no image but its exemplars: neither they nor answers fill it
    """

    groups: Groups
    lonely: Sequence[str]
    baseline: ReviewBaseline | None = None
    refined: Refined | None = None

    @property
    def labels(self) -> PoolLabels:
        """What the rows of the pool may be learnt as."""
        return self.refined.labels if self.refined is not None else PoolLabels(self.groups)


def group_each(
    inputs: RunInputs,
    searches: Mapping[str, Search],
    answers: Sequence[Answer],
    held_out: Sequence[int],
    progress: Progress,
) -> tuple[dict[Key, Grouping], list[tuple[str, Threshold, str]]]:
    """Return the groups at each threshold, and those that are set aside: (encoder, threshold, why).

    A threshold is set aside that leaves a class empty, if another does not.
    """
    found: dict[Key, Grouping] = {}
    failed: list[tuple[str, Threshold, str]] = []
    for encoder, searched in searches.items():
        for settings, groups in _by_exemplars(inputs, searched, encoder, held_out, progress):
            one = _grouped(inputs, searched, settings, groups, answers, held_out, progress)
            found[encoder, settings.threshold] = one
    whole = {key: one for key, one in found.items() if not one.lonely}
    if not whole:
        return found, failed
    failed = [(*key, "; ".join(one.lonely)) for key, one in found.items() if one.lonely]
    return whole, failed


def _by_exemplars(
    inputs: RunInputs, searched: Search, encoder: str, held_out: Sequence[int], progress: Progress
) -> list[tuple[FitSettings, Groups]]:
    """Return the groups at each threshold, and say once how far images that came and went change those of a run."""
    before = inputs.before
    growth = Growth.of(before, inputs.pool, searched.embeddings) if before is not None and inputs.grows else None
    earlier, keeps = None if before is None else before.groups, growth is not None and growth.keeps_space
    found = []
    for threshold in inputs.settings.thresholds:
        settings = inputs.fit_settings(encoder, threshold=threshold)
        groups = group_pool(searched, settings, held_out=held_out, progress=progress, before=earlier, keeps_space=keeps)
        found.append((settings, groups))
    if earlier is not None and growth is not None and growth.drift is not None:
        progress.say(growth.said(kept=any(groups.space is earlier.space for _, groups in found)))
    return found


def _grouped(
    inputs: RunInputs,
    searched: Search,
    settings: FitSettings,
    groups: Groups,
    answers: Sequence[Answer],
    held_out: Sequence[int],
    progress: Progress,
) -> Grouping:
    lonely = lonely_classes(groups, searched.exemplar_rows)
    if not answers:
        return Grouping(groups, list(lonely.values()))
    with in_steps(progress, "follow the answers"):
        same = not inputs.searches_supplied
        baseline = make_baseline(searched, groups, inputs.pool, held_out, inputs.before, same_vectors=same)
        refined = refine(baseline, answers, inputs.pool.rows, settings)
    still = lonely_classes(refined.groups, searched.exemplar_rows)  # one that answers emptied is what people want
    return Grouping(groups, [why for name, why in still.items() if name in lonely], baseline, refined)
