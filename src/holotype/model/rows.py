"""Training rows: chosen from the groups, split, encoded once, labelled, and augmented where asked."""

import zlib
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from holotype.errors import GroupError
from holotype.grouping.groups import Groups
from holotype.grouping.search import Search
from holotype.grouping.space import fit_space
from holotype.model import augment
from holotype.model.heads import TrainingRows, class_weights
from holotype.model.predictions import NONE
from holotype.model.splits import NEAR_TEST, Split, split
from holotype.pool.images import Pixels
from holotype.pool.pool import Pool
from holotype.progress import Progress, in_steps
from holotype.settings import TrainSettings
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.shards import contents_of
from holotype.vectors.store import EmbeddingStore

COPY = "a copy of another image"  # why a row is not learnt from


@dataclass(frozen=True)
class PoolLabels:
    """What the rows of a pool may be learnt as.

    groups     what each was taken for
    answered   rows that people decided: those that are background are learnt from in any case
    audited    rows that nothing is learnt from
    """

    groups: Groups
    answered: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    audited: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def of(self, rows: NDArray[np.int64]) -> dict[int, int]:
        """Return pool row -> class number ("none" last) of those of `rows` that may be learnt from.

        The doubtful may not, nor may what was audited.
        """
        decision = self.groups.decision[rows]
        labels = np.where(decision == "background", len(self.groups.classes), self.groups.label[rows])
        usable = np.isin(decision, ["member", "exemplar", "background"]) & ~np.isin(rows, self.audited)
        return dict(zip(rows[usable].tolist(), labels[usable].tolist(), strict=True))


@dataclass(frozen=True)
class Training:
    """What a head learns from and is chosen with, and what was left out and why.

    fit_ids, validation_ids   ids of the rows of `fit` and `validation`; augmented views follow behind in `fit`
    counts                    rows of each class in each part
    warnings                  what there is nothing to learn from
    """

    fit_ids: list[str]
    validation_ids: list[str]
    fit: TrainingRows
    validation: TrainingRows
    dropped: dict[str, str]
    unreadable: dict[str, str]
    counts: dict[str, int]
    warnings: Sequence[str] = ()

    def judged_by(self, ids: Set[str]) -> tuple[TrainingRows, TrainingRows]:
        """Return the fit rows, and the validation rows among `ids`, which weigh alike for each class.

        Raises `GroupError` when there is none.
        """
        inside = np.array([name in ids for name in self.validation_ids], dtype=bool)
        if not inside.any():
            raise GroupError("no validation row is left to judge by: give more exemplars, or a larger pool")
        rows = self.validation.take(inside)
        weights = class_weights(rows.y, int(self.fit.y.max()) + 1, "weights")
        return self.fit, TrainingRows(rows.X, rows.y, weights[rows.y], rows.space)


def plan(search: Search, labellings: Sequence[PoolLabels], held_out: Sequence[int], settings: TrainSettings) -> Split:
    """Choose the rows to learn from and split them, once for all of `labellings` (one per threshold).

    Rows are the members of any grouping, a sample of what is background in all of them, and what answers made so; of
    images that are copies, the first.
    """
    count, groupings = len(search.classes), [one.groups for one in labellings]
    loosest = max(groupings, key=lambda groups: sum(len(groups.members(k)) for k in range(count)))
    members = np.unique(np.concatenate([groups.members(k) for groups in groupings for k in range(count)]))
    sampled = _sample(_background_in_all(labellings), held_out, search.embeddings.size, settings)
    tested = np.array([row for row in held_out if search.embeddings.present[row]], dtype=np.int64)
    members, pinned = members[search.embeddings.present[members]], _pinned(search)
    distinct = np.isin(members, pinned) | groupings[0].distinct[members]
    members, copies = members[distinct], members[~distinct]
    denied = np.concatenate([one.answered[one.groups.decision[one.answered] == "background"] for one in labellings])
    denied = denied[search.embeddings.present[denied] & groupings[0].distinct[denied]]
    rows = np.unique(np.concatenate([members, sampled, denied, tested, np.array(pinned, dtype=np.int64)]))
    labels = np.where(np.isin(rows, members), loosest.label[rows], count)
    parts = split(
        rows,
        labels,
        search.embeddings.take(rows),
        pinned=pinned,
        held_out=held_out,
        share=settings.validation,
        cosine=settings.near_duplicate,
        seed=settings.seed,
    )
    return replace(parts, dropped=_why_copies(groupings[0], copies, held_out) | parts.dropped)


def _why_copies(groups: Groups, copies: NDArray[np.int64], held_out: Sequence[int]) -> dict[int, str]:
    """Return why each of the rows `copies` is not learnt from."""
    if groups.copy_of is None:
        return {}
    tested = np.isin(groups.copy_of[copies], groups.copy_of[list(held_out)])
    return {int(row): NEAR_TEST if test else COPY for row, test in zip(copies, tested, strict=True)}


def build(
    parts: Split,
    labelling: PoolLabels,
    search: Search,
    pool: Pool,
    store: EmbeddingStore,
    settings: TrainSettings,
    progress: Progress,
) -> Training:
    """Encode the rows of `parts` (only what is not there yet) and label them by `labelling`.

    Rows that it has no label for are left out. Raises `GroupError` when there is nothing to tell a class from.
    """
    outside = {e.key: e for e in search.exemplars if e.row not in _pinned(search)}
    rows = np.concatenate([parts.fit, parts.validation])
    labels = {pool.ids[row]: label for row, label in labelling.of(rows).items()}
    labels |= {name: exemplar.label for name, exemplar in outside.items()}

    def load(name: str) -> bytes:
        return outside[name].data if name in outside else pool.read(pool.rows[name])

    names = {"fit": [*outside, *(pool.ids[r] for r in parts.fit)], "val": [pool.ids[r] for r in parts.validation]}
    store.ensure(names["fit"] + names["val"], load, progress)
    fit_ids, X_fit, y_fit, bad_fit = _labelled(store, names["fit"], labels)
    validation_ids, X_val, y_val, bad_val = _labelled(store, names["val"], labels)
    classes = [*labelling.groups.classes, NONE]
    warnings = _missing(classes, y_fit, labelling, parts)
    learnt = Embeddings([X_fit], np.arange(len(X_fit)), len(X_fit))
    with in_steps(progress, "fit the model's space"):
        space = None if settings.rank.space == "raw" else fit_space(learnt, settings.rank.space, settings.seed)
    if settings.balance == "augment":
        views = _View(store, load, settings.seed)
        X_more, y_more = views.encode(fit_ids, y_fit, len(classes), settings.views, progress)
        X_fit, y_fit = np.concatenate([X_fit, X_more]), np.concatenate([y_fit, y_more])
    weights = class_weights(y_fit, len(classes), settings.balance)
    counts = {f"fit {name}": int((y_fit[: len(fit_ids)] == k).sum()) for k, name in enumerate(classes)}
    counts |= {f"validation {name}": int((y_val == k).sum()) for k, name in enumerate(classes)}
    return Training(
        fit_ids,
        validation_ids,
        TrainingRows(X_fit, y_fit, weights[y_fit], space),
        TrainingRows(X_val, y_val, weights[y_val], space),
        {pool.ids[row]: why for row, why in parts.dropped.items()},
        bad_fit | bad_val,
        counts | {"augmented views": len(y_fit) - len(fit_ids)},
        warnings,
    )


def agreed(labellings: Sequence[PoolLabels], rows: NDArray[np.int64]) -> set[int]:
    """Return those of `rows` that every labelling labels alike: the ones on which they can be compared."""
    first, *others = [one.of(rows) for one in labellings]
    return {row for row, label in first.items() if all(other.get(row) == label for other in others)}


def _background_in_all(labellings: Sequence[PoolLabels]) -> NDArray[np.int64]:
    common = np.logical_and.reduce([one.groups.decision == "background" for one in labellings])
    common &= labellings[0].groups.distinct
    return np.setdiff1d(np.flatnonzero(common), np.concatenate([one.audited for one in labellings]))


def _pinned(search: Search) -> list[int]:
    """The rows of the exemplars that the search knows; the others are learnt from as if they came from outside."""
    return [e.row for e in search.exemplars if e.row is not None and search.embeddings.present[e.row]]


def _sample(
    background: NDArray[np.int64], held_out: Sequence[int], size: int, settings: TrainSettings
) -> NDArray[np.int64]:
    """Return rows of the background by random numbers that are drawn once for the pool of `size` images.

    So it is nearly the same sample after answers have moved a few images, and few must be encoded.
    """
    usable = np.setdiff1d(background, held_out)
    numbers = np.random.default_rng(settings.seed).random(size)
    return np.asarray(usable[np.argsort(numbers[usable], kind="stable")][: settings.negatives])


def _labelled(
    store: EmbeddingStore, names: Sequence[str], labels: dict[str, int]
) -> tuple[list[str], NDArray[np.float32], NDArray[np.int64], dict[str, str]]:
    usable = [name for name in names if name in labels]
    X, unreadable = store.take(usable)
    kept = [name for name in usable if name not in unreadable]
    return kept, X, np.array([labels[name] for name in kept], dtype=np.int64), unreadable


def _missing(classes: Sequence[str], y: NDArray[np.int64], labelling: PoolLabels, parts: Split) -> list[str]:
    """Say which of `classes` no row of `y` is left to learn from; a model never predicts them.

    Raises `GroupError` when less than two classes are left.
    """
    missing = [name for k, name in enumerate(classes) if not (y == k).any()]
    why = {name: _why_missing(name, labelling, parts) for name in missing}
    if len(classes) - len(missing) < 2:
        raise GroupError(f"there is nothing to tell {classes[0]!r} from: {why[missing[-1]]}")
    return [f"nothing is learnt of {name!r}, so it is never predicted: {reason}" for name, reason in why.items()]


def _why_missing(name: str, labelling: PoolLabels, parts: Split) -> str:
    """Say why no row of a class is left to learn from, and what helps."""
    groups = labelling.groups
    if name != NONE:
        return "its images can no longer be read, or were audited; give other exemplars"
    left = np.flatnonzero((groups.decision == "background") & groups.distinct)
    if not len(left):
        there = int((~groups.missing).sum())
        return (
            f"each of the {there:,} images with a vector is in a class or doubtful; add images to the pool that show "
            "none of the classes"
        )
    if np.isin(left, list(parts.dropped)).any():
        return (
            f"the {len(left):,} images outside the classes are rows of the test set, nearly the same as one, or "
            "unreadable; leave some of them out of the test set"
        )
    return f"none of the {len(left):,} images outside the classes can be read or learnt from"


class _View:
    """Augmented views of fit rows, encoded once; their ids are `<id>#view<number>@<digest of the image>`."""

    def __init__(self, store: EmbeddingStore, load: augment.ReadBytes, seed: int) -> None:
        folder = store.folder.with_name(f"{store.folder.name}-views-{seed}")
        self._store = EmbeddingStore(folder, store.encoder, store.pool)
        self._load, self._seed = load, seed

    def encode(
        self, ids: Sequence[str], y: NDArray[np.int64], count: int, most: int, progress: Progress
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return views of the rarer classes' rows, until each class has as many as the largest, or `most` a row."""
        sizes = np.bincount(y, minlength=count)
        each = np.clip(sizes.max() // np.maximum(sizes, 1) - 1, 0, most)
        contents = contents_of(ids, self._store.pool)
        wanted = {
            f"{name}#view{v}@{contents.get(name, '')[:16]}": k
            for name, k in zip(ids, y, strict=True)
            for v in range(each[k])
        }
        self._store.ensure(list(wanted), self._pixels, progress, "encode views")
        X, unreadable = self._store.take(list(wanted))  # an image may be gone, its own vector being there
        return X, np.array([k for name, k in wanted.items() if name not in unreadable], dtype=np.int64)

    def _pixels(self, name: str) -> Pixels:
        source, seeded = name.rpartition("#view")[0], name.rpartition("@")[0]
        seed = zlib.crc32(f"{self._seed} {seeded}".encode())  # else the same change is made to each image
        pixels: Pixels = augment.views(self._store.encoder.prepare(self._load(source)), 1, seed)[0]
        return pixels
