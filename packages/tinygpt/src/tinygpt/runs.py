"""Module 20, capstone: the run folder, which holds everything that a training run writes.

config.json         the model's and the training's options, the corpus, the versions
tokenizer.json      Hugging Face's format
model.safetensors   the weights at the last save; of a LoRA run, adapter_model.safetensors and adapter_config.json
metrics.jsonl       one object a line: step, train_loss, val_loss, tokens_per_second, seconds
samples.jsonl       one object a validation: step, text that the model wrote then
loss.svg            the loss curve
checkpoint/         what resuming needs: optimizer, schedule, generator
.tinygpt-lock       while a training writes to the folder
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tt_core.engine.errors import FileError, did_you_mean
from tt_core.engine.files import check_folder, make_folder, remove_stale, write_atomic, write_json
from tt_core.engine.locks import locked


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
    def adapter(self) -> Path:
        return self.path / "adapter_model.safetensors"

    @property
    def weights(self) -> Path:
        """The file that a training writes last: the model, or its adapter."""
        return self.adapter if self.adapter.exists() else self.model

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def loss_curve(self) -> Path:
        return self.path / "loss.svg"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoint / "last.safetensors"

    # --- a new run

    @classmethod
    def check_new(cls, path: Path | None, resumable: bool = True) -> None:
        """Raise `FileError` where no run can be begun: `path` holds one already, is a file, or is read-only."""
        check_folder("runs" if path is None else path)
        if path is not None and cls(path)._holds_a_run():
            go_on = f"continue it with --resume {path}, or " if resumable else ""
            raise FileError(f"{path} holds a run already; {go_on}name another --out")

    @classmethod
    @contextlib.contextmanager
    def begun(cls, path: Path | None) -> Iterator[RunFolder]:
        """A new run in `path`, or in a dated folder under `runs/`, which the block has for itself.

        A block that ends by an exception before anything was saved leaves nothing behind. Raises `FileError` as
        `check_new` does, and where another training is writing.
        """
        known = path is not None and os.path.isdir(path)
        folder = cls(_dated(Path("runs")) if path is None else make_folder(path))
        try:
            with folder.writing():
                cls.check_new(path)
                with folder._removed_unless_saved():
                    yield folder
        finally:
            if not known:
                folder._remove_if_empty()

    @contextlib.contextmanager
    def _removed_unless_saved(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if not self._is_saved():
                remove_stale(self.checkpoint)
                with contextlib.suppress(OSError):  # the error that ended the block is the one to tell
                    for path in (self.config, self.tokenizer, self.metrics, self.samples, self.loss_curve):
                        path.unlink(missing_ok=True)
                    self.checkpoint.rmdir()
            raise

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):  # it is not empty
            self.path.rmdir()
            if self.path.parent == Path("runs"):
                self.path.parent.rmdir()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A block that has the run for itself; raises `FileError` where another training has. Reading stays free."""
        taken = f"another training is writing to {self.path}; wait until it has ended, or name another --out"
        with locked(self.path / ".tinygpt-lock", taken):
            remove_stale(self.path)  # now none is being written to
            yield

    def has_model(self) -> bool:
        """Whether there is something to generate with: a model, or an adapter of one."""
        return self.model.exists() or self.adapter.exists()

    def _is_saved(self) -> bool:
        return self.has_model() or self.last_checkpoint.exists()

    def _holds_a_run(self) -> bool:
        """Whether a run is here that is not to be written over; one that was killed before it saved anything may be."""
        if not os.path.exists(self.config):
            return False
        try:
            return self._is_saved() or not {"training", "finetuning"} & set(self.read_config())
        except FileError:
            return True

    # --- an existing run

    @classmethod
    def open(cls, path: Path | None, with_model: bool = False) -> RunFolder:
        """An existing run: `path`, or the newest one under `runs/`, with `with_model` of those that have a model.

        A file of a run stands for the run. Changes nothing. Raises `FileError` for no run.
        """
        if path is None:
            return _newest(Path("runs"), with_model)
        weights = path.name in ("model.safetensors", "adapter_model.safetensors")
        folder = cls(path.parent if weights and os.path.isfile(path) else path)
        if not os.path.isdir(folder.path):
            runs = [str(config.parent) for config in folder.path.parent.glob("*/config.json")]
            near = difflib.get_close_matches(str(folder.path), runs)
            raise FileError(f"no run folder {folder.path}; {_instead(folder.path, near)}")
        if not folder.config.exists() and not folder.adapter.exists():
            raise FileError(f"{folder.path} is no run: it has no config.json; train one with: tinygpt train --out ...")
        return folder

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json whole or not at all; in ASCII, since a path may contain bytes that are not UTF-8."""
        write_json(self.config, config)

    def read_config(self) -> dict[str, Any]:
        """The contents of config.json, empty for an adapter without one; raises `FileError` for a damaged one."""
        if self.adapter.exists() and not self.config.exists():  # as PEFT writes it
            return {}
        try:
            config = json.loads(_text(self.config))
        except (json.JSONDecodeError, RecursionError) as error:
            raise FileError(f"{self.config} is damaged: {error}") from None
        if not isinstance(config, dict):
            raise FileError(f"{self.config} is damaged: expected an object, got {type(config).__name__}")
        return config

    def write_samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Write samples.jsonl whole or not at all."""
        lines = (json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
        write_atomic(self.samples, "".join(lines).encode())

    def read_samples(self) -> list[dict[str, Any]]:
        """The samples of each validation, {"step", "text"}; damaged lines are omitted."""
        found = []
        for line in _text(self.samples).splitlines() if self.samples.exists() else []:
            with contextlib.suppress(json.JSONDecodeError):
                sample = json.loads(line)
                if isinstance(sample, dict) and type(sample.get("step")) is int and type(sample.get("text")) is str:
                    found.append(sample)
        return found

    def last_figures(self) -> dict[str, Any]:
        """The last line of metrics.jsonl, empty where there is none; raises `FileError` for one that is damaged."""
        lines = _text(self.metrics).splitlines() if self.metrics.exists() else []
        try:
            figures = json.loads(lines[-1]) if lines else {}
        except (ValueError, RecursionError):
            figures = None
        if not isinstance(figures, dict):
            raise FileError(f"{self.metrics} is damaged: its last line is no object")
        return figures


def _instead(path: Path, near: list[str]) -> str:
    """What was probably meant by a path where there is no run."""
    if near:
        return did_you_mean(str(path), near)
    text, is_file = str(path), os.path.isfile(path)
    above = next((parent for parent in path.parents if os.path.isfile(parent / "config.json")), None)
    if is_file and above is not None:
        return f"name the run: {above}"
    if not is_file and path.parent == Path() and (" " in text or not path.suffix):
        shown = text if len(text) <= 100 else f"{text[:100]}..."
        text = json.dumps(shown, ensure_ascii=False)
        return f"train one with: tinygpt train --out ..., or continue a text: tinygpt generate --prompt {text}"
    return "train one with: tinygpt train --out ..."


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is damaged: {error}") from None


def _dated(runs: Path) -> Path:
    """Make a folder named after the second; a number follows where several runs begin in one second."""
    second = time.strftime("%Y-%m-%d_%H-%M-%S")
    for name in itertools.chain([second], (f"{second}_{number}" for number in itertools.count(2))):
        try:
            (runs / name).mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise FileError(f"cannot create run folder {runs / name}: {error.strerror or error}") from None
        break
    return runs / name


def _newest(runs: Path, with_model: bool) -> RunFolder:
    found = [RunFolder(path.parent) for path in runs.glob("*/config.json")]
    usable = [folder for folder in found if folder.has_model()] if with_model else found
    if not usable:
        lacking = "no run under runs/ has a model yet: a training writes it at its first validation"
        none = "no run was named and there is none under runs/; train one with: tinygpt train"
        raise FileError(lacking if found else none)
    return max(usable, key=lambda folder: _changed(folder.weights if with_model else folder.path))


def _changed(path: Path) -> float:
    """The time of the last change; a run that was just removed is the oldest."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
