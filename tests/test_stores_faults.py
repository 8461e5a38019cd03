"""Stores that are slow, busy, cut off, away, or refuse: what passes is waited for, what does not is said at once."""

import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from conftest import Holotype, MakeTar
from pictures import blurred, encoded
from stores import KEY, SECRET, Asked, Fault, Proxy
from storing import Stored

from holotype import open_pool
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import HolotypeError, HolotypeWarning, PoolError, UnreadableNow
from holotype.stores import store
from holotype.stores.urls import parse
from holotype.vectors.store import embed

COUNT = 60


@pytest.fixture
def tar(make_tar: MakeTar) -> Path:
    return make_tar([(f"{row}.jpg", encoded(blurred(row))) for row in range(COUNT)])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PATIENCE", 1.0)


class Sometimes:
    """A fault of each request by chance, but never of one thing more than twice in a row."""

    def __init__(self, *faults: Fault) -> None:
        self.faults, self.draw, self.had = faults, random.Random(0), 0
        self.last = 0

    def __call__(self, asked: Asked) -> Fault | None:
        if self.last >= 2 or self.draw.random() < 0.4:
            self.last = 0
            return None
        self.last += 1
        self.had += 1
        return self.draw.choice(self.faults)


PASSING = {
    "busy": Fault(503),
    "too many requests": Fault(429, "TooManyRequests"),
    "broken": Fault(500, "InternalError"),
    "cut off in the middle": Fault(cut=3000),
    "closed before an answer": Fault(cut=0),
    "slow": Fault(slow=0.2),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_costs_nothing_but_time(
    name: str, tar: Path, stored: Stored, proxy: Proxy, encoder: OnnxEncoder, tmp_path: Path
) -> None:
    url = stored(tar, "pool.tar")
    proxy.fault = faults = Sometimes(PASSING[name])
    found, expected = open_pool(url), open_pool(tar)
    assert [found.read(row) for row in range(COUNT)] == [expected.read(row) for row in range(COUNT)]
    there, here = embed(found, encoder, tmp_path / "there"), embed(expected, encoder, tmp_path / "here")
    assert there.unreadable == {}
    assert np.array_equal(there.take(there.rows), here.take(here.rows))
    assert faults.had


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [Fault(503), Fault(cut=100), Fault(cut=0)])
def test_what_does_not_pass_stops_the_work_and_takes_no_image_for_broken(
    fault: Fault, tar: Path, stored: Stored, proxy: Proxy, encoder: OnnxEncoder, tmp_path: Path
) -> None:
    found = deepcopy(open_pool(stored(tar, "pool.tar")))  # which keeps nothing of what was read to list it
    proxy.fault = lambda _asked: fault
    with pytest.raises(UnreadableNow, match=r"^cannot be read"):
        found.read(3)
    with pytest.raises(PoolError, match=r"cannot be read now .*give the same command again"):
        embed(found, encoder, tmp_path / "vectors")
    proxy.fault = lambda _asked: None
    done = embed(found, encoder, tmp_path / "vectors")
    assert (len(done.rows), done.unreadable) == (COUNT, {})


@pytest.mark.usefixtures("impatient")
def test_an_opened_pool_that_goes_away_is_said(tar: Path, stored: Stored, proxy: Proxy) -> None:
    url = stored(tar, "pool.tar")
    proxy.fault = lambda _asked: Fault(503)
    with pytest.raises(
        HolotypeError, match=rf"{url} cannot be read: s3://bucket-\d+ .at http://127.0.0.1:\d+. answers 503"
    ):
        open_pool(url)
    proxy.fault = lambda asked: Fault(503) if asked.method == "GET" else None
    with pytest.raises(PoolError, match="answers 503 SlowDown; give the same command again when that has passed"):
        open_pool(url)


def test_a_changed_object_is_never_read(tar: Path, stored: Stored) -> None:
    url = stored(tar, "pool.tar")
    found = open_pool(url)
    first = found.read(0)
    found = deepcopy(found)
    content = bytearray(tar.read_bytes())
    content[2000] ^= 1
    stored(bytes(content), "pool.tar")
    with pytest.raises(PoolError, match=f"{url} was changed while it was in use; give the same command again"):
        found.read(COUNT - 1)
    stored(tar, "pool.tar")
    assert open_pool(url).read(0) == first


def test_an_object_that_is_gone_is_said(tar: Path, stored: Stored) -> None:
    url = stored(tar, "pool.tar")
    found = deepcopy(open_pool(url))
    bucket = store.bucket_of(url)
    bucket.remove(parse(url))
    with pytest.raises(PoolError, match=f"{url} is not there any more; give the same command again"):
        found.read(0)
    with pytest.raises(PoolError, match=f"expected a tar, a folder or shards at {url}; nothing is at {url}"):
        open_pool(url)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(403, "InvalidAccessKeyId"), "the store refuses the credentials that it was given (403"),
        (Fault(403, "SignatureDoesNotMatch"), "the store refuses the credentials that it was given (403"),
        (Fault(401, "Unauthorized"), "the store refuses the credentials that it was given (401"),
        (Fault(301, "PermanentRedirect"), "check the region and the endpoint"),
        (Fault(400, "AuthorizationHeaderMalformed"), "check the region and the endpoint"),
    ],
)
def test_what_cannot_pass_is_said_at_once(fault: Fault, said: str, tar: Path, stored: Stored, proxy: Proxy) -> None:
    url = stored(tar, "pool.tar")
    proxy.fault = lambda _asked: fault
    started = time.monotonic()
    with pytest.raises(HolotypeError) as raised:
        open_pool(url)
    assert said in str(raised.value)
    assert SECRET not in str(raised.value)  # the server says it
    assert len(proxy.asked) <= 2
    assert time.monotonic() - started < store._PATIENCE / 2


@pytest.mark.usefixtures("proxy")
def test_a_bucket_that_is_not_there_is_said(holotype: Holotype) -> None:
    code, _, error = holotype("search", "s3://no-such-bucket/pool-*.tar", "--exemplar", "1")
    assert code == 1
    assert "expected a bucket s3://no-such-bucket, and there is none of this name" in error


@pytest.mark.usefixtures("impatient")
def test_no_network_is_said(tar: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    store._bucket.cache_clear()
    monkeypatch.setattr(store, "_QUIET", 0.3)
    where = r"s3://away \(at http://127\.0\.0\.1:\d+\) cannot be reached"
    with (
        pytest.warns(HolotypeWarning, match=rf"^{where}: it is tried again for up to 1 s$") as said,
        pytest.raises(HolotypeError, match=rf"s3://away/pool\.tar cannot be read: {where}"),
    ):
        open_pool("s3://away/pool.tar")
    assert len(said) == 1


@pytest.mark.parametrize("where", ["default", "team", "endpoint"])
def test_profiles_are_read_as_the_tools_of_aws_read_them(
    where: str, tar: Path, stored: Stored, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    name = "default" if where == "default" else "team"
    credentials.write_text(f"[{name}]\naws_access_key_id = AKOFAPROFILE\naws_secret_access_key = {SECRET}\n")
    config.write_text(f"[{'default' if name == 'default' else f'profile {name}'}]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_PROFILE", name)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    if where == "endpoint":
        config.write_text(f"{config.read_text()}endpoint_url = {proxy.url}\n")
        monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert len(open_pool(stored(tar, "pool.tar"))) == COUNT
    assert {one.key for one in proxy.asked} == {"AKOFAPROFILE"}


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[profile other]\nregion = x\n", "there is no profile team in ~/.aws"),
        ("[profile team]\nsso_session = x\n", "needs the package boto3"),
    ],
)
def test_profiles_that_cannot_be_used_are_said(
    config: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(PoolError, match=said):
        open_pool("s3://bucket/pool.tar")


@pytest.mark.parametrize(
    "url",
    [
        f"s3://{KEY}:{SECRET}@bucket/pool.tar".replace("secret/", "secret"),
        f"s3://bucket/pool.tar?X-Amz-Credential={KEY}&X-Amz-Signature={SECRET}",
        f"https://user:{SECRET}@host/bucket/pool.tar",
        f"az://container/pool.tar?sig={SECRET}",
    ],
)
@pytest.mark.parametrize("command", [["search", "--exemplar", "1"], ["embed", "--out", "x"], ["predict"]])
def test_a_url_that_holds_credentials_is_refused_and_not_repeated(
    url: str, command: list[str], holotype: Holotype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    words = [command[0], *(["model"] if command[0] == "predict" else []), url, *command[1:]]
    code, out, error = holotype(*words)
    assert code == 1
    assert "OfTests" not in out + error
    assert KEY not in out + error
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"OfTests" in path.read_bytes() for path in files)


def test_the_extra_is_named_where_it_is_missing(run_python: Callable[[str], str]) -> None:
    said = run_python(
        "import sys; sys.modules['obstore'] = None\n"
        "from holotype import open_pool\n"
        "try:\n open_pool('s3://bucket/pool.tar')\n"
        "except Exception as error: print(error)"
    )
    assert "pip install 'holotype[stores]'" in said


@pytest.fixture
def run_python() -> Callable[[str], str]:
    def run(code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    return run
