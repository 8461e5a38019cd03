"""What the server answers with: JSON, and errors as sentences."""

import json
import math
import sqlite3
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as NotServed

from holotype.errors import HolotypeError, OutputError, UnreadableImage


class Json(JSONResponse):
    """JSON in ASCII, so that an id that is no Unicode can be sent; what is no number is null."""

    def render(self, content: Any) -> bytes:
        """Return the bytes of `content`."""
        return json.dumps(_finite(content), separators=(",", ":")).encode()


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


def explain_errors(app: FastAPI) -> None:
    """Answer each error of a request with its status and a sentence."""

    def respond(status: int, why: str, headers: Any = None) -> Response:
        return Json({"error": why}, status, headers)

    app.add_exception_handler(NotServed, lambda _, error: respond(error.status_code, error.detail, error.headers))
    app.add_exception_handler(RequestValidationError, lambda _, error: respond(422, first_fault(error.errors())))
    app.add_exception_handler(UnreadableImage, lambda _, error: respond(422, str(error)))
    app.add_exception_handler(HolotypeError, lambda _, error: respond(_status(error), str(error)))


def _status(error: Exception) -> int:
    """503 where the disk, or another program, keeps us from it: the page tries again. 409 for what cannot be."""
    passing = isinstance(error, OutputError) or isinstance(error.__cause__, OSError | sqlite3.Error)
    return 503 if passing else 409


def first_fault(faults: Sequence[Any]) -> str:
    """Say which part of a request is wrong, by pydantic's `faults`; what came in its place is not repeated."""
    where = ".".join(map(str, faults[0]["loc"]))[:80]
    return f"{where}: {faults[0]['msg']}" if where else f"the request: {faults[0]['msg']}"
