"""Training rows: chosen from the groups, spread over folds, encoded once, labelled, and augmented where asked."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.runtimes import Encoder
from holotype.errors import GroupError
from holotype.grouping.groups import Groups
from holotype.grouping.search import Search
from holotype.grouping.space import Space, fit_wide_space
from holotype.model.augment import EncodedViews
from holotype.model.heads import TrainingRows, class_weights
from holotype.model.predictions import NONE
from holotype.model.splits import ALWAYS, NEAR_TEST, Split, split
from holotype.pool.pool import Pool
from holotype.progress import Progress, in_steps
from holotype.settings import Balance, TrainSettings
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.store import EmbeddingStore

COPY = "a copy of another image"  # why a row is not learnt from

# `python -m benchmarks.quality --new --development` is what they were chosen with; docs/tried.md has its figures.
_FIRM = 12  # rows count 1 + (what is known of a class, in the mean, by this) ** 2 against a linear head's penalty
_UNLIKELY = 0.02  # estimated probability up to which a row counts as showing none of the classes
_FADING = 0.3  # what nobody answered weighs 1 / (1 + this x what is known of the class), what people said 1


@dataclass(frozen=True)
class PoolLabels:
    """What the rows of a pool may be learnt as.

    groups     what each was taken for, after answers
    answered   rows that people decided, audits among them
    denied     per class the rows of which people said that they do not show it
    """

    groups: Groups
    answered: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    denied: Sequence[NDArray[np.int64]] = ()

    def of(self, rows: NDArray[np.int64]) -> dict[int, int]:
        """Return pool row -> what it most likely shows ("none" last), of those of `rows` that are not doubtful."""
        usable = np.isin(self.groups.decision[rows], ["member", "exemplar", "background"])
        labels = self.targets(rows[usable]).argmax(axis=1)
        return dict(zip(rows[usable].tolist(), labels.tolist(), strict=True))

    def told(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (rows,) which are exemplars, or were decided by people."""
        return np.asarray(np.isin(rows, self.answered) | (self.groups.decision[rows] == "exemplar"))

    def said(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return (rows, K) which show a class by what people said, or do not; what shows one is "no" to no other."""
        shows = self.told(rows)[:, None] & (self.targets(rows)[:, :-1] == 1)
        denied = np.stack([np.isin(rows, one) for one in self.denied], axis=1) if self.denied else np.zeros_like(shows)
        return np.asarray(shows | (denied & ~shows.any(axis=1, keepdims=True)))

    def shows_nothing(self, rows: NDArray[np.int64], targets: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
        """Return (rows,) which show none of the classes, though nobody said so; by their `targets`, where known."""
        targets = self.targets(rows) if targets is None else targets
        return np.asarray((targets[:, -1] == 1) & ~self.told(rows))

    def targets(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (rows, K + 1): with which probability each shows each class, and none; nan where nobody can tell.

        What nobody answered is as sure as the groups are: what may show a class is no example of "none". Where a
        cosine decides, there is no estimate, and the doubtful are left out.
        """
        groups, decision, count = self.groups, self.groups.decision[rows], len(self.groups.classes)
        sure = np.eye(count + 1)[groups.taken_for(rows)][:, :count]
        shown = np.nan_to_num(groups.scores[rows]).astype(np.float64) if groups.score_kind == "estimate" else sure
        told = self.told(rows)
        certain = told & np.isin(decision, ["member", "exemplar"])
        shown = np.where(certain[:, None], sure, np.where(shown > _UNLIKELY, shown, 0))
        for k, denied in enumerate(self.denied):
            shown[np.isin(rows, denied) & ~certain, k] = 0
        shown /= np.maximum(shown.sum(axis=1, keepdims=True), 1)
        open_ = (decision == "doubtful") & (told | (groups.score_kind == "cosine"))
        shown[open_ | (decision == "missing")] = np.nan
        return np.concatenate([shown, np.maximum(1 - shown.sum(axis=1, keepdims=True), 0)], axis=1)


@dataclass(frozen=True)
class Training:
    """What heads learn from, and what was left out and why.

    classes    their names, "none" last
    ids        of the rows; augmented views follow behind
    X          (n, dim) features
    targets    (n, K + 1) with which probability each shows each class; "none" last
    told       (n,) exemplars, and what people decided
    said       (n, K) exemplars of each class, and what people said of it, "yes" or "no"
    fold       (n,) in which fold each is held out; -1 for those that every head learns from
    stands     (n,) for how many images of the pool each stands; 0 for a view, and an exemplar from outside
    balance    how imbalance is met
    space      that the features are learnt in; None for features of unit length as they are
    counts     images of each class among the rows, by what they may show
    warnings   what there is nothing to learn from
    """

    classes: list[str]
    ids: list[str]
    X: NDArray[np.float32]
    targets: NDArray[np.float64]
    told: NDArray[np.bool_]
    said: NDArray[np.bool_]
    fold: NDArray[np.int64]
    stands: NDArray[np.float64]
    balance: Balance
    space: Space | None
    dropped: dict[str, str]
    unreadable: dict[str, str]
    counts: dict[str, int]
    warnings: Sequence[str] = ()

    @property
    def y(self) -> NDArray[np.int64]:
        """(n,) the class that each most likely shows, "none" last."""
        return np.asarray(self.targets.argmax(axis=1))

    @property
    def counts_held_out(self) -> dict[str, int]:
        """Images of each class among those that are held out in turn, counted as `counts` are."""
        shown = self.targets[(self.fold != ALWAYS) & (self.stands > 0)].sum(axis=0)
        return {name: round(float(shown[k])) for k, name in enumerate(self.classes)}

    @property
    def folds(self) -> list[int]:
        """The folds that have any row."""
        return [fold for fold in np.unique(self.fold).tolist() if fold != ALWAYS]

    def without(self, *folds: int) -> TrainingRows:
        """Return what a head learns from while `folds` are held out: a row as each class that it may show."""
        learnt = ~np.isin(self.fold, folds)
        rows, y = np.nonzero((self.targets > _UNLIKELY) & learnt[:, None])
        weights = self.targets[rows, y] * self._weights[rows]
        weights *= class_weights(y, self.targets.shape[1], self.balance, weights)[y]
        firm = 1 + (self._known.mean() / _FIRM) ** 2
        return TrainingRows(self.X[rows], y, firm * weights, self.space)

    def watched(self, fold: int) -> tuple[TrainingRows, TrainingRows]:
        """Return what a head learns from while `fold` is held out, and rows that tell it when to stop.

        These are the next fold, without which each class must be left: else it stops by what it learns from.
        """
        learnt, there = self.without(fold), self.folds
        begin = there.index(fold) + 1
        for other in [*there[begin:], *there[: begin - 1]]:
            rest = self.without(fold, other)
            if len(np.unique(rest.y)) == len(np.unique(learnt.y)):
                return rest, self.held_out(other)
        return learnt, learnt

    def places(self, fold: int) -> NDArray[np.int64]:
        """Return where the rows of `fold` stand; views of them are held out too, and judge nothing."""
        return np.flatnonzero(self.fold[: len(self.ids)] == fold)

    def held_out(self, fold: int, ids: Set[str] | None = None) -> TrainingRows:
        """Return the rows of `fold`, those among `ids`; each class weighs the same."""
        held = self.places(fold)
        held = held if ids is None else held[np.array([self.ids[place] in ids for place in held], dtype=bool)]
        y = self.y[held]
        weights = class_weights(y, self.targets.shape[1], "weights")[y]
        return TrainingRows(self.X[held], y, weights, self.space)

    def judged_by(self, ids: Set[str]) -> tuple[TrainingRows, TrainingRows]:
        """Return what is learnt while the first fold is held out, and the rows of it among `ids`.

        Raises `GroupError` when there is none.
        """
        fold = min(self.folds, default=0)
        judged = self.held_out(fold, ids)
        if not len(judged.y):
            raise GroupError("no validation row is left to judge by: give more exemplars, or a larger pool")
        return self.without(fold), judged

    @cached_property
    def trust(self) -> NDArray[np.float64]:
        """(n, K) how far what a row is taken for is trusted: of what nobody answered the less, the more is known."""
        return np.where(self.told[:, None], 1.0, 1 / (1 + _FADING * self._known))

    @cached_property
    def _known(self) -> NDArray[np.float64]:
        """(K,) images that are known to show each class: exemplars, and what people said."""
        return np.asarray(self.targets[: len(self.ids)][self.told[: len(self.ids)], :-1].sum(axis=0))

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        """(n,) what each row weighs before imbalance is met: 1 where it shows nothing, else by what it may show."""
        shown = self.targets[:, :-1].sum(axis=1)
        trusted = (self.targets[:, :-1] * self.trust).sum(axis=1) / np.maximum(shown, 1e-9)
        return np.asarray(np.where(shown > 0, trusted, 1.0))


def plan(search: Search, labellings: Sequence[PoolLabels], held_out: Sequence[int], settings: TrainSettings) -> Split:
    """Choose the rows to learn from and spread them over the folds, once for all of `labellings` (one per threshold).

    Rows are what may show a class in any of them, what people said of, and a sample of all else; of images that are
    copies, the first.
    """
    count, groups = len(search.classes), labellings[0].groups
    present = np.flatnonzero(search.embeddings.present)
    targets = [one.targets(present) for one in labellings]
    possible = np.logical_or.reduce([(np.nan_to_num(one)[:, :count] > 0).any(axis=1) for one in targets])
    possible |= np.logical_or.reduce([one.told(present) for one in labellings])
    both = zip(labellings, targets, strict=True)
    unlikely = np.logical_and.reduce([one.shows_nothing(present, shown) for one, shown in both])
    pinned = np.array(_pinned(search), dtype=np.int64)
    chosen, others = np.union1d(present[possible], pinned), present[unlikely & groups.distinct[present]]
    distinct = np.isin(chosen, pinned) | groups.distinct[chosen]
    chosen, copies = chosen[distinct], chosen[~distinct]
    tested = np.array([row for row in held_out if search.embeddings.present[row]], dtype=np.int64)
    sampled = _sample(others, held_out, search.embeddings.size, settings)
    rows = np.unique(np.concatenate([chosen, sampled, tested]))
    loosest = max(labellings, key=lambda one: sum(len(one.groups.members(k)) for k in range(count)))
    labels = np.nan_to_num(loosest.targets(rows)).argmax(axis=1)
    parts = split(
        rows,
        labels,
        search.embeddings.take(rows),
        pinned=pinned.tolist(),
        held_out=held_out,
        folds=max(round(1 / settings.validation), 2),
        cosine=settings.near_duplicate,
        seed=settings.seed,
    )
    return replace(parts, dropped=_why_copies(groups, copies, held_out) | parts.dropped)


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
    classes = [*labelling.groups.classes, NONE]

    def load(name: str) -> bytes:
        return outside[name].data if name in outside else pool.read(pool.rows[name])

    targets = labelling.targets(parts.rows)
    known = ~np.isnan(targets[:, -1])
    rows, fold = parts.rows[known], np.concatenate([np.full(len(outside), ALWAYS), parts.fold[known]])
    targets = np.concatenate([np.eye(len(classes))[[e.label for e in outside.values()]], targets[known]])
    told = np.concatenate([np.ones(len(outside), bool), labelling.told(rows)])
    said = np.concatenate([targets[: len(outside), :-1] == 1, labelling.said(rows)])
    names = [*outside, *(pool.ids[row] for row in rows)]
    store.ensure(names, load, progress)
    X, unreadable = store.take(names)
    there = np.array([name not in unreadable for name in names], dtype=bool)
    ids = [name for name in names if name not in unreadable]
    targets, told, said = targets[there], told[there], said[there]
    fold = _never_of_all(fold[there], targets)
    places = np.array([-1 if name in outside else pool.rows[name] for name in ids], np.int64)
    stands = _stands(labelling, places, search.embeddings.left)
    y, shown = targets.argmax(axis=1), targets.sum(axis=0)
    warnings = _missing(classes, (targets > _UNLIKELY).any(axis=0), labelling, parts)
    counts = {name: round(float(shown[k])) for k, name in enumerate(classes)}
    with in_steps(progress, "fit the model's space"):
        space = _space(labelling, search, X, store.encoder, settings)
    if settings.balance == "augment":
        views = EncodedViews(store, load, settings.seed)
        X_more, origin = views.encode(ids, y, len(classes), settings.views, progress)
        X, stands = np.concatenate([X, X_more]), np.concatenate([stands, np.zeros(len(origin))])
        targets, told, said, fold = (np.concatenate([each, each[origin]]) for each in (targets, told, said, fold))
    return Training(
        classes,
        ids,
        X,
        targets,
        told,
        said,
        fold,
        stands,
        settings.balance,
        space,
        {pool.ids[row]: why for row, why in parts.dropped.items()},
        unreadable,
        counts | {"augmented views": len(X) - len(ids)},
        warnings,
    )


def _never_of_all(fold: NDArray[np.int64], targets: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return `fold` without those that are all there is of a class: others of it may have turned out unreadable."""
    may_show = targets > _UNLIKELY
    for one in np.unique(fold[fold != ALWAYS]):
        if (may_show.any(axis=0) & ~may_show[fold != one].any(axis=0)).any():
            fold = np.where(fold == one, ALWAYS, fold)
    return fold


def agreed(labellings: Sequence[PoolLabels], rows: NDArray[np.int64]) -> set[int]:
    """Return those of `rows` that every labelling labels alike: the ones on which they can be compared."""
    first, *others = [one.of(rows) for one in labellings]
    return {row for row, label in first.items() if all(other.get(row) == label for other in others)}


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


def _stands(labelling: PoolLabels, rows: NDArray[np.int64], left: int) -> NDArray[np.float64]:
    """Return (rows,) for how many images of the pool each stands: its copies, and all of which it is a sample.

    A row of -1 is no image of the pool, and stands for none; `left` images that are none have no row.
    """
    groups = labelling.groups
    there = np.flatnonzero(~groups.missing)
    copies = np.bincount(there if groups.copy_of is None else groups.copy_of[there], minlength=len(groups.decision))
    nothing = np.zeros(len(copies), bool)
    nothing[there] = labelling.shows_nothing(there)
    found = np.where(rows >= 0, copies[rows], 0).astype(np.float64)
    sampled = (rows >= 0) & nothing[rows]
    found[sampled] *= max(float(nothing.sum() + left) / max(float(found[sampled].sum()), 1.0), 1.0)
    return found


def _space(
    labelling: PoolLabels, search: Search, X: NDArray[np.float32], encoder: Encoder, settings: TrainSettings
) -> Space | None:
    """The wide space of the pool that was ranked, where `encoder` made its vectors; else that of features X.

    Where no person said "yes" yet, all that is learnt of a class comes from the ranking, and is learnt in its space.
    Where a cosine decides there is no ranking, and no space that knows test rows.
    """
    if settings.rank.space == "raw":
        return None
    same = search.encoder is not None and search.encoder.fingerprint == encoder.fingerprint
    if not same or labelling.groups.space is None:
        return fit_wide_space(Embeddings([X], np.arange(len(X)), len(X)))
    decided = labelling.groups.decision[labelling.answered]
    if (decided == "member").any():
        return labelling.groups.wide or search.wide
    return labelling.groups.space


def _missing(classes: Sequence[str], there: NDArray[np.bool_], labelling: PoolLabels, parts: Split) -> list[str]:
    """Say of which of `classes` no row is `there` to learn from; a model never predicts them.

    Raises `GroupError` when less than two classes are left.
    """
    missing = [name for k, name in enumerate(classes) if not there[k]]
    why = {name: _why_missing(name, labelling, parts) for name in missing}
    if len(classes) - len(missing) < 2:
        raise GroupError(f"there is nothing to tell {classes[0]!r} from: {why[missing[-1]]}")
    return [f"nothing is learnt of {name!r}, so it is never predicted: {reason}" for name, reason in why.items()]


def _why_missing(name: str, labelling: PoolLabels, parts: Split) -> str:
    """Say why no row of a class is left to learn from, and what helps."""
    groups = labelling.groups
    if name != NONE:
        return "its images can no longer be read; give other exemplars"
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
