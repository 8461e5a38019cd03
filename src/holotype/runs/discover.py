"""`discover_run`: what is among the images of a run that belong to no class, and where it is written."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.answers.baseline import ReviewBaseline
from holotype.errors import OutputError
from holotype.grouping.communities import LEAST_TOGETHER, Community, find_communities
from holotype.grouping.space import fit_space
from holotype.model.predictions import csv_line
from holotype.names import command, counted
from holotype.pool.pool import Pool
from holotype.pool.sheets import write_sheet
from holotype.progress import Progress, Silent
from holotype.runs.folder import RunFolder
from holotype.runs.images import open_images
from holotype.runs.places import find_inputs
from holotype.runs.report.discovered import community_sheets, with_discovered
from holotype.runs.results import read_decisions
from holotype.vectors.embeddings import Embeddings

LISTED_COMMUNITIES = 20  # communities that are listed, each with a sheet
COMMUNITIES = "communities.csv"
COMMUNITY_COLUMNS = ("path", "id", "community", "role", "cosine", "outside")
_ON_SHEET = 30  # images


@dataclass(frozen=True)
class Discovery:
    """Communities of the images of a run that belong to no class, those that stand apart most first.

    communities   each with the rows of `pool`
    among         how many images were looked at: copies count once, and rows of a test set do not
    """

    folder: RunFolder
    pool: Pool
    communities: Sequence[Community]
    among: int

    @classmethod
    def of(cls, folder: RunFolder, pool: Pool, seed: int, progress: Progress) -> Self:
        """Find them among the images of the run in `folder`, of which the lock is held, as they are in `pool` now."""
        before = folder.load_baseline()
        baseline = before.following(pool)
        rows = _rejected(folder, pool, before, baseline)
        found = find_communities(_compared(baseline, rows), seed, progress)
        return cls(folder, pool, [one.at(rows) for one in found], len(rows))

    def lines(self, k: int = LISTED_COMMUNITIES) -> Iterator[str]:
        """Yield what is said of the first `k`: how large and how far apart each is, and what makes a class of it."""
        for number, one in enumerate(self.communities[:k], start=1):
            name = self.pool.ids[one.exemplar]
            yield f"{number:3}  {one}; exemplar {name}; {starting(self.folder.path, name)}"
        yield self.summary

    @property
    def summary(self) -> str:
        """How many there are, and of how many images."""
        if not self.communities:
            least = f"at least {LEAST_TOGETHER} that are more like each other than like the rest"
            of = f"{counted(self.among, 'image')} that {'belongs' if self.among == 1 else 'belong'} to no class"
            return f"no community among {of}: it takes {least}"
        inside, count = sum(len(one.rows) for one in self.communities), len(self.communities)
        what = "community" if count == 1 else "communities"
        return f"{count:,} {what} with {counted(inside, 'image')}, of {self.among:,} that belong to no class"

    def table(self) -> str:
        """Return all of them as a CSV: of each community the exemplar first, then what is most like it."""
        rows: list[Sequence[object]] = [COMMUNITY_COLUMNS]
        for number, one in enumerate(self.communities, start=1):
            for row, cosine in zip(one.rows.tolist(), one.cosine.tolist(), strict=True):
                role = "exemplar" if row == one.exemplar else ""
                outside = f"{one.conductance:.4f}"
                rows.append((self.pool.path(row), self.pool.ids[row], number, role, f"{cosine:.4f}", outside))
        return "".join(map(csv_line, rows))

    def write(self, k: int = LISTED_COMMUNITIES) -> None:
        """Write the table, a sheet of each of the first `k`, and what the report says of them."""
        folder = self.folder
        for old in files.matching(folder.discovered, "*.png"):
            old.unlink()
        for number, one in enumerate(self.communities[:k], start=1):
            write_sheet(self.pool, one.rows[:_ON_SHEET].tolist(), folder.discovered / f"{number:03}.png")
        changed: dict[Path, str | None] = {folder.discovered / COMMUNITIES: self.table()}
        with suppress(OSError):
            sheets = community_sheets(self.pool, self.communities, lambda name: starting(folder.path.absolute(), name))
            report = folder.report.read_text(encoding="utf-8")
            changed[folder.report] = with_discovered(report, sheets, len(self.communities), self.among)
        folder.change(changed)


def starting(out: Path, name: str) -> str:
    """Return the command that starts a class of the run in `out` from the image `name`."""
    return command("update", out, "--exemplar", f"NAME={name}")


def discover_run(out: Path, k: int = LISTED_COMMUNITIES, progress: Progress | None = None) -> Discovery:
    """Find communities among the images of the run in `out` that belong to no class, and write them there.

    Decisions are those of the run, answers followed. Of the first `k` a sheet is drawn. Raises `HolotypeError`.
    """
    progress, folder = progress or Silent(), RunFolder(out)
    folder.read_settings()  # where there is no run, no folder is made
    if not files.is_writable(out):
        raise OutputError(f"{out} can only be read, and what is found is written there: copy the folder of the run")
    with folder.lock("holotype discover"):
        settings = find_inputs(folder, needed=["images"])
        pool = open_images(folder, settings, progress)
        discovery = Discovery.of(folder, pool, settings.fit.seed, progress)
        discovery.write(k)
    return discovery


def _rejected(folder: RunFolder, pool: Pool, before: ReviewBaseline, baseline: ReviewBaseline) -> NDArray[np.int64]:
    """The rows of `pool` that belong to no class; of copies one, and none of a test set."""
    decision = read_decisions(folder)
    if baseline is not before and before.images is not None:
        places = before.images.places_in(pool)
        decision = np.where(places >= 0, decision[places], "missing")
    open_ = (decision == "background") & baseline.groups.distinct
    open_[list(baseline.held_out)] = False
    return np.flatnonzero(open_)


def _compared(baseline: ReviewBaseline, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The unit vectors of `rows` in the space of the run; where it took vectors as they are, in one fitted now."""
    vectors = np.asarray(baseline.vectors[rows], np.float32)
    if any(one.provisional for one in baseline.groups.thresholds) or not len(rows):
        return vectors
    return fit_space(Embeddings([vectors], np.arange(len(rows)), len(rows))).transform(vectors)
