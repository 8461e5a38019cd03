"""The server of `holotype review`, which only this machine can reach."""

import webbrowser
from collections.abc import Callable
from contextlib import closing, suppress

import uvicorn
from fastapi import FastAPI

from holotype.review.access import Access
from holotype.review.app import create_app
from holotype.review.review import Review
from holotype.web.connections import Connection, most_connections
from holotype.web.listening import listen, short_turns


def serve(
    review: Review,
    *,
    port: int = 0,
    who: str = "",
    open_browser: bool = False,
    say: Callable[[str], object] = print,
) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C; at `port`, or at one that is free. Raises `OutputError`."""
    with closing(listen("127.0.0.1", port, "the page")) as listener, short_turns():
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
