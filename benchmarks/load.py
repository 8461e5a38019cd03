"""Many reviewers at once: a server of `holotype review` under load, and what it keeps when it is killed.

Each client does as a page does: it asks for questions, looks at the picture of each, answers, lets the ranking learn
and asks how the class stands, over one connection and without a pause. The process is ended with SIGKILL in the midst
of it. Then every answer that was acknowledged must be in `answers.db`, once.
"""

import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import numpy as np

from holotype.answers.log import AnswerLog
from holotype.answers.records import Answer

CLIENTS, SECONDS, KILLS = 50, 60, 10
QUESTIONS = 10  # that a client asks for at once
PATIENCE = 60  # seconds that one answer of the server may take


@dataclass
class Load:
    """What the clients saw. `seconds`: how long each answer took to be acknowledged; `errors`: by status.

    cpu   seconds that the server computed, from its start on; all that it does for an answer shares in it
    """

    seconds: list[float] = field(default_factory=list)
    acknowledged: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    wall: float = 0.0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Acknowledged answers a second."""
        return len(self.seconds) / self.wall

    def quantile(self, share: float) -> float:
        """Seconds in which that share of the answers was acknowledged."""
        return float(np.quantile(self.seconds, share))

    def lost(self, out: Path) -> int:
        """Return how many acknowledged answers are not in the log of `out` exactly once, as they were given."""
        with AnswerLog(out / "answers.db") as log:
            recorded = [one for one in log.history() if isinstance(one, Answer)]
        count = Counter(one.act for one in recorded)
        kept = {one.act: (one.id, one.label, one.verdict) for one in recorded}
        twice = sum(1 for act in count if count[act] > 1)
        return twice + sum(1 for act, given in self.acknowledged.items() if kept.get(act) != given)


def start(out: Path) -> tuple["subprocess.Popen[str]", str]:
    """Start `holotype review`; return it and the address that it prints."""
    command = [str(Path(sys.executable).parent / "holotype"), "review", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, next(word for word in process.stdout.readline().split() if word.startswith("http"))


class Connection:
    """One connection that is kept open, with as little of HTTP as the load needs."""

    def __init__(self, address: str) -> None:
        origin, _, query = address.partition("/?token=")
        self._origin, self._port = origin, int(origin.rpartition(":")[2])
        self._head = f"Host: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {query}\r\n"

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        """Close it."""
        self._writer.close()

    async def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and the content of `path`."""
        return await self._ask(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())

    async def post(self, path: str, body: object) -> tuple[int, bytes]:
        """Send `body` as the page does; return the status and the content."""
        content = json.dumps(body).encode()
        kind = f"Origin: {self._origin}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        return await self._ask(f"POST {path} HTTP/1.1\r\n{self._head}{kind}\r\n".encode() + content)

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE):
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            return int(head[9:12]), await self._reader.readexactly(length)


async def _client(number: int, address: str, classes: Sequence[str], until: float, load: Load) -> None:
    connection = Connection(address)
    await connection.open()
    nonce = json.loads((await connection.get("/api/version"))[1])["nonce"]
    try:
        while time.perf_counter() < until:
            label = classes[number % len(classes)]
            number += 1
            await _sitting(connection, label, nonce, until, load)
    except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError) as error:
        load.errors[type(error).__name__] += 1
    finally:
        connection.close()


async def _sitting(connection: Connection, label: str, nonce: str, until: float, load: Load) -> None:
    """Questions about a class, and an answer to each."""
    questions = await _questions(connection, label)
    for one in questions:
        if time.perf_counter() > until:
            return
        status, _ = await connection.get(f"/image/{one['row']}/thumb?v={nonce}")
        act, verdict = str(uuid4()), "yes" if one["score"] > 0.5 else "no"
        answer = {"row": one["row"], "label": label, "verdict": verdict}
        started = time.perf_counter()
        status, _ = await connection.post("/api/answers", {"act": act, "answers": [answer]})
        if status == 200:
            load.seconds.append(time.perf_counter() - started)
            load.acknowledged[act] = (one["id"], label, verdict)
        else:
            load.errors[str(status)] += 1
    await connection.post("/api/refit", {})
    await connection.get(f"/api/state?label={quote(label)}")


async def _questions(connection: Connection, label: str) -> list[dict[str, Any]]:
    """The next questions; where all was asked, images that are answered again."""
    status, content = await connection.get(f"/api/questions?label={quote(label)}&n={QUESTIONS}")
    questions: list[dict[str, Any]] = json.loads(content)["questions"] if status == 200 else []
    if not questions:
        some = f"&start={random.randrange(100)}&count={QUESTIONS}"
        _, content = await connection.get(f"/api/gallery?label={quote(label)}&part=found{some}")
        questions = [one | {"score": 1.0} for one in json.loads(content)["items"]]
    return questions


async def _clients(address: str, classes: Sequence[str], count: int, seconds: float) -> Load:
    load, began = Load(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(_client(number, address, classes, began + seconds, load))
    load.wall = time.perf_counter() - began
    return load


def run_load(out: Path, classes: Sequence[str], clients: int, seconds: float, kill_after: float | None = None) -> Load:
    """Put `clients` on a server of the run in `out`, and return what they saw.

    kill_after   seconds until the server is killed; without it, it is ended when the clients are done
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process, address = start(out)

    async def loaded() -> Load:
        if kill_after is not None:
            asyncio.get_running_loop().call_later(kill_after, os.kill, process.pid, signal.SIGKILL)
        return await _clients(address, classes, clients, seconds)

    with process:
        try:
            load = asyncio.run(loaded())
        finally:
            process.kill()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    load.cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return load


def table(out: Path, classes: Sequence[str]) -> Iterator[str]:
    """Yield, as Markdown, what the full load and the kills lead to."""
    yield "| load | answers | a second | p50 | p99 | CPU an answer | errors | lost |"
    yield "|---|---|---|---|---|---|---|---|"
    load = run_load(out, classes, CLIENTS, SECONDS)
    times = f"{load.quantile(0.5) * 1000:.0f} ms | {load.quantile(0.99) * 1000:.0f} ms"
    times = f"{times} | {load.cpu / len(load.seconds) * 1000:.1f} ms"
    errors = ", ".join(f"{count} x {name}" for name, count in load.errors.items()) or "0"
    count = len(load.seconds)
    yield f"| {CLIENTS} clients, {SECONDS} s | {count:,} | {load.rate:.0f} | {times} | {errors} | {load.lost(out)} |"
    killed = [run_load(out, classes, CLIENTS, SECONDS, random.uniform(0.5, 4)) for _ in range(KILLS)]
    count, lost = sum(len(one.seconds) for one in killed), sum(one.lost(out) for one in killed)
    yield f"| {CLIENTS} clients, killed {KILLS} times after .5 to 4 s | {count:,} | | | | | | {lost} |"
