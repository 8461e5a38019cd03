"""The connections to the page's server: how many there are at once, and how long each may keep it waiting."""

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE = 10  # seconds without a whole head of a request, or without reading what was sent
CONNECTIONS = 256  # connections at once; fewer where this process may open few files


def most_connections() -> int:
    """Return how many connections there may be: a quarter of the files that this process may open, and at most 256."""
    import resource

    return max(16, min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))


class Connection(H11Protocol):
    """A connection that is closed when it keeps the server waiting; one too many closes the one that waits longest."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Take the connection, if need be in the place of another."""
        super().connection_made(transport)
        # asyncio does so only where it knows the protocol; else the second part of an answer waits 40 ms for the first
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._start()
        if len(self.connections) > most_connections():
            waiting = [one for one in self.connections if isinstance(one, Connection) and one.since is not None]
            min(waiting, key=lambda one: one.since or 0.0).abort()

    @property
    def since(self) -> float | None:
        """Since when it waits for its client, in seconds of the loop; None while it is the server's turn."""
        return None if self._deadline is None else self._deadline.when() - IDLE

    def data_received(self, data: bytes) -> None:
        """Take what came; while a head is not whole, its time goes on."""
        super().data_received(data)
        if self._is_busy():
            self._stop()

    def on_response_complete(self) -> None:
        """Wait for the next request, or go on with one that has come already."""
        super().on_response_complete()
        if not self._is_busy():
            self._start()

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

    def _start(self) -> None:
        self._stop()
        self._deadline = self.loop.call_later(IDLE, self.abort)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
