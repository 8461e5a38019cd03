"""What the service answers, and where each request goes."""

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files as resources
from typing import Any

from anyio.to_thread import run_sync
from fastapi import FastAPI, HTTPException, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from holotype.serve.batching import Failed, QueueFull, TooLate
from holotype.serve.documented import errors
from holotype.serve.guard import STATIC, ServiceGuard
from holotype.serve.protocols import hugging_face, label_studio, open_inference, own
from holotype.serve.service import Service
from holotype.web.responses import Json, explain_errors

DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


class Health(BaseModel):
    """Whether the service answers."""

    status: str


def create_app(service: Service, *, port: int) -> FastAPI:
    """Return the application of `service`, for a server at `port`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await run_sync(service.stop)

    app = FastAPI(
        title="holotype",
        description="Which of a few classes an image shows, or none.",
        version=version("holotype"),
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
        redirect_slashes=False,
        lifespan=lifespan,
        openapi_url="/openapi.json",
    )
    app.add_middleware(ServiceGuard, service=service, port=port)
    explain_errors(app)
    _explain_queue(app)
    _name_methods(app)
    for protocol in (own, hugging_face, open_inference, label_studio):
        app.include_router(protocol.router(service))
    _add_operation(app, service)
    _add_docs(app)
    return app


def _name_methods(app: FastAPI) -> None:
    """Say in `Allow` every method of an address, whichever protocols it is of."""

    def other(request: Request, error: Any) -> Response:
        known = app.openapi()["paths"].get(getattr(request.scope.get("route"), "path", ""), {})
        allowed = ", ".join(sorted(map(str.upper, known))) or error.headers["allow"]
        return Json({"error": f"expected {allowed}"}, 405, {"allow": allowed})

    app.add_exception_handler(405, other)


def _explain_queue(app: FastAPI) -> None:
    """Answer what cannot be done now with a status by which clients try again."""

    def full(_: Any, error: Any) -> Response:
        return Json({"error": str(error)}, 503, {"retry-after": str(error.seconds)})

    app.add_exception_handler(QueueFull, full)
    app.add_exception_handler(TooLate, lambda _, error: Json({"error": str(error)}, 504))
    app.add_exception_handler(Failed, lambda _, error: Json({"error": str(error)}, 500))


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether the service answers", tags=["operation"], response_model=Health)
    async def health() -> Response:
        return Json({"status": "UP"} if service.ready else {"status": "STOPPING"}, 200 if service.ready else 503)

    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get(
        "/metrics",
        summary="Figures for Prometheus",
        tags=["operation"],
        response_class=PlainTextResponse,
        responses=errors() | text,
    )
    async def metrics() -> Response:
        content = await run_sync(service.metrics.render, list(service.models))
        return Response(content, media_type=CONTENT_TYPE_LATEST)


def _add_docs(app: FastAPI) -> None:
    here = resources("fastapi_offline") / "static"
    content = {name: (here / name).read_bytes() for name in _FILES}
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="holotype",
        swagger_js_url=f"{STATIC}swagger-ui-bundle.js",
        swagger_css_url=f"{STATIC}swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    policy = DOCS_POLICY.format(digest=_digest_of_script(bytes(page.body)))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(page.body, media_type="text/html", headers={"content-security-policy": policy})

    @app.get(STATIC + "{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in content:
            raise HTTPException(404, "there is no such file")
        return Response(content[name], media_type=_FILES[name], headers={"cache-control": "max-age=86400"})


def _digest_of_script(page: bytes) -> str:
    """Return the SHA-256, in base64, of the one script that stands in `page`: it alone may run there."""
    script = page.partition(b"<script>")[2].partition(b"</script>")[0]
    return base64.b64encode(hashlib.sha256(script).digest()).decode()
