"""Clients of a service: as many as are asked for, or as many requests a second, over connections that are kept."""

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Seen:
    """What the clients saw: seconds of each answer that was given, and how many had which status.

    broken    connections that ended before an answer
    wall      seconds of the load
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    wall: float = 0.0

    @property
    def rate(self) -> float:
        """Images that were answered a second."""
        return self.statuses[200] / self.wall

    def quantile(self, share: float) -> float:
        """Milliseconds in which that share was answered."""
        return float(np.quantile(self.seconds, share)) * 1000 if self.seconds else float("nan")


class Connection:
    """One connection, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        """Send a request and return the status of its answer. Raises `OSError` where there is none."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        try:
            writer.write(request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise ConnectionError from error
        if b"connection: close" in head:
            self.close()
        return int(head.split(None, 2)[1])

    def close(self) -> None:
        """Close it."""
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None


def requests(path: str, images: Sequence[bytes], *, in_json: bool = False) -> list[bytes]:
    """Return a request for each image: as its body, or `in_json`, in base64."""
    kind = "application/json" if in_json else "image/jpeg"
    bodies = [b'{"image": "%s"}' % base64.b64encode(one) if in_json else one for one in images]
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: "
    return [f"{head}{len(one)}\r\n\r\n".encode() + one for one in bodies]


async def closed_loop(port: int, given: Sequence[bytes], clients: int, seconds: float) -> Seen:
    """Have so many clients ask without a pause. What is refused is asked again a tenth of a second later."""
    seen, began = Seen(), time.perf_counter()

    async def client(number: int) -> None:
        connection, place = Connection(port), number * 7919
        while time.perf_counter() - began < seconds:
            place += 1
            start = time.perf_counter()
            try:
                status = await connection.ask(given[place % len(given)])
            except OSError:
                seen.broken += 1
                await asyncio.sleep(0.1)
                continue
            seen.statuses[status] += 1
            if status == 200:
                seen.seconds.append(time.perf_counter() - start)
            else:
                await asyncio.sleep(0.1)
        connection.close()

    await asyncio.gather(*map(client, range(clients)))
    seen.wall = time.perf_counter() - began
    return seen


async def open_loop(port: int, given: Sequence[bytes], rate: float, seconds: float) -> Seen:
    """Send `rate` requests a second, however long answers take: who waits does not keep others from asking."""
    seen, began = Seen(), time.perf_counter()
    idle: list[Connection] = []
    waits = np.random.default_rng(0).exponential(1 / rate, int(rate * seconds))

    async def ask(number: int, due: float) -> None:
        connection = idle.pop() if idle else Connection(port)
        with suppress(OSError):
            status = await connection.ask(given[number % len(given)])
            seen.statuses[status] += 1
            seen.seconds.append(time.perf_counter() - due)
        idle.append(connection)

    tasks = []
    due = began
    for number, wait in enumerate(waits):
        due += wait
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(number, due)))
    await asyncio.gather(*tasks)
    seen.wall = time.perf_counter() - began
    for connection in idle:
        connection.close()
    return seen
