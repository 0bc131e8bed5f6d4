"""Text as a dataset for next-symbol prediction, read from the file as it is needed.

Part of module 08 (Act III). Knows no tokenizer (that is Act IV): symbols are bytes, or whatever numbers
`encode` makes of the text.
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
from tt_data.dataloader.dataset import Dataset, Indices, wrap_index
from tt_data.datasets.download import Remote, obtain

TINY_SHAKESPEARE = Remote(
    "input.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
)


class Text(Dataset):
    """Windows of `block_size` symbols of a text file, each with the same window one symbol on as its target.

    A sample is (x, y), int64 of shape (block_size,) both. Windows begin every `stride` symbols, by default
    one after the other. Without `encode` a symbol is a byte and the file is mapped, not loaded; with it, the
    text is read as UTF-8 and `encode(text)` gives the numbers. Without `path`, the tiny Shakespeare corpus
    (Karpathy 2015) in `root/tinyshakespeare/`, downloaded if `download`.

    Raises `FileError` for a file that is missing, no UTF-8, shorter than one window and its target, or cut while in
    use; `DTypeError` where `encode` gives no whole numbers.

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

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        x, y = self.__getitems__(np.array([wrap_index(index, len(self), "Text")]))
        return x[0], y[0]

    def __getitems__(self, indices: Indices) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        if self._mapped and os.stat(self.path).st_size < len(self._symbols):  # reading on would kill the process
            raise FileError(f"{self.path}: was cut short while in use")
        places = (indices * self.stride)[:, None] + np.arange(self.block_size + 1)
        windows = self._symbols[places].astype(np.int64)  # (batch, block_size + 1)
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
        raise DTypeError(f"Text: encode must give a flat sequence of whole numbers, got {str(numbers)[:40]} ...")
    return symbols


def _map_bytes(path: Path) -> npt.NDArray[np.uint8]:
    try:
        if path.stat().st_size == 0:
            return np.empty(0, np.uint8)  # an empty file cannot be mapped
        return np.memmap(path, np.uint8, "r")
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is no UTF-8 text (byte {error.start}); convert it, or leave out encode") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
