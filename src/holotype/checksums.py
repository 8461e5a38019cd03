"""What files were when they were written: their digests, in lists that `sha256sum --check` reads as well."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holotype import files
from holotype.filestate import regular


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_values(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values, however they are laid out as JSON; their own "digest" is left out."""
    plain = {name: value for name, value in values.items() if name != "digest"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_checksums(path: Path) -> dict[str, str]:
    """Return name -> digest of the list at `path`; nothing where there is none."""
    try:
        text = regular(path).read_bytes().decode(errors="surrogateescape")  # names are bytes, as a rule in UTF-8
    except OSError:
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in text.split("\n")) if name}


def write_checksums(path: Path, digests: Mapping[str, str]) -> None:
    """Write the list at `path`. Raises `OutputError`."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    files.write(path, lines.encode(errors="surrogateescape"))


def is_whole(path: Path, digests: Mapping[str, str], name: str) -> bool:
    """Whether the file at `path`, which a list calls `name`, is as it was written; what no list names may be so."""
    return name not in digests or file_digest(path) == digests[name]
