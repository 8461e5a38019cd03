"""What a command asks of the system about the files of a house: counted, told, and made to fail (`shim.c`)."""

import errno
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from benchmarks.chaos.after import Undisturbed, after, undisturbed
from benchmarks.chaos.house import COMMANDS, House, end

# as `shim.c` numbers them
KINDS = (
    *("open", "read", "write", "sync", "rename", "unlink", "mkdir", "link", "lock", "truncate", "map", "list", "stat"),
    *("memory", "change"),
)
_BROKEN = errno.EIO
ERRORS: Mapping[str, tuple[int, ...]] = {
    "open": (_BROKEN, errno.EACCES, errno.ENOSPC, errno.EMFILE),
    "read": (_BROKEN, errno.EINTR),
    "write": (_BROKEN, errno.ENOSPC, errno.EDQUOT, errno.EINTR),
    "sync": (_BROKEN, errno.ENOSPC, errno.EDQUOT),
    "rename": (_BROKEN, errno.EACCES, errno.ENOSPC),
    "unlink": (_BROKEN, errno.EACCES),
    "mkdir": (_BROKEN, errno.EACCES, errno.ENOSPC),
    "link": (_BROKEN, errno.EACCES),
    "lock": (_BROKEN, errno.ENOLCK, errno.EINTR),
    "truncate": (_BROKEN, errno.ENOSPC),
    "map": (errno.ENOMEM, errno.EACCES),
    "list": (_BROKEN, errno.EACCES),
    "stat": (_BROKEN, errno.EACCES),
}
_STEPS = 5  # calls of a kind that are made to fail, evenly spaced over the command


@dataclass(frozen=True)
class Accident:
    """Call `at` of a `kind` fails with `error`, or with 0 the command is killed; `lasting`: all after it fail, too."""

    kind: str
    at: int
    error: int = 0
    lasting: bool = False

    def __str__(self) -> str:
        what = errno.errorcode[self.error] if self.error else "killed"
        return f"{self.kind} {self.at} {what}{', and all after it' if self.lasting else ''}"


class Watched:
    """The calls of one command in a house."""

    def __init__(self, house: House, accident: Accident | None = None, journal: Path | None = None) -> None:
        self._counts = Path(tempfile.mkstemp(prefix="counts", dir=_library().parent)[1])
        self._counts.write_bytes(bytes(4096))
        words = {"LD_PRELOAD": _library(), "ACCIDENT_ROOT": house.root.resolve(), "ACCIDENT_COUNTS": self._counts}
        if journal is not None:
            journal.unlink(missing_ok=True)
            words["ACCIDENT_JOURNAL"] = journal
        self.environment = {key: str(value) for key, value in words.items()}
        if accident is not None:
            self.environment |= {
                "ACCIDENT_KIND": accident.kind,
                "ACCIDENT_AT": str(accident.at),
                "ACCIDENT_ERROR": str(accident.error),
            }
            self.environment |= {"ACCIDENT_LASTING": "1"} if accident.lasting else {}

    def counts(self) -> dict[str, int]:
        """How many calls of each kind there were."""
        content = self._counts.read_bytes()
        self._counts.unlink()
        return {kind: int.from_bytes(content[8 * k : 8 * k + 8], "little") for k, kind in enumerate(KINDS)}


@lru_cache
def _library() -> Path:
    """Compile the shim. Stops where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("expected a C compiler (cc, of gcc or clang) to make calls fail with, found none")
    target = Path(tempfile.mkdtemp(prefix="shim")) / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(target), str(source), "-ldl"], check=True)
    return target


@lru_cache
def counted(house: House, place: Path, name: str) -> tuple[Undisturbed, Mapping[str, int]]:
    """What a command leaves where nothing happens to it, and what it asks of the system."""
    watched = Watched(House(place))
    found = undisturbed(house, place, name, watched.environment)
    return found, watched.counts()


def accidents(counts: Mapping[str, int]) -> Iterator[Accident]:
    """Yield what may happen to a command that makes so many calls."""
    for kind, errors in ERRORS.items():
        for error in errors if counts[kind] else ():
            for lasting in (False, True)[: 1 if error == errno.EINTR else 2]:  # what is interrupted is done again
                for number in steps(counts[kind], _STEPS):
                    yield Accident(kind, number, error, lasting)


def steps(count: int, most: int) -> list[int]:
    """At most `most` of the numbers from 1 to `count`, evenly spaced."""
    return sorted({1 + (count - 1) * step // max(most - 1, 1) for step in range(most)})


def trials(house: House, scratch: Path, count: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield `count` accidents, drawn from all that may happen, and what was wrong after each."""
    place = scratch / "here"
    cases = [(name, one) for name in COMMANDS for one in accidents(counted(house, place, name)[1])]
    random.Random(seed).shuffle(cases)
    for name, accident in cases[:count]:
        yield f"{name}, {accident}", suffered(house, place, name, accident)


def suffered(house: House, place: Path, name: str, accident: Accident) -> list[str]:
    """Let an accident happen to a command, and say what was wrong after it."""
    wanted = counted(house, place, name)[0].results
    here = house.copy(place)
    watched = Watched(here, accident)
    ended = end(here.start(COMMANDS[name], watched.environment))
    watched.counts()
    return after(here, house, name, wanted, ended)
