"""What the URL of something in an object store says, and which texts are such URLs and no paths.

`s3://bucket/key`, `gs://bucket/key` and `az://container/key`; `file:///path` is the path itself.
"""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from holotype.errors import PoolError
from holotype.names import printable

SCHEMES = ("s3", "gs", "az")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SHORT = re.compile(rf"({'|'.join(SCHEMES)}|file):/(?!/)", re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_SIGNED = re.compile(r"\?[^/]*=")  # a query; a "?" alone is a pattern's
_OWN = "credentials are taken from where the tools of the store keep them (environment, profile, role)"


class Url(NamedTuple):
    """A place in an object store: which kind of store, the bucket (or container), and the key in it."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"


def is_url(text: str | Path) -> bool:
    """Whether `text` means something in an object store, and no path here; `file://` is a path."""
    found = _URL.match(str(text))
    return found is not None and found[1].lower() != "file"


def parse(text: str) -> Url:
    """Return what the URL `text` says.

    Raises `PoolError` for another kind of URL, and for one that holds credentials, which would end in files and logs:
    it is never repeated.
    """
    found = _URL.match(text)
    scheme, rest = (found[1].lower(), text[found.end() :]) if found else ("", text)
    bucket, _, key = rest.partition("/")
    if "@" in bucket or (scheme not in SCHEMES and "@" in rest):
        raise PoolError(f"expected a URL without credentials, got one of {printable(scheme)}:// with them; {_OWN}")
    if _SIGNED.search(rest):
        raise PoolError(f"expected a URL without a query, got one of {printable(scheme)}:// that is signed; {_OWN}")
    if scheme not in SCHEMES:
        kinds = ", ".join(f"{one}://" for one in SCHEMES)
        raise PoolError(f"expected a path, or a URL of {kinds} or file://, got one of {printable(scheme)}://")
    if not _BUCKET.fullmatch(bucket):
        example = f"{scheme}://bucket/folder"
        raise PoolError(f"expected the name of a bucket, as in {example}, got {printable(bucket)!r}")
    return Url(scheme, bucket, key)


def local(text: str) -> str:
    """Return the path that `file:///path` stands for; other texts as they are."""
    found = _URL.match(text)
    if found is None or found[1].lower() != "file":
        return text
    host, slash, path = text[found.end() :].partition("/")
    if host not in ("", "localhost") or not slash:
        raise PoolError(f"expected a whole path behind file://, as in file:///data/pool.tar, got {printable(text)}")
    return unquote(f"/{path}", errors="surrogateescape")


def from_path(path: Path) -> str:
    """Return what was given as `path`, which takes the second slash out of a URL."""
    found = _SHORT.match(str(path))
    return f"{found[1]}://{'/' if found[1].lower() == 'file' else ''}{str(path)[found.end() :]}" if found else str(path)


def whole(place: str | Path) -> str:
    """Return a place as it is found from anywhere: a URL as it is, and the whole path of a file or folder."""
    text = local(str(place))
    return text if is_url(text) else str(Path(text).absolute())


def place_in(place: object, name: str) -> str:
    """Return where something called `name` is in a folder or a tar at `place`, of which the text is a path or URL."""
    return f"{whole(str(place)).rstrip('/')}/{name}"
