"""A cluster of Ray on this machine, of three nodes: the same files as one process, whatever is killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Holotype, write_tar
from pictures import blurred, encoded
from test_store import contents

pytest.importorskip("ray")

IMAGES, BLOCKS = 11 * 1024 + 100, 12
STORE = 80 << 20  # bytes of memory for objects of a node; names need hardly any


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, network: str) -> Path:
    """A folder with a pool of twelve blocks, one image broken, and its vectors as one process writes them."""
    folder = tmp_path_factory.mktemp("cluster")
    pictures = [encoded(blurred(row, (40, 32))) for row in range(97)]
    members = [(f"{row:05}.jpg", pictures[row % 97] + row.to_bytes(4, "big")) for row in range(IMAGES)]
    members[1500] = ("01500.jpg", b"no picture")
    write_tar(folder / "a.tar", members[:5000])
    write_tar(folder / "b.tar", members[5000:])
    ended = start(folder, "one", network).wait(100)
    assert ended == 0
    assert len(list((folder / "one" / "img_emb").iterdir())) == BLOCKS
    return folder


def start(folder: Path, out: str, network: str, *more: str) -> "subprocess.Popen[bytes]":
    """Start `holotype embed` with a cache of its own, so that nothing is taken from elsewhere."""
    words = [sys.executable, "-m", "holotype", "embed", "{a,b}.tar", "--encoder", network, "--out", out, *more]
    environment = os.environ | {"HOLOTYPE_CACHE": str(folder / f"cache-{out}")}
    with (folder / f"{out}.log").open("ab") as log:
        return subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)


def wait_for(folder: Path, count: int, driver: "subprocess.Popen[bytes]") -> None:
    """Wait until `count` blocks are there, while `driver` is at work."""
    ends = time.monotonic() + 60
    while len(list(folder.glob("img_emb/img_emb_*.npy"))) < count:
        assert driver.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.01)


@dataclass
class Cluster:
    """A head that computes nothing, and three nodes, each with its processes in a group of its own."""

    address: str
    groups: "list[subprocess.Popen[bytes]]"

    def kill(self, node: int) -> None:
        """End all of a node at once, as a machine that loses its power."""
        os.killpg(self.groups[node].pid, signal.SIGKILL)
        self.groups[node].wait()


@pytest.fixture(scope="module", autouse=True)
def _open_to_this_machine() -> Iterator[None]:
    """Where a token lies, as a cluster of one command leaves it, a head asks for it, and nodes do not send it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    place = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the paths of its sockets must be short
    every = ["--block", "--disable-usage-stats", f"--object-store-memory={STORE}", "--node-ip-address=127.0.0.1"]
    every += ["--min-worker-port=0", "--max-worker-port=0"]
    head = ["--head", f"--port={address.split(':')[1]}", "--num-cpus=0", "--include-dashboard=false"]
    groups = list[subprocess.Popen[bytes]]()
    kinds = [[*head, f"--temp-dir={place}"], *[[f"--address={address}", "--num-cpus=1"]] * 3]
    try:
        for number, words in enumerate(kinds):  # on one machine they start one after the other anyway
            log = Path(place) / f"start-{number}.log"
            groups.append(ray_start([*words, *every], log))
            wait_until_said(log, "Ray runtime started", 1, groups[-1])
        yield Cluster(address, groups)
    finally:
        for one in groups:
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGKILL)
                one.wait()
        shutil.rmtree(place, ignore_errors=True)


def ray_start(words: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    command = [str(Path(sys.executable).parent / "ray"), "start", *words]
    with log.open("wb") as said:
        return subprocess.Popen(command, start_new_session=True, stdout=said, stderr=said)


def wait_until_said(log: Path, text: str, count: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until `text` stands in `log` so many times, while `process` is at work."""
    ends = time.monotonic() + 60
    while log.read_text().count(text) < count:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.02)


def test_a_cluster_writes_the_same_bytes_whatever_is_killed(cluster: Cluster, work: Path, network: str) -> None:
    at = ["--ray", cluster.address, "--price", "2"]
    driver = start(work, "ray", network, *at)
    wait_for(work / "ray", 1, driver)
    driver.kill()
    driver.wait()
    before = contents(work / "ray" / "img_emb")
    assert 0 < len([name for name in before if name.endswith(".npy") and name[0] != "."]) < BLOCKS

    joined = (work / "ray.log").read_text().count(" joins")
    driver = start(work, "ray", network, *at)  # the same command goes on
    wait_until_said(work / "ray.log", " joins", joined + 3, driver)
    cluster.kill(1)
    assert driver.wait(100) == 0
    found, wanted = contents(work / "ray"), contents(work / "one")
    assert {name: data for name, data in found.items() if not name.endswith(".part")} == wanted
    said = (work / "ray.log").read_text()
    assert "node-hours so far, at 2 a node and hour" in said
    assert "all vectors are in ray" in said
    assert said.count("its worker ended") == 1  # of the node that was killed, while it had something to do
    assert "2 nodes, " in said

    driver = start(work, "ray", network, *at)  # nothing is left to do
    assert driver.wait(60) == 0
    assert contents(work / "ray" / "img_emb") == contents(work / "one" / "img_emb")
    assert "0 blocks of 12 to do" in (work / "ray.log").read_text()


def test_a_cluster_that_is_not_there_is_said(work: Path, network: str) -> None:
    driver = start(work, "nowhere", network, "--ray", "127.0.0.1:1")
    assert driver.wait(100) == 1
    assert "expected a Ray cluster at 127.0.0.1:1" in (work / "nowhere.log").read_text()


def test_without_ray_the_extra_is_named(work: Path, network: str, holotype: Holotype, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(work)
    code, _, error = holotype("embed", "a.tar", "--encoder", network, "--out", "none", "--ray", "local")
    assert code == 1
    assert "pip install 'holotype[ray]'" in error
