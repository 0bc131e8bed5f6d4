"""JSON and its schemas: one description of a request both checks it and documents it in `/openapi.json`.

The part of JSON Schema that requests need: type, enum, minimum, maximum, minLength, maxLength, items, minItems,
maxItems, properties, required, additionalProperties, pattern and anyOf.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from tt_core.engine.errors import did_you_mean

Schema = Mapping[str, Any]


class BadRequest(Exception):
    """A request that cannot be answered: the HTTP status, OpenAI's `code`, and the `param` that is wrong."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


def parse(body: bytes) -> Any:
    """The JSON value in a body; raises `BadRequest` for anything else, including NaN and Infinity.

    >>> parse(b'{"n": 1}')
    {'n': 1}
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} is invalid") from None
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {str(error)[:200]}") from None
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


def check(value: object, schema: Schema, path: str = "") -> None:
    """Raise `BadRequest` that names the first part of `value` that `schema` does not allow.

    >>> check({"n": 0}, {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}})
    Traceback (most recent call last):
    tinygpt.server.schema.BadRequest: n is 0, expected 1 or more
    """
    problem = _problem(value, schema)
    if problem is not None:
        raise BadRequest(f"{path or 'the body'} is {short(value)}, expected {problem}", path or None)
    if isinstance(value, dict) and "properties" in schema:
        _check_object(value, schema, path)
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            check(item, schema["items"], f"{path}[{i}]")


def _check_object(value: dict[str, Any], schema: Schema, path: str) -> None:
    known = schema["properties"]
    for name, part in value.items():
        inside = f"{path}.{name}" if path else name
        if name in known:
            check(part, known[name], inside)
        elif schema.get("additionalProperties") is False:
            advice = did_you_mean(name[:60], list(known))
            raise BadRequest(f"unrecognized argument {short(inside)}; {advice}", inside[:100])
    for name in schema.get("required", ()):
        if name not in value:
            raise BadRequest(f"{path or 'the body'} lacks {name}", f"{path}.{name}" if path else name)


def _problem(value: Any, schema: Schema) -> str | None:
    """What was expected in place of a value, without a look at its parts; None if it fits."""
    if "anyOf" in schema:
        return None if any(_fits(value, one) for one in schema["anyOf"]) else str(schema["description"])
    if "enum" in schema and not any(type(value) is type(one) and value == one for one in schema["enum"]):
        return "one of " + ", ".join(json.dumps(one) for one in schema["enum"])
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    if kinds and not any(_is_a(value, kind) for kind in kinds):
        return " or ".join(_NAMES[kind] for kind in kinds)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _out_of_range(value, schema.get("minimum"), schema.get("maximum"), "")
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return f"a text like {schema['pattern']}"
        return _out_of_range(len(value), schema.get("minLength"), schema.get("maxLength"), " characters")
    if isinstance(value, list):
        return _out_of_range(len(value), schema.get("minItems"), schema.get("maxItems"), " entries")
    if isinstance(value, dict):
        return _out_of_range(len(value), schema.get("minProperties"), schema.get("maxProperties"), " entries")
    return None


def _fits(value: Any, schema: Schema) -> bool:
    try:
        check(value, schema)
    except BadRequest:
        return False
    return True


def _out_of_range(number: float, least: float | None, most: float | None, unit: str) -> str | None:
    if least is not None and number < least:
        return f"{least:,}{unit} or more"
    if most is not None and number > most:
        return f"{most:,}{unit} or fewer" if unit else f"{most:,} or less"
    return None


_NAMES = {"integer": "an integer", "number": "a number", "boolean": "true or false", "string": "a string",
          "array": "a list", "object": "an object", "null": "null"}  # fmt: skip


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kinds: dict[str, Any] = {"number": (int, float), "string": str, "array": list, "object": dict, "null": type(None)}
    return isinstance(value, kinds.get(kind, ()))


def short(value: object) -> str:
    """A value as short JSON in ASCII, for an error message.

    >>> short("x" * 100)
    '"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."'
    """
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
    text = json.dumps(value[:40] if isinstance(value, str) else value)
    if len(text) <= 42 and not (isinstance(value, str) and len(value) > 40):
        return text
    return f'{text[:36]}..."' if isinstance(value, str) else f"{text[:36]}..."
