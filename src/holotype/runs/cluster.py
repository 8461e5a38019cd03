"""A task on the nodes of a Ray cluster: one worker a node, a block at a time; only names travel.

The driver holds the numbers of the blocks and hands them out; a worker opens images and network by their names, once,
and writes the files of its blocks by itself. A node that is lost costs the block that it was at; one that comes joins.
"""

import os
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from holotype.errors import HolotypeError
from holotype.names import counted
from holotype.progress import Progress, Silent
from holotype.runs.blocks import Blocks, PoolShare, Task, do_share

_AHEAD = 2  # blocks that a worker has: one that it is at, and one that waits
_MOST_FAILED = 3  # times that a block may fail, or in a row a node
_MOST_ENDED = 5  # times that a worker may end, with its node or alone, while it is at one block
_AWAY = 15.0  # seconds until a node whose worker was lost is tried again: it may be lost, and not be known to be
_PATIENCE = 60.0  # seconds without a node
_LOOK = 1.0  # seconds until the nodes are looked at again
_HEARD = 10.0  # seconds until a cluster must have answered
_SAID = 60.0  # seconds between two lines about time and cost


def do_task(task: Task, share: PoolShare | None, address: str | None, price: float, progress: Progress) -> str:
    """Do a task, or what `share` has of it, here or on the Ray cluster at `address`; return what is there then.

    price   of a node for an hour, to say what it costs
    """
    if address is not None:
        do_on_cluster(task, address, price, progress)
        return task.describe()
    missing = do_share(task, share or PoolShare(0, 1), progress)
    return task.describe() if not missing else f"shard {share} is done; {counted(len(missing), 'block')} of others not"


def do_on_cluster(task: Task, address: str, price: float, progress: Progress) -> None:
    """Do what is missing of `task` on every node of the cluster at `address`.

    address   `local` starts one on this machine, `auto` is that which this machine is in, else HOST:PORT

    A block that fails on three nodes, or is being done when five workers end, is given up, and the others are done.
    Raises `HolotypeError` then, where Ray is not installed, or where there has been no node for a minute.
    """
    ray = _import()
    work = task.open(progress)
    missing = work.missing()
    progress.say(f"{counted(len(missing), 'block')} of {work.count:,} to do")
    if missing:
        with _connected(ray, address):
            _Driver(ray, task, work, missing, price, progress).run()


def _import() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as Ray will have it, and warns until then
    try:
        import ray
    except ImportError as error:
        raise HolotypeError(f"--ray needs Ray ({error}): pip install 'holotype[ray]', or use --shard") from None
    return ray


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    _check_heard(address)
    more = {"num_cpus": os.cpu_count(), "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **more)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, str(error).strip().splitlines()[0]) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_heard(address: str) -> None:
    """Raise `HolotypeError` where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_HEARD).close()
        except (OSError, OverflowError) as error:
            raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str, why: str) -> HolotypeError:
    return HolotypeError(
        f"expected a Ray cluster at {address}, got {why}; start it with ray start, or give --ray local"
    )


class _Worker:
    """On a node: does blocks one after the other, with images and network opened once."""

    def __init__(self, task: Task, folder: str) -> None:
        self._task, self._folder = task, folder
        self._work: Blocks | None = None

    def open(self) -> str:
        """Open what the task is about; return why that cannot be done, or nothing."""
        try:
            os.chdir(self._folder)  # so that names mean what they mean where the command was given
            self._work = self._task.open(Silent())
        except OSError as error:
            return f"cannot work in {self._folder} there: {error.strerror}"
        except HolotypeError as error:
            return str(error)
        return ""

    def do(self, block: int) -> str:
        """Do a block; return why that cannot be done, or nothing."""
        try:
            if self._work is None:
                return "its node could not open the task"
            self._work.do([block], Silent())
        except HolotypeError as error:
            return str(error)
        return ""


@dataclass
class _Node:
    """A node with its worker; `blocks` are under way by what Ray calls them, the one that it is at first."""

    name: str
    worker: Any
    opening: Any
    since: float = field(default_factory=time.monotonic)
    blocks: dict[Any, int] = field(default_factory=dict)
    failed: int = 0


class _Driver:
    """Hands out blocks until none is left."""

    def __init__(self, ray: Any, task: Task, work: Blocks, missing: list[int], price: float, progress: Progress):
        self._ray, self._task, self._work = ray, ray.put(task), work
        self._waiting, self._price, self._progress = deque(missing), price, progress
        self._count = sum(map(work.images, missing))
        self._nodes: dict[str, _Node] = {}
        self._left: dict[str, float] = {}  # nodes without a worker, and until when
        self._failed, self._ended = Counter[int](), Counter[int]()
        self._given_up: dict[int, str] = {}
        self._why = "none has a core"
        self._seconds = 0.0  # of nodes that are not there any more
        self._said = self._seen = self._looked = time.monotonic()

    def run(self) -> None:
        """Do all blocks. Raises `HolotypeError`."""
        self._look()
        with self._progress.track("blocks on the cluster", self._count) as advance:
            while self._waiting or any(node.blocks for node in self._nodes.values()):
                self._hand_out()
                for reference in self._wait():
                    if done := self._take(reference):
                        advance(done)
                if time.monotonic() - self._looked > _LOOK:
                    self._look()
        self._say_cost()
        if self._given_up:
            block, why = next(iter(self._given_up.items()))
            raise HolotypeError(
                f"{counted(len(self._given_up), 'block')} could not be done, block {block} as {why}; all others are "
                "done: give the same command again when that is mended"
            )

    def _look(self) -> None:
        """Give each node that came a worker."""
        now = self._looked = time.monotonic()
        for node in self._ray.nodes():
            name, cores = node["NodeID"], node["Resources"].get("CPU", 0)
            if node["Alive"] and cores >= 1 and name not in self._nodes and self._left.get(name, 0) < now:
                self._nodes[name] = self._start(name, cores)
        if self._nodes:
            self._seen = now
        elif now - self._seen > _PATIENCE:
            raise HolotypeError(f"the cluster has no node to go on with: {self._why}; what is finished is kept")
        if now - self._said > _SAID:
            self._say_cost()

    def _start(self, name: str, cores: float) -> _Node:
        """Start the worker of a node, which has all of its cores: encoding keeps them busy."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(name, soft=False)
        kind = self._ray.remote(num_cpus=cores, max_restarts=0, scheduling_strategy=there)(_Worker)
        worker = kind.remote(self._task, str(Path.cwd()))
        return _Node(name, worker, worker.open.remote())

    def _hand_out(self) -> None:
        ready = [node for node in self._nodes.values() if node.opening is None]
        for depth in range(1, _AHEAD + 1):  # all nodes have one before any has two
            for node in ready:
                if self._waiting and len(node.blocks) < depth:
                    block = self._waiting.popleft()
                    node.blocks[node.worker.do.remote(block)] = block

    def _wait(self) -> list[Any]:
        nodes = self._nodes.values()
        references = [node.opening for node in nodes if node.opening is not None]
        references += chain.from_iterable(node.blocks for node in nodes)
        if not references:
            time.sleep(_LOOK)
            return []
        return list(self._ray.wait(references, num_returns=1, timeout=_LOOK)[0])

    def _take(self, reference: Any) -> int:
        """Take what came of a block, or of opening a node's task; return how many images are done more."""
        node = next(one for one in self._nodes.values() if reference is one.opening or reference in one.blocks)
        try:
            why = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # what is no error of ours
            why = str(error).strip().splitlines()[-1]
        except self._ray.exceptions.RayError as error:
            self._lose(node, f"its worker ended ({type(error).__name__})")
            return 0
        if reference is node.opening:
            node.opening = None
            if why:
                self._leave(node, why)
            else:
                self._progress.say(f"node {node.name[:8]} joins")
            return 0
        block = node.blocks.pop(reference)
        if not why:
            node.failed = 0
            return self._work.images(block)
        node.failed += 1
        self._failed[block] += 1
        self._put_back(block, why if self._failed[block] >= _MOST_FAILED else "")
        if node.failed >= _MOST_FAILED:
            self._leave(node, why)
        return 0

    def _put_back(self, block: int, given_up: str = "") -> None:
        if given_up:
            self._given_up[block] = given_up
            self._progress.say(f"block {block:,} is given up: {given_up}")
        else:
            self._waiting.append(block)

    def _lose(self, node: _Node, why: str) -> None:
        """Go on without a worker that ended, alone or with its node: its blocks are done by others."""
        at = next(iter(node.blocks.values()), None)
        if at is not None:
            self._ended[at] += 1
        for block in node.blocks.values():
            self._put_back(block, why if block == at and self._ended[block] >= _MOST_ENDED else "")
        back = counted(len(node.blocks), "block")
        self._drop(node, why, _AWAY, f"{back} of it wait for others")

    def _leave(self, node: _Node, why: str) -> None:
        """Use a node no more on which nothing can be done."""
        self._waiting.extend(node.blocks.values())
        self._drop(node, why, float("inf"), "it gets nothing more to do")

    def _drop(self, node: _Node, why: str, away: float, then: str) -> None:
        self._progress.say(f"node {node.name[:8]}: {why}; {then}")
        self._why = why
        now = time.monotonic()
        self._seconds += now - node.since
        self._left[node.name] = now + away
        del self._nodes[node.name]
        self._ray.kill(node.worker)

    def _say_cost(self) -> None:
        now = self._said = time.monotonic()
        hours = (self._seconds + sum(now - node.since for node in self._nodes.values())) / 3600
        money = f", at {self._price:g} a node and hour {hours * self._price:,.2f}" if self._price else ""
        self._progress.say(f"{counted(len(self._nodes), 'node')}, {hours:,.3f} node-hours so far{money}")
