"""The description of the server in OpenAPI 3.1, as `/openapi.json` answers it."""

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
    """All paths, what they take, and what they answer."""
    return {
        "openapi": "3.1.0",
        "info": {"title": f"tinygpt serve: {model}", "version": __version__},
        "paths": {
            "/v1/models": {"get": _answered("The served model.", _object("object", "data"))},
            "/v1/models/{name}": {
                "get": {
                    **_answered("The served model.", _MODEL, 404),
                    "parameters": [
                        {"name": "name", "in": "path", "required": True, "example": model, "schema": {"type": "string"}}
                    ],
                }
            },
            "/v1/completions": {"post": _taking(COMPLETION, "Continues a text.", _ANSWER, stream=True)},
            "/v1/chat/completions": {"post": _taking(CHAT, "Continues a conversation.", _ANSWER, stream=True)},
            "/api/attention": {
                "post": _taking(ATTENTION, "What each token attends to.", _object("tokens", "layer", "weights"))
            },
            "/health": {"get": {**_answered("Whether requests are answered.", _object("status"), 503), "security": []}},
            "/metrics": {
                "get": {
                    "summary": "Figures for Prometheus.",
                    "responses": {
                        "200": {"description": "Figures.", "content": {"text/plain": {"schema": {"type": "string"}}}},
                        **_errors(401),
                    },
                }
            },
        },
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}] if with_key else [],
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
