"""Part of module 07: the events of training that callbacks receive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tt_core.engine.arguments import checked
from tt_learn.training.history import Record

if TYPE_CHECKING:
    from tt_learn.training.trainer import Trainer


class Callback:
    """Base class of callbacks: override the events of interest. `state_dict` is saved in checkpoints.

    >>> class Print(Callback):
    ...     def on_step_end(self, trainer):
    ...         print(trainer.step)
    >>> import tt_core
    >>> from tt_learn import SGD, Trainer
    >>> model = tt_core.Linear(1, 1)
    >>> trainer = Trainer(model, SGD(model.parameters()), tt_core.mse_loss, callbacks=[Print()])
    >>> _ = trainer.fit([(tt_core.zeros(1, 1), tt_core.zeros(1, 1))], epochs=2)
    1
    2
    """

    runs_last = False
    """Whether it runs after the others, so that a checkpoint holds their state after the event."""

    def on_fit_start(self, trainer: Trainer) -> None:
        """Training begins, or continues after `trainer.resume`."""

    def on_step_end(self, trainer: Trainer) -> None:
        """A step has ended, with the schedule, validation and log line that were due after it."""

    def on_log(self, trainer: Trainer, record: Record) -> None:
        """A log line was added; it is the last one in `trainer.history`."""

    def on_validation(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """The model was evaluated."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """An epoch has ended."""

    def on_train_end(self, trainer: Trainer) -> None:
        """The last step has ended, or training was interrupted (`trainer.interrupted`); resuming here is exact."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """`fit` ends, after the final validation and log line, which an uninterrupted run has only at its end."""

    def on_abort(self, trainer: Trainer) -> None:
        """Training ends with an exception; the trainer's state must not be saved."""

    def state_dict(self) -> dict[str, Any]:
        """Returns what this callback needs to continue, as plain data."""
        return {}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
