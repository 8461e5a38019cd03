"""What applying the answers changed: which images each class holds that it did not hold before, and the reverse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from holotype.filestate import regular

SHOWN = 24  # images that are shown of those that were added, or are gone


@dataclass(frozen=True)
class Change:
    """A class before and after: how many images it holds, and the ids of those that were added and that are gone."""

    label: str
    before: int
    now: int
    added: Sequence[str]
    gone: Sequence[str]

    def to_json(self, rows: Mapping[str, int]) -> dict[str, Any]:
        """Return what the page shows; the first images of each kind by their row in `rows`, where they have one."""

        def named(ids: Sequence[str]) -> dict[str, Any]:
            known = [{"row": rows[one], "id": one} for one in ids if one in rows]
            return {"count": len(ids), "images": known[:SHOWN]}

        return {
            "label": self.label,
            "before": self.before,
            "now": self.now,
            "added": named(self.added),
            "gone": named(self.gone),
        }


def held_images(groups: Path) -> dict[str, dict[str, None]]:
    """Return the ids of the images that each class holds by the table `groups`, in the order of the pool.

    Exemplars are left out, as they are wherever it is said how many images were found.
    """
    table = pq.read_table(regular(groups), columns=["id", "class", "decision"])
    found: dict[str, dict[str, None]] = {}
    for name, label, decision in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if decision == "member":
            found.setdefault(label, {})[name] = None
    return found


def changes(
    before: Mapping[str, Mapping[str, None]], now: Mapping[str, Mapping[str, None]], classes: Sequence[str]
) -> list[Change]:
    """Return what became of each of the `classes` between two tables."""
    found = []
    for label in classes:
        then, after = before.get(label, {}), now.get(label, {})
        added, gone = [one for one in after if one not in then], [one for one in then if one not in after]
        found.append(Change(label, len(then), len(after), added, gone))
    return found
