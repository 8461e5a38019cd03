"""Which files of a folder or members of a tar are images, and what they are called.

What systems leave beside people's files (previews, trash, resource forks) often ends as an image does, and is none.
"""

from pathlib import Path

from holotype.names import printable
from holotype.pool.images import SUFFIXES

_MACOS, _NAS, _TRASH, _SYSTEM = "(macOS metadata)", "(metadata of a NAS)", "(trash)", "(system folder)"
_PREVIEWS, _SETTINGS = "(previews)", "(settings of a folder)"
_JUNK = {
    "__macosx": _MACOS,
    ".ds_store": _MACOS,
    ".appledouble": _MACOS,
    ".spotlight-v100": _MACOS,
    ".fseventsd": _MACOS,
    "icon\r": _MACOS,
    "@eadir": _NAS,
    "@syno": _NAS,
    ".@__thumb": _NAS,
    "#recycle": _TRASH,
    "@recycle": _TRASH,
    "$recycle.bin": _TRASH,
    "recycler": _TRASH,
    ".dtrash": _TRASH,
    "#snapshot": _SYSTEM,
    "@recently-snapshot": _SYSTEM,
    "system volume information": _SYSTEM,
    "lost+found": _SYSTEM,
    ".thumbnails": _PREVIEWS,
    "thumbs.db": _PREVIEWS,
    "ehthumbs.db": _PREVIEWS,
    ".ipynb_checkpoints": "(copies of a notebook)",
    "desktop.ini": _SETTINGS,
    ".directory": _SETTINGS,
}
_LOGS = (".log", ".out", ".err")
_JUNK_STARTS = {"._": _MACOS, ".trash": _TRASH, ".nfs": "(deleted, and still open)"}
_FIRST = frozenset(character for name in [*_JUNK, *_JUNK_STARTS] for character in (name[0], name[0].upper()))


def split_name(name: str) -> tuple[str, str] | str:
    """Return the path of an image without its suffix, and the suffix; or why a file of this name is no image.

    Both parts are `printable`; a leading "./" is left out.
    """
    stem, _, end = name.rpartition(".")
    if stem.isascii() and stem.isalnum() and f".{end}" in SUFFIXES:  # of millions most are: no folder, no junk
        return stem, f".{end}"
    parts = path_parts(name)
    if why := _why_junk(parts):
        return why
    suffix = suffix_of(parts)
    if suffix.lower() not in SUFFIXES:
        return printable(suffix.lower()) or "(no suffix)"
    return printable(name).removeprefix("./").removesuffix(suffix), suffix


def why_ignored(name: str) -> str | None:
    """Why a file of this name is no image; None for an image."""
    found = split_name(name)
    return found if isinstance(found, str) else None


def why_junk(name: str) -> str:
    """Say why a file of this path is a system's and no person's; nothing where it may be a person's."""
    return _why_junk(path_parts(name))


def is_nothing(path: Path) -> bool:
    """Whether what is at `path` is hidden, empty, a log (a folder may have been made to log into) or a system's own."""
    if path.name.startswith(".") or path.suffix in _LOGS or why_junk(path.name):
        return True
    return not (any(path.iterdir()) if path.is_dir() else path.stat().st_size)


def _why_junk(parts: list[str]) -> str:
    for part in parts:
        if part[:1] in _FIRST and (why := _why_part(part.lower())):
            return why
    return ""


def _why_part(part: str) -> str:
    return _JUNK.get(part) or next((why for start, why in _JUNK_STARTS.items() if part.startswith(start)), "")


def split_suffix(name: str) -> tuple[str, str]:
    """Return what is before the suffix of an image, and the suffix; of another name all of it, and nothing."""
    suffix = suffix_of(path_parts(name))
    return (name.removesuffix(suffix), suffix) if suffix.lower() in SUFFIXES else (name, "")


def path_parts(name: str) -> list[str]:
    """The parts of a path as pathlib has them, which takes three times as long."""
    return [part for part in name.split("/") if part not in {"", "."}] or [""]


def suffix_of(parts: list[str]) -> str:
    """The suffix of the last of `parts`, as pathlib has it."""
    last = parts[-1]
    dot = last.rfind(".")
    return last[dot:] if 0 < dot < len(last) - 1 else ""
