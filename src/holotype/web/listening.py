"""Where a server listens, and how its threads take turns."""

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from holotype.errors import OutputError

TURN = 0.0005  # seconds that a thread may compute while another one waits


@contextmanager
def short_turns() -> Iterator[None]:
    """Let threads that compute give way to those that answer ten times as often as Python does on its own."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def listen(host: str, port: int, what: str) -> socket.socket:
    """Return what listens at `host`, at `port` or at one that is free (0). Raises `OutputError`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", "") or str(error)
        unknown = isinstance(error, socket.gaierror | UnicodeError) or error.errno == errno.EADDRNOTAVAIL
        other = "--host" if unknown else "--port"
        raise OutputError(f"cannot serve {what} at {host}:{port}: {why}; choose another {other}") from error
