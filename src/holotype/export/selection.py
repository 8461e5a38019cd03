"""Which images of a run are handed on, and what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from holotype.errors import OutputError
from holotype.grouping.groups import Decision
from holotype.model.predictions import NONE
from holotype.runs.folder import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("id", "path", "class", "decision", "probability", "score", "certified", "answered", "reason")
FOUND: Sequence[Decision] = ("exemplar", "member")


@dataclass(frozen=True)
class Selection:
    """Which images of a run are taken.

    classes      of these alone; of all where none is given. "none" is one of them
    decisions    what they were taken for
    probability  the least, of their class, by the model of the run
    certified    only those that are promised
    unanswered   without those about which people said anything
    """

    classes: Sequence[str] = ()
    decisions: Sequence[Decision] = FOUND
    probability: float = 0.0
    certified: bool = False
    unanswered: bool = False

    def check(self, classes: Sequence[str]) -> None:
        """Raise `OutputError` for what a run with `classes` cannot have."""
        if unknown := [name for name in self.classes if name not in (*classes, NONE)]:
            raise OutputError(f"expected classes of the run ({', '.join([*classes, NONE])}), got {', '.join(unknown)}")
        if wrong := [one for one in self.decisions if one not in get_args(Decision)]:
            raise OutputError(f"expected decisions of {', '.join(get_args(Decision))}, got {', '.join(wrong)}")
        if not 0 <= self.probability <= 1:
            raise OutputError(f"expected a probability from 0 to 1, got {self.probability:g}")


def select(folder: RunFolder, selection: Selection) -> "pa.Table":
    """Return what is known of the images of a run that `selection` takes: `COLUMNS` and `row`, that of the pool.

    The surest come first, class by class. The class of what is doubtful is the nearest. Raises `OutputError` where none
    is left, or the run is not whole.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    settings = folder.read_settings()
    selection.check(list(settings.exemplars))
    folder.check_whole(OutputError, folder.groups)
    table = pq.read_table(folder.groups)
    table = table.append_column("row", pa.array(range(len(table))))
    table = table.set_column(
        table.schema.get_field_index("class"), "class", pc.coalesce(table["class"], table["nearest_class"])
    )
    certified = _certified(folder)
    answered = {one.id for one in folder.read_answers()}
    ids = table["id"].to_pylist()
    table = table.append_column("certified", pa.array([certified.get(one, "") for one in ids]))
    table = table.append_column("answered", pa.array([one in answered for one in ids]))
    kept = pc.is_in(table["decision"], pa.array(list(selection.decisions)))
    if selection.classes:
        kept = pc.and_(kept, pc.is_in(table["class"], pa.array(list(selection.classes))))
    if selection.probability:
        kept = pc.and_(kept, pc.fill_null(pc.greater_equal(table["probability"], selection.probability), False))
    if selection.certified:
        kept = pc.and_(kept, pc.equal(table["certified"], table["class"]))
    if selection.unanswered:
        kept = pc.and_(kept, pc.invert(table["answered"]))
    found = table.filter(kept).sort_by([("class", "ascending"), ("probability", "descending"), ("row", "ascending")])
    if not len(found):
        raise OutputError(f"no image of the run in {folder.path} is left by these filters")
    return found.select([*COLUMNS, "row"])


def _certified(folder: RunFolder) -> dict[str, str]:
    """The class that is promised of each image, by its id."""
    import csv

    if not folder.certified.exists():
        return {}
    with folder.certified.open(encoding="utf-8", newline="") as file:
        return {line["id"]: line["class"] for line in csv.DictReader(file)}
