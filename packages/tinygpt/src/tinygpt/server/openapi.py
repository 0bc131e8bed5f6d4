"""The description of the server in OpenAPI 3.1, which `/openapi.json` returns."""

from __future__ import annotations

from typing import Any

from tinygpt import __version__
from tinygpt.server.attention import ATTENTION
from tinygpt.server.requests import CHAT, COMPLETION

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ANSWER = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices", "usage"],
    "properties": {"choices": {"type": "array", "items": {"type": "object", "required": ["index", "finish_reason"]}}},
}
_MODEL = {"type": "object", "required": ["id", "object", "created", "owned_by"]}


def description(model: str, with_key: bool) -> dict[str, Any]:
    """All paths with their requests and responses."""
    return {
        "openapi": "3.1.0",
        "info": {"title": f"tinygpt serve: {model}", "version": __version__},
        "paths": _paths(model),
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}] if with_key else [],
    }


def _paths(model: str) -> dict[str, Any]:
    name = {"name": "name", "in": "path", "required": True, "example": model, "schema": {"type": "string"}}
    text = {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    attention = _taking(ATTENTION, "Attention weights of a text.", _object("tokens", "layer", "weights"))
    health = _answered("Whether the engine is running.", _object("status"), 503)
    return {
        "/v1/models": {"get": _answered("The served model.", _object("object", "data"))},
        "/v1/models/{name}": {"get": {**_answered("The served model.", _MODEL, 404), "parameters": [name]}},
        "/v1/completions": {"post": _taking(COMPLETION, "Continues a text.", _ANSWER, stream=True)},
        "/v1/chat/completions": {"post": _taking(CHAT, "Continues a conversation.", _ANSWER, stream=True)},
        "/api/attention": {"post": attention},
        "/health": {"get": {**health, "security": []}},
        "/metrics": {"get": {"summary": "Metrics for Prometheus.", "responses": {"200": text, **_errors(401)}}},
    }


def _object(*names: str) -> dict[str, Any]:
    return {"type": "object", "required": list(names)}


def _answered(summary: str, schema: Any, *statuses: int) -> dict[str, Any]:
    good = {"description": summary, "content": {"application/json": {"schema": schema}}}
    return {"summary": summary, "responses": {"200": good, **_errors(401, *statuses)}}


def _taking(body: Any, summary: str, answer: Any, stream: bool = False) -> dict[str, Any]:
    found = _answered(summary, answer, 400, 404, 408, 413, 415, 429, 500, 503)
    if stream:
        found["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return {**found, "requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}


def _errors(*statuses: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": "An error.", "content": content} for status in statuses}
