"""Answers about images that are copies: what is said of one of them holds for all."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from holotype.answers.index import AnswerIndex, index_answers
from holotype.answers.records import Answer
from holotype.grouping.groups import Groups

Rows = NDArray[np.int64]


def index_shared(
    answers: Iterable[Answer], groups: Groups, rows: Mapping[str, int], held_out: Collection[int] = ()
) -> AnswerIndex:
    """Sort `answers` as `index_answers` does; a copy that nobody was asked about has what was last said of another.

    Nothing is learnt from copies of what was audited; the audit itself ends where an image was drawn, and not where a
    copy of one was.
    """
    answers = list(answers)
    asked = index_answers(answers, groups.classes, rows, held_out)
    if groups.copy_of is None or groups.distinct.all() or not asked.words:
        return asked
    copy_of = groups.copy_of
    firsts = {name: int(copy_of[row]) for name, row in rows.items()}
    last = index_answers(answers, groups.classes, firsts, set(copy_of[list(held_out)].tolist()))
    own = np.array(list(asked.words), np.int64)
    closed = np.zeros(len(copy_of), bool)
    closed[[*own, *held_out]] = True

    def copies(those: Rows) -> Rows:
        return np.flatnonzero(np.isin(copy_of, those) & ~closed)

    def shared(own: Sequence[Rows], last: Sequence[Rows]) -> list[Rows]:
        return [np.union1d(one, copies(those)) for one, those in zip(own, last, strict=True)]

    said = np.array(list(last.words), np.int64)
    more = {row: f"a copy of it {last.words[int(copy_of[row])]}" for row in copies(said).tolist()}
    return replace(
        asked,
        positive=shared(asked.positive, last.positive),
        negative=shared(asked.negative, last.negative),
        unsure=shared(asked.unsure, last.unsure),
        audited=shared(asked.audited, [copy_of[one] for one in asked.audited]),
        words=dict(asked.words) | more,
    )
