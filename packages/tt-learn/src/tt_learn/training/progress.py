"""Part of module 07: the progress of a run on a terminal or in a notebook."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING, Any

from tt_learn.training.events import Callback
from tt_learn.training.history import Record
from tt_learn.training.trainer import Trainer

if TYPE_CHECKING:
    from rich.console import Console


class ProgressBar(Callback):
    """Shows loss, tokens or examples per second and remaining time: a bar on a terminal or in a notebook, else lines.

    `console`: a `rich.console.Console`; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console: Any = console
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
        self.on_fit_end(trainer)  # otherwise the cursor stays hidden

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


def _rich_bar(console: Console) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = ["{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")]
    return Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=4)


class _NotebookBar:
    """A bar in the output of a notebook cell, redrawn in place; it has the methods of Rich's bar."""

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
        """Keeps the last drawing."""

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
