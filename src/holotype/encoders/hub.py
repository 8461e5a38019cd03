"""The model hub: what comes from there is one commit of a repository, and each of its files known by its SHA-256."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

from holotype.checksums import file_digest
from holotype.errors import EncoderError, HolotypeWarning
from holotype.files import write

_REPOSITORY = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)
_COMMIT = re.compile("[0-9a-f]{40}")
EXTERNAL = ("_data", ".data")  # what the names of files end with that hold the weights of an ONNX file
_VERSION, _FIRST = re.compile(r"-v\d+\.onnx$"), "-v1.onnx"


class NotFetched(EncoderError):
    """The hub cannot be reached, or has no such repository or commit."""


class NotThere(EncoderError):
    """A repository was fetched, and lacks files that are needed."""


@dataclass(frozen=True)
class Files:
    """Files of a repository, by name or pattern within its folders: those that are `needed`, and `more`, if there.

    A pattern with * is of files at its top alone.
    """

    needed: tuple[str, ...]
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """Files of a repository at one commit: path within it -> SHA-256 of those that are used."""

    repository: str
    commit: str
    files: Mapping[str, str]


def parse_repository(text: str) -> tuple[str, str]:
    """Return the repository of `owner/model` or `owner/model@commit`, and the commit; "" where none is given.

    Raises `EncoderError`; a branch or a tag is no commit, as what it means can change.
    """
    repository, at, commit = text.partition("@")
    if not _REPOSITORY.fullmatch(repository) or (at and not _COMMIT.fullmatch(commit)):
        raise EncoderError(f"expected hf:owner/model or hf:owner/model@ and the 40 digits of a commit, got hf:{text}")
    return repository, commit


def is_in_snapshot(path: Path, place: Path) -> bool:
    """Whether `path` is where the hub's cache keeps a file of the snapshot in, or above, `place`.

    models--owner--name/blobs/<digest>
    models--owner--name/snapshots/<commit>/model.onnx -> ../../blobs/<digest>
    """
    repositories = [one.parent.parent for one in (place, *place.parents) if one.parent.name == "snapshots"]
    known = {one / "blobs" for one in repositories if one.name.startswith("models--")}
    return path.parent in known and path.stat().st_nlink == 1  # a link of another kind may be to anything


def snapshot_beside(path: Path) -> Path:
    """Where it is kept of which snapshot the network in the cache at `path` was made.

    It is for the network of every format, `-v1.onnx` and those that follow it.
    """
    return path.with_name(f"{_VERSION.sub(_FIRST, path.name)}.source.json")


def read_snapshot(path: Path) -> Snapshot | None:
    """Read what is kept at `path`; nothing where there is none. Raises `EncoderError` where it is damaged."""
    try:
        found = Snapshot(**json.loads(path.read_bytes()))
        return Snapshot(str(found.repository), str(found.commit), dict(found.files))
    except FileNotFoundError:
        return None
    except (OSError, RecursionError, TypeError, ValueError) as error:
        raise EncoderError(
            f"{path}, which says what was fetched from the hub, cannot be read ({type(error).__name__}); delete it, "
            "and what is fetched next is taken as the first"
        ) from None


@contextmanager
def fetched(repository: str, commit: str, ways: Sequence[Files], known: Snapshot | None, note: Path) -> Iterator[Path]:
    """Yield a folder with the files of a repository that are there of the first of `ways` whose needed ones are.

    known    what the files must be; None: they are the first, which are noted in `note`, and said with their commit
    commit   where the first are taken from; "": from the newest, which is a warning

    Raises `EncoderError` where they cannot be fetched, or are not what is known; `NotThere` where no way is whole.
    """
    ways = [Files(tuple(known.files))] if known else ways
    place, patterns = _download(repository, known.commit if known else commit, ways)
    paths = {path.relative_to(place).as_posix(): path for pattern in patterns for path in place.glob(pattern)}
    found = Snapshot(repository, place.name, {name: file_digest(path) for name, path in sorted(paths.items())})
    if known:
        _compare(known, found, note)
    elif not _COMMIT.fullmatch(found.commit):
        raise EncoderError(f"{repository} as fetched from the hub has no commit: {place}")
    elif not commit:
        warnings.warn(
            f"{repository} is taken from the hub as it is now, at commit {found.commit}; from here on no other files "
            "are taken for it",
            HolotypeWarning,
            stacklevel=2,
        )
    write(note, json.dumps(asdict(found), indent=1))
    with TemporaryDirectory(prefix="holotype-hub-") as folder:
        for name, path in paths.items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(EXTERNAL):  # weights of an ONNX file are followed by no link
                copyfile(path, Path(folder) / name)
            else:
                (Path(folder) / name).symlink_to(path.resolve())
        try:
            yield Path(folder)
        except EncoderError as error:
            raise EncoderError(str(error).replace(folder, f"{repository} at commit {found.commit}")) from error


def _compare(known: Snapshot, found: Snapshot, note: Path) -> None:
    for name, digest in known.files.items():
        if found.files[name] != digest:
            raise EncoderError(
                f"{name} of {known.repository} at commit {known.commit} is not the file that is known: its SHA-256 is "
                f"{found.files[name]}, expected {digest}; it was changed on the way, in the hub's cache or on the hub, "
                f"and is not used. Delete it in the hub's cache to fetch it again ({note.name} says what is known)"
            )


def _download(repository: str, commit: str, ways: Sequence[Files]) -> tuple[Path, Sequence[str]]:
    """Return where the files of the first of `ways` are that is whole, and what they are called."""
    where = f"{repository} at commit {commit}" if commit else repository
    absent: list[str] = []
    for files in ways:
        patterns = (*files.needed, *files.more)
        place = _fetch(repository, commit, patterns, where)
        lacks = [pattern for pattern in files.needed if not any(place.glob(pattern))]
        if not lacks:
            return place, patterns
        absent.append(", ".join(lacks))
    raise NotThere(f"{where} as fetched from the hub has no {'; nor '.join(absent)}")


def _fetch(repository: str, commit: str, patterns: Sequence[str], where: str) -> Path:
    from huggingface_hub import snapshot_download

    # a * of the client goes into folders, of which nothing is used but what is named
    nested = None if any("/" in pattern for pattern in patterns) else "*/*"
    try:
        return Path(
            snapshot_download(repository, revision=commit or None, allow_patterns=[*patterns], ignore_patterns=nested)
        )
    except Exception as error:
        raise NotFetched(f"{where} could not be fetched from the hub ({type(error).__name__})") from error
