"""What answers are added to: the pool in the space of its groups, and the groups that the exemplars alone lead to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.answers.audit import permanent_random_numbers
from holotype.answers.images import RowImages
from holotype.errors import AnswersError
from holotype.filestate import regular
from holotype.grouping.groups import ClassThreshold, Groups
from holotype.grouping.kept import found_by, with_found
from holotype.grouping.premises import share_vectors
from holotype.grouping.search import Search
from holotype.grouping.space import Matrix, Space, moved_vectors
from holotype.grouping.words import WordScores
from holotype.names import OWN_RUN
from holotype.pool.exemplars import Exemplar, names_of, refuse_shared, resolve
from holotype.pool.pool import Pool
from holotype.vectors.embeddings import open_array

_FORMAT = 3
_BY_ROWS = 2  # the last format that did not know which images its rows are
_WIDE = "wide.npy"
FOUND_BY = "ranking.safetensors"  # what groups were found by: a review does not read it, a run that is done again does
_DECISIONS = np.array(sorted(["exemplar", "member", "doubtful", "background", "missing"]), dtype="<U10")


@dataclass(frozen=True)
class ReviewBaseline:
    """What answers are added to.

    vectors         (n, dim) float16 unit vectors of the pool in the space of its groups, zeros without one
    exemplars       per class its unit vectors (exemplars of the class, dim) in that space: those of pictures, which
                    `names` and `pictures` are of, and behind them those that stand for words which are heard
    names           per class what its exemplars are called
    groups          that the exemplars alone lead to
    exemplar_rows   exemplars that are in the pool: row -> class
    key             of the pool as it was in the run
    held_out        rows of a test set and what is nearly the same: nobody is asked about them, and answers about them
                    decide nothing
    images          which image each row is; None where an earlier version did the run
    pictures        per class the bytes of its exemplars, which may be gone by now
    renamed         exemplars that have another name now: the one of the run -> the one now
    unknown         images that are new since the run
    wide            (n, 512 at the most) float16 unit vectors in a wider space, for a second opinion; None where an
                    earlier version did the run
    said            what words say of the images, where they describe a class; its anchors are in that space too

    `save` and `load` keep it in a folder, so that a review need not rank the pool again.
    """

    vectors: NDArray[Any]
    exemplars: Sequence[Matrix]
    names: Sequence[Sequence[str]]
    groups: Groups
    exemplar_rows: Mapping[int, int]
    key: str
    held_out: Sequence[int] = ()
    images: RowImages | None = None
    pictures: Sequence[Sequence[bytes]] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    unknown: int = 0
    wide: NDArray[Any] | None = None
    said: WordScores | None = None

    @property
    def numbers(self) -> NDArray[np.float64]:
        """(n,) random numbers that stay with the images: who is audited first."""
        return permanent_random_numbers(len(self.vectors), self.key) if self.images is None else self.images.numbers

    @property
    def described(self) -> list[str]:
        """The classes that words describe."""
        if self.said is None:
            return []
        return [name for name, own in zip(self.groups.classes, self.said.anchors, strict=True) if len(own)]

    def save(self, folder: Path) -> None:
        """Write it to `folder`. Raises `OutputError` when it cannot be written."""
        groups = self.groups
        arrays: dict[str, NDArray[Any]] = {
            "scores": groups.scores,
            "label": groups.label.astype(np.int32),
            "decision": np.searchsorted(_DECISIONS, groups.decision).astype(np.uint8),
            "tie": groups.tie.astype(np.uint8),
            "rounds": groups.rounds,
            "exemplar_rows": np.array(list(self.exemplar_rows.items()), np.int64).reshape(-1, 2),
            "held_out": np.array(self.held_out, np.int64),
        }
        arrays |= {} if groups.copy_of is None else {"copy_of": groups.copy_of}
        arrays |= {f"exemplars{k}": vectors for k, vectors in enumerate(self.exemplars)}
        arrays |= {
            f"picture{k}.{i}": np.frombuffer(data, np.uint8)
            for k, of_class in enumerate(self.pictures)
            for i, data in enumerate(of_class)
        }
        if self.images is not None:
            arrays |= self.images.arrays()
        if self.said is not None:
            arrays |= {"said": self.said.pool}
            arrays |= {f"said{k}": scores for k, scores in enumerate(self.said.pictures)}
            arrays |= {f"words{k}": vectors for k, vectors in enumerate(self.said.anchors)}
        about = {
            "format": _FORMAT if self.images is not None else _BY_ROWS,
            "stamp": self.images.stamp if self.images is not None else "",
            "classes": list(groups.classes),
            "exemplars": [list(names) for names in self.names],
            "thresholds": [asdict(one) for one in groups.thresholds],
            "score_kind": groups.score_kind,
            "key": self.key,
        }
        if groups.premises is not None:
            files.write(folder / FOUND_BY, _saved(found_by(groups, groups.premises)))
        files.write(folder / "vectors.npy", lambda file: np.save(file, self.vectors, allow_pickle=False))
        if (wide := self.wide) is not None:
            files.write(folder / _WIDE, lambda file: np.save(file, wide, allow_pickle=False))
        files.write(folder / "groups.safetensors", _saved(arrays))
        files.write(folder / "baseline.json", json.dumps(about, indent=1))

    @classmethod
    def load(cls, folder: Path, *, whole: bool = False) -> Self:
        """Read what `save` wrote; the vectors stay on the disk. Raises `AnswersError` where it is not whole.

        whole   with what the groups were found by and rest on, for a run that is done again
        """
        try:
            found = cls._load(folder)
            return replace(found, groups=with_found(found.groups, _loaded(folder / FOUND_BY))) if whole else found
        except Exception as error:
            raise AnswersError(
                f"expected what a review starts from in {folder}, which a run leaves there ({error}); do the run "
                "again (holotype run OUT): vectors and answers are kept"
            ) from error

    @classmethod
    def _load(cls, folder: Path) -> Self:
        if (folder / "start.json").exists():
            raise ValueError(f"an earlier version wrote it, this one reads format {_FORMAT}")
        about = json.loads(regular(folder / "baseline.json").read_text(encoding="utf-8"))
        if about["format"] not in (_FORMAT, _BY_ROWS):
            raise ValueError(f"it has format {about['format']}, this version reads {_FORMAT}")
        arrays = _loaded(folder / "groups.safetensors")
        groups = Groups(
            about["classes"],
            arrays["scores"],
            arrays["label"].astype(np.int64),
            _DECISIONS[arrays["decision"]],
            [ClassThreshold(**one) for one in about["thresholds"]],
            arrays["tie"].astype(bool),
            arrays["rounds"],
            about["score_kind"],
            copy_of=arrays.get("copy_of"),
        )
        exemplars = [arrays[f"exemplars{k}"] for k in range(len(about["classes"]))]
        rows = {int(row): int(k) for row, k in arrays["exemplar_rows"]}
        vectors, held_out = open_array(folder / "vectors.npy"), arrays["held_out"].tolist()
        wide = open_array(folder / _WIDE) if (folder / _WIDE).exists() else None
        said = _said(arrays, len(exemplars)) if "said" in arrays else None
        plain = cls(vectors, exemplars, about["exemplars"], groups, rows, about["key"], held_out, wide=wide, said=said)
        if about["format"] == _BY_ROWS:
            return plain
        pictures = [
            [arrays[f"picture{k}.{i}"].tobytes() for i in range(len(names))] for k, names in enumerate(plain.names)
        ]
        return replace(plain, images=RowImages.from_arrays(arrays, about["stamp"]), pictures=pictures)

    def following(self, pool: Pool) -> "ReviewBaseline":
        """Return it with the rows of `pool` as it is now, each with what is known of its image.

        Images that are gone are left out; those that are new have no vector (`unknown`). Raises `AnswersError` where
        no image of the run is there.
        """
        if self.images is None:
            if self.key == pool.fingerprint and len(self.vectors) == len(pool):
                return self
            raise AnswersError(
                f"{pool.source} has changed since the run, which an earlier version did and which does not follow that:"
                " do the run again (holotype run OUT)"
            )
        if self.images.are_of(pool):
            return self
        places = self.images.places_in(pool)
        if not (places >= 0).any():
            raise AnswersError(
                f"no image of {pool.source} was in the run: if its images are elsewhere now, give their place with "
                f"--images; for other images do a run of their own ({OWN_RUN})"
            )
        return self._at(places, pool)

    def _at(self, places: NDArray[np.int64], pool: Pool) -> "ReviewBaseline":
        assert self.images is not None  # noqa: S101 - or nothing is known to follow
        there, groups = places >= 0, self.groups
        scores = np.full((len(places), len(groups.classes)), np.nan, np.float32)
        scores[there] = groups.scores[places[there]]
        decision = np.where(there, groups.decision[places], "missing").astype(groups.decision.dtype)
        exemplar_rows = self._exemplars_at(places, pool)
        copies = np.setdiff1d(np.flatnonzero(decision == "exemplar"), list(exemplar_rows))
        decision[copies] = "member"
        renamed = {self.images.ids[places[row]]: pool.ids[row] for row in exemplar_rows}
        held_out = np.flatnonzero(np.isin(places, np.asarray(self.held_out, np.int64))).tolist()
        return replace(
            self,
            vectors=_vectors_at(places, self.vectors),
            wide=None if self.wide is None else _vectors_at(places, self.wide),
            said=None if self.said is None else self.said.at(places),
            names=[[renamed.get(name, name) for name in names] for names in self.names],
            groups=replace(
                groups,
                scores=scores,
                label=np.where(there, groups.label[places], 0),
                decision=decision,
                tie=there & groups.tie[places],
                rounds=np.where(there, groups.rounds[places], 0).astype(np.int8),
                copy_of=None if groups.copy_of is None else _copies_at(places, groups.copy_of, exemplar_rows),
            ),
            exemplar_rows=exemplar_rows,
            held_out=held_out,
            images=RowImages.of(pool),
            renamed=renamed,
            unknown=int((~there).sum()),
        )

    def _exemplars_at(self, places: NDArray[np.int64], pool: Pool) -> dict[int, int]:
        """The rows of the exemplars that are in the pool still; of copies the one of the same name, else the first."""
        assert self.images is not None  # noqa: S101 - as above
        found = {}
        for old, k in self.exemplar_rows.items():
            rows = np.flatnonzero(places == old).tolist()
            same = [row for row in rows if pool.ids[row] == self.images.ids[old]]
            found.update(dict.fromkeys((same or rows)[:1], k))
        return found

    def given(self, exemplars: Mapping[str, Sequence[str]], pool: Pool) -> list[Exemplar]:
        """Return the exemplars of the run, by class and code: the pictures that it saw, whatever became of them.

        The classes may be others than those of the run; what it had no picture of is looked up. Raises `ExemplarError`.
        """
        names = [name for own in self.names for name in own]
        pictures = dict(zip(names, (data for own in self.pictures for data in own), strict=False))
        ids = pool.ids if self.images is None else self.images.ids  # of a very large pool some alone
        rows = {ids[row]: pool.rows.get(ids[row]) for row in self.exemplar_rows}
        found = []
        for k, (label, codes) in enumerate(exemplars.items()):
            for code in codes:
                name = self.renamed.get(code, code)
                if name in pictures:
                    found.append(Exemplar(name, k, rows.get(name), pictures[name]))
                else:
                    found += [replace(one, label=k) for one in resolve(pool, {label: [code]})]
        refuse_shared(found, list(exemplars))
        return found

    def in_order(self, classes: Sequence[str]) -> "ReviewBaseline":
        """Return it with its classes in the order of `classes`: names decide, not places.

        Raises `AnswersError` when the classes are others.
        """
        groups = self.groups
        if list(classes) == list(groups.classes):
            return self
        if sorted(classes) != sorted(groups.classes):
            raise AnswersError(
                f"the run was done for the classes {', '.join(groups.classes)}, and its settings name "
                f"{', '.join(classes)}: do the run again (holotype run OUT)"
            )
        old = [list(groups.classes).index(name) for name in classes]
        new = np.argsort(old)
        ordered = replace(
            groups,
            classes=list(classes),
            scores=np.ascontiguousarray(groups.scores[:, old]),
            label=new[groups.label],
            thresholds=[groups.thresholds[k] for k in old],
        )
        return replace(
            self,
            groups=ordered,
            exemplars=[self.exemplars[k] for k in old],
            names=[self.names[k] for k in old],
            pictures=[self.pictures[k] for k in old] if self.pictures else (),
            said=None if self.said is None else self.said.in_order(old),
            exemplar_rows={row: int(new[k]) for row, k in self.exemplar_rows.items()},
        )


def _vectors_at(places: NDArray[np.int64], vectors: NDArray[Any]) -> NDArray[np.float16]:
    found = np.zeros((len(places), vectors.shape[1]), np.float16)
    found[places >= 0] = vectors[places[places >= 0]]
    return found


def _copies_at(
    places: NDArray[np.int64], copy_of: NDArray[np.int64], exemplar_rows: Mapping[int, int]
) -> NDArray[np.int64]:
    """(n,) the row that each row is a copy of, by that which each place is a copy of; an exemplar comes first."""
    rows = np.arange(len(places))
    first: dict[int, int] = {}
    for row in [*exemplar_rows, *rows.tolist()]:
        if places[row] >= 0:
            first.setdefault(int(copy_of[places[row]]), row)
    return np.array([first[int(copy_of[place])] if place >= 0 else row for row, place in enumerate(places)], np.int64)


def _said(arrays: Mapping[str, NDArray[Any]], classes: int) -> WordScores:
    pictures, anchors = ([arrays[f"{of}{k}"] for k in range(classes)] for of in ("said", "words"))
    return WordScores(arrays["said"], pictures, anchors, [])


def _transformed(space: Space, vectors: Sequence[Matrix]) -> list[Matrix]:
    return [space.transform(own) for own in vectors]


def pictures_of(exemplars: Sequence[Exemplar], classes: int) -> list[list[bytes]]:
    """Return per class the bytes of its exemplars."""
    return [[one.data for one in exemplars if one.label == k] for k in range(classes)]


def make_baseline(
    search: Search,
    groups: Groups,
    pool: Pool,
    held_out: Sequence[int] = (),
    before: ReviewBaseline | None = None,
    *,
    same_vectors: bool = False,
) -> ReviewBaseline:
    """Return what answers to `groups`, which come from `search` in `pool`, are added to.

    held_out       see `ReviewBaseline`
    before         that of the run before, whose vectors are taken where they are the same
    same_vectors   whether each image that was in it has the vector that it had then
    """
    space = groups.space or Space.plain(search.embeddings.dim)
    exemplars = _transformed(space, groups.anchors)
    wide, known, earlier, earlier_wide = groups.wide or search.wide, None, None, None
    if before is not None:
        known, earlier = _places_before(before, groups, pool, same_vectors=same_vectors), before.vectors
        earlier_wide = before.wide if groups.wide is not None else None
    return ReviewBaseline(
        moved_vectors(search.embeddings, space, known, earlier),
        exemplars,
        names_of(search.exemplars, len(search.classes)),
        replace(groups, wide=wide),
        search.exemplar_rows,
        pool.fingerprint,
        held_out,
        RowImages.of(pool),
        pictures_of(search.exemplars, len(search.classes)),
        wide=moved_vectors(search.embeddings, wide, known, earlier_wide),
        said=None if (said := search.said) is None else replace(said, anchors=_transformed(space, said.anchors)),
    )


def _places_before(
    before: ReviewBaseline, groups: Groups, pool: Pool, *, same_vectors: bool
) -> NDArray[np.int64] | None:
    """Return (n,) the row that had the vector of each row in the run before, -1 where none; None where none is known.

    They are those of the same space.
    """
    then, now = before.groups.premises, groups.premises
    if then is None or now is None or then.way != now.way or groups.space is not before.groups.space:
        return None
    if share_vectors(then, now):
        return np.arange(len(before.vectors))
    return before.images.places_in(pool) if same_vectors and before.images is not None else None


def _saved(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _loaded(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    return load_file(regular(path))
