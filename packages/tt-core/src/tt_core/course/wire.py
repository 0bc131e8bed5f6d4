"""Messages between the judge and the child process that runs a learner's code: JSON, with arrays as raw bytes.

A message is 8 bytes of length, 4 bytes of the header's length, the header as JSON, then the bytes of its arrays. What
arrives comes from a process that runs unknown code, so lengths, dtypes and shapes are checked first.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any, BinaryIO

import numpy as np

LARGEST = 64 << 20
"""Bytes that one message may have."""
DTYPES = frozenset(("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"))


class BadMessage(Exception):
    """Bytes that are not a message."""


def send(channel: BinaryIO, message: dict[str, Any]) -> None:
    """Write one message."""
    arrays: list[bytes] = []
    header = json.dumps(_packed(message, arrays)).encode()
    body = b"".join((struct.pack("<I", len(header)), header, *arrays))
    channel.write(struct.pack("<Q", len(body)) + body)
    channel.flush()


def _packed(value: Any, arrays: list[bytes]) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.name not in DTYPES:
            return {"text": f"<array of {value.dtype}>"}
        arrays.append(np.ascontiguousarray(value).tobytes())
        return {"array": value.dtype.name, "shape": value.shape}
    if isinstance(value, list | tuple):
        return [_packed(part, arrays) for part in value]
    if isinstance(value, dict):
        return {"dict": {key: _packed(part, arrays) for key, part in value.items()}}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def receive(data: bytes) -> dict[str, Any]:
    """A message out of its body, without the first 8 bytes; raises `BadMessage`.

    >>> import io
    >>> channel = io.BytesIO()
    >>> send(channel, {"value": [np.arange(2), 1.5, None]})
    >>> receive(channel.getvalue()[8:])
    {'value': [array([0, 1]), 1.5, None]}
    """
    try:
        (size,) = struct.unpack_from("<I", data)
        header = json.loads(data[4 : 4 + size])
        rest = [4 + size]
        message = _unpacked(header, data, rest)
    except (ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise BadMessage(str(error)) from None
    if not isinstance(message, dict) or rest[0] != len(data):
        raise BadMessage("a message of another form")
    return message


def _unpacked(value: Any, data: bytes, rest: list[int]) -> Any:
    if isinstance(value, list):
        return [_unpacked(part, data, rest) for part in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {str(key): _unpacked(part, data, rest) for key, part in value["dict"].items()}
    if "float" in value:
        return float(value["float"])
    if "text" in value:
        return str(value["text"])
    if value["array"] not in DTYPES:
        raise BadMessage(f"dtype {value['array']}")
    dtype, shape = np.dtype(value["array"]), tuple(int(length) for length in value["shape"])
    count = math.prod(shape)
    if min(shape, default=0) < 0 or rest[0] + count * dtype.itemsize > len(data):
        raise BadMessage(f"shape {shape}")
    array = np.frombuffer(data, dtype, count, rest[0]).reshape(shape)
    rest[0] += count * dtype.itemsize
    return array
