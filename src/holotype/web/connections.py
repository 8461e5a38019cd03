"""The connections to a server: how many there are at once, and how long each may keep it waiting."""

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holotype.web.messages import HEAD

if TYPE_CHECKING:
    _Protocol = H11Protocol  # the other one has the same methods
else:
    _Protocol = object

IDLE = 10  # seconds without a whole head of a request, or without reading what was sent
CONNECTIONS = 256  # connections at once; fewer where this process may open few files


def most_connections(most: int = CONNECTIONS) -> int:
    """Return how many connections there may be: a quarter of the files that this process may open, at most `most`."""
    import resource

    return max(16, min(most, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))


class Deadlines(_Protocol):
    """Closes a connection that keeps the server waiting; one too many closes the one that waits longest.

    most   connections at once
    rest   seconds that one may be quiet between two requests; None: as long as anywhere else
    """

    most = CONNECTIONS
    rest: float | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._resting, self._head = False, 0
        self.since: float | None = None  # when it began to wait for its client; None while it is the server's turn

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Take the connection, if need be in the place of another."""
        super().connection_made(transport)
        # asyncio does so only where it knows the protocol; else the second part of an answer waits 40 ms for the first
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._start()
        if len(self.connections) > most_connections(self.most):
            waiting = [one for one in self.connections if isinstance(one, Deadlines) and one.since is not None]
            min(waiting, key=lambda one: one.since or 0.0).abort()

    def data_received(self, data: bytes) -> None:
        """Take what came; while a head is not whole, its time goes on."""
        super().data_received(data)
        if self._is_busy():
            self._stop()
            self._head = 0
            return
        self._head += len(data)
        if self._head > 2 * HEAD:  # no parser of its own counts them
            self.abort()
        elif self._resting:
            self._start()

    def on_response_complete(self) -> None:
        """Wait for the next request, or go on with one that has come already."""
        super().on_response_complete()
        if not self._is_busy():
            self._start(resting=True)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._start()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        super().resume_writing()
        if self._is_busy():
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close the connection at once; what was not read yet is dropped."""
        self._stop()
        self.connections.discard(self)
        self.transport.abort()

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start(self, *, resting: bool = False) -> None:
        self._stop()
        self._resting, self.since = resting, self.loop.time()
        self._deadline = self.loop.call_later((resting and self.rest) or IDLE, self.abort)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.since = None


class Connection(Deadlines, H11Protocol):
    """A connection whose parser is strict about everything, for a page."""


class FastConnection(Deadlines, HttpToolsProtocol):  # type: ignore[misc] # only one of the two parsers is there
    """A connection whose parser takes a third of the time, for a service; it may rest between two requests."""

    most = 1024
    rest = 75

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Take the connection; the head of an answer and its body leave together."""
        super().connection_made(cast("asyncio.Transport", _Gathering(transport, self.loop)))


class _Gathering:
    """A transport that sends what is written in one turn of the loop at once: each send is a call of the system."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data` with what else is written before the loop goes on."""
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)

    def close(self) -> None:
        """Close when all that was written is sent."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._parts and not self._transport.is_closing():
            self._transport.write(b"".join(self._parts))
        self._parts.clear()
