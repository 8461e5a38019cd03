"""Fixtures for tests of object stores: an empty bucket on the S3 server, behind what counts and breaks requests."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from stores import KEY, SECRET, Proxy, make_bucket, upload

from benchmarks.moto import s3_server
from holotype.stores import copies, store

_numbers = count()


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """The port of the S3 server."""
    with s3_server() as port:
        yield port


@pytest.fixture
def proxy(s3_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """What the tools of AWS are told to talk to here; with a cache, and buckets, of the test's own."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    with Proxy(s3_port).running() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        store._bucket.cache_clear()
        copies._copies.clear()
        yield running
    store._bucket.cache_clear()


@pytest.fixture
def bucket(s3_port: int, proxy: Proxy) -> str:
    """The URL of an empty bucket."""
    name = f"bucket-{next(_numbers)}"
    make_bucket(s3_port, name)
    return f"s3://{name}"


@pytest.fixture
def stored(s3_port: int, bucket: str) -> "Stored":
    """`stored(path, "folder/name.tar")` puts a file into the bucket and returns its URL."""
    return Stored(s3_port, bucket)


class Stored:
    """Puts files into a bucket, past the proxy."""

    def __init__(self, port: int, bucket: str) -> None:
        self.port, self.bucket = port, bucket

    def __call__(self, content: Path | bytes, name: str) -> str:
        upload(self.port, f"{self.bucket}/{name}", content if isinstance(content, bytes) else content.read_bytes())
        return f"{self.bucket}/{name}"
