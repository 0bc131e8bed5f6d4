"""Part of module 10, tokenization: reading and writing text and JSON files; errors are one line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tt_core.engine import files
from tt_core.engine.arguments import checked
from tt_core.engine.errors import FileError
from tt_language.errors import TokenizerError

PathLike = str | os.PathLike[str]
BYTE_ORDER_MARK = "\ufeff"
"""Some editors put it at the start of a file."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@checked
def read_text(path: PathLike) -> str:
    """The text of a UTF-8 file, with its line ends; raises `TokenizerError` that names the first invalid byte.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_bytes(b"caf\\xe9")
    >>> read_text(path)
    Traceback (most recent call last):
    ...
    tt_language.errors.TokenizerError: ...a.txt is not UTF-8: byte 0xe9 at offset 3; convert the file to
    UTF-8 first
    """
    try:
        data = Path(path).read_bytes()
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise TokenizerError(f"{path} is not UTF-8: {where}; convert the file to UTF-8 first") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"cannot read {path}: {reason}") from None


def read_json(path: PathLike) -> dict[str, Any]:
    """The JSON object in a file; raises `TokenizerError` for any other content."""
    text = read_text(path).removeprefix(BYTE_ORDER_MARK)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise TokenizerError(f"{path} is not JSON: {error.msg} in line {error.lineno}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or thousands of open brackets
        raise TokenizerError(
            f"{path} is not JSON that can be read: a number is too long or the nesting too deep"
        ) from None
    if "\\ud" in text.lower() and _SURROGATE.search(json.dumps(data, ensure_ascii=False)):
        raise TokenizerError(f"{path} escapes half of a surrogate pair, which is no character")
    if not isinstance(data, dict):
        raise TokenizerError(f"{path} holds a JSON {type(data).__name__}, expected an object")
    return data


def write_json(path: PathLike, data: Mapping[str, Any]) -> None:
    """Write a JSON object whose text is kept readable, whole or not at all."""
    files.write_json(path, data, ensure_ascii=False)
