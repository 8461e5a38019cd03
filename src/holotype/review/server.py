"""The server of `holotype review`, which only this machine can reach."""

import socket
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from holotype.errors import OutputError
from holotype.review.access import Access
from holotype.review.app import create_app
from holotype.review.review import Review
from holotype.web.connections import Connection, most_connections

TURN = 0.0005  # seconds that a thread may compute while another one waits


def serve(
    review: Review,
    *,
    port: int = 0,
    who: str = "",
    open_browser: bool = False,
    say: Callable[[str], object] = print,
) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C; at `port`, or at one that is free. Raises `OutputError`."""
    with closing(_listen(port)) as listener, _short_turns():
        app = create_app(review, port=listener.getsockname()[1], who=who)
        access: Access = app.state.access
        say(f"review at {access.address} (Ctrl-C ends it; what was answered is kept)")
        if open_browser:
            webbrowser.open(access.address_once())
        with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has closed what was open
            make_server(app).run(sockets=[listener])
    applying = app.state.session.applying
    if applying.state == "running":
        say("the answers are still being applied; Ctrl-C again stops that as well")
        applying.wait()


def make_server(app: FastAPI) -> uvicorn.Server:
    """Return what runs `app`. Only errors of ours are printed: whoever reaches the port could fill a log with his."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http=Connection,
            ws="none",
            backlog=most_connections(),  # so many are taken at a time, before the first of them is heard
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=10,
        )
    )


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let threads that compute give way to those that answer ten times as often as Python does on its own."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise OutputError(
            f"cannot serve the page at 127.0.0.1:{port}: {error.strerror or error}; choose another --port"
        ) from error
