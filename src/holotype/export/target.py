"""Where an export goes: a folder is whole or not there, and takes the place of nothing but another export."""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from holotype import files
from holotype.errors import OutputError
from holotype.filestate import regular
from holotype.runs.card import CARD

ABOUT = "export.json"  # in the folder of an export: of what run, how, and what lies beside it


def check_target(out: Path, *, force: bool, run: Path | None = None) -> None:
    """Raise `OutputError` where `out` is taken by what may not be written over.

    force   write over a file, or over a folder that an export made and nobody put anything into
    run     the folder that is exported, of which nothing is written over
    """
    if str(out) == "-" or str(out.absolute()).startswith(("/dev/std", "/dev/fd/")):
        raise OutputError(f"expected a file or a folder as --out, got {out}: what is written is not printed")
    with files.explain(out):
        place = Path(os.path.realpath(out))
        if run is not None and place.is_relative_to(os.path.realpath(run)):
            raise OutputError(f"{out} is in the folder of the run, where nothing else is written: give another --out")
        if place.is_symlink():
            raise OutputError(f"expected a file or a folder as --out, got {out}, a link to itself: give another")
        if not out.exists() and not out.is_symlink():
            return
        if out.exists() and not (out.is_file() or out.is_dir()):
            raise OutputError(f"expected a file or a folder as --out, got {out}, which is neither: give another")
        if out.is_dir() and not any(out.iterdir()):
            return
        if not force:
            raise OutputError(f"{out} is there already; give --force to write over it, or another --out")
        if out.is_dir():
            _check_ours(out)


def _check_ours(out: Path) -> None:
    try:
        about = json.loads(regular(out / ABOUT).read_bytes())
        known = about["holds"]
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        raise OutputError(
            f"{out} is a folder that no export made (it has no {ABOUT}), and is not written over; give another --out"
        ) from None
    if others := sorted(path.name for path in out.iterdir() if path.name not in (*known, ABOUT)):
        raise OutputError(
            f"{out} holds what no export wrote ({', '.join(others[:3])}), and is not written over; move it elsewhere, "
            "or give another --out"
        )
    card = _digest(out / CARD)
    if card is not None and about.get(CARD, card) != card:
        raise OutputError(f"{out / CARD} was edited since, and is not written over: move {out} elsewhere")
    if "bytes" in about and _size(out) != (about["files"], about["bytes"]):
        raise OutputError(
            f"{out} holds other files, or larger ones, than the export wrote, and is not written over; move it "
            "elsewhere, or give another --out"
        )


def _size(folder: Path) -> tuple[int, int]:
    """Return how many files lie in a folder at any depth, and their bytes, without what is said about them."""
    sizes = [path.lstat().st_size for path in folder.rglob("*") if not path.is_dir() and path != folder / ABOUT]
    return len(sizes), sum(sizes)


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


@contextmanager
def new_folder(out: Path, about: Mapping[str, Any], *, force: bool) -> Iterator[Path]:
    """Yield an empty folder beside `out`, which takes its place when all is in it; else nothing is left of it.

    about   what `ABOUT` is to say, besides what lies there
    force   as `check_target` has it, which is asked again when all is there

    Raises `OutputError` where it cannot be written, or `out` is taken.
    """
    out = out.resolve() if out.is_symlink() else out.absolute()
    new = out.with_name(f".{out.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    files.make_folder(out.parent)
    try:
        with files.explain(out, new):
            new.mkdir()
            yield new
            known = {**about, "holds": sorted(path.name for path in new.iterdir())}
            known["files"], known["bytes"] = _size(new)
            if card := _digest(new / CARD):
                known[CARD] = card
            files.write(new / ABOUT, json.dumps(known, indent=1, ensure_ascii=False))
            os.sync()  # once for all that was copied, in place of once for each
            check_target(out, force=force)
            _swap(new, out)
        files.sync(out.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _swap(new: Path, out: Path) -> None:
    """Let `new` take the place of `out`; whatever stops it in between, one of the two is there."""
    old = new.with_suffix(".old")
    with suppress(FileNotFoundError):
        out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


def today() -> str:
    """Return the day (UTC), as an export notes it."""
    return time.strftime("%Y-%m-%d", time.gmtime())
