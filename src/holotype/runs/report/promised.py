"""What is promised of a run's classes, in its report: put there when it is promised, after the report was written."""

from collections.abc import Sequence

from holotype.model.promises import Promise
from holotype.runs.report.template import isolating, put_in, templates


def with_promises(report: str, promises: Sequence[Promise]) -> str:
    """Return the HTML of a `report` with what is promised now; one of an earlier version has no place for it."""
    environment = templates("holotype.runs.report")
    environment.filters["isolated"] = isolating([one.label for one in promises])
    text = environment.get_template("promises.html.j2").render(promises=promises)
    return put_in(report, "promises", text)
