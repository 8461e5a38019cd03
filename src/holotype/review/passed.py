"""Images that were shown and passed over: they are asked about again only where the audit waits for them."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from holotype.answers.audit import audit_order
from holotype.review.queries import QueryContext, Rows, Strategy


@dataclass(frozen=True)
class WithoutPassed:
    """What `strategy` chooses of the rows that were not `passed` over."""

    strategy: Strategy
    passed: Collection[int]

    @property
    def foresees(self) -> bool:
        """As `strategy` does."""
        return self.strategy.foresees

    def choose(self, context: QueryContext, n: int) -> list[int]:
        """Return up to `n` free rows, the first to ask first."""
        free = context.free.copy()
        free[list(self.passed)] = False
        return self.strategy.choose(replace(context, free=free), n)


def closing(sampled: Rows, numbers: NDArray[np.float64], known: Collection[int], passed: Collection[int]) -> Rows:
    """Return the rows of `sampled` that are worth an audit: all, or those up to the last that was `passed` over.

    The sample counts up to its first image without an answer: while it waits for one that was passed over, an audit
    behind that would count for nothing.

    numbers   (n,) by which the order of the audit is drawn
    known     rows about which it is known whether they show the class
    """
    order = audit_order(sampled, numbers)
    open_ = [place for place, row in enumerate(order.tolist()) if row in passed and row not in known]
    return order[: open_[-1] + 1] if open_ else order
