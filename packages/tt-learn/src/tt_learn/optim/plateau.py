"""A schedule that follows a measured value and not the number of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tt_core.engine.arguments import checked
from tt_learn.optimizers.base import Optimizer
from tt_learn.optimizers.saving import OptimizerError
from tt_learn.optimizers.scheduling import checked_optimizer, known_groups, one_each


class ReduceLROnPlateau:
    """Multiplies the learning rate by `factor` when a measured value has not improved for `patience` steps.

    `mode` says whether smaller ("min") or larger ("max") values are better. An improvement exceeds `threshold`, as a
    share of the best value ("rel") or as an amount ("abs"). The `cooldown` steps after a reduction do not count. No
    rate goes below `min_lr`, and none changes by less than `eps`. Raises `OptimizerError` for a `factor` of 1 or more
    and for unknown modes.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = ReduceLROnPlateau(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [0.1]
    """

    _state = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")

    @checked
    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1:
            raise OptimizerError(f"ReduceLROnPlateau: factor is {factor}, expected a number below 1")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            given = f"{mode!r} and {threshold_mode!r}"
            raise OptimizerError(f"ReduceLROnPlateau: got {given}, expected mode 'min' or 'max' and 'rel' or 'abs'")
        groups = len(checked_optimizer("ReduceLROnPlateau", optimizer).param_groups)
        self.min_lrs = one_each("ReduceLROnPlateau: min_lr", min_lr, groups)
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.best: float | None = None
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    @checked
    def step(self, metrics: float) -> None:
        """Reads a new measured value, and reduces the rates if it is time."""
        value = float(metrics)
        self.last_epoch += 1
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        sign = 1 if self.mode == "min" else -1
        change = self.threshold * (self.best if self.threshold_mode == "rel" else 1.0)
        return sign * value < sign * (self.best - sign * change)

    def _reduce(self) -> None:
        for group, lowest in zip(known_groups(self, len(self.min_lrs)), self.min_lrs):
            lr = max(group["lr"] * self.factor, lowest)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """Returns the current learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Returns the best value and the counters as plain JSON; the rates are in the optimizer's state."""
        return {name: getattr(self, name) for name in self._state}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores `state_dict`; raises `OptimizerError` for the state of another kind of schedule."""
        missing = [name for name in self._state if name not in state_dict]
        if missing:
            raise OptimizerError(f"ReduceLROnPlateau: the state has no {missing[0]}; it is another schedule's")
        for name in self._state:
            setattr(self, name, state_dict[name])
