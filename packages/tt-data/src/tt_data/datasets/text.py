"""Text as a dataset for predicting the next symbol, read from the file as it is needed.

Beside module 08, dataloader. It has no tokenizer (that is Act IV): symbols are bytes, or the integers that `encode`
makes of the text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, DTypeError, FileError
from tt_data.dataloader.dataset import Dataset
from tt_data.dataloader.indices import Indices
from tt_data.datasets.download import Remote, obtain
from tt_data.datasets.reading import reading

TINY_SHAKESPEARE = Remote(
    "input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
)


class Text(Dataset):
    """Windows of `block_size` symbols of a text file; the target of each is the window shifted by one symbol.

    A sample is (x, y), both int64 of shape (block_size,). Windows begin every `stride` symbols, by default without
    overlap. Without `encode` a symbol is a byte, and the file is mapped, not loaded. With it, the text is read as
    UTF-8, and `encode(text)` returns integers. Without `path`, the text is the tiny Shakespeare corpus (Karpathy 2015)
    in `root/tinyshakespeare/`, downloaded if `download`.

    Raises `FileError` for a file that is missing, not UTF-8, shorter than one window and its target, or truncated while
    in use; `DTypeError` if `encode` does not return integers.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_bytes(b"abcdefg")
    >>> Text(path, block_size=3)[1]
    (array([100, 101, 102]), array([101, 102, 103]))
    """

    @checked
    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        block_size: int = 64,
        encode: Callable[[str], Sequence[int]] | None = None,
        stride: int | None = None,
        root: str | os.PathLike[str] | None = None,
        download: bool = True,
    ) -> None:
        self.block_size, self.stride = block_size, block_size if stride is None else stride
        if min(self.block_size, self.stride) < 1:
            raise ArgumentError(f"Text: block_size and stride must be >= 1, got {block_size} and {stride}")
        if path is None:
            path = obtain("tinyshakespeare", [TINY_SHAKESPEARE], root, download) / TINY_SHAKESPEARE.name
        self.path = Path(path)
        self._symbols = _map_bytes(self.path) if encode is None else _encoded(encode, self.path)
        self._mapped = encode is None
        if len(self._symbols) <= block_size:
            raise FileError(
                f"{self.path}: has {len(self._symbols)} symbols, a window of {block_size} and its target "
                f"need {block_size + 1}; give a longer text or a smaller block_size"
            )

    def __len__(self) -> int:
        return (len(self._symbols) - self.block_size - 1) // self.stride + 1

    def __getitems__(self, indices: Indices) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        if self._mapped and os.stat(self.path).st_size < len(self._symbols):  # reading the map would kill the process
            raise FileError(f"{self.path}: was truncated while in use")
        # (batch, block_size + 1): each window and the symbol after it
        places = (indices * self.stride)[:, None] + np.arange(self.block_size + 1)
        windows = self._symbols[places].astype(np.int64)
        return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_symbols": None if self._mapped else self._symbols}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._mapped:
            self._symbols = _map_bytes(self.path)


def _encoded(encode: Callable[[str], Sequence[int]], path: Path) -> npt.NDArray[Any]:
    numbers = encode(_read_text(path))
    try:
        symbols = np.asarray(numbers)
    except ValueError:  # lists of unequal lengths
        symbols = np.empty(0, object)
    if symbols.dtype.kind not in "iu" or symbols.ndim != 1:
        raise DTypeError(f"Text: encode must return a flat sequence of integers, got {str(numbers)[:40]} ...")
    return symbols


def _map_bytes(path: Path) -> npt.NDArray[np.uint8]:
    with reading(path):
        # an empty file cannot be mapped
        return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)


def _read_text(path: Path) -> str:
    try:
        with reading(path):
            return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is not UTF-8 (byte {error.start}); convert it, or omit encode") from None
