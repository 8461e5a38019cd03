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
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.datastructures import Headers

from holotype.serve.batching import Failed, QueueFull, TooLate
from holotype.serve.documented import errors
from holotype.serve.guard import OPEN, STATIC, ServiceGuard
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


def create_app(service: Service) -> FastAPI:
    """Return the application of `service`."""

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
    app.add_middleware(ServiceGuard, service=service)
    explain_errors(app)
    _explain_queue(app)
    _explain_addresses(app)
    for protocol in (own, hugging_face, open_inference, label_studio):
        app.include_router(protocol.router(service))
    _add_operation(app, service)
    _add_docs(app)
    if service.settings.token:
        _describe_token(app)
    return app


def _describe_token(app: FastAPI) -> None:
    """Say in the description which addresses need the token, and how it is sent."""
    schema = app.openapi()  # which is kept
    schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"token": []}]
    for path in OPEN & schema["paths"].keys():
        schema["paths"][path]["get"]["security"] = []


def _explain_addresses(app: FastAPI) -> None:
    """Say where the list of all addresses is, and in `Allow` every method of one, whichever protocols it is of."""

    def nowhere(_: Any, error: Any) -> Response:
        unknown = "there is nothing at this address: /docs, and /openapi.json, say what is asked where"
        return Json({"error": unknown if error.detail == "Not Found" else error.detail}, 404)

    def other(request: Request, error: Any) -> Response:
        known = app.openapi()["paths"].get(getattr(request.scope.get("route"), "path", ""), {})
        methods = {method.upper() for method in known} or {*Headers(error.headers).get("allow", "GET").split(", ")}
        allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
        return Json({"error": f"expected {allowed}"}, 405, {"allow": allowed})

    app.add_exception_handler(404, nowhere)
    app.add_exception_handler(405, other)


def _explain_queue(app: FastAPI) -> None:
    """Answer what cannot be done now with a status by which clients try again."""

    def full(_: Any, error: Any) -> Response:
        return Json({"error": str(error)}, 503, {"retry-after": str(error.seconds)})

    app.add_exception_handler(QueueFull, full)
    app.add_exception_handler(TooLate, lambda _, error: Json({"error": str(error)}, 504))
    app.add_exception_handler(Failed, lambda _, error: Json({"error": str(error)}, 500))


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether the service answers", tags=["Operation"], response_model=Health)
    async def health() -> Response:
        return Json({"status": "UP"}) if service.ready else Json({"status": "DOWN"}, 503)

    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get(
        "/metrics",
        summary="Figures for Prometheus",
        tags=["Operation"],
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

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

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
