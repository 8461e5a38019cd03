"""A saved model of the hub: its files at one commit."""

import re
from pathlib import Path

from holotype.encoders.hub import Files, NotFetched, NotThere, fetched, parse_repository, read_snapshot
from holotype.encoders.towers import hub_stem
from holotype.errors import EncoderError, ModelError
from holotype.files import cache_folder
from holotype.model.promises import PROMISES_FILE
from holotype.model.saved import SAVED, read_files

_HUB = "hf:"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


def is_repository(given: str | Path, revision: str) -> bool:
    """Whether a model is of the hub: "hf:owner/name", or "owner/name" where nothing on this disk is called so."""
    if not isinstance(given, str):
        return False
    return given.startswith(_HUB) or bool(revision) or bool(_REPOSITORY.fullmatch(given) and not Path(given).exists())


def fetch_model(given: str, revision: str) -> tuple[dict[str, bytes], str]:
    """Return the files of a saved model of the hub, and what messages call it.

    revision   the 40 digits of a commit; "": the newest at the first time, which is a warning, and that one ever after

    Raises `ModelError` where it cannot be fetched, is no saved model, or is not what was fetched before.
    """
    name = given.removeprefix(_HUB)
    try:
        repository, commit = parse_repository(f"{name}@{revision}" if revision else name)
    except EncoderError:
        raise ModelError(
            "expected owner/name of a model on the hub, and as its revision the 40 digits of a commit (what a branch "
            f"or a tag means can change), got {given!r}{f' and {revision!r}' if revision else ''}"
        ) from None
    note = cache_folder() / "models" / f"{hub_stem(repository, commit)}.source.json"
    try:
        known = read_snapshot(note)
        with fetched(repository, commit, [Files(SAVED, (PROMISES_FILE,))], known, note) as folder:
            return read_files(folder, fetched=True), f"{repository} on the hub"
    except ImportError:
        raise ModelError(
            f"{given} is no folder here; a model of the hub is fetched with huggingface-hub, which is not installed: "
            "pip install 'holotype[words]'"
        ) from None
    except NotFetched as error:
        raise ModelError(f"{given} is no folder with a saved model here, and {error}") from error
    except NotThere as error:
        raise ModelError(f"{error}: it holds no model of holotype") from error
    except EncoderError as error:
        raise ModelError(str(error)) from error
