"""What is among the images that belong to no class, in the report: put there when somebody had a look."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from holotype.errors import UnreadableImage
from holotype.grouping.communities import Community
from holotype.pool.images import decode, thumbnail
from holotype.pool.pool import Pool
from holotype.runs.report.layout import LONGEST_ID, clipped
from holotype.runs.report.sheets import SheetPicture, place_of
from holotype.runs.report.template import as_data, isolating, put_in, templates

SECTIONS_OF_NONE = 12  # communities that have a sheet in the report
_PICTURES, _SIDE = 12, 112


@dataclass(frozen=True)
class CommunitySheet:
    """A community as it is shown: what is said of it, its first pictures, and the command that makes it a class."""

    said: str
    pictures: Sequence[SheetPicture]
    more: int
    command: str


def community_sheets(
    pool: Pool, communities: Sequence[Community], starting: Callable[[str], str]
) -> list[CommunitySheet]:
    """Return what the report shows of the first communities; `starting`: the command for an exemplar."""
    found = []
    for one in communities[:SECTIONS_OF_NONE]:
        pictures = list(_pictures(pool, one))
        command = starting(pool.ids[one.exemplar])
        found.append(CommunitySheet(str(one), pictures, len(one.rows) - len(pictures), command))
    return found


def _pictures(pool: Pool, one: Community) -> Iterator[SheetPicture]:
    for row in one.rows[:_PICTURES].tolist():
        try:
            image = decode(pool.read(row), fit=_SIDE)
        except UnreadableImage:
            continue
        caption = "exemplar" if row == one.exemplar else ""
        yield SheetPicture(clipped(pool.ids[row]), caption, thumbnail(image, _SIDE), *place_of(pool, row))


def with_discovered(report: str, sheets: Sequence[CommunitySheet], count: int, among: int) -> str:
    """Return the HTML of a `report` with the first of `count` communities; an earlier version's has no place for it.

    among   images that were looked at
    """
    environment = templates("holotype.runs.report")
    environment.filters |= {
        "data": as_data,
        "clip_id": lambda name: clipped(name, LONGEST_ID),
        "isolated": isolating([]),
    }
    text = environment.get_template("discovered.html.j2").render(sheets=sheets, count=count, among=among)
    return put_in(report, "discovered", text)
