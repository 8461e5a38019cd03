"""Groups after answers: every class learnt anew, every answered image decided by its answer, and what was audited."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.answers import Answer
from holotype.audit import Audit, audit, lots
from holotype.embeddings import open_array
from holotype.errors import AnswersError
from holotype.exemplars import names_of
from holotype.feedback import Learnt, Lesson, Logits, best_cut, learn, sigmoid
from holotype.groups import Groups, Reasons, Threshold, Told, group
from holotype.similarity import Search
from holotype.space import Matrix, Space

_FORMAT = 1
_DECISIONS = np.array(sorted(["exemplar", "member", "doubtful", "background", "missing"]), dtype="<U10")


@dataclass(frozen=True)
class Said:
    """What was answered about images of a pool, by row.

    shown     per class the rows that show it; `hidden` those that do not; `unsure` those nobody could tell
    audited   per class the rows that were asked about as the audit, which are not learnt from
    words     row -> what was answered, in words
    told      per class how often each answer was given, before one about another class decided
    """

    shown: Sequence[NDArray[np.int64]]
    hidden: Sequence[NDArray[np.int64]]
    unsure: Sequence[NDArray[np.int64]]
    audited: Sequence[NDArray[np.int64]]
    words: Mapping[int, str]
    told: Sequence[Told]

    def learnt(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of `shown` and of `hidden` that class `k` is learnt from: those that were no audits."""
        return np.setdiff1d(self.shown[k], self.audited[k]), np.setdiff1d(self.hidden[k], self.audited[k])


_SAID = {
    "yes": "was said to show {}",
    "no": "was said not to show {}",
    "unsure": "nobody could tell whether it shows {}",
    "exemplar": "was made an exemplar of {}",
    "withdrawn": "is no exemplar of {} any more",
}


def gather(answers: Iterable[Answer], classes: Sequence[str], rows: Mapping[str, int]) -> Said:
    """Sort `answers` that hold by class and row; those about other images or classes are left out.

    An image shows one class: "yes" to one is "no" to the others, and of two the last counts. What was made an exemplar
    is learnt from, whatever it was asked for.
    """
    last: dict[tuple[int, int], Answer] = {}
    for answer in answers:
        if answer.label in classes and answer.id in rows:
            row, k = rows[answer.id], classes.index(answer.label)
            last.pop((row, k), None)
            last[row, k] = answer
    owner = {row: k for (row, k), answer in last.items() if answer.said in ("yes", "exemplar")}
    parts: dict[str, list[list[int]]] = {
        name: [[] for _ in classes] for name in ("shown", "hidden", "unsure", "audited")
    }
    for (row, k), answer in last.items():
        part = {"yes": "shown", "exemplar": "shown", "unsure": "unsure"}.get(answer.said, "hidden")
        parts["hidden" if part == "shown" and owner[row] != k else part][k].append(row)
        if _is_audit(answer):
            parts["audited"][k].append(row)
    for row, k in owner.items():
        for other in range(len(classes)):
            if other != k and (row, other) not in last:
                parts["hidden"][other].append(row)
                if _is_audit(last[row, k]):
                    parts["audited"][other].append(row)
    arrays = {name: [np.array(sorted(one), np.int64) for one in lists] for name, lists in parts.items()}
    said = [[answer.said for (_, j), answer in last.items() if j == k] for k in range(len(classes))]
    told = [Told(one.count("yes"), one.count("no"), one.count("unsure")) for one in said]
    return Said(**arrays, words=_all_words(last, owner), told=told)


def _is_audit(answer: Answer) -> bool:
    return answer.audit and answer.said != "exemplar"


def _all_words(last: Mapping[tuple[int, int], Answer], owner: Mapping[int, int]) -> dict[int, str]:
    """What was said of each row: the "yes" where there is one, else all of it."""
    words: dict[int, list[str]] = {}
    for (row, k), answer in last.items():
        if owner.get(row, k) == k:
            words.setdefault(row, []).append(_in_words(answer))
    return {row: "; ".join(parts) for row, parts in words.items()}


def _in_words(answer: Answer) -> str:
    by = f" by {answer.who}" if answer.who else ""
    return f"{_SAID[answer.said].format(answer.label)}{by}"


@dataclass(frozen=True)
class Start:
    """What answers are added to.

    vectors     (n, dim) float16 unit vectors of the pool in the space of its groups, zeros without one
    exemplars   per class its unit vectors (exemplars of the class, dim) in that space
    names       per class what its exemplars are called
    groups      that the exemplars alone lead to
    own         exemplars that are in the pool: row -> class
    key         of the pool: who is audited first depends on it

    `save` and `load` keep it in a folder, so that a review need not rank the pool again.
    """

    vectors: NDArray[Any]
    exemplars: Sequence[Matrix]
    names: Sequence[Sequence[str]]
    groups: Groups
    own: Mapping[int, int]
    key: str

    def save(self, folder: Path) -> None:
        """Write it to `folder`. Raises `OutputError` when it cannot be written."""
        from safetensors.numpy import save

        groups, reasons = self.groups, self.groups.reasons
        arrays = {
            "scores": groups.scores,
            "label": groups.label.astype(np.int32),
            "decision": np.searchsorted(_DECISIONS, groups.decision).astype(np.uint8),
            "tie": reasons.tie.astype(np.uint8),
            "rounds": reasons.rounds,
            "own": np.array([[row, k] for row, k in self.own.items()], np.int64).reshape(-1, 2),
        }
        arrays |= {f"exemplars{k}": vectors for k, vectors in enumerate(self.exemplars)}
        about = {
            "format": _FORMAT,
            "classes": list(groups.classes),
            "exemplars": [list(names) for names in self.names],
            "thresholds": [asdict(one) for one in groups.thresholds],
            "measure": groups.measure,
            "key": self.key,
        }
        files.write(folder / "vectors.npy", lambda file: np.save(file, self.vectors, allow_pickle=False))
        files.write(folder / "groups.safetensors", save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
        files.write(folder / "start.json", json.dumps(about, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the vectors stay on the disk. Raises `AnswersError` where it is not whole."""
        from safetensors.numpy import load_file

        try:
            about = json.loads((folder / "start.json").read_text(encoding="utf-8"))
            if about["format"] != _FORMAT:
                raise ValueError(f"it has format {about['format']}, this version reads {_FORMAT}")  # noqa: TRY301
            arrays = load_file(folder / "groups.safetensors")
            thresholds = [Threshold(**one) for one in about["thresholds"]]
            decision, label = _DECISIONS[arrays["decision"]], arrays["label"].astype(np.int64)
            tie = arrays["tie"].astype(bool)
            shared = (about["classes"], arrays["scores"], label, decision)
            reasons = Reasons(*shared, tie, thresholds, about["measure"], arrays["rounds"])
            groups = Groups(*shared, reasons, thresholds, about["measure"])
            exemplars = [arrays[f"exemplars{k}"] for k in range(len(about["classes"]))]
            own = {int(row): int(k) for row, k in arrays["own"]}
            vectors = open_array(folder / "vectors.npy")
            return cls(vectors, exemplars, about["exemplars"], groups, own, about["key"])
        except Exception as error:
            raise AnswersError(
                f"expected what a review starts from in {folder}, which a run leaves there ({error}); do the run "
                "again with --force: vectors and answers are kept"
            ) from error


def begin(search: Search, groups: Groups, views: bool, key: str) -> Start:
    """Return what answers to `groups` are added to: the pool in the space of its ranking; without one, as it is.

    views   whether its ranking took a closer look at the exemplars
    """
    ranked = groups.ranking is not None
    space = groups.ranking.space if groups.ranking is not None else plain_space(search.embeddings.dim)
    exemplars = [space.transform(vectors) for vectors in search.anchors(views and ranked)]
    names = names_of(search.exemplars, len(search.classes))
    vectors = np.zeros((search.embeddings.size, exemplars[0].shape[1]), np.float16)
    for rows, block in search.embeddings.blocks():
        vectors[rows] = space.transform(block)
    return Start(vectors, exemplars, names, groups, search.own, key)


def plain_space(dim: int) -> Space:
    """Return the space in which nothing changes."""
    return Space(False, np.zeros(dim, np.float32), None)


@dataclass(frozen=True)
class Taught:
    """Groups after answers.

    groups    with what was answered
    logits    (n, K) of the estimated probabilities, before any row was decided by its own answer
    guesses   (n, K) the same, where answers are believed before they have proved themselves: questions follow them
    cuts      (K,) the logit from which on a row is a member
    learnt    per class
    audits    per class
    sampled   per class the rows that its audit is a sample of
    """

    groups: Groups
    logits: Logits
    guesses: Logits
    cuts: Logits
    learnt: Sequence[Learnt]
    audits: Sequence[Audit]
    sampled: Sequence[NDArray[np.int64]]


def teach(
    start: Start, said: Said, band: float, ambiguity: float, seed: int = 0, held_out: Collection[int] = ()
) -> Taught:
    """Return the groups of `start` after what was `said`: each class learnt anew, each answered row decided by it.

    band, ambiguity   as for `groups.group_ranked`
    held_out          rows about which nobody is asked: the audit is a sample of the others
    """
    groups, count = start.groups, len(start.groups.classes)
    logits, cuts = prior_of(groups)
    learnt = []
    missing = groups.missing
    for k in range(count):
        lesson = _lesson(start, said, k)
        found = learn(start.vectors, logits[:, k], lesson, seed)
        learnt.append(found)
        if found.trusted:
            free = np.setdiff1d(np.flatnonzero(~missing), [*lesson.rows, *start.own])
            cuts[k] = best_cut(found.logits[free], int(lesson.yes.sum()))
    after = np.stack([np.where(missing, logits[:, k], one.logits) for k, one in enumerate(learnt)], axis=1)
    guesses = np.stack([one.guess for one in learnt], axis=1)
    plain = _regroup(start, after, cuts, learnt, band, ambiguity)
    plain = replace(plain, told=[replace(one, trusted=learnt[k].trusted) for k, one in enumerate(said.told)])
    corrected = _denied(plain, [said.learnt(k)[1] for k in range(count)], ambiguity)
    sampled = [np.setdiff1d(_sampled(corrected, said, k), list(held_out)) for k in range(count)]
    lot = lots(len(logits), start.key)
    audits = [audit(sampled[k], lot, _known(said, k), set(said.audited[k].tolist())) for k in range(count)]
    final = _decided(_denied(plain, said.hidden, ambiguity), said, audits, start.own)
    return Taught(final, after, guesses, cuts, learnt, audits, sampled)


def prior_of(groups: Groups) -> tuple[Logits, Logits]:
    """Return the logits (n, K) of the scores of `groups`, and those of the thresholds (K,).

    A cosine counts as a logit of 0 at the threshold, and of -1 a width of the doubtful band below. No logit is below
    -9, which is that of what is out of reach; a threshold is above.
    """
    scores = np.nan_to_num(groups.scores.astype(np.float64))
    values = np.array([threshold.value for threshold in groups.thresholds])
    if groups.measure == "cosine":
        bands = np.array([max(one.value - one.doubtful, 0.02) for one in groups.thresholds])
        return np.clip((scores - values) / bands, -9, 9), np.zeros(len(values))
    logit = np.log(np.maximum(scores, 1e-9)) - np.log(np.maximum(1 - scores, 1e-9))
    cuts = np.log(np.maximum(values, 1e-9)) - np.log(np.maximum(1 - values, 1e-9))
    return np.maximum(logit, -9), np.maximum(cuts, -8.9)


def _lesson(start: Start, said: Said, k: int) -> Lesson:
    """What was said about class `k`; answers about others alone, which are "no" to it, are no lesson."""
    apart = np.concatenate([np.flatnonzero(start.groups.missing), np.array(list(start.own), np.int64)])
    shown, hidden = (np.setdiff1d(rows, apart) for rows in said.learnt(k))
    rows = np.concatenate([shown, hidden]) if said.told[k].decided else shown[:0]
    others = [vectors for j, vectors in enumerate(start.exemplars) if j != k]
    dim = start.vectors.shape[1]
    return Lesson(
        start.exemplars[k],
        np.concatenate([np.empty((0, dim), np.float32), *others]),
        rows,
        np.arange(len(rows)) < len(shown),
    )


def _regroup(
    start: Start, logits: Logits, cuts: Logits, learnt: Sequence[Learnt], band: float, ambiguity: float
) -> Groups:
    before, trusted = start.groups, np.array([one.trusted for one in learnt])
    if not trusted.any():
        return before
    scores = sigmoid(logits).astype(np.float32)
    scores[np.isnan(before.scores)] = np.nan
    thresholds = [
        Threshold(value, value * 0.5**band, "provisional: the greatest expected F1, after answers", True)
        if trusted[k]
        else replace(before.thresholds[k], value=value, doubtful=value * 0.5**band, basis=_basis(before, k))
        for k, value in enumerate(sigmoid(cuts).astype(np.float32).tolist())
    ]
    after = group(before.classes, scores, thresholds, dict(start.own), ambiguity, before.ranking, "estimate")
    reached = np.where((after.label == before.label) & ~trusted[after.label], before.reasons.rounds, np.int8(0))
    return replace(after, reasons=replace(after.reasons, rounds=reached))


def _basis(before: Groups, k: int) -> str:
    """Where the threshold of a class comes from that is grouped as before, while others follow answers."""
    one = before.thresholds[k]
    return one.basis if before.measure == "estimate" else f"{one.basis}; a cosine of {one.value:.3f}"


def _denied(groups: Groups, hidden: Sequence[NDArray[np.int64]], ambiguity: float) -> Groups:
    """Take each row that does not show some classes for what it is among the others."""
    rows = np.unique(np.concatenate([*hidden, np.empty(0, np.int64)]))
    rows = rows[~groups.missing[rows] & (groups.decision[rows] != "exemplar")]
    if not len(rows):
        return groups
    scores = groups.scores[rows].copy()
    for k, those in enumerate(hidden):
        scores[np.isin(rows, those), k] = -np.inf
    among = group(groups.classes, scores, groups.thresholds, {}, ambiguity)
    given = groups.reasons
    label, decision, tie = groups.label.copy(), groups.decision.copy(), given.tie.copy()
    label[rows] = np.where(np.isinf(scores).all(axis=1), label[rows], among.label)
    decision[rows], tie[rows] = among.decision, among.reasons.tie
    reasons = replace(given, label=label, decision=decision, tie=tie)
    return replace(groups, label=label, decision=decision, reasons=reasons)


def _sampled(groups: Groups, said: Said, k: int) -> NDArray[np.int64]:
    """What class `k` holds whatever the audit says: its members, corrected by the answers that are learnt from."""
    shown, hidden = said.learnt(k)
    members = np.flatnonzero((groups.label == k) & (groups.decision == "member"))
    rows = np.setdiff1d(np.union1d(members, shown), np.concatenate([hidden, said.unsure[k]]))
    return np.asarray(rows[groups.decision[rows] != "exemplar"])


def _known(said: Said, k: int) -> dict[int, bool]:
    return dict.fromkeys(said.hidden[k].tolist(), False) | dict.fromkeys(said.shown[k].tolist(), True)


def _decided(plain: Groups, said: Said, audits: Sequence[Audit], own: Mapping[int, int]) -> Groups:
    """Let each answer decide on its own image; in `plain` each "no" has its effect already."""
    if not said.words:
        return plain
    label, decision = plain.label.copy(), plain.decision.copy()
    there, decided = ~plain.missing, np.zeros(len(label), bool)
    for k, rows in enumerate(said.unsure):  # else "none" would be learnt from what nobody could tell
        open_ = _among(rows, there & ((decision == "background") | (label == k)))
        label[open_], decision[open_], decided[open_] = k, "doubtful", True
    for k, rows in enumerate(said.shown):
        label[rows], decision[rows], decided[rows] = k, "member", True
    for row, k in own.items():
        label[row], decision[row], decided[row] = k, "exemplar", False
    decided |= decision == "background"
    given = plain.reasons
    worded = decided | (decision == "doubtful")  # a "no" may leave another class in doubt
    words = {row: text for row, text in said.words.items() if worded[row]}
    reasons = replace(given, label=label, decision=decision, said=words)
    audited = np.unique(np.concatenate([*said.audited, np.empty(0, np.int64)]))
    answered = np.setdiff1d(np.array([row for row in said.words if decided[row]], np.int64), audited)
    return replace(
        plain, label=label, decision=decision, reasons=reasons, audits=audits, answered=answered, audited=audited
    )


def _among(rows: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.asarray(rows[kept[rows]])
