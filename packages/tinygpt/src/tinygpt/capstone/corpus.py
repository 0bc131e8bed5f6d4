"""Module 20, capstone: the text that TinyGPT learns from.

By default it is the English of Python's own documentation: 1.4 megabytes, a little different in each Python version,
with nothing to download.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygpt.capstone.documentation import documentation
from tinygpt.needs import available_memory, size
from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.files import in_order
from tt_language import Tokenizer

SUFFIXES = (".txt", ".md", ".rst", ".py", ".csv", ".json", ".html", ".tex")
"""What is read from a corpus that is a folder, but for the runs that lie in it."""

_MEMORY = 24
"""Bytes of memory for a byte of text: the file, the text, and its tokens as a list and as an array of 8 bytes each."""

GOLDEN_SECTION = (math.sqrt(5) - 1) / 2


class CorpusError(TinyTorchError):
    """Text that cannot be trained on."""


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from."""

    text: str
    source: str

    @property
    def sha256(self) -> str:
        """By which a resumed run knows its text again."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_corpus(path: Path | None) -> Corpus:
    """The text of a file, of all text files below a folder, or, without a path, the documentation of Python.

    Raises `FileError` for a file that is missing or unreadable, `CorpusError` for text that is empty or larger than
    memory.
    """
    if path is None:
        corpus = _documentation()
    else:
        corpus = _folder(path) if os.path.isdir(path) else Corpus(_text_of([path]), str(path))
    if not corpus.text.strip():
        raise CorpusError(f"corpus {corpus.source} holds no text; name a file or folder with text in --corpus")
    return corpus


def _documentation() -> Corpus:
    text = documentation()
    if not text:
        raise CorpusError("this Python was installed without its sources and documentation; name a --corpus FILE")
    return Corpus(text, "English from Python's own documentation")


def _folder(path: Path) -> Corpus:
    found = in_order(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    files = [file for file in found if not _of_a_run(file)]
    if not files:
        raise CorpusError(f"corpus folder {path} has no text files ({', '.join(SUFFIXES)})")
    return Corpus(_text_of(files), f"{path} ({len(files)} files)")


def _of_a_run(file: Path) -> bool:
    """Whether a file lies in a run's folder: a run below its own corpus would be another text when it is resumed."""
    return all(file.with_name(name).exists() for name in ("config.json", "tokenizer.json"))


def _text_of(files: list[Path]) -> str:
    """The texts of `files`, an empty line between them; it stops where they outgrow memory, as /dev/zero would."""
    free = available_memory()
    room = sys.maxsize if free is None else free // _MEMORY
    texts = []
    for path in files:
        texts.append(_read(path, room))
        room -= len(texts[-1])
    return "\n\n".join(texts)


def _read(path: Path, room: int) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read() if room == sys.maxsize else file.read(room + 1)
    except OSError as error:
        raise FileError(f"cannot read corpus {path}: {error.strerror or error}") from None
    if len(data) > room:
        raise CorpusError(f"corpus {path} does not fit in memory, {size(room)} of text would; train on a part of it")
    try:
        text = data.decode("utf-8-sig")  # a byte order mark is no part of the text
    except UnicodeDecodeError as error:
        raise CorpusError(f"corpus {path} is not UTF-8 (byte {error.start}); convert it first") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


@dataclass(frozen=True)
class Tokens:
    """A corpus as token ids: the first part to train on, the last to validate on."""

    train: np.ndarray
    val: np.ndarray
    val_bytes: int
    """UTF-8 bytes of the text behind `val`."""

    def batch(self, step: int, batch_size: int, block_size: int, first: float) -> tuple[np.ndarray, np.ndarray]:
        """The windows of one step of training, and the same shifted by one: two arrays (batch, block).

        The first window of all starts `first` (0 to 1) of the way through the training part, each further one a golden
        section further, around and around: any stretch of this sequence is spread over the text as evenly as can be
        (Weyl 1916), where independent random starts read some of it often and some never.
        """
        order = step * batch_size + np.arange(batch_size)
        starts = (first + order * GOLDEN_SECTION) % 1 * (len(self.train) - block_size)
        return _windows(self.train, starts.astype(int), block_size)

    def bits_per_byte(self, loss: float) -> float:
        """A mean loss over `val` by byte of its text, in bits: it compares models that have different tokenizers."""
        return loss / math.log(2) * len(self.val) / max(self.val_bytes, 1)

    def validation(
        self, batch_size: int, block_size: int, most: int | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Windows side by side over the validation part, always the same ones; at most `most`, evenly spread."""
        starts = np.arange(0, len(self.val) - block_size, block_size)
        if most is not None and len(starts) > most:
            starts = starts[np.linspace(0, len(starts) - 1, most).astype(int)]
        return [_windows(self.val, starts[i : i + batch_size], block_size) for i in range(0, len(starts), batch_size)]


def _windows(ids: np.ndarray, starts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    at = starts[:, None] + np.arange(length)
    return ids[at], ids[at + 1]


def split_tokens(corpus: Corpus, tokenizer: Tokenizer, block_size: int, val_fraction: float = 0.1) -> Tokens:
    """Encode a corpus and keep its last `val_fraction` for validation.

    Raises `CorpusError` when either part is shorter than one window of `block_size` + 1 tokens.
    """
    ids = np.asarray(tokenizer.encode(corpus.text), dtype=np.int64)
    at = int(len(ids) * (1 - val_fraction))
    tokens = Tokens(ids[:at], ids[at:], len(tokenizer.decode(ids[at:].tolist()).encode()))
    shortest = min(len(tokens.train), len(tokens.val))
    if shortest <= block_size:
        needed = (block_size + 1) / min(val_fraction, 1 - val_fraction) + 1
        raise CorpusError(
            f"corpus {corpus.source} has {len(ids)} tokens; a context of {block_size} needs at least {needed:.0f}, "
            f"so that training and validation hold one window each; use more text or a smaller --block-size"
        )
    return tokens
