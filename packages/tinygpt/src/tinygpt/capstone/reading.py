"""Part of module 20, capstone: the text of a file, of a folder, or of Python's own documentation."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tinygpt.capstone.documentation import documentation
from tinygpt.memory import available_memory, size
from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.files import in_order

SUFFIXES = (".txt", ".md", ".rst", ".py", ".csv", ".json", ".html", ".tex")
"""The files that are read from a corpus folder; those of runs inside it are left out."""


_MEMORY = 24
"""Bytes of memory per byte of text: the file, the text, and its tokens as a list and as an array of 8 bytes each."""


class CorpusError(TinyTorchError):
    """Text that cannot be trained on."""


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from."""

    text: str
    source: str

    @property
    def sha256(self) -> str:
        """The digest by which a resumed run recognizes its text."""
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
