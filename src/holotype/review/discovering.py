"""What else is among none, from the page: looked for behind it, and kept in the run."""

from typing import Any

from holotype.review.background import Background
from holotype.review.review import Review
from holotype.runs.discover import COMMUNITIES, LISTED_COMMUNITIES, Discovery, starting

_PICTURES = 12  # of a community


class Discovering(Background):
    """Communities of the images that belong to no class being looked for."""

    def __init__(self, review: Review) -> None:
        super().__init__(review)
        self._found: Discovery | None = None

    def work(self) -> str:
        """Look for them, and write them as `holotype discover` does; return how many there are."""
        review = self.review
        self._found = None
        review.check()
        with review.folder.lock("holotype review (Discover)"):
            found = Discovery.of(review.folder, review.pool, review.settings.fit.seed, self)
            found.write()
        self._found = found
        return found.summary

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows: the first of them; nothing once the run was done again."""
        found = self._found
        if found is not None and not (found.folder.discovered / COMMUNITIES).exists():
            self._found, self.state = None, "never"
            found = None
        shown = found.communities[:LISTED_COMMUNITIES] if found is not None else ()
        return super().to_json() | {"communities": [self._shown(one.rows.tolist(), str(one)) for one in shown]}

    def _shown(self, rows: list[int], said: str) -> dict[str, Any]:
        ids = self.review.ids
        return {
            "said": said,
            "count": len(rows),
            "images": [{"row": row, "id": ids[row]} for row in rows[:_PICTURES]],
            "command": starting(self.review.folder.path, ids[rows[0]]),
        }
