"""What the description of the service (OpenAPI) says of all its addresses."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, Field

WHY = {
    400: "The request cannot be understood.",
    401: "The token is missing, or another.",
    403: "A page of another site asks.",
    404: "There is no model of that name.",
    405: "The address has no such method.",
    408: "The request did not come in time.",
    409: "It cannot be done to this run, as it is.",
    413: "More bytes or images than a request may have.",
    421: "Not a name of this server.",
    422: "The request is not what was expected, or no image of it can be read.",
    431: "More headers than a request may have.",
    500: "A fault of the server's, which its log explains.",
    503: "No room now: try again after `Retry-After` seconds.",
    504: "Not answered in the time that a request has.",
}
_ALWAYS = (400, 401, 403, 405, 408, 413, 421, 422, 431, 500, 503)
ModelName = Annotated[str, Path(description="The name of a model.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
RAW = {"type": "string", "format": "binary", "minLength": 1}
FORM_BODY = {
    "type": "object",
    "properties": {"file": {"type": "array", "items": RAW, "minItems": 1}},
    "required": ["file"],
}


class ErrorReply(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="What was expected, what came, and what to do.")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what is said of the errors of an address: those that any may have, and `statuses`."""
    return {status: {"description": WHY[status], "model": ErrorReply} for status in sorted({*_ALWAYS, *statuses})}


def body(content: Mapping[str, dict[str, Any] | type[BaseModel]]) -> dict[str, Any]:
    """Return what is said of the body of a request: a schema, or a model of one, for each content type."""
    schemas = {kind: one if isinstance(one, dict) else schema_of(one) for kind, one in content.items()}
    return {"requestBody": {"required": True, "content": {kind: {"schema": one} for kind, one in schemas.items()}}}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a model with the schemas of its parts within it."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            return whole(parts[name]) if name else {key: whole(one) for key, one in value.items()}
        return [whole(one) for one in value] if isinstance(value, list) else value

    found: dict[str, Any] = whole(schema)
    return found
