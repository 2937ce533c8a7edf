"""The OpenAPI description, made from the routes so that it cannot differ from them."""

from __future__ import annotations

from typing import Any

from masklet import __version__
from masklet.server.api_fields import TYPES
from masklet.server.api_routes import ROUTES

__all__ = ["describe_api"]

ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "status": {"type": "integer"},
                "kind": {"type": "string"},
                "message": {"type": "string", "description": "The value, the rule and the remedy."},
            },
        }
    },
}
SOCKET = (
    "A WebSocket. Requests are JSON text, or binary: the length of the header (4 bytes, big endian), a JSON header and "
    "a payload. Types: hover, predict, prompt, everything (fields as of the routes of these names), track (source, "
    "objects, start, stop, bidirectional), cancel (request), ack (seq). Each has an `id`, which answers repeat as "
    "`request`."
)


def describe_api() -> dict[str, Any]:
    """Return the description of all routes as OpenAPI 3.1.

    Example:
        >>> describe_api()["openapi"]
        '3.1.0'
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        name = f"{route.method.lower()}_{route.handler.__name__}"
        operation: dict[str, Any] = {"operationId": name, "summary": route.about, "description": route.handler.__doc__}
        operation["parameters"] = [
            {"name": key, "in": where, "required": one.required, "description": one.about, "schema": TYPES[one.type][1]}
            for where, fields in (("path", route.path_fields), ("query", route.query))
            for key, one in fields.items()
        ]
        if route.binary:
            content: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
            operation["requestBody"] = {"required": True, "content": content}
        elif route.body:
            schema = {
                "type": "object",
                "properties": {
                    key: {**TYPES[one.type][1], "description": one.about} for key, one in route.body.items()
                },
                "required": [key for key, one in route.body.items() if one.required],
                "additionalProperties": False,
            }
            operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        operation["responses"] = {
            "200": {"description": "Done"},
            "default": {"description": "Refused", "content": {"application/json": {"schema": ERROR}}},
        }
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    paths["/api/openapi.json"] = {"get": {"summary": "This description", "responses": {"200": {"description": "Done"}}}}
    paths["/api/sessions/{session}/socket"] = {"description": SOCKET}
    return {
        "openapi": "3.1.0",
        "info": {"title": "masklet", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }
