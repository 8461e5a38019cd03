"""Where the drawings come from: eight npm packages at pinned versions, kept in a cache folder."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from holotype import files

from .errors import EmojiError


@dataclass(frozen=True)
class Source:
    """One artist's emoji: the npm package `@iconify-json/<artist>` at one version."""

    artist: str
    version: str

    @property
    def package(self) -> str:
        """What npm is asked for, such as `@iconify-json/noto@1.2.9`."""
        return f"@iconify-json/{self.artist}@{self.version}"

    @property
    def archive(self) -> str:
        """The name that `npm pack` gives to the file."""
        return f"iconify-json-{self.artist}-{self.version}.tgz"


_Fetched = TypeVar("_Fetched", bound=Source)

SOURCES = (
    Source("emojione", "1.2.3"),
    Source("emojione-v1", "1.2.3"),
    Source("fluent-emoji", "1.2.7"),
    Source("fluent-emoji-flat", "1.2.6"),
    Source("noto", "1.2.9"),
    Source("noto-v1", "1.2.5"),
    Source("openmoji", "1.2.29"),
    Source("twemoji", "1.2.5"),
)


def cache_folder() -> Path:
    """Return the folder `emoji` of holotype's cache."""
    return files.cache_folder() / "emoji"


def fetch(sources: Sequence[Source], cache: Path) -> list[Path]:
    """Return the archive of every source, in order; `npm pack` fetches those that the cache lacks.

    Raises `EmojiError` when npm is missing or cannot fetch them.
    """
    return fetch_with(_npm_pack, sources, cache)


def fetch_with(
    download: Callable[[Sequence[_Fetched], Path, Path], None], sources: Sequence[_Fetched], cache: Path
) -> list[Path]:
    """Return the archive of every source, in order; those that the `cache` lacks come by `download`.

    download   is given these sources, a folder to fetch them to, and the cache, to speak of it
    """
    missing = [source for source in sources if not (cache / source.archive).is_file()]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as arrivals:
            download(missing, Path(arrivals), cache)
            for source in missing:
                (Path(arrivals) / source.archive).replace(cache / source.archive)
    return [cache / source.archive for source in sources]


def _npm_pack(sources: Sequence[Source], folder: Path, cache: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise EmojiError(
            f"expected {len(sources)} packages in {cache} or npm to fetch them, but no npm is on the PATH; "
            "install Node.js, or copy a filled cache folder there"
        )
    print(f"fetching {len(sources)} packages with npm to {cache}", file=sys.stderr)
    packages = [source.package for source in sources]
    options = ["--loglevel=error", "--fetch-retries=1", "--pack-destination", str(folder)]
    done = subprocess.run([npm, "pack", *options, *packages], capture_output=True, text=True, check=False)
    if done.returncode or not all((folder / source.archive).is_file() for source in sources):
        said = " ".join(done.stderr.replace("npm error", "").split())
        reason = said.partition(" at ")[0][:300]  # without npm's own stack
        raise EmojiError(
            f"expected npm to fetch {len(sources)} packages, such as {packages[0]}, but it ended with code "
            f"{done.returncode}: {reason}; check the network with `npm ping` and repeat, "
            f"or copy a filled cache folder to {cache}"
        )
