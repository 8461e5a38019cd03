"""What holotype itself writes, told from images of a pool: folders of runs, and the pictures that it draws."""

import os
from pathlib import Path

from holotype.settings import SETTINGS, UNFINISHED

PICTURE_MARK = {"Software": "Holotype"}  # a text in each PNG
_MARK, _HEAD = b"Software\0Holotype", 1000


def is_run(folder: Path) -> bool:
    """Whether a run lies in `folder`, or was begun there."""
    return any(os.path.isfile(folder / name) for name in (SETTINGS, UNFINISHED))  # noqa: PTH113 - a closed folder is none


def is_drawn(content: bytes) -> bool:
    """Whether an encoded picture was drawn here, wherever it was copied to since."""
    return content.startswith(b"\x89PNG") and _MARK in content[:_HEAD]


def would_join(source: str, picture: Path) -> bool:
    """Whether a picture that is written to `picture` would be in the pool `source` from then on."""
    folder, target = Path(source).resolve(), picture.resolve()
    if not (folder.is_dir() and target.is_relative_to(folder)):
        return False
    inside = [target, *target.parents][: len(target.relative_to(folder).parts)]
    return not any(one.name.startswith(".") or is_run(one) for one in inside)
