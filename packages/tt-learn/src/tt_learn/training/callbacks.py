"""Part of module 07: callbacks, which stop a run early and write checkpoints, logs and curves.

A callback receives the events of `events.py` and may end training, but never changes how a step is computed.
`Checkpoints` always runs last, so that it saves the state of the others after the event.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tt_core.engine.arguments import checked
from tt_core.engine.errors import FileError, is_integer
from tt_core.engine.files import make_folder, remove_stale, write_atomic
from tt_learn.training.errors import TrainingError
from tt_learn.training.events import Callback
from tt_learn.training.history import Record
from tt_learn.training.trainer import Trainer


class _Best:
    """The best value so far of one metric."""

    def __init__(self, owner: str, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("min", "max"):
            raise TrainingError(f"{owner}: mode is {mode!r}, expected 'min' or 'max'")
        self.owner, self.monitor, self.sign, self.min_delta = owner, monitor, 1 if mode == "min" else -1, min_delta
        self.value: float | None = None

    def improved(self, metrics: Mapping[str, float]) -> bool:
        """Reads new metrics; returns whether they are the best so far."""
        if self.monitor not in metrics:
            known = ", ".join(metrics)
            raise TrainingError(f"{self.owner}: no metric is called {self.monitor}; validation returns {known}")
        value = metrics[self.monitor]
        better = self.value is None or self.sign * value < self.sign * self.value - self.min_delta
        if better and not math.isnan(value):
            self.value = value
            return True
        return False


def _check_state(callback: Callback, state_dict: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name not in state_dict:
            raise TrainingError(f"{type(callback).__name__}: the state has no {name}; it belongs to another callback")


class EarlyStopping(Callback):
    """Ends training when a metric has not improved by more than `min_delta` in `patience` validations.

    A run that it ended does not continue when it is resumed. Raises `TrainingError` for a `patience` below 1, an
    unknown `mode`, and a metric that validation does not return.

    >>> EarlyStopping(patience=3).monitor
    'val_loss'
    """

    @checked
    def __init__(self, monitor: str = "val_loss", patience: int = 5, min_delta: float = 0.0, mode: str = "min") -> None:
        if not is_integer(patience, 1):
            raise TrainingError(f"EarlyStopping: patience is {patience}, expected 1 or more validations")
        self._best = _Best("EarlyStopping", monitor, mode, min_delta)
        self.monitor, self.patience, self.bad = monitor, patience, 0

    def on_fit_start(self, trainer: Trainer) -> None:
        self._stop_if_due(trainer)

    def on_validation(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self.bad = 0 if self._best.improved(metrics) else self.bad + 1
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if self.bad >= self.patience:
            trainer.stop()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best.value, "bad": self.bad}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        _check_state(self, state_dict, "best", "bad")
        self._best.value, self.bad = state_dict["best"], state_dict["bad"]


class Checkpoints(Callback):
    """Keeps `last.safetensors` and `best.safetensors` in `folder`, each complete at any moment.

    The last one is written every `every` steps (by default every epoch), and when training ends or is interrupted; an
    interruption is printed with `resume_hint`. The best one is from the validation with the best `monitor`. Raises
    `TrainingError` for an `every` below 1 and as `EarlyStopping` does, `FileError` if a file cannot be written.

    >>> Checkpoints("run", every=100).last.name
    'last.safetensors'
    """

    runs_last = True

    @checked
    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int | None = None,
        monitor: str = "val_loss",
        mode: str = "min",
        resume_hint: str = "",
    ) -> None:
        if not (every is None or is_integer(every, 1)):
            raise TrainingError(f"Checkpoints: every is {every}, expected 1 or more steps")
        self.folder, self.every, self.resume_hint = Path(folder), every, resume_hint
        self.last, self.best = self.folder / "last.safetensors", self.folder / "best.safetensors"
        self._best = _Best("Checkpoints", monitor, mode)
        self._best_is_due = False

    def on_fit_start(self, trainer: Trainer) -> None:
        remove_stale(make_folder(self.folder))

    def on_validation(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self._best_is_due = self._best.improved(metrics)

    def on_step_end(self, trainer: Trainer) -> None:
        self._save(trainer, self.every is not None and trainer.step % self.every == 0)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._save(trainer, self.every is None)

    def on_train_end(self, trainer: Trainer) -> None:
        self._save(trainer, True)
        if trainer.interrupted:
            hint = f"; {self.resume_hint}" if self.resume_hint else ""
            print(f"stopped after step {trainer.step}, saved {self.last}{hint}")

    def on_fit_end(self, trainer: Trainer) -> None:
        self._save(trainer, False)

    def _save(self, trainer: Trainer, last_is_due: bool) -> None:
        if self._best_is_due:
            self._best_is_due = False
            trainer.save(self.best)
        if last_is_due:
            trainer.save(self.last)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best.value}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        _check_state(self, state_dict, "best")
        self._best.value = state_dict["best"]


class JSONLog(Callback):
    """Writes one JSON object per log line: step, train_loss, val_loss, tokens_per_second, seconds and more.

    When a run is resumed, lines after the checkpoint are removed, so that no step appears twice. Raises `FileError` if
    the file cannot be written.

    >>> import tempfile, tt_core
    >>> from tt_learn import SGD
    >>> model, log = tt_core.Linear(1, 1), JSONLog(Path(tempfile.mkdtemp()) / "log.jsonl")
    >>> trainer = Trainer(model, SGD(model.parameters()), tt_core.mse_loss, callbacks=[log], log_every=1)
    >>> _ = trainer.fit([(tt_core.zeros(1, 1), tt_core.zeros(1, 1))], epochs=2)
    >>> [json.loads(line)["step"] for line in log.path.read_text(encoding="utf-8").splitlines()]
    [1, 2]
    """

    @checked
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_fit_start(self, trainer: Trainer) -> None:
        make_folder(self.path.parent)
        write_atomic(self.path, "".join(map(_json_line, trainer.history)).encode())

    def on_log(self, trainer: Trainer, record: Record) -> None:
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(_json_line(record))
        except OSError as error:
            raise FileError(f"cannot write {self.path}: {error.strerror or error}") from None


def _json_line(record: Record) -> str:
    plain = {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in record.items()}
    return json.dumps(plain) + "\n"


class LossCurve(Callback):
    """Draws the losses over the steps as an SVG after each validation or epoch and at the end.

    Raises `FileError` if the file cannot be written.

    >>> LossCurve("loss.svg", title="XOR").title
    'XOR'
    """

    @checked
    def __init__(self, path: str | os.PathLike[str], title: str = "Loss") -> None:
        self.path, self.title = Path(path), title

    def on_fit_start(self, trainer: Trainer) -> None:
        make_folder(self.path.parent)

    def on_validation(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self._draw(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._draw(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        write_atomic(self.path, trainer.history.chart(self.title).encode())
