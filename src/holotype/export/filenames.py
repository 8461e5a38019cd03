"""Names of files that every disk takes and that no other image of an export has, from names that others chose."""

import hashlib

from holotype.names import composed, on_any_disk, printable

_LONGEST = 120  # bytes: more than that in a path of several parts some systems do not open
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


class FileNames:
    """Names for files of one folder: each is given once, however alike two are on a disk that knows no case."""

    def __init__(self) -> None:
        self._given = set[str]()

    def give(self, wanted: str, suffix: str = "") -> str:
        """Return `wanted` as the name of one file, with `suffix`; a number behind it where another has it already."""
        stem, count = safe(wanted), 1
        name = f"{stem}{suffix}"
        while composed(name).casefold() in self._given:
            count += 1
            name = f"{stem}-{count}{suffix}"
        self._given.add(composed(name).casefold())
        return name


def safe(wanted: str) -> str:
    """Return `wanted` as the name of a file, without anything that leads elsewhere: "a/b" is "a-b".

    What is too long is cut, and told apart by a digest of the whole.
    """
    name = on_any_disk(printable(wanted)).replace("/", "-").strip(" ").rstrip(".")
    name = f"_{name.lstrip('.')}" if name.startswith(".") or not name else name
    if name.partition(".")[0].casefold().strip() in _RESERVED:
        name = f"_{name}"
    if len(name.encode()) > _LONGEST:
        digest = hashlib.sha256(wanted.encode(errors="surrogateescape")).hexdigest()[:12]
        name = f"{name.encode()[: _LONGEST - 13].decode(errors='ignore')}-{digest}"
    return name
