"""Part of module 06: what all schedules share, and the checks of their arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tt_core.engine.arguments import checked
from tt_core.engine.errors import is_number
from tt_learn.optimizers.base import Optimizer
from tt_learn.optimizers.saving import OptimizerError


class Scheduler:
    """Base class of the schedules that are formulas: sets the `lr` of each group from the number of steps done.

    A subclass defines `lr_at`. Raises `OptimizerError` if the optimizer received another group since.

    >>> from tt_learn import SGD, Tensor
    >>> class Halving(Scheduler):
    ...     def lr_at(self, t, base):
    ...         return base / 2**t
    >>> schedule = Halving(SGD([Tensor([1.0], requires_grad=True)], lr=1.0))
    >>> schedule.step()
    >>> schedule.get_last_lr(), schedule
    ([0.5], Halving(step 1, lr 0.5))
    """

    _state: tuple[str, ...] = ("last_epoch", "base_lrs")

    @checked
    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = checked_optimizer(type(self).__name__, optimizer)
        self.base_lrs: list[Any] = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._apply()

    @checked
    def lr_at(self, t: int, base: float) -> float:
        """Returns the learning rate after `t` steps for a group that started with `base`."""
        raise NotImplementedError(f"{type(self).__name__} defines no lr_at()")

    def step(self) -> None:
        """Advances by one step."""
        self.last_epoch += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """Returns the current learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def __repr__(self) -> str:
        rates = ", ".join(f"{rate:g}" for rate in self.get_last_lr())
        return f"{type(self).__name__}(step {self.last_epoch}, lr {rates})"

    def _apply(self) -> None:
        groups = known_groups(self, len(self.base_lrs))
        for i, (group, base) in enumerate(zip(groups, self.base_lrs)):
            group["lr"] = self._lr(i, base)

    def _lr(self, i: int, base: float) -> float:
        return self.lr_at(self.last_epoch, base)

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of steps and the base rates as plain JSON; the formula comes from the constructor."""
        return {name: _copied(getattr(self, name)) for name in self._state}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores `state_dict` and sets the learning rates.

        Raises `OptimizerError` for the state of another kind of schedule or another number of groups.
        """
        missing = [name for name in self._state if name not in state_dict]
        if missing:
            raise OptimizerError(f"{type(self).__name__}: the state has no {missing[0]}; it is another schedule's")
        if len(state_dict.get("base_lrs", self.optimizer.param_groups)) != len(self.optimizer.param_groups):
            raise OptimizerError(f"{type(self).__name__}: the state has another number of parameter groups")
        for name in self._state:
            setattr(self, name, _copied(state_dict[name]))
        self._apply()


def _copied(value: object) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


# --- checks of arguments


def known_groups(schedule: Any, count: int) -> list[dict[str, Any]]:
    """The optimizer's groups; raises `OptimizerError` if one was added later, since its rate would not change."""
    groups = schedule.optimizer.param_groups
    if len(groups) != count:
        raise OptimizerError(
            f"{type(schedule).__name__}: the optimizer had {count} parameter groups when this schedule was made, "
            f"now it has {len(groups)}; make a new schedule"
        )
    return groups


def checked_optimizer(schedule: str, optimizer: object) -> Any:
    """`optimizer`, or an `OptimizerError` if it is not one."""
    if isinstance(optimizer, type) or not hasattr(optimizer, "param_groups"):
        raise OptimizerError(f"{schedule}: takes an optimizer, got {optimizer!r}")
    return optimizer


def checked_number(what: str, value: object) -> Any:
    """`value`, or an `OptimizerError` if it is not a number."""
    if not is_number(value):
        raise OptimizerError(f"{what} is {value!r}, expected a number")
    return value


def checked_share(what: str, value: object) -> Any:
    """`value`, or an `OptimizerError` if it is not a number in [0, 1]."""
    if not 0 <= checked_number(what, value) <= 1:
        raise OptimizerError(f"{what} is {value}, expected a number in [0, 1]")
    return value


def checked_count(what: str, n: int) -> int:
    """`n`, or an `OptimizerError` if it is below 1."""
    fine = is_number(n) and n >= 1
    if not fine:
        raise OptimizerError(f"{what} is {n}, expected 1 or more")
    return n


def checked_list(what: str, values: object) -> list[Any]:
    """`values` as a list, or an `OptimizerError` if they cannot be iterated."""
    if not isinstance(values, Iterable):
        raise OptimizerError(f"{what} is {values!r}, expected a list")
    return list(values)


def one_each(what: str, given: object, groups: int) -> list[float]:
    """One number per parameter group; raises `OptimizerError` for another number of values."""
    values = [float(given)] * groups if is_number(given) else checked_list(what, given)
    if len(values) != groups:
        raise OptimizerError(f"{what} has {len(values)} values for {groups} parameter groups")
    return values
