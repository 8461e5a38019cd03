"""Vectors, runs and predictions in a store: worked on here, sent back, and found again from another machine."""

import csv
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Holotype, MakeTar
from pictures import blurred, encoded
from stores import KEY, SECRET, Fault, Proxy, download, upload
from storing import Stored

from holotype.errors import OutputError
from holotype.progress import Silent
from holotype.runs.folder import RunFolder
from holotype.settings import Settings
from holotype.stores import copies, store
from holotype.stores.copies import here, sent_back
from holotype.stores.urls import parse

COUNT = 60
Machine = Callable[[str], None]


@pytest.fixture
def pool(make_tar: MakeTar, stored: Stored) -> str:
    path = make_tar([(f"{row}.jpg", encoded(blurred(row))) for row in range(COUNT)])
    return stored(path, "pool.tar")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`machine("b")` goes on as another machine: with a cache of its own."""

    def change(name: str) -> None:
        monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / f"cache-{name}"))

    return change


def names(url: str) -> set[str]:
    """What is in a folder of a store."""
    place = parse(url)
    return {one.url.key.removeprefix(f"{place.key}/") for one in store.bucket_of(url).below(place)}


def shards(url: str) -> set[str]:
    return {name for name in names(url) if name.startswith("img_emb/")}


def test_vectors_are_there_for_another_machine(
    pool: str, bucket: str, holotype: Holotype, network: str, machine: Machine, s3_port: int, tmp_path: Path
) -> None:
    out = f"{bucket}/some/vectors"
    words = ["embed", pool, "--encoder", network, "--out"]
    code, said, error = holotype(*words, out)
    assert (code, said) == (0, f"{COUNT} vectors in {out}, 0 images unreadable\n"), error
    assert len(names(out)) == 4
    machine("b")
    code, said, error = holotype(*words, out)
    assert code == 0
    assert "embed (" not in error  # nothing is computed again
    assert holotype(*words, tmp_path / "here")[0] == 0
    name = "img_emb/img_emb_0000.npy"
    assert download(s3_port, f"{out}/{name}") == (tmp_path / "here" / name).read_bytes()


def test_finished_shards_are_sent_while_the_work_goes_on(
    pool: str, bucket: str, network: str, machine: Machine, s3_port: int, make_tar: MakeTar, stored: Stored
) -> None:
    """A process that is killed leaves its finished shards in the store, and nobody computes these again."""
    many = make_tar([(f"{row}.jpg", encoded(blurred(row))) for row in range(600)], "many.tar")
    url, out = stored(many, "many.tar"), f"{bucket}/vectors"
    code = (
        "import sys, time\n"
        "from holotype.vectors import store\n"
        "from holotype.encoders import encode\n"
        "store.SHARD = 64\n"
        "before = store.write_shard\n"
        "def slowly(*given):\n before(*given); time.sleep(1)\n"
        "store.write_shard = slowly\n"
        "sys.argv = ['holotype', 'embed', *sys.argv[1:]]\n"
        "from holotype.cli.main import main\n"
        "main()\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code, url, "--encoder", network, "--out", out], stderr=subprocess.PIPE, text=True
    )
    ends = time.monotonic() + 60
    while len(shards(out)) < 2:
        assert time.monotonic() < ends
        assert worker.poll() is None
        time.sleep(0.1)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    machine("b")
    code = "from holotype.cli.main import main; main()"
    command = [sys.executable, "-c", code, "embed", url, "--encoder", network, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"600 vectors in {out}" in done.stdout
    computed = int(done.stderr.split("): ")[-1].split("/")[0])
    assert computed <= 600 - 2 * 64


def test_a_run_in_a_store_is_a_run(
    pool: str, bucket: str, holotype: Holotype, network: str, machine: Machine, s3_port: int, tmp_path: Path
) -> None:
    """It is done, looked at from another machine, asked, answered, and done again; nothing of it has a secret."""
    vectors, out = f"{bucket}/vectors", f"{bucket}/run"
    assert holotype("embed", pool, "--encoder", network, "--out", vectors)[0] == 0
    words = ["--exemplar", "a=3", "--exemplar", "b=7", "--threshold", "0.2", "--encoder", network]
    code, said, error = holotype("run", "--images", pool, "--embeddings", vectors, *words, "--out", out)
    assert code == 0, error
    assert f"{out}/report.html" in said
    assert "copies" not in said + error  # where it was worked on is nobody's business
    settings = download(s3_port, f"{out}/holotype.toml").decode()
    assert all(f'{name} = "{place}"' in settings for name, place in (("out", out), ("embeddings", vectors)))
    assert {"report.html", "results.sha256", "model/model.json", "found.csv"} <= names(out)
    assert not any(part.startswith(".") for name in names(out) for part in name.split("/"))

    machine("b")
    code, _, error = holotype("predict", out, pool, "--format", "csv", "--out", f"{bucket}/there/predictions.csv")
    assert code == 0, error
    lines = list(csv.DictReader(io.StringIO(download(s3_port, f"{bucket}/there/predictions.csv").decode())))
    assert len(lines) == COUNT
    assert lines[0]["path"] == f"{pool}/0.jpg"
    code, said, error = holotype("predict", out, pool, "--shard", "1/1", "--out", f"{bucket}/parts")
    assert (code, f"all parts are in {bucket}/parts; " in said, "cat s3:" in said) == (0, True, False), error
    assert holotype("suggest", out)[0] == 0
    (tmp_path / "form.csv").write_text("id,class,answer\n3,a,yes\n12,a,no\n")
    code, said, error = holotype("answer", out, tmp_path / "form.csv", "--who", "me")
    assert code == 0, error
    assert "answers.db" in names(out)

    machine("c")
    code, said, error = holotype("run", out)
    assert code == 0, error
    assert "answers" in error
    metrics = json.loads(download(s3_port, f"{out}/metrics.json"))
    assert metrics["answers"]
    caches = [path for path in tmp_path.rglob("*") if path.is_file()]
    texts = [*(path.read_bytes() for path in caches), *(download(s3_port, f"{out}/{name}") for name in names(out))]
    assert not any(SECRET.encode() in text or KEY.encode() in text for text in texts)


def watches() -> int:
    return sum(thread.name == "copies" for thread in threading.enumerate())


def test_only_where_a_url_is_given_its_copy_is_watched(bucket: str, tmp_path: Path) -> None:
    with sent_back():
        here(tmp_path)
        assert watches() == 0
        for name in "ab":
            here(f"{bucket}/{name}")
            assert watches() == 1
    assert watches() == 0


def test_what_was_changed_in_both_places_is_refused(bucket: str, s3_port: int) -> None:
    url = f"{bucket}/folder"
    upload(s3_port, f"{url}/a.txt", b"first")
    with sent_back():
        (here(url) / "a.txt").write_text("changed here")
        upload(s3_port, f"{url}/a.txt", b"changed there")
        with pytest.raises(OutputError, match=f"cannot write {url}/a.txt: .*changed while it was in use"):
            copies._copies[url].send(Silent())
        upload(s3_port, f"{url}/a.txt", b"changed here")  # an answer that was lost: it is what was sent
    upload(s3_port, f"{url}/a.txt", b"again")
    path = here(url) / "a.txt"
    assert path.read_text() == "again"
    path.write_text("unsent")
    upload(s3_port, f"{url}/a.txt", b"and again")
    copies._copies.clear()
    with pytest.raises(OutputError, match=f"a.txt was changed in the store, and its copy here \\({path}\\)"):
        here(url)
    path.unlink()
    assert (here(url) / "a.txt").read_text() == "and again"
    copies._copies.clear()


def test_what_is_removed_in_one_place_is_removed_in_the_other(bucket: str, s3_port: int) -> None:
    url = f"{bucket}/folder"
    for name in "abc":
        upload(s3_port, f"{url}/{name}/x.txt", b"text")
    with sent_back():
        (here(url) / "a" / "x.txt").unlink()
    assert names(url) == {"b/x.txt", "c/x.txt"}
    store.bucket_of(url).remove(parse(f"{url}/b/x.txt"))
    with sent_back():
        assert [path.name for path in here(url).rglob("x.txt")] == ["x.txt"]
    assert names(url) == {"c/x.txt"}


def test_what_says_that_a_run_is_finished_comes_last(bucket: str, proxy: Proxy) -> None:
    url = f"{bucket}/run"
    with sent_back():
        folder = here(url)
        folder.mkdir()
        for name in ("holotype.toml", "report.html", "model.json"):
            (folder / name).write_text(name)
    assert [one.path.rpartition("/")[2] for one in proxy.of("PUT")][-1] == "holotype.toml"
    proxy.asked.clear()
    with sent_back():
        (here(url) / "report.html").write_text("another")
    asked = [
        (one.method, one.path.rpartition("/")[2]) for one in proxy.asked if one.method in ("PUT", "POST", "DELETE")
    ]
    assert asked[1:] == [("PUT", "report.html"), ("PUT", "holotype.toml")]
    assert asked[0][0] in ("POST", "DELETE")  # of holotype.toml: until all is there nothing says that it is finished


def test_an_error_in_python_names_the_url_and_what_python_takes(bucket: str) -> None:
    url, settings = f"{bucket}/run", Settings.parse({"images": "pool.tar", "exemplars": {"a": ["0"]}})
    with sent_back():
        here(url).mkdir()
        (here(url) / "holotype.toml").write_text(settings.to_toml())
        with pytest.raises(OutputError, match=rf"^{url} already holds a run; .*\(in Python resume=True, force=True\)$"):
            RunFolder(here(url)).check(settings)


def test_a_database_in_use_is_not_sent(bucket: str) -> None:
    url = f"{bucket}/run"
    with sent_back():
        folder = here(url)
        folder.mkdir()
        (folder / "answers.db").write_bytes(b"half")
        (folder / "answers.db-wal").write_bytes(b"the rest")
        (folder / "report.html").write_text("text")
    assert names(url) == {"report.html"}
    (folder / "answers.db-wal").unlink()
    with sent_back():
        here(url)
    assert names(url) == {"report.html", "answers.db"}


def test_a_store_that_goes_away_costs_nothing(
    pool: str, bucket: str, holotype: Holotype, network: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done stays here, and the same command sends it."""
    out = f"{bucket}/vectors"
    monkeypatch.setattr(store, "_PATIENCE", 1.0)
    proxy.fault = lambda asked: Fault(503) if asked.method == "PUT" else None
    code, _, error = holotype("embed", pool, "--encoder", network, "--out", out)
    assert code == 1
    assert "the store is away" in error
    assert "give the same command again" in error
    proxy.fault = lambda _asked: None
    code, _, error = holotype("embed", pool, "--encoder", network, "--out", out)
    assert code == 0
    assert "embed (" not in error
    assert len(names(out)) == 4


def test_a_folder_in_a_store_is_refused_where_only_its_copy_works(pool: str, bucket: str) -> None:
    from holotype import Settings, run

    settings = Settings.parse({"images": pool, "exemplars": {"a": ["1"]}})
    with pytest.raises(OutputError, match=r"give here\('s3://.*/run'\) in its place"):
        run(settings, f"{bucket}/run")  # type: ignore[arg-type]
