"""Exemplars: the pictures that define the classes, from the pool or from files."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from holotype.errors import ExemplarError, PoolError, UnreadableImage
from holotype.names import composed, printable, same_name, spelled_out
from holotype.pool.codes import code_shown
from holotype.pool.images import SUFFIXES, decode, read_file
from holotype.pool.members import split_suffix, why_ignored, why_junk
from holotype.pool.pool import Pool, digest_of
from holotype.stores.copies import here

RESERVED_COLUMNS = frozenset(
    ["id", "index", "label", "certified", "margin", "reason", "path", "distance"]
)  # of our tables
OUTSIDE = "file:"  # and a digest: the id of an image that is in no pool
_PATHS = ("/", "./", "../", "~")


@dataclass(frozen=True)
class Exemplar:
    """One picture of class number `label`; `row` is its place in the pool, None for a file from outside."""

    name: str
    label: int
    row: int | None
    data: bytes

    @property
    def key(self) -> str:
        """What its vector is kept under when it is not in the pool: its content, as a file may change."""
        return f"{OUTSIDE}{digest_of(self.data)}"


def resolve(
    pool: Pool, exemplars: Mapping[str, Sequence[str]] | None, described: Collection[str] = ()
) -> list[Exemplar]:
    """Find each exemplar by pool id or path, in the order of the classes.

    described   classes that words describe, which need no exemplar

    A code that begins with `/`, `./`, `../` or `~` is a path, and an id only where it is no file and the very id of an
    image, as a tar may have them; any other is an id, and a path only where it is no id. A file of which the pool has a
    copy is that image of the pool.
    Raises `ExemplarError` for one that is unknown, unreadable, means two images, or is given for two classes, and
    for a name that no class can have.
    """
    if not isinstance(exemplars, Mapping):
        raise ExemplarError(
            'expected the exemplars of each class, as {"cat": ["cat.jpg"]}, got '
            f"{type(exemplars).__name__}: {exemplars!r:.60}"
        )
    if not exemplars:
        raise ExemplarError("expected at least one class with an exemplar, got none")
    check_class_names(exemplars)
    found = [
        _resolve(pool, label, name, str(code))
        for label, (name, codes) in enumerate(exemplars.items())
        for code in ([codes] if isinstance(codes, str) else codes)
    ]
    classes = list(exemplars)
    for number, name in enumerate(classes):
        if name not in described and not any(exemplar.label == number for exemplar in found):
            raise ExemplarError(
                f"class {name!r} has no exemplar; give at least one, {name}=ID or {name}=path/to.jpg, or words that "
                "describe it"
            )
    refuse_shared(found, classes)
    return found


def refuse_shared(exemplars: Iterable[Exemplar], classes: Sequence[str]) -> None:
    """Raise `ExemplarError` where one image is an exemplar of two of the `classes`."""
    owner: dict[bytes, Exemplar] = {}
    for exemplar in exemplars:
        other = owner.setdefault(exemplar.data, exemplar)
        if other.label != exemplar.label:
            raise ExemplarError(
                f"the same image ({exemplar.name}) is an exemplar of {classes[other.label]!r} and of "
                f"{classes[exemplar.label]!r}; it can stand for one class only"
            )


def names_of(exemplars: Sequence[Exemplar], classes: int) -> list[list[str]]:
    """Return per class what its exemplars are called."""
    return [[one.name for one in exemplars if one.label == k] for k in range(classes)]


def check_class_names(names: Iterable[str]) -> None:
    """Raise `ExemplarError` for a name that a file of a run could not hold, or would confuse with another column."""
    names = list(names)
    spelled: dict[str, str] = {}
    for name in names:
        if isinstance(name, str) and (other := spelled.setdefault(composed(name), name)) != name:
            raise ExemplarError(
                f"the class {name!r} is given in two forms of Unicode, {spelled_out(other)} and {spelled_out(name)}; "
                "write it in one"
            )
        if wrong := _why_no_name(name, names):
            raise ExemplarError(f"the class name {name!r} cannot be used: {wrong}; call the class something else")


def _why_no_name(name: str, names: Collection[str]) -> str:
    """Say why `name`, one of `names`, is none that a class can have; nothing for a good one."""
    if not isinstance(name, str):
        return f"expected text, got {type(name).__name__}"
    broken = printable(name) != name
    owner = name.removeprefix("p_")
    faults = {
        "it is empty": not name.strip(),
        "it has a line end, a control character or a broken character in it": broken,
        "it has spaces before or after it": name != name.strip(),
        '"none" is the name of the rejected class': name.casefold() == "none",
        f"predictions.csv and test sets have a column {name}, and one for each class": name in RESERVED_COLUMNS,
        f"predictions.csv has the probabilities of {owner!r} in a column of that name": (
            owner != name and owner in [*names, "none"]
        ),
    }
    return next((fault for fault, there in faults.items() if there), "")


def read_folder(folder: Path) -> dict[str, list[str]]:
    """Read `folder/<class>/*.jpg` as class -> paths; what is hidden, or a system's own, is no exemplar.

    Raises `ExemplarError` when there is no class, or a class without an image.
    """
    try:
        found = {sub.name: _images(sub) for sub in _shown(folder) if sub.is_dir()} if folder.is_dir() else {}
    except OSError as error:
        raise ExemplarError(f"expected a folder that can be listed at {error.filename}: {error.strerror}") from None
    if not found:
        raise ExemplarError(f"expected exemplars as {folder}/<class>/<image>, found none")
    for name, paths in found.items():
        if not paths:
            raise ExemplarError(
                f"expected an image ({' '.join(sorted(SUFFIXES))}) of the class {name!r} in {folder / name}, found "
                "none; add one, or remove the folder"
            )
    return found


def add(found: dict[str, list[str]], name: str, code: str) -> None:
    """Add an exemplar to a class of `found`, which may be there in another form of Unicode."""
    found.setdefault(same_name(name, found), []).append(code)


def left_out(folder: Path) -> str:
    """Say which files `read_folder` leaves out, counted by reason; nothing where it takes all."""
    reasons: Counter[str] = Counter()
    for path in folder.iterdir() if folder.is_dir() else ():
        inside = path.is_dir() and path in _shown(folder)
        reasons.update(why for one in (path.iterdir() if inside else [path]) if (why := _why_left_out(one, inside)))
    return ", ".join(f"{count:,} x {why}" for why, count in sorted(reasons.items()))


def _why_left_out(path: Path, inside: bool) -> str | None:
    hidden = "(hidden)" if path.name.startswith(".") else None
    beside = None if inside else "(beside the folders of the classes)"
    return why_junk(path.name) or hidden or beside or ("(folder)" if path.is_dir() else why_ignored(path.name))


def _shown(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not (path.name.startswith(".") or why_junk(path.name)))


def _images(folder: Path) -> list[str]:
    """The images as paths that `resolve` cannot take for ids."""
    paths = (path for path in _shown(folder) if why_ignored(path.name) is None and not path.is_dir())
    return [str(path) if path.is_absolute() else f"./{path}" for path in paths]


def _resolve(pool: Pool, label: int, name: str, code: str) -> Exemplar:
    try:
        row = _row(pool, code)
        data = pool.read(row) if row is not None else read_file(_path(code))
        if row is None:
            row = pool.row_of(data)  # a copy of it is in the pool: that is the exemplar, and no member to be found
        else:
            _refuse_other_file(code, pool.ids[row], data)
        decode(data, fit=64)
    except PoolError as error:
        raise ExemplarError(f"exemplar {name}={code}: {error}; nor is there a file {code_shown(code)}") from None
    except ExemplarError as error:
        raise ExemplarError(f"exemplar {name}={code}: {error}") from None
    except (UnreadableImage, OSError) as error:
        raise ExemplarError(f"exemplar {name}={code} is unreadable: {error}") from None
    return Exemplar(code if row is None else pool.ids[row], label, row, data)


def _row(pool: Pool, code: str) -> int | None:
    """Return the pool row that `code` means, None for a file."""
    if _is_folder(path := _path(code)) and pool.find(code, longer=False) is None:
        raise ExemplarError(
            f"{path} is a folder: name a picture in it, or give a folder that has one of each class "
            f"with --exemplars ({path.parent}/<class>/<image>)"
        )
    if not code.startswith(_PATHS):
        row = pool.find(code, longer=False)
        if row is None:
            return _row_of_file(pool, _path(code)) if _is_file(_path(code)) else pool.row(code, longer=False)
        return row
    if _is_file(_path(code)):
        return _row_of_file(pool, _path(code))
    if code.startswith("./") and not split_suffix(code)[1] and (row := pool.find(code, longer=False)) is not None:
        return row  # no picture is called so
    if (row := pool.find(code, longer=False)) is not None and code in _whole_names(pool, row):
        return row
    start, slash, last = code.rpartition("/")
    known = slash and pool.find(last, longer=False) is not None
    hint = f"; without {start + slash!r} it would be an image of the pool" if known else ""
    raise ExemplarError(f"there is no file {_path(code)}{hint}")


def _row_of_file(pool: Pool, path: Path) -> int | None:
    """Return the row of a file that lies in a pool which is a folder; None for any other."""
    folder, file = Path(pool.source).resolve(), path.resolve()
    if not (folder.is_dir() and file.is_relative_to(folder)):
        return None
    name = printable(file.relative_to(folder).as_posix())
    row = pool.find(name, longer=False)
    return row if row is not None and name in _whole_names(pool, row) else None


def _whole_names(pool: Pool, row: int) -> tuple[str, str]:
    return pool.ids[row], pool.ids[row] + (pool.suffixes[row] if pool.suffixes else "")


def _refuse_other_file(code: str, id_: str, data: bytes) -> None:
    """Refuse a code that stands for a pool image (`data`) and for a file of other content, unless it is the very id."""
    if not code.startswith(_PATHS) and code != id_ and _is_file(path := _path(code)) and read_file(path) != data:
        raise ExemplarError(
            f"it is an image of the pool and also another file; give ./{code} for the file, or {id_} for the pool's"
        )


def _path(code: str) -> Path:
    try:
        return here(code).expanduser()
    except RuntimeError:  # a "~" that is nobody's home
        return Path(code)


def _is_folder(path: Path) -> bool:
    return _holds(path.is_dir)


def _is_file(path: Path) -> bool:
    return _holds(path.is_file)


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except (OSError, ValueError):  # no path at all: too long, or with a null in it
        return False
