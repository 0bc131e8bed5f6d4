"""Part of module 07: what a trainer shows and writes while it trains.

A callback is told of steps, log lines, validations and epochs, and may end training; it never changes how a step is
computed. `Checkpoints` comes last whatever the order given, so that it saves what the others concluded.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from tt_core.engine.arguments import checked
from tt_core.engine.errors import FileError, is_integer
from tt_core.engine.files import make_folder, remove_stale, write_atomic
from tt_learn.training.trainer import Callback, Record, Trainer, TrainingError


class _Best:
    """The best value so far of one metric."""

    def __init__(self, owner: str, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("min", "max"):
            raise TrainingError(f"{owner}: mode is {mode!r}, expected 'min' or 'max'")
        self.owner, self.monitor, self.sign, self.min_delta = owner, monitor, 1 if mode == "min" else -1, min_delta
        self.value: float | None = None

    def improved(self, metrics: Mapping[str, float]) -> bool:
        """Take note of new metrics; whether they are the best."""
        if self.monitor not in metrics:
            known = ", ".join(metrics)
            raise TrainingError(f"{self.owner}: no metric is called {self.monitor}; validation gives {known}")
        value = metrics[self.monitor]
        better = self.value is None or self.sign * value < self.sign * self.value - self.min_delta
        if better and not math.isnan(value):
            self.value = value
            return True
        return False


def _check_state(callback: Callback, state_dict: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name not in state_dict:
            raise TrainingError(f"{type(callback).__name__}: the state has no {name}; it is of another callback")


class EarlyStopping(Callback):
    """Ends training when a metric has not improved by more than `min_delta` in `patience` validations.

    A run that it ended stays ended when it is resumed. Raises `TrainingError` for a `patience` below 1, an unknown
    `mode`, and a metric that validation does not give.

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
    """Keeps `last.safetensors` and `best.safetensors` in `folder`, each whole at any moment.

    The last is written every `every` steps (without it, every epoch), and when training ends or is interrupted, which
    is told together with `resume_hint`. The best is the one with the best `monitor` of all validations. Raises
    `TrainingError` for an `every` below 1 and as `EarlyStopping` does, `FileError` where nothing can be written.

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
    """One JSON object a line: step, train_loss, val_loss, tokens_per_second, seconds and more.

    After a resume, lines that the checkpoint does not know are taken out, so that no step is there twice. Raises
    `FileError` where it cannot be written.

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
    """The losses over the steps as an SVG, drawn again after each validation or epoch and at the end.

    Raises `FileError` where it cannot be written.

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


class ProgressBar(Callback):
    """Loss, tokens or examples a second and time left: a moving bar on a terminal or in a notebook, else plain lines.

    `console`: a `rich.console.Console`; standard output by default.
    """

    def __init__(self, console: Any = None) -> None:
        self._console = console
        self._bar: Any = None
        self._task: Any = None
        self._shown = 0.0
        self._started = (0.0, 0)

    def on_fit_start(self, trainer: Trainer) -> None:
        from rich.console import Console

        self._console = self._console or Console()
        self._started = (time.perf_counter(), trainer.step)
        if self._console.is_jupyter:
            self._bar = _NotebookBar()
            self._task = self._bar.add_task("", rate="", total=trainer.total_steps, completed=trainer.step)
        elif self._console.is_terminal:
            self._bar = _rich_bar(self._console)
            self._task = self._bar.add_task("", rate="", total=trainer.total_steps, completed=trainer.step)
            self._bar.start()

    def on_step_end(self, trainer: Trainer) -> None:
        if self._bar is not None and time.perf_counter() - self._shown > 0.1:
            self._shown = time.perf_counter()
            self._bar.update(self._task, completed=trainer.step, description=f"loss {trainer.loss:.4f}")

    def on_log(self, trainer: Trainer, record: Record) -> None:
        if self._bar is not None:
            self._bar.update(self._task, rate=_rate(record))
        if self._bar is None or (record["val_loss"] is not None and not self._console.is_jupyter):
            self._print(trainer, record)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.step)
            self._bar.stop()
            self._bar = None

    def on_abort(self, trainer: Trainer) -> None:
        self.on_fit_end(trainer)  # or the cursor would stay hidden

    def _print(self, trainer: Trainer, record: Record) -> None:
        total = "" if trainer.total_steps is None else f"/{trainer.total_steps}"
        numbers = [
            f"{name.replace('_', ' ')} {value:.4f}"
            for name, value in record.items()
            if name.startswith(("train_", "val_")) and value is not None
        ]
        left = self._left(trainer)
        parts = [f"step {trainer.step}{total}", *numbers, _rate(record), left and f"{left} left"]
        self._console.print("  ".join(filter(None, parts)), highlight=False, soft_wrap=True)

    def _left(self, trainer: Trainer) -> str:
        since, first = self._started
        steps = trainer.step - first
        if not steps or trainer.total_steps is None or trainer.total_steps <= trainer.step:
            return ""
        seconds = round((time.perf_counter() - since) / steps * (trainer.total_steps - trainer.step))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _rich_bar(console: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = ["{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")]
    return Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=4)


class _NotebookBar:
    """One bar in the output of a notebook's cell, redrawn in place; the methods are those of Rich's bar."""

    def __init__(self) -> None:
        self._shown: dict[str, Any] = {}
        self._handle: Any = None

    def add_task(self, description: str, **fields: Any) -> None:
        from IPython.display import display  # type: ignore[import-not-found,unused-ignore]

        self._shown = {"description": description, **fields}
        self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call,unused-ignore]

    def update(self, task: None, **fields: Any) -> None:
        self._shown |= fields
        if self._handle is not None:
            self._handle.update(self)

    def stop(self) -> None:
        """Nothing to clean up: the last drawing stays."""

    def __repr__(self) -> str:
        total = "" if self._shown.get("total") is None else f"/{self._shown['total']}"
        parts = [f"step {self._shown.get('completed')}{total}", self._shown.get("description"), self._shown.get("rate")]
        return "  ".join(filter(None, parts))

    def _repr_html_(self) -> str:
        total, done = self._shown.get("total"), self._shown.get("completed")
        extent = f'max="{total}" value="{done}"' if total else ""
        return f"<progress {extent}></progress> {escape(repr(self))}"


def _rate(record: Record) -> str:
    for name in ("tokens", "examples"):
        if record.get(f"{name}_per_second"):
            return f"{record[f'{name}_per_second']:,.0f} {name}/s"
    return ""
