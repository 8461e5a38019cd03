"""What a URL says, which texts are URLs, and what becomes of them where paths are expected."""

from pathlib import Path

import pytest
from conftest import Holotype, MakeTar

from holotype.errors import PoolError
from holotype.pool.sources import expand
from holotype.settings import Settings
from holotype.stores.urls import Url, from_path, is_url, local, parse, place_in, whole


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket/pool-{000..150}.tar", Url("s3", "bucket", "pool-{000..150}.tar")),
        ("S3://bucket", Url("s3", "bucket", "")),
        ("gs://my-bucket.of.mine/a folder/", Url("gs", "my-bucket.of.mine", "a folder/")),
        ("az://container/pool-*.tar", Url("az", "container", "pool-*.tar")),
        ("s3://bucket/what?.tar", Url("s3", "bucket", "what?.tar")),
        ("s3://bucket/me@home/1.tar", Url("s3", "bucket", "me@home/1.tar")),
    ],
)
def test_what_a_url_says(text: str, url: Url) -> None:
    assert is_url(text)
    assert parse(text) == url
    assert whole(text) == text
    assert from_path(Path(text)).lower() == text.rstrip("/").lower()


@pytest.mark.parametrize("text", ["pool.tar", "/data/s3", "s3:/bucket", "C:\\pool", "://x", "a/b://c", "", "{a,b}.tar"])
def test_what_is_no_url(text: str) -> None:
    assert not is_url(text)
    assert local(text) == text


@pytest.mark.parametrize("text", ["ftp://host/x", "hdfs://host/x", "s3:///x", "s3://", "gs://a b/x", "az://-/x"])
def test_other_urls_are_refused(text: str) -> None:
    with pytest.raises(PoolError, match=r"^expected "):
        expand(text)


@pytest.mark.parametrize("text", ["file:///data/a b.tar", "file://localhost/data/a%20b.tar", "FILE:///data/a%20b.tar"])
def test_file_urls_are_paths_here(text: str) -> None:
    assert local(text) == whole(text) == "/data/a b.tar"
    assert not is_url(text)


def test_a_file_url_of_another_machine_is_refused() -> None:
    with pytest.raises(PoolError, match="expected a whole path behind file://"):
        local("file://server/share/pool.tar")


def test_where_something_is() -> None:
    assert place_in("s3://bucket/pool.tar", "a/1.jpg") == "s3://bucket/pool.tar/a/1.jpg"
    assert place_in("s3://bucket/", "1.jpg") == "s3://bucket/1.jpg"
    assert place_in("pool.tar", "1.jpg") == f"{Path.cwd()}/pool.tar/1.jpg"


def test_file_urls_work_where_folders_are_given(
    make_tar: MakeTar, holotype: Holotype, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pictures import blurred, encoded

    monkeypatch.chdir(tmp_path)
    make_tar([(f"{row}.jpg", encoded(blurred(row))) for row in range(20)])
    out = tmp_path / "my vectors"
    url = f"file://{tmp_path}/pool.tar"
    code, _, error = holotype("embed", url, "--encoder", network, "--out", f"file://{out}".replace(" ", "%20"))
    assert code == 0, error
    assert (out / "embeddings.json").exists()
    assert not list(tmp_path.glob("file*"))
    words = ["--exemplar", "a=3", "--exemplar", "b=7", "--threshold", "0.2", "--encoder", network]
    assert holotype("run", "--images", url, *words, "--out", tmp_path / "run")[0] == 0
    assert Settings.load(tmp_path / "run" / "holotype.toml").images == str(tmp_path / "pool.tar")
