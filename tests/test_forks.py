"""Pools, answers and locks in several processes: copied, and held by a process that is forked."""

import copy
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from pictures import blurred, encoded
from system import plain_environment

from holotype import open_pool
from holotype.answers.log import AnswerLog
from holotype.locks import locked

COPIES = [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
START = """
import json, os, signal, sys, threading, time
from pathlib import Path
from holotype import open_pool
from holotype.answers.log import AnswerLog
from holotype.errors import HolotypeError
from holotype.locks import locked

path = Path(sys.argv[1])

def in_child(work):
    child = os.fork()
    if not child:
        signal.alarm(20)
        work()
        sys.exit(0)  # the end of a whole interpreter
    return os.waitpid(child, 0)[1]

def beside(work, count=3):
    stop = threading.Event()
    def go_on():
        while not stop.is_set():
            work()
    threads = [threading.Thread(target=go_on) for _ in range(count)]
    for one in threads:
        one.start()
    def end():
        stop.set()
        for one in threads:
            one.join()
    return end
"""


TAKE = "import sys; from pathlib import Path; from holotype.locks import locked; locked(Path(sys.argv[1])).__enter__()"


def script(code: str, path: Path, *more: str) -> Any:
    """What a script prints as JSON; it ends well, and complains of nothing."""
    words = [sys.executable, "-W", "ignore", "-c", START + code, str(path), *more]
    environment = plain_environment()
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "pool.tar"
    with tarfile.open(path, "w") as archive:
        for row in range(20):
            member, data = tarfile.TarInfo(f"{row}.jpg"), encoded(blurred(row, (16, 12)))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_a_pool_reads_the_same(way: Callable[[Any], Any], tar: Path) -> None:
    pool = open_pool(tar)
    before = [pool.read(row) for row in range(len(pool))]
    other = way(pool)
    assert other.digests() == pool.digests()
    assert [other.read(row) for row in range(len(other))] == before
    del other
    assert [pool.read(row) for row in range(len(pool))] == before
    assert way(pool).ids == pool.ids  # also with all that it has looked up since


def test_a_pool_is_read_after_a_fork_in_the_midst_of_reading(tar: Path) -> None:
    code = """
pool = open_pool(path)
wanted = [pool.read(row) for row in range(20)]
end = beside(lambda: [pool.read(row) for row in range(20)])

def work():
    assert [pool.read(row) for row in range(20)] == wanted

ends = [in_child(work) for _ in range(6)]
end()
print(json.dumps(ends))
"""
    assert script(code, tar) == [0] * 6


def test_answers_are_not_used_across_a_fork(tmp_path: Path) -> None:
    code = """
log = AnswerLog(path)
log.add("0", "cat", "yes")
given = []

def give():
    given.append(log.add(str(len(given)), "dog", "yes").act)

def refused():
    log.close()
    for use in (log.current, lambda: log.add("1", "cat", "yes"), lambda: log.copy(path.with_name("copy"))):
        try:
            use()
        except HolotypeError as error:
            assert "was opened before this process was forked" in str(error)
        else:
            raise AssertionError

def anew():
    try:
        AnswerLog(path)
    except HolotypeError as error:
        assert "was opened before this process was forked" in str(error) and "spawn" in str(error)
    else:
        raise AssertionError
    with AnswerLog(path.with_name("other.db")) as other:
        other.add("child", "cat", "yes")

def closed():
    with AnswerLog(path) as other:
        other.add("child", "cat", "yes")

end = beside(give)
ends = [in_child(refused) for _ in range(6)]
end()
ends.append(in_child(anew))
held = {one.act for one in log.history()}
log.close()
ends.append(in_child(closed))
with AnswerLog(path) as log:
    children = [one.id for one in log.current() if one.id == "child"]
    again = {one.act for one in log.history()}
print(json.dumps([ends, len(set(given) - held), held < again, children]))
"""
    ends, lost, kept, children = script(code, tmp_path / "answers.db")
    assert (ends, lost, kept, children) == ([0] * 8, 0, True, ["child"])


def test_a_child_that_is_spawned_may_write_beside_its_parent(tmp_path: Path) -> None:
    """A forked one may not: SQLite would take the locks of the parent for its own, and what both write is lost."""
    path = tmp_path / "answers.db"
    with AnswerLog(path) as log:
        log.add("parent", "cat", "yes")
        child = get_context("spawn").Process(target=add_in_child, args=(path,))
        child.start()
        child.join()
        log.add("after", "cat", "yes")
        assert [one.id for one in log.current()] == ["parent", "child", "after"]


def add_in_child(path: Path) -> None:
    with AnswerLog(path) as log:
        log.add("child", "cat", "yes")


LEARNING = """
from holotype.answers.refine import on_one_core
use = on_one_core
"""
VIEWS = """
from holotype.model.augment import _GENERATOR
use = lambda: _GENERATOR.turn
"""


@pytest.mark.parametrize("used", [LEARNING, VIEWS])
def test_a_child_waits_for_no_thread_of_its_parent(used: str, tmp_path: Path) -> None:
    code = """
from threadpoolctl import threadpool_info
import numpy, scipy.linalg

def threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

before, held, end = threads(), threading.Event(), threading.Event()

def hold():
    with use():
        held.set()
        end.wait()

def work():
    assert threads() == before
    with use():
        pass
    assert threads() == before

thread = threading.Thread(target=hold)
thread.start()
held.wait()
ended = in_child(work)
end.set()
thread.join()
print(json.dumps([ended, threads() == before]))
"""
    assert script(used + code, tmp_path) == [0, True]


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_answers_opens_the_file_for_itself(way: Callable[[Any], Any], tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "answers.db") as log, way(log) as other:
        log.add("0", "cat", "yes")
        other.add("1", "cat", "no")
        assert [one.id for one in log.current()] == [one.id for one in other.current()] == ["0", "1"]


def test_a_child_does_not_keep_the_lock_of_a_parent_that_is_gone(tmp_path: Path) -> None:
    code = """
with locked(path):
    child = os.fork()
    if not child:
        os.close(1), os.close(2)
        time.sleep(100)
        os._exit(0)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    words = [sys.executable, "-c", START + code, str(tmp_path / ".lock")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    try:
        with locked(tmp_path / ".lock") as lock:
            assert lock.safe
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_a_child_that_ends_lets_go_of_nothing_that_its_parent_holds(tmp_path: Path) -> None:
    code = """
import subprocess
with locked(path):
    child = os.fork()
    if not child:
        raise SystemExit(0)
    os.waitpid(child, 0)
    done = subprocess.run([sys.executable, "-c", sys.argv[2], str(path)], capture_output=True, text=True)
    said = [done.returncode, path.read_text()[:17], "another process writes" in done.stderr]
    print(json.dumps(said))
"""
    assert script(code, tmp_path / ".lock", TAKE) == [1, "holotype, process", True]
