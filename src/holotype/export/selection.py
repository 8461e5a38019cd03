"""Which images of a run are handed on, and what is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from holotype.answers.baseline import ReviewBaseline
from holotype.answers.images import RowImages
from holotype.answers.records import Answer
from holotype.answers.scored import still_holding
from holotype.errors import AnswersError, OutputError
from holotype.filestate import regular
from holotype.grouping.groups import Decision
from holotype.model.predictions import NONE
from holotype.model.promises import CERTIFIED, PROMISES_FILE, certified, read_promises
from holotype.names import command, counted
from holotype.pool.digests import first_rows
from holotype.progress import Progress
from holotype.runs.folder import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

ANSWERED = "answered"
EXPORT_COLUMNS = ("id", "path", "class", "decision", "probability", "score", CERTIFIED, ANSWERED, "reason")
FOUND: Sequence[Decision] = ("exemplar", "member")


@dataclass(frozen=True)
class Selection:
    """Which images of a run are taken.

    classes      of these alone; of all where none is given. "none" is one of them
    decisions    what they were taken for; where none is given, exemplars and members, and the background for "none"
    probability  the least, of their class, by the model of the run; exemplars have it whatever the model says
    certified    only those that are promised
    unanswered   without those about which people said anything that applies
    """

    classes: Sequence[str] = ()
    decisions: Sequence[Decision] = ()
    probability: float = 0.0
    certified: bool = False
    unanswered: bool = False

    @property
    def chosen(self) -> bool:
        """Whether anything of it was chosen."""
        return bool(self.classes or self.decisions or self.probability or self.certified or self.unanswered)

    @property
    def taken(self) -> Sequence[Decision]:
        """The decisions that are taken, whether they were given or not."""
        return self.decisions or ((*FOUND, "background") if NONE in self.classes else FOUND)

    def check(self, classes: Sequence[str]) -> None:
        """Raise `OutputError` for what a run with `classes` cannot have."""
        if unknown := [name for name in self.classes if name not in (*classes, NONE)]:
            raise OutputError(f"expected classes of the run ({', '.join([*classes, NONE])}), got {', '.join(unknown)}")
        if wrong := [one for one in self.decisions if one not in get_args(Decision)]:
            raise OutputError(f"expected decisions of {', '.join(get_args(Decision))}, got {', '.join(wrong)}")
        if not 0 <= self.probability <= 1:
            raise OutputError(f"expected a probability from 0 to 1, got {self.probability:g}")


@dataclass(frozen=True)
class Selected:
    """The images that are handed on.

    table     `EXPORT_COLUMNS`, and `row`: that of the run, which is none of a pool that changed since
    classes   of the run, "none" last: the number of a class is its place here
    images    which image each row of the run is; None where an earlier version did the run
    """

    table: "pa.Table"
    classes: Sequence[str]
    images: RowImages | None


def select(folder: RunFolder, selection: Selection, progress: Progress) -> Selected:
    """Return the images of a run that `selection` takes, the surest first, class by class.

    They are as the run left them, with the answers that it followed. The class of what is doubtful is the nearest. The
    probability is that of the class; null for "none", and where the run had no need of it. An answer counts where it
    is about the image and a class of the run, and not about an image of the test set. A promise counts that still rests
    on its answers. Raises `OutputError` where no image is left; `HolotypeError` where the run is not whole.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    classes = list(folder.read_settings().exemplars)
    selection.check(classes)
    table, baseline = _read_groups(folder), folder.load_baseline()
    labels = pc.coalesce(table["class"], table["nearest_class"])
    rejected = pc.fill_null(pc.equal(labels, NONE), False)
    table = table.set_column(table.schema.get_field_index("class"), "class", labels)
    absent = pa.nulls(len(table), pa.float64())
    probability = pc.if_else(rejected, absent, table["probability"])
    table = table.set_column(table.schema.get_field_index("probability"), "probability", probability)
    table = table.append_column("row", pa.array(range(len(table))))
    answers = folder.read_answers()
    table = table.append_column(CERTIFIED, pa.array(_promised(folder, baseline, answers, len(table))))
    answered = answered_rows(answers, baseline, classes, table["id"].to_pylist())
    table = table.append_column(ANSWERED, pa.array([row in answered for row in range(len(table))]))
    found = table.filter(_kept(table, selection, progress))
    found = found.sort_by([("class", "ascending"), ("probability", "descending"), ("row", "ascending")])
    if not len(found):
        lacking = selection.certified and not pc.any(pc.not_equal(table[CERTIFIED], "")).as_py()
        hint = f"; nothing is promised: {command('certify', folder.path)}" if lacking else ""
        raise OutputError(f"no image of the run in {folder.path} is left by these filters{hint}")
    return Selected(found.select([*EXPORT_COLUMNS, "row"]), [*classes, NONE], baseline.images)


def _read_groups(folder: RunFolder) -> "pa.Table":
    import pyarrow.parquet as pq

    folder.check_whole(OutputError, folder.groups, folder.model / PROMISES_FILE)
    try:
        return pq.read_table(regular(folder.groups))
    except (OSError, ValueError) as error:  # pyarrow's own errors are among these
        raise OutputError(
            f"{folder.groups} cannot be read ({error}); do the run again ({command('run', folder.path)}): vectors and "
            "answers are kept"
        ) from None


def _kept(table: "pa.Table", selection: Selection, progress: Progress) -> "pa.Array":
    """Which rows are taken."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = pc.is_in(table["decision"], pa.array(list(selection.taken)))
    if selection.classes:
        kept = pc.and_(kept, pc.is_in(table["class"], pa.array(list(selection.classes))))
    if selection.certified:
        kept = pc.and_(kept, pc.equal(table[CERTIFIED], table["class"]))
    if selection.unanswered:
        kept = pc.and_(kept, pc.invert(table[ANSWERED]))
    if selection.probability:
        given = pc.equal(table["decision"], "exemplar")
        unknown = pc.sum(pc.and_(kept, pc.and_not(pc.is_null(table["probability"]), given))).as_py()
        if unknown:
            progress.say(f"left out, as no probability of their class is known: {counted(unknown, 'image')}")
        enough = pc.fill_null(pc.greater_equal(table["probability"], selection.probability), False)
        kept = pc.and_(kept, pc.or_(enough, given))
    return pc.fill_null(kept, False)


def _promised(folder: RunFolder, baseline: ReviewBaseline, answers: Sequence[Answer], count: int) -> list[str]:
    """The class that is promised of each row; "" where none is."""
    promises = read_promises(folder.model)
    if not promises or baseline.images is None:
        return [""] * count
    try:
        return certified(still_holding(promises, answers), baseline.images.digests)
    except AnswersError:
        return [""] * count


def answered_rows(
    answers: Sequence[Answer], baseline: ReviewBaseline, classes: Sequence[str], ids: Sequence[str]
) -> set[int]:
    """Return the rows of a run that an answer applies to, as `match_answers` has it of a pool; `ids`: of all rows."""
    rows: Mapping[str, int] = {name: row for row, name in enumerate(ids)}
    images, closed = baseline.images, set(baseline.held_out)
    first = first_rows(images.digests) if images is not None else {}
    found = set[int]()
    for one in answers:
        row = rows.get(one.id)
        if images is not None and one.digest and (row is None or images.digests[row] != one.digest):
            row = first.get(one.digest)
        if row is not None and row not in closed and one.label in classes and one.verdict != "withdrawn":
            found.add(row)
    return found
