"""Further schedules: warm restarts, cycles, and schedules made of functions or of other schedules."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tt_core.engine.arguments import checked
from tt_learn.optimizers.base import Optimizer
from tt_learn.optimizers.saving import OptimizerError
from tt_learn.optimizers.schedulers import cosine, linear
from tt_learn.optimizers.scheduling import (
    Scheduler,
    checked_count,
    checked_list,
    checked_number,
    checked_optimizer,
    one_each,
)

Factor = Callable[[int], float]


class CosineAnnealingWarmRestarts(Scheduler):
    """Follows half a cosine from the base down to `eta_min`, repeatedly (SGDR: Loshchilov and Hutter 2017).

    The first cycle takes `T_0` steps, and each further one `T_mult` times as many as the one before.
    Raises `OptimizerError` for a `T_0` or `T_mult` below 1.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = CosineAnnealingWarmRestarts(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), T_0=2, T_mult=2)
    >>> [round(schedule.lr_at(t, 1.0), 3) for t in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    @checked
    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        self.T_0 = checked_count("CosineAnnealingWarmRestarts: T_0", T_0)
        self.T_mult = checked_count("CosineAnnealingWarmRestarts: T_mult", T_mult)
        self.eta_min = checked_number("CosineAnnealingWarmRestarts: eta_min", eta_min)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        if self.T_mult == 1:
            return cosine(base, self.eta_min, t % self.T_0 / self.T_0)
        length = self.T_0
        while t >= length:
            t, length = t - length, length * self.T_mult
        return cosine(base, self.eta_min, t / length)


class LambdaLR(Scheduler):
    """Multiplies the base by a function of the number of steps; a list holds one function per parameter group.

    Raises `OptimizerError` if the number of functions differs from that of groups.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = LambdaLR(SGD([Tensor([1.0], requires_grad=True)], lr=0.5), lambda t: 1 / (1 + t))
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    @checked
    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor]) -> None:
        groups = len(checked_optimizer("LambdaLR", optimizer).param_groups)
        self.lr_lambdas = (
            [lr_lambda] * groups if callable(lr_lambda) else checked_list("LambdaLR: lr_lambda", lr_lambda)
        )
        if len(self.lr_lambdas) != groups:
            raise OptimizerError(f"LambdaLR: got {len(self.lr_lambdas)} functions for {groups} parameter groups")
        super().__init__(optimizer)

    def _lr(self, i: int, base: float) -> float:
        return base * self.lr_lambdas[i](self.last_epoch)


class SequentialLR(Scheduler):
    """Runs several schedules one after the other; the next one starts from its own beginning at each milestone.

    Raises `OptimizerError` unless all schedules belong to `optimizer` and there is one milestone fewer than schedules.

    >>> from tt_learn import SGD, ExponentialLR, LinearLR, Tensor
    >>> sgd = SGD([Tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedules = [LinearLR(sgd, 0.5, total_iters=2), ExponentialLR(sgd, 0.5)]
    >>> schedule, rates = SequentialLR(sgd, schedules, milestones=[2]), []
    >>> for _ in range(5):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    _state = ("last_epoch",)

    @checked
    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Scheduler], milestones: Sequence[int]) -> None:
        self.schedulers = checked_list("SequentialLR: schedulers", schedulers)
        self.milestones = checked_list("SequentialLR: milestones", milestones)
        for schedule in self.schedulers:
            if not isinstance(schedule, Scheduler) or schedule.optimizer is not optimizer:
                raise OptimizerError(
                    "SequentialLR: takes schedules of the same optimizer; ReduceLROnPlateau is not one of them"
                )
        if len(self.milestones) != len(self.schedulers) - 1:
            given = f"{len(self.milestones)} milestones for {len(self.schedulers)} schedules"
            raise OptimizerError(f"SequentialLR: got {given}, expected one milestone fewer than schedules")
        super().__init__(optimizer)

    def _apply(self) -> None:
        """Sets the current schedule to the number of steps since its milestone."""
        i = bisect.bisect_right(self.milestones, self.last_epoch)
        current = self.schedulers[i]
        current.last_epoch = self.last_epoch - (self.milestones[i - 1] if i else 0)
        current._apply()

    def state_dict(self) -> dict[str, Any]:
        """Returns its own state and that of each schedule, as plain JSON."""
        return {**super().state_dict(), "schedulers": [schedule.state_dict() for schedule in self.schedulers]}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores `state_dict`; raises `OptimizerError` for the state of another kind of schedule."""
        states = state_dict.get("schedulers")
        if not isinstance(states, list) or len(states) != len(self.schedulers):
            raise OptimizerError("SequentialLR: the state has another number of schedules")
        for schedule, state in zip(self.schedulers, states):
            schedule.load_state_dict(state)
        super().load_state_dict(state_dict)


class CyclicLR(Scheduler):
    """Moves linearly between `base_lr` and `max_lr`, while momentum moves the other way (Smith 2017).

    A cycle has `step_size_up` steps up and `step_size_down` steps down. Its height is constant ("triangular"), halves
    from cycle to cycle ("triangular2"), or is multiplied by `gamma` at each step ("exp_range"). `scale_fn` replaces
    these by a function of the cycle's number or, with `scale_mode="iterations"`, of the step. Raises `OptimizerError`
    for invalid options, and for an optimizer without momentum unless `cycle_momentum` is False.

    >>> from tt_learn import SGD, Tensor
    >>> sgd = SGD([Tensor([1.0], requires_grad=True)], lr=1.0, momentum=0.9)
    >>> schedule, rates = CyclicLR(sgd, base_lr=0.0, max_lr=1.0, step_size_up=2), []
    >>> for _ in range(5):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()
    >>> rates
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    @checked
    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
    ) -> None:
        groups = checked_optimizer("CyclicLR", optimizer).param_groups
        if mode not in ("triangular", "triangular2", "exp_range") or scale_mode not in ("cycle", "iterations"):
            raise OptimizerError(
                f"CyclicLR: got {mode!r} and {scale_mode!r}, expected mode 'triangular', 'triangular2' or 'exp_range' "
                "and scale_mode 'cycle' or 'iterations'"
            )
        if cycle_momentum and not all("momentum" in group or "betas" in group for group in groups):
            raise OptimizerError("CyclicLR: this optimizer has no momentum to cycle; pass cycle_momentum=False")
        self.up = checked_count("CyclicLR: step_size_up", step_size_up)
        self.down = self.up if step_size_down is None else checked_count("CyclicLR: step_size_down", step_size_down)
        self.mode, self.gamma = mode, checked_number("CyclicLR: gamma", gamma)
        self.scale_fn, self.scale_mode = scale_fn, scale_mode
        self.max_lrs = one_each("CyclicLR: max_lr", max_lr, len(groups))
        self.momenta = (base_momentum, max_momentum) if cycle_momentum else None
        for group, base in zip(groups, one_each("CyclicLR: base_lr", base_lr, len(groups))):
            group["lr"] = group["initial_lr"] = base
        super().__init__(optimizer)

    def _height(self) -> float:
        """The position between base and maximum, times the height of this cycle."""
        t, length = self.last_epoch, self.up + self.down
        cycle = 1 + t // length
        x = t / length - (cycle - 1)
        share = self.up / length
        height = x / share if x <= share else (x - 1) / (share - 1)
        if self.scale_fn is not None:
            return float(height * self.scale_fn(cycle if self.scale_mode == "cycle" else t))
        if self.mode == "exp_range":
            return float(height * power("CyclicLR", self.gamma, t))
        return height * 0.5 ** (cycle - 1) if self.mode == "triangular2" else height

    def _lr(self, i: int, base: float) -> float:
        return base + (self.max_lrs[i] - base) * self._height()

    def _apply(self) -> None:
        super()._apply()
        if self.momenta is not None:
            low, high = self.momenta
            set_momentum(self.optimizer, high - (high - low) * self._height())


class OneCycleLR(Scheduler):
    """Rises to `max_lr`, then falls far below the start, while momentum moves the other way (Smith and Topin 2018).

    The rate goes from start = max_lr / div_factor to max_lr in the first `pct_start` of all steps, then to
    start / final_div_factor. With `three_phase` it first returns to start in as many steps as it took to rise. The
    number of steps is `total_steps`, or `epochs * steps_per_epoch`. Raises `OptimizerError` for a step beyond it, for
    invalid options, and for an optimizer without momentum unless `cycle_momentum` is False.

    >>> from tt_learn import SGD, Tensor
    >>> sgd = SGD([Tensor([1.0], requires_grad=True)], lr=1.0, momentum=0.9)
    >>> schedule, rates = OneCycleLR(sgd, max_lr=1.0, total_steps=5, pct_start=0.4), []
    >>> for _ in range(4):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()
    >>> [round(rate, 3) for rate in rates]
    [0.04, 1.0, 0.75, 0.25]
    """

    _state = ("last_epoch",)

    @checked
    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise OptimizerError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
        if anneal_strategy not in ("cos", "linear"):
            raise OptimizerError(f"OneCycleLR: anneal_strategy is {anneal_strategy!r}, expected 'cos' or 'linear'")
        if not 0 <= pct_start <= 1:
            raise OptimizerError(f"OneCycleLR: pct_start is {pct_start}, expected a number in [0, 1]")
        groups = checked_optimizer("OneCycleLR", optimizer).param_groups
        if cycle_momentum and not all("momentum" in group or "betas" in group for group in groups):
            raise OptimizerError("OneCycleLR: this optimizer has no momentum to cycle; pass cycle_momentum=False")
        self.total_steps = checked_count(
            "OneCycleLR: total_steps", total_steps or (epochs or 0) * (steps_per_epoch or 0)
        )
        self.between = cosine if anneal_strategy == "cos" else linear
        self.ends = self._phase_ends(pct_start, three_phase)
        self.max_lrs = one_each("OneCycleLR: max_lr", max_lr, len(groups))
        if not (div_factor > 0 and final_div_factor > 0):
            got = f"{div_factor} and {final_div_factor}"
            raise OptimizerError(f"OneCycleLR: div_factor and final_div_factor must be positive, got {got}")
        start, end = 1 / div_factor, 1 / div_factor / final_div_factor
        self.factors = [start, 1.0, start, end] if three_phase else [start, 1.0, end]
        self.momenta = [max_momentum, base_momentum, max_momentum, max_momentum] if cycle_momentum else []
        super().__init__(optimizer)
        for group, highest in zip(groups, self.max_lrs):
            group["initial_lr"] = highest * start

    def _phase_ends(self, pct_start: float, three_phase: bool) -> list[float]:
        top = pct_start * self.total_steps - 1
        last = self.total_steps - 1.0
        return [top, 2 * top, last] if three_phase else [top, last]

    def _at(self, values: Sequence[float], t: int) -> float:
        i = min(bisect.bisect_left(self.ends, t), len(self.ends) - 1)
        begin, end = self.ends[i - 1] if i else 0.0, self.ends[i]
        # a phase of 0 steps has ended; after the last step the rate stays at its end
        share = min((t - begin) / (end - begin), 1.0) if end != begin else 1.0
        return self.between(values[i], values[i + 1], share)

    def _lr(self, i: int, base: float) -> float:
        return self.max_lrs[i] * self._at(self.factors, self.last_epoch)

    def _apply(self) -> None:
        if self.last_epoch > self.total_steps:
            raise OptimizerError(f"OneCycleLR: step {self.last_epoch} is beyond the {self.total_steps} total steps")
        super()._apply()
        if self.momenta:
            set_momentum(self.optimizer, self._at(self.momenta, self.last_epoch))


def power(name: str, gamma: float, t: int) -> float:
    """gamma^t; raises `OptimizerError` if it overflows."""
    try:
        return gamma**t
    except OverflowError:
        raise OptimizerError(f"{name}: gamma {gamma} to the power {t} is too large; choose a smaller gamma") from None


def set_momentum(optimizer: Optimizer, momentum: float) -> None:
    """Sets the momentum of every group, which Adam calls its first beta."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum
