"""What the report shows of each class: its pictures, and in words what is estimated without labels."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.answers.audit import Audit, in_percent
from holotype.answers.index import AnswerCounts
from holotype.answers.refine import Refined
from holotype.errors import UnreadableImage
from holotype.grouping.groups import Estimate, Groups, strength_basis
from holotype.grouping.search import top_k
from holotype.pool.exemplars import Exemplar
from holotype.pool.images import decode, thumbnail
from holotype.pool.pool import Pool

_SHOWN = 12


def class_summary(
    pool: Pool,
    groups: Groups,
    exemplars: Sequence[Exemplar],
    k: int,
    stated: Sequence[Estimate],
    refined: Refined | None,
) -> dict[str, Any]:
    """Return a class's best, borderline (around the threshold) and rejected images as pictures, and what is stated."""
    column = groups.scores[:, k]
    own, threshold = groups.found(k), groups.thresholds[k]
    counts, audit = (None, None) if refined is None else (refined.counts[k], refined.audits[k])
    reached = column if groups.score_kind == "cosine" else np.where(column > 0, column, np.nan)
    near = np.abs(np.where(groups.decision == "exemplar", np.nan, reached) - threshold.value)
    rejected = np.where((groups.label == k) & (groups.decision == "background"), reached, np.nan)
    return {
        "name": groups.classes[k],
        "exemplars": [
            (exemplar.name, thumbnail(decode(exemplar.data, fit=256), 256))
            for exemplar in exemplars
            if exemplar.label == k
        ],
        "threshold": threshold.value,
        "threshold_basis": threshold.basis,
        "explained": list(explain_class(groups.classes[k], stated[k] if stated else None, counts, audit)),
        "members": len(own),
        "doubtful": int(((groups.label == k) & (groups.decision == "doubtful")).sum()),
        "best": _pictures(pool, own[np.argsort(-column[own])][:_SHOWN], groups, k),
        "borderline": _pictures(pool, top_k(-near, _SHOWN), groups, k),
        "rejected": _pictures(pool, top_k(rejected, _SHOWN), groups, k),
    }


def explain_class(
    name: str, stated: Estimate | None, counts: AnswerCounts | None, audit: Audit | None
) -> Iterator[str]:
    """Say what people said of a class and what that proves, and what is estimated; each where it is known."""
    if counts is not None:
        yield from _answered(name, counts)
        if counts.answers and audit is not None:
            yield _audited(name, audit)
    if stated is not None:
        yield from _estimated(name, stated, counts is not None and counts.trusted)


def _answered(name: str, counts: AnswerCounts) -> Iterator[str]:
    if not counts.answers:
        yield f"Nobody was asked about {name} yet."
        return
    yield f"Answers about {name}: {counts.answers:,} ({counts.yes:,} yes, {counts.no:,} no, {counts.unsure:,} unsure)."
    if counts.trusted:
        yield "Held-out answers are predicted better with the other answers than without, so the group follows them."
    else:
        yield (
            "Held-out answers are predicted no better with the other answers than without, so they decide on their own "
            "images only."
        )


def _audited(name: str, audit: Audit) -> str:
    waiting = f" Audits: {audit.needs}." if audit.needs else ""
    if audit.low is None:
        return f"None of them counts as an audit yet, so nothing is proven about the precision.{waiting}"
    if audit.whole:
        return (
            f"All that was found was looked at; others may be missing. Of {audit.among:,} images {audit.yes:,} show "
            f"{name}, the others are out."
        )
    return (
        f"Audit: {audit.yes:,} of {audit.asked:,} images drawn at random from the {audit.among:,} that were found show "
        f"{name}. So with 95 % confidence at least {in_percent(audit.low)} % of what was found do.{waiting}"
    )


def _estimated(name: str, found: Estimate, trusted: bool) -> Iterator[str]:
    """Say what is estimated about a class, on which basis, what was left out, and what it may be confused with."""
    basis = strength_basis(trusted)
    tell = "" if trusted else " How many of them are right, only looking at some of them can tell."
    yield (f"Found of {name}: {found.found:,}; others may be missing. The group is {found.strength}, {basis}.{tell}")
    yield (
        f"Left out as doubtful: {found.below:,} just below the threshold, {found.tied:,} nearly as far above that of "
        "another class."
    )
    if found.confused is None:
        yield "No other class is in reach of the same images."
    else:
        other, count = found.confused
        yield f"Most often confused with {other}; above or just below the thresholds of both: {count:,}."


def _pictures(pool: Pool, rows: NDArray[np.int64], groups: Groups, k: int) -> list[tuple[str, str, bytes]]:
    shown, scores = [], groups.scores[:, k]
    for row in rows:
        try:
            picture = thumbnail(decode(pool.read(int(row)), fit=128))
        except UnreadableImage:
            continue  # it stands in unreadable.csv
        shown.append((pool.ids[row], f"{scores[row]:.3f} {_decided(groups, row, k)}", picture))
    return shown


def _decided(groups: Groups, row: int, k: int) -> str:
    """The decision in words, for the sheet of class `k`: another class's member is called so."""
    elsewhere = groups.label[row] != k and groups.decision[row] in ("member", "exemplar")
    return f"{groups.decision[row]} of {groups.classes[groups.label[row]]}" if elsewhere else groups.decision[row]
