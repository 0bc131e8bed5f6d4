"""Part of module 07: how a trainer saves its state and resumes, to the bit.

A run that is stopped after any step, also in the middle of an epoch, and resumed from its checkpoint ends with the same
bits as a run that was never stopped. A checkpoint holds the weights, the optimizer, the schedule, the generator, the
position of the loader and the state of the callbacks. Batches that were accumulated for an unfinished step are read
again.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tt_core.engine.arguments import checked
from tt_learn.training.batches import position_of
from tt_learn.training.checkpoints import environment_changes, load_checkpoint, save_checkpoint
from tt_learn.training.errors import TrainingError
from tt_learn.training.events import Callback
from tt_learn.training.history import History

_COUNTERS = ("step", "epoch", "batches_in_epoch", "seconds")


class Resumable:
    """The part of `Trainer` that saves and restores its state."""

    model: Any
    optimizer: Any
    scheduler: Any
    callbacks: Sequence[Callback]
    history: History
    epoch: int
    batches_in_epoch: int
    _epoch_is_over: bool
    _window: dict[str, Any]
    _batches: Any
    _resumed: dict[str, Any] | None

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a checkpoint of everything that `resume` needs; raises as `save_checkpoint` does."""
        save_checkpoint(path, **self._parts(), trainer=self, loader=position_of(self._batches))

    @checked
    def resume(self, path: str | os.PathLike[str], exact: bool = True) -> None:
        """Restores a checkpoint, or the last one in a folder; call `fit` with the same arguments after it.

        Warns if versions, machine, threads or plugins that bring kernels differ from those of the checkpoint, because
        bits may differ then. `exact=False` restarts the epoch of a loader that cannot return to the middle of one.
        Raises `CheckpointError` for a damaged file, and the errors of model, optimizer and scheduler for a state that
        does not fit.
        """
        file = Path(path) / "last.safetensors" if Path(path).is_dir() else Path(path)
        saved = load_checkpoint(file, **self._parts(), trainer=self)
        self._resumed = {"loader": saved["loader"], "exact": exact}
        changes = environment_changes(saved["environment"])
        if changes:
            text = ", ".join(changes)
            warnings.warn(f"resume: last bits may differ from those of an unbroken run: {text}", stacklevel=2)

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """Returns counters, history and the state of the callbacks; models and optimizers have their own state."""
        callbacks = {name: callback.state_dict() for name, callback in self._named_callbacks()}
        counters = {name: getattr(self, name) for name in _COUNTERS}
        counters |= {"epoch_is_over": self._epoch_is_over, "window": self._window}
        return {**counters, "history": self.history, "callbacks": callbacks}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned; raises `TrainingError` for the state of another version."""
        missing = [name for name in self.state_dict() if name not in state_dict]
        if missing:
            raise TrainingError(f"Trainer: the state has no {' and no '.join(missing)}; another version saved it")
        for name in _COUNTERS:
            setattr(self, name, state_dict[name])
        self._epoch_is_over = state_dict["epoch_is_over"]
        self._window, self.history = dict(state_dict["window"]), History(state_dict["history"])
        for name, callback in self._named_callbacks():
            if state_dict["callbacks"].get(name):
                callback.load_state_dict(state_dict["callbacks"][name])

    def _named_callbacks(self) -> Iterator[tuple[str, Callback]]:
        """Each callback with the name of its class, which is numbered from the second one on."""
        seen: dict[str, int] = {}
        for callback in self.callbacks:
            kind = type(callback).__name__
            seen[kind] = seen.get(kind, 0) + 1
            yield kind if seen[kind] == 1 else f"{kind}.{seen[kind]}", callback

    def _continue_loader(self, batches: Any) -> None:
        """Moves the loader to where the checkpoint was made."""
        before, self._batches = self._batches, batches
        if self._resumed is None and self.batches_in_epoch:  # an earlier fit of this trainer stopped in an epoch
            self._resumed = {"loader": position_of(batches) if batches is before else None, "exact": False}
        if self._resumed is None or callable(batches):
            return
        if self._resumed["loader"] is not None and hasattr(batches, "load_state_dict"):
            batches.load_state_dict(self._resumed["loader"])
        elif self.batches_in_epoch and self._resumed["exact"]:
            raise TrainingError(
                f"fit: the checkpoint was made {self.batches_in_epoch} batches into epoch {self.epoch + 1}, and this "
                f"loader has no load_state_dict to continue there; resume(path, exact=False) begins the epoch again"
            )
        else:
            self.batches_in_epoch, self._epoch_is_over = 0, False
