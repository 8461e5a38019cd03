"""The server of `holotype serve`: one process, until it is told to stop."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from ipaddress import ip_address

import uvicorn

from holotype.encoders.runtimes import in_place
from holotype.errors import HolotypeError
from holotype.pool.limits import limits
from holotype.serve.app import create_app
from holotype.serve.guard import JsonLines, name_in
from holotype.serve.models import ServedModels
from holotype.serve.service import Service
from holotype.settings import ServeSettings
from holotype.web.connections import FastConnection, most_connections
from holotype.web.listening import listen, short_turns

_LOGGED = {"holotype.serve": logging.INFO, "uvicorn.error": logging.ERROR}


def serve_models(
    models: Sequence[str], settings: ServeSettings | None = None, *, say: Callable[[str], object] = print
) -> None:
    """Serve saved models until Ctrl-C, or a signal to end: what was accepted is answered.

    models   paths of models or of runs, or NAME=PATH

    Raises `ModelError` where one cannot be loaded, `OutputError` where the address is taken, `HolotypeError` where
    others than this machine could ask without a token, or what is to learn is no run.
    """
    settings = settings or ServeSettings()
    check_access(settings)
    limits()
    with (
        closing(listen(settings.host, settings.port, "the models")) as listener,
        short_turns(),
        in_place(),
        _log_lines(),
    ):
        served = ServedModels(models)
        port = listener.getsockname()[1]
        service = Service(served, settings)
        app = create_app(service)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        names = ", ".join(one.name for one in served)
        where = "every address of this machine, port " if host in ("0.0.0.0", "[::]") else f"http://{host}:"  # noqa: S104
        say(f"serving {names} at {where}{port} (/docs says how to ask; Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has closed what was open
            make_server(app, settings).run(sockets=[listener])
    if service.learning is not None and service.learning.applying.state == "running":
        say("the answers are still being applied; Ctrl-C again stops that as well")
        service.learning.applying.wait()
        service.learning.close()


def check_access(settings: ServeSettings) -> None:
    """Raise `HolotypeError` where others than this machine could ask without a token, or what is allowed is no name."""
    if wrong := [name for name in settings.allowed_hosts if not name_in(name)]:
        raise HolotypeError(f"expected a name as --allowed-host, as in models.example, got {wrong[0]!r}")
    if settings.token or settings.insecure or _is_loopback(settings.host):
        return
    raise HolotypeError(
        f"{settings.host} can be reached from other machines: give a token (--token, or $HOLOTYPE_TOKEN), or "
        "--insecure where everybody who reaches it may ask"
    )


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def make_server(app: object, settings: ServeSettings) -> uvicorn.Server:
    """Return what runs `app`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type] # an application of ASGI
            loop="asyncio",
            http=FastConnection,
            ws="none",
            backlog=most_connections(FastConnection.most),
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=FastConnection.rest,
            timeout_graceful_shutdown=round(settings.seconds) + 5,
        )
    )


@contextmanager
def _log_lines() -> Iterator[None]:
    """Log to stderr, a line of JSON each: requests, models that were taken or refused, faults."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in _LOGGED.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    try:
        yield
    finally:
        for name in _LOGGED:
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [], True
            logger.setLevel(logging.NOTSET)
