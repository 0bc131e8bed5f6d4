"""Module 20, capstone: the run folder, which holds all that a training run leaves behind.

config.json         the model's and the training's options, the corpus, the versions
tokenizer.json      Hugging Face's format
model.safetensors   the weights at the last save
metrics.jsonl       one object a line: step, train_loss, val_loss, tokens_per_second, seconds
loss.svg            the loss curve
checkpoint/         what resuming needs: optimizer, schedule, generator
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tt_core.errors import FileError, did_you_mean
from tt_core.files import write_atomic


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run are."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def loss_curve(self) -> Path:
        return self.path / "loss.svg"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoint / "last.safetensors"

    @classmethod
    def create(cls, path: Path | None) -> RunFolder:
        """A new folder: `path`, or a dated one under `runs/`. Raises `FileError` where a run is already."""
        if path is not None and cls(path).config.exists():
            raise FileError(f"{path} holds a run already; go on with it by --resume {path}, or name another --out")
        try:
            if path is None:
                return cls(_dated(Path("runs")))
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"cannot create run folder {error.filename}: {error.strerror or error}") from None
        return cls(path)

    @classmethod
    def open(cls, path: Path | None) -> RunFolder:
        """An existing run: `path`, or the newest one under `runs/`; changes nothing. Raises `FileError` for no run."""
        folder = cls(path or _newest(Path("runs")))
        if not folder.path.is_dir():
            runs = [str(config.parent) for config in folder.path.parent.glob("*/config.json")]
            near = difflib.get_close_matches(str(folder.path), runs)
            advice = did_you_mean(str(folder.path), near) if near else "train one with: tinygpt train --out ..."
            raise FileError(f"no run folder {folder.path}; {advice}")
        if not folder.config.exists():
            raise FileError(f"{folder.path} is no run: it has no config.json; train one with: tinygpt train --out ...")
        return folder

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json whole or not at all; in ASCII, since paths may hold what is no UTF-8."""
        write_atomic(self.config, (json.dumps(config, indent=2) + "\n").encode())

    def read_config(self) -> dict[str, Any]:
        """The contents of config.json; raises `FileError` for one that is damaged."""
        try:
            config = json.loads(_text(self.config))
        except json.JSONDecodeError as error:
            raise FileError(f"{self.config} is damaged: {error}") from None
        if not isinstance(config, dict):
            raise FileError(f"{self.config} is damaged: expected an object, got {type(config).__name__}")
        return config

    def last_figures(self) -> str:
        """The last line of metrics.jsonl, "" where there is none; raises `FileError` for one that is damaged."""
        lines = _text(self.metrics).splitlines() if self.metrics.exists() else []
        return lines[-1] if lines else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is damaged: {error}") from None


def _dated(runs: Path) -> Path:
    """Make a folder named after the second; where several runs begin in one, a number follows."""
    runs.mkdir(exist_ok=True)
    second = time.strftime("%Y-%m-%d_%H-%M-%S")
    for name in itertools.chain([second], (f"{second}_{number}" for number in itertools.count(2))):
        with contextlib.suppress(FileExistsError):
            (runs / name).mkdir()
            break
    return runs / name


def _newest(runs: Path) -> Path:
    found = sorted((path.parent for path in runs.glob("*/config.json")), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileError("no run was named and there is none under runs/; train one with: tinygpt train")
    return found[-1]
